"""How large images are as they are shown upright, of which hardly more than the header is read."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.zoo.contents import Packed, check_plain_file
from graft.zoo.errors import DataError
from graft.zoo.terminal import progress
from graft.zoo.vision import ORIENTATION_TAG, TURNED

__all__ = ["UprightSize", "size_as_it_came", "upright_size", "upright_sizes"]


@dataclass(frozen=True)
class UprightSize:
    """How large an image is as it is shown upright.

    Attributes:
        height, width: in pixels.
        is_turned: whether EXIF data say that height and width change places.
    """

    height: int
    width: int
    is_turned: bool = False


def upright_sizes(images: Sequence[Path | Packed]) -> list[UprightSize | DataError]:
    """The size of each image, or why it is not known, read in threads."""
    with ThreadPoolExecutor() as pool, progress("sizes of images", len(images)) as advance:
        found = []
        for size in pool.map(_size_or_error, images):
            found.append(size)
            advance()
    return found


def _size_or_error(image: Path | Packed) -> UprightSize | DataError:
    try:
        return upright_size(image)
    except DataError as error:
        return error


def upright_size(image: Path | Packed) -> UprightSize:
    """The size of one image.

    Raises:
        DataError: it is missing, or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if not isinstance(image, Packed):
            check_plain_file(image)
        with Image.open(io.BytesIO(image.read()) if isinstance(image, Packed) else image) as opened:
            orientation = opened.getexif().get(ORIENTATION_TAG, 1)
            width, height = opened.size
    except UnidentifiedImageError as error:
        raise DataError(
            f"'{image}' is not a readable image (its content is of no known image format)"
        ) from error
    except Exception as error:  # damaged files make Pillow's readers raise anything
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"'{image}' is not a readable image ({cause})") from error
    if orientation in TURNED:
        return UprightSize(width, height, is_turned=True)
    return UprightSize(height, width)


def size_as_it_came(given: Any) -> tuple[int, int]:
    """Height and width of an image that a user hands over: a file, pixels, or an image of Pillow.

    Raises:
        DataError: it is missing, or no image.
    """
    if hasattr(given, "convert"):
        turned = given.getexif().get(ORIENTATION_TAG, 1) in TURNED
        return tuple(given.size if turned else given.size[::-1])
    if hasattr(given, "shape"):
        return tuple(given.shape[:2])
    size = upright_size(given if isinstance(given, Packed) else Path(given))
    return size.height, size.width
