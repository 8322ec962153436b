"""What the device at hand is good at, measured on it."""

import contextlib
import functools
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["mirrored", "seconds_a_step", "xla_pays"]


def mirrored(wanted: bool) -> AbstractContextManager:
    """If `wanted`, the scope in which a model is copied to all GPUs of this machine and each takes
    its share of a batch.

    Where there is no GPU the logical CPUs count, which is how it is tested.

    Raises:
        ConfigError: there are fewer than two devices.
    """
    import tensorflow as tf

    if not wanted:
        return contextlib.nullcontext()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise ConfigError(
            f"--multi-gpu needs two GPUs or more, and TensorFlow finds {len(devices)} device: "
            "leave it out"
        )
    return _strategy(tuple(device.name for device in devices)).scope()


@functools.cache
def _strategy(devices: tuple[str, ...]) -> "tf.distribute.Strategy":
    """One for all trainings of a process: the devices' exchange is known by keys that a second
    strategy would use again.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def xla_pays() -> bool:
    """Whether training steps are to be compiled by XLA.

    On a CPU they are not: XLA made training of convolutional networks 6 to 12 times slower there.
    On a GPU a small network is timed both ways, once a process.
    """
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return False
    plain, compiled = seconds_a_step(False), seconds_a_step(True)
    say(
        f"XLA on this GPU: {plain / compiled:.2f} times the speed; "
        f"{'used' if compiled < plain else 'not used'}"
    )
    return compiled < plain


def seconds_a_step(compiled: bool, steps: int = 10) -> float:
    """Of training a small residual network of depthwise convolutions, its tracing and compiling
    left out.
    """
    import keras
    import numpy as np
    from keras import layers

    inputs = keras.Input((64, 64, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same")(inputs)
    for _ in range(4):
        y = layers.BatchNormalization()(layers.Conv2D(96, 1)(x))
        y = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(y))
        x = layers.Add()([x, layers.Conv2D(32, 1)(y)])
    model = keras.Model(
        inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    )
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=compiled)
    pixels, classes = np.zeros((32, 64, 64, 3), "float32"), np.zeros(32, "int32")
    for _ in range(2):
        model.train_on_batch(pixels, classes)
    start = time.perf_counter()
    for _ in range(steps):
        model.train_on_batch(pixels, classes)
    return (time.perf_counter() - start) / steps
