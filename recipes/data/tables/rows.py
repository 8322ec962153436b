"""The rows of a table, in whatever form it is."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from graft.recipes.data.containers.arrow_files import ARROW
from graft.recipes.data.containers.arrow_rows import arrow_rows
from graft.recipes.data.containers.tar_shards import TAR, tar_rows
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.recipes.data.tables.columns import TableRow
from graft.recipes.data.tables.delimited import delimited_rows
from graft.recipes.data.tables.json_lines import json_rows

__all__ = ["CONTAINERS", "SUFFIXES", "is_table", "read_rows"]

CONTAINERS = (*ARROW, *TAR)
"""Files that hold images themselves, or the rows of a table."""
SUFFIXES = (".csv", ".tsv", ".jsonl", *CONTAINERS)
SPLIT_LIKE = ("subset", "set", "partition", "fold", "usage", "data_split", "dataset")
"""Columns that may name splits, and are not read."""


def is_table(path: Path) -> bool:
    """Whether a path is that of a file with the ending of a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_rows(
    path: Path,
    columns: Sequence[str] = (),
    tally: Tally | None = None,
    image_column: str | None = None,
) -> Iterator[TableRow]:
    """The rows of a table with a header, or of JSON lines (UTF-8, or UTF-16 with its mark); of
    Parquet, Arrow and Feather files; or of tar files. What is held at once is a stretch of rows.

    Args:
        path: the table.
        columns: what is asked for. Such a column, or `split`, that is there in other case (or with
            blanks around it) is found under the name that was asked for.
        image_column: which of them holds images: paths, or a `Packed` where the file holds the
            images themselves; None: it has none.
        tally: counts blank rows as left out, and notes what is read otherwise than it is written.

    Raises:
        DataError: another encoding, another number of cells than the header has, no JSON, or a
            damaged file.
    """
    tally = Tally() if tally is None else tally
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        rows = arrow_rows if suffix in ARROW else tar_rows
        yield from rows(path, columns, tally, image_column)
        return
    read = json_rows if suffix == ".jsonl" else delimited_rows
    suspect, values = None, set()
    for row in read(path, columns, tally):
        if suspect is None and "split" not in row:
            suspect = next(
                (name for name in row if name.lower() in SPLIT_LIKE and name not in columns), None
            )
        if suspect is not None:
            values.add(str(row.get(suspect)).strip().lower())
        yield row
    if values and values <= {*SPLIT_NAMES}:
        tally.note(
            f"only a column 'split' says which split a row is in; rename '{suspect}' if it is "
            "meant to",
            "line 1",
        )
