"""Pixels, token ids or cached features -> batches for training. Augmentation happens here, never in
the graph that ships.

What a step sees follows from (seed, step) alone: a training that is resumed in its fifth epoch, and
one that reads cached features instead of pixels, get the batches of the one that ran through.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.codecs.augmentation import MIXERS, Augmentation, augmenter
from graft.recipes.codecs.examples import Examples
from graft.recipes.codecs.targets import as_keras_takes, has_gaps

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "Order",
    "as_it_is",
    "balanced_weights",
    "input_batches",
    "joint_batches",
    "paired_batches",
    "timed",
    "training_batches",
]

STRONG: Augmentation = "randaugment"
"""What a strongly changed version of an image goes through beside the other changes."""

DRAWS_APART = 7919
"""Between the seeds of two draws: more than the layers of an augmentation, whose seeds follow each
other.
"""
BUCKET_STEPS = 32
"""Texts are sorted by length within so many shuffled batches: little padding, and yet another mix
in every epoch.
"""


@dataclass(frozen=True)
class Order:
    """In which order training sees `count` examples.

    Attributes:
        count: examples.
        batch_size: examples a step. A last batch that is not full is left out, because a
            BatchNormalization that trains would take its statistics from a handful of images;
            shuffling gives each example the same chance.
        seed: gives every epoch its own order.
        epochs: how many epochs there are.
        first: the epoch to begin with, for a training that is resumed.
        skip: steps of that epoch to leave out.
        draw: another number gives other random changes to the same examples.
        chunk, window: what is too large for memory is shuffled in two steps, so that a disk reads
            long stretches: the order of the chunks (so many rows that lie together), then the rows
            within `window` consecutive chunks. A window of 0 shuffles everything.
        lengths: of each example, where batches shall hold examples of similar length; `(count,)`.
    """

    count: int
    batch_size: int
    seed: int
    epochs: int = 1
    first: int = 0
    chunk: int = 1
    window: int = 0
    lengths: np.ndarray | None = None
    skip: int = 0
    draw: int = 0

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return max(1, self.count // self.batch_size)

    def dataset(self) -> "tf.data.Dataset":
        """`(step, indices (b,))` for all steps of all epochs, counted from the first step of epoch
        0.
        """
        import tensorflow as tf

        def epoch(number: "tf.Tensor") -> "tf.data.Dataset":
            keys = tf.random.stateless_uniform([self.count], [self.seed, number], dtype=tf.float64)
            if self.window:
                chunks = -(-self.count // self.chunk)
                ranks = tf.argsort(tf.random.stateless_uniform([chunks], [~self.seed, number]))
                own = tf.gather(ranks, tf.range(self.count) // self.chunk)
                keys += tf.cast(own // self.window, tf.float64)
            shuffled = tf.argsort(keys)[: self.steps * size]
            if self.lengths is not None:
                buckets = tf.range(self.steps * size) // (BUCKET_STEPS * size)
                own = tf.cast(tf.gather(tf.constant(self.lengths), shuffled), tf.int64)
                by_length = tf.cast(buckets, tf.int64) * (1 + int(max(self.lengths))) + own
                shuffled = tf.gather(shuffled, tf.argsort(by_length, stable=True))
            batches = tf.reshape(shuffled, [self.steps, size])
            if self.lengths is not None:
                mixed = tf.argsort(tf.random.stateless_uniform([self.steps], [self.seed, ~number]))
                batches = tf.gather(batches, mixed)
            return tf.data.Dataset.from_tensor_slices(
                (number * self.steps + tf.range(self.steps), batches)
            )

        size = min(self.batch_size, self.count)
        return (
            tf.data.Dataset.range(self.first, self.epochs, output_type=tf.int32)
            .flat_map(as_it_is(epoch))
            .skip(self.skip)
        )


def as_it_is(function: Callable) -> Callable:
    """`function` for TensorFlow, which is not to look for Python's `if` and `for` in its source:
    ours has none over tensors, and the search takes seconds.
    """
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def training_batches(
    examples: Examples,
    order: Order,
    *,
    augment: Sequence[Augmentation] = (),
    class_weights: np.ndarray | None = None,
) -> "tf.data.Dataset":
    """Batches of all epochs of `order`: `(inputs, targets[, weights])`, as Keras takes them.

    Args:
        examples: encoded ones, or cached features of them; of these each step draws one of the
            views for each example.
        order: in which they are seen.
        augment: random changes of images; those of cached features are made already.
        class_weights: of one task `(labels,)`: what an example of each label counts.

    Raises:
        ConfigError: an unknown augmentation, or more than one of mixup and cutmix.
    """
    import tensorflow as tf

    read, gaps = examples.reader(order.seed), has_gaps(examples.targets)
    batches = order.dataset().map(
        as_it_is(lambda step, indices: (step, *read(step, indices))),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    if augment and not examples.augmented:
        apply = augmenter(augment, order.seed + DRAWS_APART * order.draw, examples.moving)
        # One call at a time: the layers draw from a seeded state, and two at once would race for
        # it.
        batches = batches.map(as_it_is(apply))
    else:
        batches = batches.map(as_it_is(lambda step, inputs, targets: (inputs, targets)))
    batches = batches.map(as_it_is(lambda inputs, targets: as_keras_takes(inputs, targets, gaps)))
    return _weighted(batches, class_weights).prefetch(2)


def joint_batches(
    labelled: "tf.data.Dataset",
    unlabelled: Examples,
    order: Order,
    augment: Sequence[Augmentation],
    strong: bool = False,
) -> "tf.data.Dataset":
    """`labelled` batches with others beside their inputs: {"labelled", "unlabelled"}, and with
    `strong` the same images after more changes as "strong".

    The others follow `order`. Two images without labels are never joined: what the model says of
    one of them would be learned as the label of both. Examples with positions are padded to one
    length.
    """
    import tensorflow as tf

    single = [name for name in augment if name not in MIXERS]
    others = training_batches(unlabelled, order, augment=single).map(
        lambda inputs, *_: {"unlabelled": inputs}
    )
    if strong:
        # No flip but the user's: whoever leaves it out knows that mirrored digits are none.
        much = tuple(dict.fromkeys((*single, STRONG)))
        changed = training_batches(unlabelled, order, augment=much).map(
            lambda inputs, *_: {"strong": inputs}
        )
        others = tf.data.Dataset.zip((others, changed)).map(lambda weak, other: {**weak, **other})
    joined = tf.data.Dataset.zip((labelled, others)).map(
        lambda batch, beside: ({"labelled": batch[0], **beside}, *batch[1:])
    )
    if unlabelled.positions is None:
        return joined
    pads = unlabelled.pads
    return joined.map(lambda inputs, *targets: (_of_one_length(inputs, pads), *targets))


def paired_batches(
    images: Examples, order: Order, augment: Sequence[Augmentation]
) -> "tf.data.Dataset":
    """Two differently changed versions of each image: `(pixels (2b, h, w, 3), one-hot (2b, b))`.

    Row i and row b + i are of one image, and have the same target.
    """
    import tensorflow as tf

    batches = [
        training_batches(images, replace(order, draw=draw), augment=augment).map(
            lambda pixels, *_: pixels
        )
        for draw in range(2)
    ]
    size = min(order.batch_size, order.count)
    targets = tf.tile(tf.eye(size), [2, 1])
    paired = tf.data.Dataset.zip(tuple(batches)).map(lambda *pair: (tf.concat(pair, 0), targets))
    # Keras warns of an end that it did not foresee.
    return paired.apply(
        tf.data.experimental.assert_cardinality(
            (order.epochs - order.first) * order.steps - order.skip
        )
    )


def input_batches(examples: Examples, batch_size: int) -> "tf.data.Dataset":
    """The inputs of all examples once, in order, unchanged."""
    import tensorflow as tf

    read = examples.input_reader()
    indices = tf.data.Dataset.range(len(examples), output_type=tf.int32).batch(batch_size)
    return indices.map(as_it_is(read), num_parallel_calls=2, deterministic=True).prefetch(2)


def timed(batches: "tf.data.Dataset", waited: "tf.Variable") -> "tf.data.Dataset":
    """The same batches; `waited` (float64) grows by the seconds that whoever asks for a batch waits
    for it.
    """
    import tensorflow as tf

    # zip asks its parts one after the other: the clock is read when the batch is asked for, and
    # again when it is there.
    asked = tf.data.Dataset.counter().map(as_it_is(lambda _: tf.timestamp()))

    def note(start: "tf.Tensor", batch: Any) -> Any:
        with tf.control_dependencies(tf.nest.flatten(batch)):
            added = waited.assign_add(tf.timestamp() - start)
        with tf.control_dependencies([added]):
            return tf.nest.map_structure(tf.identity, batch)

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return tf.data.Dataset.zip((asked, batches)).map(as_it_is(note)).with_options(options)


def balanced_weights(targets: np.ndarray) -> np.ndarray:
    """A weight for each label, inverse to how often it occurs in the one-hot `targets`, 1 on
    average: `(labels,)`.
    """
    counts = targets.sum(0)
    return np.float32(len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)))


def _weighted(batches: "tf.data.Dataset", class_weights: np.ndarray | None) -> "tf.data.Dataset":
    import tensorflow as tf

    if class_weights is None:
        return batches
    weights = tf.constant(class_weights, tf.float32)
    return batches.map(
        as_it_is(lambda inputs, targets: (inputs, targets, tf.linalg.matvec(targets, weights)))
    )


def _of_one_length(kinds: dict, pads: Mapping[str, int]) -> dict:
    """The inputs of each kind of sentences `(b, length[, ...])`, all as long as the longest: token
    ids end with `pad_id`, masks and features with 0.
    """
    import tensorflow as tf

    def has_length(tensor: "tf.Tensor") -> bool:
        return tensor.shape.rank > 1 and tensor.shape[1] is None

    lengths = [tf.shape(tensor)[1] for tensor in tf.nest.flatten(kinds) if has_length(tensor)]
    if not lengths:  # features of whole sentences
        return kinds

    def pad(tensor: "tf.Tensor", fill: int) -> "tf.Tensor":
        if not has_length(tensor):
            return tensor
        more = tf.reduce_max(lengths) - tf.shape(tensor)[1]
        return tf.pad(
            tensor, [[0, 0], [0, more], *[[0, 0]] * (tensor.shape.rank - 2)], constant_values=fill
        )

    def level(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: pad(tensor, pads.get(name, 0)) for name, tensor in part.items()}
        return tf.nest.map_structure(lambda tensor: pad(tensor, 0), part)

    return {kind: level(part) for kind, part in kinds.items()}
