"""Pictures: the one way in which Graft turns an image into pixels, for training and for prediction alike."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DECODE", "IMAGE_SUFFIXES", "decode"]

DECODE = {
    "library": "Pillow",
    "color_space": "RGB",
    "exif_orientation": "applied",
    "transparency": "over white",
    "large_jpeg": "decoded at 1/2, 1/4 or 1/8, still at least twice the size",
    "resize": "stretch to a square",
    "interpolation": "bilinear, antialiased, across, then down",
    "range": [0, 255],
}
"""What `decode` does, in words; it goes into every manifest, so that other languages can do the same."""

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


def decode(source: "Path | str | bytes | np.ndarray | Image.Image", image_size: int) -> np.ndarray:
    """One picture as uint8 pixels `(image_size, image_size, 3)`, RGB, 0 to 255.

    Takes a file, the bytes of a file, an array `(h, w)`, `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)` of uint8, or a Pillow
    image, of any size and mode: grey, palette, 16 bit, CMYK, with transparency (laid over white), EXIF-rotated; of an
    animation the first frame. The picture is stretched to a square, as MediaPipe's tasks do on a phone.

    Raises:
        DataError: the file is missing, empty, truncated or no picture; the message names it and the cause.
    """
    from PIL import Image, ImageOps

    name = f"'{source}'" if isinstance(source, (str, Path)) else "the picture"
    try:
        if isinstance(source, np.ndarray):
            image = Image.fromarray(source.squeeze(-1) if source.shape[-1:] == (1,) else source)
        elif isinstance(source, bytes):
            image = Image.open(io.BytesIO(source))
        elif isinstance(source, (str, Path)):
            image = Image.open(source)
        else:
            image = source
        # JPEG can be decoded at 1/2, 1/4, 1/8: a phone photo ten times faster, still at twice the size asked for.
        image.draft("RGB", (2 * image_size, 2 * image_size))
        image = _rgb(ImageOps.exif_transpose(image))
        # Across, then down, each rounded to bytes: newer releases of Pillow choose the order by the picture's shape, and
        # what another language has to do in its place must not depend on that.
        for size in ((image_size, image.height), (image_size, image_size)):
            image = image.resize(size, Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, TypeError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a readable picture ({_cause(source, error)})") from error
    return np.asarray(image, np.uint8)


def _rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        # Pillow clips wide pixels when it converts; a 16-bit scan would come out white.
        wide = np.asarray(image, np.float64)
        highest = wide.max(initial=0)
        scale = 255 / 65535 if image.mode.startswith("I;16") or highest > 255 else 1
        scale = 255 if image.mode == "F" and highest <= 1 else scale
        image = Image.fromarray(np.uint8(np.clip(wide * scale, 0, 255)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _cause(source, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            return "no such file"
        if path.is_dir():
            return "it is a folder"
        if path.stat().st_size == 0:
            return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known image format"
    return str(error) or type(error).__name__
