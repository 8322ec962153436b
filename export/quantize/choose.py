"""Which 8-bit file to ship: int8 where its accuracy holds, and else the quickest (or smallest) file
that keeps it.

Networks with squeeze-and-excite, swish or hard-swish often collapse when every tensor has 8 bits,
because a few tensors have ranges that 256 steps cannot cover. What can stay in float32 is looked
for in this order: the first and the last layers; then the layers that cost most, found by
quantizing each alone and looking at the outputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from graft.export.quantize.layer_errors import mixed_file_maker
from graft.export.quantize.quantizer import Quantizer
from graft.zoo.errors import ArtifactError, ExportError, NotApplicable

__all__ = [
    "PRECISIONS",
    "Attempt",
    "Preference",
    "best_attempt",
    "explain_choice",
    "try_precision",
]

Preference = Literal["latency", "size"]
PRECISIONS = ("float16", "dynamic", "int8", "int8-full")
SAME_LATENCY_RATIO = 1.1
"""Of two files whose latencies are nearer than that, the smaller one is taken."""
FLOAT_LAYER_SHARES = (0.05, 0.15, 0.3)
"""The shares of the layers, the most harmful first, that stay in float32: one attempt each."""


@dataclass(frozen=True)
class Attempt:
    """One file that was tried.

    Attributes:
        strategy: what was done, in words.
        precision: what the file is: "int8", "int8-full", "dynamic", "float16"; "int8-mixed" and
            "float16-mixed" have some layers in float32.
        content: the file.
        float_layers: the layers that stayed in float32.
        judged: what it is worth; "status" says whether that will do.
    """

    strategy: str
    precision: str
    content: bytes
    float_layers: tuple[str, ...]
    judged: Mapping

    def as_dict(self) -> dict:
        """For the manifest: all but the content."""
        facts = {
            "strategy": self.strategy,
            "precision": self.precision,
            "size_bytes": len(self.content),
        }
        return facts | {"float_layers": len(self.float_layers), **self.judged}


def try_precision(
    quantizer: Quantizer,
    precision: str,
    judge: Callable[[bytes, str], Mapping],
    errors: Callable[[str], Sequence[tuple[str, float]]],
) -> list[Attempt]:
    """Make files of a precision until one will do.

    One is enough unless "int8" or "float16" loses too much.

    Args:
        quantizer: of the format.
        precision: one of `PRECISIONS`.
        judge: measures a file of some precision; its result has "passed".
        errors: gives the layers of a precision, the most harmful first.

    Returns:
        The files that were tried, in order.

    Raises:
        NotApplicable: the format or the model has no such precision.
    """
    tried: list[Attempt] = []

    def attempt(
        strategy: str, made: str, make: Callable[[], bytes], kept: Sequence[str] = ()
    ) -> bool:
        try:
            content = make()
            tried.append(Attempt(strategy, made, content, tuple(kept), judge(content, made)))
        except (ExportError, ArtifactError) as error:
            if not tried or isinstance(error, NotApplicable):
                raise
            return False  # another way may do
        return tried[-1].judged["passed"]

    if precision == "dynamic":
        attempt("8-bit weights", precision, quantizer.dynamic)
        return tried
    if precision == "int8-full":
        attempt(
            "integers throughout, scales per channel", precision, lambda: quantizer.int8(full=True)
        )
        return tried
    make = mixed_file_maker(quantizer, precision)
    words = {"float16": "all layers, 16-bit weights", "int8": "all layers, scales per channel"}[
        precision
    ]
    if attempt(words, precision, make):
        return tried

    def keep(kept: Sequence[str], strategy: str) -> bool:
        float_layers = set(kept)
        rest = [layer for layer in quantizer.layers if layer not in float_layers]
        return bool(rest and kept) and attempt(
            strategy, f"{precision}-mixed", lambda: make(rest), kept
        )

    keep(_first_and_last(quantizer), "first and last layers in float32")
    ranked = [layer for layer, _ in errors(precision)]
    for share in FLOAT_LAYER_SHARES:
        worst = ranked[: max(1, round(share * len(ranked)))]
        if keep(worst, f"the worst {len(worst)} of {len(ranked)} layers in float32"):
            break
    if precision == "int8":
        try:
            attempt(
                "dynamic range: 8-bit weights, float32 activations", "dynamic", quantizer.dynamic
            )
        except NotApplicable:
            attempt("16-bit weights", "float16", quantizer.float16)
    return tried


def best_attempt(
    tried: Sequence[Attempt], prefer: Preference, latency: Callable[[bytes], float]
) -> Attempt:
    """The quickest or the smallest file that passed, as `prefer` says; if none did, the one that
    loses least.

    `latency` measures a file; of files that are about as quick the smaller one is taken.
    """
    passed = [attempt for attempt in tried if attempt.judged["passed"]]
    if not passed:
        order = ("undecided", "fail")
        keys = ("drop_points", "max_abs_diff")
        return min(
            tried,
            key=lambda a: (
                order.index(a.judged["status"]),
                # An answer that is no number has lost everything.
                not math.isfinite(a.judged["max_abs_diff"]),
                *(a.judged[key] for key in keys),
            ),
        )
    if prefer == "latency" and len(passed) > 1:
        taken = [(latency(attempt.content), attempt) for attempt in passed]
        fastest = min(milliseconds for milliseconds, _ in taken)
        passed = [
            attempt
            for milliseconds, attempt in taken
            if milliseconds <= SAME_LATENCY_RATIO * fastest
        ]
    return min(passed, key=lambda attempt: len(attempt.content))


def explain_choice(tried: Sequence[Attempt], chosen: Attempt, prefer: Preference) -> str | None:
    """Why `chosen` is not what was asked for, in words; None if it is."""
    first = tried[0]
    if chosen is first:
        return None
    low, high = first.judged["drop_interval"] or (first.judged["drop_points"],) * 2
    fault = (
        f"{first.precision} lost {first.judged['drop_points']:.1f} points of "
        f"{first.judged['figure']} ({low:.1f} to {high:.1f})"
    )
    if first.precision == "float16":
        fault = f"float16 differed by {first.judged['max_abs_diff']:.3f}"
    passed = sum(attempt.judged["passed"] for attempt in tried)
    if not passed:
        return (
            f"{fault}; none of {len(tried)} files tried passes, the one that loses least is: "
            f"{chosen.strategy}"
        )
    if passed == 1:
        return (
            f"{fault}; of {len(tried)} files tried, the only one that passes is: {chosen.strategy}"
        )
    sort = "quickest" if prefer == "latency" else "smallest"
    return f"{fault}; of {len(tried)} files tried {passed} pass, the {sort} is: {chosen.strategy}"


def _first_and_last(quantizer: Quantizer) -> tuple[str, ...]:
    """All up to the first layer with weights, and all from the last one on."""
    layers = list(quantizer.layers)
    first, last = (layers.index(quantizer.weighted[i]) for i in (0, -1))
    return (*layers[: first + 1], *layers[last:])
