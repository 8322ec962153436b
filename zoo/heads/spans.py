"""Entities in sequences of IOB2 tags, counted as the CoNLL shared tasks do: a span is right if type
and both ends are.

Figures are those of `seqeval` (a test compares). Tang Kim Sang and Buchholz 2000 (cs/0009008).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["scores", "spans"]


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """`(type, first, last + 1)` of each entity in a sequence of tags.

    A model may write what IOB2 does not allow: an I- that follows nothing of its type begins an
    entity.
    """
    found: set[tuple[str, int, int]] = set()
    start = 0
    for place, tag in enumerate([*tags, "O"]):
        before = tags[place - 1] if place else "O"
        goes_on = tag[0] == "I" and before != "O" and before[2:] == tag[2:]
        if before != "O" and not goes_on:
            found.add((before[2:], start, place))
        if not goes_on:
            start = place
    return found


def scores(truth: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> dict:
    """`{"precision", "recall", "f1", "entities", "per_type": {type: {"precision", "recall", "f1",
    "examples"}}}`.

    Over all sentences together (micro). Precision is 0 where nothing was found, recall where
    nothing is there; where both is so, all three are NaN: nothing can be said.
    """
    right, given, wanted = Counter(), Counter(), Counter()
    for true, guess in zip(truth, predicted, strict=True):
        known, found = spans(true), spans(guess)
        wanted.update(kind for kind, _, _ in known)
        given.update(kind for kind, _, _ in found)
        right.update(kind for kind, _, _ in known & found)

    def figures(hits: int, found: int, there: int) -> dict:
        if not found and not there:
            return {"precision": math.nan, "recall": math.nan, "f1": math.nan, "examples": 0}
        precision, recall = hits / found if found else 0.0, hits / there if there else 0.0
        f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
        return {"precision": precision, "recall": recall, "f1": f1, "examples": there}

    kinds = sorted(wanted | given)
    whole = figures(right.total(), given.total(), wanted.total())
    whole["entities"] = whole.pop("examples")
    return whole | {
        "per_type": {kind: figures(right[kind], given[kind], wanted[kind]) for kind in kinds}
    }
