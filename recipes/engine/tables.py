"""CSV, TSV and JSON lines, read so that a message can name the line and the column."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo.errors import DataError

__all__ = ["SUFFIXES", "cell", "read_text", "rows", "split_of"]

SUFFIXES = (".csv", ".tsv", ".jsonl")
LONGEST_CELL = 2**31 - 1
"""Characters; Python's own limit of 131,072 is below a long text."""
SPLIT_NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"}
SPLIT_NAMES |= {"val": "validation", "dev": "validation", "test": "test", "testing": "test"}
DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


def rows(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number, row) for each record of a table with a header, or of JSON lines; UTF-8.

    Raises:
        DataError: another encoding, another number of cells than the header has, or no JSON.
    """
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        yield from ((line, _json_row(path, line, row)) for line, row in enumerate(text.split("\n"), 1) if row.strip())
        return
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(_lines(text), delimiter=delimiter)
    for row in _rows(path, reader):
        if None in row:
            raise DataError(
                f"'{path}', line {reader.line_num}: {len(row) - 1 + len(row[None])} cells, the header has {len(row) - 1}: a "
                f"cell with {DELIMITERS[delimiter]} in it needs quotes around it"
            )
        yield reader.line_num, row


def _rows(path: Path, reader: csv.DictReader) -> Iterator[dict]:
    limit = csv.field_size_limit(LONGEST_CELL)  # of the whole process
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(
            f"'{path}', line {reader.line_num}: {error}: is a quote opened there or before that nobody closes?"
        ) from error
    finally:
        csv.field_size_limit(limit)


def cell(path: Path, line: int, row: Mapping, column: str):
    """The content of one cell, a stripped text or, in JSON lines, a list of texts.

    Raises:
        DataError: no such column (where another delimiter explains it, that is said), or the cell is empty or NaN.
    """
    if column not in row:
        names = [str(name) for name in row]
        for mark, word in DELIMITERS.items():
            if len(names) == 1 and mark in names[0]:
                own = "tabs" if path.suffix.lower() == ".tsv" else "commas"
                raise DataError(
                    f"'{path}', line 1: the cells seem to be separated by {word}, expected {own}: save it with {own}, or "
                    f"{'as .tsv' if word == 'tabs' else 'under another name' if word == 'commas' else 'as .csv'}"
                )
        raise DataError(f"'{path}' has no column '{column}': it has {', '.join(names)}")
    value = row[column]
    if isinstance(value, list):
        return [str(part).strip() for part in value]
    text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()
    if text in ("", "NaN", "nan"):
        raise DataError(
            f"'{path}', line {line}: the column '{column}' is empty{text and ' (NaN)'}: fill it, or remove the row"
        )
    return text


def split_of(path: Path, line: int, row: Mapping) -> str:
    """The split that a row belongs to, by its column `split`; "train" without one.

    Raises:
        DataError: no known split.
    """
    name = str(row.get("split") or "train").strip().lower()
    if name not in SPLIT_NAMES:
        raise DataError(f"'{path}', line {line}: split '{row['split']}'; expected train, validation or test")
    return SPLIT_NAMES[name]


def read_text(path: Path) -> str:
    """The content of a UTF-8 file.

    Raises:
        DataError: it is not UTF-8; names the line and the column of the first byte that is not.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise DataError(
            f"'{path}', line {line}, column {column}: byte 0x{content[error.start]:02x} is not UTF-8: save the file as "
            "UTF-8 (it may be in Windows-1252 or Latin-1)"
        ) from error


def _lines(text: str) -> Iterator[str]:
    """Lines as `csv` wants them: with their ends, and not cut at the other characters that splitlines knows."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def _json_row(path: Path, line: int, text: str) -> dict:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise DataError(f"'{path}', line {line}: not JSON ({error})") from error
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"'{path}', line {line}: half a character, as of an emoji that was cut") from error
    if not isinstance(row, dict):
        raise DataError(f"'{path}', line {line}: expected a JSON object, got {text.strip()[:40]}")
    return row
