"""What an encoded split is to those who feed, train and measure: examples, whatever they are of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graft.recipes.codecs.targets import Moves, Targets

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Examples", "Positions", "Reader"]

ROUND_LENGTH = 8
"""Batches are as long as a multiple of this, so that few different shapes occur."""

Reader = Callable[["tf.Tensor", "tf.Tensor"], tuple[Any, dict]]
"""(step, indices `(b,)`) -> (inputs, targets by task), a TensorFlow function."""


@dataclass(frozen=True)
class Positions:
    """The positions of examples that have some (the tokens of a text), of different number.

    Attributes:
        lengths: of each example, `(n,)`.
        starts: where those of each example begin among all, `(n + 1,)`.
        longest: the most that an example may have.
    """

    lengths: np.ndarray
    starts: np.ndarray
    longest: int

    def batch_length(self, indices: "tf.Tensor") -> "tf.Tensor":
        """How long a batch of these examples is."""
        import tensorflow as tf

        own = tf.gather(tf.constant(self.lengths), indices)
        return tf.minimum(-(-tf.reduce_max(own) // ROUND_LENGTH) * ROUND_LENGTH, self.longest)

    def mask(self, indices: "tf.Tensor") -> "tf.Tensor":
        """Which positions of a batch count, int32 `(b, length)`."""
        import tensorflow as tf

        own = tf.gather(tf.constant(self.lengths), indices)
        return tf.sequence_mask(own, self.batch_length(indices), tf.int32)


class Examples(Protocol):
    """An encoded split.

    Attributes:
        targets: what is to be learned, by task.
        names: what to call each example.
        skipped: a message for each record that could not be read.
        positions: where examples have some; None: each is one row.
        pads: what fills a batch, by input; where it is 0 an input is missing.
        row_bytes: what reading a row from the disk takes; None: they are in memory.
        augmented: whether random changes have been made to them already.
        moving: tasks whose targets move with the inputs, and what these are.
    """

    targets: Targets
    names: tuple[str, ...]

    def __len__(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def skipped(self) -> tuple[str, ...]: ...
    @property
    def positions(self) -> Positions | None: ...
    @property
    def pads(self) -> Mapping[str, int]: ...
    @property
    def row_bytes(self) -> int | None: ...
    @property
    def augmented(self) -> bool: ...
    @property
    def moving(self) -> Mapping[str, Moves]: ...
    def take(self, rows: Sequence[int] | np.ndarray) -> "Examples": ...
    def traces(self) -> Mapping[str, np.ndarray]:
        """By which each example is known again; see `recipes/data/membership.py`."""
        ...

    def reader(self, seed: int) -> Reader:
        """What reads a batch of a training with this seed."""
        ...

    def input_reader(self) -> Callable[["tf.Tensor"], Any]:
        """What reads the inputs of a batch, unchanged: indices -> inputs."""
        ...
