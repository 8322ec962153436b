"""How an image becomes the rectangle that a model takes: stretched, cropped or padded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from graft.zoo.errors import UnknownName

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["FITS", "RESIZING", "STRETCH", "Fit", "check_fit", "draft_size", "fit_image"]

Fit = Literal["stretch", "crop", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
STRETCH: Fit = "stretch"
"""What is meant where nobody says anything, as in files of an older Graft."""
RESIZING: Mapping[Fit, str] = {
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
"""In words, for manifests: other languages have to do the same."""
GREY = 128
"""What lies around a padded image: the middle of what a pixel may be."""


def check_fit(fit: str) -> None:
    """Refuse what is no fit: the command line does so by itself, Python does not.

    Raises:
        UnknownName: says the nearest one.
    """
    if fit not in FITS:
        raise UnknownName("fit", str(fit), FITS)


def fit_image(image: "Image.Image", side: int, fit: Fit) -> np.ndarray:
    """Resize an RGB image as `fit` says: bilinear with antialiasing.

    Args:
        image: of any size.
        side: height and width of the result.
        fit: "stretch" changes the proportions, "crop" cuts off what the centre square does not
            hold, "pad" keeps all of it and fills with grey. Of a square image all are the same.

    Returns:
        Pixels, uint8 `(side, side, 3)`.
    """
    if fit == "crop":
        return _stretched(_centre_square(image), side, side)
    if fit == "pad":
        return _padded(image, side)
    return _stretched(image, side, side)


def draft_size(whole: tuple[int, int], side: int, fit: Fit) -> tuple[int, int]:
    """(width, height) below which a JPEG of the size `whole` must not be decoded: twice what it
    becomes, on each side that decides how much it is scaled. Padding asks only the longer one.
    """
    width, height = whole
    if fit != "pad":
        return 2 * side, 2 * side
    return (2 * side, 1) if width >= height else (1, 2 * side)


def _centre_square(image: "Image.Image") -> "Image.Image":
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    return image.crop((left, top, left + side, top + side))


def _padded(image: "Image.Image", side: int) -> np.ndarray:
    longer = max(image.size)
    width, height = (max(1, (2 * length * side + longer) // (2 * longer)) for length in image.size)
    padded = np.full((side, side, 3), GREY, np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    padded[top : top + height, left : left + width] = _stretched(image, width, height)
    return padded


def _stretched(image: "Image.Image", width: int, height: int) -> np.ndarray:
    from PIL import Image

    # Across, then down, each rounded to bytes: newer releases of Pillow choose the order by the
    # image's shape, and what another language has to do in its place must not depend on that.
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8)
