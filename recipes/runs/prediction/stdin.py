"""Inputs from stdin, a line each, and inputs that cannot be read."""

import codecs
import contextlib
import io
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from graft.recipes.data.tables.text_files import with_line_feeds
from graft.zoo.errors import DataError

__all__ = ["STDIN", "BadInput", "cause_of", "stdin_lines"]

STDIN = "-"
"""The argument that stands for it."""

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


def cause_of(error: Exception) -> str:
    """Why a file cannot be read, without its name."""
    return getattr(error, "strerror", None) or str(error)


def stdin_lines() -> Iterator[tuple[int, bytes]]:
    r"""(number, line) of stdin, cut at "\n" and at nothing else, without a "\r" before it.

    Where there is no "\n" a "\r" ends a line, and where there is a byte order mark of UTF-16 or
    UTF-32 all is decoded by it; lines are UTF-8 then.

    Raises:
        DataError: what stands behind a byte order mark is something else.
    """
    lines = _raw_lines()
    first = next(lines, b"")
    encoding = next((encoding for mark, encoding in MARKS if first.startswith(mark)), None)
    if encoding is not None:
        lines = iter(io.BytesIO(_as_utf8(b"".join([first, *lines]), encoding)))
        first = next(lines, b"")
    first = first.removeprefix(codecs.BOM_UTF8)
    if first.endswith(b"\n"):
        lines = itertools.chain([first], lines)
    else:  # it is all there is
        lines = iter(first.removesuffix(b"\r").split(b"\r") if first else ())
    for number, line in enumerate(lines, 1):
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def _raw_lines() -> Iterator[bytes]:
    # Python cannot end while a thread waits in its own reader of stdin, but it can while one waits
    # in ours.
    with contextlib.suppress(AttributeError, OSError):  # no file: a notebook's, a test's
        return iter(open(sys.stdin.fileno(), "rb", closefd=False))
    # Text mode takes "\r" for a line's end too.
    if hasattr(sys.stdin, "buffer"):
        return iter(sys.stdin.buffer)
    return (line.encode("utf-8", "surrogatepass") for line in sys.stdin)


def _as_utf8(content: bytes, encoding: str) -> bytes:
    try:
        return with_line_feeds(content.decode(encoding)).encode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"stdin is no whole {encoding.upper()} text ({error.reason}): convert the texts to "
            "UTF-8"
        ) from error
