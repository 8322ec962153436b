"""What `graft predict` is asked about: images by file, folder, pattern or a list from stdin;
texts as they are, from tables, files of lines or stdin. One that cannot be read is a `BadInput`,
and the next ones follow.
"""

import codecs
import errno
import glob
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.recipes.codecs.asked import Text, check_text
from graft.recipes.data import tables
from graft.recipes.data.reading import Tally, listed
from graft.zoo.errors import DataError
from graft.zoo.vision import decode_image

__all__ = ["Asked", "BadInput", "image_files", "read_items", "texts"]

LINES = (".txt",)
"""Files of one text a line."""

NAMES_OF_FILES = (
    *tables.SUFFIXES,
    *LINES,
    ".json",
    ".conll",
    ".bio",
    ".iob2",
    ".xlsx",
    ".xls",
    ".parquet",
    ".pdf",
    ".docx",
    ".md",
    ".html",
    ".xml",
    ".gz",
    ".zip",
)
"""What looks like the name of a file, and not like a text."""

STDIN = "-"

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and what they stand for; that of UTF-16 is the beginning of the other one."""


@dataclass(frozen=True)
class BadInput:
    """An input that cannot be labelled; `why` names it."""

    why: str


@dataclass(frozen=True)
class Asked:
    """An input that can be labelled: what the answer calls it, and what a codec takes of it."""

    name: str
    content: Any


def read_items(
    modality: str, inputs: Sequence[str], *, size: int | None, column: str, words: bool
) -> Iterator[Asked | BadInput]:
    """What a model of this modality is asked about, in order.

    Args:
        modality: of the model.
        inputs: the arguments of the command.
        size: of images, in pixels.
        column: of tables of texts.
        words: whether texts are words already.
    """
    return READERS[modality](inputs, size, column, words)


def _images(
    inputs: Sequence[str], size: int, column: str, words: bool
) -> Iterator[Asked | BadInput]:
    for file in image_files(inputs):
        yield file if isinstance(file, BadInput) else _decoded_image(file, size)


def _texts(
    inputs: Sequence[str], size: int | None, column: str, words: bool
) -> Iterator[Asked | BadInput]:
    for text in texts(inputs, column, words):
        yield text if isinstance(text, BadInput) else Asked(text.text, text)


READERS: dict[str, Callable[..., Iterator[Asked | BadInput]]] = {"image": _images, "text": _texts}
"""By modality."""


def _decoded_image(file: Path, size: int) -> Asked | BadInput:
    try:
        return Asked(str(file), decode_image(file, size))
    except DataError as error:
        return BadInput(str(error))
    except OSError as error:  # of the look at what kept it from being read
        return BadInput(f"'{file}' cannot be read: {error.strerror or error}")


def image_files(inputs: Sequence[str]) -> Iterator[Path | BadInput]:
    """The files of images that `inputs` name, in order: files, folders at any depth, patterns
    such as `photos/*.jpg`, and `-` for a list of any of these from stdin, one a line.
    """
    for item in inputs:
        if item == STDIN:
            for _, line in _stdin_lines():
                if line.strip():
                    yield from _images_of(os.fsdecode(line))
        else:
            yield from _images_of(item)


def texts(inputs: Sequence[str], text_column: str, words: bool) -> Iterator[Text | BadInput]:
    """The texts that `inputs` give, in order: the texts themselves, tables (their column
    `text_column`), files of one text a line, and `-` for a text a line from stdin. With `words`
    each is split at blanks, or is a JSON list of words; a list in JSON lines is words anyway. An
    input that cannot be read, or not to its end, is a `BadInput` behind what was read of it.
    """
    for number, item in enumerate(inputs, 1):
        where = f"text {number} of {len(inputs)}"
        try:
            for row in _rows_of(item, where, text_column):
                yield row if isinstance(row, BadInput) else _text(*row, words)
        except DataError as error:
            yield BadInput(str(error))
        except OSError as error:
            source = "stdin" if item == STDIN else f"'{item}'"
            yield BadInput(f"{source} cannot be read: {_cause(error)}")


def _rows_of(
    item: str, where: str, column: str
) -> Iterable[tuple[str, str | list[str]] | BadInput]:
    """(what messages call it, what it holds) for each text of an argument; `where` is what the
    argument itself is called.

    Raises:
        DataError, OSError: it is a file that cannot be read.
    """
    if item == STDIN:
        return (_decoded(f"line {line} of stdin", text) for line, text in _stdin_lines())
    file = _file_named(item)
    if file is None:
        return [(where, item)]
    if file.suffix.lower() in LINES:
        return (
            (f"'{file}', line {i}", text)
            for i, text in enumerate(tables.lines(tables.read_text(file)), 1)
        )
    return _cells(file, column)


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
    return (
        found
        if isinstance(found, list) and found and all(isinstance(word, str) for word in found)
        else None
    )


def _images_of(item: str) -> Iterator[Path | BadInput]:
    try:
        yield from _found_images(item)
    # A name too long, a folder that may not be entered; a zero byte in a pattern.
    except (OSError, ValueError) as error:
        yield BadInput(f"'{item}' cannot be read: {_cause(error)}")


def _found_images(item: str) -> Iterator[Path | BadInput]:
    from graft.recipes.data.folders import suffixes

    path = Path(item)
    if _holds(path.is_dir, item):
        yield from _images_in(path)
    elif glob.has_magic(item) and not _holds(path.exists, item):
        found = sorted(glob.glob(os.path.expanduser(item), recursive=True))
        if not found:
            yield BadInput(f"nothing fits the pattern '{item}'")
        for name in found:
            # What a pattern takes in by the way is no bad input.
            if Path(name).suffix.lower() in suffixes() or os.path.isdir(name):
                yield from _images_of(name)
    else:
        yield path


def _holds(asked: Callable[[], bool], item: str) -> bool:
    """What `asked` says of a path; a pattern may be longer than any name.

    Raises:
        OSError: nobody can say.
    """
    try:
        return asked()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG and glob.has_magic(item):
            return False
        raise


def _images_in(folder: Path) -> Iterator[Path | BadInput]:
    from graft.recipes.data.folders import pictures_below

    tally, closed = Tally(), []
    found = pictures_below(folder, folder, tally, onerror=closed.append)
    yield from found
    for error in closed:
        yield BadInput(f"'{error.filename}' cannot be read: {_cause(error)}")
    if not found and not closed:
        others = f" (there are {listed(tally.left_out, examples=True)})" if tally.left_out else ""
        yield BadInput(f"the folder '{folder}' holds no images{others}")


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _file_named(item: str) -> Path | None:
    """The file that an argument names; None: it is a text.

    Raises:
        DataError: a folder, a file of another kind, or the name of a file that is not there.
    """
    from graft.zoo.terminal import warn

    path = Path(item)
    suffix = path.suffix.lower()
    looks = suffix in NAMES_OF_FILES and (
        not any(c.isspace() for c in item) or item.startswith(("/", "./", "../", "~"))
    )
    through = "a text that looks like a file's name goes in through stdin, `-`"
    try:
        exists = bool(item.strip()) and path.exists()
    except OSError as error:
        if looks and error.errno != errno.ENAMETOOLONG:
            raise
        return None  # a text that is too long for a name
    if exists and path.is_file() and suffix in (*tables.SUFFIXES, *LINES):
        return path
    if exists and (looks or os.sep in item):
        kind = (
            "a folder"
            if path.is_dir()
            else f"a '{suffix}' file"
            if suffix
            else "a file without an ending"
        )
        raise DataError(
            f"'{item}' is {kind}: expected texts, a table ({', '.join(tables.SUFFIXES)}) or a .txt "
            "file of one text a line; "
            f"{through}"
        )
    if exists:
        warn(
            f"'{item}' is also the name of a {'folder' if path.is_dir() else 'file'} here: taken "
            "for a text"
        )
    elif looks:
        raise DataError(f"there is no file '{item}'; {through}")
    return None


def _cells(file: Path, column: str) -> Iterator[tuple[str, str | list[str]] | BadInput]:
    """(where it stands, what it holds) for each cell of a column, by the rules that training reads
    tables by. What ends the reading is a `BadInput` behind the rows before it.
    """
    tally, found = Tally(), 0
    lacking: list[BadInput] = []  # rows without the column, as long as none has it
    bad = None
    try:
        for line, row in tables.rows(file, (column,), tally):
            try:
                cell = tables.cell(file, line, row, column, "text")
            except DataError as error:
                if column not in row and not found:
                    lacking.append(BadInput(str(error)))
                else:
                    yield BadInput(str(error))
                continue
            if not found:
                yield from lacking
            found += 1
            yield f"'{file}', line {line}", cell
    except DataError as error:
        bad = BadInput(f"{error} (the table is read up to there)" if found else str(error))
    tally.warn(str(file), found)
    if not found and bad is None:
        # A column that no row has is one fault, not one of each row.
        bad = lacking[0] if lacking else BadInput(f"'{file}' holds no texts")
    if bad is not None:
        yield bad


def _stdin_lines() -> Iterator[tuple[int, str | bytes]]:
    r"""(number, line) of stdin, cut at "\n" and at nothing else, without a "\r" before it; bytes
    where stdin has them. Where there is no "\n" a "\r" ends a line, and where there is a byte order
    mark all is decoded by it.

    Raises:
        DataError: what stands behind a byte order mark is something else.
    """
    # Text mode takes "\r" for a line's end too.
    lines: Iterator[str | bytes] = iter(getattr(sys.stdin, "buffer", sys.stdin))
    first = next(lines, "")
    if isinstance(first, bytes):
        encoding = next((encoding for mark, encoding in MARKS if first.startswith(mark)), None)
        if encoding is not None:
            yield from enumerate(
                tables.lines(_decoded_whole(b"".join([first, *lines]), encoding)), 1
            )
            return
        first = first.removeprefix(codecs.BOM_UTF8)
    if not first.endswith(_like(first, "\n")):  # it is all there is
        end = _like(first, "\r")
        lines = iter(first.removesuffix(end).split(end) if first else ())
    else:
        lines = itertools.chain([first], lines)
    for number, line in enumerate(lines, 1):
        yield number, line.removesuffix(_like(line, "\n")).removesuffix(_like(line, "\r"))


def _like(line, mark: str):
    """`mark` in the type of `line`."""
    return mark.encode() if isinstance(line, bytes) else mark


def _decoded_whole(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"stdin is no whole {encoding.upper()} text ({error.reason}): convert the texts to "
            "UTF-8"
        ) from error


def _decoded(where: str, line: str | bytes) -> tuple[str, str] | BadInput:
    if isinstance(line, str):
        return where, line
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
