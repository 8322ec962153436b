"""Cached features: the tensors of a cut for one split, as they lie on the disk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graft.recipes.codecs.examples import Examples, Positions, Reader
from graft.recipes.codecs.targets import Moves, Targets, target_reader, with_rows
from graft.zoo.files.rows import Rows

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Features"]


@dataclass(frozen=True)
class Features:
    """Features of encoded examples; see `recipes/codecs/examples.py`.

    Attributes:
        tensors: for each tensor of the cut a file for each view, that is each differently augmented
            version of the examples; a row an example, or a row a position.
        dtypes: what the model computes each tensor in.
        by_position: for each tensor, whether it has a row for each position.
        in_memory: whether the rows are held in memory or read from the disk as they are needed.
        examples: what the features are of.
        again: the model's own inputs that are needed behind the cut too, unchanged. (Of examples
            that were changed at random the last of the `tensors` hold them.)
        moved: targets that random changes moved, as the last of the `tensors` by task.
    """

    tensors: tuple[tuple[Rows, ...], ...]
    dtypes: tuple[str, ...]
    by_position: tuple[bool, ...]
    in_memory: bool
    examples: Examples
    again: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()

    augmented: ClassVar[bool] = True
    moving: ClassVar[Mapping[str, Moves]] = {}
    skipped: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def targets(self) -> Targets:
        """What is to be learned, by task."""
        return self.examples.targets

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each example."""
        return self.examples.names

    @property
    def positions(self) -> Positions | None:
        """Those of the examples."""
        return self.examples.positions

    @property
    def pads(self) -> Mapping[str, int]:
        """What fills a batch, by input."""
        return self.examples.pads

    @property
    def views(self) -> int:
        """How many views there are."""
        return len(self.tensors[0])

    @property
    def row_bytes(self) -> int | None:
        """What reading a row from the disk takes; None: they are in memory."""
        return None if self.in_memory else sum(views[0].row_bytes for views in self.tensors)

    def from_disk(self) -> "Features":
        """The same, read as they are needed."""
        return replace(self, in_memory=False)

    def stretch(self, first: int, end: int) -> "Features":
        """Those of the examples from `first` up to `end`; nothing is read. Other processes find
        the files too.
        """
        starts = None if self.positions is None else self.positions.starts
        tensors = []
        for views, by_position in zip(self.tensors, self.by_position, strict=True):
            a, b = (starts[first], starts[end]) if by_position else (first, end)
            tensors.append(tuple(rows.stretch(int(a), int(b)) for rows in views))
        examples = self.examples.take(np.arange(first, end))
        return replace(self, tensors=tuple(tensors), examples=examples)

    def reader(self, seed: int) -> Reader:
        """(step, indices) -> (the tensors of the cut, targets); each step draws one of the views
        for each example.
        """
        import tensorflow as tf

        read, targets = self._reader(), target_reader(self.targets)
        count = len(self.dtypes) - len(self.moved)

        def gather(step: "tf.Tensor", indices: "tf.Tensor") -> tuple[Any, dict]:
            drawn = tf.random.stateless_uniform(
                tf.shape(indices), [seed, step], 0, self.views, tf.int32
            )
            found = read(indices, drawn)
            length = None if self.positions is None else self.positions.batch_length(indices)
            moved = dict(zip(self.moved, found[count : len(self.dtypes)], strict=True))
            given = targets(indices, length)
            given |= {name: with_rows(given[name], rows) for name, rows in moved.items()}
            return _bare(found[:count] + found[len(self.dtypes) :]), given

        return gather

    def input_reader(self) -> Callable[["tf.Tensor"], Any]:
        """indices -> the tensors of the cut, of the first view."""
        import tensorflow as tf

        read, count = self._reader(), len(self.dtypes) - len(self.moved)

        def gather(indices: "tf.Tensor") -> Any:
            found = read(indices, tf.zeros_like(indices))
            return _bare(found[:count] + found[len(self.dtypes) :])

        return gather

    def _reader(self) -> Callable[["tf.Tensor", "tf.Tensor"], list["tf.Tensor"]]:
        """(indices, views) -> the tensors of the cut and then the inputs that are needed again.

        A tensor with a row a position becomes `(b, length, ...)`, zeros where an example has ended.
        """
        import tensorflow as tf

        readers = [self._rows_reader(views) for views in self.tensors]
        inputs = self.examples.input_reader() if self.again else None

        def gather(indices: "tf.Tensor", views: "tf.Tensor") -> "list[tf.Tensor]":
            at, found = views * len(self) + indices, []
            for read, rows, dtype, by_position in zip(
                readers, self.tensors, self.dtypes, self.by_position, strict=True
            ):
                values = (
                    self._of_positions(read, indices, rows[0].shape) if by_position else read(at)
                )
                found.append(tf.cast(values, dtype))
            if inputs is not None:
                given = inputs(indices)
                found += [given[name] if isinstance(given, dict) else given for name in self.again]
            return found

        return gather

    def _of_positions(
        self, read: Callable, indices: "tf.Tensor", row_shape: Sequence[int]
    ) -> "tf.Tensor":
        import tensorflow as tf

        positions = self.positions
        mask = tf.cast(positions.mask(indices), tf.bool)
        starts = tf.gather(tf.constant(positions.starts), indices)
        places = starts[:, None] + tf.range(tf.shape(mask, tf.int64)[1])
        values = read(tf.boolean_mask(places, mask))
        shape = tf.concat([tf.shape(mask), row_shape], 0)
        values = tf.scatter_nd(tf.cast(tf.where(mask), tf.int32), values, shape)
        values.set_shape((None, None, *row_shape))
        return values

    def _rows_reader(self, views: Sequence[Rows]) -> Callable[["tf.Tensor"], "tf.Tensor"]:
        """Row numbers, counted through all views -> rows as they are stored."""
        import tensorflow as tf

        if self.in_memory:
            held = tf.constant(np.concatenate([rows.load() for rows in views]))
            return lambda at: tf.gather(held, at)
        readers, count, shape = [rows.reader() for rows in views], views[0].count, views[0].shape
        # A view may have exceeded what float16 holds.
        dtype = np.result_type(*(rows.dtype for rows in views))

        def read(at: np.ndarray) -> np.ndarray:
            values = np.empty((len(at), *shape), dtype)
            for view in np.unique(at // count):
                chosen = at // count == view
                values[chosen] = readers[view](at[chosen] % count)
            return values

        def gather(at: "tf.Tensor") -> "tf.Tensor":
            values = tf.numpy_function(read, [at], dtype, stateful=False)
            values.set_shape((None, *shape))
            return values

        return gather


def _bare(tensors: list["tf.Tensor"]) -> Any:
    return tensors[0] if len(tensors) == 1 else tuple(tensors)
