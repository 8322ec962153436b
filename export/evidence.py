"""What a file is worth, measured on the file itself. numpy alone."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

__all__ = [
    "FLOAT16_AGREEMENT",
    "FLOAT16_MAX_ABS_DIFF",
    "MAX_ABS_DIFF",
    "MAX_LOGIT_DIFF",
    "Accuracy",
    "Parity",
    "accuracy",
    "calibration_error",
    "measure",
    "paired_drop",
    "parity",
    "wilson",
]

Kind = Literal["single_label", "multi_label", "regression", "embedding"]


MAX_ABS_DIFF = 1e-4
"""The largest difference of an output that a float32 file may show."""

MAX_LOGIT_DIFF = 1e-3
"""The same for logits, relative to their spread; near-constant probabilities cannot hide a fault from it."""

FLOAT16_MAX_ABS_DIFF = 2e-2
FLOAT16_AGREEMENT = 0.99
"""The same for a float16 file; its logits are not judged."""

MARGIN = 1e-3
"""Labels are compared where the reference's best two outputs differ by more than this; a tie has no right answer."""

TINY = 1e-30
Z = 1.959964
"""Of a two-sided interval of 95 %."""


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
    reference: np.ndarray, outputs: np.ndarray, kind: Kind = "single_label", precision: str = "float32"
) -> Parity:
    """Compare `outputs` with `reference`, both `(n, units)`.

    Files give probabilities; their logits are recovered up to a constant that does not matter. Values and embeddings may
    be of any size, so their difference is judged relative to their spread alone. At float32 a file must be equal but for
    rounding, at float16 nearly so; a file of 8 bits is another function, which only its accuracy can judge, so it passes
    here if its outputs are numbers.
    """
    reference, outputs = np.float64(reference), np.float64(outputs)
    difference = np.abs(reference - outputs)
    left, right = _logits(reference, kind), _logits(outputs, kind)
    spread = max(float(left.std()), TINY)
    logit_diff = float(np.abs(left - right).max() / spread)
    clear, same = _answers(reference, outputs, kind)
    agreement = float(same[clear].mean()) if clear.any() else 1.0
    scaled = kind in ("single_label", "multi_label")  # all outputs lie between 0 and 1
    if precision == "float32":
        within = logit_diff <= MAX_LOGIT_DIFF and agreement == 1 and (difference.max() <= MAX_ABS_DIFF or not scaled)
    elif precision.startswith("float16"):
        largest = difference.max() if scaled else difference.max() / spread
        within = largest <= FLOAT16_MAX_ABS_DIFF and agreement >= FLOAT16_AGREEMENT
    else:
        within = True
    return Parity(
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        logit_diff=logit_diff,
        agreement=agreement,
        compared=int(clear.sum()),
        examples=len(reference),
        passed=bool(within and np.isfinite(outputs).all()),
    )


@dataclass(frozen=True)
class Accuracy:
    """What a file gets right, beside what Keras gets right on the same examples.

    Attributes:
        value: the share of examples it gets right, 0 to 1; for values and embeddings, the share of variance it keeps.
        interval: the 95 % interval of `value` (Wilson 1927); None for values and embeddings.
        reference: the same share for Keras.
        drop_points: what is lost, in points (hundredths).
        drop_interval: the 95 % interval of that, by pairs of answers (Bonett & Price 2012).
        calibration_error: ECE, 0 to 1; None unless one label of several holds and is known.
        examples: how many.
        truth: "labels", or "keras" where there were none and Keras's own answers took their place.
        passed: the drop is within `max_drop`, or not to be told from chance.
        undecided: it passed though it lost more than `max_drop`: the examples are too few to say that it was not chance.
    """

    value: float
    interval: tuple[float, float] | None
    reference: float
    drop_points: float
    drop_interval: tuple[float, float] | None
    calibration_error: float | None
    examples: int
    truth: Literal["labels", "keras"]
    passed: bool
    undecided: bool = False

    def as_dict(self) -> dict:
        """For the manifest; what JSON has no tuples for are lists."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def accuracy(
    reference: np.ndarray, outputs: np.ndarray, targets: np.ndarray | None, kind: Kind, max_drop: float
) -> Accuracy:
    """What `outputs` lose against `reference`, all `(n, units)`; `targets` None takes the reference's answers for true.

    A drop fails if it is larger than `max_drop` points and larger than chance: the 95 % interval of the paired
    difference lies above zero. Three photos of three hundred are one point, and prove nothing.
    """
    truth = "keras" if targets is None or kind in ("regression", "embedding") else "labels"
    if kind in ("regression", "embedding"):
        lost = 100 * float(np.mean((reference - outputs) ** 2) / max(float(np.var(reference)), TINY))
        return Accuracy(1 - lost / 100, None, 1.0, lost, None, None, len(outputs), truth, lost <= max_drop)
    wanted = reference if targets is None else targets
    before, after = (_right(values, wanted, kind) for values in (reference, outputs))
    drop, low, high = paired_drop(before, after)
    finite = np.isfinite(outputs).all()
    known = targets is not None  # Keras's own answers say nothing about how sure it may be
    error = calibration_error(outputs, after) if kind == "single_label" and finite and known else None
    passed = finite and (drop <= max_drop or low <= 0)
    return Accuracy(
        float(after.mean()), wilson(float(after.mean()), len(after)), float(before.mean()), drop, (low, high), error,
        len(after), truth, bool(passed), bool(passed and drop > max_drop),
    )  # fmt: skip


def wilson(share: float, examples: int) -> tuple[float, float]:
    """The 95 % interval of a share of `examples` (> 0), by Wilson's score (Wilson 1927); both in [0, 1]."""
    middle = share + Z * Z / (2 * examples)
    half = Z * math.sqrt(share * (1 - share) / examples + Z * Z / (4 * examples**2))
    scale = 1 + Z * Z / examples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def paired_drop(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """(drop, low, high) in points of the share of right answers, both `(n,)` bool about the same examples.

    The 95 % interval of a difference of paired shares by Bonett & Price 2012, doi:10.3102/1076998611411915: only the
    examples count on which the two differ.
    """
    n, lost, won = len(before), int((before & ~after).sum()), int((after & ~before).sum())
    first, second = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = Z * math.sqrt(max(0.0, (first + second - (first - second) ** 2) / (n + 2)))
    drop = 100 * (lost - won) / n
    return drop, max(-100.0, 100 * (first - second - half)), min(100.0, 100 * (first - second + half))


def calibration_error(probabilities: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599): how far confidence is from accuracy, 0 to 1.

    `probabilities` `(n, labels)`, `right` `(n,)`; the mean over `bins` of equal width, weighted by their examples.
    """
    confidence = np.float64(probabilities).max(-1)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[places == b].sum() - right[places == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(right))


def measure(session, examples: Iterable[tuple[np.ndarray, np.ndarray]], metric: Callable) -> Mapping[str, float]:
    """`metric(outputs, targets)` of a session over `examples`, an iterable of `(inputs, targets)` batches."""
    outputs, targets = zip(*((session.predict(inputs), truth) for inputs, truth in examples), strict=True)
    return metric(np.concatenate(outputs), np.concatenate(targets))


def _right(values: np.ndarray, wanted: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "single_label":
        return values.argmax(-1) == wanted.argmax(-1)
    return ((values > 0.5) == (wanted > 0.5)).all(-1)


def _logits(values: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "single_label":
        logs = np.log(np.maximum(values, TINY))
        return logs - logs.mean(-1, keepdims=True)
    if kind == "multi_label":
        inside = np.clip(values, 1e-7, 1 - 1e-7)  # float32 has no finer probabilities near 1
        return np.log(inside / (1 - inside))
    return values


def _answers(reference: np.ndarray, outputs: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """(which examples have a clear answer, which agree on it)."""
    if kind == "single_label":
        best = np.sort(reference, -1)
        return best[:, -1] - best[:, -2] > MARGIN, reference.argmax(-1) == outputs.argmax(-1)
    if kind == "multi_label":
        return (np.abs(reference - 0.5) > MARGIN).all(-1), ((reference > 0.5) == (outputs > 0.5)).all(-1)
    everything = np.ones(len(reference), bool)
    return everything, everything
