"""Text, CSV and JSON, written whole or not at all."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graft.zoo.files.staging import staged_file
from graft.zoo.shown import csv_cell

__all__ = ["format_json", "save_arrays", "write_csv", "write_text"]


def format_json(value: Any, indent: str = "") -> str:
    """`value` as JSON for people to read: indented, but a list or an object that holds no others
    stands on one line, so that figures of thousands of labels stay short.
    """
    parts = value.values() if isinstance(value, Mapping) else value
    parts = parts if isinstance(value, Mapping | list | tuple) else ()
    if not any(isinstance(part, Mapping | list | tuple) for part in parts):
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + "  "
    if isinstance(value, Mapping):
        lines = [f"{deeper}{_key(key)}: {format_json(part, deeper)}" for key, part in value.items()]
    else:
        lines = [f"{deeper}{format_json(part, deeper)}" for part in value]
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    return f"{first}\n" + ",\n".join(lines) + f"\n{indent}{last}"


def _key(key: object) -> str:
    """A key as `json.dumps` writes it, which makes text of numbers, booleans and None."""
    return (
        json.dumps(key, ensure_ascii=False) if isinstance(key, str) else json.dumps(json.dumps(key))
    )


def write_text(target: Path, text: str) -> None:
    """Write `text` (UTF-8) whole or not at all."""
    with staged_file(target) as path:
        path.write_text(text, encoding="utf-8")


def write_csv(target: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows` as CSV (UTF-8), whole or not at all: a column for each name that one of them
    has. Text that a spreadsheet would compute is marked as text.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (
        staged_file(target) as path,
        path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(csv_cell, columns))
        writer.writerows([csv_cell(row.get(name, "")) for name in columns] for row in rows)


def save_arrays(target: Path, **arrays: np.ndarray) -> None:
    """Write a compressed NumPy archive, whole or not at all."""
    with staged_file(target) as path:
        np.savez_compressed(path, **arrays)
