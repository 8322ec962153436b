"""What the device at hand is good at, measured on it."""

import functools
import time

from recipes.engine.progress import say

__all__ = ["seconds_a_step", "xla_pays"]


@functools.cache
def xla_pays() -> bool:
    """Whether training steps are to be compiled by XLA.

    On a CPU they are not: XLA made training of convolutional networks 6 to 12 times slower there. On a GPU a small network
    is timed both ways, once a process.
    """
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return False
    plain, compiled = seconds_a_step(False), seconds_a_step(True)
    say(f"XLA on this GPU: {plain / compiled:.2f} times the speed; {'used' if compiled < plain else 'not used'}")
    return compiled < plain


def seconds_a_step(compiled: bool, steps: int = 10) -> float:
    """Of training a small residual network of depthwise convolutions, its tracing and compiling left out."""
    import keras
    import numpy as np
    from keras import layers

    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same")(inputs)
    for _ in range(4):
        y = layers.BatchNormalization()(layers.Conv2D(96, 1)(x))
        y = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(y))
        x = layers.Add()([x, layers.Conv2D(32, 1)(y)])
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=compiled)
    pixels, classes = np.zeros((32, 64, 64, 3), "float32"), np.zeros(32, "int32")
    for _ in range(2):
        model.train_on_batch(pixels, classes)
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(pixels, classes)
    return (time.perf_counter() - start) / steps
