"""`shapes`: digits and figures on textured grounds, rendered on the fly, with boxes and masks.

Every scene varies its size, ground, colours, fonts, slants and places. Objects cover each other; a
box and a mask are of the part that is seen. Digits are slanted by 12 degrees at most, because a 6
upside down is a 9; a square too, because on its corner it is a diamond.
"""

import functools
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from graft.recipes.data.builtin.glyphs import FONTS, find_font

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["LABELS", "RenderedScene", "load", "shapes"]

FIGURES = ("circle", "cross", "square", "star", "triangle")
LABELS = (*string.digits, *FIGURES)
SPLITS = {"train": 300, "validation": 80, "test": 80}
"""How many scenes of each split are built in."""

SIDES = (96, 160)
"""The shortest and longest side of an image, in pixels."""
MOST_OBJECTS = 6
HIDDEN = 0.6
"""An object of which more is hidden is left out of the scene."""
SIZES = (0.2, 0.5)
"""Of an object, as a share of the image's shorter side."""
SLANT = 12.0
"""In degrees, either way."""
CANVAS = 160
"""Pixels a side on which an object is drawn, before it is made smaller."""
TRIES = 3
"""Places that are drawn for an object; it gets the one that is least taken by others."""
CONTRAST = 110.0
"""How far colours lie apart, of 442 from black to white."""


class RenderedScene(NamedTuple):
    """An image and all that is in it.

    Attributes:
        image: uint8 `(h, w, 3)`.
        boxes: float32 `(n, 4)`: x0, y0, x1, y1 in pixels around what is seen of each object; x1 and
            y1 lie outside of it.
        labels: int64 `(n,)`, indices of `LABELS`.
        mask: uint8 `(h, w)`: 0 on the ground, else 1 + the index of the label.
        instances: uint8 `(h, w)`: 0 on the ground, else 1 + the place of the object in `boxes`.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    instances: np.ndarray


class _Placed(NamedTuple):
    """An object before it is painted.

    Attributes:
        label: its index.
        window: rows and columns of the image that it lies in.
        cover: how much of each pixel there it covers, float32, 0 to 1.
    """

    label: int
    window: tuple[slice, slice]
    cover: np.ndarray


def load() -> dict[str, list[RenderedScene]]:
    """The built-in scenes by split; the same every time."""
    return {split: shapes(count, seed) for seed, (split, count) in enumerate(SPLITS.items())}


def shapes(count: int, seed: int) -> list[RenderedScene]:
    """Render scenes of 96 to 160 pixels a side with one to six objects each.

    Args:
        count: how many.
        seed: what is drawn; the first scenes are the same however many follow.
    """
    return [_scene(np.random.default_rng((seed, place))) for place in range(count)]


def _scene(rng: np.random.Generator) -> RenderedScene:
    shape = (int(rng.integers(*SIDES, endpoint=True)), int(rng.integers(*SIDES, endpoint=True)))
    placed = _placed(shape, rng)
    ground, image = _ground(shape, rng)
    colours = [ground]
    instances = np.zeros(shape, np.uint8)
    for number, (_, window, cover) in enumerate(placed, 1):
        colours.append(_apart_from(colours, rng))
        paint = np.float32(colours[-1]) + _ramp(cover.shape, 8, rng)
        image[window] += cover[..., None] * (paint - image[window])
        instances[window][cover > 0.5] = number
    image += rng.uniform(1, 8) * rng.standard_normal(image.shape, np.float32)
    labels = np.array([label for label, _, _ in placed])
    return RenderedScene(
        np.uint8(np.clip(image, 0, 255)),
        np.stack([_box(instances == number) for number in range(1, len(placed) + 1)]),
        labels,
        np.append(0, labels + 1).astype(np.uint8)[instances],
        instances,
    )


def _placed(shape: tuple[int, int], rng: np.random.Generator) -> list[_Placed]:
    """Objects from the lowest to the highest. They are placed the other way round, so that what
    hides one is known; the highest is always seen.
    """
    found: list[_Placed] = []
    covered = np.zeros(shape, bool)
    for label in rng.integers(0, len(LABELS), rng.integers(1, MOST_OBJECTS, endpoint=True)):
        candidate = _place(int(label), covered, rng)
        own, hiding = candidate.cover > 0.5, covered[candidate.window]
        if (own & hiding).sum() <= HIDDEN * own.sum():
            found.append(candidate)
            hiding |= own
    return found[::-1]


def _place(label: int, covered: np.ndarray, rng: np.random.Generator) -> _Placed:
    """An object somewhere in the image, whole."""
    from PIL import Image

    drawn = _drawn(LABELS[label], rng)
    scale = min(covered.shape) * np.exp(rng.uniform(*np.log(SIZES))) / max(drawn.size)
    width, height = (max(4, round(side * scale)) for side in drawn.size)
    rows = rng.integers(0, covered.shape[0] - height + 1, TRIES)
    columns = rng.integers(0, covered.shape[1] - width + 1, TRIES)
    windows = [
        (slice(y, y + height), slice(x, x + width)) for y, x in zip(rows, columns, strict=True)
    ]
    window = min(windows, key=lambda place: covered[place].sum())
    ink = drawn.resize((width, height), Image.Resampling.BILINEAR)
    return _Placed(label, window, np.asarray(ink, np.float32) / 255)


def _drawn(label: str, rng: np.random.Generator) -> "Image.Image":
    """A digit or a figure, white on black, cut to what is drawn."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (CANVAS, CANVAS))
    pen, middle = ImageDraw.Draw(canvas), CANVAS / 2
    slant = rng.uniform(-SLANT, SLANT)
    if label in FIGURES:
        turn = np.deg2rad(slant)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        stretch = np.exp(rng.uniform(-0.12, 0.12, 2))
        corners = (_outline(label) * stretch) @ matrix.T * (CANVAS / 2.6) + middle
        pen.polygon([tuple(corner) for corner in corners], fill=255)
    else:
        font = find_font(str(rng.choice(FONTS)), CANVAS * 3 // 4)
        stroke = int(rng.integers(2, 6))
        pen.text((middle, middle), label, 255, font, anchor="mm", stroke_width=stroke)
        canvas = canvas.rotate(slant, Image.Resampling.BILINEAR)
    return canvas.crop(canvas.getbbox())


@functools.cache
def _outline(figure: str) -> np.ndarray:
    """The corners of a figure, `(corners, 2)`, about 1 from its middle."""
    if figure == "cross":
        near, far = 0.36, 1.0
        quarter = np.array([[near, -far], [near, -near], [far, -near]])
        turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
        return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])
    corners = {"circle": 72, "square": 4, "star": 10, "triangle": 3}[figure]
    first = -np.pi / (4 if figure == "square" else 2)
    angles = first + 2 * np.pi * np.arange(corners) / corners
    distance = np.where(np.arange(corners) % 2, 0.45, 1.0) if figure == "star" else 1.0
    return np.stack([np.cos(angles), np.sin(angles)], -1) * np.reshape(distance, (-1, 1))


def _ground(shape: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A colour, and the ground of that colour with a texture on it, float32 `(h, w, 3)`."""
    colour = rng.uniform(20, 235, 3)
    texture = TEXTURES[rng.integers(len(TEXTURES))](shape, rng)
    tint = rng.uniform(0.6, 1.0, 3) * rng.uniform(6, 22)
    image = np.float32(texture)[..., None] * np.float32(tint) + _ramp(shape, 12, rng)
    return colour, image + np.float32(colour)


def _ramp(shape: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Light that falls from one side, `(h, w, 1)`."""
    down, right = rng.normal(0, strength, 2)
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    return (np.float32(down) * rows[:, None] + np.float32(right) * columns)[..., None]


def _apart_from(colours: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A colour that differs from all others, or the one of many that differs most."""
    drawn = rng.uniform(0, 255, (24, 3))
    nearest = np.linalg.norm(drawn[:, None] - np.stack(colours), axis=-1).min(1)
    far = np.flatnonzero(nearest >= CONTRAST)
    return drawn[far[0] if len(far) else nearest.argmax()]


def _box(seen: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return np.float32([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _clouds(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    from PIL import Image

    found = np.zeros(shape, np.float32)
    for cells in (3, 7, 15):
        coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        smooth = Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC)
        found += np.asarray(smooth) * 3 / cells
    return found


def _stripes(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 24)
    rows, columns = np.indices(shape, np.float32)
    return np.sin(2 * np.pi * (rows * np.sin(angle) + columns * np.cos(angle)) / period)


def _checks(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    period = rng.integers(6, 20)
    rows, columns = np.indices(shape) // period
    return (rows + columns) % 2 * 2.0 - 1


def _grain(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    coarse = rng.standard_normal([-(-side // 3) for side in shape])
    return np.kron(coarse, np.ones((3, 3)))[: shape[0], : shape[1]] * 0.7


TEXTURES = (_clouds, _stripes, _checks, _grain)
