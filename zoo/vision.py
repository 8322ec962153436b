"""The one way in which Graft turns an image into pixels, for training and for prediction
alike.
"""

import contextlib
import functools
import io
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.contents import Packed, check_plain_file, read_content
from graft.zoo.errors import DataError
from graft.zoo.fits import (
    MAX_SIDE,
    MODES,
    STRETCH,
    Fit,
    ImageShape,
    ImageSize,
    describe_resizing,
    draft_size,
    fit_image,
)
from graft.zoo.image_modes import as_pillow, to_mode

if TYPE_CHECKING:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

    ImageSource = Path | Packed | str | bytes | np.ndarray | Image.Image

__all__ = ["decode_image", "describe_decoding"]

DECODING = {
    "library": "Pillow",
    "color_space": "RGB",
    "exif_orientation": "applied",
    "transparency": "over white",
    "large_jpeg": "decoded at 1/2, 1/4 or 1/8, still at least twice the size",
    "wide_pixels": (
        "16 bit: 65535 is white. Floats and 32-bit integers: white is 1, 255 or 65535, the least "
        "that 99 % of the finite pixels do not exceed twofold (integers: 255 or 65535); what lies "
        "beyond is clipped, what is no number is black"
    ),
    "interpolation": "bilinear, antialiased, across, then down",
    "range": [0, 255],
}
"""What `decode_image` does whatever the fit, in words; see `describe_decoding`."""
OTHER_CHANNELS: Mapping[int, Mapping[str, object]] = {
    1: {
        "color_space": "luminance: (19595 R + 38470 G + 7471 B + 32768) >> 16, before resizing",
        "channels": 1,
    },
    4: {
        "color_space": "RGBA",
        "transparency": "kept: a fourth channel, resized by itself as the others are; 255: opaque",
        "channels": 4,
    },
}
"""Channels -> what it does otherwise than for RGB."""
COLOUR_SQUARE = ImageShape(1, 1)
ORIENTATION_TAG = 0x0112
"""Of EXIF."""
TURNED = range(5, 9)
"""Its values whose image lies on its side."""
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".jp2", ".png", ".apng", ".gif", ".webp", ".avif"}
    | {".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Files with these endings (in any case) are taken for images when a folder is read."""
MAX_DECODING_BYTES = 2**30
"""What decoding one image may take, by `_decoding_bytes`: 134 million pixels; of a JPEG, which is
decoded at 1/8, 2,000 million.
"""
BYTES_PER_PIXEL = 4
"""Pillow keeps a colour image in 32 bits a pixel."""
SERIAL_DECODING_BYTES = 2**28
"""Bytes of `_decoding_bytes` from which images are decoded one after the other, not as many as
there are threads.
"""
_OPENING_LOCK = threading.Lock()
_LARGE_LOCK = threading.Lock()


def describe_decoding(fit: Fit = STRETCH, shape: ImageShape = COLOUR_SQUARE) -> dict[str, object]:
    """What `decode_image` does, in words; it goes into every manifest, so that other languages can
    do the same. Without a `shape` of square colour images.
    """
    how = {"fit": fit, "resize": describe_resizing(fit, shape)}
    return {**DECODING, **how, **OTHER_CHANNELS.get(shape.channels, {})}


def decode_image(
    source: "ImageSource",
    image_size: ImageSize,
    fit: Fit = STRETCH,
    content: bytes | None = None,
) -> np.ndarray:
    """Decode one image as a model takes it. `describe_decoding` says how.

    Args:
        source: a file, a place in one, the bytes of a file, an array `(h, w)`, `(h, w, 1)`,
            `(h, w, 3)` or `(h, w, 4)` of uint8, or a Pillow image; of any size and mode: grey,
            palette, 16 bit, CMYK, with transparency (laid over white, unless the result has a
            channel for it), EXIF-rotated; of an animation the first frame.
        image_size: of the result: a number of pixels (a square), "HEIGHTxWIDTH", or an
            `ImageShape`, which says the channels too.
        fit: how an image of other proportions becomes one: see `zoo/fits.py`. "stretch" is what
            MediaPipe's tasks do on a phone.
        content: the bytes of `source`, where they have been read already.

    Returns:
        Pixels, uint8 `(height, width, channels)`, 0 to 255: RGB unless `image_size` says otherwise.

    Raises:
        DataError: the file is missing, empty, truncated or no image, no plain file (a pipe, a
            device, a folder), may not be read, or takes more than `MAX_DECODING_BYTES` to decode;
            the message names it and the cause.
        ConfigError: `image_size` is none.
    """
    shape = ImageShape.of(image_size)
    name = f"'{source}'" if isinstance(source, (str, Path, Packed)) else "the image"
    try:
        if content is None and isinstance(source, Packed):
            content = read_content(source)
        return _decode(source if content is None else content, shape, fit)
    except _TooLargeError as error:
        raise DataError(f"{name} is too large to be decoded: {error}: make it smaller") from error
    except MemoryError as error:
        raise DataError(
            f"{name} cannot be decoded: the memory does not suffice for it; make it smaller"
        ) from error
    except Exception as error:  # damaged files make Pillow's readers raise anything
        raise DataError(f"{name} is not a readable image ({_cause(source, error)})") from error


class _TooLargeError(Exception):
    """Decoding would take more memory than one image is given."""


def _decode(source: "ImageSource", shape: ImageShape, fit: Fit) -> np.ndarray:
    from PIL import ImageOps

    _silence_pillow()
    image = _opened(source)
    ours = isinstance(source, (str, Path, bytes))
    with image if ours else contextlib.nullcontext():
        # JPEG can be decoded at 1/2, 1/4, 1/8: a phone photo ten times faster, still at twice the
        # size asked for.
        whole = image.size
        image.draft("RGB", draft_size(whole, _as_it_lies(image, shape), fit))
        cost = _decoding_bytes(image, whole)
        _check_size(whole, cost)
        with _LARGE_LOCK if cost > SERIAL_DECODING_BYTES else contextlib.nullcontext():
            if ours:
                ImageOps.exif_transpose(image, in_place=True)
            else:
                image = ImageOps.exif_transpose(image)
            return fit_image(to_mode(image, MODES[shape.channels]), shape, fit)


def _as_it_lies(image: "Image.Image", shape: ImageShape) -> ImageShape:
    """`shape`, on its side where `image` is a JPEG that is turned after it was decoded."""
    from PIL.JpegImagePlugin import JpegImageFile

    # Of other formats reading EXIF data may decode the image, whose size is not checked yet.
    if shape.is_square or not isinstance(image, JpegImageFile):
        return shape
    turned = image.getexif().get(ORIENTATION_TAG) in TURNED
    return shape._replace(height=shape.width, width=shape.height) if turned else shape


def _check_size(whole: tuple[int, int], cost: int) -> None:
    if max(whole) > MAX_SIDE:
        raise _TooLargeError(
            f"{whole[0]:,} x {whole[1]:,} pixels, of which a side has {MAX_SIDE:,} at most in "
            "an image"
        )
    if cost > MAX_DECODING_BYTES:
        raise _TooLargeError(
            f"{whole[0]:,} x {whole[1]:,} pixels take {cost / 2**30:.1f} GB, an image may take "
            f"{MAX_DECODING_BYTES / 2**30:.0f} GB"
        )


def _opened(source: "ImageSource") -> "Image.Image":
    """`source` as a Pillow image whose pixels are not read yet."""
    if isinstance(source, np.ndarray):
        return as_pillow(source)
    if not isinstance(source, (str, Path, bytes)):
        return source
    if not isinstance(source, bytes):
        check_plain_file(source)
    image = _open_whatever_its_size(io.BytesIO(source) if isinstance(source, bytes) else source)
    if image.format == "EPS":  # Pillow would have another program run it
        raise ValueError("EPS files are programs: convert it to PNG")
    return image


def _open_whatever_its_size(file: "str | Path | io.BytesIO") -> "Image.Image":
    """`Image.open` without Pillow's own limit, which counts the pixels of a file and not what
    decoding them takes.
    """
    from PIL import Image

    # The limit is one of the whole process. Opening reads hardly more than the header.
    with _OPENING_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decoding_bytes(image: "Image.Image", whole: tuple[int, int]) -> int:
    """About how many bytes decoding `image` takes, by its header; `whole` is its size before it was
    asked for less.
    """
    from PIL.JpegImagePlugin import JpegImageFile

    pixels = image.width * image.height
    held = 2 * BYTES_PER_PIXEL * pixels  # the image, and the same as RGB
    if image.format in ("WEBP", "AVIF"):  # their decoders keep a canvas and a frame of their own
        held += 2 * BYTES_PER_PIXEL * pixels
    # Without a file its pixels are there already.
    if (
        isinstance(image, JpegImageFile)
        and image.format in ("JPEG", "MPO")
        and image.fp is not None
    ):
        held += _jpeg_bytes(image, whole)
    return held


def _jpeg_bytes(image: "JpegImageFile", whole: tuple[int, int]) -> int:
    """Bytes that libjpeg holds beside the image that it gives, which may be much smaller than the
    `whole` one.
    """
    pixels, layers = whole[0] * whole[1], image.layer
    # A JPEG that comes in several passes, a progressive one or one whose colours stand one after
    # the other, is held as coefficients of 2 bytes each, however small the image shall be.
    in_passes = (
        "progressive" in image.info or "progression" in image.info or not _first_pass_is_all(image)
    )
    if not in_passes:
        return pixels // 2  # nothing is held; but a file of so many pixels takes its time
    densest = max(layer[1] for layer in layers) * max(layer[2] for layer in layers)
    return 2 * pixels * sum(layer[1] * layer[2] for layer in layers) // max(1, densest)


def _first_pass_is_all(image: "JpegImageFile") -> bool:
    """Whether the first pass of a JPEG that is not progressive holds all of its colours."""
    if image.format == "MPO":  # which cameras write, in one pass
        return True
    length = 6 + 2 * len(image.layer)  # of the header of such a pass, behind which Pillow stands
    file = image.fp
    if file is None:
        raise ValueError("the image has no file")
    file.seek(-length, io.SEEK_CUR)
    return file.read(length)[:3] == bytes([0, length, len(image.layer)])


@functools.cache
def _silence_pillow() -> None:
    """What Pillow warns of (tags, palettes) does not change what is decoded."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _cause(source: "ImageSource", error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(source, (str, Path)):
        if isinstance(error, PermissionError):
            return "it may not be read: permission denied"
        # `os.path` says no where `Path` raises, as of a name that is too long.
        if os.path.islink(source) and not os.path.exists(source):
            return "it is a link to a file that is not there"
        if isinstance(error, FileNotFoundError):
            return "no such file"
        if os.path.isfile(source) and os.path.getsize(source) == 0:
            return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known image format"
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        return "it has too many pixels: make it smaller"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
