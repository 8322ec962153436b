"""Texts: token ids, once, in one flat array a split; sorted by length, so that batches in order
need little padding. No TensorFlow until they are read.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.recipes.codecs.examples import Positions, Reader
from graft.recipes.codecs.targets import (
    Moves,
    Ragged,
    Tagged,
    Targets,
    ragged_rows,
    take_targets,
    target_reader,
)
from graft.recipes.data.traces import short_digest, words_digest
from graft.zoo.hashing import hash_of
from graft.zoo.words import WordRule, choose_word_rule

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Texts", "padded", "sorted_texts", "token_inputs"]


@dataclass(frozen=True)
class Texts:
    """The sentences of one split, as ids; see `examples.Examples`.

    Attributes:
        ids: int32, special tokens included.
        targets: what is to be learned, by task.
        names: what to call each sentence.
        sentences: the text of each, or its words joined by blanks.
        inputs: which of token_ids, padding_mask and segment_ids the model takes.
        pad_id: what fills a batch.
        max_length: the most tokens that a sentence may have here; longer ones were cut.
        truncated: how many were.
        unknown_share: of their tokens, those that the tokenizer has no piece for, 0 to 1.
    """

    ids: Ragged
    targets: Targets
    names: tuple[str, ...]
    sentences: tuple[str, ...]
    inputs: tuple[str, ...]
    pad_id: int
    max_length: int
    truncated: int = 0
    unknown_share: float = 0.0

    skipped: ClassVar[tuple[str, ...]] = ()
    row_bytes: ClassVar[None] = None
    augmented: ClassVar[bool] = False
    moving: ClassVar[Mapping[str, Moves]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """A hash of all ids and lengths, in their order."""
        return hash_of(self.ids.values, self.ids.starts)

    @cached_property
    def positions(self) -> Positions:
        """Their tokens."""
        return Positions(self.ids.lengths, self.ids.starts, self.max_length)

    @property
    def pads(self) -> Mapping[str, int]:
        """What fills a batch: ids, of other inputs 0."""
        return {"token_ids": self.pad_id}

    @cached_property
    def word_rule(self) -> WordRule | None:
        """How a text is cut into words like those that are tagged here; None where none are."""
        tagged = [part for part in self.targets.values() if isinstance(part, Tagged)]
        return choose_word_rule(tagged[0].words) if tagged else None

    def traces(self) -> Mapping[str, np.ndarray]:
        """By which each sentence is known again: its content, and its words."""
        contents = [
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            for text in self.sentences
        ]
        return {
            "contents": np.array(list(map(short_digest, contents)), np.uint64),
            "looks": np.array(list(map(words_digest, self.sentences)), np.uint64),
        }

    def take(self, rows: Sequence[int] | np.ndarray) -> "Texts":
        """Some of them, in this order."""
        return Texts(
            self.ids.take(rows),
            take_targets(self.targets, rows),
            tuple(self.names[i] for i in rows),
            tuple(self.sentences[i] for i in rows),
            self.inputs,
            self.pad_id,
            self.max_length,
            self.truncated,
            self.unknown_share,
        )

    def reader(self, seed: int) -> Reader:
        """What reads inputs and targets of a batch; the seed changes nothing."""
        inputs, targets = self.input_reader(), target_reader(self.targets)
        return lambda step, indices: (
            inputs(indices),
            targets(indices, self.positions.batch_length(indices)),
        )

    def input_reader(self) -> Callable[["tf.Tensor"], dict[str, "tf.Tensor"]]:
        """indices -> token_ids, padding_mask and segment_ids, int32 `(b, length)`, by name."""
        import tensorflow as tf

        ids = ragged_rows(self.ids)

        def gather(indices: "tf.Tensor") -> "dict[str, tf.Tensor]":
            mask = self.positions.mask(indices)
            inputs = {
                "token_ids": ids(indices, self.positions.batch_length(indices), self.pad_id),
                "padding_mask": mask,
                "segment_ids": tf.zeros_like(mask),
            }
            return {name: inputs[name] for name in self.inputs}

        return gather


def sorted_texts(texts: Texts) -> Texts:
    """The same, shortest first."""
    return texts.take(np.argsort(texts.ids.lengths, kind="stable"))


def padded(
    texts: Texts, indices: Sequence[int] | np.ndarray, length: int | None = None
) -> dict[str, np.ndarray]:
    """The inputs of some sentences by name, int32 `(n, length)`; by default as long as the longest
    of them.
    """
    return token_inputs([texts.ids[i] for i in indices], texts.inputs, texts.pad_id, length)


def token_inputs(
    rows: Sequence[np.ndarray], inputs: Iterable[str], pad_id: int, length: int | None = None
) -> dict[str, np.ndarray]:
    """token_ids, padding_mask and segment_ids, those that `inputs` names, int32 `(n, length)`, from
    the ids of each text.
    """
    length = length or max(map(len, rows))
    ids = np.full((len(rows), length), pad_id, np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row[:length], 1
    everything = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    return {name: everything[name] for name in inputs}
