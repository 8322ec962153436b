"""Pillow images of any mode -> luminance, RGB or RGBA with 8 bits a channel: transparency is laid
over white or kept, wider pixels are scaled.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["as_pillow", "as_pixels", "to_mode"]

STRIP_PIXELS = 2**22
"""Pixels of an image that are converted at a time."""
WHITE_QUANTILE = 0.99
"""The share of the pixels that says how wide they are: one bright pixel, or a defect of the sensor,
does not.
"""
NOT_MEASURED = 1e30
"""Floats from here on mark what was not measured."""


def to_mode(image: "Image.Image", mode: str) -> "Image.Image":
    """`image`, of any mode, as "L" (luminance), "RGB" or "RGBA" with 8 bits a channel. Only
    the last one keeps what is transparent; in the others it lies over white.
    """
    from PIL import Image

    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    laid_over_white = transparent and mode != "RGBA"
    wide = image.mode.startswith("I") or image.mode == "F"
    if not laid_over_white and not wide:
        return image if image.mode == mode else image.convert(mode)  # which would copy
    scale = _white_of(image) if wide else 1.0
    made = Image.new(mode, image.size)
    for top, strip in _strips(image):
        if wide:
            strip = _narrowed(strip, scale)
        elif laid_over_white:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        made.paste(strip.convert(mode), (0, top))
    return made


def as_pillow(pixels: np.ndarray) -> "Image.Image":
    """A Pillow image of uint8 pixels `(h, w)` or `(h, w, channels)`: grey of one channel."""
    from PIL import Image

    grey = pixels.shape[-1] == 1 and pixels.ndim == 3
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))


def _strips(image: "Image.Image") -> "Iterator[tuple[int, Image.Image]]":
    """Yield (its first row, a part of `image`) from top to bottom."""
    rows = max(1, STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _narrowed(strip: "Image.Image", white: float) -> "Image.Image":
    """Pixels of more than 8 bits as bytes. Pillow would clip them: a 16-bit scan would come out
    white.
    """
    from PIL import Image

    values = np.nan_to_num(np.asarray(strip, np.float64), nan=0.0, posinf=white, neginf=0.0)
    return Image.fromarray(np.uint8(np.clip(values * (255 / white), 0, 255)))


def _white_of(image: "Image.Image") -> float:
    """The value that is white in an image with more than 8 bits a pixel; `DECODING` says it in
    words.
    """
    # A PGM of 16 bits is opened with 32.
    if image.mode.startswith("I;16") or (
        image.mode == "I" and getattr(image, "format", None) == "PPM"
    ):
        return 65535.0
    step = max(1, int((image.width * image.height / STRIP_PIXELS) ** 0.5))
    values = np.asarray(image)[::step, ::step]
    if image.mode == "F":
        values = values[np.abs(values) < NOT_MEASURED]  # which NaN is not either
    if not values.size:
        return 255.0
    # The next lower value, so that in a small image too no single pixel has a say.
    usual = float(np.percentile(values, 100 * WHITE_QUANTILE, method="lower"))
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((white for white in whites if usual <= 2 * white), whites[-1])


def as_pixels(values: np.ndarray, name: str) -> np.ndarray:
    """An array of an image, as numpy programs have it, in uint8.

    Args:
        values: `(height, width)`, `(height, width, 1)`, `(height, width, 3)` or `(height, width,
            4)` from 0 to 255, whole numbers or floats, which are rounded.
        name: for the message, as "image 3".

    Raises:
        DataError: another shape, or values that are no pixels.
    """
    values = np.asarray(values)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] not in (1, 3, 4)):
        raise DataError(
            f"{name} has the shape {values.shape}: expected (height, width, 3), or (height, width) "
            "of "
            "a grey one"
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf" or not values.size:
        raise DataError(f"{name} holds {values.dtype}: expected pixels from 0 to 255")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"{name} has values from {low:.4g} to {high:.4g}: expected pixels from 0 to 255"
        )
    if values.dtype.kind == "f" and 0 < high <= 1:
        raise DataError(
            f"{name} has values from 0 to 1: expected pixels from 0 to 255; multiply them by 255"
        )
    return np.uint8(np.round(values))
