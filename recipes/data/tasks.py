"""Several tasks on the same pictures: one table, a column a task, empty cells where a task's answer
is not known.

Plain records, no TensorFlow.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from graft.recipes.codecs.augmentation import MIXERS
from graft.recipes.codecs.images import Images
from graft.recipes.data import answers, tables
from graft.recipes.data.labels import sort_labels
from graft.recipes.data.reading import Tally
from graft.recipes.data.sources import SPLITS, Source
from graft.recipes.tasks import evaluation
from graft.recipes.tasks.head_evaluation import figures_of
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.heads import heads
from graft.zoo.heads.heads import Head
from graft.zoo.vision import content_digest

__all__ = [
    "KINDS",
    "Task",
    "Tasked",
    "check",
    "figures",
    "heads_of",
    "load",
    "parse",
    "targets_of",
    "unit_scores",
]

KINDS = ("single_label", "multi_label", "regression")
FORM = "NAME[=COLUMN][:KIND[:WEIGHT]]"
LEFT = 2
"""Examples of a group that stay in the training data."""
TAKEN = "input"
"""What `graft predict --json` calls the picture, beside the tasks."""
HEAVIEST, LARGEST = 1e6, 1e30
"""A weight and a value, at most: losses and sums of errors are float32, which ends at 3.4e38."""


@dataclass(frozen=True)
class Task:
    """One thing to learn.

    Attributes:
        name: of the output in every exported file.
        column: of the table.
        kind: one of KINDS; several labels in a cell are separated by ";".
        weight: what its loss counts.
    """

    name: str
    column: str
    kind: str = "single_label"
    weight: float = 1.0


@dataclass(frozen=True)
class Tasked:
    """One picture and its cells, in the order of the `tasks`; "" where an answer is not known.
    `group` is what splits are stratified by.
    """

    image: Path
    cells: tuple[str, ...]
    name: str
    group: str = ""
    tasks: tuple[Task, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the first task."""
        return tuple(filter(None, self.cells[:1]))

    @property
    def labels_by_task(self) -> dict[str, list[str]]:
        """The labels that each task which has any gives it, by the task's name."""
        pairs = zip(self.tasks, self.cells, strict=bool(self.tasks))
        return {
            task.name: answers.labels_in(task.kind, cell)
            for task, cell in pairs
            if task.kind != "regression"
        }

    @property
    def target(self) -> str:
        """All that is to be learned from it, as text."""
        return "\x01".join(self.cells)

    @cached_property
    def digest(self) -> str:
        """A hash of the content; a file is read once, though splits, fingerprint and duplicates all
        ask.
        """
        return content_digest(self.image)


def parse(specs: Sequence[str]) -> tuple[Task, ...]:
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
            task = Task(name, column or name, kind, float(weight))
        except ValueError:
            task = None
        if task is None or len(more) > 2 or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ConfigError(
                f"--tasks '{spec}' is not of the form {FORM}, like digit or "
                "age=years:regression:0.5"
            )
        if kind not in KINDS:
            raise ConfigError(
                f"--tasks '{spec}': the kind is one of {', '.join(KINDS)}, not '{kind}'"
            )
        if not 0 < task.weight <= HEAVIEST:
            raise ConfigError(
                f"--tasks '{spec}': a weight is above 0 and at most {HEAVIEST:,.0f}, not {weight}"
            )
        if name == TAKEN:
            raise ConfigError(
                f"--tasks '{spec}': `graft predict --json` writes the picture's path under "
                f"'{TAKEN}': call the task "
                f"otherwise, like answer={task.column}"
            )
        found.append(task)
    if len({task.name for task in found}) < max(2, len(found)):
        raise ConfigError(
            f"--tasks needs two or more different ones, got {', '.join(specs) or 'none'}"
        )
    return tuple(found)


def check(settings: FitSettings) -> None:
    """Refuse what several tasks cannot be trained with.

    Raises:
        ConfigError: names the option.
    """
    mixer = next((name for name in settings.augment if name in MIXERS), None)
    if mixer is not None:
        raise ConfigError(
            f"--augment {mixer} mixes the answers of two pictures, which several tasks cannot: "
            "leave it out"
        )
    if settings.class_weights:
        raise ConfigError(
            "--class-weights is for one task: leave it away, or give a task more weight"
        )
    settings.refuse("mixed_precision", "several tasks")


def load(
    spec: str, tasks: Sequence[Task], *, path_column: str = "path", to_train: bool = True
) -> Source:
    """Read the table `spec`: a path (relative to it), a column for each task and, if it has one, a
    column `split`.

    Splits that are missing are to be stratified by the first task that chooses one label, if there
    is one; pictures without it, and those of labels too rare to be split, are one group. Where
    nothing is trained on it (`to_train` False) it needs no train split, and any number of answers
    and labels.

    Raises:
        DataError: no table, a column or a picture that is not there, a number that is none or too
            large; to train on, a task with fewer than two answers or labels to learn or a label
            that only another split has.
    """
    path = Path(spec).expanduser()
    if not path.exists():
        raise DataError(f"there is no file '{spec}': check the path given to --data")
    if path.suffix.lower() not in tables.SUFFIXES or not path.is_file():
        raise DataError(
            f"'{spec}' is no table: several tasks are read from a {', '.join(tables.SUFFIXES)} file"
        )
    splits: dict[str, list[Tasked]] = {}
    tally = Tally()
    pictures = tables.Pictures(path, tally)
    for line, row in tables.rows(path, (path_column, *(task.column for task in tasks)), tally):
        given = tables.one(path, line, row, path_column, "path")
        cells = tuple(_cell(path, line, row, task, tally) for task in tasks)
        if not any(cells):
            raise DataError(
                f"'{path}', line {line}: no task has an answer: fill a cell, or remove the row"
            )
        picture, name = pictures.find(line, given)
        splits.setdefault(tables.split_of(path, line, row, tally), []).append(
            Tasked(picture, cells, name, tasks=tuple(tasks))
        )
    pictures.check()
    if not splits:
        raise DataError(f"'{spec}' holds no rows: expected a row for each picture below the header")
    if "train" in splits:
        splits["train"] = _grouped(
            splits["train"], tasks, sum(split not in splits for split in SPLITS)
        )
    elif to_train:
        raise DataError(
            f"'{spec}' has no rows to train on: leave the column split away, or name one 'train'"
        )
    source = Source(
        spec,
        (),
        {split: tuple(splits[split]) for split in SPLITS if split in splits},
        tally.left_out,
    )
    for number, task in enumerate(tasks if to_train else ()):
        answers.check_table(source, number, task)
    tally.warn(spec, sum(map(len, splits.values())))
    return source


def heads_of(tasks: Sequence[Task], source: Source, dropout: float) -> tuple[Head, ...]:
    """A head for each task, with the labels that occur in `source`, or the mean and spread of its
    training values.
    """
    made = []
    for number, task in enumerate(tasks):
        if task.kind == "regression":
            cells = answers.of_task(source, number)["train"]
            values = np.array([float(cell) for cell in cells], np.float32).astype(
                float
            )  # as they are learned
            centre, scale = float(values.mean()), float(values.std()) or 1.0
            made.append(
                heads.regression(
                    [task.name], name=task.name, dropout=dropout, centre=centre, scale=scale
                )
            )
        else:
            labels = sort_labels(
                label
                for split in source.splits.values()
                for e in split
                for label in answers.labels_in(task.kind, e.cells[number])
            )
            make = heads.single_label if task.kind == "single_label" else heads.multi_label
            made.append(make(labels, name=task.name, dropout=dropout))
    return tuple(made)


def targets_of(heads: Sequence[Head], examples: Sequence[Tasked]) -> dict[str, np.ndarray]:
    """For each head rows of floats `(n, units)`: one-hot, 0 and 1, or the value; NaN where the
    answer is not known.
    """
    found = {}
    for number, head in enumerate(heads):
        rows = np.full((len(examples), len(head.labels)), np.nan, np.float32)
        index = {label: i for i, label in enumerate(head.labels)}
        for row, example in zip(rows, examples, strict=True):
            cell = example.cells[number]
            if not cell:
                continue
            if head.kind == "regression":
                row[0] = float(cell)
                continue
            row[:] = 0.0
            for label in answers.labels_in(head.kind, cell):
                if label not in index:
                    raise DataError(
                        f"'{example.name}': '{label}' is not one of the {len(index)} labels of "
                        f"task '{head.name}': "
                        f"{', '.join(index)}"
                    )
                row[index[label]] = 1.0
        found[head.name] = rows
    return found


def figures(
    heads: Sequence[Head], outputs: Mapping[str, np.ndarray] | np.ndarray, images: Images
) -> dict:
    """`{"examples", "tasks": {name: figures}}`, each task on the pictures whose answer is known; of
    one head its figures.

    Raises:
        DataError: a task has no known answer.
    """
    tasks = {}
    for head in heads:
        targets, rows = (
            (images.targets, outputs)
            if len(heads) == 1
            else (images.targets[head.name], outputs[head.name])
        )
        known = ~np.isnan(targets).any(-1)
        if not known.any():
            raise DataError(
                f"none of {len(images)} pictures has an answer to task '{head.name}': it cannot be "
                "measured"
            )
        tasks[head.name] = figures_of(head, rows[known], targets[known])
    return tasks[heads[0].name] if len(heads) == 1 else {"examples": len(images), "tasks": tasks}


def unit_scores(heads: Sequence[Head], outputs: Sequence, images: Images) -> dict[str, np.ndarray]:
    """What each example whose answer is known contributes to the figure of each task, `(seeds, n)`
    by its name; `outputs` has those of a model for each seed.
    """
    found = {}
    for head in heads:
        targets = images.targets if len(heads) == 1 else images.targets[head.name]
        known = ~np.isnan(targets).any(-1)
        rows = [output if len(heads) == 1 else output[head.name] for output in outputs]
        found[head.name] = np.stack(
            [evaluation.unit_scores(head, row[known], targets[known]) for row in rows]
        )
    return found


def _grouped(examples: Sequence[Tasked], tasks: Sequence[Task], missing: int) -> list[Tasked]:
    """The training `examples` with the groups by which `missing` splits can be made of them."""
    number = next((i for i, task in enumerate(tasks) if task.kind == "single_label"), None)
    if number is None:
        return list(examples)
    counts = Counter(example.cells[number] for example in examples)
    fewest = LEFT + missing  # one for each split
    large = {cell for cell, count in counts.items() if cell and count >= fewest}
    if large and sum(count for cell, count in counts.items() if cell not in large) < fewest:
        # The others are too few even together: they go with the most frequent label.
        others = max(large, key=lambda cell: counts[cell])
    else:
        others = ""
    return [
        replace(example, group=example.cells[number] if example.cells[number] in large else others)
        for example in examples
    ]


def _cell(path: Path, line: int, row: Mapping, task: Task, tally: Tally) -> str:
    """The answer in a cell, as text; "" where it is not known."""
    where = f"'{path}', line {line}, column '{task.column}'"
    if tables.is_blank(row.get(task.column, "missing")):
        return ""
    if task.column not in row:
        try:
            tables.cell(path, line, row, task.column)  # says which columns there are
        except DataError as error:
            raise DataError(f"{error}: --tasks {task.name}=COLUMN says what it is called") from None
    number = task.kind == "regression"
    if str(row[task.column]).strip().lower() in tables.MISSING and (
        number or path.suffix.lower() != ".jsonl"
    ):
        if not number:
            tally.note(
                f"'nan' in the column '{task.column}' is read as an answer that is not known",
                f"line {line}",
            )
        return ""
    if task.kind == "multi_label":
        return tables.label(path, line, row, task.column, several=True, tally=tally)
    value = tables.cell(path, line, row, task.column)
    if isinstance(value, list) and len(value) > 1:
        hint = (
            ""
            if number
            else f": --tasks {task.name}={task.column}:multi_label learns several labels"
        )
        raise DataError(
            f"{where}: a list of {len(value)}, expected one answer to task '{task.name}'{hint}"
        )
    text = value[0] if isinstance(value, list) else value
    if number and text:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{where}: '{text}' of task '{task.name}' is no number: correct it, or leave the "
                "cell empty"
            )
        if abs(value) > LARGEST:
            raise DataError(
                f"{where}: '{text}' of task '{task.name}' is too large: values go up to "
                f"{LARGEST:.0e}, write them in a "
                "larger unit"
            )
    if not number:
        tables.note_if_missing(path, line, [text], tally)
    return text
