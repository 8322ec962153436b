"""Choosing among adapted models without a label of the target."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

__all__ = [
    "BENCHMARKED",
    "CRITERIA",
    "Criterion",
    "choose",
    "explain",
    "importance_weighted",
    "information",
]

Criterion = Literal["information", "iwv", "labelled"]

CRITERIA: Mapping[str, str] = {
    "information": (
        "the most information about the unlabelled examples: sure of each, and not of one label "
        "for all"
    ),
    "iwv": (
        "the best accuracy on labelled validation examples, those that look like the others "
        "counting more"
    ),
    "labelled": "the best accuracy on labelled validation examples",
}
BENCHMARKED: Mapping[Criterion, int] = {"information": 7, "iwv": 5, "labelled": 3}
"""In how many of the benchmark's pairs of domains a criterion picked the method that is best on the
target's labels; printed by `python benchmarks/choosing.py`.
"""
BENCHMARK_PAIRS, BY_CHANCE = 27, 4.5
"""How many pairs there are, and in how many of them a method drawn at random would be the best
one.
"""
SMALL = 1e-12
MOST_WEIGHT = 20.0
"""An example of the source counts at most so many times the mean."""


def information(outputs: np.ndarray) -> float:
    """The mutual information of example and label, in nats, as the model sees it (Bridle et al.
    1991).

    The entropy of the mean prediction less the mean entropy of the predictions `(n, labels)`: the
    mean entropy alone would praise a model that is sure of one label for everything.
    """
    outputs = np.asarray(outputs, np.float64)
    return float(_entropy(outputs.mean(0)) - _entropy(outputs).mean())


def importance_weighted(
    features: np.ndarray, right: np.ndarray, target_features: np.ndarray, seed: int = 0
) -> float:
    """Importance-weighted accuracy (Sugiyama et al. 2007) of source examples, of which `right`
    `(n,)` says 0 or 1.

    Each counts by how much likelier its features `(n, width)` are in the target than in the source,
    as a logistic regression tells the two apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both = np.concatenate([features, target_features])
    domain = np.repeat([0, 1], [len(features), len(target_features)])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, random_state=seed)
    ).fit(both, domain)
    chance = model.predict_proba(features)[:, 1]
    weights = chance / np.maximum(1 - chance, SMALL) * len(features) / len(target_features)
    weights = np.minimum(weights, MOST_WEIGHT * weights.mean())
    return float(np.sum(weights * right) / np.sum(weights))


def explain(criterion: Criterion, between_domains: bool) -> str:
    """What a model was chosen by, as a phrase.

    Args:
        criterion: what it was chosen by.
        between_domains: whether the validation labels are of another domain than the model is for.
            Only then the phrase says how often the criterion was right in the benchmark.
    """
    if not between_domains:
        return CRITERIA[criterion]
    return (
        f"{CRITERIA[criterion]} (in the benchmark this picked the best method in "
        f"{BENCHMARKED[criterion]} of "
        f"{BENCHMARK_PAIRS} pairs, chance would in {BY_CHANCE:g})"
    )


def choose(rows: Sequence[Mapping], criterion: Criterion) -> int:
    """The number of the row with the highest mean `criterion` of its method, and of those of that
    method its own highest. What is no number is never the highest: of two of which one is NaN,
    `max` takes the first.
    """

    def known(value: float) -> float:
        return float(value) if np.isfinite(value) else -np.inf

    methods = list(dict.fromkeys(row["method"] for row in rows))
    means = {
        m: np.mean([known(row[criterion]) for row in rows if row["method"] == m]) for m in methods
    }
    best = max(methods, key=means.__getitem__)
    return max(
        (i for i, row in enumerate(rows) if row["method"] == best),
        key=lambda i: known(rows[i][criterion]),
    )


def _entropy(p: np.ndarray) -> np.ndarray:
    return -np.sum(p * np.log(p + SMALL), -1)
