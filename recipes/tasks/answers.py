"""Whether a table of several tasks has what training and measuring need: answers and labels, split
by split.

Plain records, no TensorFlow.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from graft.recipes.data.records import SPLITS, Answer, Source
from graft.recipes.tasks.cells import Column
from graft.recipes.tasks.table import find_task
from graft.zoo.errors import DataError
from graft.zoo.terminal import warn

__all__ = ["check_splits", "check_table", "of_task"]


def of_task(source: Source, name: str) -> dict[str, list[Answer]]:
    """The known answers of a task, by split."""
    return {
        split: [record.answers[name] for record in records if name in record.answers]
        for split, records in source.splits.items()
    }


def check_table(source: Source, column: Column) -> None:
    """Refuse a table, as it was read, from which a task cannot be learned.

    Raises:
        DataError: fewer than two answers or labels to train on, or a label that only another split
            has.
    """
    known, least = of_task(source, column.name), find_task(column.kind).least_labels
    if len(known["train"]) < 2:
        raise DataError(
            f"task '{column.name}' of '{source.name}' has {len(known['train'])} answers to train "
            "on "
            f"and needs 2: fill cells of its column '{column.column}', or leave the task out of "
            "--tasks"
        )
    if not least:
        return
    counts = _counts(known)
    if len(counts["train"]) < least:
        raise DataError(
            f"task '{column.name}' of '{source.name}' has one label only: there is nothing to learn"
        )
    for split, found in counts.items():
        stranger = next((label for label in found if label not in counts["train"]), None)
        if stranger is not None:
            raise DataError(
                f"the label '{stranger}' of task '{column.name}' occurs in {split} only: a model "
                "cannot learn what the training data do not show; add examples, or correct the "
                "label"
            )


def check_splits(source: Source, columns: Sequence[Column]) -> None:
    """Refuse splits, once all are there, in which some task has nothing to be trained or measured
    on; warn of labels that are not among the training answers: splits are made by the labels of one
    task, and may part those of another.

    Raises:
        DataError: names the task and the split, or the label.
    """
    for column in columns:
        of = f"task '{column.name}' of '{source.name}'"
        remedy = (
            f"fill more cells of column '{column.column}', or choose the splits by a column "
            "'split' or "
            "--split-seed"
        )
        answers, least = of_task(source, column.name), find_task(column.kind).least_labels
        empty = next((split for split, own in answers.items() if not own), None)
        if empty is not None:
            raise DataError(f"{of} has no answer in the {empty} split: {remedy}")
        if not least:
            continue
        counts = _counts(answers)
        known = counts["train"]
        strangers = {
            label: split for split in SPLITS[1:] for label in counts[split] if label not in known
        }
        if not strangers:
            continue
        label = next(iter(strangers))
        more = f" (and {len(strangers) - 1} more)" if len(strangers) > 1 else ""
        where = (
            f"'{label}'{more} is in the {strangers[label]} split, but not among the training "
            "answers"
        )
        if len(known) < least:
            alone = next(iter(known))
            raise DataError(f"{of} has '{alone}' alone to learn: {where}: {remedy}")
        warn(f"{of}: {where}: it cannot be learned")


def _counts(answers: Mapping[str, Sequence[Answer]]) -> dict[str, Counter]:
    """How often each label occurs, by split."""
    return {
        split: Counter(label for labels in own for label in labels)
        for split, own in answers.items()
    }
