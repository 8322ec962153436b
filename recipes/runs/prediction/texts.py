"""The texts that `graft predict` is asked about: given as they are, or read from tables, from files
of a text a line or from stdin.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from graft.recipes.codecs.asked import Text, check_text
from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.cells import read_cell
from graft.recipes.data.tables.rows import SUFFIXES, read_rows
from graft.recipes.data.tables.text_files import read_text, split_lines
from graft.recipes.runs.prediction.stdin import STDIN, BadInput, cause_of, stdin_lines
from graft.zoo.errors import DataError

__all__ = ["texts"]

LINES = (".txt",)
"""Files of one text a line."""
OTHER_FILES = ".json .conll .bio .iob2 .xlsx .xls .parquet .pdf .docx .md .html .xml .gz .zip"
"""Endings of what looks like the name of a file, and not like a text."""

Place = tuple[str, str | list[str]]
"""Where a text stands, for messages, and what is there."""


def texts(inputs: Sequence[str], text_column: str, words: bool) -> Iterator[Text | BadInput]:
    """The texts that `inputs` give, in order.

    An input that cannot be read, or not to its end, is a `BadInput` behind what was read of it.

    Args:
        inputs: the texts themselves, tables, files of one text a line, and `-` for a text a line
            from stdin.
        text_column: of tables.
        words: whether each is split at blanks, or is a JSON list of words; a list in JSON lines is
            words anyway.
    """
    for number, item in enumerate(inputs, 1):
        where = f"text {number} of {len(inputs)}"
        try:
            for found in _texts_of(item, where, text_column):
                yield found if isinstance(found, BadInput) else _text(*found, words)
        except DataError as error:
            yield BadInput(str(error))
        except OSError as error:
            source = "stdin" if item == STDIN else f"'{item}'"
            yield BadInput(f"{source} cannot be read: {cause_of(error)}")


def _texts_of(item: str, where: str, column: str) -> Iterable[Place | BadInput]:
    """Each text of an argument; `where` is what the argument itself is called.

    Raises:
        DataError, OSError: it is a file that cannot be read.
    """
    if item == STDIN:
        return (_decoded(f"line {line} of stdin", text) for line, text in stdin_lines())
    file = _file_named(item)
    if file is None:
        return [(where, item)]
    if file.suffix.lower() in LINES:
        lines = split_lines(read_text(file))
        return ((f"'{file}', line {i}", text) for i, text in enumerate(lines, 1))
    return _cells(file, column)


def _text(where: str, given: str | list[str], words: bool) -> Text | BadInput:
    try:
        if not isinstance(given, str):
            text = Text.of_words(given)
        elif words:
            listed = _json_words(given)
            text = Text.split_at_blanks(given) if listed is None else Text.of_words(listed)
        else:
            text = Text(given)
        check_text(text.text)
    except DataError as error:
        return BadInput(f"{where} {error}")
    return text


def _json_words(given: str) -> list[str] | None:
    """The words of a JSON list of texts; None: it is none."""
    if not given.lstrip().startswith("["):
        return None
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        return None
    is_words = isinstance(found, list) and all(isinstance(word, str) for word in found)
    return found if is_words and found else None


def _decoded(where: str, line: bytes) -> Place | BadInput:
    if b"\0" in line:
        return BadInput(
            f"{where} holds zero bytes, as UTF-16 without a byte order mark or no text does: "
            "convert the texts to UTF-8"
        )
    try:
        return where, line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadInput(
            f"{where}, byte {error.start + 1}: 0x{line[error.start]:02x} is not UTF-8: convert the "
            "texts to UTF-8"
        )


def _file_named(item: str) -> Path | None:
    """The file that an argument names; None: it is a text.

    Raises:
        DataError: a folder, a file of another kind, or the name of a file that is not there.
    """
    from graft.zoo.terminal import warn

    path = Path(item)
    suffix = path.suffix.lower()
    looks = suffix in (*SUFFIXES, *LINES, *OTHER_FILES.split()) and (
        not any(c.isspace() for c in item) or item.startswith(("/", "./", "../", "~"))
    )
    through = "a text that looks like a file's name goes in through stdin, `-`"
    try:
        exists = bool(item.strip()) and path.exists()
    except OSError as error:
        if looks and error.errno != errno.ENAMETOOLONG:
            raise
        return None  # a text that is too long for a name
    if not exists:
        if looks:
            raise DataError(f"there is no file '{item}'; {through}")
        return None
    if path.is_file() and suffix in (*SUFFIXES, *LINES):
        return path
    if looks or os.sep in item:
        kind = f"a '{suffix}' file" if suffix else "a file without an ending"
        raise DataError(
            f"'{item}' is {'a folder' if path.is_dir() else kind}: expected texts, a table "
            f"({', '.join(SUFFIXES)}) or a .txt file of one text a line; {through}"
        )
    kind = "folder" if path.is_dir() else "file"
    warn(f"'{item}' is also the name of a {kind} here: taken for a text")
    return None


def _cells(file: Path, column: str) -> Iterator[Place | BadInput]:
    """Each cell of a column, by the rules that training reads tables by. What ends the reading is a
    `BadInput` behind the rows before it.
    """
    tally, found = Tally(), 0
    lacking: list[BadInput] = []  # rows without the column, as long as none has it
    bad = None
    try:
        for row in read_rows(file, (column,), tally):
            try:
                cell = read_cell(row, column, "text")
            except DataError as error:
                if column not in row and not found:
                    lacking.append(BadInput(str(error)))
                else:
                    yield BadInput(str(error))
                continue
            if not found:
                yield from lacking
            found += 1
            yield f"'{file}', {row.place}", cell
    except DataError as error:
        bad = BadInput(f"{error} (the table is read up to there)" if found else str(error))
    tally.warn(str(file), found)
    if not found and bad is None:
        # A column that no row has is one fault, not one of each row.
        bad = lacking[0] if lacking else BadInput(f"'{file}' holds no texts")
    if bad is not None:
        yield bad
