"""Files of text: their encoding, their lines and the words of a line."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from graft.zoo.errors import DataError

__all__ = [
    "error_at",
    "iterate_lines",
    "read_text",
    "split_lines",
    "split_words",
    "with_line_feeds",
]

READ_BYTES = 2**20
"""What is held at once of a file that is read line by line."""

SIGNATURES = {
    b"\x1f\x8b": "is compressed: unpack it first, as with gunzip",
    b"PK\x03\x04": "is a zip archive, or a workbook of Excel: unpack it, or save the sheet as CSV",
    b"PAR1": "is a Parquet file: call it .parquet",
    b"\xd0\xcf\x11\xe0": "is a workbook of an old Excel: save the sheet as CSV",
}
"""How a file begins that is no text, and what to do with it."""
HEAD_BYTES = 4096
"""In which a zero byte says that a file is no text."""


def error_at(path: Path, place: int | str, why: str) -> DataError:
    """The error that names a line of a file, or another `place` in it, and says `why`."""
    where = f"line {place}" if isinstance(place, int) else place
    return DataError(f"'{path}', {where}: {why}")


def read_text(path: Path) -> str:
    """The content of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises:
        DataError: another encoding (names the line and the column of the first byte that is not
            UTF-8), or no text.
    """
    content = path.read_bytes()
    encoding = _checked_encoding(path, content[:HEAD_BYTES])
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, encoding, error, content[: error.start + 1]) from error


def iterate_lines(path: Path) -> Iterator[str]:
    """The lines of a file as `read_text` decodes it, each with the line feed that ends it; what is
    held of the file at once is a line. See `split_lines` for what ends one.

    Raises:
        DataError: as `read_text` does, before the first line.
    """
    encoding, is_old_mac = _scan(path)
    is_first = True
    with path.open(encoding=encoding, newline="\r" if is_old_mac else "\n") as file:
        for line in file:
            line = line.removeprefix("\ufeff") if is_first else line
            is_first = False
            if is_old_mac:
                line = line.replace("\r", "\n")
                while "\n" in line[:-1]:  # at the very end there may be line feeds
                    part, _, line = line.partition("\n")
                    yield f"{part}\n"
            if line:
                yield line


def _scan(path: Path) -> tuple[str, bool]:
    """(the encoding of a file, whether carriage returns alone end its lines); all of it is read, a
    stretch at a time.
    """
    # Each of them: whether it came, and with `body` whether anything but line ends came behind it.
    has_feed = feed_in_body = has_return = False
    with path.open("rb") as file:
        chunk = file.read(READ_BYTES)
        encoding = _checked_encoding(path, chunk[:HEAD_BYTES])
        decoder = codecs.getincrementaldecoder(encoding.removesuffix("-sig"))()
        start = 0
        while True:
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                at = start - waiting + error.start
                file.seek(0)
                before = file.read(at + 1)
                raise _wrong_encoding(path, encoding, error, before) from error
            body = text.rstrip("\r\n")
            feed_in_body |= bool(body) and (has_feed or "\n" in body)
            has_feed |= "\n" in text
            has_return |= "\r" in text
            if not chunk:
                return encoding, has_return and not feed_in_body
            start += len(chunk)
            chunk = file.read(READ_BYTES)


def _checked_encoding(path: Path, head: bytes) -> str:
    """The encoding of a file that begins with `head`.

    Raises:
        DataError: it is no text.
    """
    for signature, what in SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(f"'{path}' {what}")
    encoding = _encoding(head)
    if encoding == "utf-8-sig" and b"\0" in head:
        raise DataError(
            f"'{path}' holds zero bytes, as UTF-16 without a byte order mark or no text does: save "
            "it as UTF-8"
        )
    return encoding


def _wrong_encoding(
    path: Path, encoding: str, error: UnicodeDecodeError, until: bytes
) -> DataError:
    """The error of a file whose bytes `until` end with the first that cannot be decoded."""
    if encoding != "utf-8-sig":
        return DataError(
            f"'{path}' is no whole {encoding.upper()} file ({error.reason}): save it as UTF-8"
        )
    before = until[:-1]
    line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
    return DataError(
        f"'{path}', line {line}, column {column}: byte 0x{until[-1]:02x} is not UTF-8: save the "
        "file as UTF-8 (it may be in Windows-1252 or Latin-1)"
    )


def _encoding(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if is_utf16 else "utf-8-sig"


def with_line_feeds(text: str) -> str:
    """With line feeds at the ends of lines where there were carriage returns alone, as an old Mac
    wrote them.
    """
    return text.replace("\r", "\n") if "\n" not in text.rstrip("\r\n") else text


def split_lines(text: str) -> list[str]:
    """The lines of a text without their ends.

    A line feed ends a line, alone or behind a carriage return; where there is none, a carriage
    return does. No other character ends a line, whatever Unicode says (U+2028, U+0085, form feed).
    """
    parts = with_line_feeds(text).split("\n")
    if parts and not parts[-1]:
        parts.pop()
    return [part.removesuffix("\r") for part in parts]


def split_words(text: str) -> list[str]:
    """The words of a text that comes as words: where it has tabs they separate, else blanks; a
    no-break space never does.
    """
    text = text.strip(" \t\r\n")
    cells = text.split("\t") if "\t" in text else re.split(" +", text)
    return [word for cell in cells if (word := cell.strip(" \r\n"))]
