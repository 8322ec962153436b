"""Sentences -> token ids, once, in one flat array a split; sorted by length, so that batches in order need little padding.

No TensorFlow here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recipes.engine.store import hash_of

__all__ = ["Ragged", "Targets", "Texts", "padded", "token_texts"]

UNNAMED = -1
"""The target of a piece that has none: a special token, a later piece of a word, padding."""


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, one after the other: row i is `values[starts[i]:starts[i + 1]]`."""

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[np.ndarray]) -> "Ragged":
        """From arrays `(length,)` of one type."""
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        return cls(np.concatenate(rows) if rows else np.zeros(0, np.int32), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.values[self.starts[i] : self.starts[i + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Of each row, `(n,)`."""
        return np.diff(self.starts)


Targets = np.ndarray | Ragged | Mapping[str, "np.ndarray | Ragged"]
"""Rows of floats `(n, units)`; or int32 for each piece, -1 where it has none; or one of these for each head by name."""


@dataclass(frozen=True)
class Texts:
    """The sentences of one split, as ids.

    Attributes:
        ids: int32, special tokens included.
        targets: what is to be learned.
        names: what to call each sentence.
        sentences: the text of each, or its words joined by blanks.
        inputs: which of token_ids, padding_mask and segment_ids the model takes.
        pad_id: what fills a batch.
        max_length: the most tokens that a sentence may have here; longer ones were cut.
        truncated: how many were.
    """

    ids: Ragged
    targets: Targets
    names: tuple[str, ...]
    sentences: tuple[str, ...]
    inputs: tuple[str, ...]
    pad_id: int
    max_length: int
    truncated: int

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """A hash of all ids and lengths, in their order."""
        return hash_of(self.ids.values, self.ids.starts)

    @property
    def classes(self) -> np.ndarray:
        """The index of each sentence's label, `(n,)`, where there is one."""
        return self.targets.argmax(-1)


def token_texts(
    rows: Sequence[np.ndarray],
    targets: Targets,
    names: Sequence[str],
    sentences: Sequence[str],
    *,
    inputs: Sequence[str],
    pad_id: int,
    max_length: int,
    truncated: int = 0,
) -> Texts:
    """`Texts` of `rows` (ids of each sentence), shortest first; everything else is put into the same order."""
    order = np.argsort([len(row) for row in rows], kind="stable")

    def sort(values):
        if isinstance(values, Mapping):
            return {name: sort(v) for name, v in values.items()}
        if isinstance(values, Ragged):
            return Ragged.of([values[i] for i in order])
        return values[order] if isinstance(values, np.ndarray) else tuple(values[i] for i in order)

    return Texts(
        Ragged.of([rows[i] for i in order]), sort(targets), sort(tuple(names)), sort(tuple(sentences)), tuple(inputs),
        pad_id, max_length, truncated,
    )  # fmt: skip


def padded(texts: Texts, indices: Sequence[int], length: int | None = None) -> dict[str, np.ndarray]:
    """The inputs of some sentences by name, int32 `(n, length)`; by default as long as the longest of them."""
    rows = [texts.ids[i] for i in indices]
    length = length or max(map(len, rows))
    ids = np.full((len(rows), length), texts.pad_id, np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row[:length], 1
    everything = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    return {name: everything[name] for name in texts.inputs}
