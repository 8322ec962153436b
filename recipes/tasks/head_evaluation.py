"""Figures of a model, head by head: the same for a Keras model and for a file. numpy and
scikit-learn.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from graft.recipes.codecs.texts import Tagged, Texts
from graft.recipes.tasks import evaluation
from graft.zoo.heads import scores, spans
from graft.zoo.heads.heads import Head

__all__ = [
    "NEAREST",
    "figures",
    "figures_of",
    "headline",
    "measure_of",
    "score_of",
    "tag_sequences",
    "without_labels",
]

NEAREST = 5
"""Retrieval counts the nearest one, and the nearest so many."""


def measure_of(head: Head) -> dict:
    """`{"name", "key"}` of the figure that a head is judged by."""
    return scores.figure_of(head.kind)


def score_of(head: Head, outputs: np.ndarray, targets) -> scores.Score:
    """What the answers of a head score by the figure that it is judged by."""
    if head.kind == "tags":
        return scores.entity_f1(*tag_sequences(head, outputs, targets))
    return scores.score(head.kind, outputs, targets)


def figures(heads: Sequence[Head], outputs, texts: Texts) -> dict:
    """All figures for the `outputs` of a model (as `fit.predict` gives them) on `texts`.

    Of one head: `{"examples", "accuracy", ...}` and the measures of its kind; of several:
    `{"examples", "tasks": {name: ...}}`.
    """
    if len(heads) == 1:
        return figures_of(heads[0], outputs, texts.targets)
    tasks = {
        head.name: figures_of(head, outputs[head.name], texts.targets[head.name]) for head in heads
    }
    return {"examples": len(texts), "tasks": tasks}


def headline(heads: Sequence[Head], measured: Mapping) -> float | None:
    """The figure that a model is judged by, 0 to 1; the mean over its tasks where it has several.
    None: it has none.
    """
    parts = measured["tasks"] if "tasks" in measured else {heads[0].name: measured}
    values = [parts[head.name][measure_of(head)["key"]] for head in heads]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def without_labels(measured: Sequence[Mapping]) -> list[dict]:
    """The figures of several models without those label by label, of which there may be
    thousands.
    """
    kept = [
        {key: value for key, value in figures.items() if key != "per_class"} for figures in measured
    ]
    return [
        {
            **figures,
            "tasks": dict(
                zip(figures["tasks"], without_labels([*figures["tasks"].values()]), strict=True)
            ),
        }
        if "tasks" in figures
        else figures
        for figures in kept
    ]


def tag_sequences(
    head: Head, rows: np.ndarray, targets: Tagged
) -> tuple[list[list[str]], list[list[str]]]:
    """(true, predicted) tags of all words of each sentence; `rows` `(tokens, labels)` are those of
    all sentences.

    Of a word that the model did not see (it was cut off, or has no piece) it says O.
    """
    best = rows.argmax(-1)
    truth, predicted = [], []
    for i in range(len(targets)):
        truth.append([head.labels[t] for t in targets.whole[i]])
        said = ["O"] * len(truth[-1])
        begun = targets.begun[i]
        for place in np.flatnonzero(begun >= 0):
            said[begun[place]] = head.labels[best[targets.starts[i] + place]]
        predicted.append(said)
    return truth, predicted


def figures_of(head: Head, outputs: np.ndarray, targets) -> dict:
    """All figures of one head, with "examples" and "per_class"."""
    if head.kind == "single_label":
        return evaluation.evaluate(head, outputs, targets)
    if head.kind == "tags":
        truth, predicted = tag_sequences(head, outputs, targets)
        found = spans.scores(truth, predicted) | {"f1": scores.entity_f1(truth, predicted).value}
        # Sentences without any entity have no F1: JSON knows no NaN.
        found = {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in found.items()
        }
        per_class = found.pop("per_type")
        return {
            "examples": len(targets),
            **head.score(outputs, targets.values),
            **found,
            "per_class": per_class,
        }
    if head.kind == "multi_label":
        return {
            "examples": len(targets),
            **head.score(outputs, targets),
            "per_class": _per_label(head, outputs, targets),
        }
    if head.kind == "regression":
        return {"examples": len(targets), **head.score(outputs, targets), "per_class": {}}
    return {"examples": len(targets), **_retrieval(outputs, targets), "per_class": {}}


def _per_label(head: Head, outputs: np.ndarray, targets: np.ndarray) -> dict:
    from sklearn.metrics import precision_recall_fscore_support

    found = {}
    for label, truth, said in zip(head.labels, targets.T >= 0.5, outputs.T >= 0.5, strict=True):
        p, r, f, _ = precision_recall_fscore_support(
            truth, said, average="binary", zero_division=0.0
        )
        found[label] = {
            "precision": float(p),
            "recall": float(r),
            "f1": float(f),
            "examples": int(truth.sum()),
        }
    return found


def _retrieval(vectors: np.ndarray, targets: np.ndarray) -> dict:
    """Each sentence asks for others of its label; sentences without one do not ask."""
    found, asking = {}, 0
    for count in (1, NEAREST):
        made = scores.recall(vectors, targets, count)
        asking = int((~np.isnan(made.right)).sum())
        found[made.key] = made.value if asking else None
    return {**found, "queries": asking}
