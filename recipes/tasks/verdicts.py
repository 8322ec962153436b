"""What comparisons of two ways of training say: verdicts. numpy alone."""

from collections.abc import Sequence

import numpy as np

from graft.recipes.tasks import comparison

__all__ = [
    "Units",
    "accuracy",
    "adapting",
    "duration",
    "sharing",
    "verdict",
    "worst_mistakes",
]


def accuracy(outputs: np.ndarray, targets: np.ndarray) -> float:
    """The share of rows whose largest output is the target's, 0 to 1."""
    return float(np.mean(outputs.argmax(-1) == targets.argmax(-1)))


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
    shared, own = ([value for value in values if value is not None] for values in (together, alone))
    if None in (*together, *alone):
        text = f"{task}: too few test answers to say whether sharing helps"
        return {**facts, "text": text, "decision": "undecided", "interval": None, "gain_points": []}
    made = comparison.compare(shared, own, units)
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
