"""What is to be learned from examples, as arrays: rows of numbers, or for each token of a text.

`Targets` always go by the name of the task: one task is one of several. Only what Keras is handed
is bare where there is one: `as_keras_takes`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "UNNAMED",
    "Moves",
    "Ragged",
    "Tagged",
    "Target",
    "Targets",
    "as_keras_takes",
    "has_gaps",
    "known_rows",
    "padded_target",
    "ragged_rows",
    "take_targets",
    "target_reader",
    "target_rows",
    "with_rows",
]

UNNAMED = -1
"""The target of a piece that has none: a special token, a later piece of a word, padding."""


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, one after the other: row i is `values[starts[i]:starts[i +
    1]]`.
    """

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

    def take(self, rows: Sequence[int] | np.ndarray) -> "Ragged":
        """Some of them, in this order."""
        return Ragged.of([self[i] for i in rows])


@dataclass(frozen=True)
class Tagged(Ragged):
    """The tags that a model learns, one for each piece, and beside them those it is judged by, one
    for each word: words that were cut off, or that have no piece, are words that it got wrong if
    they have a tag.

    Attributes:
        begun: the word that each piece begins, -1 if none.
        whole: the tag of each word.
        words: of each sentence.
    """

    begun: Ragged
    whole: Ragged
    words: tuple[tuple[str, ...], ...]

    def take(self, rows: Sequence[int] | np.ndarray) -> "Tagged":
        """Some of them, in this order."""
        pieces, begun, whole = (
            part.take(rows) for part in (Ragged(self.values, self.starts), self.begun, self.whole)
        )
        words = tuple(self.words[i] for i in rows)
        return Tagged(pieces.values, pieces.starts, begun, whole, words)


Target: TypeAlias = Any
"""What the task makes of its answers: rows of floats `(n, ...)`, NaN where an answer is not known;
`Ragged` int32 for each piece of a text, -1 where it has none; or uint8 maps of pixels.
"""
Moves = Literal["", "map", "boxes"]
"""What targets are that move with an image: maps `(b, height, width, channels)` of its size; or
boxes `(b, most, 6)`, x0, y0, x1, y1 in its pixels, a label, which is -1 where there is no box, and
something more.
"""
Targets = Mapping[str, Target]
"""One of these for each task, by its name."""


def take_targets(targets: Targets, rows: Sequence[int] | np.ndarray) -> dict[str, Target]:
    """Those of some examples, in this order."""
    return {
        name: part.take(rows) if isinstance(part, Ragged) else part[rows]
        for name, part in targets.items()
    }


def known_rows(target: Target) -> np.ndarray:
    """Whether each example has an answer, bool `(n,)`; a text has its tags, an image its mask."""
    if isinstance(target, Ragged) or not np.issubdtype(target.dtype, np.floating):
        return np.ones(len(target), bool)
    return ~np.isnan(target).any(tuple(range(1, target.ndim)))


def has_gaps(targets: Targets) -> bool:
    """Whether some answer of some task is not known."""
    return not all(known_rows(target).all() for target in targets.values())


def padded_target(target: Target, rows: Sequence[int], length: int) -> np.ndarray:
    """The target of some examples as an array: `(n, units)`, or of tags `(n, length)`."""
    if not isinstance(target, Ragged):
        return target[list(rows)]
    found = np.full((len(rows), length), UNNAMED, np.int32)
    for row, i in zip(found, rows, strict=True):
        row[: len(target[i])] = target[i][:length]
    return found


def target_reader(targets: Targets) -> Callable[..., dict]:
    """(indices, length of the batch where it has one) -> the targets of a batch by task. With gaps
    each is a pair of rows and of what each row counts.

    Keras divides the loss of a batch by all of its rows. So that the loss of a task is the mean
    over its answers, whichever batches they fall into, each counts as many rows as there are to an
    answer; a row without one counts 0.
    """
    import tensorflow as tf

    gaps = has_gaps(targets)

    def reader(target: Target) -> Callable:
        if isinstance(target, Ragged):
            gather = ragged_rows(target)
            return lambda indices, length: gather(indices, length, UNNAMED)
        if not gaps:
            held = tf.constant(target)
            return lambda indices, length: tf.gather(held, indices)
        known = known_rows(target)
        counts = np.float32(known * len(known) / max(1, known.sum()))
        filled = np.where(known.reshape(-1, *[1] * (target.ndim - 1)), target, 0)
        pair = tf.constant(filled), tf.constant(counts)
        return lambda indices, length: tuple(tf.gather(part, indices) for part in pair)

    readers = {name: reader(target) for name, target in targets.items()}

    def read_all(indices: "tf.Tensor", length: "tf.Tensor | None" = None) -> dict:
        return {name: read(indices, length) for name, read in readers.items()}

    return read_all


def target_rows(read: Any) -> "tf.Tensor":
    """The rows of a task in a batch that `target_reader` gave."""
    return read[0] if isinstance(read, tuple) else read


def with_rows(read: Any, rows: "tf.Tensor") -> Any:
    """The same with other rows, as random changes moved them; each counts what it counted."""
    return (rows, *read[1:]) if isinstance(read, tuple) else rows


def ragged_rows(rows: Ragged) -> Callable[["tf.Tensor", "tf.Tensor", int], "tf.Tensor"]:
    """(indices, length, what fills) -> `(b, length)`."""
    import tensorflow as tf

    held = tf.RaggedTensor.from_row_splits(
        tf.constant(rows.values), tf.constant(rows.starts), validate=False
    )

    def gather(indices: "tf.Tensor", length: "tf.Tensor", fill: int) -> "tf.Tensor":
        found = tf.gather(held, indices).to_tensor(fill)
        more = length - tf.shape(found, tf.int64)[1]
        return tf.pad(found, [[0, 0], [0, more]], constant_values=fill)

    return gather


def as_keras_takes(inputs: Any, read: Mapping[str, Any], gaps: bool) -> tuple:
    """`(inputs, targets[, what each row counts])` as `fit` takes it: of one task bare, of several
    by name. `read` is what `target_reader` gives.
    """

    def bare(parts: Mapping[str, Any]) -> Any:
        return dict(parts) if len(parts) > 1 else next(iter(parts.values()), 0)

    if not gaps:
        return inputs, bare(read)
    rows, counts = ({name: pair[part] for name, pair in read.items()} for part in (0, 1))
    return inputs, bare(rows), bare(counts)
