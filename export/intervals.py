"""Intervals of 95 % for figures and for what is lost of them, and the calibration error. numpy
alone.
"""

import math

import numpy as np

from graft.zoo.heads import scores
from graft.zoo.heads.scores import Score

__all__ = ["RESAMPLES", "calibration_error", "interval", "middle", "paired_drop", "wilson"]

RESAMPLES = 2000
Z = 1.959964
"""Of a two-sided interval of 95 %."""


def interval(made: Score) -> tuple[float, float] | None:
    """The 95 % interval of a figure: of a share Wilson's (1927), else by bootstrap over examples.
    None: it has none.
    """
    if made.right is not None:
        counted = made.right[~np.isnan(made.right)]
        return wilson(float(counted.mean()), len(counted)) if len(counted) else None
    return middle(scores.mean_of_units(made.drawn(RESAMPLES)))


def middle(drawn: np.ndarray) -> tuple[float, float] | None:
    """Between which numbers 95 % of those lie that could be said."""
    drawn = drawn[~np.isnan(drawn)]
    return tuple(map(float, np.quantile(drawn, (0.025, 0.975)))) if len(drawn) else None


def wilson(share: float, examples: int) -> tuple[float, float]:
    """The 95 % interval of a share of `examples` (> 0), by Wilson's score (Wilson 1927); both in
    [0, 1].
    """
    middle = share + Z * Z / (2 * examples)
    half = Z * math.sqrt(share * (1 - share) / examples + Z * Z / (4 * examples**2))
    scale = 1 + Z * Z / examples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def paired_drop(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """(drop, low, high) in points of the share of right answers, both `(n,)` about the same
    examples: bool, or how right each is, 0 to 1.

    The 95 % interval of a difference of paired shares by Bonett & Price 2012,
    doi:10.3102/1076998611411915: only the examples count on which the two differ.
    """
    change = np.float64(after) - np.float64(before)
    n, lost, won = len(before), float(-change[change < 0].sum()), float(change[change > 0].sum())
    first, second = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = Z * math.sqrt(max(0.0, (first + second - (first - second) ** 2) / (n + 2)))
    drop = 100 * (lost - won) / n
    return (
        drop,
        max(-100.0, 100 * (first - second - half)),
        min(100.0, 100 * (first - second + half)),
    )


def calibration_error(probabilities: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599): how far confidence is
    from accuracy, 0 to 1.

    `probabilities` `(n, labels)`, `right` `(n,)`; the mean over `bins` of equal width, weighted by
    their examples.
    """
    confidence = np.float64(probabilities).max(-1)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[places == b].sum() - right[places == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(right))
