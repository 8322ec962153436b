"""Whether a table of several tasks has what training and measuring need: answers and labels, split
by split.

Plain records, no TensorFlow.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graft.recipes.data.sources import SPLITS, Source
from graft.zoo.errors import DataError
from graft.zoo.terminal import warn

if TYPE_CHECKING:
    from graft.recipes.data.tasks import Task

__all__ = ["check_splits", "check_table", "labels_in", "of_task"]


def of_task(source: Source, number: int) -> dict[str, list[str]]:
    """The cells of a task, by its number, that are not empty, by split."""
    return {
        split: [e.cells[number] for e in examples if e.cells[number]]
        for split, examples in source.splits.items()
    }


def labels_in(kind: str, cell: str) -> list[str]:
    """The labels in a cell of a task of this kind."""
    return [
        part.strip()
        for part in (cell.split(";") if kind == "multi_label" else [cell])
        if part.strip()
    ]


def check_table(source: Source, number: int, task: "Task") -> None:
    """Refuse a table, as it was read, from which a task cannot be learned.

    Raises:
        DataError: fewer than two answers or labels to train on, or a label that only another split
            has.
    """
    cells = of_task(source, number)
    if len(cells["train"]) < 2:
        raise DataError(
            f"task '{task.name}' of '{source.name}' has {len(cells['train'])} answers to train on "
            "and needs 2: fill cells "
            f"of its column '{task.column}', or leave the task out of --tasks"
        )
    if task.kind == "regression":
        return
    counts = _counts(cells, task)
    if len(counts["train"]) < (2 if task.kind == "single_label" else 1):
        raise DataError(
            f"task '{task.name}' of '{source.name}' has one label only: there is nothing to learn"
        )
    for split, found in counts.items():
        stranger = next((label for label in found if label not in counts["train"]), None)
        if stranger is not None:
            raise DataError(
                f"the label '{stranger}' of task '{task.name}' occurs in {split} only: a model "
                "cannot learn what the "
                "training data do not show; add examples, or correct the label"
            )


def check_splits(source: Source, tasks: "Sequence[Task]") -> None:
    """Refuse splits, once all are there, in which some task has nothing to be trained or measured
    on; warn of labels that are not among the training answers: splits are made by the labels of one
    task, and may part those of another.

    Raises:
        DataError: names the task and the split, or the label.
    """
    for number, task in enumerate(tasks):
        of = f"task '{task.name}' of '{source.name}'"
        mend = (
            f"fill more cells of column '{task.column}', or choose the splits by a column 'split' "
            "or --split-seed"
        )
        cells = of_task(source, number)
        empty = next((split for split, own in cells.items() if not own), None)
        if empty is not None:
            raise DataError(f"{of} has no answer in the {empty} split: {mend}")
        if task.kind == "regression":
            continue
        counts = _counts(cells, task)
        known = counts["train"]
        strangers = {
            label: split for split in SPLITS[1:] for label in counts[split] if label not in known
        }
        if not strangers:
            continue
        label, more = (
            next(iter(strangers)),
            f" (and {len(strangers) - 1} more)" if len(strangers) > 1 else "",
        )
        where = (
            f"'{label}'{more} is in the {strangers[label]} split, but not among the training "
            "answers"
        )
        if task.kind == "single_label" and len(known) < 2:
            raise DataError(f"{of} has '{next(iter(known))}' alone to learn: {where}: {mend}")
        warn(f"{of}: {where}: it cannot be learned")


def _counts(cells: Mapping[str, Sequence[str]], task: "Task") -> dict[str, Counter]:
    """How often each label occurs, by split."""
    return {
        split: Counter(label for cell in own for label in labels_in(task.kind, cell))
        for split, own in cells.items()
    }
