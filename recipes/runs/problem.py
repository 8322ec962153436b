"""What a run is made of: the problem, what is trained for it, what that gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.data.prepared import PreparedData
from graft.recipes.data.records import SPLITS
from graft.recipes.tasks.group import Tasks
from graft.recipes.train import fit
from graft.recipes.train.schedule import Phase
from graft.zoo.files.store import Store
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

__all__ = ["Arm", "Experiment", "Outcome", "Problem", "Training"]


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
        units: what each test example contributes to the figure of each task, `(seeds, n)` by its
            name.
        outputs: for the test split by task, a seed.
    """

    trained: Sequence[fit.Trained]
    figures: Sequence[dict]
    units: Mapping[str, np.ndarray]
    outputs: Sequence[Mapping[str, np.ndarray]] = field(default=(), repr=False)

    def kept(self) -> tuple[fit.Trained, Mapping[str, np.ndarray] | None]:
        """The seed with the best validation figure, and its outputs for the test split."""
        best = fit.best_of(self.trained)
        place = next(i for i, result in enumerate(self.trained) if result is best)
        return best, self.outputs[place] if self.outputs else None

    @property
    def mean_units(self) -> np.ndarray | None:
        """Those of the mean over the tasks, `(seeds, n)`; None where one of them has no figure, or
        tasks have answers for a part of the examples.
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
        units: what each test example contributes to the figure, `(seeds, n)`; None: of several
            tasks.
        calibration: the examples by which int8 files are calibrated.
        outputs: of what is kept, for the test split by task; None: they have to be computed.
    """

    kept: Any
    facts: Mapping
    units: np.ndarray | None = None
    calibration: str = "train"
    outputs: Mapping[str, np.ndarray] | None = None


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
        ready: at most one model that `build` made under the first seed; see `TrainPlan`.
    """

    problem: Problem
    config: Any
    folder: Path
    store: Store | None
    codec: Any
    examples: Mapping[str, Examples] = field(repr=False)
    described: Sequence[dict]
    ready: "list[keras.Model]" = field(default_factory=list, repr=False)

    @property
    def seeds(self) -> range:
        """Those that are trained with."""
        return range(self.config.seed, self.config.seed + self.config.seeds)

    def build(
        self, weights: str | None = None, tasks: Tasks | None = None, *, mixed: bool | None = None
    ) -> "keras.Model":
        """The stacked model, with other `weights` or `tasks` where they are given; `mixed` says
        whether it computes in half precision (None: as the settings say).
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
        plain = weights is None and tasks is None
        tasks = tasks or self.problem.tasks
        return fit.TrainPlan(
            lambda: self.build(weights, tasks),
            tasks,
            phases,
            self.seeds,
            self.config.fit,
            ready=self.ready if plain else [],
        )

    def train(
        self, name: str, plan: fit.TrainPlan, examples: Mapping[str, Examples] | None = None
    ) -> Arm:
        """Train and measure on the test split; `name` is what the training is called."""
        examples, tasks = examples or self.examples, plan.tasks
        if name != "transfer":  # its phases are called as those of the first one
            say(f"the training '{name}', which is compared")
        model, trained = fit.train(plan, examples, name=name, store=self.store, folder=self.folder)
        test = examples["test"]
        size = model.inputs[0].shape[1:3]
        outputs = [
            tasks.answers(output, size)
            for output in fit.predict(model, test, [result.weights for result in trained])
        ]
        figures = [tasks.figures(output, test.targets) for output in outputs]
        return Arm(trained, figures, tasks.unit_scores(outputs, test.targets), outputs)

    def alone(self, name: str) -> tuple[Tasks, dict[str, Examples]]:
        """One of several tasks by itself, and the examples whose answer to it is known."""
        (task,) = (task for task in self.problem.tasks if task.name == name)
        tasks = Tasks((replace(task, weight=1.0),))
        found = {
            split: self.codec.only(task, self.problem.data.splits[split], self.examples[split])
            for split in SPLITS
        }
        return tasks, found
