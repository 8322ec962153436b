"""Files of labels, one a line in the order of the output units, as people and their editors write
them.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.zoo.errors import DataError

__all__ = ["LabelFile", "check_labels", "decode_text", "parse_labels", "read_labels"]

# The mark of UTF-32 begins with that of UTF-16, so the longer ones come first.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that cannot stand in a line of labels.txt."""


@dataclass(frozen=True)
class LabelFile:
    """What a file of labels holds.

    Attributes:
        labels: one for each output unit.
        notes: what was guessed or left out in reading it, for a warning each.
    """

    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def decode_text(content: bytes) -> tuple[str, str]:
    """(the text in `content`, its encoding): UTF-8, UTF-16 or UTF-32 with or without a byte order
    mark, else Windows-1252, which holds all that Latin-1 can print.

    Raises:
        UnicodeDecodeError: a mark says what the bytes are not.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding), encoding
    zeros = [content[place::4].count(0) for place in range(4)]
    if sum(zeros) > len(content) / 8:  # of letters in UTF-16 every second byte is zero
        wide = sum(zeros) > len(content) / 2
        encoding = ("utf-32" if wide else "utf-16") + ("-le" if zeros[3] > zeros[0] else "-be")
        return content.decode(encoding), encoding
    for encoding in ("utf-8", "cp1252"):
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1"), "latin-1"


def read_labels(path: Path) -> LabelFile:
    """The labels in the text file `path`, without blanks around them; empty lines are left out.

    Raises:
        DataError: it cannot be read, holds none, or one of them twice.
    """
    try:
        text, encoding = decode_text(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"there is no file '{path}' of labels: expected a text file, one label a line"
        ) from error
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read ({error.strerror}): expected a text file, one label a line"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is damaged ({error}): save the labels as UTF-8, one a line"
        ) from error
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    while lines and not lines[-1]:
        lines.pop()
    numbers = {number: label for number, label in enumerate(lines, 1) if label}
    check_labels(tuple(numbers.values()), f"'{path}'", tuple(numbers))
    notes = []
    if not encoding.startswith("utf"):
        notes.append(
            f"'{path}' is not UTF-8: its labels were read as Latin-1 (Windows-1252); save it as "
            "UTF-8"
        )
    if empty := len(lines) - len(numbers):
        first = next(number for number in range(1, len(lines) + 1) if number not in numbers)
        notes.append(
            f"'{path}': {empty} empty line{'s' * (empty > 1)} left out, the first is line {first}"
        )
    return LabelFile(tuple(numbers.values()), tuple(notes))


def parse_labels(given: str) -> LabelFile:
    """The labels that an option names: a file of them, or the labels themselves, separated by
    commas.

    Raises:
        DataError: no such file; no label, or one of them twice.
    """
    path = Path(given).expanduser()
    try:
        exists = path.exists()
    except (OSError, ValueError):  # too long for a name, or no name at all
        exists = False
    if exists:
        return read_labels(path)
    if "," not in given and (path.suffix or len(path.parts) > 1):
        raise DataError(
            f"there is no file '{given}' of labels: expected a text file, one label a line, or "
            "a,b,c"
        )
    labels = tuple(label.strip() for label in given.split(","))
    if "" in labels:
        raise DataError(
            f"--labels '{given}': label {labels.index('') + 1} is empty: expected a file, or a,b,c"
        )
    check_labels(labels, f"--labels '{given}'")
    return LabelFile(
        labels,
        ()
        if len(labels) > 1
        else (f"there is no file '{given}': --labels is taken for the only label",),
    )


def check_labels(labels: Sequence[str], where: str, lines: Sequence[int] | None = None) -> None:
    """Refuse labels that cannot name output units.

    Raises:
        DataError: there are none, one stands twice, or holds a character that a line of text cannot
            hold.
    """
    if not labels:
        raise DataError(
            f"{where} holds no labels: expected one a line, in the order of the outputs"
        )
    seen: dict[str, int] = {}
    for place, label in enumerate(labels, 1):
        number = lines[place - 1] if lines else place
        if label in seen:
            raise DataError(
                f"{where} has the label '{label}' twice ({'lines' if lines else 'places'} "
                f"{seen[label]} and {number}): each output needs a name of its own"
            )
        if UNSEEN.search(label) or label != label.encode("utf-8", "replace").decode():
            raise DataError(
                f"{where}: the label {label!r} cannot stand on a line of text: rename it"
            )
        seen[label] = number
