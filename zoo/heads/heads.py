"""Heads: what stands on top of a backbone, with its loss, its metrics and its output name.

A head is data plus one small function. It receives pooled features `(batch, feature_dim)`, or for
tags a vector for each token `(batch, length, feature_dim)`, and returns the named output of the
exported file, always float32 (also under mixed precision). The numpy side of a head, `score`, needs
no TensorFlow: it measures a `.tflite` or `.onnx` file with the same code that measures the Keras
model. Several heads on one backbone are `Tasks`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.heads import scores

if TYPE_CHECKING:
    import keras

__all__ = [
    "Head",
    "Tasks",
    "compile_arguments",
    "embedding",
    "multi_label",
    "regression",
    "single_label",
    "tags",
]

Kind = Literal["single_label", "multi_label", "regression", "embedding", "tags"]


@dataclass(frozen=True)
class Head:
    """One output of a model.

    Attributes:
        name: the output's name in every exported file.
        kind: what the numbers mean.
        labels: what each output unit is called, in order; empty for an embedding.
        attach: features `(batch, feature_dim)` -> output `(batch, units)`, a Keras graph function;
            of tags one rank more.
        loss: makes the `keras.Loss` to train with; targets as `targets` makes them.
        metrics: makes the Keras metrics shown while training.
        score: `(outputs, targets) -> {metric: value}`, numpy and scikit-learn only; None where it
            cannot be said.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    attach: Callable[["keras.KerasTensor"], "keras.KerasTensor"]
    loss: Callable[[], "keras.Loss"]
    metrics: Callable[[], list["keras.Metric"]]
    score: Callable[[np.ndarray, np.ndarray], Mapping[str, float | None]]

    @property
    def heads(self) -> tuple["Head", ...]:
        """Itself alone, so that one head and several are asked in the same way."""
        return (self,)


def single_label(
    labels: Sequence[str],
    *,
    name: str = "probabilities",
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    hidden: int = 0,
) -> Head:
    """Exactly one of `labels` holds: softmax probabilities `(batch, len(labels))` in [0, 1] that
    sum to 1.

    Targets are one-hot or mixed (MixUp, CutMix) rows of floats `(batch, len(labels))`.
    `label_smoothing` in [0, 1) follows Szegedy et al. 2016, arXiv:1512.00567. With `hidden` units
    there is a layer of so many before the last one: what can still move where the backbone is
    frozen.

    Raises:
        ConfigError: fewer than two labels, or `dropout`/`label_smoothing` outside [0, 1).
    """
    _check(labels, 2, dropout=dropout, label_smoothing=label_smoothing)

    def attach(features):
        import keras

        logits = _dense(features, len(labels), name, dropout, hidden)
        return keras.layers.Activation("softmax", dtype="float32", name=name)(logits)

    def loss():
        import keras

        return keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)

    def metrics():
        import keras

        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def score(outputs, targets):
        from sklearn.metrics import log_loss

        truth = targets.argmax(-1)
        exact = outputs / np.sum(
            outputs, -1, keepdims=True, dtype=np.float64
        )  # float32 rows sum to 1 +- 1e-7
        return {
            "accuracy": float(np.mean(outputs.argmax(-1) == truth)),
            "loss": float(log_loss(truth, exact, labels=range(len(labels)))),
        }

    return Head(name, "single_label", tuple(labels), attach, loss, metrics, score)


def multi_label(
    labels: Sequence[str], *, name: str = "probabilities", dropout: float = 0.0
) -> Head:
    """Any number of `labels` hold: independent sigmoid probabilities `(batch, len(labels))` in [0,
    1].

    Targets are rows of 0 and 1. `score` gives macro average precision and, at 0.5, the binary
    accuracy (of each label by itself, as Keras has it) and the exact match (of all labels of an
    example at once).

    Raises:
        ConfigError: no labels, or `dropout` outside [0, 1).
    """
    _check(labels, 1, dropout=dropout)

    def attach(features):
        import keras

        logits = _dense(features, len(labels), name, dropout)
        return keras.layers.Activation("sigmoid", dtype="float32", name=name)(logits)

    def loss():
        import keras

        return keras.losses.BinaryCrossentropy()

    def metrics():
        import keras

        return [
            keras.metrics.BinaryAccuracy(name="binary_accuracy"),
            keras.metrics.AUC(multi_label=True, name="auc"),
        ]

    def score(outputs, targets):
        right = (outputs >= 0.5) == (targets >= 0.5)
        return {
            **_judged("multi_label", outputs, targets),
            "binary_accuracy": float(np.mean(right)),
            "exact_match": float(np.mean(right.all(-1))),
        }

    return Head(name, "multi_label", tuple(labels), attach, loss, metrics, score)


def regression(
    targets: Sequence[str],
    *,
    name: str = "values",
    dropout: float = 0.0,
    centre: float = 0.0,
    scale: float = 1.0,
) -> Head:
    """One real number for each of `targets`: `(batch, len(targets))`, unbounded, in the units of
    the training data.

    Trained with the Huber loss (Huber 1964), which a few wrong labels cannot dominate. `centre` and
    `scale` are the mean and the spread of the training values: the graph multiplies and adds them,
    and the loss is in units of the spread.

    Raises:
        ConfigError: no targets, `dropout` outside [0, 1), or a scale that is not above 0.
    """
    _check(targets, 1, dropout=dropout)
    if scale <= 0:
        raise ConfigError(f"the scale of a regression is above 0, not {scale}")

    def attach(features):
        import keras

        values = _dense(features, len(targets), name, dropout)
        return keras.layers.Rescaling(scale, centre, dtype="float32", name=name)(values)

    def loss():

        from graft.zoo.graph.layers import ScaledHuber

        return ScaledHuber(scale)

    def metrics():
        import keras

        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]

    def score(outputs, truth):
        from sklearn.metrics import mean_absolute_error

        truth, outputs = np.float64(truth), np.float64(outputs)  # squares of large values
        return {
            "mean_absolute_error": float(mean_absolute_error(truth, outputs)),
            # Of values that are all the same there is no spread to explain.
            **_judged("regression", outputs, truth),
        }

    return Head(name, "regression", tuple(targets), attach, loss, metrics, score)


def embedding(
    dimension: int,
    *,
    name: str = "embedding",
    temperature: float = 0.1,
    dropout: float = 0.0,
    hidden: int = 0,
) -> Head:
    """A vector of length 1 for each input, `(batch, dimension)`: near means alike.

    With `hidden` units there is a layer of so many before it.

    Targets are one-hot rows; the loss is supervised contrastive (Khosla et al. 2020,
    arXiv:2004.11362), so a batch needs at least two examples of some class. `score` is the share of
    examples whose nearest other example is of the same class (recall at 1), among those that are
    not alone in theirs.

    Raises:
        ConfigError: `dimension` below 1, `temperature` not positive, or `dropout` outside [0, 1).
    """
    _check((), 0, dropout=dropout)
    if dimension < 1:
        raise ConfigError(f"an embedding needs a dimension of at least 1, not {dimension}")
    if not 0 < temperature < math.inf:
        raise ConfigError(
            f"the temperature of a contrastive loss must be a number above 0, not {temperature}"
        )

    def attach(features):
        import keras

        vector = _dense(features, dimension, name, dropout, hidden)
        return keras.layers.UnitNormalization(dtype="float32", name=name)(vector)

    def loss():
        from graft.zoo.graph.layers import SupervisedContrastive

        return SupervisedContrastive(temperature=temperature)

    def score(outputs, targets):
        return _judged("embedding", outputs, targets)

    return Head(name, "embedding", (), attach, loss, list, score)


def tags(labels: Sequence[str], *, name: str = "tags", dropout: float = 0.0) -> Head:
    """One of `labels` for each token: softmax probabilities `(batch, length, len(labels))`.

    Targets are int32 `(batch, length)`, -1 where a token has none (special tokens, later pieces of
    a word, padding). `score` takes rows of tokens, `(tokens, labels)` and `(tokens,)`; what counts
    for spans is `zoo.heads.spans`.

    Raises:
        ConfigError: fewer than two labels, or `dropout` outside [0, 1).
    """
    _check(labels, 2, dropout=dropout)

    def attach(features):
        import keras

        logits = _dense(features, len(labels), name, dropout)
        return keras.layers.Activation("softmax", dtype="float32", name=name)(logits)

    def loss():
        import keras

        return keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)

    def metrics():
        from graft.zoo.graph.layers import TokenAccuracy

        return [TokenAccuracy(name="accuracy")]

    def score(outputs, targets):
        named = targets >= 0
        right = outputs[named].argmax(-1) == targets[named]
        chosen = outputs[named, targets[named]]
        return {
            "accuracy": float(right.mean()),
            "loss": float(-np.log(np.maximum(chosen, 1e-7)).mean()),
        }

    return Head(name, "tags", tuple(labels), attach, loss, metrics, score)


@dataclass(frozen=True)
class Tasks:
    """Several heads that train together.

    Attributes:
        heads: each with a name of its own.
        weights: what each one's loss counts; None: the model learns the weights, from how uncertain
            each task is (Kendall et al. 2018, arXiv:1705.07115; its layer
            `zoo.graph.layers.TaskWeights` holds them).
        balanced: the weights change while it trains, so that all tasks learn at the same pace
            (GradNorm, Chen et al. 2018, arXiv:1711.02257; `recipes/train/gradnorm.py`).
    """

    heads: tuple[Head, ...]
    weights: tuple[float, ...] | None = None
    balanced: bool = False

    def finish(self, outputs: dict) -> dict:
        """What the model gives: `outputs` by name, past the layer that holds the learned weights if
        there are any.
        """
        if self.weights is not None:
            return outputs
        from graft.zoo.graph.layers import TaskWeights

        return TaskWeights(len(self.heads), name=TASK_WEIGHTS)(outputs)


TASK_WEIGHTS = "task_weights"


def compile_arguments(head: Head | Tasks, model: "keras.Model") -> dict:
    """`loss`, `metrics` and `loss_weights` for `model.compile`, of one head or of several."""
    if isinstance(head, Head):
        return {"loss": head.loss(), "metrics": head.metrics()}
    losses = {part.name: part.loss() for part in head.heads}
    metrics = {part.name: part.metrics() for part in head.heads}
    if head.weights is not None:
        weights = {part.name: weight for part, weight in zip(head.heads, head.weights, strict=True)}
        return {"loss": losses, "weighted_metrics": metrics, "loss_weights": weights}
    layer = model.get_layer(TASK_WEIGHTS)
    # Weighted, because examples whose answer is not known count nothing.
    return {
        "loss": {
            part.name: layer.weighted(losses[part.name], i, part.kind != "tags")
            for i, part in enumerate(head.heads)
        },
        "weighted_metrics": metrics,
    }


def _judged(kind: Kind, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
    """The figure that a kind of answer is judged by, by its key; None where it cannot be said."""
    made = scores.score(kind, outputs, targets)
    return {made.key: None if math.isnan(made.value) else made.value}


def _dense(features, units: int, name: str, dropout: float, hidden: int = 0):
    import keras

    if hidden:
        features = keras.layers.Dense(hidden, "relu", name=f"{name}_hidden")(features)
    if dropout:
        features = keras.layers.Dropout(dropout, name=f"{name}_dropout")(features)
    return keras.layers.Dense(units, name=f"{name}_dense")(features)


def _check(labels: Sequence[str], least: int, **fractions: float) -> None:
    if len(labels) < least:
        raise ConfigError(
            f"this head needs at least {least} label(s), got {len(labels)}: {list(labels)}"
        )
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise ConfigError(
            f"the label '{twice}' stands twice in the list of labels; each output unit needs its "
            "own name"
        )
    for label in labels:
        if label.splitlines() != [label] or label != label.encode("utf-8", "replace").decode():
            raise ConfigError(
                f"the label {label!r} cannot stand on a line of labels.txt: rename it"
            )
    for option, value in fractions.items():
        if not 0 <= value < 1:
            raise ConfigError(
                f"{option.replace('_', ' ')} must be at least 0 and below 1, not {value}"
            )
