"""The validation figures after an epoch: each over the whole set, in the units of its task, and the
one that is watched.

Keras's own are means over batches, of what is trained by. That is another figure where a loss
compares the examples of a batch (embeddings), where tasks have learned weights (which make it fall
by themselves), where classes are weighted, and where the figure is no mean (entity F1).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.recipes.codecs.images import Images
from graft.recipes.codecs.texts import Targets, Texts
from graft.recipes.feed import pipeline
from graft.recipes.feed.gather import Features
from graft.recipes.tasks.head_evaluation import score_of
from graft.zoo.heads import scores
from graft.zoo.heads.heads import Head, Tasks

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["EVALUATION_BATCH", "Validation", "Watched", "forward", "outputs_of"]

EVALUATION_BATCH = 64
WATCHED = {
    "single_label": "loss",
    "multi_label": "loss",
    "regression": "loss",
    "tags": "f1",
    "embedding": "recall_at_1",
}
"""By what the best epoch of a head is chosen. The loss, because it also sees how sure a model is;
but a tagger that grows too sure of its mistakes still goes on learning, and a contrastive loss
depends on who stands in a batch.
"""
INSTEAD = {"f1": "accuracy", "recall_at_1": "loss"}
"""Where the validation set has no entity, or no two examples of a class."""
NAMES = {"loss": "loss", "f1": "entity F1", "recall_at_1": "recall at 1", "accuracy": "accuracy"}


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
    """The figures of `head` on the validation `examples`; `class_weights` `(labels,)` weigh the
    loss as in training.
    """

    def __init__(
        self, head: Head | Tasks, examples: Images | Texts, class_weights: np.ndarray | None = None
    ):
        self.head, self.examples, self.class_weights = head, examples, class_weights
        keys = {part.name: self._key(part) for part in head.heads}
        several = len(head.heads) > 1
        # Losses are of several units, shares of one; tasks that have both are watched by their
        # shares.
        self.by_share = several and any(part.kind in ("tags", "embedding") for part in head.heads)
        self.keys = {
            part.name: scores.figure_of(part.kind)["key"] if self.by_share else keys[part.name]
            for part in head.heads
        }
        only = keys[head.heads[0].name]
        if several:
            name = "mean of the tasks' figures" if self.by_share else "loss of all tasks"
        else:
            name = ("weighted " if class_weights is not None else "") + NAMES[only]
        maximum = self.by_share or (not several and only != "loss")
        self.watched = Watched(f"validation {name}", "max" if maximum else "min")

    def figures(self, outputs) -> dict[str, float]:
        """`{"val_loss", "val_accuracy", ...}`, of several tasks `val_TASK_...` too, and
        "val_watched", which is NaN where an answer is no number; `outputs` as `outputs_of` gives
        them.
        """
        found = self._figures(outputs)
        # The largest of NaN is the first label: a share of right answers would be a number all the
        # same.
        answers = outputs.values() if isinstance(outputs, Mapping) else [outputs]
        if not all(np.isfinite(values).all() for values in answers):
            found["val_watched"] = np.nan
        return found

    def _figures(self, outputs) -> dict[str, float]:
        heads = self.head.heads
        if len(heads) == 1:
            measured = self._of(heads[0], outputs, self.examples.targets)
            named = {
                f"val_{key}": value
                for key, value in sorted(measured.items())
                if not np.isnan(value)
            }
            return named | {"val_watched": measured[self.keys[heads[0].name]]}
        found, watched, loss, total = {}, [], 0.0, 0.0
        weights = (
            self.head.weights
            if self.head.weights and not self.head.balanced
            else (1.0,) * len(heads)
        )
        for head, weight in zip(heads, weights, strict=True):
            measured = self._of(head, outputs[head.name], self.examples.targets[head.name])
            found |= {
                f"val_{head.name}_{key}": value
                for key, value in measured.items()
                if not np.isnan(value)
            }
            loss, total = loss + weight * measured["loss"], total + weight
            watched.append(measured[self.keys[head.name]])
        known = [value for value in watched if not np.isnan(value)]
        best = loss
        if self.by_share:  # without any share, the loss from below: less of it is better, and every share better still
            best = float(np.mean(known)) if known else -loss
        return found | {"val_loss": loss, "val_watched": best}

    def _key(self, head: Head) -> str:
        """What a head is watched by, on these examples."""
        if head.score is None:  # vectors to be met: their loss is all there is to say
            return "loss"
        key = WATCHED[head.kind]
        targets = self._targets(head)
        if head.kind == "tags":
            there = any(head.labels[tag] != "O" for tag in np.unique(targets.whole.values))
        elif head.kind == "embedding":
            there = (targets.sum(0) > 1).any()
        else:
            there = True
        return key if there else INSTEAD[key]

    def _targets(self, head: Head) -> Targets:
        targets = self.examples.targets
        return targets[head.name] if isinstance(targets, Mapping) else targets

    def _of(self, head: Head, outputs: np.ndarray, targets) -> dict[str, float]:
        """The loss of a head in its own units, and its other figures."""
        if head.kind == "tags":
            return {
                **head.score(outputs, targets.values),
                "f1": score_of(head, outputs, targets).value,
            }
        known = ~np.isnan(targets).any(-1)
        outputs, targets = outputs[known], targets[known]
        if not len(targets):
            return {"loss": 0.0, self.keys[head.name]: np.nan}
        if (
            head.kind == "single_label"
        ):  # as `head.score` has it: without smoothing, and not cut off at 16
            rows = outputs / np.sum(outputs, -1, keepdims=True, dtype=np.float64)
            losses = -np.log(np.maximum((rows * targets).sum(-1), np.finfo(float).eps))
        else:
            losses = np.asarray(head.loss().call(np.float32(targets), np.float32(outputs)))
        weights = None if self.class_weights is None else targets @ self.class_weights
        found = {"loss": float(np.average(losses, weights=weights))}
        if head.score is None:
            return found
        if head.kind == "single_label":
            return found | {"accuracy": float(np.mean(outputs.argmax(-1) == targets.argmax(-1)))}
        if head.kind == "multi_label":
            found["binary_accuracy"] = float(np.mean((outputs >= 0.5) == (targets >= 0.5)))
        if head.kind == "regression":
            found["mean_absolute_error"] = float(np.mean(np.abs(outputs - targets)))
        made = score_of(head, outputs, targets)
        return found | {made.key: made.value}


def forward(model) -> Callable:
    """A batch of inputs -> the outputs in inference mode; traced once."""
    import tensorflow as tf

    return tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)


def outputs_of(
    call: Callable, examples: Images | Texts | Features, batches: "tf.data.Dataset | None" = None
):
    """What `call`, made by `forward`, gives for all examples, with the weights that its model has
    now: `(n, units)`, of an output with a row a token those of all sentences one after the other,
    without padding; of several outputs a dict.

    Who asks again and again makes the `batches` once: `pipeline.evaluation_batches(examples,
    EVALUATION_BATCH)`.
    """
    import keras

    batches = (
        pipeline.evaluation_batches(examples, EVALUATION_BATCH) if batches is None else batches
    )
    texts = pipeline.texts_of(examples)
    lengths = None if texts is None else texts.ids.lengths
    parts, start = [], 0

    def rows(tensor) -> np.ndarray:
        values = np.asarray(tensor)
        if values.ndim != 3 or lengths is None:
            return values
        return values[np.arange(values.shape[1]) < lengths[start : start + len(values), None]]

    for inputs, _ in batches:
        outputs = call(inputs)
        parts.append(keras.tree.map_structure(rows, outputs))
        start += EVALUATION_BATCH
    return keras.tree.map_structure(lambda *values: np.concatenate(values), *parts)
