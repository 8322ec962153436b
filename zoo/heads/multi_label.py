"""Any number of labels hold: independent sigmoid probabilities."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.zoo.heads.columns import Curve
from graft.zoo.heads.head import Head, check_options, dense
from graft.zoo.heads.kind import SIGMOID_ROUNDING, Kind
from graft.zoo.heads.scores import Score

if TYPE_CHECKING:
    import keras

__all__ = ["MULTI_LABEL", "MultiLabel", "multi_label"]

NEAR_ONE = 1e-7
"""float32 has no finer probabilities near 1."""


class MultiLabel(Kind):
    """Rows of probabilities, each unit for itself; a label holds above 0.5."""

    name: ClassVar[str] = "multi_label"
    figure: ClassVar[str] = "average precision"
    key: ClassVar[str] = "average_precision"
    rounding: ClassVar[float] = SIGMOID_ROUNDING

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The average precision of each label."""
        pairs = zip(np.float64(outputs).T, targets.T >= 0.5, strict=True)
        return Score(self.figure, self.key, len(targets), [Curve.of(*pair) for pair in pairs])

    def clear(self, reference: np.ndarray, margin: float) -> np.ndarray:
        """Where no label lies near 0.5."""
        return (np.abs(reference - 0.5) > margin).all(-1)

    def same(self, reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Where the same labels hold."""
        return ((reference > 0.5) == (outputs > 0.5)).all(-1)

    def can_be_said(self, before: Score, after: Score) -> bool:
        """Where some label occurs."""
        return bool((~np.isnan(before.units) & ~np.isnan(after.units)).any())

    def logits(self, values: np.ndarray) -> np.ndarray:
        """The inverse of the sigmoid."""
        inside = np.clip(values, NEAR_ONE, 1 - NEAR_ONE)
        return np.log(inside / (1 - inside))


MULTI_LABEL = MultiLabel()


def multi_label(
    labels: Sequence[str], *, name: str = "probabilities", dropout: float = 0.0
) -> Head:
    """Any number of `labels` hold: sigmoid probabilities `(batch, len(labels))` in [0, 1].

    Targets are rows of 0 and 1. `score` gives macro average precision and, at 0.5, the binary
    accuracy (of each label by itself, as Keras has it) and the exact match (of all labels of an
    example at once).

    Raises:
        ConfigError: no labels, or `dropout` outside [0, 1).
    """
    check_options(labels, 1, dropout=dropout)

    def attach(features: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        logits = dense(features, len(labels), name, dropout)
        return keras.layers.Activation("sigmoid", dtype="float32", name=name)(logits)

    def loss() -> "keras.Loss":
        import keras

        return keras.losses.BinaryCrossentropy()

    def metrics() -> list["keras.Metric"]:
        import keras

        return [
            keras.metrics.BinaryAccuracy(name="binary_accuracy"),
            keras.metrics.AUC(multi_label=True, name="auc"),
        ]

    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
        right = (outputs >= 0.5) == (targets >= 0.5)
        value = MULTI_LABEL.score(outputs, targets).value
        return {
            MULTI_LABEL.key: None if math.isnan(value) else value,
            "binary_accuracy": float(np.mean(right)),
            "exact_match": float(np.mean(right.all(-1))),
        }

    return Head(name, MULTI_LABEL, tuple(labels), attach, loss, metrics, score)
