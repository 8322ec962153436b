"""What a grid has found so far: one row a cell in bench.csv, and grid.json, which says what the
rows have in common.

The table is written anew, whole, after every cell, so that a grid that is killed finds it again and
goes on.
"""

import csv
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files.reading import read_json
from graft.zoo.files.writing import write_csv, write_text
from graft.zoo.shown import csv_text

__all__ = ["ROWS", "Ledger", "columns", "read_rows"]

ROWS, FACTS = "bench.csv", "grid.json"
FINISHED = ("done", "diverged")
"""The statuses of rows that hold figures."""
TEXTS = [
    "cell",
    "backbone",
    "weights",
    "schedule",
    "status",
    "cause",
    "measure",
    "phases",
    "curve",
    "machine",
    "versions",
    "files_of",
    "files_missing",
    "formats",
    "precisions",
    "test_units",
]
"""Columns that are no numbers."""


class Ledger:
    """The rows in `folder`, by the name of their cell.

    `common` is what all rows must share: data, options, budget; of a mapping in it, such as weights
    by backbone, what both have. A folder whose rows share something else is refused. `overwrite`
    forgets the rows of a grid that is there.

    Raises:
        ConfigError: `folder` holds another grid, or something else, or is no folder.
        ArtifactError: its files cannot be read.
    """

    def __init__(self, folder: Path, common: Mapping, overwrite: bool = False):
        self.folder, self.rows = Path(folder), {}
        common = json.loads(json.dumps(common))
        facts = self.folder / FACTS
        if self.folder.is_file():
            raise ConfigError(f"'{folder}' is a file: --out names the folder of a grid")
        if not facts.exists() and self.folder.exists() and any(self.folder.iterdir()):
            raise ConfigError(f"'{folder}' exists already and holds no grid: give another --out")
        if facts.exists() and overwrite:
            (self.folder / ROWS).unlink(missing_ok=True)
        elif facts.exists():
            before = read_json(facts, dict, "give another --out, or --overwrite")
            told = _differences(before, common)
            if told:
                raise ConfigError(
                    f"'{folder}' holds the results of another grid: {', '.join(told)}; give "
                    "another --out, or --overwrite"
                )
            common = {
                key: {**before.get(key, {}), **value} if isinstance(value, dict) else value
                for key, value in common.items()
            }
            if (self.folder / ROWS).exists():
                self.rows = {row["cell"]: row for row in read_rows(self.folder / ROWS)}
        write_text(facts, json.dumps(common, indent=2, ensure_ascii=False) + "\n")

    def finished(self, cell: str) -> bool:
        """Whether `cell` need not run again. One that died is tried again; one that diverged would
        diverge again.
        """
        return self.rows.get(cell, {}).get("status") in FINISHED

    def forget_dead(self, wanted: Container[str]) -> None:
        """Leave out the cells that died and are not `wanted` any more."""
        self.rows = {
            name: row
            for name, row in self.rows.items()
            if row["status"] in FINISHED or name in wanted
        }

    def put(self, *rows: Mapping) -> None:
        """Add rows, or replace those of the same cells."""
        self.rows |= {row["cell"]: dict(row) for row in rows}
        write_csv(self.folder / ROWS, list(self.rows.values()))


def read_rows(path: Path) -> list[dict]:
    """The rows of a bench.csv, numbers as numbers and empty cells as None.

    Raises:
        ArtifactError: it is no such table.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and not {"cell", "backbone", "schedule", "status"} <= rows[0].keys():
            raise ValueError("it has no columns cell, backbone, schedule and status")
        return [
            {csv_text(key): _value(csv_text(key), csv_text(text)) for key, text in row.items()}
            for row in rows
        ]
    except Exception as error:  # short and long rows, cells that are no numbers, what is no table
        raise ArtifactError(f"'{path}' is no table of `graft bench`: {error}") from error


def columns(rows: Sequence[Mapping], prefix: str) -> list[str]:
    """The columns whose names begin with `prefix`, in order."""
    return list(dict.fromkeys(key for row in rows for key in row if key.startswith(prefix)))


def _differences(before: Mapping, now: Mapping) -> list[str]:
    """What is another one, in words."""
    told = []
    for key in {**before, **now}:
        then, new = before.get(key), now.get(key)
        if isinstance(new, dict):
            shared = (then or {}).keys() & new.keys()
            told += [f"{key} of {name}" for name in sorted(shared) if then[name] != new[name]]
        elif then != new:
            told.append(f"{key} ({then!r} then, {new!r} now)")
    return told


def _value(key: str, text: str) -> str | int | float | None:
    if text == "":
        return None
    if key in TEXTS:
        return text
    number = float(text)
    return int(number) if text.lstrip("-").isdigit() else number
