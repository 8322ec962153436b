"""Boxes in a table: a row for each box, with a path, a label and four corners.

    path,label,x0,y0,x1,y1[,split]

Columns may be called otherwise, see `CORNERS` and `records.SPLIT_NAMES`. An image without a box has
a row with an empty label and empty corners. Corners that are all at most 1 are shares.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from graft.recipes.data.reading import Tally
from graft.recipes.data.scenes.entries import DrawnObject, Faults, Found, ImageEntry
from graft.recipes.data.tables.cells import is_blank, read_single, read_split
from graft.recipes.data.tables.columns import ROLES, TableRow
from graft.recipes.data.tables.image_paths import ImagePaths
from graft.recipes.data.tables.rows import read_rows
from graft.zoo.errors import DataError

__all__ = ["BoxTable", "find", "read"]

CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
"""What the columns of corners may be called, with whatever stands between letters."""
SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class BoxTable:
    """A table, and what its columns are called: by "path", "label" and the four corners."""

    path: Path
    columns: Mapping[str, str]


def find(place: Path) -> BoxTable | None:
    """The table at `place`, or the one in it; None: there is none of this form."""
    if place.is_file():
        return _table(place) if place.suffix.lower() in SUFFIXES else None
    files = sorted(file for file in place.glob("*") if file.suffix.lower() in SUFFIXES)
    tables = [table for file in files if (table := _table(file))]
    if len(tables) > 1:
        raise DataError(
            f"'{place}' holds two tables of boxes, '{tables[0].path.name}' and "
            f"'{tables[1].path.name}': give one of them"
        )
    return tables[0] if tables else None


def _table(path: Path) -> BoxTable | None:
    first = next(iter(read_rows(path)), None)
    by_form = {re.sub(r"[^a-z0-9]", "", str(name).lower()): str(name) for name in first or ()}
    columns = next((names for names in CORNERS if all(name in by_form for name in names)), None)
    if columns is None:
        return None
    found = {name: by_form[own] for name, own in zip(CORNERS[0], columns, strict=True)}
    for role in ("path", "label"):
        known = [name for name in ROLES[role].split() if name in by_form]
        if not known:
            return None
        found[role] = by_form[known[0]]
    return BoxTable(path, found)


def read(table: BoxTable, faults: Faults, tally: Tally) -> Found:
    """The entries of all images.

    Args:
        table: that `find` gave.
        faults: collects what cannot be right.
        tally: notes what is read otherwise than it is written.

    Raises:
        DataError: a row cannot be read, or a file is not there.
    """
    columns, images = table.columns, ImagePaths(table.path, tally)
    splits: dict[str, tuple[str, str]] = {}
    objects: dict[str, list[DrawnObject]] = {}
    paths: dict[str, Path] = {}
    for row in read_rows(table.path, tuple(columns.values()), tally, None):
        image, name = images.find(row, columns["path"])
        if not isinstance(image, Path):
            raise row.error("expected the path of an image")
        split = read_split(row, tally)
        before, place = splits.setdefault(name, (split, row.place))
        if before != split:
            faults.add(row.error(f"'{name}' is in the split {split}, and at {place} in {before}"))
        paths[name] = image
        one = _object(row, columns)
        objects.setdefault(name, []).extend([one] if one else [])
    images.check()
    where = f"'{table.path}'"
    entries = [
        ImageEntry(path, name, splits[name][0], where, tuple(objects[name]))
        for name, path in paths.items()
    ]
    return Found(tuple(_in_one_unit(entries, table, faults, tally)))


def _object(row: TableRow, columns: Mapping[str, str]) -> DrawnObject | None:
    """The box of a row; None: its cells say that there is none."""
    names = [columns[corner] for corner in CORNERS[0]]
    if all(is_blank(row.get(name)) for name in (columns["label"], *names)):
        return None
    label = read_single(row, columns["label"], "label")
    values = []
    for name in names:
        text = read_single(row, name)
        try:
            values.append(float(text))
        except ValueError as error:
            raise row.error(f"'{text}' in the column '{name}' is no number") from error
    x0, y0, x1, y1 = values
    return DrawnObject(label, (x0, y0, x1, y1), row.place)


def _in_one_unit(
    entries: list[ImageEntry], table: BoxTable, faults: Faults, tally: Tally
) -> list[ImageEntry]:
    """The entries, with corners in pixels or all in shares."""
    every = [(entry, one) for entry in entries for one in entry.objects or ()]
    small = [(entry, one) for entry, one in every if _may_be_shares(one)]
    if not small:
        return entries
    if len(small) == len(every):
        tally.note("corners that are all at most 1 are read as shares of the sides", "line 1")
        return [replace(entry, in_shares=True) for entry in entries]
    for entry, one in small:
        faults.add(
            f"'{table.path}', {one.where}: the corners on '{entry.name}' look like shares of the "
            "sides, those of other rows are in pixels: write all in one way"
        )
    return entries


def _may_be_shares(one: DrawnObject) -> bool:
    return all(math.isfinite(value) and 0 <= value <= 1 for value in one.corners)
