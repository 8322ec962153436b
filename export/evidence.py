"""What a file is worth, measured on the file itself. numpy alone."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from graft.zoo.heads import scores
from graft.zoo.heads.neighbours import shared_nearest
from graft.zoo.heads.scores import Score

__all__ = [
    "FLOAT16_AGREEMENT",
    "FLOAT16_MAX_ABS_DIFF",
    "MAX_ABS_DIFF",
    "MAX_LOGIT_DIFF",
    "Accuracy",
    "Parity",
    "accuracy",
    "calibration_error",
    "interval",
    "measure",
    "near_ties",
    "paired_drop",
    "parity",
    "wilson",
]

Kind = Literal["single_label", "multi_label", "regression", "embedding", "tags"]
Status = Literal["pass", "undecided", "fail"]

MAX_ABS_DIFF = 1e-4
"""The largest difference of an output that a float32 file may show."""

MAX_LOGIT_DIFF = 1e-3
"""The same for logits, relative to their spread; near-constant probabilities cannot hide a fault
from it.
"""

FLOAT16_MAX_ABS_DIFF = 2e-2
FLOAT16_AGREEMENT = 0.99
"""The same for a float16 file; its logits are not judged."""

MARGIN = 1e-3
"""Labels are compared where the reference's best two outputs differ by more than this; a tie has no
right answer.
"""

HALF_MARGIN = 2e-2
"""The same where the reference was computed in half precision."""

AGREEMENT = {
    "single_label": "agreement with Keras",
    "multi_label": "agreement with Keras",
    "regression": "R² against Keras",
    "embedding": "same nearest neighbour as Keras",
    "tags": "tags as by Keras",
}
"""What is said of answers where no labels are known: Keras's own are taken for true."""

RESAMPLES = 2000
ROUNDING = 1e-9
TINY = 1e-30
Z = 1.959964
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Parity:
    """How close a file's outputs are to Keras's.

    Attributes:
        max_abs_diff, mean_abs_diff: of the outputs.
        logit_diff: the largest difference of the logits over the standard deviation of the
            reference's (for values and embeddings: of each output unit over its own).
        agreement: the share of examples with the same answer, 0 to 1, among those with a clear one
            (`compared`).
        examples: how many were run.
        passed: all within bounds, and no output is NaN.
        batch_1_diff: the largest difference where each example is run by itself; None where files
            run no other batches.
    """

    max_abs_diff: float
    mean_abs_diff: float
    logit_diff: float
    agreement: float
    compared: int
    examples: int
    passed: bool
    batch_1_diff: float | None = None

    def as_dict(self) -> dict:
        """For the manifest."""
        return asdict(self)


def parity(
    reference: np.ndarray,
    outputs: np.ndarray,
    kind: Kind = "single_label",
    precision: str = "float32",
    half: bool = False,
) -> Parity:
    """Compare `outputs` with `reference`, both `(n, units)`; of tags a row a token.

    Files give probabilities; their logits are recovered up to a constant that does not matter.
    Values and embeddings may be of any size, so their difference is judged relative to their spread
    alone. At float32 a file must be equal but for rounding, at float16 nearly so; a file of 8 bits
    is another function, which only its accuracy can judge, so it passes here if its outputs are
    numbers. A `reference` that was computed in `half` precision is itself as rough as a float16
    file: a float32 file of it is judged like one, and labels are compared where the reference is
    clear enough for that.
    """
    reference, outputs = np.float64(reference), np.float64(outputs)
    difference = np.abs(reference - outputs)
    kind = "single_label" if kind == "tags" else kind
    left, right = _logits(reference, kind), _logits(outputs, kind)
    spread = _spread(left, kind)
    logit_diff = float((np.abs(left - right) / spread).max())
    clear, same = _answers(reference, outputs, kind, HALF_MARGIN if half else MARGIN)
    agreement = float(same[clear].mean()) if clear.any() else 1.0
    scaled = kind in ("single_label", "multi_label")  # all outputs lie between 0 and 1
    if precision == "float32" and not half:
        within = (
            logit_diff <= MAX_LOGIT_DIFF
            and agreement == 1
            and (difference.max() <= MAX_ABS_DIFF or not scaled)
        )
    elif precision.startswith("float16") or precision == "float32":
        largest = difference.max() if scaled else (difference / spread).max()
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
    """What a file is worth by the figure that its task is judged by, and what Keras's model is
    worth on the same examples.

    Attributes:
        figure, key: of the figure, in words and in JSON: "accuracy", "average precision", "entity
            F1", "recall at 1", "R²".
        value: of the file, 0 to 1 (R² has no lower end); of several labels or values their mean.
        interval: the 95 % interval of `value`: of a share Wilson's (1927), else by bootstrap over
            examples.
        reference: the figure of Keras's model.
        drop_points: what is lost, in points (hundredths); of several labels or values by the one
            that loses most.
        drop_interval: the 95 % interval of that, paired by example: of shares by Bonett & Price
            2012, else by bootstrap.
        calibration_error: ECE, 0 to 1; None unless one label of several holds and is known.
        examples: how many.
        truth: "labels", or "keras" where there were none and Keras's own answers took their place.
        status: "pass": no more is lost than `max_drop`; "fail": the whole interval lies above it,
            or an answer is no number; "undecided": between the two.
        enough_examples: how many examples would decide, were the answers to more of them alike;
            None where it is decided.
        unit: which of several labels or values loses most, counted from 0; None where there is one
            alone.
        label: what that one is called, where it is known.
    """

    figure: str
    key: str
    value: float
    interval: tuple[float, float] | None
    reference: float
    drop_points: float
    drop_interval: tuple[float, float] | None
    calibration_error: float | None
    examples: int
    truth: Literal["labels", "keras"]
    status: Status
    enough_examples: int | None = None
    unit: int | None = None
    label: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no more is lost than may be."""
        return self.status == "pass"

    @property
    def undecided(self) -> bool:
        """Whether the examples are too few to tell."""
        return self.status == "undecided"

    def as_dict(self) -> dict:
        """For the manifest; what JSON has no tuples for are lists."""
        facts = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
        return facts | {"passed": self.passed, "undecided": self.undecided}


def accuracy(
    reference: np.ndarray,
    outputs: np.ndarray,
    targets: np.ndarray | None,
    kind: Kind,
    max_drop: float,
    scorer: Callable[[np.ndarray], Score] | None = None,
    half: bool = False,
) -> Accuracy:
    """What `outputs` lose against `reference`, all `(n, units)`; `targets` None takes the
    reference's answers for true.

    Judged is the figure of the kind (`zoo/heads/scores.py`), or the one that `scorer` makes of
    answers. A drop of at most `max_drop` points passes. A larger one fails where the whole 95 %
    interval of the paired difference lies above it; else the examples cannot tell. Of several
    labels or values the one that loses most is judged; a label that no example has is not. Where
    nothing but the reference's answers is known and it was computed in `half` precision, those do
    not count that rounding may have turned.
    """
    finite = bool(np.isfinite(outputs).all())
    margin = HALF_MARGIN if half else 0.0
    truth, scored = _scorer(reference, targets, kind, scorer, margin)
    shown = outputs if finite else np.nan_to_num(outputs, nan=0.0, posinf=0.0, neginf=0.0)
    before, after = scored(reference), scored(shown)
    if truth == "labels" and not _can_be_said(before, after, kind):
        if before.instead and after.instead:
            before, after = before.instead, after.instead
        else:
            truth, scored = _scorer(reference, None, kind, None, margin)
            before, after = scored(reference), scored(shown)
    unit, drop, (low, high) = _lost(before, after, max_drop)
    if truth == "keras" and not _same_where_unsaid(before, reference, outputs, margin):
        drop = low = high = 100.0
    if not finite:
        status: Status = "fail"
    elif drop <= max_drop + ROUNDING:
        status = "pass"
    else:
        status = "fail" if low > max_drop else "undecided"
    sure = finite and kind == "single_label" and truth == "labels"
    return Accuracy(
        before.name if truth == "labels" else AGREEMENT[kind],
        before.key,
        after.value,
        interval(after),
        before.value,
        drop,
        (low, high),
        calibration_error(outputs, after.right > 0) if sure else None,
        after.examples,
        truth,
        status,
        _enough(after.examples, drop, low, max_drop) if status == "undecided" else None,
        unit if len(before.columns) > 1 else None,
    )


def _scorer(
    reference: np.ndarray, targets, kind: Kind, scorer, margin: float
) -> tuple[str, Callable[[np.ndarray], Score]]:
    """(what is taken for true, what makes a score of answers)."""
    if targets is not None or scorer is not None:
        return "labels", scorer or (lambda values: scores.score(kind, values, targets))
    if kind == "regression":
        return "keras", lambda values: scores.score(kind, values, reference)
    key = scores.FIGURES[kind][1]
    if kind == "embedding":
        return "keras", lambda values: scores.share(
            AGREEMENT[kind], key, shared_nearest(values, reference)
        )
    if kind == "tags":
        tags = np.where(np.isfinite(reference).all(-1), reference.argmax(-1), -1)
        return "keras", lambda values: scores.score(kind, values, tags)
    clear = (
        _answers(reference, reference, kind, margin)[0] if margin else np.ones(len(reference), bool)
    )
    return "keras", lambda values: scores.share(
        AGREEMENT[kind], "accuracy", np.where(clear, _right(values, reference, kind), np.nan)
    )


def _can_be_said(before: Score, after: Score, kind: Kind) -> bool:
    """Whether the labels tell what is right: not where there is one value, or no entity."""
    known = ~np.isnan(before.units) & ~np.isnan(after.units)
    return bool(known.any() if kind == "multi_label" else known.all())


def _same_where_unsaid(
    before: Score, reference: np.ndarray, outputs: np.ndarray, margin: float
) -> bool:
    """Whether a file answers like Keras where all of Keras's answers are the same number."""
    unsaid = np.isnan(before.units)
    columns = unsaid if len(unsaid) == reference.shape[-1] else slice(None)
    return not unsaid.any() or np.allclose(
        outputs[..., columns], reference[..., columns], rtol=1e-3, atol=margin
    )


def _lost(before: Score, after: Score, max_drop: float) -> tuple[int, float, tuple[float, float]]:
    """(the unit that is worst off, what it loses, the 95 % interval of that), in points: one that
    certainly loses more than `max_drop`, before one that may lose more, and of these the one that
    loses most.
    """
    lost = 100 * (before.units - after.units)
    if np.isnan(lost).all():
        return 0, 0.0, (0.0, 0.0)
    most = int(np.nanargmax(lost))
    if before.right is not None and after.right is not None:
        counted = ~np.isnan(before.right)
        _, low, high = paired_drop(before.right[counted], after.right[counted])
        return most, float(lost[most]), (low, high)
    bounds = {}
    for unit in {most, *np.flatnonzero(lost > max_drop + ROUNDING).tolist()}:
        drawn = 100 * (before.drawn(RESAMPLES, unit) - after.drawn(RESAMPLES, unit))
        bounds[unit] = _middle(drawn[:, 0]) or (0.0, 0.0)
    unit = max(bounds, key=lambda unit: (bounds[unit][0] > max_drop, lost[unit]))
    return unit, float(lost[unit]), bounds[unit]


def interval(made: Score) -> tuple[float, float] | None:
    """The 95 % interval of a figure: of a share Wilson's (1927), else by bootstrap over examples.
    None: it has none.
    """
    if made.right is not None:
        counted = made.right[~np.isnan(made.right)]
        return wilson(float(counted.mean()), len(counted)) if len(counted) else None
    return _middle(scores.mean_of_units(made.drawn(RESAMPLES)))


def _middle(drawn: np.ndarray) -> tuple[float, float] | None:
    """Between which numbers 95 % of those lie that could be said."""
    drawn = drawn[~np.isnan(drawn)]
    return tuple(map(float, np.quantile(drawn, (0.025, 0.975)))) if len(drawn) else None


def _enough(examples: int, drop: float, low: float, max_drop: float) -> int:
    """About how many examples would bring the lower end of the interval above `max_drop`, to two
    digits.
    """
    needed = examples * ((drop - low) / (drop - max_drop)) ** 2
    digits = max(0, len(str(int(needed))) - 2)
    return int(math.ceil(needed / 10**digits) * 10**digits)


def wilson(share: float, examples: int) -> tuple[float, float]:
    """The 95 % interval of a share of `examples` (> 0), by Wilson's score (Wilson 1927); both in
    [0, 1].
    """
    middle = share + Z * Z / (2 * examples)
    half = Z * math.sqrt(share * (1 - share) / examples + Z * Z / (4 * examples**2))
    scale = 1 + Z * Z / examples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def paired_drop(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """(drop, low, high) in points of the share of right answers, both `(n,)` about the same
    examples: bool, or how right each is, 0 to 1.

    The 95 % interval of a difference of paired shares by Bonett & Price 2012,
    doi:10.3102/1076998611411915: only the examples count on which the two differ.
    """
    change = np.float64(after) - np.float64(before)
    n, lost, won = len(before), float(-change[change < 0].sum()), float(change[change > 0].sum())
    first, second = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = Z * math.sqrt(max(0.0, (first + second - (first - second) ** 2) / (n + 2)))
    drop = 100 * (lost - won) / n
    return (
        drop,
        max(-100.0, 100 * (first - second - half)),
        min(100.0, 100 * (first - second + half)),
    )


def calibration_error(probabilities: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599): how far confidence is
    from accuracy, 0 to 1.

    `probabilities` `(n, labels)`, `right` `(n,)`; the mean over `bins` of equal width, weighted by
    their examples.
    """
    confidence = np.float64(probabilities).max(-1)
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[places == b].sum() - right[places == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(right))


def measure(
    session, examples: Iterable[tuple[np.ndarray, np.ndarray]], metric: Callable
) -> Mapping[str, float]:
    """`metric(outputs, targets)` of a session over `examples`, an iterable of `(inputs, targets)`
    batches.
    """
    outputs, targets = zip(
        *((session.predict(inputs), truth) for inputs, truth in examples), strict=True
    )
    return metric(np.concatenate(outputs), np.concatenate(targets))


def _right(values: np.ndarray, wanted: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "single_label":
        return values.argmax(-1) == wanted.argmax(-1)
    return ((values > 0.5) == (wanted > 0.5)).all(-1)


def _spread(values: np.ndarray, kind: Kind) -> np.ndarray | float:
    """What a difference is measured in: the standard deviation, of values and embeddings that of
    each unit.

    A unit of small numbers beside one of large ones must not hide; of a unit that is nearly
    constant a hundredth of its size counts, because float32 rounds that.
    """
    if kind in ("single_label", "multi_label"):
        return max(float(values.std()), TINY)
    return np.maximum(np.maximum(values.std(0), np.abs(values).max(0) / 100), TINY)


def _logits(values: np.ndarray, kind: Kind) -> np.ndarray:
    if kind == "single_label":
        logs = np.log(np.maximum(values, TINY))
        return logs - logs.mean(-1, keepdims=True)
    if kind == "multi_label":
        inside = np.clip(values, 1e-7, 1 - 1e-7)  # float32 has no finer probabilities near 1
        return np.log(inside / (1 - inside))
    return values


def near_ties(reference: np.ndarray, kind: Kind) -> int:
    """How many of the answers `(n, units)` rounding may turn. Of vectors and values it cannot be
    told from one of them: two are allowed, as many as one changed neighbour concerns; of tags a row
    is a token.
    """
    if kind == "embedding":
        return 2
    clear, _ = _answers(reference, reference, "single_label" if kind == "tags" else kind, MARGIN)
    return int((~clear).sum())


def _answers(
    reference: np.ndarray, outputs: np.ndarray, kind: Kind, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """(which examples have a clear answer, which agree on it)."""
    if kind == "single_label":
        best = np.sort(reference, -1)
        return best[:, -1] - best[:, -2] > margin, reference.argmax(-1) == outputs.argmax(-1)
    if kind == "multi_label":
        return (np.abs(reference - 0.5) > margin).all(-1), (
            (reference > 0.5) == (outputs > 0.5)
        ).all(-1)
    everything = np.ones(len(reference), bool)
    return everything, everything
