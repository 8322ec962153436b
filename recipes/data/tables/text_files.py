"""Files of text: their encoding, their lines and the words of a line."""

import codecs
import re
from pathlib import Path

from graft.zoo.errors import DataError

__all__ = ["error_at", "read_text", "split_lines", "split_words", "with_line_feeds"]

SIGNATURES = {
    b"\x1f\x8b": "is compressed: unpack it first, as with gunzip",
    b"PK\x03\x04": "is a zip archive, or a workbook of Excel: unpack it, or save the sheet as CSV",
    b"PAR1": "is a Parquet file: save it as CSV or as JSON lines",
    b"\xd0\xcf\x11\xe0": "is a workbook of an old Excel: save the sheet as CSV",
}
"""How a file begins that is no text, and what to do with it."""


def error_at(path: Path, line: int, why: str) -> DataError:
    """The error that names a line of a file, and says `why`."""
    return DataError(f"'{path}', line {line}: {why}")


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
            "UTF-8: save the file as UTF-8 (it may be in Windows-1252 or Latin-1)"
        ) from error


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
