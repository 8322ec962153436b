"""A scene: one image and what is drawn on it, boxes or a mask. No tensors."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from graft.recipes.data.records import Answer
from graft.recipes.data.scenes.masks.mask_files import MaskFile
from graft.zoo.contents import Packed, content_digest

__all__ = ["Boxes", "Scene"]


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of one image; it may have none.

    Attributes:
        labels: of each box.
        corners: float32 `(n, 4)`: x0, y0, x1, y1 in pixels of the image as it is shown upright,
            from its upper left corner; x0 < x1 and y0 < y1, within the image.
        crowd: bool `(n,)`: regions that are neither hits nor misses where figures are measured.
    """

    labels: tuple[str, ...]
    corners: np.ndarray
    crowd: np.ndarray

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        corners: Sequence[Sequence[float]],
        crowd: Sequence[bool],
    ) -> "Boxes":
        """Boxes of lists, which may be empty."""
        rows = np.array(corners, np.float32).reshape(-1, 4)
        return cls(tuple(labels), rows, np.array(crowd, bool))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def text(self) -> str:
        """All of them, as text."""
        rows = zip(self.labels, self.corners.tolist(), self.crowd.tolist(), strict=True)
        return "\n".join(
            f"{label}\0{' '.join(f'{value:.9g}' for value in corners)}{' crowd' * is_crowd}"
            for label, corners, is_crowd in rows
        )


@dataclass(frozen=True)
class Scene:
    """One image and what is drawn on it.

    Attributes:
        image: the file, or the place in one.
        name: what messages and the report call it.
        size: height and width in pixels, as it is shown upright.
        boxes: None where it is not known which there are.
        mask: None where there is none.
        group: what splits are stratified by: see `groups.with_groups`.
    """

    image: Path | Packed
    name: str
    size: tuple[int, int]
    boxes: Boxes | None = None
    mask: MaskFile | None = None
    group: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of its boxes, each once; without boxes, those that have a pixel in its mask."""
        if self.boxes is not None:
            return tuple(dict.fromkeys(self.boxes.labels))
        return () if self.mask is None else self.mask.present

    @property
    def answers(self) -> dict[str, Answer]:
        """Its boxes and its mask, if it has them."""
        found = {"boxes": self.boxes, "mask": self.mask}
        return {name: answer for name, answer in found.items() if answer is not None}

    @property
    def target(self) -> str:
        """All that is to be learned from it, as text."""
        boxes = "" if self.boxes is None else self.boxes.text
        return boxes if self.mask is None else f"{boxes}\0{self.mask.digest}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The same, alone."""
        return (self.target,)

    @property
    def shown(self) -> tuple[str, ...]:
        """How many boxes of each label it has, or what its mask shows."""
        if self.boxes is None:
            return self.labels
        return tuple(f"{count} {label}" for label, count in Counter(self.boxes.labels).items())

    @property
    def label_groups(self) -> dict[str, Sequence[str]]:
        """Its labels."""
        return {"": self.labels}

    @cached_property
    def digest(self) -> str:
        """A hash of the image's content."""
        return content_digest(self.image)
