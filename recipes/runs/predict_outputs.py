"""What `graft predict` writes, an answer at a time: lines or a JSON list on stdout, a table in a
file.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from graft.zoo.terminal import json_shown
from graft.zoo.errors import ConfigError
from graft.zoo.files.staging import refuse_existing, staged_file
from graft.zoo.shown import csv_cell

__all__ = ["TABLES", "cells_of", "check_table", "json_list", "table"]

TABLES = (".csv", ".jsonl")


def cells_of(answer: Mapping, tasks: Sequence[str], top: int) -> list[str]:
    """An answer for the terminal, as the cells of a line: the input and what each task says of it.
    `tasks` are the names of several heads; empty: there is one.
    """
    parts = [answer[task] for task in tasks] if tasks else [answer]
    return [answer["input"], *(cell for part in parts for cell in _part(part, top))]


def _part(part: Mapping, top: int) -> list[str]:
    """What one head says, for the terminal."""
    if "labels" in part:
        scores = (f"{label} {p:.3f}" for label, p in _highest(part["scores"], top))
        return [", ".join(part["labels"]) or "(none)", *scores]
    if "scores" in part:
        return [f"{label} {p:.3f}" for label, p in _highest(part["scores"], top)]
    if "entities" in part:
        found = (f"{e['type']}: {' '.join(e['text'].split())} {e['probability']:.3f}" for e in part["entities"])
        return [*found] or ["(nothing found)"]
    if "values" in part:
        return [f"{name} {value:.4g}" for name, value in part["values"].items()]
    if "value" in part:
        return [f"{part['value']:.4g}"]
    return [" ".join(f"{value:.4f}" for value in part["embedding"])]


def _highest(scores: Mapping[str, float], top: int) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: -item[1])[:top]


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
        raise ConfigError(f"--out '{path}' is no table: expected a name that ends with "
            f"{' or '.join(TABLES)}")
    if path.is_dir():
        raise ConfigError(f"--out '{path}' is a folder: give the name of a file that ends with "
            f"{' or '.join(TABLES)}")
    refuse_existing(path, overwrite)


@contextlib.contextmanager
def table(path: Path, tasks: Sequence[str], texts: bool) -> Iterator[Callable[[Mapping], None]]:
    """Yield a function that adds an answer to the table `path`, which appears whole when all are
    written.

    JSON lines hold answers as they are. CSV has a column for each number: `label`, `probability`,
    `score_LABEL`, ...; of several `tasks` with their names before; of `texts` a column `truncated`.
    """
    with staged_file(path) as part, part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        if path.suffix.lower() == ".jsonl":
            yield lambda answer: file.write(json.dumps(answer, ensure_ascii=False) + "\n") and None
            return
        writer = None

        def write(answer: Mapping) -> None:
            nonlocal writer
            row = {csv_cell(name): csv_cell(value) for name, value in _cells(answer, tasks, texts).items()}
            if writer is None:
                writer = csv.DictWriter(file, row, lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)

        yield write


def _cells(answer: Mapping, tasks: Sequence[str], texts: bool) -> dict:
    """An answer as a row of CSV, the same columns for each answer of a model."""
    row = {"input": answer["input"]}
    for task in tasks or [""]:
        part, before = (answer[task], f"{task}_") if task else (answer, "")
        for key, value in part.items():
            if key in ("input", "truncated", "unreadable", "words", "tags"):
                continue
            if key in ("scores", "values"):
                row |= {f"{before}{key[:-1]}_{name}": number for name, number in value.items()}
            elif key == "embedding":
                row |= {f"{before}embedding_{place}": number for place, number in enumerate(value)}
            elif key == "entities":
                row[f"{before}entities"] = json.dumps(value, ensure_ascii=False)
            else:
                row[f"{before}{key}"] = ";".join(value) if isinstance(value, list) else value
    return row | ({"truncated": answer.get("truncated", False)} if texts else {})
