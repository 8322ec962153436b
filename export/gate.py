"""What a file is worth by the figure that its task is judged by, beside the Keras model. numpy
alone.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from graft.export.intervals import RESAMPLES, calibration_error, interval, middle, paired_drop
from graft.export.parity import HALF_MARGIN
from graft.zoo.heads.kind import Kind, Scorer
from graft.zoo.heads.scores import Score

__all__ = ["Accuracy", "Gate", "accuracy"]

Status = Literal["pass", "undecided", "fail"]

ROUNDING = 1e-9


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


@dataclass(frozen=True)
class Gate:
    """What an output is judged by.

    Attributes:
        kind: of the answers.
        max_drop: points of its figure that a file may lose.
        scorer: what makes a score of the answers, where the kind and the targets alone do not say
            it.
        half: whether the reference was computed in half precision.
    """

    kind: Kind
    max_drop: float = 1.0
    scorer: Scorer | None = None
    half: bool = False

    @property
    def margin(self) -> float:
        """How far apart the reference's answers have to be to count where nothing else is known."""
        return HALF_MARGIN if self.half else 0.0


def accuracy(
    reference: np.ndarray, outputs: np.ndarray, targets: np.ndarray | None, gate: Gate
) -> Accuracy:
    """What `outputs` lose against `reference`, all `(n, units)`; `targets` None takes the
    reference's answers for true.

    Judged is the figure of the kind, or the one that the gate's scorer makes of answers. A drop of
    at most `max_drop` points passes. A larger one fails where the whole 95 % interval of the paired
    difference lies above it; else the examples cannot tell. Of several labels or values the one
    that loses most is judged; a label that no example has is not. Where nothing but the reference's
    answers is known and it was computed in half precision, those do not count that rounding may
    have turned.
    """
    kind, max_drop = gate.kind, gate.max_drop
    finite = bool(np.isfinite(outputs).all())
    scored, truth = _labels_scorer(targets, gate), "labels"
    if scored is None:
        scored, truth = kind.score_against(reference, gate.margin), "keras"
    shown = outputs if finite else np.nan_to_num(outputs, nan=0.0, posinf=0.0, neginf=0.0)
    before, after = scored(reference), scored(shown)
    if truth == "labels" and not kind.can_be_said(before, after):
        if before.instead and after.instead:
            before, after = before.instead, after.instead
        else:
            scored, truth = kind.score_against(reference, gate.margin), "keras"
            before, after = scored(reference), scored(shown)
    unit, drop, (low, high) = _lost(before, after, max_drop)
    if truth == "keras" and not _same_where_unsaid(before, reference, outputs, gate.margin):
        drop = low = high = 100.0
    if not finite:
        status: Status = "fail"
    elif drop <= max_drop + ROUNDING:
        status = "pass"
    else:
        status = "fail" if low > max_drop else "undecided"
    sure = finite and kind.confident and truth == "labels" and after.right is not None
    return Accuracy(
        figure=before.name if truth == "labels" else kind.agreement,
        key=before.key,
        value=after.value,
        interval=interval(after),
        reference=before.value,
        drop_points=drop,
        drop_interval=(low, high),
        calibration_error=calibration_error(outputs, after.right > 0) if sure else None,
        examples=after.examples,
        truth=truth,
        status=status,
        enough_examples=_enough(after.examples, drop, low, max_drop)
        if status == "undecided"
        else None,
        unit=unit if len(before.columns) > 1 else None,
    )


def _labels_scorer(targets: np.ndarray | None, gate: Gate) -> Scorer | None:
    """What makes a score of answers by labels; None where there are none."""
    if gate.scorer is not None:
        return gate.scorer
    return None if targets is None else lambda values: gate.kind.score(values, targets)


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
        bounds[unit] = middle(drawn[:, 0]) or (0.0, 0.0)
    unit = max(bounds, key=lambda unit: (bounds[unit][0] > max_drop, lost[unit]))
    return unit, float(lost[unit]), bounds[unit]


def _enough(examples: int, drop: float, low: float, max_drop: float) -> int:
    """About how many examples would bring the lower end of the interval above `max_drop`, to two
    digits.
    """
    needed = examples * ((drop - low) / (drop - max_drop)) ** 2
    digits = max(0, len(str(int(needed))) - 2)
    return int(math.ceil(needed / 10**digits) * 10**digits)
