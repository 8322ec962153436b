"""`--image-size`, as every command and recipe for images takes it."""

from typing import Annotated

from tyro.conf import arg

__all__ = ["ImageSizeOption"]

ImageSizeOption = Annotated[int | str | None, arg(metavar="PIXELS|HEIGHTxWIDTH")]
"""What `ImageShape.of` reads, who refuses in one line what is no size."""
