"""Several tasks on the same images: one table, a column a task, empty cells where a task's answer
is not known.

Plain records, no TensorFlow.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from graft.recipes.data.containers.parts import Part, part_rows
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLITS, Answer, Record, Source, TaskRow
from graft.recipes.data.specs import place_of
from graft.recipes.data.tables.cells import is_blank, read_cell, read_split
from graft.recipes.data.tables.image_paths import ImagePaths
from graft.recipes.data.tables.rows import SUFFIXES, is_table
from graft.recipes.tasks import answers
from graft.recipes.tasks.cells import Cell, Column
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.table import column_kinds, find_task
from graft.zoo.contents import Packed
from graft.zoo.errors import ConfigError, DataError

__all__ = ["columns_of", "load_task_table", "parse_columns", "tasks_of_table"]

FORM = "NAME[=COLUMN][:KIND[:WEIGHT]]"
LEFT_TO_TRAIN = 2
"""Examples of a group that stay in the training data."""
INPUT_KEY = "input"
"""What `graft predict --json` calls the image, beside the tasks."""
MAX_WEIGHT = 1e6
"""Losses are float32, which ends at 3.4e38."""


def parse_columns(specs: Sequence[str], dropout: float = 0.0) -> tuple[Column, ...]:
    """Tasks written as NAME[=COLUMN][:KIND[:WEIGHT]]; the column is called as the task, the kind
    single_label.

    Raises:
        ConfigError: another form, an unknown kind, a name that is taken, a weight that is not above
            0 or too large, fewer than two tasks or two of one name.
    """
    found = []
    for spec in specs:
        name, *more = spec.split(":")
        name, _, column = name.partition("=")
        kind, weight = (more + ["single_label", "1"][len(more) :])[:2]
        try:
            task = Column(name, column or name, kind, float(weight), dropout)
        except ValueError:
            task = None
        if task is None or len(more) > 2 or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ConfigError(
                f"--tasks '{spec}' is not of the form {FORM}, like digit or "
                "age=years:regression:0.5"
            )
        if kind not in column_kinds():
            raise ConfigError(
                f"--tasks '{spec}': the kind is one of {', '.join(column_kinds())}, not '{kind}'"
            )
        if not 0 < task.weight <= MAX_WEIGHT:
            raise ConfigError(
                f"--tasks '{spec}': a weight is above 0 and at most {MAX_WEIGHT:,.0f}, not {weight}"
            )
        if name == INPUT_KEY:
            raise ConfigError(
                f"--tasks '{spec}': `graft predict --json` writes the image's path under "
                f"'{INPUT_KEY}': call the task otherwise, like answer={task.column}"
            )
        found.append(task)
    if len({task.name for task in found}) < max(2, len(found)):
        raise ConfigError(
            f"--tasks needs two or more different ones, got {', '.join(specs) or 'none'}"
        )
    return tuple(found)


def columns_of(described: Mapping[str, Mapping]) -> tuple[Column, ...]:
    """The columns in which the tasks of an artifact are looked for; `described` is what its
    preprocessing.json says of each output.
    """
    return tuple(
        Column(name, facts.get("column") or name, facts["kind"])
        for name, facts in described.items()
    )


def load_task_table(
    spec: str, columns: Sequence[Column], *, path_column: str = "path", to_train: bool = True
) -> Source:
    """Read the table `spec`: a path (relative to it), a column for each task and, if it has one, a
    column `split`.

    Splits that are missing are to be stratified by the first task that chooses one label, if there
    is one; images without it, and those of labels too rare to be split, are one group. Where
    nothing is trained on it (`to_train` False) it needs no train split, and any number of answers
    and labels.

    Raises:
        DataError: no table, a column or an image that is not there, a number that is none or too
            large; to train on, a task with fewer than two answers or labels to learn or a label
            that only another split has.
    """
    tally = Tally()
    splits: dict[str, list[TaskRow]] = {}
    asked = (path_column, *(task.column for task in columns))
    for part in _parts(spec, tally):
        images = ImagePaths(part.path, tally)
        for row in part_rows(part, asked, tally, path_column):
            read = [_read(Cell(row, task.name, task.column, tally), task) for task in columns]
            if not any(text for text, _ in read):
                raise row.error("no task has an answer: fill a cell, or remove the row")
            image, name = images.find(row, path_column)
            record = _record(image, name, columns, read)
            splits.setdefault(read_split(row, tally), []).append(record)
        images.check()
    if not splits:
        raise DataError(f"'{spec}' holds no rows: expected a row for each image below the header")
    if "train" in splits:
        missing = sum(split not in splits for split in SPLITS)
        splits["train"] = _grouped(splits["train"], columns, missing)
    elif to_train:
        raise DataError(
            f"'{spec}' has no rows to train on: leave the column split away, or name one 'train'"
        )
    there: dict[str, tuple[Record, ...]] = {
        split: tuple(splits[split]) for split in SPLITS if split in splits
    }
    source = Source(spec, (), there, tally.left_out)
    for column in columns if to_train else ():
        answers.check_table(source, column)
    tally.warn(spec, sum(map(len, splits.values())))
    return source


def tasks_of_table(
    source: Source, columns: Sequence[Column], learned: bool = False, balanced: bool = False
) -> Tasks:
    """The tasks of a table as it was read, with the labels that occur in it, or the mean and spread
    of its training values.

    Args:
        source: the table.
        columns: of the tasks.
        learned, balanced: how the tasks are weighted; see `group.Tasks`.
    """
    tasks = tuple(
        find_task(column.kind).of_column(column, answers.of_task(source, column.name))
        for column in columns
    )
    return Tasks(tasks, learned, balanced)


def _parts(spec: str, tally: Tally) -> list[Part]:
    """The files that the table `spec` consists of.

    Raises:
        DataError: there is none.
    """
    place = place_of(spec, tally)
    if isinstance(place, list):
        return place
    if not place.exists():
        raise DataError(f"there is no file '{spec}': check the path given to --data")
    if not is_table(place):
        raise DataError(
            f"'{spec}' is no table: several tasks are read from a {', '.join(SUFFIXES)} file"
        )
    return [Part(place)]


def _read(cell: Cell, column: Column) -> tuple[str, Answer | None]:
    """The text of a cell and its answer; "" and None where it is not known."""
    if is_blank(cell.row.get(cell.column, "missing")):
        return "", None
    if cell.column not in cell.row:
        try:
            read_cell(cell.row, cell.column)  # says which columns there are
        except DataError as error:
            raise DataError(f"{error}: --tasks {cell.task}=COLUMN says what it is called") from None
    return find_task(column.kind).read_cell(cell)


def _record(
    image: Path | Packed,
    name: str,
    columns: Sequence[Column],
    read: Sequence[tuple[str, Answer | None]],
) -> TaskRow:
    known = {
        column.name: answer
        for column, (_, answer) in zip(columns, read, strict=True)
        if answer is not None
    }
    labels = {
        f" of '{column.name}'": known.get(column.name, ())
        for column in columns
        if find_task(column.kind).least_labels
    }
    return TaskRow(image, tuple(text for text, _ in read), name, known, labels)


def _grouped(records: Sequence[TaskRow], columns: Sequence[Column], missing: int) -> list[TaskRow]:
    """The training `records` with the groups by which `missing` splits can be made of them."""
    number = next((i for i, task in enumerate(columns) if find_task(task.kind).chooses), None)
    if number is None:
        return list(records)
    counts = Counter(record.cells[number] for record in records)
    fewest = LEFT_TO_TRAIN + missing  # one for each split
    large = {cell for cell, count in counts.items() if cell and count >= fewest}
    others = ""
    if large and sum(count for cell, count in counts.items() if cell not in large) < fewest:
        # The others are too few even together: they go with the most frequent label.
        others = max(large, key=lambda cell: counts[cell])
    return [
        replace(record, group=record.cells[number] if record.cells[number] in large else others)
        for record in records
    ]
