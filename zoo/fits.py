"""The images that a model takes, and how any image becomes one of them: stretched, cropped or
padded.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from graft.zoo.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = [
    "FITS",
    "STRETCH",
    "Fit",
    "ImageShape",
    "ImageSize",
    "Sides",
    "check_fit",
    "check_sides",
    "describe_resizing",
    "draft_size",
    "fit_image",
    "is_image_size",
]

MAX_SIDE = 65_535
"""Pixels; no JPEG, GIF or WebP has more, and a header that says so is of no image."""
MAX_PIXELS = 2**25
"""Of the images of a model."""
MODES: Mapping[int, str] = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels of a model's images -> Pillow's name for such pixels."""

Fit = Literal["stretch", "crop", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
STRETCH: Fit = "stretch"
"""What is meant where nobody says anything, as in files of an older Graft."""
SQUARE_RESIZING: Mapping[Fit, str] = {
    "stretch": "stretch to a square",
    "crop": (
        "stretch the centre square, whose side is the shorter one; of the longer side "
        "(longer - shorter) // 2 pixels lie before it"
    ),
    "pad": (
        "scale the longer side to that of the square and the shorter one alike (halves are rounded "
        "up, at least 1 pixel); the rest is grey, 128, of which half, rounded down, lies before it"
    ),
}
RESIZING: Mapping[Fit, str] = {
    "stretch": "stretch to the height and width",
    "crop": (
        "stretch the largest centred rectangle with the proportions of the height and width: one "
        "side is that of the image, the other one in proportion (halves are rounded up, at least 1 "
        "pixel); of what is left over half, rounded down, lies before it"
    ),
    "pad": (
        "scale until the first side reaches the height or width, the other one alike (halves are "
        "rounded up, at least 1 pixel); the rest is grey, 128, of which half, rounded down, lies "
        "before it"
    ),
}
"""In words, for manifests: other languages have to do the same. Files of square images have said it
in the words of `SQUARE_RESIZING` from the beginning.
"""
GREY = 128
"""What lies around a padded image: the middle of what a pixel may be. It is opaque."""


class ImageShape(NamedTuple):
    """The images that a model takes.

    Attributes:
        height, width: in pixels.
        channels: 1 (luminance), 3 (RGB) or 4 (RGB and transparency).
    """

    height: int
    width: int
    channels: int = 3

    @classmethod
    def of(cls, size: "ImageSize", channels: int = 3) -> "ImageShape":
        """The shape of images of a size as people and files say it.

        Args:
            size: 160 or "160" (square), "160x224" or [160, 224] (height, width); or a shape, which
                has channels of its own.
            channels: of images of this size.

        Raises:
            ConfigError: it is no size, or one that no image has.
        """
        if isinstance(size, cls):
            return size
        sides = _sides(size)
        if sides is None:
            raise ConfigError(
                "--image-size is a whole number of pixels, or HEIGHTxWIDTH as 160x224, of "
                f"{MAX_PIXELS:,} pixels at most: not {size!r}"
            )
        return cls(*sides, channels)

    @property
    def is_square(self) -> bool:
        """Whether one number says the size."""
        return self.height == self.width

    @property
    def size(self) -> int | list[int]:
        """The size as JSON holds it: a number of a square, else [height, width]."""
        return self.height if self.is_square else [self.height, self.width]

    def __str__(self) -> str:
        """The size as `--image-size` takes it."""
        return str(self.height) if self.is_square else f"{self.height}x{self.width}"


ImageSize = int | str | Sequence[int] | ImageShape
"""What `ImageShape.of` takes."""


def is_image_size(value: object) -> bool:
    """Whether this is a size as JSON holds it."""
    return isinstance(value, int | list) and _sides(value) is not None


def _sides(size: object) -> tuple[int, int] | None:
    """(height, width) of what `ImageShape.of` takes; None: it is no size."""
    sides: Sequence[Any] = size if isinstance(size, list | tuple) else (size, size)
    if isinstance(size, str):
        found = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", size)
        sides = [int(side or found[1]) for side in found.groups()] if found else ()
    if len(sides) != 2 or not all(map(_is_side, sides)):
        return None
    height, width = sides
    return (height, width) if height * width <= MAX_PIXELS else None


def _is_side(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIDE


Sides = tuple[int | None, int | None]
"""The height and width of all images of a model; None: any."""


def check_sides(asked: ImageShape, sides: Sides, name: str) -> None:
    """Refuse images of another size than those of the model called `name`.

    Raises:
        ConfigError: a side is another one.
    """
    if all(side in (None, given) for side, given in zip(sides, asked[:2], strict=True)):
        return
    height, width = (side or "ANY" for side in sides)
    takes = f"{height}x{width}" if height != width else str(height)
    raise ConfigError(f"'{name}' takes images of {takes} pixels, not {asked}: leave --image-size")


def check_fit(fit: str) -> None:
    """Refuse what is no fit: the command line does so by itself, Python does not.

    Raises:
        UnknownName: says the nearest one.
    """
    if fit not in FITS:
        raise UnknownName("fit", str(fit), FITS)


def describe_resizing(fit: Fit, shape: ImageShape) -> str:
    """What `fit_image` does, in words."""
    return (SQUARE_RESIZING if shape.is_square else RESIZING)[fit]


def fit_image(image: "Image.Image", shape: ImageShape, fit: Fit) -> "np.ndarray":
    """Resize an image as `fit` says: bilinear with antialiasing.

    Args:
        image: of any size, of the mode that belongs to the channels of `shape`.
        shape: of the result.
        fit: "stretch" changes the proportions, "crop" cuts off what the largest centred rectangle
            of the right proportions does not hold, "pad" keeps all of it and fills with grey. Of an
            image of the right proportions all are the same.

    Returns:
        Pixels, uint8 of `shape`.
    """
    if fit == "crop":
        return _stretched(_centre(image, shape), shape.width, shape.height)
    if fit == "pad":
        return _padded(image, shape)
    return _stretched(image, shape.width, shape.height)


def draft_size(whole: tuple[int, int], shape: ImageShape, fit: Fit) -> tuple[int, int]:
    """(width, height) below which a JPEG of the size `whole` must not be decoded: twice what it
    becomes, on each side that decides how much it is scaled. Padding asks only the side that
    reaches the border first.
    """
    width, height = whole
    if fit != "pad":
        return 2 * shape.width, 2 * shape.height
    wide = width * shape.height >= height * shape.width
    return (2 * shape.width, 1) if wide else (1, 2 * shape.height)


def _in_proportion(length: int, part: int, whole: int) -> int:
    """`length` x `part` / `whole`, halves rounded up, at least 1."""
    return max(1, (2 * length * part + whole) // (2 * whole))


def _centre(image: "Image.Image", shape: ImageShape) -> "Image.Image":
    width, height = image.size
    if width * shape.height >= height * shape.width:
        width = _in_proportion(height, shape.width, shape.height)
    else:
        height = _in_proportion(width, shape.height, shape.width)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _padded(image: "Image.Image", shape: ImageShape) -> "np.ndarray":
    import numpy as np

    width, height = shape.width, shape.height
    if image.width * shape.height >= image.height * shape.width:
        height = _in_proportion(image.height, shape.width, image.width)
    else:
        width = _in_proportion(image.width, shape.height, image.height)
    padded = np.full(shape, GREY, np.uint8)
    padded[..., 3:] = 255
    left, top = (shape.width - width) // 2, (shape.height - height) // 2
    padded[top : top + height, left : left + width] = _stretched(image, width, height)
    return padded


def _stretched(image: "Image.Image", width: int, height: int) -> "np.ndarray":
    """Pixels `(height, width, channels)`."""
    import numpy as np
    from PIL import Image

    # Each channel for itself: Pillow would weigh colours by their transparency, and lose those of
    # what is transparent; and the fourth channel may be something else.
    parts = image.split() if image.mode == "RGBA" else [image]
    found = []
    for part in parts:
        # Across, then down, each rounded to bytes: newer releases of Pillow choose the order by the
        # image's shape, and what another language has to do in its place must not depend on that.
        for size in ((width, part.height), (width, height)):
            part = part.resize(size, Image.Resampling.BILINEAR)
        found.append(np.asarray(part, np.uint8).reshape(height, width, -1))
    return found[0] if len(found) == 1 else np.concatenate(found, -1)
