"""What readers find, before it is checked: an entry for each image, with the objects on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from graft.recipes.data.scenes.masks.mask_files import MaskFile
from graft.zoo.errors import DataError

__all__ = ["DrawnObject", "Faults", "Found", "ImageEntry"]


@dataclass(frozen=True)
class DrawnObject:
    """One box as it is written.

    Attributes:
        label: what it shows.
        corners: x0, y0, x1, y1.
        where: which one it is in its file: "object 693", "line 3".
        is_crowd: whether it is a region that figures leave out.
    """

    label: str
    corners: tuple[float, float, float, float]
    where: str
    is_crowd: bool = False


@dataclass(frozen=True)
class ImageEntry:
    """One image as a source names it.

    Attributes:
        image: its file.
        name: what messages call it.
        split: it belongs to.
        where: the file that says what is on it, for messages.
        objects: the boxes; None where nothing is said of boxes.
        mask: None without one.
        declared: height and width that `where` says; None: nothing.
        in_shares: whether corners are shares of the width and the height, not pixels.
    """

    image: Path
    name: str
    split: str
    where: str
    objects: tuple[DrawnObject, ...] | None = None
    mask: MaskFile | None = None
    declared: tuple[int, int] | None = None
    in_shares: bool = False


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Attributes:
        entries: of all images.
        listed: the names of classes, where a file lists them.
        named_in: this file, for messages.
    """

    entries: tuple[ImageEntry, ...]
    listed: tuple[str, ...] = ()
    named_in: str = ""

    def has(self, answer: str) -> bool:
        """Whether any entry has boxes ("boxes"), or a mask ("mask")."""
        found = ({"boxes": entry.objects, "mask": entry.mask} for entry in self.entries)
        return any(answers[answer] is not None for answers in found)

    def __iter__(self) -> Iterator[ImageEntry]:
        return iter(self.entries)


@dataclass
class Faults:
    """What cannot be right in a source: the first is said, the others are counted."""

    first: str = ""
    count: int = field(default=0)

    def add(self, what: object) -> None:
        """Note one fault."""
        self.first = self.first or str(what)
        self.count += 1

    def check(self) -> None:
        """Refuse the source if there are any.

        Raises:
            DataError: says the first one and how many more there are.
        """
        if self.count:
            more = self.count - 1
            plural = "" if more == 1 else "s"
            raise DataError(self.first + (f" (and {more:,} more fault{plural})" if more else ""))
