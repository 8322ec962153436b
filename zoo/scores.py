"""The one figure that each kind of answer is judged by, under any weighting of the examples. numpy alone.

A bootstrap counts each example so many times, a jackknife leaves one out: both are weights. A figure
that can be computed under weights therefore has intervals and paired tests, whether it is a mean
over examples (accuracy) or not (average precision, entity F1, R²).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.neighbours import alike_among_nearest
from zoo.spans import spans

__all__ = ["FIGURES", "Score", "entity_f1", "figure_of", "recall", "resamples", "score", "share", "unit_scores"]

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


@dataclass(frozen=True)
class Score:
    """What one set of answers scores.

    Attributes:
        name: of the figure, in words.
        key: of the figure, in JSON.
        examples: how many there are, n.
        under: weights `(b, n)` -> the figure under each of them, `(b, units)`, 0 to 1 (R² has no
            lower end); NaN where it cannot be said. Several values have a unit each, else one.
        right: `(n,)` of 0 and 1 where the figure is a share of the examples, between them for one that
            ties make right in part; NaN for one that does not count. None for other figures.
    """

    name: str
    key: str
    examples: int
    under: Callable[[np.ndarray], np.ndarray]
    right: np.ndarray | None = None

    @property
    def units(self) -> np.ndarray:
        """The figure of each unit, `(units,)`."""
        return self.under(np.ones((1, self.examples)))[0]

    @property
    def value(self) -> float:
        """The figure: the mean over its units. NaN where it cannot be said."""
        return float(self.units.mean())


def figure_of(kind: str) -> dict:
    """`{"name", "key"}` of the figure that answers of this kind are judged by."""
    name, key = FIGURES[kind]
    return {"name": name, "key": key}


def score(kind: str, outputs: np.ndarray, targets: np.ndarray) -> Score:
    """What `outputs` score against `targets`, both `(n, units)` in the form that heads use.

    `kind` is that of a head in `zoo/heads.py`. For tags `outputs` are `(n, length, labels)`, `targets`
    int32 `(n, length)` with -1 where a token has no tag: the share of such tokens that are right, and
    each sentence counts as one example. Entities need the words: see `entity_f1`.
    """
    name, key = FIGURES[kind]
    if kind == "single_label":
        return share(name, key, outputs.argmax(-1) == targets.argmax(-1))
    if kind == "embedding":
        return recall(outputs, targets, 1)
    if kind == "multi_label":
        return Score(name, key, len(targets), lambda w: _average_precision(outputs, targets, w))
    if kind == "regression":
        return Score(name, key, len(targets), lambda w: _explained(outputs, targets, w))
    named = targets >= 0
    right = ((outputs.argmax(-1) == targets) & named).sum(-1)
    return Score("accuracy", "accuracy", len(targets), _ratio(right, named.sum(-1)))


def entity_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Score:
    """F1 of the entities in IOB2 tags, over all sentences together; a sentence is one example."""
    counts = np.zeros((len(truth), 2))
    for row, true, guess in zip(counts, truth, predicted, strict=True):
        known, found = spans(true), spans(guess)
        row[:] = 2 * len(known & found), len(known) + len(found)
    return Score(*FIGURES["tags"], len(truth), _ratio(*counts.T))


def share(name: str, key: str, right: np.ndarray) -> Score:
    """The share of examples that are `right`, `(n,)` from 0 to 1 or bool; NaN for one that does not count."""
    right = np.asarray(right, float)
    counted = ~np.isnan(right)
    values = np.where(counted, right, 0.0)
    return Score(name, key, len(right), _ratio(values, counted), right)


def recall(vectors: np.ndarray, targets: np.ndarray, count: int) -> Score:
    """How often one of the `count` nearest other vectors is of the same class; who is alone in a class does not ask.

    Ties are broken by chance (`zoo.neighbours.alike_among_nearest`), so an example may be right in part.
    """
    classes = targets.argmax(-1)
    asking = np.flatnonzero(np.bincount(classes)[classes] > 1)
    right = np.full(len(classes), np.nan)
    right[asking] = alike_among_nearest(vectors, classes, count, asking)
    return share(f"recall at {count}", f"recall_at_{count}", right)


def resamples(examples: int, count: int, seed: int = 0) -> np.ndarray:
    """Bootstrap weights `(count, examples)`: how often each example was drawn (Efron 1979)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(examples, np.full(examples, 1 / examples), count).astype(float)


def unit_scores(made: Score) -> np.ndarray:
    """What each example contributes, `(n,)`: their mean is the figure, their spread its error.

    Right (1), wrong (0) or in part where the figure is a share of the examples; else the jackknife's
    pseudo-values (Tukey 1958), of which several units are averaged. All NaN where the figure cannot be
    said. An example that a share does not count gets the share itself, so that it changes nothing.
    """
    n = made.examples
    if made.right is not None:
        counted = ~np.isnan(made.right)
        whole = made.right[counted].mean() if counted.any() else np.nan
        return np.where(counted, made.right, whole)
    without = np.empty(n)
    for start in range(0, n, CHUNK):
        rows = np.arange(start, min(start + CHUNK, n))
        weights = np.ones((len(rows), n))
        weights[np.arange(len(rows)), rows] = 0
        without[rows] = made.under(weights).mean(-1)
    # Without its only entity a set of sentences has no F1: that example decides nothing.
    without = np.where(np.isnan(without), made.value, without)
    return n * made.value - (n - 1) * without


def _ratio(over: np.ndarray, under: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """weights `(b, n)` -> the ratio of two weighted sums, `(b, 1)`."""
    over, under = np.asarray(over, float), np.asarray(under, float)

    def of(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((weights @ over) / (weights @ under))[:, None]

    return of


def _average_precision(outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over the labels that occur of the area under precision against recall, `(b, 1)`."""
    found = []
    for scores, truth in zip(np.float64(outputs).T, targets.T >= 0.5, strict=True):
        if not truth.any():
            continue
        order = np.argsort(-scores, kind="stable")
        counted = weights[:, order]
        hits = np.cumsum(counted * truth[order], -1)
        called = np.cumsum(counted, -1)
        # Examples with one score are called together: the curve has a point at the last of them.
        last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
        hits, called = hits[:, last], called[:, last]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(called > 0, hits / called, 0.0)
            steps = np.diff(hits, prepend=0.0, axis=-1) / hits[:, -1:]
        found.append((precision * steps).sum(-1))
    if not found:
        return np.full((len(weights), 1), np.nan)
    columns = np.stack(found, -1)
    known = ~np.isnan(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(known, columns, 0.0).sum(-1) / known.sum(-1))[:, None]


def _explained(outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """R² of each value, `(b, units)`; NaN where the truth does not vary."""
    truth, errors = np.float64(targets), np.square(np.float64(targets) - np.float64(outputs))
    centred = truth - truth.mean(0)
    total = weights.sum(-1, keepdims=True)
    spread = weights @ centred**2 - (weights @ centred) ** 2 / total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 1e-12 * total, 1 - (weights @ errors) / spread, np.nan)
