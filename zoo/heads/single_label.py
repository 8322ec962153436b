"""Exactly one of several labels holds: softmax probabilities that sum to 1."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.zoo.heads.head import Head, check_options, dense
from graft.zoo.heads.kind import TINY, Kind
from graft.zoo.heads.scores import Score, share

if TYPE_CHECKING:
    import keras

__all__ = ["SINGLE_LABEL", "SingleLabel", "single_label"]


class SingleLabel(Kind):
    """Rows of probabilities; the largest one is the answer."""

    name: ClassVar[str] = "single_label"
    figure: ClassVar[str] = "accuracy"
    key: ClassVar[str] = "accuracy"
    confident: ClassVar[bool] = True

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The share of examples whose largest output is the target's."""
        return share(self.figure, self.key, outputs.argmax(-1) == targets.argmax(-1))

    def clear(self, reference: np.ndarray, margin: float) -> np.ndarray:
        """Where the best two outputs lie further apart."""
        best = np.sort(reference, -1)
        return best[:, -1] - best[:, -2] > margin

    def same(self, reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Where the same label is the largest."""
        return reference.argmax(-1) == outputs.argmax(-1)

    def logits(self, values: np.ndarray) -> np.ndarray:
        """The logarithms, each row around 0."""
        logs = np.log(np.maximum(values, TINY))
        return logs - logs.mean(-1, keepdims=True)


SINGLE_LABEL = SingleLabel()


def single_label(
    labels: Sequence[str],
    *,
    name: str = "probabilities",
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
    hidden: int = 0,
) -> Head:
    """Exactly one of `labels` holds: softmax probabilities `(batch, len(labels))` that sum to 1.

    Targets are one-hot or mixed (MixUp, CutMix) rows of floats `(batch, len(labels))`.

    Args:
        labels: two or more, in the order of the units.
        name: of the output.
        dropout: before the last layer, in [0, 1).
        label_smoothing: in [0, 1), Szegedy et al. 2016, arXiv:1512.00567.
        hidden: units of a layer before the last one, 0 for none: what can still move where the
            backbone is frozen.

    Raises:
        ConfigError: fewer than two labels, or a share outside [0, 1).
    """
    check_options(labels, 2, dropout=dropout, label_smoothing=label_smoothing)

    def attach(features: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        logits = dense(features, len(labels), name, dropout, hidden)
        return keras.layers.Activation("softmax", dtype="float32", name=name)(logits)

    def loss() -> "keras.Loss":
        import keras

        return keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)

    def metrics() -> list["keras.Metric"]:
        import keras

        return [keras.metrics.CategoricalAccuracy(name="accuracy")]

    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
        from sklearn.metrics import log_loss

        truth = targets.argmax(-1)
        # float32 rows sum to 1 +- 1e-7
        exact = outputs / np.sum(outputs, -1, keepdims=True, dtype=np.float64)
        return {
            "accuracy": float(np.mean(outputs.argmax(-1) == truth)),
            "loss": float(log_loss(truth, exact, labels=range(len(labels)))),
        }

    return Head(name, SINGLE_LABEL, tuple(labels), attach, loss, metrics, score)
