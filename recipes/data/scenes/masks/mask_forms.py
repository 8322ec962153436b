"""How masks in files are read: values of pixels, colours, or numbers of instances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graft.recipes.data.scenes.masks.mask_files import NOT_KNOWN, MaskForm
from graft.recipes.data.scenes.masks.outlines import Outlines, Segmentation, runs_of
from graft.zoo.contents import check_plain_file
from graft.zoo.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "WIDE",
    "ClassForm",
    "FileForm",
    "InstanceForm",
    "colour_shown",
    "mask_colours",
    "mask_values",
    "opened_mask",
    "packed_colours",
    "unknown_value",
]

WIDE = ("I;16", "I;16L", "I;16B", "I;16N", "I")
"""Modes of more than 8 bits."""
NARROW = ("1", "L", "P", "LA", "PA")
"""Modes whose first channel is a value."""


def opened_mask(path: Path) -> "Image.Image":
    """The image of a mask, upright.

    Raises:
        DataError: it cannot be read, or is of a form that keeps no values.
    """
    from PIL import Image, ImageOps

    try:
        check_plain_file(path)
        with Image.open(path) as image:
            image.load()
            form = image.format
            upright = ImageOps.exif_transpose(image)
    except Exception as error:  # damaged files make Pillow's readers raise anything
        raise DataError(f"the mask '{path}' cannot be read ({error})") from error
    if form in ("JPEG", "MPO"):
        raise DataError(
            f"the mask '{path}' is a JPEG, which changes the values of classes: save masks as PNG"
        )
    return upright


def mask_values(image: "Image.Image") -> np.ndarray | None:
    """int32 `(h, w)`: the value of each pixel; None: they are colours."""
    if image.mode in WIDE or image.mode in NARROW:
        values = np.asarray(image)
        return (values[..., 0] if values.ndim > 2 else values).astype(np.int32)
    colours = mask_colours(image)
    is_grey = (colours == colours[..., :1]).all()
    return colours[..., 0].astype(np.int32) if is_grey else None


def mask_colours(image: "Image.Image") -> np.ndarray:
    """uint8 `(h, w, 3)`: the colour of each pixel."""
    return np.asarray(image.convert("RGB"))


def packed_colours(colours: np.ndarray) -> np.ndarray:
    """int32: each colour as one number."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


class FileForm(MaskForm, Protocol):
    """A form of masks in files.

    Attributes:
        has_objects: whether values tell objects of one class apart.
    """

    @property
    def has_objects(self) -> bool: ...

    def present(self, path: Path, values: Sequence[int]) -> tuple[str, ...]:
        """The labels that have a pixel in a mask that holds these values.

        Raises:
            DataError: one of them is no class.
        """


@dataclass(frozen=True)
class ClassForm:
    """Each value, or each colour, is a class.

    Attributes:
        labels: what classes are called.
        numbers: value, or colour as `packed_colours` has it -> class, or `NOT_KNOWN`.
        by_colour: whether they are colours.
    """

    labels: tuple[str, ...]
    numbers: Mapping[int, int] = field(hash=False)
    by_colour: bool = False

    @property
    def has_objects(self) -> bool:
        """No."""
        return False

    def classes(self, place: Path | Outlines) -> np.ndarray:
        """int16 `(h, w)`: the class of each pixel; see `MaskForm`."""
        path, image = _opened(place)
        values = packed_colours(mask_colours(image)) if self.by_colour else mask_values(image)
        if values is None:
            raise DataError(f"the mask '{path}' is coloured, expected a value for each class")
        there, places = np.unique(values, return_inverse=True)
        classes = self._numbers_of(path, there.tolist())
        return np.array(classes, np.int16)[places.reshape(values.shape)]

    def segmentations(self, place: Path | Outlines) -> list[Segmentation] | None:
        """None: objects of one class cannot be told apart."""
        return None

    def present(self, path: Path, values: Sequence[int]) -> tuple[str, ...]:
        """See `FileForm`."""
        there = {*self._numbers_of(path, values)} - {NOT_KNOWN}
        return tuple(self.labels[number] for number in sorted(there))

    def _numbers_of(self, path: Path, values: Sequence[int]) -> list[int]:
        strange = next((value for value in values if value not in self.numbers), None)
        if strange is not None:
            raise unknown_value(path, colour_shown(strange) if self.by_colour else str(strange))
        return [self.numbers[value] for value in values]


@dataclass(frozen=True)
class InstanceForm:
    """Each value above 0 is an object of one class.

    Attributes:
        labels: of what is no object, and of the objects.
    """

    labels: tuple[str, str]

    @property
    def has_objects(self) -> bool:
        """Yes."""
        return True

    def classes(self, place: Path | Outlines) -> np.ndarray:
        """int16 `(h, w)`: the class of each pixel; see `MaskForm`."""
        return (self.instances(place) > 0).astype(np.int16)

    def instances(self, place: Path | Outlines) -> np.ndarray:
        """int32 `(h, w)`: the number of the object that each pixel is of, 0 without one.

        Raises:
            DataError: the file cannot be read, or is coloured.
        """
        path, image = _opened(place)
        values = mask_values(image)
        if values is None:
            raise DataError(f"the mask '{path}' is coloured, expected a number for each object")
        return values

    def segmentations(self, place: Path | Outlines) -> list[Segmentation] | None:
        """The runs of pixels of each object, by its number; see `MaskForm`."""
        numbers = self.instances(place)
        return [runs_of(numbers == number) for number in np.unique(numbers).tolist() if number]

    def present(self, path: Path, values: Sequence[int]) -> tuple[str, ...]:
        """See `FileForm`."""
        if min(values) < 0:
            raise unknown_value(path, str(min(values)))
        there = (min(values) == 0, max(values) > 0)
        return tuple(label for label, is_there in zip(self.labels, there, strict=True) if is_there)


def _opened(place: Path | Outlines) -> "tuple[Path, Image.Image]":
    if not isinstance(place, Path):
        raise DataError("outlines are no file of a mask")
    return place, opened_mask(place)


def unknown_value(path: Path, value: str) -> DataError:
    """What to raise for a mask with a value that is no class."""
    return DataError(
        f"the mask '{path}' holds {value}, which is no class: name it, or, if its edges are "
        "blurred (anti-aliased, or resized with averages), make it anew with nearest values"
    )


def colour_shown(colour: int) -> str:
    """A packed colour as a person writes it."""
    return f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"
