"""What the rows of a grid say: means with intervals, the front, what to take, whether transfer won.
numpy and SciPy.

Choice is made on validation figures alone; test figures are reported beside it. All figures are 0
to 1, differences are in points (hundredths).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graft.recipes.grid.plan import BASELINE
from graft.recipes.grid.rows import DIVERGED, has_figures, units_of
from graft.recipes.tasks.comparison import Comparison, compare, sentence

__all__ = [
    "Gain",
    "Group",
    "Interval",
    "correlation",
    "front",
    "gains",
    "groups",
    "interval",
    "sentences",
    "with_all_labels",
]

CONFIDENCE = 0.95
NEAR = 3.0
"""Points below the best that a much cheaper model may be and still be recommended."""
MUCH = 2.0
"""How many times cheaper it has to be."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, with its 95 % interval by Student's t (None of one seed), and the least
    and largest value.
    """

    mean: float
    half: float | None
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Group:
    """The seeds of one backbone, schedule and share of the labels. `seconds` of training count
    cached features at what they cost whichever training computed them.
    """

    backbone: str
    schedule: str
    fraction: float
    validation: Interval
    test: Interval
    seconds: float
    rows: tuple[Mapping, ...]

    @property
    def time(self) -> float:
        """`seconds` to two digits: trainings that had the same budget took as long as each
        other.
        """
        return float(f"{self.seconds:.2g}")

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"{self.backbone} + {self.schedule}"

    @property
    def diverged(self) -> int:
        """How many of its trainings diverged; what they reached before counts like that of the
        others.
        """
        return sum(row["status"] == DIVERGED for row in self.rows)

    def figure(self, column: str) -> float | None:
        """The mean of a column over the seeds that have it."""
        values = [row[column] for row in self.rows if row.get(column) is not None]
        return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Gain:
    """What transfer gained over training from scratch with one backbone at one share of the labels:
    `made` compares the test figures over seeds and, where the rows hold them, test examples.
    `epochs` are those of scratch, `diverged` says how many trainings of both did.
    """

    backbone: str
    schedule: str
    fraction: float
    made: Comparison
    epochs: float | None
    diverged: int = 0

    @property
    def difference(self) -> str:
        """ "+19.7 (+17.0 to +22.4)": the mean in points, with its interval where there is one."""
        ends = self.made.interval
        return f"{self.made.mean:+.1f}" + (f" ({ends[0]:+.1f} to {ends[1]:+.1f})" if ends else "")

    @property
    def text(self) -> str:
        """The verdict in words."""
        share = "" if self.fraction == 1 else f" at {self.fraction:.0%} of the labels"
        rival = "scratch" if self.epochs is None else f"scratch ({self.epochs:.0f} epochs)"
        told = sentence(self.made, f"transfer ({self.schedule})", rival)
        if self.made.decision == "lost":
            told = f"NEGATIVE transfer: {told}: train from scratch"
        if self.diverged:
            told += f"; {self.diverged} of the {2 * self.made.seeds} trainings diverged"
        return f"{self.backbone}{share}: {told}"


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Of one or more values."""
    from scipy import stats

    given, count = np.asarray(values, float), len(values)
    half = None
    if count > 1:
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
        half = float(quantile * given.std(ddof=1) / np.sqrt(count))
    low, high = float(given.min()), float(given.max())
    # The mean of equal numbers can differ from them in the last digit.
    return Interval(float(np.clip(given.mean(), low, high)), half, low, high, count)


def groups(rows: Sequence[Mapping]) -> list[Group]:
    """The rows with figures by backbone, schedule and share, the best validation figure first."""
    found: dict[tuple, list[Mapping]] = {}
    for row in rows:
        if has_figures(row):
            found.setdefault((row["backbone"], row["schedule"], float(row["fraction"])), []).append(
                row
            )
    made = [
        Group(
            *key,
            interval([row["validation"] for row in part]),
            interval([row["test"] for row in part]),
            float(np.mean([row["train_seconds"] + row["cached_seconds"] for row in part])),
            tuple(sorted(part, key=lambda row: row["seed"])),
        )
        for key, part in found.items()
    ]
    return sorted(made, key=lambda group: (-group.fraction, -group.validation.mean))


def front(found: Sequence[Group], cost: Callable[[Group], float | None]) -> list[Group]:
    """Those that no other one beats in validation figure without a higher `cost`; cheapest
    first.
    """
    priced = sorted(
        ((cost(g), -g.validation.mean, i) for i, g in enumerate(found) if cost(g) is not None),
    )
    kept, best = [], -np.inf
    for _, minus, i in priced:
        if -minus > best:
            kept.append(found[i])
            best = -minus
    return kept


def gains(found: Sequence[Group]) -> list[Gain]:
    """Transfer against scratch, for each backbone and share: the schedule with the best validation
    figure, over the seeds that both have.
    """
    made = []
    for baseline in (g for g in found if g.schedule == BASELINE):
        rivals = [
            g
            for g in found
            if (g.backbone, g.fraction) == (baseline.backbone, baseline.fraction)
            and g.schedule != BASELINE
        ]
        if not rivals:
            continue
        best = max(rivals, key=lambda group: group.validation.mean)
        ours, theirs = ({row["seed"]: row for row in group.rows} for group in (best, baseline))
        seeds = sorted(ours.keys() & theirs.keys())
        if not seeds:
            continue
        arms = [[rows[seed] for seed in seeds] for rows in (ours, theirs)]
        mine, other = ([row["test"] for row in arm] for arm in arms)
        result = compare(mine, other, _units(arms))
        diverged = sum(row["status"] == DIVERGED for arm in arms for row in arm)
        made.append(
            Gain(
                baseline.backbone,
                best.schedule,
                baseline.fraction,
                result,
                baseline.figure("epochs"),
                diverged,
            )
        )
    return made


def _units(arms: Sequence[Sequence[Mapping]]) -> tuple[np.ndarray, np.ndarray] | None:
    """What the test examples contribute to the figures of two arms, `(seeds, n)` each; None where a
    row does not hold it.
    """
    parts = [[units_of(row) for row in arm] for arm in arms]
    lengths = {None if part is None else len(part) for arm in parts for part in arm}
    return None if len(lengths) != 1 or None in lengths else tuple(np.stack(arm) for arm in parts)


def with_all_labels(found: Sequence[Group]) -> list[Group]:
    """The groups with all labels."""
    return [group for group in found if group.fraction == 1]


def correlation(scores: Mapping[str, float], reached: Mapping[str, float]) -> dict | None:
    """How a score and what was reached agree over the backbones that have both: `{"kendall",
    "pearson", "count"}`; None of fewer than three backbones, or where one of them is the same
    everywhere.
    """
    from scipy import stats

    names = sorted(name for name in scores.keys() & reached.keys() if scores[name] is not None)
    ours, theirs = [scores[name] for name in names], [reached[name] for name in names]
    if len(names) < 3 or not np.ptp(ours) or not np.ptp(theirs):
        return None
    return {
        "kendall": float(stats.kendalltau(ours, theirs).statistic),
        "pearson": float(stats.pearsonr(ours, theirs).statistic),
        "count": len(names),
    }


def sentences(found: Sequence[Group], latency: str | None, size: str | None) -> list[str]:
    """What a person can act on: the best, and what is nearly as good and much cheaper. `latency`
    and `size` are the columns of the file that ships.
    """
    full = with_all_labels(found)
    if not full:
        return []
    best = full[0]
    said = [f"{_described(best, latency, size)}; the best of {len(full)} on validation data"]
    costs: dict[str, Callable[[Group], float | None]] = {"time": lambda g: g.seconds}
    if latency:
        costs["latency"] = lambda g: g.figure(latency)
    if size:
        costs["size"] = lambda g: g.figure(size)
    near = [g for g in full[1:] if 100 * (best.validation.mean - g.validation.mean) <= NEAR]
    saved: dict[str, list[str]] = {}
    for word, cost in costs.items():
        of_best = cost(best)
        cheaper = [g for g in near if of_best and cost(g) and of_best / cost(g) >= MUCH]
        if not cheaper:
            continue
        chosen = min(cheaper, key=cost)
        below = 100 * (best.test.mean - chosen.test.mean)
        told = (
            f"{_described(chosen, latency, size)}; {abs(below):.1f} points "
            f"{'below' if below >= 0 else 'above'} the best"
        )
        saved.setdefault(told, []).append(f"1/{of_best / cost(chosen):.1f} of its {word}")
    return [*said, *(f"{told} at {' and '.join(savings)}" for told, savings in saved.items())]


def _described(group: Group, latency: str | None, size: str | None) -> str:
    test = group.test
    spread = (
        f"{100 * test.low:.1f} to {100 * test.high:.1f}, {test.count} seeds"
        if test.count > 1
        else "one seed"
    )
    if group.diverged:
        spread += f", {group.diverged} diverged" if test.count > 1 else ", diverged"
    parts = [f"{group.name}: {100 * test.mean:.1f} % ({spread}) in {_duration(group.seconds)}"]
    if latency and group.figure(latency) is not None:
        parts.append(f"{group.figure(latency):.1f} ms")
    if size and group.figure(size) is not None:
        precision = size.removesuffix("_bytes").split("_", 1)[1].replace("_", "-")
        parts.append(f"{group.figure(size) / 1e6:.1f} MB {precision}")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
