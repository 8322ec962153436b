"""The one figure that each kind of answer is judged by, under any weighting of the examples. numpy
alone.

A bootstrap counts each example so many times, a jackknife leaves one out: both are weights. A
figure that can be computed under weights therefore has intervals and paired tests, whether it is a
mean over examples (accuracy) or not (average precision, entity F1, R²).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from graft.zoo.heads.columns import Column, Ratio

__all__ = ["Score", "mean_of_units", "resamples", "share", "unit_scores"]

CHUNK = 256
"""Rows of weights that are worked on at a time."""


@dataclass(frozen=True)
class Score:
    """What one set of answers scores.

    Attributes:
        name: of the figure, in words.
        key: of the figure, in JSON.
        examples: how many there are, n.
        columns: a unit each; several values or labels have several, else there is one.
        right: `(n,)` of 0 and 1 where the figure is a share of the examples, between them for one
            that ties make right in part; NaN for one that does not count. None for other figures.
        instead: what the same answers are judged by where the figure cannot be said; None: nothing.
    """

    name: str
    key: str
    examples: int
    columns: Sequence[Column]
    right: np.ndarray | None = None
    instead: "Score | None" = None

    @cached_property
    def units(self) -> np.ndarray:
        """The figure of each unit, `(units,)`; NaN for one that cannot be said."""
        return self.under(np.ones((1, self.examples)))[0]

    @property
    def value(self) -> float:
        """The figure: the mean over the units that have one. NaN where none has."""
        return float(mean_of_units(self.units))

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(b, n)` -> the figure under each of them, `(b, units)`, 0 to 1 (R² has no lower
        end); NaN where it cannot be said.
        """
        return np.stack([column.under(weights) for column in self.columns], -1)

    def without(self) -> np.ndarray:
        """The figure of all examples but one, `(n, units)`: row i leaves example i out.

        It takes time by the number of examples, where weights would take its square.
        """
        return np.stack([column.without() for column in self.columns], -1)

    def drawn(self, count: int, unit: int | None = None, seed: int = 0) -> np.ndarray:
        """The figure of `count` bootstrap resamples, `(count, units)`, or `(count, 1)` of one
        `unit` alone; the same resamples for all scores of so many examples.
        """
        asked = self if unit is None else replace(self, columns=[self.columns[unit]])
        rng = np.random.default_rng(seed)
        parts = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        return np.concatenate([asked.under(_resamples(rng, self.examples, part)) for part in parts])


def mean_of_units(values: np.ndarray) -> np.ndarray:
    """`(..., units)` -> the mean over the units that have a figure, `(...)`; NaN where none has."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0.0).sum(-1) / known.sum(-1)


def share(name: str, key: str, right: np.ndarray) -> Score:
    """The share of examples that are `right`, `(n,)` from 0 to 1 or bool; NaN for one that does not
    count.
    """
    right = np.asarray(right, float)
    counted = ~np.isnan(right)
    return Score(name, key, len(right), [Ratio.of(np.where(counted, right, 0.0), counted)], right)


def resamples(examples: int, count: int, seed: int = 0) -> np.ndarray:
    """Bootstrap weights `(count, examples)`: how often each example was drawn (Efron 1979)."""
    return _resamples(np.random.default_rng(seed), examples, count)


def unit_scores(made: Score) -> np.ndarray:
    """What each example contributes, `(n,)`: their mean is the figure, their spread its error.

    Right (1), wrong (0) or in part where the figure is a share of the examples; else the
    jackknife's pseudo-values (Tukey 1958), of which several units are averaged. All NaN where the
    figure cannot be said. An example that a share does not count gets the share itself, so that it
    changes nothing.
    """
    n = made.examples
    if made.right is not None:
        counted = ~np.isnan(made.right)
        whole = made.right[counted].mean() if counted.any() else np.nan
        return np.where(counted, made.right, whole)
    without = mean_of_units(made.without())
    # Without its only entity a set of sentences has no F1: that example decides nothing.
    without = np.where(np.isnan(without), made.value, without)
    return n * made.value - (n - 1) * without


def _resamples(rng: np.random.Generator, examples: int, count: int) -> np.ndarray:
    return rng.multinomial(examples, np.full(examples, 1 / examples), count).astype(float)
