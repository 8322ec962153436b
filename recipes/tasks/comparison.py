"""Whether one way of training is better than another: the one test behind every verdict. numpy and
SciPy.

Two arms were trained with S seeds each and measured on the same n test examples. Another seed and
another test set would both give other figures, so the interval of the difference holds both:

    half² = t²(seeds) · (v₁ + v₂) / S  +  t²(n - 1) · w / n

v₁ and v₂ are the variances of the figure over the seeds of each arm, and never less than errors
that fall independently in each seed would cause. w is the variance, over the examples, of the
difference of the arms' means over seeds, less the part of it that is chance of the seeds and
already in v₁ and v₂. Each term keeps its own quantile, so that hundreds of examples do not make two
seeds look like many. Up to 400 test examples both arms share one variance over seeds, with 2(S - 1)
degrees of freedom; beyond, the chance of the examples no longer covers that one arm may vary more
than the other, and the degrees of freedom are those of Welch (1947, doi:10.1093/biomet/34.1-2.28),
between S - 1 and 2(S - 1).

benchmarks/results/verdicts.md compares it with a t interval over seeds, bootstraps and other shares
of the variance: of those that call at most 6 % of equal arms different, it finds the smallest
differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

__all__ = [
    "CONFIDENCE",
    "Comparison",
    "Spread",
    "compare",
    "half_width",
    "paired",
    "sentence",
    "spread_of",
]

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3
"""What a verdict of one seed advises. Two tell only large differences."""
SHARED_UP_TO = 400
"""Test examples up to which both arms share one variance over seeds."""
METHODS = {
    "both": "paired over test examples, and over seeds",
    "seeds": "Welch over seeds",
    "none": "none: one seed",
    "paired": "paired over test examples",
}
NEGLIGIBLE = 1e-9
"""A half width below which figures of all seeds are the same number."""

Decision = Literal["gained", "lost", "undecided", "one_seed"]
Arms = tuple[np.ndarray, np.ndarray]
Limits = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """What the figures of two arms allow to say.

    Attributes:
        gains: ours less theirs by seed, in points (hundredths).
        low: end of the 95 % interval of the mean gain, in points; None where nothing tells the
            spread.
        high: the other end.
        decision: "gained" or "lost" where the interval lies on one side of 0.
        examples: test examples that the interval counts; None where it is over seeds alone.
        method: how the interval was made, in words.
    """

    gains: tuple[float, ...]
    low: float | None
    high: float | None
    decision: Decision
    examples: int | None
    method: str

    @property
    def seeds(self) -> int:
        """How many seeds both arms have."""
        return len(self.gains)

    @property
    def mean(self) -> float:
        """The mean gain, in points."""
        return float(np.mean(self.gains))

    @classmethod
    def of(
        cls, gains: Sequence[float], limits: Limits | None, examples: int | None, method: str
    ) -> "Comparison":
        """Decided by the `limits` of the interval; None: nothing tells them."""
        low, high = limits or (None, None)
        decision: Decision = "undecided"
        if limits is not None:
            decision = "gained" if limits[0] > 0 else "lost" if limits[1] < 0 else "undecided"
        return cls(tuple(gains), low, high, decision, examples, METHODS[method])

    @property
    def interval(self) -> list[float] | None:
        """`[low, high]` as JSON holds it."""
        return None if self.low is None or self.high is None else [self.low, self.high]

    def as_dict(self) -> dict:
        """The facts as JSON."""
        return {
            "decision": self.decision,
            "gain_points": list(self.gains),
            "mean_points": self.mean,
            "interval": self.interval,
            "seeds": self.seeds,
            "examples": self.examples,
            "method": self.method,
        }


@dataclass(frozen=True)
class Spread:
    """Variances of two arms; each array has the leading axes `...` of the scores they are of.

    Attributes:
        seeds: of the figure over the seeds of each arm, `(..., 2)`.
        residual: of a score, less what its example and its seed explain, of each arm, `(..., 2)`.
        examples: over the examples, of the difference of the arms' means over seeds, `(...)`.
    """

    seeds: np.ndarray
    residual: np.ndarray
    examples: np.ndarray


def compare(
    ours: Sequence[float], theirs: Sequence[float], units: Arms | None = None
) -> Comparison:
    """Compare two arms that were trained with the same number of seeds.

    Args:
        ours: the figure of each seed, at most 1 (R² may be negative).
        theirs: those of the other arm.
        units: what each test example contributes, `(S, n)` of either arm, the same examples in the
            same order: right (1) or wrong (0) for an accuracy, else the pseudo-values of
            `zoo.heads.scores.unit_scores`. None, or not a number, where they are not known: the
            interval then tells what other seeds would give, and nothing of other examples.

    Returns:
        The comparison. One seed never decides.

    Raises:
        ValueError: the numbers of seeds or examples do not match.
    """
    mine, other = np.asarray(ours, float), np.asarray(theirs, float)
    if mine.shape != other.shape or mine.ndim != 1 or not len(mine):
        shapes = f"{mine.shape} and {other.shape}"
        raise ValueError(f"two arms need the same seeds, one at least: {shapes}")
    gains = 100 * (mine - other)
    known = None if units is None else _checked(units, len(mine))
    examples = None if known is None else known[0].shape[1]
    points = gains.tolist()
    if len(gains) == 1:
        return Comparison((points[0],), None, None, "one_seed", examples, METHODS["none"])
    seeds = np.array([mine.var(ddof=1), other.var(ddof=1)])
    if known is None:
        half, method = 100 * float(_over_seeds(seeds, len(gains))), "seeds"
        if half < NEGLIGIBLE:  # the same figure in every seed: nothing tells how far chance goes
            return Comparison.of(points, None, examples, method)
    else:
        spread = replace(spread_of(*known), seeds=seeds)
        half, method = 100 * float(half_width(spread, len(gains), known[0].shape[1])), "both"
    limits = _limits(float(gains.mean()), half, (*mine, *other))
    return Comparison.of(points, limits, examples, method)


def paired(
    ours: np.ndarray, theirs: np.ndarray, figures: tuple[float, float] | None = None
) -> Comparison:
    """Compare two finished models, no matter how they were trained: other seeds have no part in it.

    Args:
        ours: what each test example contributes to the figure of one model, `(n,)`, as `compare`
            takes it.
        theirs: the same of the other model.
        figures: those of either model, where they are not the means of their contributions
            (pseudo-values have another one).

    Returns:
        The comparison, "undecided" without an interval where the contributions are not known or of
        one example.
    """
    mine, other = (float(np.mean(ours)), float(np.mean(theirs))) if figures is None else figures
    gain = 100 * (mine - other)
    if _checked((ours[None], theirs[None]), 1) is None:
        return Comparison.of([gain], None, len(ours), "paired")
    from scipy import special

    n = len(ours)
    error = np.sqrt(_smoothed_variance(ours - theirs) / n)
    half = special.stdtrit(n - 1, (1 + CONFIDENCE) / 2) * error
    limits = _limits(gain, 100 * float(half), (mine, other))
    return Comparison.of([gain], limits, n, "paired")


def sentence(made: Comparison, subject: str, rival: str) -> str:
    """The comparison in words: "transfer gained +8.2 points (95 % interval +5.0 to +11.4, 3 seeds,
    ...)".
    """
    mean = f"{made.mean:+z.1f} points"
    pair = f"{subject} and {rival}"
    if made.decision == "one_seed":
        advice = f"--seeds {ENOUGH_SEEDS} or more can tell"
        return f"{pair}: {mean} with one seed: cannot be told from one seed; {advice}"
    within = f" ({_circumstances(made)})"
    if made.decision == "gained":
        return f"{subject} gained {mean}{within}"
    if made.decision == "lost":
        return f"{subject} lost {mean.removeprefix('-')}{within}"
    return f"{pair} cannot be told apart: {mean}{within}"


def spread_of(ours: np.ndarray, theirs: np.ndarray) -> Spread:
    """The variances behind an interval.

    Args:
        ours: scores `(..., S, n)` of S seeds, at least two, on n examples.
        theirs: those of the other arm.
    """
    figures, residuals = [], []
    for scores in (ours, theirs):
        count, n = scores.shape[-2:]
        by_seed, by_example = scores.mean(-1), scores.mean(-2)
        total = (scores**2).sum((-1, -2)) - count * n * by_seed.mean(-1) ** 2
        # Less what seeds and examples explain: a two-way layout with one score in each cell.
        rest = total - n * (count - 1) * by_seed.var(-1, ddof=1) - count * n * by_example.var(-1)
        figures.append(by_seed.var(-1, ddof=1))
        residuals.append(np.maximum(rest, 0) / max(1, (count - 1) * (n - 1)))
    examples = _smoothed_variance(ours.mean(-2) - theirs.mean(-2))
    return Spread(np.stack(figures, -1), np.stack(residuals, -1), examples)


def _smoothed_variance(difference: np.ndarray) -> np.ndarray:
    """Of a difference `(..., n)` over the examples, `(...)`."""
    n = difference.shape[-1]
    # Two examples more, one won by either arm, as Bonett and Price (2012,
    # doi:10.3102/1076998611411915) add to small tables: without them a few examples that all say
    # the same would have no spread.
    return (n * difference.var(-1) + 2) / (n + 2)


def half_width(spread: Spread, seeds: int, examples: int) -> np.ndarray:
    """Half of the 95 % interval of the difference of two arms of so many seeds and examples."""
    from scipy import special

    independent = spread.residual / examples  # what errors of one seed alone do to its figure
    variances = np.maximum(spread.seeds, independent)
    over_seeds = _over_seeds(variances, seeds, shared=examples <= SHARED_UP_TO)
    own = np.maximum(spread.examples / examples - independent.sum(-1) / seeds, 0)
    quantile = special.stdtrit(max(1, examples - 1), (1 + CONFIDENCE) / 2)
    return np.sqrt(over_seeds**2 + quantile**2 * own)


def _over_seeds(variances: np.ndarray, seeds: int, shared: bool = False) -> np.ndarray:
    """Half of the interval of the difference of two means over `seeds`, by Welch, or as of one
    `shared` variance; `variances` are `(..., 2)`.
    """
    from scipy import special

    total, squares = variances.sum(-1), (variances**2).sum(-1)
    alike = np.full_like(total, 2.0)
    shares = np.divide(total**2, squares, out=alike, where=squares > 0)
    freedom = (seeds - 1) * (2.0 if shared else np.clip(shares, 1, 2))
    return special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * np.sqrt(total / seeds)


def _checked(units: Arms, seeds: int) -> Arms | None:
    """Both arms' scores as float64 `(S, n)`; None where one is not known or there are too few."""
    ours, theirs = (np.asarray(part, float) for part in units)
    if ours.shape != theirs.shape or ours.ndim != 2 or len(ours) != seeds:
        raise ValueError(
            f"scores of {seeds} seeds on the same examples are {ours.shape} and {theirs.shape}"
        )
    if ours.shape[1] < 2 or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return None
    return ours, theirs


def _limits(gain: float, half: float, figures: Sequence[float]) -> Limits:
    """The ends of an interval in points: at most 100, unless a figure (R²) is below 0."""
    most = 100.0 if min(figures) >= 0 else np.inf
    return max(gain - half, -most), min(gain + half, most)


def _circumstances(made: Comparison) -> str:
    seeds = f"{made.seeds} seeds"
    if made.low is None or made.high is None:
        return f"the same in all {seeds}, so that nothing tells how far chance goes"
    interval = f"95 % interval {made.low:+z.1f} to {made.high:+z.1f}"
    if made.examples is None:
        return f"{interval} over {seeds}; other test examples may differ"
    return f"{interval}, {seeds}, {made.examples:,} test examples"
