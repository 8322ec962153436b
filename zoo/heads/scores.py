"""The one figure that each kind of answer is judged by, under any weighting of the examples. numpy
alone.

A bootstrap counts each example so many times, a jackknife leaves one out: both are weights. A
figure that can be computed under weights therefore has intervals and paired tests, whether it is a
mean over examples (accuracy) or not (average precision, entity F1, R²).
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from graft.zoo.heads.neighbours import alike_among_nearest
from graft.zoo.heads.spans import spans

__all__ = [
    "FIGURES",
    "Score",
    "entity_f1",
    "figure_of",
    "mean_of_units",
    "recall",
    "resamples",
    "score",
    "share",
    "unit_scores",
]

FIGURES = {
    "single_label": ("accuracy", "accuracy"),
    "multi_label": ("average precision", "average_precision"),
    "tags": ("entity F1", "f1"),
    "embedding": ("recall at 1", "recall_at_1"),
    "regression": ("R²", "r2"),
}
"""Kind of answer -> (what the figure is called, its key in JSON)."""

CHUNK = 256
"""Rows of weights that are worked on at a time."""

ROUNDING = 1e-15
"""Numbers that differ by less, relative to their size, are one number that was rounded."""


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
    columns: "Sequence[_Ratio | _Curve | _Explained]"
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


def figure_of(kind: str) -> dict:
    """`{"name", "key"}` of the figure that answers of this kind are judged by."""
    name, key = FIGURES[kind]
    return {"name": name, "key": key}


def score(kind: str, outputs: np.ndarray, targets: np.ndarray) -> Score:
    """What `outputs` score against `targets`, both `(n, units)` in the form that heads use.

    `kind` is that of a head in `zoo/heads/heads.py`. For tags `outputs` are `(n, length, labels)`,
    `targets` int32 `(n, length)` with -1 where a token has no tag: the share of such tokens that
    are right, and each sentence counts as one example. Entities need the words: see `entity_f1`.
    """
    name, key = FIGURES[kind]
    if kind == "single_label":
        return share(name, key, outputs.argmax(-1) == targets.argmax(-1))
    if kind == "embedding":
        return recall(outputs, targets, 1)
    if kind == "multi_label":
        curves = [
            _Curve.of(*column)
            for column in zip(np.float64(outputs).T, targets.T >= 0.5, strict=True)
        ]
        return Score(name, key, len(targets), curves)
    if kind == "regression":
        columns = zip(np.float64(outputs).T, np.float64(targets).T, strict=True)
        return Score(name, key, len(targets), [_Explained.of(*column) for column in columns])
    named = targets >= 0
    right = ((outputs.argmax(-1) == targets) & named).sum(-1)
    return Score("accuracy", "accuracy", len(targets), [_Ratio.of(right, named.sum(-1))])


def entity_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Score:
    """F1 of the entities in IOB2 tags, over all sentences together; a sentence is one example.

    Where no entity is to be found it cannot be said, whatever was found: what is measured then does
    not depend on the answers. `instead` there is the share of words with the right tag.
    """
    counts = np.zeros((len(truth), 4))
    for row, true, guess in zip(counts, truth, predicted, strict=True):
        known, found = spans(true), spans(guess)
        row[:] = len(known & found), len(known), len(found), sum(map(operator.eq, true, guess))
    hits, wanted, given, right = counts.T
    words = _Ratio.of(right, [len(sentence) for sentence in truth])
    return Score(
        *FIGURES["tags"],
        len(truth),
        [_Ratio.of(2 * hits, wanted + given, wanted)],
        instead=Score("accuracy", "accuracy", len(truth), [words]),
    )


def share(name: str, key: str, right: np.ndarray) -> Score:
    """The share of examples that are `right`, `(n,)` from 0 to 1 or bool; NaN for one that does not
    count.
    """
    right = np.asarray(right, float)
    counted = ~np.isnan(right)
    return Score(name, key, len(right), [_Ratio.of(np.where(counted, right, 0.0), counted)], right)


def recall(vectors: np.ndarray, targets: np.ndarray, count: int) -> Score:
    """How often one of the `count` nearest other vectors is of the same class; who is alone in a
    class does not ask.

    Ties are broken by chance (`zoo.heads.neighbours.alike_among_nearest`), so an example may be
    right in part.
    """
    classes = targets.argmax(-1)
    asking = np.flatnonzero(np.bincount(classes)[classes] > 1)
    right = np.full(len(classes), np.nan)
    right[asking] = alike_among_nearest(vectors, classes, count, asking)
    return share(f"recall at {count}", f"recall_at_{count}", right)


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


@dataclass(frozen=True)
class _Ratio:
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
    ) -> "_Ratio":
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
class _Curve:
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
    def of(cls, scores: np.ndarray, positive: np.ndarray) -> "_Curve":
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
class _Explained:
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
    def of(cls, outputs: np.ndarray, truth: np.ndarray) -> "_Explained":
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
