"""Pixels, token ids or cached features -> batches for training. Augmentation happens here, never in the graph that ships.

What a step sees follows from (seed, step) alone: a training that is resumed in its fifth epoch, and one that reads cached
features instead of pixels, get the batches of the one that ran through.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from recipes.engine.images import Images
from recipes.engine.store import Rows
from recipes.engine.texts import UNNAMED, Ragged, Targets, Texts
from zoo.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "MIXERS",
    "Augmentation",
    "Features",
    "Order",
    "augmenter",
    "balanced_weights",
    "evaluation_batches",
    "feature_batches",
    "timed",
    "training_batches",
]

Augmentation = Literal["flip", "crop", "color", "randaugment", "mixup", "cutmix"]
MIXERS = ("mixup", "cutmix")
"""Those that join two pictures and their targets."""

PIXELS = (0, 255)
SEEDS_A_STEP = 64
"""No augmentation draws more random tensors than this for a batch."""

BUCKET_STEPS = 32
"""Texts are sorted by length within so many shuffled batches: little padding, and yet another mix in every epoch."""

ROUND_LENGTH = 8
"""Batches of texts are as long as a multiple of this, so that few different shapes occur."""


@dataclass(frozen=True)
class Order:
    """In which order training sees `count` examples.

    Attributes:
        count: examples.
        batch_size: examples a step. A last batch that is not full is left out, because a BatchNormalization that trains
            would take its statistics from a handful of pictures; shuffling gives each example the same chance.
        seed: gives every epoch its own order.
        epochs: how many epochs there are.
        first: the epoch to begin with, for a training that is resumed.
        chunk, window: what is too large for memory is shuffled in two steps, so that a disk reads long stretches: the order
            of the chunks (so many rows that lie together), then the rows within `window` consecutive chunks. A window of 0
            shuffles everything.
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

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return max(1, self.count // self.batch_size)

    def dataset(self) -> "tf.data.Dataset":
        """`(step, indices (b,))` for all steps of all epochs, counted from the first step of epoch 0."""
        import tensorflow as tf

        def epoch(number):
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
            return tf.data.Dataset.from_tensor_slices((number * self.steps + tf.range(self.steps), batches))

        size = min(self.batch_size, self.count)
        return tf.data.Dataset.range(self.first, self.epochs, output_type=tf.int32).flat_map(epoch)


@dataclass(frozen=True)
class Features:
    """The tensors of a cut for one split, as they lie on the disk.

    Attributes:
        tensors: one file for each tensor of the cut; a row for each view of each example: view 0 of all examples, then
            view 1, and so on.
        targets: what is to be learned.
        views: how many differently augmented versions of each example there are.
        dtypes: what the model computes each tensor in.
        in_memory: whether the rows are held in memory or read from the disk as they are needed.
        texts: the sentences that the features are of, where they are of sentences.
        of_tokens: for each tensor, whether it has a row for each token of each sentence, not one for each sentence.
        again: the model's own inputs that are needed behind the cut too.
    """

    tensors: tuple[Rows, ...]
    targets: Targets
    views: int
    dtypes: tuple[str, ...]
    in_memory: bool
    texts: Texts | None = None
    of_tokens: tuple[bool, ...] = ()
    again: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts if self.texts is not None else self.targets)


def training_batches(
    images: Images | Texts,
    order: Order,
    *,
    augment: Sequence[Augmentation] = (),
    class_weights: np.ndarray | None = None,
) -> "tf.data.Dataset":
    """Batches of all epochs of `order`: `(inputs, targets[, weights (b,)])`.

    Inputs are pixels, float32 `(b, h, w, 3)` in [0, 255], or for texts a dict of int32 `(b, length)`.

    Raises:
        ConfigError: an unknown augmentation, or more than one of mixup and cutmix.
    """
    import tensorflow as tf

    gather = _gather(images)
    batches = order.dataset().map(
        lambda step, indices: (step, *gather(indices)), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    if augment:
        apply = augmenter(augment, order.seed)
        # One call at a time: the layers draw from a seeded state, and two at once would race for it.
        batches = batches.map(apply)
    else:
        batches = batches.map(lambda step, pixels, targets: (pixels, targets))
    return _weighted(batches, class_weights).prefetch(2)


def feature_batches(features: Features, order: Order, *, class_weights: np.ndarray | None = None) -> "tf.data.Dataset":
    """The same for cached features: `(tensors of the cut, targets[, weights])`; each step draws a view of each example."""
    import tensorflow as tf

    gather = _gather_features(features)

    def read(step, indices):
        drawn = tf.random.stateless_uniform(tf.shape(indices), [order.seed, step], 0, features.views, tf.int32)
        return gather(indices, drawn)

    batches = order.dataset().map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return _weighted(batches, class_weights).prefetch(2)


def evaluation_batches(examples: Images | Texts | Features, batch_size: int) -> "tf.data.Dataset":
    """All examples once, in order: batches `(inputs, targets)` as `training_batches` and `feature_batches` give them."""
    import tensorflow as tf

    indices = tf.data.Dataset.range(len(examples), output_type=tf.int32).batch(batch_size)
    if isinstance(examples, Features):
        gather = _gather_features(examples)
        batches = indices.map(lambda i: gather(i, tf.zeros_like(i)), num_parallel_calls=2, deterministic=True)
    else:
        batches = indices.map(_gather(examples), num_parallel_calls=2, deterministic=True)
    return batches.prefetch(2)


def timed(batches: "tf.data.Dataset", waited: "tf.Variable") -> "tf.data.Dataset":
    """The same batches; `waited` (float64) grows by the seconds that whoever asks for a batch waits for it."""
    import tensorflow as tf

    # zip asks its parts one after the other: the clock is read when the batch is asked for, and again when it is there.
    asked = tf.data.Dataset.counter().map(lambda _: tf.timestamp())

    def note(start, batch):
        with tf.control_dependencies(tf.nest.flatten(batch)):
            added = waited.assign_add(tf.timestamp() - start)
        with tf.control_dependencies([added]):
            return tf.nest.map_structure(tf.identity, batch)

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return tf.data.Dataset.zip((asked, batches)).map(note).with_options(options)


def balanced_weights(targets: np.ndarray) -> np.ndarray:
    """A weight for each label, inverse to how often it occurs in the one-hot `targets`, 1 on average: `(labels,)`."""
    counts = targets.sum(0)
    return np.float32(len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)))


def _weighted(batches: "tf.data.Dataset", class_weights: np.ndarray | None) -> "tf.data.Dataset":
    import tensorflow as tf

    if class_weights is None:
        return batches
    weights = tf.constant(class_weights, tf.float32)
    return batches.map(lambda inputs, targets: (inputs, targets, tf.linalg.matvec(targets, weights)))


def _gather(images: Images | Texts) -> Callable:
    """indices -> (inputs, targets). A memory-mapped array is read batch by batch, never as a whole."""
    import tensorflow as tf

    if isinstance(images, Texts):
        return _gather_texts(images)
    targets = tf.constant(images.targets)
    if isinstance(images.pixels, np.memmap):

        def gather(indices):
            pixels = tf.numpy_function(lambda i: images.pixels[i], [indices], tf.uint8, stateful=False)
            pixels.set_shape((None, *images.pixels.shape[1:]))
            return tf.cast(pixels, tf.float32), tf.gather(targets, indices)

        return gather
    pixels = tf.constant(images.pixels)
    return lambda indices: (tf.cast(tf.gather(pixels, indices), tf.float32), tf.gather(targets, indices))


def _ragged(rows: Ragged):
    """(indices, length, fill) -> `(b, length)`."""
    import tensorflow as tf

    held = tf.RaggedTensor.from_row_splits(tf.constant(rows.values), tf.constant(rows.starts), validate=False)

    def gather(indices, length, fill):
        rows = tf.gather(held, indices).to_tensor(fill)
        return tf.pad(rows, [[0, 0], [0, length - tf.shape(rows, tf.int64)[1]]], constant_values=fill)

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

    ids, targets, lengths = _ragged(texts.ids), _gather_targets(texts.targets), tf.constant(texts.ids.lengths)

    def gather(indices):
        own = tf.gather(lengths, indices)
        length = -(-tf.reduce_max(own) // ROUND_LENGTH) * ROUND_LENGTH
        mask = tf.sequence_mask(own, length, tf.int32)
        inputs = {
            "token_ids": ids(indices, length, texts.pad_id),
            "padding_mask": mask,
            "segment_ids": tf.zeros_like(mask),
        }
        return {name: inputs[name] for name in texts.inputs}, targets(indices, length)

    return gather


def _gather_text_features(features: Features) -> Callable:
    """indices -> (the tensors of the cut and then the inputs that are needed again, targets).

    A tensor with a row a token becomes `(b, length, ...)`, zeros where a sentence has ended.
    """
    import tensorflow as tf

    words, starts = _gather_texts(features.texts), tf.constant(features.texts.ids.starts)
    sources = [tf.constant(rows.load()) if features.in_memory else rows.reader() for rows in features.tensors]

    def gather(indices):
        inputs, targets = words(indices)
        mask = tf.cast(inputs["padding_mask"], tf.bool)
        found = []
        kinds = zip(sources, features.tensors, features.dtypes, features.of_tokens, strict=True)
        for source, rows, dtype, of_tokens in kinds:
            at = indices
            if of_tokens:
                places = tf.gather(starts, indices)[:, None] + tf.range(tf.shape(mask, tf.int64)[1])
                at = tf.boolean_mask(places, mask)
            if features.in_memory:
                values = tf.gather(source, at)
            else:
                values = tf.numpy_function(source, [at], rows.dtype, stateful=False)
                values.set_shape((None, *rows.shape))
            if of_tokens:
                shape = tf.concat([tf.shape(mask), rows.shape], 0)
                values = tf.scatter_nd(tf.cast(tf.where(mask), tf.int32), values, shape)
                values.set_shape((None, None, *rows.shape))
            found.append(tf.cast(values, dtype))
        found += [inputs[name] for name in features.again]
        return found[0] if len(found) == 1 else tuple(found), targets

    return gather


def _gather_features(features: Features) -> Callable:
    """(indices, views) -> (the tensors of the cut, targets)."""
    import tensorflow as tf

    if features.texts is not None:
        gather_texts = _gather_text_features(features)
        return lambda indices, views: gather_texts(indices)
    targets = tf.constant(features.targets)
    sources = [tf.constant(rows.load()) if features.in_memory else rows.reader() for rows in features.tensors]

    def gather(indices, views):
        at = views * len(features) + indices
        tensors = []
        for source, rows, dtype in zip(sources, features.tensors, features.dtypes, strict=True):
            if features.in_memory:
                values = tf.gather(source, at)
            else:
                values = tf.numpy_function(source, [at], rows.dtype, stateful=False)
                values.set_shape((None, *rows.shape))
            tensors.append(tf.cast(values, dtype))
        return tensors[0] if len(tensors) == 1 else tuple(tensors), tf.gather(targets, indices)

    return gather


def _layers(augment: Sequence[str], seed: int):
    """(layers that see pictures alone, the one that mixes pictures and targets or None)."""
    import keras

    for name in augment:
        if name not in get_args(Augmentation):
            raise ConfigError(
                f"no augmentation is called '{name}': expected some of {', '.join(get_args(Augmentation))}"
            )
    if set(MIXERS) <= set(augment):
        raise ConfigError("mixup and cutmix both mix whole pictures: choose one of them")
    layer = keras.layers
    single = {
        "flip": lambda: [layer.RandomFlip("horizontal", seed=seed)],
        "crop": lambda: [
            layer.RandomTranslation(0.08, 0.08, fill_mode="reflect", seed=seed + 1),
            layer.RandomZoom((-0.25, 0.0), fill_mode="reflect", seed=seed + 2),
        ],
        "color": lambda: [
            layer.RandomColorJitter(
                PIXELS,
                brightness_factor=0.2,
                contrast_factor=0.2,
                saturation_factor=0.2,
                hue_factor=0.05,
                seed=seed + 3,
            )
        ],
        "randaugment": lambda: [layer.RandAugment(PIXELS, num_ops=2, factor=0.4, seed=seed + 4)],
    }
    mixers = {
        "mixup": lambda: layer.MixUp(alpha=0.2, seed=seed + 5),
        "cutmix": lambda: layer.CutMix(seed=seed + 6),
    }
    layers = [made for name in single if name in augment for made in single[name]()]
    return layers, next((mixers[name]() for name in mixers if name in augment), None)


def augmenter(augment: Sequence[Augmentation], seed: int) -> Callable:
    """A function for tf.data: (step, pixels, targets) -> (pixels, targets), changed at random by (seed, step).

    Raises:
        ConfigError: an unknown augmentation, or more than one of mixup and cutmix.
    """
    import tensorflow as tf

    layers, mixer = _layers(augment, seed)
    generators = [
        generator
        for layer in [*layers, *filter(None, [mixer])]
        for part in layer._flatten_layers(include_self=True, recursive=True)
        for generator in part._seed_generators
    ]
    first = [generator.state.numpy() for generator in generators]

    def apply(step, pixels, targets):
        for generator, state in zip(generators, first, strict=True):
            generator.state.assign(tf.cast(state, tf.uint32) + tf.cast([0, step * SEEDS_A_STEP], tf.uint32))
        for layer in layers:
            pixels = layer(pixels, training=True)
        pixels = tf.clip_by_value(pixels, *map(float, PIXELS))
        if mixer is not None:
            mixed = mixer({"images": pixels, "labels": targets}, training=True)
            pixels, targets = mixed["images"], mixed["labels"]
        return pixels, targets

    return apply
