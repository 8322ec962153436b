"""Which 8-bit file to ship: int8 where its accuracy holds, and else the smallest file that keeps it.

Networks with squeeze-and-excite, swish or hard-swish often collapse when every tensor has 8 bits, because a few tensors
have ranges that 256 steps cannot cover. What can stay in float32 is looked for in this order: the first and the last
layers; then the layers that cost most, found by quantizing each alone and looking at the outputs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from zoo.errors import NotApplicable

__all__ = ["PRECISIONS", "Attempt", "Quantizer", "attempts", "best", "explain", "layer_errors"]

PRECISIONS = ("float16", "dynamic", "int8", "int8-full")
WORST_SHARES = (0.05, 0.15, 0.3)
EXPLAINED_EXAMPLES = 16
MOST_MEASUREMENTS = 150
"""Beyond so many layers neighbours are measured together."""


class Quantizer(Protocol):
    """What makes smaller files of one format from a float32 one."""

    layers: Sequence[str]
    weighted: Sequence[str]

    def float16(self) -> bytes: ...
    def dynamic(self) -> bytes: ...
    def int8(self, layers: Collection[str] | None = None, full: bool = False) -> bytes: ...


@dataclass(frozen=True)
class Attempt:
    """One file that was tried.

    Attributes:
        strategy: what was done, in words.
        precision: what the file is: "int8", "int8-mixed" (some layers in float32), "int8-full", "dynamic", "float16".
        content: the file.
        float_layers: the layers that stayed in float32.
        judged: what its accuracy is; "passed" says whether that will do.
    """

    strategy: str
    precision: str
    content: bytes
    float_layers: tuple[str, ...]
    judged: Mapping

    def as_dict(self) -> dict:
        """For the manifest: all but the content."""
        facts = {"strategy": self.strategy, "precision": self.precision, "size_bytes": len(self.content)}
        return facts | {"float_layers": len(self.float_layers), **self.judged}


def attempts(
    quantizer: Quantizer,
    precision: str,
    judge: Callable[[bytes], Mapping],
    errors: Callable[[], Sequence[tuple[str, float]]],
) -> list[Attempt]:
    """The files that were tried for `precision`, in order. One is enough unless "int8" loses too much.

    `judge` measures a file (its result has "passed"); `errors` gives the layers, the most harmful first.

    Raises:
        NotApplicable: the format or the model has no such precision.
    """
    tried: list[Attempt] = []

    def attempt(strategy: str, made: str, content: bytes, kept: Sequence[str] = ()) -> bool:
        tried.append(Attempt(strategy, made, content, tuple(kept), judge(content)))
        return tried[-1].judged["passed"]

    if precision == "float16":
        attempt("16-bit weights", precision, quantizer.float16())
    elif precision == "dynamic":
        attempt("8-bit weights", precision, quantizer.dynamic())
    elif precision == "int8-full":
        attempt("integers throughout, scales per channel", precision, quantizer.int8(full=True))
    elif not attempt("all layers, scales per channel", "int8", quantizer.int8()):
        ends = _ends(quantizer)
        if len(set(ends)) < len(quantizer.layers):
            attempt("first and last layers in float32", "int8-mixed", _without(quantizer, ends), ends)
        ranked = [layer for layer, _ in errors()]
        for share in WORST_SHARES:
            worst = ranked[: max(1, round(share * len(ranked)))]
            strategy = f"the worst {len(worst)} of {len(quantizer.layers)} layers in float32"
            if attempt(strategy, "int8-mixed", _without(quantizer, worst), worst):
                break
        try:
            attempt("dynamic range: 8-bit weights, float32 activations", "dynamic", quantizer.dynamic())
        except NotApplicable:
            attempt("16-bit weights", "float16", quantizer.float16())
    return tried


def best(tried: Sequence[Attempt]) -> Attempt:
    """The smallest file that passed; if none did, the most accurate."""
    passed = [attempt for attempt in tried if attempt.judged["passed"]]
    if passed:
        return min(passed, key=lambda attempt: len(attempt.content))
    return min(tried, key=lambda attempt: attempt.judged["drop_points"])


def explain(tried: Sequence[Attempt], chosen: Attempt) -> str | None:
    """Why `chosen` is not what was asked for, in words; None if it is."""
    first = tried[0]
    if chosen is first:
        return None
    low, high = first.judged["drop_interval"] or (first.judged["drop_points"],) * 2
    return (
        f"{first.precision} lost {first.judged['drop_points']:.1f} points ({low:.1f} to {high:.1f}); of {len(tried)} files "
        f"tried, the {'smallest that passes' if chosen.judged['passed'] else 'most accurate'} is: {chosen.strategy}"
    )


def layer_errors(
    quantizer: Quantizer, run: Callable[[bytes], np.ndarray], reference: np.ndarray
) -> list[tuple[str, float]]:
    """(layer, error), the largest first: what quantizing this layer alone does to the outputs.

    `run` gives a file's outputs for some calibration examples, `reference` are those of the float32 file, `(n, units)`.
    The error is the root of the mean squared difference. Of more than 150 layers, neighbours share a measurement.
    """
    layers = quantizer.layers
    size = -(-len(layers) // MOST_MEASUREMENTS)
    measured = []
    for start in range(0, len(layers), size):
        group = layers[start : start + size]
        difference = run(quantizer.int8(group)) - reference
        measured += [(layer, float(np.sqrt(np.mean(np.square(difference))))) for layer in group]
    return sorted(measured, key=lambda item: -item[1])


def _ends(quantizer: Quantizer) -> tuple[str, ...]:
    """All up to the first layer with weights, and all from the last one on."""
    layers = list(quantizer.layers)
    first, last = (layers.index(quantizer.weighted[i]) for i in (0, -1))
    return (*layers[: first + 1], *layers[last:])


def _without(quantizer: Quantizer, kept: Collection[str]) -> bytes:
    kept = set(kept)
    return quantizer.int8([layer for layer in quantizer.layers if layer not in kept])
