"""Rows by the names of their columns: what a column may be called, and which one is missing."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.recipes.data.reading import Tally
from graft.zoo.errors import DataError

__all__ = ["ROLES", "TableRow", "match_columns", "missing_column"]

ROLES = {
    "path": "path file filename filepath image imagepath img picture photo",
    "label": "label labels class classname category target tag y intent sentiment",
    "text": "text sentence review content message comment body question utterance",
    "tags": "tags nertags ner entities slots bio labels",
}
"""What a column may be called, with blanks between; `--NAME-column` is the option that says it."""

UNTYPED = (".csv", ".tsv")
"""Tables whose cells are all texts."""


class TableRow(dict[str, Any]):
    """The cells of a row by the names of their columns.

    Attributes:
        path: the table.
        place: where in it the row stands, for messages: "line 7", with the number of the line that
            it ends in, from 1; "row 7" or "key 0007" where there are no lines.
    """

    def __init__(self, path: Path, place: int | str, cells: Mapping[str, Any]):
        super().__init__(cells)
        self.path = path
        self.place = f"line {place}" if isinstance(place, int) else place

    @property
    def is_typed(self) -> bool:
        """Whether it is of a file in which values have types, as JSON lines."""
        return self.path.suffix.lower() not in UNTYPED

    def error(self, why: str) -> DataError:
        """The error that names this row, and says `why`."""
        return DataError(f"'{self.path}', {self.place}: {why}")


def match_columns(names: Sequence[str], asked: Iterable[str], tally: Tally) -> dict[str, str]:
    """{the name of a column: the one that it is asked for by}, where they differ in case or in
    blanks alone.
    """
    found = {}
    for column in (*asked, "split"):
        near = [name for name in names if name.strip().casefold() == column.strip().casefold()]
        if column not in names and len(near) == 1:
            found[near[0]] = column
            tally.note(f"the column '{near[0]}' is taken for '{column}'", "line 1")
    return found


def missing_column(row: TableRow, column: str, role: str = "") -> DataError:
    """The error that says which columns there are instead of `column`.

    Args:
        row: in which it is missing.
        column: what was asked for.
        role: which of ROLES it plays; the message names the option for it.
    """
    names = [str(name) for name in row]
    where = f"'{row.path}', {row.place}," if row.is_typed else f"'{row.path}'"
    text = f"{where} has no column '{column}': it has {', '.join(names)}"
    if role:
        known = ROLES[role].split()
        alike = [name for name in names if re.sub(r"[^a-z]", "", name.lower()) in known]
        near = alike or difflib.get_close_matches(column, names, n=1)
        text += f": --{role}-column {near[0] if near else 'NAME'} says what it is called"
        text += "" if near or row.is_typed else " (line 1 of a table names its columns)"
    return DataError(text)
