"""Printed characters, rendered on the fly with the fonts that matplotlib ships: the source domain
of the bundled backbone.

Every image varies font, size, weight, slant, rotation, place, colours, gradient, resolution, blur
and noise. Letters whose capital has the same shape at another size (c, k, o, p, s, u, v, w, x, z)
share the capital's class, because size varies; 0 and O, and 1, I and l, stay apart and remain hard,
as they are in print.
"""

import functools
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageFont

__all__ = ["CLASSES", "FONTS", "HELD_OUT_FONTS", "find_font", "load", "render"]

SAME_SHAPE = "ckopsuvwxz"
CLASSES = tuple(
    string.digits
    + string.ascii_uppercase
    + "".join(c for c in string.ascii_lowercase if c not in SAME_SHAPE)
)

HELD_OUT_FONTS = ("cmss10", "STIXGeneralBol")
"""Never trained on: for measuring what a new font costs."""

FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-BoldOblique", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-BoldItalic", "-Italic")),
    *("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmb10", "cmr10", "cmti10", "cmtt10"),
)
"""Fonts in which every class was looked at; the others of matplotlib hold symbols only."""


DIGITS, SIDE = 2000, 32
"""Of the built-in source: images, and pixels a side."""


def load() -> list[tuple[np.ndarray, str]]:
    """`glyphs`: 2,000 printed digits as `(image, label)`, uint8 `(32, 32, 3)`, labels "0" to "9";
    the same every time.
    """
    images, labels = render(DIGITS, 0, SIDE, classes=string.digits)
    return [(image, string.digits[label]) for image, label in zip(images, labels, strict=True)]


def render(
    count: int,
    seed: int,
    image_size: int = 64,
    *,
    classes: Sequence[str] = CLASSES,
    fonts: Sequence[str] = FONTS,
) -> tuple[np.ndarray, np.ndarray]:
    """`count` images, uint8 `(count, image_size, image_size, 3)`, and the index of each one's
    class, `(count,)`.

    Classes come in turn, then in random order; all else is drawn by `seed`. About 1,000 images a
    second at 64 pixels.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(classes))
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        character = classes[label]
        if character.lower() in SAME_SHAPE and rng.random() < 0.5:
            character = character.lower()
        image[:] = _colour(_ink(character, rng.choice(fonts), image_size, rng), rng)
    return images, labels


def _ink(character: str, font: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """How much ink there is at each pixel, float32 `(size, size)` in [0, 1]."""
    from PIL import Image, ImageDraw, ImageFilter

    height = int(size * rng.uniform(0.45, 1.25))
    canvas = Image.new("L", (2 * size, 2 * size))
    stroke = int(rng.choice([0, 0, 0, 1, 2])) * size // 64
    ImageDraw.Draw(canvas).text(
        (size, size),
        character,
        fill=255,
        font=find_font(font, height),
        anchor="mm",
        stroke_width=stroke,
    )
    angle, shear = np.deg2rad(rng.normal(0, 8)), rng.normal(0, 0.15)
    stretch = np.exp(rng.normal(0, 0.12, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(stretch)
    # A capital M and a small i are both centred by their own box, then shifted.
    left, top, right, bottom = canvas.getbbox() or (0, 0, 2 * size, 2 * size)
    source = np.array([(left + right) / 2, (top + bottom) / 2])
    target = size / 2 + rng.normal(0, 0.05 * size, 2)
    offset = source - matrix @ target
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    ink = canvas.transform(
        (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    if rng.random() < 0.5:  # a coarse camera or a small scan, enlarged
        coarse = int(rng.integers(size // 8, size // 2))
        ink = ink.resize((coarse, coarse), Image.Resampling.BOX).resize(
            (size, size), Image.Resampling.BICUBIC
        )
    if rng.random() < 0.5:
        ink = ink.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, size / 32)))
    return np.asarray(ink, np.float32) / 255


def _colour(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paper and ink of two colours that differ in brightness, a gradient over the paper, noise over
    all.
    """
    size = len(ink)
    grey = rng.random() < 0.5
    paper, pen = (rng.uniform(0, 255, 1 if grey else 3) * np.ones(3) for _ in range(2))
    if abs(paper.mean() - pen.mean()) < 70:
        pen = paper + np.sign(127 - paper.mean()) * rng.uniform(70, 127)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.normal(0, 15, 2)
    ground = paper + (slope[0] * ramp[:, None] + slope[1] * ramp)[..., None]
    image = ground + ink[..., None] * (pen - ground)
    image += rng.uniform(0, 15) * rng.standard_normal((size, size, 1 if grey else 3), np.float32)
    return np.clip(image, 0, 255)


@functools.lru_cache(maxsize=4096)
def find_font(name: str, height: int) -> "ImageFont.FreeTypeFont":
    """One of matplotlib's fonts (`FONTS`, `HELD_OUT_FONTS`) at a height in pixels."""
    from pathlib import Path

    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", height
    )
