"""How often a comparison of two ways of training is wrong, and what it finds: a simulation.

    python benchmarks/verdicts.py --out benchmarks/results

Nothing is trained. Test results of two arms are drawn from a model whose numbers were measured on
clothing_small: each example has a difficulty that both arms share and one of its own for each arm,
each seed has a level, and what is left is chance of the seed and the example. An answer is right
where the sum is above 0. Every candidate for the interval judges the same draws.

Writes verdicts.csv, a row for each arms, examples, seeds, true difference and candidate;
verdicts.md says what follows from it.
"""

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from graft.recipes.tasks import comparison
from graft.zoo.files.staging import staged_file

SEEDS = (1, 2, 3, 5)
EXAMPLES = (100, 372, 2000, 10_000)
DIFFERENCES = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.10, 0.12, 0.14, 0.17, 0.20, 0.25)
"""True differences of the power curve, of 1."""
TEST_SET = 372
"""Examples of clothing_small's test split."""
RESAMPLES = 400
POWER = 0.8
LIMIT = 0.06
ELEMENTS = 3_000_000
"""Scores of an arm that are held at a time."""


@dataclass(frozen=True)
class Arm:
    """One way of training, as measured over its seeds on clothing_small's test split.

    Attributes:
        accuracy: the mean, 0 to 1.
        deviation: of the accuracy between seeds.
        disagreement: the share of examples that one of two seeds has right and the other wrong.
    """

    accuracy: float
    deviation: float
    disagreement: float

    @cached_property
    def likeness(self) -> float:
        """The share of an answer's latent variance that is the example's: two seeds correlate so
        much.
        """
        return correlation(self.accuracy, self.accuracy, self.disagreement)

    @cached_property
    def level(self) -> float:
        """The latent deviation of a seed's level: what independent errors do not explain of
        `deviation`.
        """
        from scipy import stats

        chance = self.disagreement / 2 / TEST_SET
        height = stats.norm.pdf(stats.norm.ppf(self.accuracy))
        return float(np.sqrt(max(0.0, self.deviation**2 - chance)) / height)


@dataclass(frozen=True)
class Pair:
    """Two arms and how often seeds of both disagree, beyond what their accuracies demand.

    Attributes:
        first, second: the arms.
        shared: the share of an answer's latent variance that both arms have in common.
    """

    first: Arm
    second: Arm
    shared: float


@dataclass(frozen=True)
class Draws:
    """Scores `(r, S, n)` of both arms, and what candidates compute of them."""

    ours: np.ndarray
    theirs: np.ndarray
    weights: tuple[np.ndarray, np.ndarray]

    @property
    def seeds(self) -> int:
        """S."""
        return self.ours.shape[1]

    @property
    def examples(self) -> int:
        """n."""
        return self.ours.shape[2]

    @cached_property
    def figures(self) -> tuple[np.ndarray, np.ndarray]:
        """The accuracies `(r, S)` of both arms."""
        return self.ours.mean(-1), self.theirs.mean(-1)

    @cached_property
    def gains(self) -> np.ndarray:
        """Differences by seed, `(r, S)`."""
        return self.figures[0] - self.figures[1]

    @cached_property
    def spread(self) -> comparison.Spread:
        """The variances of both arms."""
        return comparison.spread_of(self.ours, self.theirs)

    @cached_property
    def own(self) -> np.ndarray:
        """The variance of the mean gain that other examples cause, `(r,)`."""
        residual = self.spread.residual.sum(-1) / self.examples / self.seeds
        return np.maximum(self.spread.examples / self.examples - residual, 0)


FINE_TUNE = Arm(0.906, 0.0128, 0.0575)
FEATURES = Arm(0.835, 0.0082, 0.0645)
# Accuracy and range of three seeds are measured (clothing_small.md); the disagreement is assumed.
SCRATCH = Arm(0.772, 0.0240, 0.20)
# An extreme: one arm hardly varies, the other one more than anything measured.
STEADY, WILD = Arm(0.85, 0.002, 0.02), Arm(0.85, 0.03, 0.10)


def correlation(first: float, second: float, disagreement: float) -> float:
    """Of two latent answers that are right with probabilities `first` and `second` and disagree so
    often.
    """
    from scipy import optimize, stats

    cut = stats.norm.ppf([first, second])

    def excess(value: float) -> float:
        covariance = [[1, value], [value, 1]]
        both = stats.multivariate_normal.cdf(cut, mean=[0, 0], cov=covariance)
        return first + second - 2 * both - disagreement

    return float(optimize.brentq(excess, 0, 0.9999))


def measured_shared() -> float:
    """The latent correlation of fine_tune and feature_extraction, whose seeds disagree on 13.3
    %.
    """
    return correlation(FINE_TUNE.accuracy, FEATURES.accuracy, 0.133)


def draw(
    pair: Pair,
    accuracies: tuple[float, float],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Scores of both arms, float32 0 or 1, of `shape` `(r, S, n)`; arms have `accuracies` in
    expectation.
    """
    from scipy import stats

    count, seeds, n = shape

    def normal(*size: int) -> np.ndarray:
        return rng.standard_normal(size, dtype=np.float32)

    common = np.float32(np.sqrt(pair.shared)) * normal(count, 1, n)
    made = []
    for arm, accuracy in zip((pair.first, pair.second), accuracies, strict=True):
        scale = np.sqrt(1 + arm.level**2)
        own = np.sqrt(max(0.0, arm.likeness - pair.shared))
        chance = np.sqrt(1 - max(arm.likeness, pair.shared))
        latent = common + np.float32(own) * normal(count, 1, n)
        latent = latent + np.float32(chance) * normal(count, seeds, n)
        latent += np.float32(arm.level) * normal(count, seeds, 1)
        latent += np.float32(stats.norm.ppf(accuracy) * scale)
        made.append((latent > 0).astype(np.float32))
    return made


# --------------------------------------------------------------------------------------------------
# Candidates: draws -> whether each of them is called a difference, `(r,)`


def every_seed_agrees(draws: Draws) -> np.ndarray:
    """What Graft said before: gained or lost where all seeds have the same sign."""
    return (draws.gains > 0).all(-1) | (draws.gains < 0).all(-1)


def examples_alone(draws: Draws) -> np.ndarray:
    """A paired t interval over the examples, of the means over seeds."""
    difference = (draws.ours.mean(1) - draws.theirs.mean(1)).astype(float)
    deviation = difference.std(-1, ddof=1) / np.sqrt(draws.examples)
    return np.abs(difference.mean(-1)) > quantile(draws.examples - 1) * deviation


def paired_t(draws: Draws) -> np.ndarray:
    """A paired t interval over the seeds."""
    deviation = draws.gains.std(-1, ddof=1) / np.sqrt(draws.seeds)
    return outside(draws, quantile(draws.seeds - 1) * deviation)


def pooled_t(draws: Draws) -> np.ndarray:
    """A t interval over the seeds with one variance of both arms."""
    variance = draws.spread.seeds.sum(-1) / draws.seeds
    return outside(draws, quantile(2 * (draws.seeds - 1)) * np.sqrt(variance))


def bootstrap(draws: Draws) -> np.ndarray:
    """The percentiles of differences whose seeds (of each arm) and examples are drawn again."""
    by_seed, by_example = draws.weights
    made = [
        np.einsum("rsb,bs->rb", scores @ by_example.T, arm)
        for scores, arm in zip((draws.ours, draws.theirs), by_seed, strict=True)
    ]
    low, high = np.quantile(made[0] - made[1], [0.025, 0.975], axis=-1)
    return (low > 0) | (high < 0)


def satterthwaite(draws: Draws) -> np.ndarray:
    """Crossed: one seed variance of both arms, one quantile by Satterthwaite's degrees of
    freedom.
    """
    seeds, examples = (
        draws.spread.seeds.sum(-1) / draws.seeds,
        draws.spread.examples / draws.examples,
    )
    total = np.maximum(seeds + draws.own, 1e-12)
    parts = seeds**2 / (2 * (draws.seeds - 1)) + examples**2 / (draws.examples - 1)
    return outside(draws, quantile(total**2 / parts) * np.sqrt(total))


def fewest_degrees(draws: Draws) -> np.ndarray:
    """Crossed: one seed variance of both arms, one quantile with its 2(S - 1) degrees of
    freedom.
    """
    total = draws.spread.seeds.sum(-1) / draws.seeds + draws.own
    return outside(draws, quantile(2 * (draws.seeds - 1)) * np.sqrt(total))


def shared(draws: Draws) -> np.ndarray:
    """Crossed: one seed variance of both arms with 2(S - 1), a quantile of its own for each
    term.
    """
    seeds = quantile(2 * (draws.seeds - 1)) ** 2 * draws.spread.seeds.sum(-1) / draws.seeds
    return outside(draws, np.sqrt(seeds + quantile(draws.examples - 1) ** 2 * draws.own))


def welch(draws: Draws, least: float = 0.0) -> np.ndarray:
    """Crossed: a seed variance for each arm, Welch's degrees of freedom, a quantile for each
    term.
    """
    variances = np.maximum(draws.spread.seeds, least * draws.spread.residual / draws.examples)
    total = variances.sum(-1)
    shares = total**2 / np.maximum((variances**2).sum(-1), 1e-30)
    freedom = (draws.seeds - 1) * np.clip(shares, 1, 2)
    seeds = quantile(freedom) ** 2 * total / draws.seeds
    return outside(draws, np.sqrt(seeds + quantile(draws.examples - 1) ** 2 * draws.own))


def welch_least(draws: Draws) -> np.ndarray:
    """Welch's, and no seed variance below that of independent errors."""
    return welch(draws, 1.0)


def chosen(draws: Draws) -> np.ndarray:
    """One variance up to some hundred examples, Welch beyond; none below that of independent
    errors.
    """
    return outside(draws, comparison.half_width(draws.spread, draws.seeds, draws.examples))


CANDIDATES: dict[str, Callable[[Draws], np.ndarray]] = {
    "every seed agrees (before)": every_seed_agrees,
    "t over examples alone": examples_alone,
    "paired t over seeds": paired_t,
    "t over seeds, one variance": pooled_t,
    "bootstrap, seeds x examples": bootstrap,
    "crossed, one variance, Satterthwaite": satterthwaite,
    "crossed, one variance, 2(S-1) for all": fewest_degrees,
    "crossed, one variance, two quantiles": shared,
    "crossed, Welch, two quantiles": welch,
    "crossed, Welch, least variance": welch_least,
    "crossed, one variance to 400 examples, then Welch; least variance (chosen)": chosen,
}
CHOSEN = "crossed, one variance to 400 examples, then Welch; least variance (chosen)"
QUICK = tuple(name for name in CANDIDATES if not name.startswith("bootstrap"))
"""Those that large test sets are tried with."""
OF_ONE_SEED = ("every seed agrees (before)", "t over examples alone")
"""Those that say anything of one seed."""


def quantile(freedom: float | np.ndarray) -> np.ndarray:
    """Of Student's t, for a 95 % interval."""
    from scipy import special

    return special.stdtrit(freedom, (1 + comparison.CONFIDENCE) / 2)


def outside(draws: Draws, half: np.ndarray) -> np.ndarray:
    """Whether the mean gain is further from 0 than `half`."""
    return np.abs(draws.gains.mean(-1)) > half


# --------------------------------------------------------------------------------------------------
# Cells


def decided(
    pair: Pair,
    accuracies: tuple[float, float],
    seeds: int,
    examples: int,
    repetitions: int,
    names: tuple[str, ...] | None = None,
) -> dict[str, float]:
    """The share of draws that each candidate calls a difference."""
    number = [int(1e4 * value) for value in accuracies]
    rng = np.random.default_rng([seeds, examples, *number])
    names = OF_ONE_SEED if seeds == 1 else names or tuple(CANDIDATES)
    counts = dict.fromkeys(names, 0)
    step = max(1, ELEMENTS // (seeds * examples))
    by_example = rng.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES)
    for start in range(0, repetitions, step):
        shape = (min(step, repetitions - start), seeds, examples)
        by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), (2, RESAMPLES))
        weights = np.float32(by_seed / seeds), np.float32(by_example / examples)
        draws = Draws(*draw(pair, accuracies, shape, rng), weights)
        for name in names:
            counts[name] += int(CANDIDATES[name](draws).sum())
    return {name: count / repetitions for name, count in counts.items()}


def pairs() -> dict[str, Pair]:
    """What is compared with what; that of the power curve first."""
    apart = measured_shared()
    return {
        "fine_tune, scratch": Pair(FINE_TUNE, SCRATCH, min(apart, SCRATCH.likeness)),
        "fine_tune, fine_tune": Pair(FINE_TUNE, FINE_TUNE, apart),
        "fine_tune, feature_extraction": Pair(FINE_TUNE, FEATURES, apart),
        "steady, wild": Pair(STEADY, WILD, apart),
    }


def rows(repetitions: int) -> Iterator[dict]:
    """All cells: no difference in each pair, then the power curves with clothing_small's test
    split.
    """
    for name, pair in pairs().items():
        level = min(pair.first.accuracy, 0.85) if name == "steady, wild" else pair.first.accuracy
        for examples in EXAMPLES:
            for seeds in SEEDS:
                names = tuple(CANDIDATES) if examples <= 2000 else QUICK
                found = decided(pair, (level, level), seeds, examples, repetitions, names)
                yield from _rows(name, examples, seeds, 0.0, repetitions, found)
    for name in ("fine_tune, scratch", "fine_tune, fine_tune"):
        pair = pairs()[name]
        for seeds in SEEDS[1:]:
            for difference in DIFFERENCES:
                levels = pair.first.accuracy, pair.first.accuracy - difference
                found = decided(pair, levels, seeds, TEST_SET, repetitions)
                yield from _rows(name, TEST_SET, seeds, difference, repetitions, found)
    for name, pair in pairs().items():
        levels = pair.first.accuracy, pair.first.accuracy - 0.2
        found = decided(pair, levels, 3, TEST_SET, 5 * repetitions, (CHOSEN,))
        yield from _rows(f"{name}: 20 points", TEST_SET, 3, 0.2, 5 * repetitions, found)


def _rows(
    pair: str,
    examples: int,
    seeds: int,
    difference: float,
    repetitions: int,
    found: dict[str, float],
) -> Iterator[dict]:
    for candidate, share in found.items():
        yield {
            "arms": pair,
            "examples": examples,
            "seeds": seeds,
            "true_difference_points": round(100 * difference, 1),
            "candidate": candidate,
            "called_different_percent": round(100 * share, 2),
            "repetitions": repetitions,
        }


# --------------------------------------------------------------------------------------------------
# Tables


def false_verdicts(made: list[dict], arms: str, examples: int) -> list[str]:
    """A Markdown table: candidates down, seeds across."""
    lines = ["| interval | 1 seed | 2 | 3 | 5 |", "|---|---|---|---|---|"]
    for candidate in CANDIDATES:
        cells = []
        for seeds in SEEDS:
            found = [
                row["called_different_percent"]
                for row in made
                if (row["arms"], row["examples"], row["seeds"]) == (arms, examples, seeds)
                and (row["candidate"], row["true_difference_points"]) == (candidate, 0)
            ]
            cells.append(f"{found[0]:.1f}" if found else "0 (never decides)")
        lines.append(f"| {candidate} | {' | '.join(cells)} |")
    return lines


def worst(made: list[dict]) -> list[str]:
    """A Markdown table: the most false verdicts of each candidate over all arms and test sets."""
    lines = ["| interval | 2 seeds | 3 | 5 |", "|---|---|---|---|"]
    for candidate in CANDIDATES:
        cells = []
        for seeds in SEEDS[1:]:
            found = [
                (row["called_different_percent"], row["arms"], row["examples"])
                for row in made
                if (row["seeds"], row["candidate"]) == (seeds, candidate)
                and row["true_difference_points"] == 0
            ]
            cells.append(f"{max(found)[0]:.1f} ({max(found)[1]}; {max(found)[2]:,})")
        lines.append(f"| {candidate} | {' | '.join(cells)} |")
    return lines


def smallest(made: list[dict], arms: str) -> list[str]:
    """A Markdown table: the smallest true difference that each candidate finds in 80 % of cases."""
    lines = ["| interval | 2 seeds | 3 | 5 |", "|---|---|---|---|"]
    for candidate in CANDIDATES:
        cells = [found_in_most(made, arms, candidate, seeds) for seeds in SEEDS[1:]]
        lines.append(f"| {candidate} | {' | '.join(cells)} |")
    return lines


def found_in_most(made: list[dict], arms: str, candidate: str, seeds: int) -> str:
    """The true difference, in points, at which a power curve crosses 80 %, between its two
    neighbours.
    """
    curve = sorted(
        (row["true_difference_points"], row["called_different_percent"])
        for row in made
        if (row["arms"], row["examples"], row["seeds"]) == (arms, TEST_SET, seeds)
        and row["candidate"] == candidate
    )
    for (before, low), (after, high) in itertools.pairwise(curve):
        if low < 100 * POWER <= high:
            return f"{before + (after - before) * (100 * POWER - low) / (high - low):.1f}"
    return f"above {curve[-1][0]:.0f}"


def curve(made: list[dict], arms: str) -> list[str]:
    """A Markdown table: how often the chosen interval finds each true difference, in percent."""
    points = sorted({100 * difference for difference in DIFFERENCES})
    lines = ["| seeds | " + " | ".join(f"{point:.0f}" for point in points) + " |"]
    lines.append("|---" * (len(points) + 1) + "|")
    for seeds in SEEDS[1:]:
        found = {
            row["true_difference_points"]: row["called_different_percent"]
            for row in made
            if (row["arms"], row["seeds"], row["candidate"]) == (arms, seeds, CHOSEN)
        }
        lines.append(
            f"| {seeds} | " + " | ".join(f"{found[round(p, 1)]:.0f}" for p in points) + " |"
        )
    return lines


def tables(made: list[dict]) -> str:
    """All tables that verdicts.md holds, as Markdown."""
    parts = []
    for arms in pairs():
        parts += [
            f"False verdicts, %, {arms}, {TEST_SET} examples:",
            *false_verdicts(made, arms, TEST_SET),
            "",
        ]
    parts += [
        "Most false verdicts, %, over all arms and 100 to 10,000 examples (bootstrap: to 2,000):",
        *worst(made),
        "",
    ]
    for arms in ("fine_tune, scratch", "fine_tune, fine_tune"):
        parts += [f"Smallest difference found in 80 %, points, {arms}:", *smallest(made, arms), ""]
        parts += [f"Found by the chosen interval, %, {arms}:", *curve(made, arms), ""]
    for row in made:
        if row["arms"].endswith("20 points"):
            parts.append(
                f"{row['arms']}: {row['called_different_percent']} % of {row['repetitions']:,}"
            )
    return "\n".join(parts)


def main() -> None:
    """Run all cells, write verdicts.csv, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of verdicts.csv")
    parser.add_argument("--repetitions", type=int, default=4000, help="draws a cell")
    options = parser.parse_args()
    start = time.perf_counter()
    made = list(rows(options.repetitions))
    with staged_file(options.out / "verdicts.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)
    print(tables(made))
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
