"""Boxes and masks on an image, for people to look at. Pillow alone."""

import colorsys
from collections.abc import Sequence

import numpy as np

__all__ = ["colour_of", "draw_boxes", "draw_mask"]

GOLDEN = 0.618
"""Of a turn between the hues of two labels that follow each other (its conjugate, so that however
many there are, none come near).
"""
OPACITY = 0.5
"""Of a mask."""
MOST_LABELLED = 24
"""Pixels of the letters beside a box, at most."""


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour of a label, by its number."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN % 1, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_boxes(pixels: np.ndarray, rows: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """`pixels` uint8 `(h, w, 3)` with boxes on them.

    Args:
        pixels: of the image.
        rows: `(n, 6)`: x0, y0, x1, y1 in pixels of it, score, label; what scores 1 is shown without
            the score.
        labels: what each is called.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(pixels)
    pen, unit = ImageDraw.Draw(image), max(1, round(max(image.size) / 320))
    font = ImageFont.load_default(min(MOST_LABELLED, 9 * unit))
    for x0, y0, x1, y1, score, label in rows[::-1].tolist():  # the surest lies on top
        colour, name = colour_of(int(label)), labels[int(label)]
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=unit)
        text = name if score >= 1 else f"{name} {score:.2f}"
        left, top, right, bottom = pen.textbbox((0, 0), text, font)
        height = bottom - top + 2 * unit
        y = max(0.0, y0 - height)
        pen.rectangle((x0, y, x0 + right - left + 2 * unit, y + height), fill=colour)
        pen.text((x0 + unit - left, y + unit - top), text, (0, 0, 0), font)
    return np.asarray(image)


def draw_mask(pixels: np.ndarray, classes: np.ndarray, background: int | None) -> np.ndarray:
    """`pixels` uint8 `(h, w, 3)` with the colour of the class of each pixel laid over them.

    Args:
        pixels: of the image.
        classes: uint8 `(h, w)` of any size; 255 is left as it is, and so is the `background`.
        background: a class; None: there is none.
    """
    height, width = pixels.shape[:2]
    rows = np.arange(height) * classes.shape[0] // height
    columns = np.arange(width) * classes.shape[1] // width
    classes = classes[rows[:, None], columns]
    palette = np.array([colour_of(label) for label in range(256)], np.float32)
    shown = (classes != 255) & (classes != (255 if background is None else background))
    mixed = (1 - OPACITY) * pixels + OPACITY * palette[classes]
    return np.where(shown[..., None], mixed, pixels).astype(np.uint8)
