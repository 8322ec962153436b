"""What a file is worth, measured on the file itself. numpy alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

__all__ = ["MAX_ABS_DIFF", "MAX_LOGIT_DIFF", "Parity", "measure", "parity"]

MAX_ABS_DIFF = 1e-4
"""The largest difference of an output that a float32 file may show."""

MAX_LOGIT_DIFF = 1e-3
"""The same for logits, relative to their spread; near-constant probabilities cannot hide a fault from it."""

MARGIN = 1e-3
"""Labels are compared where the reference's best two outputs differ by more than this; a tie has no right answer."""

TINY = 1e-30


@dataclass(frozen=True)
class Parity:
    """How close a file's outputs are to Keras's.

    Attributes:
        max_abs_diff, mean_abs_diff: of the outputs.
        logit_diff: the largest difference of the logits over the standard deviation of the reference's (for values and
            embeddings: of the outputs themselves).
        agreement: the share of examples with the same answer, 0 to 1, among those with a clear one (`compared`).
        examples: how many were run.
        passed: all within bounds, and no output is NaN.
    """

    max_abs_diff: float
    mean_abs_diff: float
    logit_diff: float
    agreement: float
    compared: int
    examples: int
    passed: bool

    def as_dict(self) -> dict:
        """For the manifest."""
        return asdict(self)


def parity(
    reference: np.ndarray,
    outputs: np.ndarray,
    kind: Literal["single_label", "multi_label", "regression", "embedding"] = "single_label",
    *,
    max_abs_diff: float = MAX_ABS_DIFF,
    max_logit_diff: float = MAX_LOGIT_DIFF,
) -> Parity:
    """Compare `outputs` with `reference`, both `(n, units)`.

    Files give probabilities; their logits are recovered up to a constant that does not matter. Values and embeddings may
    be of any size, so their difference is judged relative to their spread alone.
    """
    reference, outputs = np.float64(reference), np.float64(outputs)
    difference = np.abs(reference - outputs)
    left, right = _logits(reference, kind), _logits(outputs, kind)
    spread = max(float(left.std()), TINY)
    logit_diff = float(np.abs(left - right).max() / spread)
    clear, same = _answers(reference, outputs, kind)
    agreement = float(same[clear].mean()) if clear.any() else 1.0
    within = logit_diff <= max_logit_diff and agreement == 1
    if kind in ("single_label", "multi_label"):
        within = within and difference.max() <= max_abs_diff
    return Parity(
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        logit_diff=logit_diff,
        agreement=agreement,
        compared=int(clear.sum()),
        examples=len(reference),
        passed=bool(within and np.isfinite(outputs).all()),
    )


def measure(session, examples: Iterable[tuple[np.ndarray, np.ndarray]], metric: Callable) -> Mapping[str, float]:
    """`metric(outputs, targets)` of a session over `examples`, an iterable of `(inputs, targets)` batches."""
    outputs, targets = zip(*((session.predict(inputs), truth) for inputs, truth in examples), strict=True)
    return metric(np.concatenate(outputs), np.concatenate(targets))


def _logits(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "single_label":
        logs = np.log(np.maximum(values, TINY))
        return logs - logs.mean(-1, keepdims=True)
    if kind == "multi_label":
        inside = np.clip(values, 1e-7, 1 - 1e-7)  # float32 has no finer probabilities near 1
        return np.log(inside / (1 - inside))
    return values


def _answers(reference: np.ndarray, outputs: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(which examples have a clear answer, which agree on it)."""
    if kind == "single_label":
        best = np.sort(reference, -1)
        return best[:, -1] - best[:, -2] > MARGIN, reference.argmax(-1) == outputs.argmax(-1)
    if kind == "multi_label":
        return (np.abs(reference - 0.5) > MARGIN).all(-1), ((reference > 0.5) == (outputs > 0.5)).all(-1)
    everything = np.ones(len(reference), bool)
    return everything, everything
