"""Tar files as WebDataset lays them out: files of one name are one example.

`a/0007.jpg` is the image, `a/0007.cls` its label: a name, or a number. `.txt` holds a label too, or
the text of an example without an image; `.json` holds an object with either, by the names of
columns.
"""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from graft.recipes.data.folders.image_files import image_suffixes, is_hidden
from graft.recipes.data.reading import HIDDEN, Tally
from graft.recipes.data.tables.columns import TableRow
from graft.zoo.contents import Packed
from graft.zoo.errors import DataError

__all__ = ["TAR", "tar_rows"]

TAR = (".tar",)
ANSWERS = ("cls", "txt", "json")
LONGEST_ANSWER = 1024**2
"""Bytes of a file beside an image."""
Place: TypeAlias = tuple[int, int]
"""Where a file begins in the tar, and how many bytes it has."""
LABEL, TEXT = "label", "text"
"""Columns that the whole of a file stands for."""


@dataclass(frozen=True)
class _Members:
    """Reads members of a tar by their places: a `PackedReader`. There may be more tars than files
    that a process may keep open.
    """

    path: Path

    def read(self, place: int, size: int) -> bytes:
        """`size` bytes from `place` on."""
        with self.path.open("rb") as file:
            found = os.pread(file.fileno(), size, place)
        if len(found) != size:
            raise OSError("the file that it lies in is cut off")
        return found


def tar_rows(
    path: Path, columns: Sequence[str], tally: Tally, image_column: str | None = None
) -> Iterator[TableRow]:
    """The examples of the tar `path` as rows; see `rows.read_rows`. Of images nothing is read: a
    cell of `image_column` is a `Packed`.

    Raises:
        DataError: a damaged tar; an image without a label, or the other way round.
    """
    reader = _Members(path.absolute())
    for key, members in _examples(path, tally).items():
        answers = {end: members[end] for end in ANSWERS if end in members}
        row = TableRow(path, f"key '{key}'", {})
        for end, place in answers.items():
            row.update(_cells(row, end, place, reader))
        image = next((end for end in members if f".{end}" in image_suffixes()), None)
        others = [end for end in members if end not in (*ANSWERS, image)]
        for end in others:
            tally.leave(f".{end}", f"{key}.{end}")
        if image_column is not None:
            if image is None:
                if others:  # an image of a kind that is not read, or something else with a label
                    continue
                raise row.error("there is a label, but no image of this name beside it")
            row[image_column] = Packed(path, f"{key}.{image}", *members[image], reader)
        _stand_in(row, columns, image_column)
        lacking = next((name for name in columns if name not in row), None)
        if lacking is not None:
            raise row.error(_lacking(row, key, lacking, image_column))
        yield row


def _stand_in(row: TableRow, columns: Sequence[str], image_column: str | None) -> None:
    """A label may be the whole of a `.cls` or `.txt`, a text that of a `.txt`."""
    if TEXT in columns and TEXT not in row and image_column is None and "txt" in row:
        row[TEXT] = row["txt"]
    if LABEL in columns and LABEL not in row:
        ends = ("cls", "txt") if image_column is not None else ("cls",)
        end = next((end for end in ends if end in row), None)
        if end is not None:
            row[LABEL] = row[end]
    elif LABEL in columns and "cls" in row:
        row[LABEL] = row["cls"]


def _lacking(row: TableRow, key: str, column: str, image_column: str | None) -> str:
    there = ", ".join(sorted(name for name in row if name != image_column)) or "nothing"
    name = PurePosixPath(key).name
    ends = f"{name}.cls, {name}.txt or " if column == LABEL and image_column is not None else ""
    ends = f"{name}.txt or " if column == TEXT else ends
    return (
        f'there is no {column} for it: expected {ends}{name}.json with "{column}" beside it, got '
        f"{there}; of a tar of class folders: unpack it first"
    )


def _examples(path: Path, tally: Tally) -> dict[str, dict[str, Place]]:
    """The files of a tar by their names up to the first dot, and by what stands behind it.

    Raises:
        DataError: it is damaged or cut off; two files have one name.
    """
    found: dict[str, dict[str, Place]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if not member.isreg() or member.issparse():
                    if not member.isdir():
                        tally.leave("links and what is no file", member.name)
                    continue
                if any(is_hidden(part) for part in place.parts if part != "."):
                    tally.leave(HIDDEN, member.name)
                    continue
                stem, _, end = place.name.partition(".")
                ends = found.setdefault((place.parent / stem).as_posix(), {})
                if end.lower() in ends:
                    raise DataError(f"'{path}' holds '{member.name}' twice: keep one")
                ends[end.lower()] = (member.offset_data, member.size)
                # What it remembers of members would grow.
                archive.members = []  # type: ignore[attr-defined]
            _check_end(path, archive.offset)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"'{path}' is no whole tar file ({error}): it may be cut off; fetch or pack it again"
        ) from error
    return found


def _check_end(path: Path, offset: int) -> None:
    """A tar ends with blocks of zeros; one that was cut between two files has none.

    Raises:
        tarfile.ReadError: so it is.
    """
    with path.open("rb") as file:
        file.seek(max(0, offset - tarfile.BLOCKSIZE))
        last = file.read(2 * tarfile.BLOCKSIZE)
    if not last.endswith(bytes(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError("its end is missing")


def _cells(row: TableRow, end: str, place: Place, reader: _Members) -> dict[str, Any]:
    """The columns that a file beside an image fills."""
    if place[1] > LONGEST_ANSWER:
        raise row.error(f"its .{end} has {place[1]:,} bytes, expected a label or a text")
    try:
        text = reader.read(*place).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise row.error(f"its .{end} is not UTF-8 ({error.reason})") from error
    if end != "json":
        return {end: text}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise row.error(f"its .json is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise row.error("its .json holds no object")
    return found
