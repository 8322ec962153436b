"""How often choosing a method without labels of the target picks the best one.

    python benchmarks/choosing.py [--results benchmarks/results/adaptation.csv]

Reads the measured pairs and trains nothing. A criterion picks the method with the highest mean over
the seeds, as `recipes/adapt/selection.py` does, the baseline included; the best method is the one
with the highest mean accuracy on the target. Nothing here chose a setting: the criteria are what
they were when the pairs were measured.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from graft.recipes.adapt.selection import CRITERIA

BASELINE = "source_only"
OPTIMISE_INFORMATION = ("pseudo_label", "fixmatch", "tent")
"""Methods whose loss makes the model surer of unlabelled examples, which is what information
counts.
"""
GROUPS = {
    "digits and print": lambda encoder: not encoder,
    "reviews, frozen encoder": lambda encoder: bool(encoder) and not encoder.endswith(" tuned"),
    "reviews, tuned encoder": lambda encoder: encoder.endswith(" tuned"),
    "all": lambda encoder: True,
}


@dataclass(frozen=True)
class Options:
    """Count how often each criterion picked the best method."""

    results: Path = Path(__file__).parent / "results" / "adaptation.csv"
    """The table that `benchmarks/adaptation.py` writes."""


@dataclass(frozen=True)
class Pair:
    """A measured pair of domains.

    Attributes:
        encoder: of texts; "" for images.
        accuracy: method -> mean target accuracy over the seeds, 0 to 1.
        criteria: criterion -> method -> its mean over the seeds.
    """

    name: str
    encoder: str
    accuracy: Mapping[str, float]
    criteria: Mapping[str, Mapping[str, float]]

    @property
    def best(self) -> str:
        """The method with the highest accuracy."""
        return max(self.accuracy, key=self.accuracy.__getitem__)

    def picked(self, criterion: str) -> str:
        """The method that `criterion` picks."""
        values = self.criteria[criterion]
        return max(values, key=values.__getitem__)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of domains in the table that compare methods, in its order.

    Args:
        path: `adaptation.csv`.

    Returns:
        Those with the baseline, other methods and every criterion; rows without a criterion, such
        as the model trained on the target's labels, are left out.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] for name in CRITERIA)]
    pairs = []
    for name, encoder in dict.fromkeys((row["pair"], row["encoder"]) for row in rows):
        own = [row for row in rows if (row["pair"], row["encoder"]) == (name, encoder)]
        methods = list(dict.fromkeys(row["method"] for row in own))
        if BASELINE not in methods or len(methods) < 2:
            continue

        def means(key: str, own=own, methods=methods) -> dict[str, float]:
            return {
                m: float(np.mean([float(r[key]) for r in own if r["method"] == m])) for m in methods
            }

        criteria = {criterion: means(criterion) for criterion in CRITERIA}
        pairs.append(Pair(name, encoder, means("accuracy"), criteria))
    return pairs


def choice_figures(pairs: Sequence[Pair], criterion: str | None) -> dict[str, float]:
    """What choosing by `criterion` gives over `pairs`; None: a method drawn at random, on average.

    Returns:
        "best": in how many pairs the best method was picked; "lost": mean points of target accuracy
        behind the best method; "gained": mean points over the baseline; "harmed": in how many pairs
        what was picked is less accurate than the baseline.
    """
    best, lost, gained, harmed = [], [], [], []
    for pair in pairs:
        picked = list(pair.accuracy) if criterion is None else [pair.picked(criterion)]
        reached = np.array([pair.accuracy[method] for method in picked])
        best.append(np.mean([method == pair.best for method in picked]))
        lost.append(100 * np.mean(pair.accuracy[pair.best] - reached))
        gained.append(100 * np.mean(reached - pair.accuracy[BASELINE]))
        harmed.append(np.mean(reached < pair.accuracy[BASELINE]))
    sums = {"best": np.sum(best), "harmed": np.sum(harmed)}
    return {**sums, "lost": np.mean(lost), "gained": np.mean(gained)}


def picks(pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    """Method -> in how many pairs it was compared, was the best, and was picked by each
    criterion.
    """
    methods = list(dict.fromkeys(method for pair in pairs for method in pair.accuracy))
    return {
        method: {
            "compared": sum(method in pair.accuracy for pair in pairs),
            "best": sum(pair.best == method for pair in pairs),
            **{name: sum(pair.picked(name) == method for pair in pairs) for name in CRITERIA},
        }
        for method in methods
    }


def main(options: Options) -> None:
    """Print both tables as Markdown."""
    pairs = read_pairs(options.results)
    print(
        "| pairs | chosen by | best method picked | points behind the best | over source_only | "
        "worse than it |"
    )
    print("|---|---|---|---|---|---|")
    for group, belongs in GROUPS.items():
        own = [pair for pair in pairs if belongs(pair.encoder)]
        for criterion in (*CRITERIA, None) if own else ():
            found = choice_figures(own, criterion)
            count = f"{found['best']:.0f}" if criterion else f"{found['best']:.1f}"
            harmed = f"{found['harmed']:.0f}" if criterion else f"{found['harmed']:.1f}"
            print(
                f"| {group} | {criterion or 'chance'} | {count} of {len(own)} | "
                f"{found['lost']:.1f} | "
                f"{found['gained']:+.1f} | {harmed} of {len(own)} |"
            )
    print(
        f"\n| method | compared | best | {' | '.join(f'picked by {name}' for name in CRITERIA)} |"
    )
    print("|" + "---|" * (3 + len(CRITERIA)))
    for method, counts in picks(pairs).items():
        mark = "*" if method in OPTIMISE_INFORMATION else ""
        print(f"| {method}{mark} | {' | '.join(map(str, counts.values()))} |")
    print("\n* its loss makes the model surer of unlabelled examples")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
