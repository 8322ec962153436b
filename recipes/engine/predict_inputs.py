"""What `graft predict` is asked about: pictures by file, folder, pattern or a list from stdin; texts as they are, from
tables, files of lines or stdin. One that cannot be read is a `BadInput`, and the next ones follow."""

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.engine import tables
from recipes.engine.text_session import Text, check_text
from zoo.errors import DataError

__all__ = ["BadInput", "picture_files", "texts"]

LINES = (".txt",)
"""Files of one text a line."""

NAMES_OF_FILES = (
    *tables.SUFFIXES, *LINES, ".json", ".conll", ".bio", ".iob2", ".xlsx", ".xls", ".parquet", ".pdf", ".docx", ".md",
    ".html", ".xml", ".gz", ".zip",
)  # fmt: skip
"""What looks like the name of a file, and not like a text."""

STDIN = "-"


@dataclass(frozen=True)
class BadInput:
    """An input that cannot be labelled; `why` names it."""

    why: str


def picture_files(inputs: Sequence[str]) -> Iterator[Path | BadInput]:
    """The files of pictures that `inputs` name, in order: files, folders at any depth, patterns such as `photos/*.jpg`, and
    `-` for a list of any of these from stdin, one a line."""
    for item in inputs:
        if item == STDIN:
            for _, line in _stdin_lines():
                if line.strip():
                    yield from _pictures(os.fsdecode(line))
        else:
            yield from _pictures(item)


def texts(inputs: Sequence[str], text_column: str, words: bool) -> Iterator[Text | BadInput]:
    """The texts that `inputs` give, in order: the texts themselves, tables (their column `text_column`), files of one text a
    line, and `-` for a text a line from stdin. With `words` each is split at blanks, or is a JSON list of words; a list in
    JSON lines is words anyway.

    Raises:
        DataError: a file that cannot be read, or of another kind; a table without that column.
    """
    for number, item in enumerate(inputs, 1):
        if item == STDIN:
            rows = (_decoded(f"line {line} of stdin", text) for line, text in _stdin_lines())
        elif (file := _file_named(item)) is None:
            rows = iter([(f"text {number} of {len(inputs)}", item)])
        elif file.suffix.lower() in LINES:
            rows = ((f"'{file}', line {line}", text) for line, text in _lines_of(file))
        else:
            rows = _cells(file, text_column)
        for row in rows:
            yield row if isinstance(row, BadInput) else _text(*row, words)


def _text(where: str, given: str | Sequence[str], words: bool) -> Text | BadInput:
    try:
        if not isinstance(given, str):
            text = Text.of_words([str(word) for word in given])
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
    return found if isinstance(found, list) and found and all(isinstance(word, str) for word in found) else None


def _pictures(item: str) -> Iterator[Path | BadInput]:
    from recipes.engine.folders import pictures_below, suffixes
    from recipes.engine.reading import Tally, listed

    path = Path(item)
    if path.is_dir():
        tally = Tally()
        found = pictures_below(path, path, tally)
        others = f" (there are {listed(tally.left_out, examples=True)})" if tally.left_out else ""
        yield from found or [BadInput(f"the folder '{path}' holds no pictures{others}")]
    elif not path.exists() and glob.has_magic(item):
        found = sorted(glob.glob(os.path.expanduser(item), recursive=True))
        if not found:
            yield BadInput(f"nothing fits the pattern '{item}'")
        for name in found:
            # What a pattern takes in by the way is no bad input.
            if Path(name).suffix.lower() in suffixes() or Path(name).is_dir():
                yield from _pictures(name)
    else:
        yield path


def _file_named(item: str) -> Path | None:
    """The file that an argument names; None: it is a text.

    Raises:
        DataError: a folder, a file of another kind, or the name of a file that is not there.
    """
    from recipes.engine.progress import warn

    path = Path(item)
    suffix = path.suffix.lower()
    looks = suffix in NAMES_OF_FILES and (
        not any(c.isspace() for c in item) or item.startswith(("/", "./", "../", "~"))
    )
    through = "a text that looks like a file's name goes in through stdin, `-`"
    try:
        exists = bool(item.strip()) and path.exists()
    except (OSError, ValueError):  # a text that is too long for a name
        return None
    if exists and path.is_file() and suffix in (*tables.SUFFIXES, *LINES):
        return path
    if exists and (looks or os.sep in item):
        kind = "a folder" if path.is_dir() else f"a '{suffix}' file" if suffix else "a file without an ending"
        raise DataError(
            f"'{item}' is {kind}: expected texts, a table ({', '.join(tables.SUFFIXES)}) or a .txt file of one text a line; "
            f"{through}"
        )
    if exists:
        warn(f"'{item}' is also the name of a {'folder' if path.is_dir() else 'file'} here: taken for a text")
    elif looks:
        raise DataError(f"there is no file '{item}'; {through}")
    return None


def _cells(file: Path, column: str) -> Iterator[tuple[str, str | list[str]] | BadInput]:
    """(where it stands, what it holds) for each cell of a column."""
    found = False
    for line, row in tables.rows(file):
        try:
            cell = tables.cell(file, line, row, column)
        except DataError as error:
            if column not in row and not found:  # so it is with all rows of a table
                raise DataError(f"{error}: --text-column names it") from error
            yield BadInput(str(error))
            continue
        found = True
        yield f"'{file}', line {line}", cell
    if not found:
        yield BadInput(f"'{file}' holds no texts")


def _lines_of(file: Path) -> Iterator[tuple[int, str]]:
    lines = tables.read_text(file).split("\n")
    if lines[-1] == "":
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield number, line.removesuffix("\r")


def _stdin_lines() -> Iterator[tuple[int, str | bytes]]:
    r"""(number, line) of stdin, cut at "\n" and at nothing else, without a "\r" before it; bytes where stdin has them."""
    # Text mode takes "\r" for a line's end too.
    lines: Iterable[str | bytes] = getattr(sys.stdin, "buffer", sys.stdin)
    for number, line in enumerate(lines, 1):
        if isinstance(line, bytes):
            line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")
        else:
            yield number, line.removesuffix("\n").removesuffix("\r")


def _decoded(where: str, line: str | bytes) -> tuple[str, str] | BadInput:
    if isinstance(line, str):
        return where, line
    try:
        return where, line.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadInput(
            f"{where}, byte {error.start + 1}: 0x{line[error.start]:02x} is not UTF-8: convert the texts to UTF-8"
        )
