"""What the cells of a row hold: texts, labels, the split that the row belongs to."""

import math
from collections.abc import Sequence
from typing import Any

from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.recipes.data.tables.columns import TableRow, missing_column
from graft.zoo.errors import DataError

__all__ = [
    "MISSING",
    "is_blank",
    "note_if_missing",
    "read_cell",
    "read_label",
    "read_single",
    "read_split",
]

MISSING = ("nan",)
"""What programs write into a table where a value is missing, and no person does."""
PERHAPS_MISSING = ("na", "n/a", "#n/a", "<na>", "none", "null", "nil", "nat")


def is_blank(value: Any) -> bool:
    """Whether a cell holds nothing; 0 and false are something."""
    if isinstance(value, str):
        return not value.strip()
    return value in (None, []) or (isinstance(value, float) and math.isnan(value))


def read_cell(row: TableRow, column: str, role: str = "") -> str | list[str]:
    """The content of one cell, a stripped text or, in JSON lines, a list of texts.

    Args:
        row: the row.
        column: what the column is called.
        role: which of ROLES it plays, so that a message can name the option.

    Raises:
        DataError: no such column, the cell is empty or NaN, or a JSON object.
    """
    if column not in row:
        raise missing_column(row, column, role)
    value = row[column]
    if isinstance(value, list) and value:
        parts = [_text(row, part, column) for part in value]
        if role != "label" and not all(parts):  # of several labels an empty one is none
            raise row.error(
                f"the list in the column '{column}' has an empty part: fill or remove it"
            )
        return parts
    text = "" if value in (None, []) else _text(row, value, column)
    if not text:
        raise _is_empty(row, column, " (NaN)" if isinstance(value, float) else "")
    if text.lower() in MISSING and not row.is_typed:
        raise row.error(
            f"'{text}' in the column '{column}' cannot be told from a missing value, which "
            "programs write so: fill the cell, or remove the row; if it is meant, write it "
            "otherwise, or give JSON lines (.jsonl)"
        )
    return text


def read_single(row: TableRow, column: str, role: str = "") -> str:
    """The content of a cell that holds one thing; a list of one is that.

    Raises:
        DataError: as `read_cell` does, or it is a list of several.
    """
    value = read_cell(row, column, role)
    if isinstance(value, str):
        return value
    if len(value) > 1:
        hint = (
            "; several labels: `graft train text-classification --multi-label` learns them for "
            "texts, `graft train multitask --tasks NAME:multi_label ...` for images"
        )
        raise row.error(
            f"the column '{column}' holds a list of {len(value)}, expected one value"
            f"{hint if role == 'label' else ''}"
        )
    if not value[0]:
        raise _is_empty(row, column)
    return value[0]


def read_label(
    row: TableRow, column: str, *, several: bool = False, tally: Tally | None = None
) -> str:
    """The label in a cell; of `several` labels or none, these joined by ";".

    Raises:
        DataError: as `read_single` does; or one of several labels in a list holds ";".
    """
    if not several:
        text = read_single(row, column, "label")
        note_if_missing(row, [text], tally)
        return text
    if column in row and is_blank(row[column]):
        return ""
    value = read_cell(row, column, "label")
    parts = value if isinstance(value, list) else value.split(";")
    strange = next((part for part in parts if ";" in part), None)
    if strange is not None:
        raise row.error(
            f"the label '{strange}' holds ';', which stands between several labels: rename it"
        )
    note_if_missing(row, [part.strip() for part in parts], tally)
    return ";".join(filter(None, parts)) if isinstance(value, list) else value


def note_if_missing(row: TableRow, labels: Sequence[str], tally: Tally | None) -> None:
    """Note `labels` that may stand for a missing value; they are read as classes."""
    for text in labels:
        if tally is not None and text.lower() in PERHAPS_MISSING and not row.is_typed:
            how = (
                f"the label '{text}' is read as a class; remove the rows if it stands for a "
                "missing value"
            )
            tally.note(how, row.place)


def read_split(row: TableRow, tally: Tally | None = None) -> str:
    """The split that a row belongs to, by its column `split`; "train" without one.

    Raises:
        DataError: no known split.
    """
    blank = is_blank(row.get("split"))
    if tally is not None:
        tally.has_split(row.place, not blank)
    name = "train" if blank else str(row["split"]).strip().lower()
    if name not in SPLIT_NAMES:
        raise row.error(f"split '{row['split']}'; expected train, validation or test")
    return SPLIT_NAMES[name]


def _text(row: TableRow, value: Any, column: str) -> str:
    """One value of a cell as text, "" for NaN."""
    if isinstance(value, dict | list):
        kind = "a JSON object" if isinstance(value, dict) else "a list in a list"
        raise row.error(f"the column '{column}' holds {kind}, expected a text or a number")
    return "" if is_blank(value) else str(value).strip()


def _is_empty(row: TableRow, column: str, how: str = "") -> DataError:
    return row.error(f"the column '{column}' is empty{how}: fill it, or remove the row")
