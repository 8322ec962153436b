"""What `graft predict` writes, an answer at a time: lines or a JSON list on stdout, a table in a
file.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from graft.recipes.tasks.group import Tasks
from graft.zoo.errors import ConfigError
from graft.zoo.files.staging import refuse_existing, staged_file
from graft.zoo.shown import csv_cell
from graft.zoo.terminal import json_shown

__all__ = ["TABLES", "cells_of", "check_table", "json_list", "table"]

TABLES = (".csv", ".jsonl")
BESIDE = ("input", "truncated", "unreadable")
"""What stands in an answer beside what a task says."""


def cells_of(answer: Mapping, tasks: Tasks, top: int) -> list[str]:
    """An answer for the terminal, as the cells of a line: the input and what each task says of
    it.
    """
    parts = _parts(answer, tasks)
    return [
        answer["input"],
        *(cell for task in tasks for cell in task.cells(parts[task.name], top)),
    ]


def _parts(answer: Mapping, tasks: Tasks) -> Mapping[str, Mapping]:
    """What each task says; of one alone it lies bare in the answer, beside the input and the
    marks.
    """
    if len(tasks) > 1:
        return answer
    said = {key: value for key, value in answer.items() if key not in BESIDE}
    return {tasks.first.name: said}


@contextlib.contextmanager
def json_list() -> Iterator[Callable[[Mapping], None]]:
    """Yield a function that prints an answer as the next item of a JSON list; the list ends
    whatever happens.
    """
    count = 0

    def write(answer: Mapping) -> None:
        nonlocal count
        text = json_shown(answer).replace("\n", "\n  ")
        print(f"{',' if count else '['}\n  {text}", end="", flush=True)
        count += 1

    try:
        yield write
    finally:
        print("\n]" if count else "[]", flush=True)


def check_table(path: Path, overwrite: bool) -> None:
    """Refuse a table that cannot be written.

    Raises:
        ConfigError: another ending than those of `TABLES`, or it exists and `overwrite` is false.
    """
    if path.suffix.lower() not in TABLES:
        raise ConfigError(
            f"--out '{path}' is no table: expected a name that ends with {' or '.join(TABLES)}"
        )
    if path.is_dir():
        raise ConfigError(
            f"--out '{path}' is a folder: give the name of a file that ends with "
            f"{' or '.join(TABLES)}"
        )
    refuse_existing(path, overwrite)


@contextlib.contextmanager
def table(path: Path, tasks: Tasks, texts: bool) -> Iterator[Callable[[Mapping], None]]:
    """Yield a function that adds an answer to the table `path`, which appears whole when all are
    written.

    JSON lines hold answers as they are. CSV has a column for each number: `label`, `probability`,
    `score_LABEL`, ...; of several `tasks` with their names before; of `texts` a column `truncated`.
    """
    with (
        staged_file(path) as part,
        part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        if path.suffix.lower() == ".jsonl":
            yield lambda answer: print(json.dumps(answer, ensure_ascii=False), file=file)
            return
        writer = None

        def write(answer: Mapping) -> None:
            nonlocal writer
            row = {
                csv_cell(name): csv_cell(value)
                for name, value in _columns(answer, tasks, texts).items()
            }
            if writer is None:
                writer = csv.DictWriter(file, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)

        yield write


def _columns(answer: Mapping, tasks: Tasks, texts: bool) -> dict:
    """An answer as a row of CSV, the same columns for each answer of a model."""
    row, parts = {"input": answer["input"]}, _parts(answer, tasks)
    for task in tasks:
        before = f"{task.name}_" if len(tasks) > 1 else ""
        columns = task.columns(parts[task.name])
        row |= {f"{before}{name}": value for name, value in columns.items()}
    return row | ({"truncated": answer.get("truncated", False)} if texts else {})
