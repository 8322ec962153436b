"""The image files that a table names."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.cells import read_single
from graft.recipes.data.tables.columns import TableRow
from graft.zoo.contents import Packed
from graft.zoo.errors import DataError
from graft.zoo.vision import IMAGE_SUFFIXES

__all__ = ["ImagePaths"]


class ImagePaths:
    """Finds the files that the rows of a table name, relative to it, in whatever way people write
    paths.
    """

    def __init__(self, table: Path, tally: Tally):
        self.table, self.tally = table, tally
        self._first: DataError | None = None
        self._missing = 0

    def find(self, row: TableRow, column: str) -> tuple[Path | Packed, str]:
        """(the image in a row, what it is called); a file that is not there is kept for
        `check`.
        """
        if isinstance(row.get(column), Packed):
            packed = row[column]
            return packed, f"{packed.file.name} {packed.name}"
        name = read_single(row, column, "path")
        for how, spelling in _spellings(name):
            place = self.table.parent / spelling
            if _stands_for_a_file(place):
                if how:
                    self.tally.note(how, f"{row.place}, '{name}'")
                return place, spelling
        self._first = self._first or row.error(self._why(name))
        self._missing += 1
        return self.table.parent / name, name

    def check(self) -> None:
        """Refuse the table if files are missing.

        Raises:
            DataError: names the first one and counts the others.
        """
        if self._missing:
            more = self._missing - 1
            raise DataError(
                f"{self._first}{f' (and {more:,} more rows without a file)' if more else ''}"
            )

    def _why(self, name: str) -> str:
        place = self.table.parent / name
        if re.match(r"\w+://", name):
            return f"'{name}' is an address of the web: download the files, and name them"
        if os.path.isdir(place):
            return f"'{place}' is a folder, expected a file in each row"
        hint = ""
        if os.path.isfile(name):
            hint = (
                ": there is one from the current folder, so move the table, or write paths from "
                "where it is"
            )
        elif os.path.isdir(place.parent):
            wanted = place.name.lower()
            near = sorted(
                f.name for f in place.parent.iterdir() if wanted in (f.name.lower(), f.stem.lower())
            )
            hint = f": is '{near[0]}' meant?" if near else ""
        return f"there is no file '{place}' (paths are relative to the table){hint}"


def _stands_for_a_file(place: Path) -> bool:
    """Whether something is there that is to be opened.

    A pipe, a link to nothing or a folder that is called like an image cannot be, as whoever decodes
    it says. False too for what is no path at all.
    """
    return os.path.lexists(place) and (
        place.suffix.lower() in IMAGE_SUFFIXES or not os.path.isdir(place)
    )


def _spellings(name: str) -> Iterator[tuple[str, str]]:
    """(how it is read, path) for all that a cell may mean, the path as it stands first."""
    yield "", name
    slashes = name.replace("\\", "/")
    if slashes != name:
        yield "backslashes in paths are read as slashes", slashes
    if slashes.startswith("~"):
        yield "~ in paths is read as the home folder", os.path.expanduser(slashes)
    if slashes.lower().startswith("file://"):
        yield "file:// in front of paths is left away", unquote(slashes[len("file://") :])
    if "%" in slashes:
        yield "percent signs in paths are read as in addresses of the web", unquote(slashes)
    for form in ("NFC", "NFD"):
        if unicodedata.normalize(form, slashes) != slashes:
            yield "paths are read in Unicode's other form", unicodedata.normalize(form, slashes)
