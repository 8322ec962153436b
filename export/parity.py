"""How close the outputs of a file are to those of the Keras model. numpy alone."""

from dataclasses import asdict, dataclass

import numpy as np

from graft.zoo.heads.kind import MARGIN, Kind
from graft.zoo.heads.single_label import SINGLE_LABEL

__all__ = [
    "FLOAT16_AGREEMENT",
    "FLOAT16_MAX_ABS_DIFF",
    "HALF_MARGIN",
    "MAX_ABS_DIFF",
    "MAX_LOGIT_DIFF",
    "Parity",
    "parity",
]

MAX_ABS_DIFF = 1e-4
"""The largest difference of an output that a float32 file may show."""

MAX_LOGIT_DIFF = 1e-3
"""The same for logits, relative to their spread; near-constant probabilities cannot hide a fault
from it.
"""

FLOAT16_MAX_ABS_DIFF = 2e-2
FLOAT16_AGREEMENT = 0.99
"""The same for a float16 file; its logits are not judged."""

HALF_MARGIN = 2e-2
"""As `MARGIN`, where the reference was computed in half precision."""


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
    kind: Kind = SINGLE_LABEL,
    precision: str = "float32",
    half: bool = False,
) -> Parity:
    """Compare `outputs` with `reference`, both rows of a file `(n, ...)`; of tags a row a token.

    Files give probabilities; their logits are recovered up to a constant that does not matter.
    Values and embeddings may be of any size, so their difference is judged relative to their spread
    alone. At float32 a file must be equal but for rounding, at float16 nearly so; a file of 8 bits
    is another function, which only its accuracy can judge, so it passes here if its outputs are
    numbers. A `reference` that was computed in `half` precision is itself as rough as a float16
    file: a float32 file of it is judged like one, and labels are compared where the reference is
    clear enough for that.
    """
    examples = len(reference)
    reference, outputs = map(np.float64, kind.compared(reference, outputs))
    difference = np.abs(reference - outputs)
    left, right = kind.logits(reference), kind.logits(outputs)
    spread = kind.spread(left)
    apart = np.abs(left - right) / spread
    logit_diff = float(np.where(difference <= kind.rounding, 0.0, apart).max())
    clear, same = (
        kind.clear(reference, HALF_MARGIN if half else MARGIN),
        kind.same(reference, outputs),
    )
    agreement = float(same[clear].mean()) if clear.any() else 1.0
    if precision == "float32" and not half:
        within = (
            logit_diff <= MAX_LOGIT_DIFF
            and agreement == 1
            and (difference.max() <= MAX_ABS_DIFF or not kind.bounded)
        )
    elif precision.startswith("float16") or precision == "float32":
        largest = difference.max() if kind.bounded else (difference / spread).max()
        within = largest <= FLOAT16_MAX_ABS_DIFF and agreement >= FLOAT16_AGREEMENT
    else:
        within = True
    return Parity(
        max_abs_diff=float(difference.max()),
        mean_abs_diff=float(difference.mean()),
        logit_diff=logit_diff,
        agreement=agreement,
        compared=int(clear.sum()),
        examples=examples,
        passed=bool(within and np.isfinite(outputs).all()),
    )
