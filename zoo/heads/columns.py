"""Columns of a score: a ratio, a curve of precision against recall, or explained variance, each
under any weighting of the examples. Another package may have its own. numpy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Column", "Curve", "Explained", "MeanOf", "Ratio"]

ROUNDING = 1e-15
"""Numbers that differ by less, relative to their size, are one number that was rounded."""


class Column(Protocol):
    """One figure of a set of answers."""

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights of the examples `(b, n)` -> the figure under each, `(b,)`, at most 1; NaN where
        it cannot be said.
        """
        ...

    def without(self) -> np.ndarray:
        """That of all examples but one, `(n,)`: row i leaves example i out."""
        ...


@dataclass(frozen=True)
class MeanOf:
    """The mean of several columns, of those that can be said."""

    columns: tuple[Column, ...]

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(b, n)` -> `(b,)`."""
        return _mean_of_known([column.under(weights) for column in self.columns])

    def without(self) -> np.ndarray:
        """That of all examples but one, `(n,)`."""
        return _mean_of_known([column.without() for column in self.columns])


def _mean_of_known(values: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, stacked, 0.0).sum(0) / known.sum(0)


@dataclass(frozen=True)
class Ratio:
    """The ratio of two sums over the examples.

    Attributes:
        over, below: what is summed, `(n,)` each.
        counted: `(n,)`; where the sum of these is 0 the ratio cannot be said.
    """

    over: np.ndarray
    below: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(
        cls, over: Sequence[float], below: Sequence[float], counted: Sequence[float] | None = None
    ) -> "Ratio":
        return cls(
            *(
                np.asarray(part, float)
                for part in (over, below, below if counted is None else counted)
            )
        )

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(b, n)` -> `(b,)`."""
        return self._divided(weights @ self.over, weights @ self.below, weights @ self.counted)

    def without(self) -> np.ndarray:
        """That of all examples but one, `(n,)`."""
        return self._divided(*(part.sum() - part for part in (self.over, self.below, self.counted)))

    @staticmethod
    def _divided(over: np.ndarray, below: np.ndarray, counted: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(counted > 0, over / below, np.nan)


@dataclass(frozen=True)
class Curve:
    """Precision against recall of one label; the average precision is the area under it.

    Attributes:
        order: the examples by falling score, `(n,)`.
        group: the place of each of them among the different scores, `(n,)`. Examples with one score
            are called together: the curve has a point at the last of them.
        last: that one of each group, `(groups,)`.
        positive: whether the label holds, in this order, `(n,)`.
    """

    order: np.ndarray
    group: np.ndarray
    last: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray) -> "Curve":
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]
        return cls(order, np.cumsum(ends) - ends, np.flatnonzero(ends), positive[order])

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(b, n)` -> `(b,)`; NaN where no example has the label."""
        if not self.positive.any():
            return np.full(len(weights), np.nan)
        counted = weights[:, self.order]
        hits = np.cumsum(counted * self.positive, -1)[:, self.last]
        called = np.cumsum(counted, -1)[:, self.last]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(called > 0, hits / called, 0.0)
            steps = np.diff(hits, prepend=0.0, axis=-1) / hits[:, -1:]
        return (precision * steps).sum(-1)

    def without(self) -> np.ndarray:
        """That of all examples but one, `(n,)`.

        A group before that of the example keeps its precision; its own and those behind lose one
        call, and a hit if the example has the label. So sums over the groups from either end, one
        for each case, hold the answers to all.
        """
        hits = np.cumsum(self.positive)[self.last].astype(float)
        called = self.last + 1.0
        gained = np.diff(hits, prepend=0.0)
        removed = np.arange(2.0)[:, None]  # hits that leave with the example: none, one
        with np.errstate(invalid="ignore", divide="ignore"):
            less = np.where(
                called > 1, (hits - removed) / (called - 1), 0.0
            )  # precision with one call less, (2, groups)
            before = np.append(0.0, np.cumsum(gained * hits / called)[:-1])
            behind = np.flip(np.cumsum(np.flip(gained * less, -1), -1), -1) - gained * less
            own = (gained - removed) * less
            area = (before + own + behind) / (hits[-1] - removed)
        found = np.empty(len(self.order))
        found[self.order] = area[self.positive.astype(int), self.group]
        return found


@dataclass(frozen=True)
class Explained:
    """R² of one value.

    Attributes:
        truth: in units of the largest distance from the mean, which is at 0, `(n,)`: their squares
            do not overflow, and nothing depends on the units. None where the truth does not vary
            but for rounding.
        errors: the squares of what is missed, in the same units.
    """

    truth: np.ndarray | None
    errors: np.ndarray

    @classmethod
    def of(cls, outputs: np.ndarray, truth: np.ndarray) -> "Explained":
        centred = truth - truth.mean()
        scale = np.abs(centred).max(initial=0.0)
        if not scale > ROUNDING * np.abs(truth).max(initial=0.0):
            return cls(None, np.zeros(len(truth)))
        return cls(centred / scale, np.square((truth - outputs) / scale))

    def under(self, weights: np.ndarray) -> np.ndarray:
        """Weights `(b, n)` -> `(b,)`; NaN where the truth does not vary."""
        if self.truth is None:
            return np.full(len(weights), np.nan)
        squares, sums = weights @ self.truth**2, weights @ self.truth
        return self._share(weights @ self.errors, squares, sums, weights.sum(-1))

    def without(self) -> np.ndarray:
        """That of all examples but one, `(n,)`."""
        if self.truth is None:
            return np.full(len(self.errors), np.nan)
        squares, sums = (self.truth**2).sum() - self.truth**2, self.truth.sum() - self.truth
        return self._share(
            self.errors.sum() - self.errors, squares, sums, np.float64(len(self.errors) - 1)
        )

    @staticmethod
    def _share(
        missed: np.ndarray, squares: np.ndarray, sums: np.ndarray, count: np.ndarray
    ) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = squares - sums**2 / count
            # What is left of equal values is rounding of their squares.
            return np.where(spread > 1e-12 * squares, 1 - missed / spread, np.nan)
