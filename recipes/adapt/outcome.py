"""What a comparison of methods says: a table, the choice, the verdict, and the map of features for
the report.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.adapt import selection
from graft.recipes.adapt.compare import Candidate, measure
from graft.recipes.codecs.examples import Examples
from graft.recipes.report.run_file import read_run
from graft.recipes.runs.problem import Experiment
from graft.recipes.tasks import verdicts
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.writing import save_arrays
from graft.zoo.graph.state import set_weights
from graft.zoo.terminal import tell

if TYPE_CHECKING:
    import keras

__all__ = [
    "contradiction",
    "decide",
    "describe",
    "embed",
    "summarize",
    "table",
    "write_map",
]

TARGET = "target"
"""What the measured examples are called where they are of another domain than the validation
data.
"""
MAPPED = 400
"""Examples of each domain on the map."""
UNWRITTEN = ("recall", "right")
"""Figures of a candidate that are no part of its row in run.json."""
BETWEEN_DOMAINS = {
    "accuracy": "target accuracy",
    "labelled": "source val. accuracy",
    "information": "target information",
    "iwv": "source val., weighted",
    "seconds": "seconds",
}
"""Columns of the table, where validation data are of another domain than the model is for."""
ONE_DOMAIN = {
    "accuracy": "test accuracy",
    "labelled": "validation accuracy",
    "information": "information, unlabelled",
    "iwv": "validation, weighted",
    "seconds": "seconds",
}
LEGEND = (
    "target accuracy: on the target's labelled examples, which choose nothing; target information: "
    "of its unlabelled "
    "examples, in nats; source val.: on the validation split of the source, weighted: what looks "
    "like the target counts more"
)


def decide(
    experiment: Experiment,
    candidates: Sequence[Candidate],
    examples: Mapping[str, Examples],
    criterion: selection.Criterion,
    where: str,
) -> tuple[Candidate, dict]:
    """Measure the `candidates` (the first is of the baseline), choose one, write the map.

    Args:
        experiment: that they were trained for.
        candidates: of all methods and seeds.
        examples: by split; "measured" are the labelled ones that the model is for.
        criterion: what the choice is made by.
        where: what the "measured" examples are called.

    Returns:
        The chosen one and what `describe` says.
    """
    task, model = experiment.problem.tasks.first, experiment.build("none", mixed=False)
    look = measure(candidates, model, task, examples, experiment.store)
    figures = [{"method": c.method, **c.figures} for c in candidates]
    chosen = candidates[selection.choose(figures, criterion)]
    baseline = candidates[0].method
    plain = next(c for c in candidates if (c.method, c.seed) == (baseline, chosen.seed))
    other = "measured" if "measured" in examples else "unlabelled"
    sides = {name: examples[name].targets[task.name] for name in ("validation", other)}
    write_map(experiment.folder, model, (plain, chosen), sides, look)
    return chosen, describe(candidates, chosen, criterion, task.labels, where)


def describe(
    candidates: Sequence[Candidate],
    chosen: Candidate,
    criterion: selection.Criterion,
    labels: Sequence[str],
    where: str,
) -> dict:
    """The facts of a run: a row for each candidate, how the model was chosen, the verdict of every
    method.
    """
    baseline = candidates[0].method
    rows = [
        {"method": c.method, "seed": c.seed, "seconds": c.seconds, **c.figures} for c in candidates
    ]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    facts = {
        "baseline": baseline,
        "measured_on": where,
        "rows": [
            {key: value for key, value in row.items() if key not in UNWRITTEN} for row in rows
        ],
        "chosen": {"method": chosen.method, "seed": chosen.seed, "criterion": criterion},
        "chosen_by": selection.explain(criterion, between_domains=where == TARGET),
        "verdicts": {},
        "per_class": [],
        "oracle": None,
    }
    if rows[0]["accuracy"] is None:
        return facts

    def of(method: str, key: str) -> list:
        return [row[key] for row in rows if row["method"] == method]

    facts["verdicts"] = {
        method: verdicts.adapting(
            method,
            baseline,
            of(method, "accuracy"),
            of(baseline, "accuracy"),
            (
                np.stack(of(method, "right")).astype(float),
                np.stack(of(baseline, "right")).astype(float),
            ),
        )
        for method in methods
        if method != baseline
    }
    best = max(rows, key=lambda row: row["accuracy"])
    facts["oracle"] = {"method": best["method"], "seed": best["seed"], "accuracy": best["accuracy"]}
    with_none, with_it = (
        np.array(of(m, "recall"), float).mean(0) for m in (baseline, chosen.method)
    )
    facts["per_class"] = [
        {
            "label": label,
            "before": None if np.isnan(a) else float(a),
            "after": None if np.isnan(b) else float(b),
        }
        for label, a, b in zip(labels, with_none, with_it, strict=True)
    ]
    return facts


def table(facts: Mapping) -> str:
    """The rows by method, as text: means, and ranges where there are several seeds; the split of
    each figure is named.
    """
    names = BETWEEN_DOMAINS if facts["measured_on"] == TARGET else ONE_DOMAIN
    keys = [key for key in names if facts["rows"][0][key] is not None]
    lines = [f"{'method':<14}" + "".join(f"{names[key]:>24}" for key in keys)]
    for method in dict.fromkeys(row["method"] for row in facts["rows"]):
        line = f"{method:<14}"
        for key in keys:
            values = [row[key] for row in facts["rows"] if row["method"] == method]
            digits = 0 if key == "seconds" else 3
            text = f"{np.mean(values):.{digits}f}"
            if len(values) > 1:
                text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
            line += f"{text:>24}"
        lines.append(line)
    return "\n".join([*lines, LEGEND] if facts["measured_on"] == TARGET else lines)


def contradiction(facts: Mapping) -> str | None:
    """One sentence where the measured labels say that the kept method lost, else None.

    The method stays kept: a choice by labels that measure would make their figures too good.
    """
    chosen, baseline = facts["chosen"]["method"], facts["baseline"]
    if facts["verdicts"].get(chosen, {}).get("decision") != "lost":
        return None
    if facts["measured_on"] == TARGET:
        chooser, judge = "the choice without labels of the target", "the target's labels"
    else:
        chooser, judge = "validation data", "test data"
    return (
        f"{chooser} kept {chosen}, {judge} say that it lost against {baseline}; {judge} choose "
        "nothing"
    )


def summarize(folder: Path) -> None:
    """Print the outcome of a run to stdout: the methods, the choice, what it gained, where things
    are.
    """
    content = read_run(folder)
    with one_line_if_damaged(Path(folder) / "run.json"):
        _tell_outcome(Path(folder), content)


def _tell_outcome(folder: Path, content: Mapping) -> None:
    facts = content["adaptation"]
    tell(table(facts))
    chosen = facts["chosen"]
    tell(f"kept: {chosen['method']}, seed {chosen['seed']}; chosen by {facts['chosen_by']}")
    for verdict in facts["verdicts"].values():
        tell(verdict["text"])
    note = contradiction(facts)
    if note is not None:
        tell(note)
    if not facts["verdicts"] and chosen["method"] != facts["baseline"]:
        tell(
            "whether it gained anything is not known: --target-labels measures it on a target that "
            "has labels"
        )
    if content.get("counted_words"):
        tell(content["counted_words"]["text"])
    tell(f"report: {Path(folder) / 'report.html'}")


def write_map(
    folder: Path,
    model: "keras.Model",
    pair: tuple[Candidate, Candidate],
    sides: Mapping[str, np.ndarray],
    look: Callable[[str], dict],
    seed: int = 0,
) -> None:
    """map.npz: where examples of both domains, the `sides`, lie among the features of two models,
    "before" and "after".

    "domain" is 0 for the source and 1 for the target, "label" -1 where it is not known.
    """
    rng = np.random.default_rng(seed)
    taken = [np.sort(rng.permutation(len(side))[:MAPPED]) for side in sides.values()]
    labels = [
        np.where(np.isnan(side).any(-1), -1, side.argmax(-1))[rows]
        for side, rows in zip(sides.values(), taken, strict=True)
    ]
    places = {}
    for name, candidate in zip(("before", "after"), pair, strict=True):
        set_weights(model, candidate.weights)
        features = [look(side)["features"][rows] for side, rows in zip(sides, taken, strict=True)]
        places[name] = np.concatenate(embed(features, seed))
    domain = np.repeat([0, 1], [len(rows) for rows in taken])
    save_arrays(folder / "map.npz", **places, domain=domain, label=np.concatenate(labels))


def embed(features: Sequence[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """Two-dimensional places `(n, 2)` of the rows of each array, in one map (t-SNE, van der Maaten
    and Hinton 2008).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = np.concatenate(features)
    # A network that answers the same to everything has no map, and t-SNE does not survive it.
    if not np.ptp(rows, 0).any():
        return [np.zeros((len(part), 2), np.float32) for part in features]
    if rows.shape[1] > 50:
        rows = PCA(min(50, len(rows)), random_state=seed).fit_transform(rows)
    perplexity = min(30, max(1, len(rows) // 4))
    init = "pca" if rows.shape[1] > 1 else "random"  # one number has no second principal component
    places = TSNE(2, perplexity=perplexity, init=init, random_state=seed).fit_transform(rows)
    return np.split(np.float32(places), np.cumsum([len(part) for part in features])[:-1])
