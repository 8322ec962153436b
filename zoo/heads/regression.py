"""Real numbers, in the units of the training data."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.heads.columns import Explained
from graft.zoo.heads.head import Head, check_options, dense
from graft.zoo.heads.kind import Kind, Scorer
from graft.zoo.heads.scores import Score

if TYPE_CHECKING:
    import keras

__all__ = ["REGRESSION", "Regression", "regression"]


class Regression(Kind):
    """Rows of values, unbounded."""

    name: ClassVar[str] = "regression"
    figure: ClassVar[str] = "R²"
    key: ClassVar[str] = "r2"
    agreement: ClassVar[str] = "R² against Keras"
    in_percent: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    named: ClassVar[bool] = False

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The explained variance of each value."""
        pairs = zip(np.float64(outputs).T, np.float64(targets).T, strict=True)
        return Score(self.figure, self.key, len(targets), [Explained.of(*pair) for pair in pairs])

    def score_against(self, reference: np.ndarray, margin: float) -> Scorer:
        """The same, of the reference's values."""
        return lambda values: self.score(values, reference)


REGRESSION = Regression()


def regression(
    targets: Sequence[str],
    *,
    name: str = "values",
    dropout: float = 0.0,
    centre: float = 0.0,
    scale: float = 1.0,
) -> Head:
    """One real number for each of `targets`: `(batch, len(targets))`, in the units of the training
    data.

    Trained with the Huber loss (Huber 1964), which a few wrong labels cannot dominate. `centre` and
    `scale` are the mean and the spread of the training values: the graph multiplies and adds them,
    and the loss is in units of the spread.

    Raises:
        ConfigError: no targets, `dropout` outside [0, 1), or a scale that is not above 0.
    """
    check_options(targets, 1, dropout=dropout)
    if scale <= 0:
        raise ConfigError(f"the scale of a regression is above 0, not {scale}")

    def attach(features: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        values = dense(features, len(targets), name, dropout)
        return keras.layers.Rescaling(scale, centre, dtype="float32", name=name)(values)

    def loss() -> "keras.Loss":
        from graft.zoo.graph.layers import ScaledHuber

        return ScaledHuber(scale)

    def metrics() -> list["keras.Metric"]:
        import keras

        return [keras.metrics.MeanAbsoluteError(name="mean_absolute_error")]

    def score(outputs: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
        from sklearn.metrics import mean_absolute_error

        truth, outputs = np.float64(truth), np.float64(outputs)  # squares of large values
        value = REGRESSION.score(outputs, truth).value
        return {
            "mean_absolute_error": float(mean_absolute_error(truth, outputs)),
            # Of values that are all the same there is no spread to explain.
            REGRESSION.key: None if math.isnan(value) else value,
        }

    return Head(name, REGRESSION, tuple(targets), attach, loss, metrics, score)
