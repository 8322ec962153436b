"""Tables whose cells are separated by commas, tabs, semicolons or bars."""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.columns import ROLES, TableRow, match_columns, missing_column
from graft.recipes.data.tables.text_files import error_at, iterate_lines
from graft.zoo.errors import DataError

__all__ = ["delimited_rows"]

LONGEST_CELL = 2**31 - 1
"""Characters; Python's own limit of 131,072 is below a long text."""
LONGEST_HEADER = 2**16
"""Characters of it that are looked at for what separates cells."""
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
UNCLOSED = "is a quote opened there or before that nobody closes?"


class _Lines:
    """Lines as `csv` wants them: with their ends, and not cut at the other characters that
    splitlines knows. `ended` says whether `csv` asked for one more than there are.
    """

    def __init__(self, lines: Iterator[str]):
        self._lines, self.ended = lines, False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines, "")
        self.ended = not line
        if self.ended:
            raise StopIteration
        return line


def delimited_rows(path: Path, columns: Sequence[str], tally: Tally) -> Iterator[TableRow]:
    """The rows of the table `path`; see `rows.read_rows`."""
    lines = iterate_lines(path)
    top = next(lines, "")
    # Excel's first line may name the delimiter; it is no row.
    told = re.fullmatch(r'"?sep=([,;\t|])"?\r?\n', top, re.IGNORECASE)
    skipped, begun = (1, []) if told else (0, [top])
    while not (begun and begun[-1].strip("\r\n")) and (line := next(lines, "")):
        begun.append(line)
    first = begun[-1].removesuffix("\n") if begun else ""
    lines = itertools.chain(begun, lines)
    delimiter = told[1] if told else _delimiter(path, first, columns, tally)
    # `path, "label"`: the quote would stand in the middle of its cell.
    blank = re.search(rf"{re.escape(delimiter)} +\S", first) is not None
    names = None
    for line, cells in _records(path, lines, skipped, delimiter, blank):
        if names is None:
            names = _header(path, cells, columns, tally) if cells else None
        elif not any(cell.strip() for cell in cells):
            if cells:  # an empty line is how files end
                tally.leave("blank rows", f"line {line}")
        elif len(cells) != len(names):
            raise _wrong_length(path, line, names, cells, columns, delimiter)
        elif delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in cells):
            why = "a cell in quotes goes over lines and tabs, so rows went into one: double the "
            why += 'quote that opens it, and put the cell in quotes ("""so"" they said")'
            raise error_at(path, line, why)
        else:
            yield TableRow(path, line, dict(zip(names, cells, strict=True)))


def _records(
    path: Path, lines: Iterator[str], skipped: int, delimiter: str, blank: bool
) -> Iterator[tuple[int, list[str]]]:
    """(the line that it ends in, cells) of each record; `skipped` lines stood before these."""
    source = _Lines(lines)
    # Strict: a quote that closes in the middle of a cell was opened by mistake, and rows would go
    # into one.
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=blank, strict=not blank)
    limit = csv.field_size_limit(LONGEST_CELL)  # of the whole process
    begins = 1
    try:
        for cells in reader:
            if source.ended:
                raise error_at(path, begins + skipped, UNCLOSED)
            begins = reader.line_num + 1
            yield reader.line_num + skipped, cells
    except csv.Error as error:
        if source.ended:
            raise error_at(path, begins + skipped, UNCLOSED) from error
        cause = f"{error}: {UNCLOSED}"
        if "new-line" in str(error):
            cause = "a carriage return in the middle of a line"
        raise error_at(path, reader.line_num + skipped, cause) from error
    finally:
        csv.field_size_limit(limit)


def _wrong_length(
    path: Path,
    line: int,
    names: Sequence[str],
    cells: Sequence[str],
    columns: Sequence[str],
    delimiter: str,
) -> DataError:
    """The error of a row with more or fewer cells than the header."""
    lacking = next((column for column in columns if column not in names), None)
    if lacking is not None:  # the header is none, or of another table
        row = TableRow(path, line, dict.fromkeys(names))
        return missing_column(row, lacking, lacking if lacking in ROLES else "")
    if len(cells) < len(names):
        hint = "write all delimiters, also those of empty cells, or remove the row"
    else:
        hint = f"a cell with {DELIMITERS[delimiter]} in it needs quotes around it"
    return error_at(path, line, f"{len(cells)} cells, the header has {len(names)}: {hint}")


def _delimiter(path: Path, header: str, columns: Sequence[str], tally: Tally) -> str:
    """What separates cells: what the ending says, or what alone splits the header."""
    own = "\t" if path.suffix.lower() == ".tsv" else ","
    names = _names(header, own)
    if len(names) > 1 or names[0] in columns:
        return own
    others = [mark for mark in DELIMITERS if mark != own and len(_names(header, mark)) > 1]
    others = [mark for mark in others if all(_names(header, mark))]
    kinds = " or ".join(DELIMITERS[mark] for mark in others)
    if len(others) > 1:
        why = f"the cells seem to be separated by {kinds}, expected {DELIMITERS[own]}"
        raise error_at(path, 1, f"{why}: save it with those")
    if others:
        how = f"its cells are separated by {kinds}, not by {DELIMITERS[own]}, and read so"
        tally.note(how, "line 1")
    return others[0] if others else own


def _names(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header[:LONGEST_HEADER]], delimiter=delimiter), None) or [""]
    except csv.Error:  # reading the whole says where and why
        cells = [header]
    return [cell.strip().strip("\ufeff") for cell in cells]


def _header(path: Path, cells: Sequence[str], columns: Sequence[str], tally: Tally) -> list[str]:
    names = [cell.strip().strip("\ufeff").strip('"') for cell in cells]
    matched = match_columns(names, columns, tally)
    names = [matched.get(name, name) for name in names]
    twice = next((column for column in (*columns, "split") if names.count(column) > 1), None)
    if twice is not None:
        raise error_at(path, 1, f"two columns are called '{twice}': rename or remove one")
    return names
