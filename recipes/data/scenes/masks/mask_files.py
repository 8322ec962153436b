"""Where the mask of an image is, and how it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from graft.recipes.data.scenes.masks.outlines import Outlines, Segmentation

__all__ = ["BACKGROUND", "NOT_KNOWN", "MaskFile", "MaskForm", "nearest"]

BACKGROUND = "background"
"""What a pixel shows that no object covers."""
NOT_KNOWN = -1
"""The class of a pixel of which nobody says what it shows."""


class MaskForm(Protocol):
    """How the masks of a source are read.

    Attributes:
        labels: what each class is called.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...
    def classes(self, place: Path | Outlines) -> np.ndarray:
        """int16 `(h, w)`: the class of each pixel, an index of `labels`, or `NOT_KNOWN`.

        Raises:
            DataError: the file cannot be read, or a value in it is no class.
        """

    def segmentations(self, place: Path | Outlines) -> list[Segmentation] | None:
        """The outline of each object, in the order of its boxes; None where objects of one class
        cannot be told apart.

        Raises:
            DataError: the file cannot be read.
        """


@dataclass(frozen=True)
class MaskFile:
    """The mask of one image. It holds no pixels.

    Attributes:
        place: a file, or the outlines of objects.
        form: how it is read, shared by all masks of a source.
        size: its height and width in pixels.
        present: the labels that have a pixel in it.
        digest: a hash of its content.
    """

    place: Path | Outlines
    form: MaskForm
    size: tuple[int, int]
    present: tuple[str, ...]
    digest: str

    @property
    def labels(self) -> tuple[str, ...]:
        """What each class is called."""
        return self.form.labels

    def segmentations(self) -> list[Segmentation] | None:
        """The outline of each object; see `MaskForm`."""
        return self.form.segmentations(self.place)

    def read(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """The class of each pixel.

        Args:
            size: height and width of the result; None: those of the mask.

        Returns:
            int16 `(h, w)`: an index of `labels`, or `NOT_KNOWN`. Where it is resized, each pixel
            is that of the nearest: classes are never averaged.

        Raises:
            DataError: the file cannot be read, or a value in it is no class.
        """
        classes = self.form.classes(self.place)
        return classes if size is None else nearest(classes, size)


def nearest(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`pixels` `(h, w)` at another height and width, each the one nearest to its centre."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * there / wanted).astype(int)
        for wanted, there in zip(size, pixels.shape, strict=True)
    )
    return pixels[rows[:, None], columns]
