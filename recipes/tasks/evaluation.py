"""Figures for one set of predictions, and what comparisons of two ways of training say. numpy and
scikit-learn.
"""

from collections.abc import Sequence

import numpy as np

from graft.recipes.tasks import comparison
from graft.zoo.heads import scores
from graft.zoo.heads.heads import Head

__all__ = [
    "Units",
    "accuracy",
    "adapting",
    "binary_figures",
    "confusion",
    "duration",
    "evaluate",
    "sharing",
    "unit_scores",
    "verdict",
    "worst_mistakes",
]


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of rows whose largest output is the target's, 0 to 1."""
    return float(np.mean(outputs.argmax(-1) == targets.argmax(-1)))


def evaluate(head: Head, outputs: np.ndarray, targets: np.ndarray) -> dict:
    """`{"examples", "accuracy", "loss", "balanced_accuracy", "macro_f1", "per_class": {label:
    {"precision", "recall", "f1", "examples"}}}`, and of two classes those of `binary_figures`.

    `outputs` and `targets` are `(n, labels)`. A class that does not occur has recall 0 and examples
    0; it counts neither for the balanced accuracy nor, unless it was predicted, for the macro F1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, predicted = targets.argmax(-1), outputs.argmax(-1)
    columns = precision_recall_fscore_support(
        truth, predicted, labels=range(len(head.labels)), zero_division=0.0
    )
    per_class = {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "examples": int(n)}
        for label, p, r, f, n in zip(head.labels, *columns, strict=True)
    }
    _, recall, f1, occurs = columns
    concerned = (occurs > 0) | (np.bincount(predicted, minlength=len(occurs)) > 0)
    return {
        "examples": len(targets),
        **head.score(outputs, targets),
        "balanced_accuracy": float(recall[occurs > 0].mean()),
        "macro_f1": float(f1[concerned].mean()),
        **(binary_figures(head.labels, outputs, targets) if len(head.labels) == 2 else {}),
        "per_class": per_class,
    }


def binary_figures(labels: Sequence[str], outputs: np.ndarray, targets: np.ndarray) -> dict:
    """`{"positive_class", "auc", "average_precision", "sensitivity", "specificity"}` of two
    classes.

    The second of `labels` is the positive one; None where a class that a figure is about does not
    occur. `outputs` and `targets` are `(n, 2)`.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive, found, chance = targets.argmax(-1) == 1, outputs.argmax(-1) == 1, outputs[:, 1]
    both = positive.any() and not positive.all()
    return {
        "positive_class": labels[1],
        "auc": float(roc_auc_score(positive, chance)) if both else None,
        "average_precision": float(average_precision_score(positive, chance))
        if positive.any()
        else None,
        "sensitivity": float(found[positive].mean()) if positive.any() else None,
        "specificity": float(1 - found[~positive].mean()) if not positive.all() else None,
    }


def confusion(outputs: np.ndarray, targets: np.ndarray) -> list[list[int]]:
    """Counts `[truth][prediction]`."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(
        targets.argmax(-1), outputs.argmax(-1), labels=range(targets.shape[-1])
    ).tolist()


def worst_mistakes(outputs: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """The indices of at most `count` wrong predictions, the most confident first."""
    wrong = np.flatnonzero(outputs.argmax(-1) != targets.argmax(-1))
    return wrong[np.argsort(-outputs[wrong].max(-1))][:count]


Units = tuple[np.ndarray, np.ndarray] | None
"""What each test example contributes to the figures of two arms, `(seeds, n)` each; see
`comparison.compare`.
"""


def verdict(
    transfer: Sequence[float],
    scratch: Sequence[float],
    seconds: tuple[Sequence[float], Sequence[float]],
    units: Units = None,
) -> dict:
    """What transfer gained over training from scratch: figures (at most 1) by seed, and the seconds
    of either.

    "gained" and "lost" are said where the 95 % interval over seeds and test examples excludes no
    difference.
    """
    made = comparison.compare(transfer, scratch, units)
    text = comparison.sentence(made, "transfer", "scratch")
    if made.decision == "lost":
        text += ": train from scratch, or try another backbone"
    spared = float(np.mean(seconds[1]) - np.mean(seconds[0]))
    text += f"; it {'saved' if spared >= 0 else 'cost'} {duration(abs(spared))} a run"
    return {
        "text": text,
        "transfer": {
            "accuracy": list(map(float, transfer)),
            "seconds": list(map(float, seconds[0])),
        },
        "scratch": {"accuracy": list(map(float, scratch)), "seconds": list(map(float, seconds[1]))},
        **made.as_dict(),
    }


def sharing(
    task: str,
    key: str,
    together: Sequence[float | None],
    alone: Sequence[float | None],
    units: Units = None,
) -> dict:
    """Whether a task gained from sharing its backbone with others: its measure `key` (at most 1;
    None: it has none) by seed, shared and by itself.
    """
    facts = {"task": task, "key": key, "together": list(together), "alone": list(alone)}
    if None in (*together, *alone):
        text = f"{task}: too few test answers to say whether sharing helps"
        return {**facts, "text": text, "decision": "undecided", "interval": None, "gain_points": []}
    made = comparison.compare(together, alone, units)
    text = comparison.sentence(made, "sharing", "a model of its own")
    if made.decision == "lost":
        text += ": give it a model of its own"
    return {**facts, "text": f"{task}: {text}", **made.as_dict()}


def adapting(
    method: str,
    baseline: str,
    adapted: Sequence[float],
    plain: Sequence[float],
    units: Units = None,
) -> dict:
    """What `method` gained over a training without unlabelled examples: accuracies (0 to 1) by
    seed.
    """
    made = comparison.compare(adapted, plain, units)
    return {"text": comparison.sentence(made, method, baseline), **made.as_dict()}


def duration(seconds: float) -> str:
    """ "7 s", "12.5 minutes"."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def unit_scores(head: Head, outputs: np.ndarray, targets) -> np.ndarray:
    """What each example contributes to the figure that `head` is judged by, `(n,)`; their mean is
    about the figure.
    """
    from graft.recipes.tasks.head_evaluation import score_of

    return scores.unit_scores(score_of(head, outputs, targets))
