"""Which examples -> their pixels, token ids or cached features and their targets, as TensorFlow
functions of indices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graft.recipes.codecs.images import Images
from graft.recipes.codecs.texts import UNNAMED, Ragged, Targets, Texts
from graft.recipes.feed.store import Rows

__all__ = ["Features", "gather_examples", "gather_features", "has_gaps"]

ROUND_LENGTH = 8
"""Batches of texts are as long as a multiple of this, so that few different shapes occur."""


@dataclass(frozen=True)
class Features:
    """The tensors of a cut for one split, as they lie on the disk.

    Attributes:
        tensors: for each tensor of the cut a file for each view, that is each differently augmented
            version of the examples; a row an example.
        targets: what is to be learned.
        dtypes: what the model computes each tensor in.
        in_memory: whether the rows are held in memory or read from the disk as they are needed.
        texts: the sentences that the features are of, where they are of sentences.
        of_tokens: for each tensor, whether it has a row for each token of each sentence, not one
            for each sentence.
        again: the model's own inputs that are needed behind the cut too, of sentences.
        pictures: those that the features are of, where they are needed behind the cut too. Of
            pictures that were changed at random the last one of the `tensors` holds them.
    """

    tensors: tuple[tuple[Rows, ...], ...]
    targets: Targets
    dtypes: tuple[str, ...]
    in_memory: bool
    texts: Texts | None = None
    of_tokens: tuple[bool, ...] = ()
    again: tuple[str, ...] = ()
    pictures: Images | None = None

    def __len__(self) -> int:
        return len(self.texts) if self.texts is not None else self.tensors[0][0].count

    @property
    def views(self) -> int:
        """How many views there are."""
        return len(self.tensors[0])


def gather_examples(images: Images | Texts) -> Callable:
    """indices -> (inputs, targets). A memory-mapped array is read batch by batch, never as a
    whole.
    """
    if isinstance(images, Texts):
        return _gather_texts(images)
    targets, pixels = _rows_of(images.targets), _gather_pixels(images)
    return lambda indices: (pixels(indices), targets(indices))


def _gather_pixels(images: Images) -> Callable:
    """indices -> float32 pixels."""
    import tensorflow as tf

    if isinstance(images.pixels, np.memmap):

        def gather(indices):
            pixels = tf.numpy_function(
                lambda i: images.pixels[i], [indices], tf.uint8, stateful=False
            )
            pixels.set_shape((None, *images.pixels.shape[1:]))
            return tf.cast(pixels, tf.float32)

        return gather
    held = tf.constant(images.pixels)
    return lambda indices: tf.cast(tf.gather(held, indices), tf.float32)


def _rows_of(targets) -> Callable:
    """indices -> rows of an array, or of each array by name; with gaps, pairs by name as `_counted`
    makes them.
    """
    import tensorflow as tf

    held = tf.nest.map_structure(tf.constant, _counted(targets))
    return lambda indices: tf.nest.map_structure(lambda rows: tf.gather(rows, indices), held)


def has_gaps(targets: Targets) -> bool:
    """Whether some answer of some task is not known (NaN)."""
    return isinstance(targets, Mapping) and any(
        isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and np.isnan(rows).any()
        for rows in targets.values()
    )


def _counted(targets):
    """Of tasks with gaps `{name: (targets, what each row counts)}`; others as they are.

    Keras divides the loss of a batch by all of its rows. So that the loss of a task is the mean
    over its answers, whichever batches they fall into, each counts as many rows as there are to an
    answer; a row without one counts 0.
    """
    if not has_gaps(targets):
        return targets
    known = {name: ~np.isnan(rows).any(-1) for name, rows in targets.items()}
    return {
        name: (
            np.where(there[:, None], targets[name], 0),
            np.float32(there * len(there) / max(1, there.sum())),
        )
        for name, there in known.items()
    }


def _ragged(rows: Ragged):
    """(indices, length, fill) -> `(b, length)`."""
    import tensorflow as tf

    held = tf.RaggedTensor.from_row_splits(
        tf.constant(rows.values), tf.constant(rows.starts), validate=False
    )

    def gather(indices, length, fill):
        rows = tf.gather(held, indices).to_tensor(fill)
        return tf.pad(
            rows, [[0, 0], [0, length - tf.shape(rows, tf.int64)[1]]], constant_values=fill
        )

    return gather


def _gather_targets(targets: Targets) -> Callable:
    """(indices, length) -> targets of the batch."""
    import tensorflow as tf

    if isinstance(targets, Ragged):
        gather = _ragged(targets)
        return lambda indices, length: gather(indices, length, UNNAMED)
    if isinstance(targets, np.ndarray):
        held = tf.constant(targets)
        return lambda indices, length: tf.gather(held, indices)
    parts = {name: _gather_targets(part) for name, part in targets.items()}
    return lambda indices, length: {name: part(indices, length) for name, part in parts.items()}


def _gather_texts(texts: Texts) -> Callable:
    """indices -> (token_ids, padding_mask and segment_ids `(b, length)` by name, targets)."""
    import tensorflow as tf

    ids, targets, lengths = (
        _ragged(texts.ids),
        _gather_targets(texts.targets),
        tf.constant(texts.ids.lengths),
    )

    def gather(indices):
        own = tf.gather(lengths, indices)
        length = tf.minimum(-(-tf.reduce_max(own) // ROUND_LENGTH) * ROUND_LENGTH, texts.max_length)
        mask = tf.sequence_mask(own, length, tf.int32)
        inputs = {
            "token_ids": ids(indices, length, texts.pad_id),
            "padding_mask": mask,
            "segment_ids": tf.zeros_like(mask),
        }
        return {name: inputs[name] for name in texts.inputs}, targets(indices, length)

    return gather


def gather_features(features: Features) -> Callable:
    """(indices, views) -> (the tensors of the cut, targets)."""
    import tensorflow as tf

    if features.texts is not None:
        gather_texts = _gather_text_features(features)
        return lambda indices, views: gather_texts(indices)
    targets, readers = _rows_of(features.targets), _readers(features)
    pixels = None if features.pictures is None else _gather_pixels(features.pictures)

    def gather(indices, views):
        at = views * len(features) + indices
        tensors = [
            tf.cast(read(at), dtype) for read, dtype in zip(readers, features.dtypes, strict=True)
        ]
        tensors += [] if pixels is None else [pixels(indices)]
        return tensors[0] if len(tensors) == 1 else tuple(tensors), targets(indices)

    return gather


def _gather_text_features(features: Features) -> Callable:
    """indices -> (the tensors of the cut and then the inputs that are needed again, targets).

    A tensor with a row a token becomes `(b, length, ...)`, zeros where a sentence has ended.
    """
    import tensorflow as tf

    words, starts = _gather_texts(features.texts), tf.constant(features.texts.ids.starts)
    readers = _readers(features)

    def gather(indices):
        inputs, targets = words(indices)
        mask = tf.cast(inputs["padding_mask"], tf.bool)
        places = tf.gather(starts, indices)[:, None] + tf.range(tf.shape(mask, tf.int64)[1])
        found = []
        for read, (rows,), dtype, of_tokens in zip(
            readers, features.tensors, features.dtypes, features.of_tokens, strict=True
        ):
            values = read(tf.boolean_mask(places, mask) if of_tokens else indices)
            if of_tokens:
                shape = tf.concat([tf.shape(mask), rows.shape], 0)
                values = tf.scatter_nd(tf.cast(tf.where(mask), tf.int32), values, shape)
                values.set_shape((None, None, *rows.shape))
            found.append(tf.cast(values, dtype))
        found += [inputs[name] for name in features.again]
        return found[0] if len(found) == 1 else tuple(found), targets

    return gather


def _readers(features: Features) -> list[Callable]:
    """For each tensor of the cut: row numbers, counted through all views -> rows as they are
    stored.
    """
    import tensorflow as tf

    def from_memory(views):
        held = tf.constant(np.concatenate([rows.load() for rows in views]))
        return lambda at: tf.gather(held, at)

    def from_disk(views):
        readers, count, shape = [rows.reader() for rows in views], views[0].count, views[0].shape
        dtype = np.result_type(
            *(rows.dtype for rows in views)
        )  # a view may have exceeded what float16 holds

        def read(at):
            values = np.empty((len(at), *shape), dtype)
            for view in np.unique(at // count):
                values[at // count == view] = readers[view](at[at // count == view] % count)
            return values

        def gather(at):
            values = tf.numpy_function(read, [at], dtype, stateful=False)
            values.set_shape((None, *shape))
            return values

        return gather

    return [
        from_memory(views) if features.in_memory else from_disk(views) for views in features.tensors
    ]
