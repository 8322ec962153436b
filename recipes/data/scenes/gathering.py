"""From what readers found to a source: every box and every size is checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graft.recipes.data.image_sizes import UprightSize, upright_sizes
from graft.recipes.data.labels import sort_labels
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLITS, Source
from graft.recipes.data.scenes.entries import DrawnObject, Faults, Found, ImageEntry
from graft.recipes.data.scenes.groups import with_groups
from graft.recipes.data.scenes.scene import Boxes, Scene
from graft.zoo.errors import DataError
from graft.zoo.terminal import warn

__all__ = ["gather"]

ROUNDING = 1e-6
"""The share of a side by which a corner may lie outside because its number was cut when it was
written: it is moved to the edge without a word.
"""
CLIPPED_MARGINS = "margins of boxes that lie outside of the image"


def gather(spec: str, found: Found, faults: Faults, tally: Tally) -> Source:
    """The source that `spec` names, of what a reader `found`.

    Args:
        spec: what it was called.
        found: the entries.
        faults: that the reader saw already.
        tally: counts what is left out.

    Raises:
        DataError: something cannot be right, or there is no box at all; says the first fault.
    """
    _check_repeats(found.entries, faults)
    faults.check()
    sizes = upright_sizes([entry.image for entry in found])
    splits: dict[str, list[Scene]] = {}
    for entry, size in zip(found, sizes, strict=True):
        if isinstance(size, DataError):
            faults.add(size)
            continue
        _check_sizes(entry, size, faults)
        boxes = None
        if entry.objects is not None:
            boxes = _BoxChecks(entry, size, faults, tally).boxes(entry.objects)
        scene = Scene(entry.image, entry.name, (size.height, size.width), boxes, entry.mask)
        splits.setdefault(entry.split, []).append(scene)
    faults.check()
    everything = [scene for scenes in splits.values() for scene in scenes]
    if not everything:
        raise DataError(f"'{spec}' names no image{tally.instead}: expected one or more")
    count = sum(len(scene.boxes) for scene in everything if scene.boxes is not None)
    if not count and not any(scene.mask for scene in everything):
        raise DataError(
            f"'{spec}' holds no box in {len(everything):,} images{tally.instead}: nothing can be "
            "learned from it; check that the annotations belong to these images"
        )
    if "train" in splits:
        splits["train"] = with_groups(splits["train"])
    labels = _labels(everything)
    _warn_of_unused(found, everything)
    tally.warn(spec, len(everything) + count)
    ordered = {split: tuple(splits[split]) for split in SPLITS if split in splits}
    return Source(spec, labels, ordered, tally.left_out)


def _check_repeats(entries: Sequence[ImageEntry], faults: Faults) -> None:
    first: dict[str, ImageEntry] = {}
    for entry in entries:
        before = first.setdefault(str(entry.image), entry)
        if before is not entry:
            both = before.where == entry.where
            other = "" if both else f" and in {before.where}"
            faults.add(
                f"the image '{entry.name}' stands in {entry.where}{' twice' if both else other}: "
                "keep one entry for each image"
            )


def _check_sizes(entry: ImageEntry, size: UprightSize, faults: Faults) -> None:
    """Whether a mask, or what is said of an image, has its size."""
    real = (size.height, size.width)
    as_stored = (size.width, size.height) if size.is_turned else real
    if entry.mask is not None and entry.mask.size != real:
        faults.add(
            f"the mask {entry.where} has {_shown(entry.mask.size)} pixels, its image "
            f"'{entry.name}' {_shown(real)}: give each image a mask of its own size"
            f"{_turned_hint(entry.mask.size, as_stored, real)}"
        )
    if entry.declared is not None and entry.declared != real:
        faults.add(
            f"{entry.where} says that '{entry.name}' has {_shown(entry.declared)} pixels, it has "
            f"{_shown(real)}: draw anew, or restore the image that was drawn on"
            f"{_turned_hint(entry.declared, as_stored, real)}"
        )


def _turned_hint(said: tuple[int, int], stored: tuple[int, int], real: tuple[int, int]) -> str:
    if said != stored or stored == real:
        return ""
    return " (EXIF data turn it; it was drawn on as it is stored: save it without them)"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


@dataclass(frozen=True)
class _BoxChecks:
    """Checks the boxes of one image."""

    entry: ImageEntry
    size: UprightSize
    faults: Faults
    tally: Tally

    def boxes(self, objects: Sequence[DrawnObject]) -> Boxes:
        """Those that can be right, cut at the edges of the image; of others a fault is noted."""
        kept = [(one, corners) for one in objects if (corners := self._corners(one))]
        return Boxes.of(
            [one.label for one, _ in kept],
            [corners for _, corners in kept],
            [one.is_crowd for one, _ in kept],
        )

    def _corners(self, one: DrawnObject) -> tuple[float, ...] | None:
        width, height = self.size.width, self.size.height
        sides = (width, height, width, height)
        corners = one.corners
        if self.entry.in_shares:
            corners = tuple(c * s for c, s in zip(corners, sides, strict=True))
        fault = self._fault(corners)
        if fault:
            self.faults.add(f"{self._where(one)} {fault}")
            return None
        clipped = tuple(min(max(c, 0.0), s) for c, s in zip(corners, sides, strict=True))
        moved = (abs(a - b) > ROUNDING * s for a, b, s in zip(corners, clipped, sides, strict=True))
        if any(moved):
            self.tally.leave(CLIPPED_MARGINS, f"{self.entry.name}, {one.where}")
        return clipped

    def _fault(self, corners: Sequence[float]) -> str:
        if not all(map(math.isfinite, corners)):
            return "has a corner that is no finite number"
        x0, y0, x1, y1 = corners
        said = f"({', '.join(f'{value:g}' for value in corners)})"
        if x1 < x0 or y1 < y0:
            return f"has its corners reversed {said}: expected x0 < x1 and y0 < y1"
        narrow = np.float32(x1) == np.float32(x0)  # as it would be kept
        if narrow or np.float32(y1) == np.float32(y0):
            which = "width" if narrow else "height"
            return f"has no {which} {said}: draw it anew, or remove it"
        if x1 <= 0 or y1 <= 0 or x0 >= self.size.width or y0 >= self.size.height:
            real = _shown((self.size.height, self.size.width))
            return f"lies outside of its image {said}, which has {real} pixels: remove it"
        return ""

    def _where(self, one: DrawnObject) -> str:
        return f"{self.entry.where}, {one.where}: the box of '{one.label}' on '{self.entry.name}'"


def _labels(scenes: Sequence[Scene]) -> tuple[str, ...]:
    """Every label that occurs, sorted; of masks alone in the order of their classes."""
    there = {label for scene in scenes for label in scene.labels}
    if any(scene.boxes is not None for scene in scenes):
        return tuple(sort_labels(there))
    masks = next(scene.mask for scene in scenes if scene.mask is not None)
    return tuple(label for label in masks.labels if label in there)


def _warn_of_unused(found: Found, scenes: Sequence[Scene]) -> None:
    """Warn of classes that are listed, and of which there is no box, or no pixel."""
    there = {label for scene in scenes for label in scene.labels}
    lacking = [label for label in found.listed if label not in there]
    if lacking:
        what = "box" if any(scene.boxes is not None for scene in scenes) else "pixel"
        more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        warn(
            f"no image has a {what} of the class '{lacking[0]}'{more}, which {found.named_in} "
            "lists: it cannot be learned"
        )
