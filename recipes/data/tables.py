"""CSV, TSV and JSON lines, read so that a message can name the line and the column.

What a person would reasonably mean is read, and noted in a `Tally`: another delimiter than the
ending says, a column called `Path`. A row that is shorter or longer than the header is refused:
nobody knows what its cells are.
"""

import codecs
import csv
import difflib
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from graft.recipes.data.reading import Tally
from graft.zoo.errors import DataError
from graft.zoo.vision import IMAGE_SUFFIXES

__all__ = [
    "MISSING",
    "SUFFIXES",
    "Pictures",
    "cell",
    "is_blank",
    "label",
    "lines",
    "note_if_missing",
    "one",
    "read_text",
    "rows",
    "split_of",
    "words",
]

SUFFIXES = (".csv", ".tsv", ".jsonl")
LONGEST_CELL = 2**31 - 1
"""Characters; Python's own limit of 131,072 is below a long text."""
LONGEST_HEADER = 2**16
"""Characters of it that are looked at for what separates cells."""
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
}
SPLIT_NAMES |= {"val": "validation", "dev": "validation", "test": "test", "testing": "test"}
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
ROLES = {
    "path": (
        "path",
        "file",
        "filename",
        "filepath",
        "image",
        "imagepath",
        "img",
        "picture",
        "photo",
    ),
    "label": (
        "label",
        "labels",
        "class",
        "classname",
        "category",
        "target",
        "tag",
        "y",
        "intent",
        "sentiment",
    ),
    "text": (
        "text",
        "sentence",
        "review",
        "content",
        "message",
        "comment",
        "body",
        "question",
        "utterance",
    ),
    "tags": ("tags", "nertags", "ner", "entities", "slots", "bio", "labels"),
}
"""What a column may be called; `--NAME-column` is the option that says it."""
SPLIT_LIKE = ("subset", "set", "partition", "fold", "usage", "data_split", "dataset")
"""Columns that may name splits, and are not read."""
MISSING = ("nan",)
"""What programs write into a table where a value is missing, and no person does."""
PERHAPS_MISSING = ("na", "n/a", "#n/a", "<na>", "none", "null", "nil", "nat")
SIGNATURES = {
    b"\x1f\x8b": "is compressed: unpack it first, as with gunzip",
    b"PK\x03\x04": "is a zip archive, or a workbook of Excel: unpack it, or save the sheet as CSV",
    b"PAR1": "is a Parquet file: save it as CSV or as JSON lines",
    b"\xd0\xcf\x11\xe0": "is a workbook of an old Excel: save the sheet as CSV",
}


def rows(
    path: Path, columns: Sequence[str] = (), tally: Tally | None = None
) -> Iterator[tuple[int, dict]]:
    """(line number, row) for each record of a table with a header, or of JSON lines; UTF-8, or
    UTF-16 with its mark.

    A column of `columns`, or `split`, that is there in other case (or with blanks around it) is
    found under the name that was asked for. Blank rows are counted as left out.

    Raises:
        DataError: another encoding, another number of cells than the header has, or no JSON.
    """
    tally = Tally() if tally is None else tally
    text = read_text(path)
    read = _json_rows if path.suffix.lower() == ".jsonl" else _table_rows
    suspect, values = None, set()
    for line, row in read(path, text, columns, tally):
        if suspect is None and "split" not in row:
            suspect = next(
                (name for name in row if name.lower() in SPLIT_LIKE and name not in columns), None
            )
        if suspect is not None:
            values.add(str(row.get(suspect)).strip().lower())
        yield line, row
    if values and values <= {*SPLIT_NAMES}:
        tally.note(
            f"only a column 'split' says which split a row is in; rename '{suspect}' if it is "
            "meant to",
            "line 1",
        )


def cell(path: Path, line: int, row: Mapping, column: str, role: str = ""):
    """The content of one cell, a stripped text or, in JSON lines, a list of texts.

    Args:
        path, line: where it is, for messages.
        row: as `rows` gives it.
        column: what it is called.
        role: which of ROLES it plays, so that a message can name the option.

    Raises:
        DataError: no such column, the cell is empty or NaN, or a JSON object.
    """
    if column not in row:
        raise _no_column(path, line, row, column, role)
    value = row[column]
    if isinstance(value, list) and value:
        parts = [_text(path, line, part, column) for part in value]
        if role != "label" and not all(parts):  # of several labels an empty one is none
            raise DataError(
                f"'{path}', line {line}: the list in the column '{column}' has an empty part: fill "
                "or remove it"
            )
        return parts
    text = "" if value in (None, []) else _text(path, line, value, column)
    if not text:
        said = " (NaN)" if isinstance(value, float) else ""
        raise DataError(
            f"'{path}', line {line}: the column '{column}' is empty{said}: fill it, or remove the "
            "row"
        )
    if text.lower() in MISSING and not _is_json(path):
        raise DataError(
            f"'{path}', line {line}: '{text}' in the column '{column}' cannot be told from a "
            "missing value, which programs "
            "write so: fill the cell, or remove the row; if it is meant, write it otherwise, or "
            "give JSON lines (.jsonl)"
        )
    return text


def one(path: Path, line: int, row: Mapping, column: str, role: str = "") -> str:
    """The content of a cell that holds one thing; a list of one is that.

    Raises:
        DataError: as `cell` does, or it is a list of several.
    """
    value = cell(path, line, row, column, role)
    if isinstance(value, str):
        return value
    if len(value) > 1:
        several = (
            "; several labels: `graft train text-classification --multi-label` learns them for "
            "texts, "
        )
        several += "`graft train multitask --tasks NAME:multi_label ...` for images"
        raise DataError(
            f"'{path}', line {line}: the column '{column}' holds a list of {len(value)}, expected "
            "one value"
            f"{several if role == 'label' else ''}"
        )
    if not value[0]:
        raise DataError(
            f"'{path}', line {line}: the column '{column}' is empty: fill it, or remove the row"
        )
    return value[0]


def label(
    path: Path,
    line: int,
    row: Mapping,
    column: str,
    *,
    several: bool = False,
    tally: Tally | None = None,
) -> str:
    """The label in a cell; of `several` labels or none, these joined by ";".

    Raises:
        DataError: as `one` does.
    """
    if several and column in row and is_blank(row[column]):
        return ""
    if several:
        value = cell(path, line, row, column, "label")
        parts = value if isinstance(value, list) else [value]
        strange = (
            next((part for part in value if ";" in part), None) if isinstance(value, list) else None
        )
        if strange is not None:
            raise DataError(
                f"'{path}', line {line}: the label '{strange}' holds ';', which stands between "
                "several labels: rename it"
            )
        text = ";".join(filter(None, parts))
        note_if_missing(path, line, [part.strip() for part in text.split(";")], tally)
        return text
    text = one(path, line, row, column, "label")
    note_if_missing(path, line, [text], tally)
    return text


def note_if_missing(path: Path, line: int, labels: Sequence[str], tally: Tally | None) -> None:
    """Note `labels` that may stand for a missing value; they are read as classes."""
    for text in labels:
        if tally is not None and text.lower() in PERHAPS_MISSING and not _is_json(path):
            how = (
                f"the label '{text}' is read as a class; remove the rows if it stands for a "
                "missing value"
            )
            tally.note(how, f"line {line}")


def split_of(path: Path, line: int, row: Mapping, tally: Tally | None = None) -> str:
    """The split that a row belongs to, by its column `split`; "train" without one.

    Raises:
        DataError: no known split.
    """
    blank = is_blank(row.get("split"))
    if tally is not None:
        tally.has_split(f"line {line}", not blank)
    if blank:
        return "train"
    name = str(row["split"]).strip().lower()
    if name not in SPLIT_NAMES:
        raise DataError(
            f"'{path}', line {line}: split '{row['split']}'; expected train, validation or test"
        )
    return SPLIT_NAMES[name]


class Pictures:
    """Finds the files that the rows of `table` name, relative to it, in whatever way people write
    paths.
    """

    def __init__(self, table: Path, tally: Tally):
        self.table, self.tally = table, tally
        self._first, self._missing = "", 0

    def find(self, line: int, name: str) -> tuple[Path, str]:
        """(the file, what it is called); one that is not there is kept for `check`."""
        for how, spelling in _spellings(name):
            place = self.table.parent / spelling
            if _stands_for_a_file(place):
                if how:
                    self.tally.note(how, f"line {line}, '{name}'")
                return place, spelling
        self._first = self._first or self._why(line, name)
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

    def _why(self, line: int, name: str) -> str:
        where, place = f"'{self.table}', line {line}", self.table.parent / name
        if re.match(r"\w+://", name):
            return f"{where}: '{name}' is an address of the web: download the files, and name them"
        if os.path.isdir(place):
            return f"{where}: '{place}' is a folder, expected a file in each row"
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
        return f"{where}: there is no file '{place}' (paths are relative to the table){hint}"


def _stands_for_a_file(place: Path) -> bool:
    """Whether something is there that is to be opened: a pipe, a link to nothing or a folder that
    is called like a picture cannot be, as whoever decodes it says. False too for what is no path at
    all.
    """
    return os.path.lexists(place) and (
        place.suffix.lower() in IMAGE_SUFFIXES or not os.path.isdir(place)
    )


def lines(text: str) -> list[str]:
    """The lines of a text without their ends: a line feed ends a line, alone or behind a carriage
    return; where there is none, a carriage return does. No other character ends a line, whatever
    Unicode says (U+2028, U+0085, form feed).
    """
    parts = _with_line_feeds(text).split("\n")
    if parts and not parts[-1]:
        parts.pop()
    return [part.removesuffix("\r") for part in parts]


def words(text: str) -> list[str]:
    """The words of a text that comes as words: where it has tabs they separate, else blanks; a
    no-break space never does.
    """
    text = text.strip(" \t\r\n")
    cells = text.split("\t") if "\t" in text else re.split(" +", text)
    return [word for cell in cells if (word := cell.strip(" \r\n"))]


def read_text(path: Path) -> str:
    """The content of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        DataError: another encoding (names the line and the column of the first byte that is not
            UTF-8), or no text.
    """
    content = path.read_bytes()
    for signature, what in SIGNATURES.items():
        if content.startswith(signature):
            raise DataError(f"'{path}' {what}")
    encoding = _encoding(content)
    if encoding == "utf-8-sig" and b"\0" in content[:4096]:
        raise DataError(
            f"'{path}' holds zero bytes, as UTF-16 without a byte order mark or no text does: save "
            "it as UTF-8"
        )
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise DataError(
                f"'{path}' is no whole {encoding.upper()} file ({error.reason}): save it as UTF-8"
            ) from error
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise DataError(
            f"'{path}', line {line}, column {column}: byte 0x{content[error.start]:02x} is not "
            "UTF-8: save the file as "
            "UTF-8 (it may be in Windows-1252 or Latin-1)"
        ) from error


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return (
        "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    )


def _with_line_feeds(text: str) -> str:
    """With line feeds at the ends of lines where there were carriage returns alone, as an old Mac
    wrote them.
    """
    return text.replace("\r", "\n") if "\n" not in text.rstrip("\r\n") else text


class _Lines:
    """Lines as `csv` wants them: with their ends, and not cut at the other characters that
    splitlines knows.
    """

    def __init__(self, text: str):
        self.text, self.place, self.ended = text, 0, False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.place >= len(self.text):
            self.ended = True
            raise StopIteration
        end = self.text.find("\n", self.place)
        start, self.place = self.place, len(self.text) if end < 0 else end + 1
        return self.text[start : self.place]


def _table_rows(
    path: Path, text: str, columns: Sequence[str], tally: Tally
) -> Iterator[tuple[int, dict]]:
    text = _with_line_feeds(text)
    told = re.match(
        r'"?sep=([,;\t|])"?\r?\n', text, re.IGNORECASE
    )  # Excel's first line, which is no row
    text, skipped = (text[told.end() :], 1) if told else (text, 0)
    first = next((line for line in text.split("\n") if line.strip("\r")), "")
    delimiter = told[1] if told else _delimiter(path, first, columns, tally)
    source = _Lines(text)
    # `path, "label"`: the quote would stand in the middle of its cell.
    blank = re.search(rf"{re.escape(delimiter)} +\S", first) is not None
    # Strict: a quote that closes in the middle of a cell was opened by mistake, and rows would go
    # into one.
    reader = csv.reader(source, delimiter=delimiter, skipinitialspace=blank, strict=not blank)
    names = None
    for cells in _records(path, reader, source, skipped):
        line = reader.line_num + skipped
        if names is None:
            names = _header(path, cells, columns, tally) if cells else None
        elif not any(cell.strip() for cell in cells):
            if cells:  # an empty line is how files end
                tally.leave("blank rows", f"line {line}")
        elif len(cells) != len(names):
            lacking = next((column for column in columns if column not in names), None)
            if lacking is not None:  # the header is none, or of another table
                raise _no_column(
                    path, line, dict.fromkeys(names), lacking, lacking if lacking in ROLES else ""
                )
            mend = (
                f"a cell with {DELIMITERS.get(delimiter, repr(delimiter))} in it needs quotes "
                "around it"
            )
            if len(cells) < len(names):
                mend = "write all delimiters, also those of empty cells, or remove the row"
            raise DataError(
                f"'{path}', line {line}: {len(cells)} cells, the header has {len(names)}: {mend}"
            )
        elif delimiter == "\t" and any("\t" in cell and "\n" in cell for cell in cells):
            raise DataError(
                f"'{path}', line {line}: a cell in quotes goes over lines and tabs, so rows went "
                "into one: double the quote "
                'that opens it, and put the cell in quotes ("""so"" they said")'
            )
        else:
            yield line, dict(zip(names, cells, strict=True))


def _records(path: Path, reader, source: _Lines, skipped: int) -> Iterator[list[str]]:
    limit = csv.field_size_limit(LONGEST_CELL)  # of the whole process
    unclosed = "is a quote opened there or before that nobody closes?"
    begins = 1
    try:
        for cells in reader:
            if source.ended:
                raise DataError(f"'{path}', line {begins + skipped}: {unclosed}")
            begins = reader.line_num + 1
            yield cells
    except csv.Error as error:
        if source.ended:
            raise DataError(f"'{path}', line {begins + skipped}: {unclosed}") from error
        cause = (
            "a carriage return in the middle of a line"
            if "new-line" in str(error)
            else f"{error}: {unclosed}"
        )
        raise DataError(f"'{path}', line {reader.line_num + skipped}: {cause}") from error
    finally:
        csv.field_size_limit(limit)


def _delimiter(path: Path, header: str, columns: Sequence[str], tally: Tally) -> str:
    """What separates cells: what the ending says, or what alone splits the header."""
    own = "\t" if path.suffix.lower() == ".tsv" else ","
    names = _names(header, own)
    if len(names) > 1 or names[0] in columns:
        return own
    others = [mark for mark in DELIMITERS if mark != own and len(_names(header, mark)) > 1]
    others = [mark for mark in others if all(_names(header, mark))]
    if len(others) > 1:
        kinds = " or ".join(DELIMITERS[mark] for mark in others)
        raise DataError(
            f"'{path}', line 1: the cells seem to be separated by {kinds}, expected "
            f"{DELIMITERS[own]}: save it with those"
        )
    if others:
        tally.note(
            f"its cells are separated by {DELIMITERS[others[0]]}, not by {DELIMITERS[own]}, and "
            "read so",
            "line 1",
        )
    return others[0] if others else own


def _names(header: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([header[:LONGEST_HEADER]], delimiter=delimiter), None) or [""]
    except csv.Error:  # reading the whole says where and why
        cells = [header]
    return [cell.strip().strip("\ufeff") for cell in cells]


def _header(path: Path, cells: Sequence[str], columns: Sequence[str], tally: Tally) -> list[str]:
    names = [cell.strip().strip("\ufeff").strip('"') for cell in cells]
    taken = _taken(names, columns, tally)
    names = [taken.get(name, name) for name in names]
    twice = next((column for column in (*columns, "split") if names.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"'{path}', line 1: two columns are called '{twice}': rename or remove one")
    return names


def _taken(names: Sequence[str], columns: Sequence[str], tally: Tally) -> dict[str, str]:
    """{the name of a column: the one that it is asked for by}, where they differ in case or in
    blanks alone.
    """
    found = {}
    for column in (*columns, "split"):
        near = [name for name in names if name.strip().casefold() == column.strip().casefold()]
        if column not in names and len(near) == 1:
            found[near[0]] = column
            tally.note(f"the column '{near[0]}' is taken for '{column}'", "line 1")
    return found


def _json_rows(
    path: Path, text: str, columns: Sequence[str], tally: Tally
) -> Iterator[tuple[int, dict]]:
    taken: dict[tuple[str, ...], dict[str, str]] = {}
    for line, content in enumerate(lines(text), 1):
        if not content.strip():
            continue
        row = _json_row(path, line, content)
        keys = tuple(row)
        if keys not in taken:
            taken[keys] = _taken(keys, columns, tally if not taken else Tally())
        yield line, {taken[keys].get(key, key): value for key, value in row.items()}


def _json_row(path: Path, line: int, text: str) -> dict:
    try:
        row = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        whole = (
            ""
            if text.strip() not in ("{", "[")
            else ", and JSON lines have one whole object on each line"
        )
        raise DataError(f"'{path}', line {line}: not JSON ({error}){whole}") from error
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"'{path}', line {line}: half a character, as of an emoji that was cut"
        ) from error
    if not isinstance(row, dict):
        array = (
            "; of an array, write each element on a line of its own"
            if isinstance(row, list)
            else ""
        )
        raise DataError(
            f"'{path}', line {line}: expected a JSON object, got {text.strip()[:40]}{array}"
        )
    return row


def _without_repeats(pairs: Sequence[tuple]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice"
        )
    return made


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def is_blank(value) -> bool:
    """Whether a cell holds nothing; 0 and false are something."""
    if isinstance(value, str):
        return not value.strip()
    return value in (None, []) or (isinstance(value, float) and math.isnan(value))


def _text(path: Path, line: int, value, column: str) -> str:
    """One value of a cell as text, "" for NaN."""
    if isinstance(value, dict | list):
        kind = "a JSON object" if isinstance(value, dict) else "a list in a list"
        raise DataError(
            f"'{path}', line {line}: the column '{column}' holds {kind}, expected a text or a "
            "number"
        )
    return "" if is_blank(value) else str(value).strip()


def _no_column(path: Path, line: int, row: Mapping, column: str, role: str) -> DataError:
    names = [str(name) for name in row]
    where = f"'{path}', line {line}," if _is_json(path) else f"'{path}'"
    text = f"{where} has no column '{column}': it has {', '.join(names)}"
    if role:
        known = ROLES[role]
        alike = [name for name in names if re.sub(r"[^a-z]", "", name.lower()) in known]
        near = alike or difflib.get_close_matches(column, names, n=1)
        text += f": --{role}-column {near[0] if near else 'NAME'} says what it is called"
        text += "" if near else " (line 1 of a table names its columns)"
    return DataError(text)


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
