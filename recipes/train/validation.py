"""The validation figures after an epoch: each over the whole set, in the units of its task, and the
one that is watched.

Keras's own are means over batches, of what is trained by. That is another figure where a loss
compares the examples of a batch (embeddings), where tasks have learned weights (which make it fall
by themselves), where classes are weighted, and where the figure is no mean (entity F1).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.codecs.targets import Targets
from graft.recipes.feed import pipeline
from graft.recipes.tasks.group import Tasks
from graft.zoo.graph.state import set_weights
from graft.zoo.graph.tracing import traced
from graft.zoo.heads.head import Heads

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from graft.recipes.train.joint import Method

__all__ = [
    "EVALUATION_BATCH",
    "Validation",
    "Watched",
    "evaluate_pairs",
    "exploded",
    "forward",
    "loss_scale",
    "outputs_of",
    "predict",
]

EVALUATION_BATCH = 64
EXPLODED = 100.0
"""A loss above it is no loss of a model that learns: to say the same of all examples costs the
logarithm of the labels.
"""
NAMES = {"f1": "entity F1"}
"""Keys of figures that are called otherwise in words."""


@dataclass(frozen=True)
class Watched:
    """What the best epoch is chosen by.

    Attributes:
        name: in words, for people.
        mode: whether less or more of it is better.
    """

    name: str
    mode: Literal["min", "max"]

    def better(self, value: float, other: float | None) -> bool:
        """Whether `value` is better than `other`. Every number is better than None, NaN and
        infinity, which are better than nothing: they compare as neither less nor more, and would be
        kept for ever.
        """
        if not np.isfinite(value):
            return False
        if other is None or not np.isfinite(other):
            return True
        return bool(value < other if self.mode == "min" else value > other)


class Validation:
    """The figures of `tasks` against the validation `targets`; `class_weights` `(labels,)` weigh
    the loss as in training.
    """

    def __init__(self, tasks: Tasks, targets: Targets, class_weights: np.ndarray | None = None):
        self.tasks, self.targets, self.class_weights = tasks, targets, class_weights
        keys = {task.name: task.watch(targets[task.name]) for task in tasks}
        several = len(tasks) > 1
        # Losses are of several units, shares of one; tasks that have both are watched by their
        # shares.
        self.by_share = several and any(task.watched != "loss" for task in tasks)
        self.keys = {
            task.name: task.kind.key if self.by_share else keys[task.name] for task in tasks
        }
        only = keys[tasks.first.name]
        if several:
            name = "mean of the tasks' figures" if self.by_share else "loss of all tasks"
        else:
            weighted = "weighted " if class_weights is not None else ""
            name = weighted + NAMES.get(only, only.replace("_", " "))
        maximum = self.by_share or (not several and only != "loss")
        self.watched = Watched(f"validation {name}", "max" if maximum else "min")

    def figures(self, outputs: Any) -> dict[str, float]:
        """`{"val_loss", "val_accuracy", ...}`, of several tasks `val_TASK_...` too, and
        "val_watched", which is NaN where an answer is no number; `outputs` as `outputs_of` gives
        them.
        """
        answers = self.tasks.of_output(outputs)
        found = self._figures(answers)
        # The largest of NaN is the first label: a share of right answers would be a number all the
        # same.
        if not all(np.isfinite(values).all() for values in answers.values()):
            found["val_watched"] = np.nan
        return found

    def _figures(self, answers: Mapping[str, np.ndarray]) -> dict[str, float]:
        measured = {
            task.name: task.epoch_figures(
                answers[task.name], self.targets[task.name], self.class_weights
            )
            for task in self.tasks
        }
        if len(self.tasks) == 1:
            (own,) = measured.values()
            named = {
                f"val_{key}": value for key, value in sorted(own.items()) if not np.isnan(value)
            }
            return named | {"val_watched": own[self.keys[self.tasks.first.name]]}
        found: dict[str, float] = {}
        watched, loss = [], 0.0
        heads = self.tasks.heads
        fixed = heads.weights if heads.weights and not heads.balanced else None
        for task, weight in zip(self.tasks, fixed or (1.0,) * len(self.tasks), strict=True):
            own = measured[task.name]
            found |= {
                f"val_{task.name}_{key}": value for key, value in own.items() if not np.isnan(value)
            }
            loss += weight * own["loss"]
            watched.append(own[self.keys[task.name]])
        known = [value for value in watched if not np.isnan(value)]
        best = loss
        if self.by_share:
            # Without any share, the loss from below: less of it is better, and every share better
            # still.
            best = float(np.mean(known)) if known else -loss
        return found | {"val_loss": loss, "val_watched": best}


def evaluate_pairs(model: "keras.Model", batches: "tf.data.Dataset") -> dict[str, float]:
    """The figures of a compiled `model` on batches of pairs, as `Validation.figures` gives them.

    They are taken in the middle of an epoch: the epoch's own figures go on from where they were.
    """
    meanwhile = [variable.numpy() for variable in model.metrics_variables]
    figures = model.evaluate(batches, verbose=0, return_dict=True)
    for variable, value in zip(model.metrics_variables, meanwhile, strict=True):
        variable.assign(value)
    return {f"val_{name}": value for name, value in figures.items()} | {
        "val_watched": figures["loss"]
    }


def forward(model: "keras.Model") -> Callable:
    """A batch of inputs -> the outputs in inference mode; traced once."""
    return traced(lambda inputs: model(inputs, training=False))


def outputs_of(
    call: Callable, examples: Examples, batches: "tf.data.Dataset | Iterable | None" = None
) -> Any:
    """What `call`, made by `forward`, gives for all examples, with the weights that its model has
    now: `(n, units)`, of an output with a row a position those of all examples one after the other,
    without padding; of several outputs a dict.

    Who asks again and again makes the `batches` once: `pipeline.input_batches(examples,
    EVALUATION_BATCH)`.
    """
    import keras

    if batches is None:
        batches = pipeline.input_batches(examples, EVALUATION_BATCH)
    lengths = None if examples.positions is None else examples.positions.lengths
    parts, start = [], 0

    def rows(tensor: Any) -> np.ndarray:
        values = np.asarray(tensor)
        if values.ndim != 3 or lengths is None:
            return values
        return values[np.arange(values.shape[1]) < lengths[start : start + len(values), None]]

    for inputs in batches:
        parts.append(keras.tree.map_structure(rows, call(inputs)))
        start += EVALUATION_BATCH
    return keras.tree.map_structure(lambda *values: np.concatenate(values), *parts)


def _traced(model: "keras.Model") -> Callable:
    """What `forward` makes of a model that does not change any more, but for its weights; made once
    for each model.
    """
    if not hasattr(model, "_graft_forward"):
        object.__setattr__(model, "_graft_forward", forward(model))
    return model._graft_forward


def predict(
    model: "keras.Model", examples: Examples, weights: Sequence[list[np.ndarray]] = ()
) -> list[Any]:
    """The outputs for all examples, in order, `(n, units)`, once for each list of `weights` (or for
    the model as it is).

    Of an output with a row a position, `(positions, units)`: those of all examples, one after the
    other, without padding. Of a model with several outputs, a dict. Faster than `model.predict` on
    a CPU, and traced once.
    """
    call, outputs = _traced(model), []
    for values in weights or [model.get_weights()]:
        set_weights(model, values)
        outputs.append(outputs_of(call, examples))
    return outputs


def exploded(history: Sequence[Mapping], scale: float) -> dict[str, float]:
    """The loss at the end of each phase that exploded, by the phase's name; `history` has a row an
    epoch, with losses in units of `scale`.
    """
    last = {row["phase"]: row["loss"] for row in history}
    return {phase: float(loss) for phase, loss in last.items() if not loss <= EXPLODED * scale}


def loss_scale(heads: Heads, method: "Method | None" = None) -> float:
    """In what units the loss of a training counts: what the losses that it is the sum of weigh
    together.
    """
    own = float(len(heads.heads) if heads.weights is None else sum(heads.weights))
    return own + (method.strength if method is not None else 0.0)
