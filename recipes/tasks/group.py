"""The tasks of a model: one, or several that train together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graft.recipes.codecs.targets import Target
from graft.recipes.tasks.task import Task
from graft.zoo.heads.head import Heads

__all__ = ["Tasks"]


@dataclass(frozen=True)
class Tasks:
    """The tasks of a model, one or several that train together.

    Attributes:
        tasks: each with a name of its own.
        learned: whether the model learns what their losses count; else that is their weights.
        balanced: whether these change while it trains; see `zoo.heads.head.Heads`.
    """

    tasks: tuple[Task, ...]
    learned: bool = False
    balanced: bool = False
    heads: Heads = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        heads = Heads.of([task.head for task in self.tasks]).heads
        weights = None if self.learned else tuple(task.weight for task in self.tasks)
        object.__setattr__(self, "heads", Heads(heads, weights, self.balanced))

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def first(self) -> Task:
        """The one that a report shows most of."""
        return self.tasks[0]

    def of_output(self, outputs: Any) -> dict[str, np.ndarray]:
        """What a model gives by task: of one task its bare rows, of several a dict."""
        return outputs if isinstance(outputs, dict) else {self.first.name: outputs}

    def answers(self, outputs: Any, size: Sequence[int]) -> dict[str, np.ndarray]:
        """What is measured of what the graph that trains gives, by task; `size` is that of its
        input.
        """
        found = self.of_output(outputs)
        return {task.name: task.answers(found[task.name], size) for task in self}

    def figures(self, outputs: Mapping[str, np.ndarray], targets: Mapping[str, Target]) -> dict:
        """`{"examples", "tasks": {name: figures}}`, of one task its figures at the top too."""
        found = {task.name: task.figures(outputs[task.name], targets[task.name]) for task in self}
        alone = found[self.first.name] if len(self) == 1 else {}
        return {"examples": len(targets[self.first.name]), **alone, "tasks": found}

    def unit_scores(
        self, outputs: Sequence[Mapping[str, np.ndarray]], targets: Mapping[str, Target]
    ) -> dict[str, np.ndarray]:
        """What each example contributes to the figure of each task, `(seeds, n)` by its name;
        `outputs` has those of a model for each seed.
        """
        return {
            task.name: np.stack(
                [task.unit_scores(of[task.name], targets[task.name]) for of in outputs]
            )
            for task in self
        }

    def headline(self, figures: Mapping) -> float | None:
        """The figure that a model is judged by; the mean over its tasks. None: it has none."""
        values = [task.stated(figures["tasks"][task.name]) for task in self]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    def with_names(self, names: Sequence[str]) -> "Tasks":
        """The same, with classes for those whose heads have no labels."""
        if all(task.head.labels for task in self):
            return self
        tasks = tuple(
            task if task.head.labels else replace(task, names=tuple(names)) for task in self
        )
        return replace(self, tasks=tasks)

    def describe(self) -> dict[str, dict]:
        """What preprocessing.json says of each."""
        return {task.name: task.describe() for task in self}
