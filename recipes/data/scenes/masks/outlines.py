"""Masks as COCO writes them: the outline of each object, polygons or runs of pixels (RLE)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from graft.zoo.errors import DataError

__all__ = [
    "LARGEST_COORDINATE",
    "Outline",
    "OutlineForm",
    "Outlines",
    "Segmentation",
    "outline_fault",
    "pixels_of",
    "runs_of",
]

Segmentation: TypeAlias = Sequence[Sequence[float]] | Mapping[str, Any]
"""Polygons (x, y, x, y, ...), or an object with size and counts."""
LARGEST_COORDINATE = 1e9
"""Of what is a place in an image; NaN is none, either."""
LEAST_NUMBERS = 6
"""Of a polygon: three points."""


@dataclass(frozen=True)
class Outline:
    """The outline of one object: its label, and where it is, for messages."""

    label: str
    segmentation: Segmentation = field(hash=False)
    where: str


@dataclass(frozen=True)
class Outlines:
    """The outlines of all objects of an image, and its height and width."""

    outlines: tuple[Outline, ...]
    size: tuple[int, int]

    @property
    def digest(self) -> str:
        """A hash of all of them."""
        text = json.dumps([(one.label, one.segmentation) for one in self.outlines])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class OutlineForm:
    """Outlines are filled, the largest first, so that what lies before something stays seen.

    Attributes:
        labels: of which the first is the background.
    """

    labels: tuple[str, ...]

    def classes(self, place: Path | Outlines) -> np.ndarray:
        """int16 `(h, w)`: the class of each pixel; see `MaskForm`."""
        place = _outlines(place)
        made = np.zeros(place.size, np.int16)
        numbers = {label: number for number, label in enumerate(self.labels)}
        filled = [(numbers[one.label], pixels_of(one, place.size)) for one in place.outlines]
        for number, pixels in sorted(filled, key=lambda pair: -int(pair[1].sum())):
            made[pixels] = number
        return made

    def segmentations(self, place: Path | Outlines) -> list[Segmentation] | None:
        """The outline of each object, as it is written; see `MaskForm`."""
        return [one.segmentation for one in _outlines(place).outlines]


def _outlines(place: Path | Outlines) -> Outlines:
    if isinstance(place, Path):
        raise DataError(f"'{place}' is no list of outlines")
    return place


def runs_of(pixels: np.ndarray) -> dict[str, Any]:
    """The RLE of pixels, bool `(h, w)`."""
    from pycocotools import mask

    runs = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    return {"size": list(pixels.shape), "counts": runs["counts"].decode("ascii")}


def pixels_of(outline: Outline, size: tuple[int, int]) -> np.ndarray:
    """Which pixels of an image of this height and width an outline covers, bool `(h, w)`.

    Raises:
        DataError: it is no outline of such an image.
    """
    from pycocotools import mask

    fault = outline_fault(outline.segmentation, size)
    if fault:
        raise DataError(f"{outline.where}: {fault}")
    try:
        runs = outline.segmentation
        if not isinstance(runs, Mapping):
            runs = mask.merge(mask.frPyObjects([list(points) for points in runs], *size))
        elif isinstance(runs["counts"], list):
            runs = mask.frPyObjects(dict(runs), *size)
        return mask.decode(runs).astype(bool)
    except (ValueError, TypeError) as error:
        raise DataError(f"{outline.where}: its outline cannot be filled ({error})") from error


def outline_fault(segmentation: object, size: tuple[int, int]) -> str:
    """What is wrong with an outline in an image of this height and width, in words; "" without
    a fault.
    """
    if isinstance(segmentation, Mapping):
        if list(segmentation.get("size", ())) != [*size]:
            said = segmentation.get("size")
            return f"its RLE is of the height and width {said}, the image has {[*size]}"
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            whole = all(isinstance(count, int) and count >= 0 for count in counts)
            fits = whole and sum(counts) == size[0] * size[1]
            return "" if fits else "the counts of its RLE do not add up to the pixels of the image"
        return "" if isinstance(counts, str) and counts else "its RLE has no counts"
    if not isinstance(segmentation, Sequence) or not segmentation:
        return "its segmentation is neither polygons nor an RLE"
    for points in segmentation:
        is_list = isinstance(points, Sequence) and not isinstance(points, str)
        if not is_list or not all(map(_is_place, points)):
            return "a polygon of it is no list of numbers"
        if len(points) < LEAST_NUMBERS or len(points) % 2:
            return f"a polygon of it has {len(points)} numbers, expected x, y of 3 points or more"
    return ""


def _is_place(value: object) -> bool:
    return isinstance(value, int | float) and -LARGEST_COORDINATE < value < LARGEST_COORDINATE
