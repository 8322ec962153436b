"""Which form of boxes or masks lies at a place, and what is in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graft.recipes.data.folders.image_files import visible_folders
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import Source
from graft.recipes.data.scenes import rendered
from graft.recipes.data.scenes.entries import Faults, Found
from graft.recipes.data.scenes.gathering import gather
from graft.recipes.data.scenes.readers import box_tables, coco, coco_files, mask_folders, voc, yolo
from graft.recipes.data.specs import nothing_there
from graft.zoo.errors import DataError

__all__ = ["load"]

MOST_WRAPPERS = 2
"""Folders that may stand around a source, as archives unpack to them."""


@dataclass(frozen=True)
class _Form:
    """A form of data.

    Attributes:
        name: what people call it.
        expected: what is looked for.
        find: a place -> what `read` takes; None: the place is of another form.
        read: what `find` gave -> what is in it.
    """

    name: str
    expected: str
    find: Callable[[Path], Any]
    read: Callable[[Any, Faults, Tally], Found]


FORMS = (
    _Form("COCO", "annotations/instances_*.json", coco_files.find, coco.read),
    _Form("Pascal VOC", "Annotations/*.xml", voc.find, voc.read),
    _Form("YOLO", "images/ and labels/*.txt", yolo.find, yolo.read),
    _Form("a table", "path,label,x0,y0,x1,y1", box_tables.find, box_tables.read),
    _Form("masks", "images/ and masks/", mask_folders.find, mask_folders.read),
)
"""What is tried, in this order."""


def load(
    place: str | Path, need: Literal["boxes", "mask"] | None = None, option: str = "--data"
) -> Source:
    """The scenes at a place, whatever form they have; images are not decoded, masks are looked at.

    Args:
        place: a folder or a file, see the modules of the forms; or the built-in `shapes`.
        need: what is asked for, where a place holds both in forms of their own; None: whatever is
            found first.
        option: what messages call `place`.

    Returns:
        The source, as it was split; see `splits.complete`.

    Raises:
        DataError: nothing there, of no known form, or something in it that cannot be right: says
            the first and counts the others.
        UnknownName: nothing there, and it does not look like a path.
    """
    spec, path = str(place), Path(place).expanduser()
    if not path.exists():
        if spec == rendered.NAME:
            return rendered.load()
        raise nothing_there(spec, (rendered.NAME,), option)
    others = []
    for inner in _with_wrapped(path):
        for form in FORMS:
            layout = form.find(inner)
            if layout is None:
                continue
            faults, tally = Faults(), Tally()
            found = form.read(layout, faults, tally)
            if need is None or found.has(need) or not found.entries:
                return gather(spec, found, faults, tally)
            others.append(form.name)
    expected = "; ".join(f"{form.name} ({form.expected})" for form in FORMS)
    wanted = {"boxes": "no boxes", "mask": "no masks"}.get(need or "", "no boxes and no masks")
    beside = f" (found {' and '.join(others)} without)" if others else ""
    raise DataError(f"'{spec}' holds {wanted}{beside}: looked for {expected}")


def _with_wrapped(path: Path) -> list[Path]:
    """A path, and the folder in it that is all it holds."""
    found = [path]
    while len(found) <= MOST_WRAPPERS and found[-1].is_dir():
        inner = visible_folders(found[-1])
        if len(inner) != 1:
            break
        found.append(inner[0])
    return found
