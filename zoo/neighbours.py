"""The nearest of many vectors, found a stretch at a time: memory grows with their number, not with its square."""

import numpy as np

__all__ = ["nearest_others"]

COMPARED = 2**21
"""Similarities that are held at a time."""


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


def _smallest(distances: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` smallest of each row; the same as a stable sort gives, without sorting the rows."""
    if count == 1:
        return distances.argmin(-1)[:, None]
    some = np.sort(np.argpartition(distances, count - 1, -1)[:, :count], -1)
    values = np.take_along_axis(distances, some, -1)
    found = np.take_along_axis(some, np.argsort(values, -1, kind="stable"), -1)
    # Where others are as near as the last one, the partition took any of them.
    tied = np.flatnonzero((distances <= values.max(-1, keepdims=True)).sum(-1) > count)
    found[tied] = np.argsort(distances[tied], -1, kind="stable")[:, :count]
    return found
