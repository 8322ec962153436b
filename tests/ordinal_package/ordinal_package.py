"""Answers on a scale, small < medium < large: a task of another package than Graft.

    graft train ordinal-size --data photos/ --scale small medium large --out runs/sizes

A model answers, for each step but the last, how likely the answer lies above it: CORAL, cumulative
logits with one slope and a bias for each step (Cao, Mirjalili and Raschka 2020, arXiv:1901.07884).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.data.records import Answer, Record
from graft.recipes.runs.options import ImageConfig
from graft.recipes.tasks.labels import check_probabilities
from graft.recipes.tasks.task import Task
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.heads.head import Head, check_options, dense
from graft.zoo.heads.kind import SIGMOID_ROUNDING, Kind
from graft.zoo.heads.scores import Score

if TYPE_CHECKING:
    import keras

TINY = 1e-7


def ranks(rows: np.ndarray) -> np.ndarray:
    """Probabilities to lie above each step `(n, steps - 1)` -> places on the scale from 0,
    `(n,)`.
    """
    return (rows > 0.5).sum(-1)


# What the numbers mean, and how they are judged: numpy alone


@dataclass(frozen=True)
class WeightedKappa:
    """Agreement beyond chance, where a miss counts by the square of its distance (Cohen 1968).

    Attributes:
        sums: what each example adds to the sums that it is made of, `(n, 6)`.
    """

    sums: np.ndarray

    @classmethod
    def of(cls, said: np.ndarray, truth: np.ndarray) -> "WeightedKappa":
        """Of places on the scale, `(n,)` each."""
        said, truth = np.float64(said), np.float64(truth)
        ones = np.ones_like(said)
        return cls(np.stack([ones, said, truth, said**2, truth**2, (said - truth) ** 2], -1))

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(b, n)` -> `(b,)`; NaN where all answers are one step."""
        return self._kappa(weights @ self.sums)

    def without(self) -> np.ndarray:
        """That of all examples but one, `(n,)`."""
        return self._kappa(self.sums.sum(0) - self.sums)

    @staticmethod
    def _kappa(sums: np.ndarray) -> np.ndarray:
        count, said, truth, said_squares, truth_squares, missed = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            chance = said_squares + truth_squares - 2 * said * truth / count
            return np.where(chance > 1e-9, 1 - missed / chance, np.nan)


class OrdinalKind(Kind):
    """Rows of probabilities to lie above each step of a scale but the last."""

    name: ClassVar[str] = "ordinal"
    figure: ClassVar[str] = "weighted kappa"
    key: ClassVar[str] = "weighted_kappa"
    in_percent: ClassVar[bool] = False
    rounding: ClassVar[float] = SIGMOID_ROUNDING

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The weighted kappa of the places on the scale."""
        column = WeightedKappa.of(ranks(outputs), ranks(targets))
        return Score(self.figure, self.key, len(targets), [column])

    def clear(self, reference: np.ndarray, margin: float) -> np.ndarray:
        """Where no step lies near its threshold."""
        return (np.abs(reference - 0.5) > margin / 2).all(-1)

    def same(self, reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Where the place is the same."""
        return ranks(reference) == ranks(outputs)

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Before the sigmoid."""
        values = np.clip(values, TINY, 1 - TINY)
        return np.log(values) - np.log1p(-values)

    def register_layers(self) -> None:
        """The biases of the steps."""
        thresholds_class()


ORDINAL = OrdinalKind()


# The head: Keras is imported where it is needed, so that `graft predict` works without it


@cache
def thresholds_class() -> type:
    """The layer that turns one score into a logit for each step but the last."""
    import keras

    @keras.saving.register_keras_serializable(package="ordinal_package")
    class Thresholds(keras.layers.Layer):
        def __init__(self, count: int, **settings: Any) -> None:
            super().__init__(**settings)
            self.count = count

        def build(self, shape: Sequence[int | None]) -> None:
            start = keras.initializers.Constant(np.linspace(1, -1, self.count))
            self.biases = self.add_weight(shape=(self.count,), initializer=start, name="biases")

        def call(self, score: Any) -> Any:
            return score + self.biases

        def get_config(self) -> dict:
            return super().get_config() | {"count": self.count}

    return Thresholds


def ordinal(scale: Sequence[str], *, name: str = "above", dropout: float = 0.0) -> Head:
    """Where an answer lies on `scale`, the lowest step first.

    Outputs are `(batch, steps - 1)`: how likely it lies above each step but the last, from 0 to 1.
    Targets are the same, of 0 and 1.

    Raises:
        ConfigError: fewer than two steps, or a dropout outside [0, 1).
    """
    check_options(scale, 2, dropout=dropout)
    units = [f"above {step}" for step in scale[:-1]]

    def attach(features: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        score = dense(features, 1, name, dropout)
        logits = thresholds_class()(len(units), name=f"{name}_thresholds")(score)
        return keras.layers.Activation("sigmoid", dtype="float32", name=name)(logits)

    def loss() -> "keras.Loss":
        import keras

        return keras.losses.BinaryCrossentropy()  # equation 4 of the paper, each step alike

    def metrics() -> list["keras.Metric"]:
        import keras

        return [keras.metrics.BinaryAccuracy(name="step_accuracy")]

    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
        said, truth = ranks(outputs), ranks(targets)
        kappa = ORDINAL.score(outputs, targets).value
        return {
            ORDINAL.key: None if np.isnan(kappa) else kappa,
            "mean_distance": float(np.abs(said - truth).mean()),
        }

    return Head(name, ORDINAL, tuple(units), attach, loss, metrics, score)


# The task


@dataclass(frozen=True)
class OrdinalTask(Task):
    """Where an answer lies on a scale.

    Attributes:
        scale: the steps, the lowest first.
    """

    scale: tuple[str, ...] = ()

    kind: ClassVar[Kind] = ORDINAL
    meaning: ClassVar[str] = "how likely the answer lies above each step of a scale but the last"

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "OrdinalTask":
        """The task of an artifact."""
        scale = tuple(facts["scale"])
        return cls(ordinal(scale, name=name), **cls.where(name, facts, "label"), scale=scale)

    def describe(self) -> dict:
        """With the scale, of which the units of the head do not name the last step."""
        return super().describe() | {"scale": list(self.scale)}

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """The steps."""
        return self.scale

    def _row(self, answer: Answer, index: Mapping[str, int], record: Record) -> np.ndarray:
        (step,) = answer
        if step not in self.scale:
            raise DataError(
                f"{record.name}: '{step}' is no step of the scale {' < '.join(self.scale)}: name "
                "all "
                "steps in --scale"
            )
        return np.float32(np.arange(len(self.scale) - 1) < self.scale.index(step))

    def holds(self, target: np.ndarray) -> np.ndarray:
        """The step of each example."""
        return ranks(target)[:, None] == np.arange(len(self.scale))

    def confusion(self, outputs: np.ndarray, target: np.ndarray) -> list[list[int]]:
        """Counts `[truth][prediction]`."""
        outputs, target = self._known(outputs, target)
        counts = np.zeros((len(self.scale),) * 2, int)
        np.add.at(counts, (ranks(target), ranks(outputs)), 1)
        return counts.tolist()

    def _section(self, outputs: np.ndarray, target: np.ndarray) -> Mapping:
        """How far answers lie from the truth."""
        apart = np.abs(ranks(outputs) - ranks(target))
        rows = [[str(steps), int((apart == steps).sum())] for steps in range(len(self.scale))]
        return {
            "title": "Distance on the scale",
            "text": f"How many steps of {' < '.join(self.scale)} lie between answer and truth.",
            "columns": ["Steps apart", "Test images"],
            "rows": rows,
        }

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The step, and how likely the answer lies above each."""
        check_probabilities(row)
        above = dict(zip(self.scale[:-1], map(float, row), strict=True))
        return {"step": self.scale[int(ranks(row))], "above": above}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The same."""
        return [said["step"], *(f">{step} {value:.3f}" for step, value in said["above"].items())]

    def columns(self, said: Mapping) -> dict[str, Any]:
        """A column a probability, behind the step."""
        above = {f"above_{step}": value for step, value in said["above"].items()}
        return {"step": said["step"], **above}


# The recipe


@dataclass(frozen=True, kw_only=True)
class Config(ImageConfig):
    """Train a model that places images on a scale."""

    scale: tuple[str, ...]
    """The labels of the data, the lowest first."""
    dropout: float = 0.2
    """Before the head, 0 to 1."""
    fraction: float | None = None
    """Train on this share of the training images only."""
    seeds: int = 1
    """Train so many times, with consecutive seeds."""
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    label_column: str = "label"
    """The column of a table."""


def main(config: Config) -> Path:
    """Train, evaluate, write the run directory and print the outcome; returns the directory."""
    from graft.recipes.data import sources
    from graft.recipes.data.prepared import PreparedData
    from graft.recipes.runs import experiment
    from graft.recipes.runs.backbones import ImageBackbone
    from graft.recipes.runs.supervised import Supervised
    from graft.recipes.tasks.group import Tasks

    config.check()
    if len(config.scale) < 2:
        raise ConfigError(f"--scale needs two steps or more, got {len(config.scale)}")
    backbone = ImageBackbone.chosen(config)
    phases = backbone.phases(config)
    source = sources.load(
        config.data, path_column=config.path_column, label_column=config.label_column
    )
    data = PreparedData.of(source, config)
    task = OrdinalTask(ordinal(config.scale, dropout=config.dropout), scale=config.scale)
    problem = experiment.Problem(
        "ordinal-size", data, Tasks((task,)), backbone, phases, Supervised()
    )
    return experiment.run(problem, config)
