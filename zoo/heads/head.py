"""A head: what stands on a backbone, with its loss, its metrics and the name of its output.

A head is data plus one small function. It is handed the levels of the backbone that it `reads` and
returns the named output of the exported file, always float32 (also under mixed precision).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.heads.kind import Kind

if TYPE_CHECKING:
    import keras

__all__ = ["TASK_WEIGHTS", "Head", "Heads", "Level", "check_options", "compile_arguments", "dense"]

Level = Literal["pooled", "positions"] | int
"""What a head can read: the features `(batch, dim)` that the backbone's output is pooled to; its
positions as they are, `(batch, length, dim)` or `(batch, height, width, dim)`; or, by stride, the
last feature map `(batch, height / stride, width / stride, dim)`.
"""

TASK_WEIGHTS = "task_weights"
"""The name of the layer that holds learned weights of tasks."""


@dataclass(frozen=True)
class Head:
    """One output of a model.

    Attributes:
        name: the output's name in every exported file.
        kind: what the numbers mean.
        labels: what each output unit is called, in order; empty for an embedding.
        attach: the tensors of the levels that it reads -> the output, a Keras graph function.
        loss: makes the `keras.Loss` to train with; targets as the task of this kind makes them.
        metrics: makes the Keras metrics shown while training.
        score: `(outputs, targets) -> {metric: value}`, numpy and scikit-learn only; None where it
            cannot be said.
        reads: the levels that `attach` takes, in order.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    attach: Callable[..., "keras.KerasTensor"]
    loss: Callable[[], "keras.Loss"]
    metrics: Callable[[], list["keras.Metric"]]
    score: Callable[[np.ndarray, np.ndarray], Mapping[str, float | None]] | None
    reads: tuple[Level, ...] = ("pooled",)


@dataclass(frozen=True)
class Heads:
    """The heads of a model, one or several that train together.

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

    @classmethod
    def of(cls, given: "Heads | Head | Sequence[Head]") -> "Heads":
        """One head, or several whose losses count alike.

        Raises:
            ConfigError: no head, something else, or two heads of one name.
        """
        if isinstance(given, Heads):
            return given
        several = isinstance(given, Sequence) and not isinstance(given, str)
        heads = tuple(given) if several else (given,)
        for stranger in (head for head in heads if not isinstance(head, Head)):
            raise ConfigError(
                "a head is made by graft.heads, as graft.heads.single_label(labels): got "
                f"{stranger!r}"
            )
        names = [head.name for head in heads]
        if not heads or len(set(names)) != len(names):
            raise ConfigError(f"a model needs one or more heads with different names, got {names}")
        return cls(heads, (1.0,) * len(heads))

    def finish(self, outputs: dict[str, "keras.KerasTensor"]) -> dict[str, "keras.KerasTensor"]:
        """What the model gives: `outputs` by name, past the layer that holds the learned weights if
        there are any.
        """
        if self.weights is not None:
            return outputs
        from graft.zoo.graph.layers import TaskWeights

        return TaskWeights(len(self.heads), name=TASK_WEIGHTS)(outputs)


def compile_arguments(group: Heads, model: "keras.Model") -> dict:
    """`loss`, `metrics` and `loss_weights` for `model.compile`."""
    if len(group.heads) == 1:
        (head,) = group.heads
        return {"loss": head.loss(), "metrics": head.metrics()}
    losses = {head.name: head.loss() for head in group.heads}
    # Weighted, because examples whose answer is not known count nothing.
    arguments = {"weighted_metrics": {head.name: head.metrics() for head in group.heads}}
    if group.weights is not None:
        weights = dict(zip(losses, group.weights, strict=True))
        return {"loss": losses, **arguments, "loss_weights": weights}
    layer = model.get_layer(TASK_WEIGHTS)
    weighted = {
        head.name: layer.weighted(losses[head.name], i, not head.kind.by_position)
        for i, head in enumerate(group.heads)
    }
    return {"loss": weighted, **arguments}


def dense(
    features: "keras.KerasTensor", units: int, name: str, dropout: float, hidden: int = 0
) -> "keras.KerasTensor":
    """A dense layer of `units`, behind dropout and a layer of `hidden` units where asked for."""
    import keras

    if hidden:
        features = keras.layers.Dense(hidden, "relu", name=f"{name}_hidden")(features)
    if dropout:
        features = keras.layers.Dropout(dropout, name=f"{name}_dropout")(features)
    return keras.layers.Dense(units, name=f"{name}_dense")(features)


def check_options(labels: Sequence[str], least: int, **fractions: float) -> None:
    """Refuse labels that cannot name the units of a head, and shares outside of [0, 1).

    Raises:
        ConfigError: names the label or the option.
    """
    if len(labels) < least:
        raise ConfigError(
            f"this head needs at least {least} label(s), got {len(labels)}: {list(labels)}"
        )
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if list(labels).count(label) > 1)
        raise ConfigError(
            f"the label '{twice}' stands twice in the list of labels; each output unit needs its "
            "own "
            "name"
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
