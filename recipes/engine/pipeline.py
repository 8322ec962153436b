"""Pixels in memory -> batches for training. Augmentation happens here, never in the graph that ships."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from recipes.engine.images import Images
from zoo.errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Augmentation", "balanced_weights", "evaluation_batches", "training_batches"]

Augmentation = Literal["flip", "crop", "color", "randaugment", "mixup", "cutmix"]

PIXELS = (0, 255)


def training_batches(
    images: Images,
    batch_size: int,
    seed: int,
    *,
    augment: Sequence[Augmentation] = (),
    class_weights: np.ndarray | None = None,
) -> "tf.data.Dataset":
    """Shuffled batches `(pixels float32 (b, h, w, 3) in [0, 255], targets (b, labels)[, weights (b,)])`.

    The order and the augmentation of each epoch follow from `seed`. A last batch that is not full is left out, because a
    BatchNormalization that trains would take its statistics from a handful of pictures; shuffling gives each picture the
    same chance.

    Raises:
        ConfigError: an unknown augmentation, or more than one of mixup and cutmix.
    """
    import tensorflow as tf

    layers, mixer = _layers(augment, seed)
    count = len(images)
    indices = tf.data.Dataset.range(count).shuffle(count, seed=seed, reshuffle_each_iteration=True)
    indices = indices.batch(min(batch_size, count), drop_remainder=True)
    batches = indices.map(_gather(images), num_parallel_calls=2, deterministic=True)
    if layers or mixer:
        # One call at a time: the layers draw from a seeded state, and two at once would race for it.
        batches = batches.map(_augmenter(layers, mixer))
    if class_weights is not None:
        weights = tf.constant(class_weights, tf.float32)
        batches = batches.map(lambda pixels, targets: (pixels, targets, tf.linalg.matvec(targets, weights)))
    return batches.prefetch(2)


def evaluation_batches(images: Images, batch_size: int) -> "tf.data.Dataset":
    """All pictures once, in order: batches `(pixels float32 (b, h, w, 3) in [0, 255], targets (b, labels))`."""
    import tensorflow as tf

    indices = tf.data.Dataset.range(len(images)).batch(batch_size)
    return indices.map(_gather(images), num_parallel_calls=2, deterministic=True).prefetch(2)


def balanced_weights(images: Images) -> np.ndarray:
    """A weight for each label, inverse to how often it occurs, 1 on average over the pictures: `(labels,)`."""
    counts = images.targets.sum(0)
    return np.float32(len(images) / (np.count_nonzero(counts) * np.maximum(counts, 1)))


def _gather(images: Images):
    """indices -> (pixels, targets). A memory-mapped array is read batch by batch, never as a whole."""
    import tensorflow as tf

    targets = tf.constant(images.targets)
    if isinstance(images.pixels, np.memmap):

        def read(indices):
            return images.pixels[np.sort(indices)]

        def gather(indices):
            indices = tf.sort(indices)  # a disk is read forwards
            pixels = tf.numpy_function(read, [indices], tf.uint8, stateful=False)
            pixels.set_shape((None, *images.pixels.shape[1:]))
            return tf.cast(pixels, tf.float32), tf.gather(targets, indices)

        return gather
    pixels = tf.constant(images.pixels)
    return lambda indices: (tf.cast(tf.gather(pixels, indices), tf.float32), tf.gather(targets, indices))


def _layers(augment: Sequence[str], seed: int):
    """(layers that see pictures alone, the one that mixes pictures and targets or None)."""
    import keras

    for name in augment:
        if name not in get_args(Augmentation):
            raise ConfigError(
                f"no augmentation is called '{name}': expected some of {', '.join(get_args(Augmentation))}"
            )
    if {"mixup", "cutmix"} <= set(augment):
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


def _augmenter(layers: Sequence, mixer):
    import tensorflow as tf

    def apply(pixels, targets):
        for layer in layers:
            pixels = layer(pixels, training=True)
        pixels = tf.clip_by_value(pixels, *map(float, PIXELS))
        if mixer is not None:
            mixed = mixer({"images": pixels, "labels": targets}, training=True)
            pixels, targets = mixed["images"], mixed["labels"]
        return pixels, targets

    return apply
