"""What a pass does with each batch of examples, whichever process does it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graft.recipes.codecs.augmentation import Augmentation, augmenter
from graft.recipes.codecs.examples import Examples
from graft.recipes.codecs.targets import target_rows
from graft.recipes.feed.entries import BATCH, VIEW_SEED
from graft.recipes.feed.pipeline import as_it_is

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Column", "TooLargeError", "Work", "batches_in", "examples_in"]


class TooLargeError(Exception):
    """A feature that float16 cannot hold."""


@dataclass(frozen=True)
class Column:
    """A file that a pass fills.

    Attributes:
        source: "computed": the next tensor that the frozen blocks give; "input": an input of the
            model as random changes left it; "target": a target that they moved.
        name: of the input, or of the task of the target.
        by_position: whether it has a row for each position, not for each example.
        stored: the type of the file.
    """

    source: Literal["computed", "input", "target"]
    name: str
    by_position: bool
    stored: str


@dataclass(frozen=True)
class Work:
    """What a pass does with each batch of examples.

    Attributes:
        augment: the random changes.
        names: what the tensors are called that examples are read as; None: no input of the model.
        columns: the files that are filled.
    """

    augment: tuple[Augmentation, ...]
    names: tuple[str | None, ...]
    columns: tuple[Column, ...]

    def in_float32(self) -> "Work":
        """The same, where features exceed what float16 holds."""
        wide = [replace(c, stored="float32") if c.stored == "float16" else c for c in self.columns]
        return replace(self, columns=tuple(wide))

    def batches(self, examples: Examples, first_step: int) -> "tf.data.Dataset":
        """(inputs, targets by task, mask of positions or 0), inputs changed at random by the number
        of the batch, of which the first is `first_step`.
        """
        import tensorflow as tf

        read, positions = examples.reader(VIEW_SEED), examples.positions
        mask = (lambda indices: 0) if positions is None else positions.mask
        batches = tf.data.Dataset.range(len(examples), output_type=tf.int32).batch(BATCH)
        steps = tf.data.Dataset.range(first_step, first_step + len(batches), output_type=tf.int32)
        found = tf.data.Dataset.zip((steps, batches)).map(
            as_it_is(lambda step, indices: (step, *read(step, indices), mask(indices))),
            num_parallel_calls=2,
            deterministic=True,
        )
        if self.augment:
            apply = augmenter(self.augment, VIEW_SEED, examples.moving)
            # One call at a time: the layers draw from a seeded state.
            found = found.map(
                as_it_is(lambda step, inputs, targets, mask: (*apply(step, inputs, targets), mask))
            )
        else:
            found = found.map(as_it_is(lambda step, *others: others))
        return found.prefetch(2)

    def rows(
        self,
        inputs: Any,
        targets: Mapping[str, Any],
        mask: "tf.Tensor",
        outputs: "Sequence[tf.Tensor]",
    ) -> Iterator[np.ndarray]:
        """What each file gets of a batch.

        Args:
            inputs, targets, mask: as `batches` gives them.
            outputs: what the frozen blocks give of `inputs`.

        Raises:
            TooLargeError: a feature that float16 cannot hold.
        """
        computed, given = iter(outputs), self._given(inputs)
        for column in self.columns:
            if column.source == "target":
                value = target_rows(targets[column.name])
            else:
                is_computed = column.source == "computed"
                value = next(computed) if is_computed else given[column.name]
            rows = value.numpy()
            rows = rows[mask.numpy() > 0] if column.by_position else rows
            yield _narrow(rows, column.stored)

    def _given(self, inputs: Any) -> Mapping[str, "tf.Tensor"]:
        """The model's own inputs of a batch, by name, where they are at hand."""
        if isinstance(inputs, dict):
            return inputs
        tensors = inputs if isinstance(inputs, tuple) else (inputs,)
        pairs = zip(self.names, tensors, strict=True)
        return {name: tensor for name, tensor in pairs if name is not None}


def batches_in(count: int) -> int:
    """How many batches a pass over `count` examples has."""
    return -(-count // BATCH)


def examples_in(inputs: Any) -> int:
    """How many examples a batch has."""
    first = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    first = first[0] if isinstance(first, tuple) else first
    return int(first.shape[0])


def _narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if (
        dtype == "float16"
        and not np.isfinite(stored).all()
        and np.isfinite(values.astype("float32")).all()
    ):
        raise TooLargeError
    return stored
