"""Figures for one set of predictions, and the verdict of transfer against training from scratch. numpy and scikit-learn."""

from collections.abc import Sequence

import numpy as np

from zoo.heads import Head

__all__ = ["accuracy", "adapting", "confusion", "evaluate", "sharing", "verdict", "worst_mistakes"]


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of rows whose largest output is the target's, 0 to 1."""
    return float(np.mean(outputs.argmax(-1) == targets.argmax(-1)))


def evaluate(head: Head, outputs: np.ndarray, targets: np.ndarray) -> dict:
    """`{"examples", "accuracy", "loss", "per_class": {label: {"precision", "recall", "f1", "examples"}}}`.

    `outputs` and `targets` are `(n, labels)`. A class that does not occur has recall 0 and examples 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        targets.argmax(-1), outputs.argmax(-1), labels=range(len(head.labels)), zero_division=0.0
    )
    per_class = {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "examples": int(n)}
        for label, p, r, f, n in zip(head.labels, *columns, strict=True)
    }
    return {"examples": len(targets), **head.score(outputs, targets), "per_class": per_class}


def confusion(outputs: np.ndarray, targets: np.ndarray) -> list[list[int]]:
    """Counts `[truth][prediction]`."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(targets.argmax(-1), outputs.argmax(-1), labels=range(targets.shape[-1])).tolist()


def worst_mistakes(outputs: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """The indices of at most `count` wrong predictions, the most confident first."""
    wrong = np.flatnonzero(outputs.argmax(-1) != targets.argmax(-1))
    return wrong[np.argsort(-outputs[wrong].max(-1))][:count]


def verdict(
    transfer: Sequence[float], scratch: Sequence[float], seconds: tuple[Sequence[float], Sequence[float]]
) -> dict:
    """What transfer gained over training from scratch: accuracies (0 to 1) by seed, and the seconds of either.

    The text says "gained" or "lost" only if every seed agrees; otherwise the two are not told apart.
    """
    gains = 100 * (np.asarray(transfer) - np.asarray(scratch))
    text = _judgement(gains, "transfer", "transfer and scratch", ": train from scratch, or try another backbone")
    minutes = (np.mean(seconds[1]) - np.mean(seconds[0])) / 60
    text += f" and {'saved' if minutes >= 0 else 'cost'} {abs(minutes):.1f} minutes a run"
    return {
        "text": text,
        "transfer": {"accuracy": list(map(float, transfer)), "seconds": list(map(float, seconds[0]))},
        "scratch": {"accuracy": list(map(float, scratch)), "seconds": list(map(float, seconds[1]))},
        "gain_points": gains.tolist(),
    }


def sharing(task: str, key: str, together: Sequence[float | None], alone: Sequence[float | None]) -> dict:
    """Whether a task gained from sharing its backbone with others: its measure `key` (at most 1; None: it has none) by
    seed, shared and by itself."""
    facts = {"task": task, "key": key, "together": list(together), "alone": list(alone)}
    if None in (*together, *alone):
        text = f"{task}: too few test answers to say whether sharing helps"
        return {**facts, "text": text, "gain_points": []}
    gains = 100 * (np.asarray(together) - np.asarray(alone))
    said = _judgement(gains, "sharing", "sharing and a model of its own", ": give it a model of its own")
    return {**facts, "text": f"{task}: {said}", "gain_points": gains.tolist()}


def adapting(method: str, baseline: str, adapted: Sequence[float], plain: Sequence[float]) -> dict:
    """What `method` gained over a training without unlabelled examples: accuracies (0 to 1) by seed."""
    gains = 100 * (np.asarray(adapted) - np.asarray(plain))
    text = _judgement(gains, method, f"{method} and {baseline}", f": it did harm; take {baseline}")
    return {"text": text, "gain_points": gains.tolist()}


def _judgement(gains: np.ndarray, subject: str, both: str, advice: str) -> str:
    """What differences by seed, in points, allow to say."""
    seeds = f"{len(gains)} seed" + ("s" if len(gains) > 1 else "")
    span = f"; {gains.min():+.1f} to {gains.max():+.1f}" if len(gains) > 1 else ""
    if gains.min() > 0:
        return f"{subject} gained {gains.mean():+.1f} points ({seeds}{span})"
    if gains.max() < 0:
        return f"{subject} lost {-gains.mean():.1f} points ({seeds}{span}){advice}"
    return f"{both} cannot be told apart: {gains.mean():+.1f} points ({seeds}{span})"
