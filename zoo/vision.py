"""Pictures: the one way in which Graft turns an image into pixels, for training and for prediction
alike.
"""

import contextlib
import functools
import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DECODE", "IMAGE_SUFFIXES", "content_digest", "decode"]

DECODE = {
    "library": "Pillow",
    "color_space": "RGB",
    "exif_orientation": "applied",
    "transparency": "over white",
    "large_jpeg": "decoded at 1/2, 1/4 or 1/8, still at least twice the size",
    "wide_pixels": (
        "16 bit: 65535 is white. Floats and 32-bit integers: white is 1, 255 or 65535, the least "
        "that 99 % of the finite "
        "pixels do not exceed twofold (integers: 255 or 65535); what lies beyond is clipped, what "
        "is no number is black"
    ),
    "resize": "stretch to a square",
    "interpolation": "bilinear, antialiased, across, then down",
    "range": [0, 255],
}
"""What `decode` does, in words; it goes into every manifest, so that other languages can do the
same.
"""

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".pjpeg",
        ".png",
        ".apng",
        ".bmp",
        ".dib",
        ".gif",
        ".webp",
        ".avif",
        ".tif",
        ".tiff",
    }
    | {".jp2", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Files with these endings (in any case) are taken for pictures when a folder is read."""

LARGEST_BYTES = 2**30
"""What decoding one picture may take, by `_cost`: 134 million pixels; of a JPEG, which is decoded
at 1/8, 2,000 million.
"""
LONGEST_SIDE = 65_535
"""Pixels; no JPEG, GIF or WebP has more, and a header that says so is of no picture."""
BYTES_A_PIXEL = 4
"""Pillow keeps a colour picture in 32 bits a pixel."""
ONE_AT_A_TIME = 2**28
"""Bytes of `_cost` from which pictures are decoded one after the other, not as many as there are
threads.
"""
STRIP_PIXELS = 2**22
"""Pixels of a picture that are converted at a time."""
WIDE_SHARE = 0.99
"""The share of the pixels that says how wide they are: one bright pixel, or a defect of the sensor,
does not.
"""
BEYOND = 1e30
"""Floats from here on mark what was not measured."""

_OPENING = threading.Lock()
_LARGE = threading.Lock()


def decode(source: "Path | str | bytes | np.ndarray | Image.Image", image_size: int) -> np.ndarray:
    """One picture as uint8 pixels `(image_size, image_size, 3)`, RGB, 0 to 255.

    Takes a file, the bytes of a file, an array `(h, w)`, `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)` of
    uint8, or a Pillow image, of any size and mode: grey, palette, 16 bit, CMYK, with transparency
    (laid over white), EXIF-rotated; of an animation the first frame. The picture is stretched to a
    square, as MediaPipe's tasks do on a phone. `DECODE` says how.

    Raises:
        DataError: the file is missing, empty, truncated or no picture, no plain file (a pipe, a
            device, a folder), may not be read, or takes more than `LARGEST_BYTES` to decode; the
            message names it and the cause.
    """
    name = f"'{source}'" if isinstance(source, (str, Path)) else "the picture"
    try:
        return _decode(source, image_size)
    except _TooLargeError as error:
        raise DataError(f"{name} is too large to be decoded: {error}: make it smaller") from error
    except MemoryError as error:
        raise DataError(
            f"{name} cannot be decoded: the memory does not suffice for it; make it smaller"
        ) from error
    except (
        Exception
    ) as error:  # damaged files make Pillow's readers raise whatever comes to their minds
        raise DataError(f"{name} is not a readable picture ({_cause(source, error)})") from error


def content_digest(image: "Path | np.ndarray") -> str:
    """A hash of the bytes of a file, or of pixels: 32 hexadecimal digits.

    A file that cannot be read has a digest of its path, so that whoever decodes it can say what is
    wrong with it.
    """
    if isinstance(image, np.ndarray):
        return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    try:
        _check_plain_file(image)
        with image.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return hashlib.blake2b(
            b"unreadable\0" + str(image).encode(errors="surrogateescape"), digest_size=16
        ).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Decoding


class _TooLargeError(Exception):
    """Decoding would take more memory than one picture is given."""


def _decode(source, image_size: int) -> np.ndarray:
    from PIL import ImageOps

    _silence_pillow()
    image = _opened(source)
    ours = isinstance(source, (str, Path, bytes))
    with image if ours else contextlib.nullcontext():
        # JPEG can be decoded at 1/2, 1/4, 1/8: a phone photo ten times faster, still at twice the
        # size asked for.
        whole = image.size
        image.draft("RGB", (2 * image_size, 2 * image_size))
        cost = _cost(image, whole)
        _check_size(whole, cost)
        with _LARGE if cost > ONE_AT_A_TIME else contextlib.nullcontext():
            if ours:
                ImageOps.exif_transpose(image, in_place=True)
                return _stretched(_rgb(image), image_size)
            return _stretched(_rgb(ImageOps.exif_transpose(image)), image_size)


def _stretched(image: "Image.Image", image_size: int) -> np.ndarray:
    from PIL import Image

    # Across, then down, each rounded to bytes: newer releases of Pillow choose the order by the
    # picture's shape, and what another language has to do in its place must not depend on that.
    for size in ((image_size, image.height), (image_size, image_size)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)


def _check_size(whole: tuple[int, int], cost: int) -> None:
    if max(whole) > LONGEST_SIDE:
        raise _TooLargeError(
            f"{whole[0]:,} x {whole[1]:,} pixels, of which a side has {LONGEST_SIDE:,} at most in "
            "a picture"
        )
    if cost > LARGEST_BYTES:
        raise _TooLargeError(
            f"{whole[0]:,} x {whole[1]:,} pixels take {cost / 2**30:.1f} GB, a picture may take "
            f"{LARGEST_BYTES / 2**30:.0f} GB"
        )


def _opened(source) -> "Image.Image":
    """`source` as a Pillow image whose pixels are not read yet."""
    from PIL import Image

    if isinstance(source, np.ndarray):
        return Image.fromarray(source.squeeze(-1) if source.shape[-1:] == (1,) else source)
    if not isinstance(source, (str, Path, bytes)):
        return source
    if not isinstance(source, bytes):
        _check_plain_file(source)
    image = _open_whatever_its_size(io.BytesIO(source) if isinstance(source, bytes) else source)
    if image.format == "EPS":  # Pillow would have another program run it
        raise ValueError("EPS files are programs: convert it to PNG")
    return image


def _open_whatever_its_size(file: "str | Path | io.BytesIO") -> "Image.Image":
    """`Image.open` without Pillow's own limit, which counts the pixels of a file and not what
    decoding them takes.
    """
    from PIL import Image

    with _OPENING:  # which reads hardly more than the header; the limit is one of the whole process
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _cost(image: "Image.Image", whole: tuple[int, int]) -> int:
    """About how many bytes decoding `image` takes, by its header; `whole` is its size before it was
    asked for less.
    """
    pixels = image.width * image.height
    held = 2 * BYTES_A_PIXEL * pixels  # the picture, and the same as RGB
    if image.format in ("WEBP", "AVIF"):  # their decoders keep a canvas and a frame of their own
        held += 2 * BYTES_A_PIXEL * pixels
    if (
        image.format in ("JPEG", "MPO") and image.fp is not None
    ):  # None: its pixels are there already
        held += _cost_of_jpeg(image, whole)
    return held


def _cost_of_jpeg(image: "Image.Image", whole: tuple[int, int]) -> int:
    """Bytes that libjpeg holds beside the picture that it gives, which may be much smaller than the
    `whole` one.
    """
    pixels, layers = whole[0] * whole[1], image.layer
    # A JPEG that comes in several passes, a progressive one or one whose colours stand one after
    # the other, is held as coefficients of 2 bytes each, however small the picture shall be.
    in_passes = (
        "progressive" in image.info or "progression" in image.info or not _first_pass_is_all(image)
    )
    if not in_passes:
        return pixels // 2  # nothing is held; but a file of so many pixels takes its time
    densest = max(layer[1] for layer in layers) * max(layer[2] for layer in layers)
    return 2 * pixels * sum(layer[1] * layer[2] for layer in layers) // max(1, densest)


def _first_pass_is_all(image: "Image.Image") -> bool:
    """Whether the first pass of a JPEG that is not progressive holds all of its colours."""
    if image.format == "MPO":  # which cameras write, in one pass
        return True
    length = 6 + 2 * len(image.layer)  # of the header of such a pass, behind which Pillow stands
    image.fp.seek(-length, io.SEEK_CUR)
    return image.fp.read(length)[:3] == bytes([0, length, len(image.layer)])


def _check_plain_file(path: "str | Path") -> None:
    """Refuse what is no file before it is opened: a pipe would never end, a device may do anything.

    Raises:
        OSError: names what it is.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode):
        return
    kinds = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    kind = next((kind for kind, holds in kinds.items() if holds(mode)), "device")
    raise OSError(f"it is a {kind}")


@functools.cache
def _silence_pillow() -> None:
    """What Pillow warns of (tags, palettes) does not change what is decoded."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


# ---------------------------------------------------------------------------------------------------------------------
# Colours


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    wide = image.mode.startswith("I") or image.mode == "F"
    if not transparent and not wide:
        return image.convert("RGB")
    scale = _white_of(image) if wide else 1.0
    made = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        if wide:
            strip = _narrowed(strip, scale)
        elif transparent:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        made.paste(strip.convert("RGB"), (0, top))
    return made


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
    """The value that is white in a picture with more than 8 bits a pixel; `DECODE` says it in
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
        values = values[np.abs(values) < BEYOND]  # which NaN is not either
    if not values.size:
        return 255.0
    # The next lower value, so that in a small picture too no single pixel has a say.
    usual = float(np.percentile(values, 100 * WIDE_SHARE, method="lower"))
    whites = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((white for white in whites if usual <= 2 * white), whites[-1])


def _cause(source, error: Exception) -> str:
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
