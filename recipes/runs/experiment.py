"""The one way from a problem to a run: splits, encoding, model, schedule, training, measuring, run folder,
report.

A recipe makes a `Problem` and calls `run`. What is trained beside the model that ships, and how one of
several is chosen, is a `Training`: `runs/supervised.py`, or `adapt/methods_compared.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.data import reading, splits
from graft.recipes.data.membership import warn_of_alike
from graft.recipes.data.prepared import PreparedData
from graft.recipes.data.records import SPLITS, Source
from graft.recipes.feed.store import Store
from graft.recipes.report import report
from graft.recipes.runs import hints, workspace, writing
from graft.recipes.tasks.counted_words import Floor, measure_counted_words
from graft.recipes.tasks.group import Tasks
from graft.recipes.train import fit, schedule
from graft.recipes.train.schedule import Phase
from graft.zoo.graph.state import set_weights
from graft.zoo.quiet import load_tensorflow
from graft.zoo.terminal import say, warn

if TYPE_CHECKING:
    import keras

__all__ = ["Arm", "Experiment", "Outcome", "Problem", "Training", "run"]

FLOORS = {"text": measure_counted_words}
"""Modality -> what a model is held against that learned nothing but the training data."""


class Training(Protocol):
    """What is trained for a run, and which model of it ships."""

    def __call__(self, experiment: "Experiment") -> "Outcome":
        """Train."""
        ...

    def tell(self, folder: Path) -> None:
        """Print the outcome of the run in `folder` to stdout."""
        ...


@dataclass(frozen=True)
class Problem:
    """What a recipe is about.

    Attributes:
        recipe: its name.
        data: what is learned from.
        tasks: what is learned.
        backbone: on which the heads stand; it says how records become arrays (`runs/backbones.py`).
        phases: of the schedule.
        training: what is trained, compared and chosen.
    """

    recipe: str
    data: PreparedData
    tasks: Tasks
    backbone: Any
    phases: tuple[Phase, ...]
    training: Training


@dataclass(frozen=True)
class Arm:
    """One way of training, with all seeds.

    Attributes:
        trained: a result a seed.
        figures: on the test split, a seed.
        units: what each test example contributes to the figure of each task, `(seeds, n)` by its name.
    """

    trained: Sequence[fit.Trained]
    figures: Sequence[dict]
    units: Mapping[str, np.ndarray]

    @property
    def mean_units(self) -> np.ndarray | None:
        """Those of the mean over the tasks, `(seeds, n)`; None where one of them has no figure, or tasks
        have answers for a part of the examples.
        """
        if len({rows.shape for rows in self.units.values()}) > 1:
            return None
        mean = np.mean(list(self.units.values()), 0)
        return mean if np.isfinite(mean).all() else None


@dataclass(frozen=True)
class Outcome:
    """What a training gave.

    Attributes:
        kept: the training whose model ships.
        facts: what run.json says of it and of what it was compared with.
        units: what each test example contributes to the figure, `(seeds, n)`; None: of several tasks.
        calibration: the examples by which int8 files are calibrated.
    """

    kept: Any
    facts: Mapping
    units: np.ndarray | None = None
    calibration: str = "train"


@dataclass(frozen=True)
class Experiment:
    """A problem on its way: everything that a training needs.

    Attributes:
        config: of the recipe.
        folder: where the run is made.
        store: of cached features; None: nothing is cached.
        codec: records -> examples.
        examples: by split, "unlabelled" ones and those "measured" where there are any.
        described: the phases, for run.json.
    """

    problem: Problem
    config: Any
    folder: Path
    store: Store | None
    codec: Any
    examples: Mapping[str, Examples] = field(repr=False)
    described: Sequence[dict]

    @property
    def seeds(self) -> range:
        """Those that are trained with."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def build(
        self, weights: str | None = None, tasks: Tasks | None = None, *, mixed: bool | None = None
    ) -> "keras.Model":
        """The stacked model, with other `weights` or `tasks` where they are given; `mixed` says whether it
        computes in half precision (None: as the settings say).
        """
        from graft.recipes.train.optimizer import precision
        from graft.zoo.graph.stack import stack

        tasks = tasks or self.problem.tasks
        mixed = self.config.fit.mixed_precision if mixed is None else mixed
        with precision(mixed):
            return stack(self.problem.backbone.build(weights), tasks.heads)

    def plan(
        self, phases: Sequence[Phase], tasks: Tasks | None = None, weights: str | None = None
    ) -> fit.TrainPlan:
        """How to train so."""
        tasks = tasks or self.problem.tasks
        return fit.TrainPlan(
            lambda: self.build(weights, tasks), tasks, phases, self.seeds, self.config.fit
        )

    def train(
        self, name: str, plan: fit.TrainPlan, examples: Mapping[str, Examples] | None = None
    ) -> Arm:
        """Train and measure on the test split; `name` is what the training is called."""
        examples, tasks = examples or self.examples, plan.tasks
        model, trained = fit.train(plan, examples, name=name, store=self.store, folder=self.folder)
        test = examples["test"]
        outputs = [
            tasks.of_output(output)
            for output in fit.predict(model, test, [result.weights for result in trained])
        ]
        figures = [tasks.figures(output, test.targets) for output in outputs]
        return Arm(trained, figures, tasks.unit_scores(outputs, test.targets))

    def alone(self, name: str) -> tuple[Tasks, dict[str, Examples]]:
        """One of several tasks by itself, and the examples whose answer to it is known."""
        (task,) = (task for task in self.problem.tasks if task.name == name)
        tasks = Tasks((replace(task, weight=1.0),))
        found = {
            split: self.codec.only(task, self.problem.data.splits[split], self.examples[split])
            for split in SPLITS
        }
        return tasks, found


def run(problem: Problem, config: Any) -> Path:
    """Train, measure, write the run folder and print the outcome; returns the folder.

    Raises:
        GraftError: whatever is wrong with the request or the data; nothing is half-written.
    """
    settings = writing.plain(config)
    if workspace.finished(config.out, settings):
        return config.out
    with workspace.workspace(config.out, settings, problem.data.content) as folder:
        load_tensorflow()
        experiment, floor, said = _prepared(problem, config, folder)
        outcome = problem.training(experiment)
        model = experiment.build("none", mixed=False)
        set_weights(model, outcome.kept.weights)
        writing.write_run(folder, model, experiment, outcome, {**said, "floor": floor})
        report.write(folder)
    problem.training.tell(config.out)
    return config.out


def _prepared(problem: Problem, config: Any, folder: Path) -> tuple[Experiment, Floor | None, dict]:
    """(what a training needs, counted words, what was found wrong with the data)."""
    data, backbone = problem.data, problem.backbone
    store = workspace.store_beside(config.out, config.fit.cache)
    blank = Experiment(problem, config, folder, store, None, {}, ())
    model = blank.build()
    codec = backbone.codec(model)
    described = fit.describe_phases(model, problem.phases)
    duplicates = splits.warn_of_concerns(
        data.source, data.fingerprint, config.backbone, config.split_seed
    )
    examples = _encoded(problem, codec)
    found = backbone.concerns(examples)
    for text in found:
        warn(text)
    hinted = hints.class_weights(problem.tasks, examples["train"].targets, config.fit)
    title = f"{config.schedule} of {backbone.name} ({backbone.weights})"
    say(schedule.table(title, described, config.fit.budget))
    floor = FLOORS.get(codec.modality)
    measured = floor and floor(problem.tasks, examples, examples.get("measured"))
    made = replace(blank, codec=codec, examples=examples, described=described)
    return made, measured, {"duplicates": duplicates, "warnings": found, "hints": hinted}


def _encoded(problem: Problem, codec: Any) -> dict[str, Examples]:
    """The examples of every split, and those without labels; says how many there are, and warns of those
    that look the same in two splits.
    """
    data, tasks = problem.data, problem.tasks

    def encoded(records: Sequence, name: str) -> Examples:
        return codec.encode(records, tasks, f"decode {name}")

    examples = {split: encoded(records, split) for split, records in data.splits.items()}
    counted = f"{len(tasks)} tasks" if len(tasks) > 1 else ""
    say(reading.summary(data.source, examples, codec.noun, counted))
    warn_of_alike(examples, codec.same_as)
    if data.unlabelled:
        examples["unlabelled"] = encoded(data.unlabelled, "target")
        target = Source(data.target, (), {}, data.left_out)
        others = {"unlabelled": examples["unlabelled"]}
        say(f"without labels: {reading.summary(target, others, codec.noun)}")
    if data.measured:
        examples["measured"] = encoded(data.measured, "target test")
    for note in codec.notes({split: examples[split] for split in data.splits}):
        warn(note)
    return examples
