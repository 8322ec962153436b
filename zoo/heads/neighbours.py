"""The nearest of many vectors, found a stretch at a time: memory grows with their number, not with
its square.
"""

from collections.abc import Iterator

import numpy as np

__all__ = ["alike_among_nearest", "nearest_others", "shared_nearest"]

COMPARED = 2**21
"""Similarities that are held at a time."""

TIED = 1e-5
"""Similarities are tied that differ by less, relative to the lengths of the vectors: another batch
or runtime rounds a float32 vector by about a tenth of that.
"""


def nearest_others(vectors: np.ndarray, count: int, rows: np.ndarray | None = None) -> np.ndarray:
    """The numbers of the nearest other vectors, by dot product, nearest first.

    Args:
        vectors: `(n, width)`; their own type is computed in.
        count: neighbours of each; at most n - 1 are given.
        rows: the numbers of the vectors that ask. Default: all of them.

    Returns:
        int64 `(rows, count)`. Of equally near ones the first comes first.
    """
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    count = min(count, len(vectors) - 1)
    found = np.empty((len(rows), count), np.int64)
    stretch = max(1, COMPARED // max(1, len(vectors)))
    for start in range(0, len(rows) if count else 0, stretch):
        asking = rows[start : start + stretch]
        distances = -(vectors[asking] @ vectors.T)
        distances[np.arange(len(asking)), asking] = np.inf
        found[start : start + stretch] = _smallest(distances, count)
    return found


def alike_among_nearest(
    vectors: np.ndarray, classes: np.ndarray, count: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """How likely one of the `count` nearest others is of the same class, where ties are broken by
    chance.

    Without ties that is 1 or 0. Of several that are equally near (`TIED`) any may come first, so
    that neither their order nor rounding changes the figure.

    Args:
        vectors: `(n, width)`.
        classes: int `(n,)`.
        count: neighbours of each, at least 1; there are at most n - 1.
        rows: the numbers of the vectors that ask. Default: all of them.

    Returns:
        float64 `(rows,)`, 0 to 1; 0 for a vector that is no number or has no other.
    """
    found = []
    for asking, similarities, slack in _compared(vectors, rows):
        kth = min(count, len(vectors) - 1)
        last = (
            -np.partition(-similarities, kth - 1, -1)[:, [kth - 1]]
            if kth
            else np.full((len(asking), 1), -np.inf)
        )
        nearer = similarities > last + slack
        tied = (similarities >= last - slack) & ~nearer & np.isfinite(similarities)
        same = classes[asking][:, None] == classes
        missed = _missed(tied.sum(-1), (tied & ~same).sum(-1), kth - nearer.sum(-1), kth)
        found.append(np.where((nearer & same).any(-1), 1.0, 1 - missed))
    return np.concatenate(found) if found else np.zeros(0)


def shared_nearest(vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of each one's nearest by `vectors`, of which several may be tied, that are nearest
    by `others` too.

    Both are `(n, width)`. float64 `(n,)`, 0 to 1; 1 where there is no other vector.
    """
    if len(vectors) < 2:
        return np.ones(len(vectors))
    found = []
    for mine, theirs in zip(
        map(_nearest, _compared(vectors)), map(_nearest, _compared(others)), strict=True
    ):
        found.append((mine & theirs).sum(-1) / np.maximum(mine.sum(-1), 1))
    return np.concatenate(found)


def _nearest(stretch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Which are nearest to each vector of a stretch that `_compared` gives, bool `(s, n)`."""
    _, similarities, slack = stretch
    return (similarities >= similarities.max(-1, keepdims=True) - slack) & np.isfinite(similarities)


def _compared(
    vectors: np.ndarray, rows: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A stretch of the `rows` at a time: (their numbers `(s,)`, their similarities to all vectors
    `(s, n)`, -inf to themselves and to what is no number, within what of each other those are tied
    `(s, 1)`).
    """
    vectors = np.asarray(vectors, np.result_type(vectors, np.float32))
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    lengths = np.nan_to_num(np.linalg.norm(vectors, axis=-1))
    stretch = max(1, COMPARED // max(1, len(vectors)))
    for start in range(0, len(rows), stretch):
        asking = rows[start : start + stretch]
        similarities = vectors[asking] @ vectors.T
        similarities[np.arange(len(asking)), asking] = -np.inf
        similarities[np.isnan(similarities)] = -np.inf
        yield asking, similarities, TIED * lengths[asking][:, None] * lengths.max()


def _missed(of: np.ndarray, others: np.ndarray, drawn: np.ndarray, most: int) -> np.ndarray:
    """The chance that `drawn` (at most `most`) of `of` tied ones, `others` of which are of another
    class, are all of another class.
    """
    chance = np.ones(len(of))
    for i in range(most):
        left = np.maximum(others - i, 0) / np.maximum(of - i, 1)
        chance = np.where((i < drawn) & (of > 0), chance * left, chance)
    return chance


def _smallest(distances: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` smallest of each row; the same as a stable sort gives, without
    sorting the rows.
    """
    if count == 1:
        return distances.argmin(-1)[:, None]
    some = np.sort(np.argpartition(distances, count - 1, -1)[:, :count], -1)
    values = np.take_along_axis(distances, some, -1)
    found = np.take_along_axis(some, np.argsort(values, -1, kind="stable"), -1)
    # Where others are as near as the last one, the partition took any of them.
    tied = np.flatnonzero((distances <= values.max(-1, keepdims=True)).sum(-1) > count)
    found[tied] = np.argsort(distances[tied], -1, kind="stable")[:, :count]
    return found
