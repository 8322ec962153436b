"""Adapting a trained model with nothing but unlabelled images of the target: no source data are
needed any more.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed import pipeline
from graft.zoo.errors import ConfigError
from graft.zoo.terminal import progress

if TYPE_CHECKING:
    import keras

__all__ = ["adabn", "normalizations", "tent"]

LEARNING_RATE = 1e-3
"""Tent's, with Adam (Wang et al. 2021, section 4)."""
RANDOM = ("rate", "drop_path_rate", "stddev")
"""What Keras layers call how much they change at random: dropouts, stochastic depth, noise."""


def adabn(model: "keras.Model", images: Examples, batch_size: int, seed: int) -> None:
    """Give every BatchNormalization of `model` the statistics of `images` (Li et al. 2018,
    arXiv:1603.04779).

    Raises:
        ConfigError: there is none.
    """
    layers = normalizations(model, "adabn")
    before = [(layer.trainable, layer.momentum) for layer in layers]
    for layer in layers:
        layer.trainable, layer.momentum = True, 0.0  # what it knows is the last batch
    order = pipeline.Order(len(images), batch_size, seed)
    sums = [[0.0, 0.0] for _ in layers]
    with _nothing_random(model), progress("adabn", order.steps) as advance:
        for inputs, *_ in pipeline.training_batches(images, order):
            model(inputs, training=True)
            for layer, own in zip(layers, sums, strict=True):
                mean, variance = np.float64(layer.moving_mean), np.float64(layer.moving_variance)
                own[0] += mean
                own[1] += variance + mean**2
            advance()
    for layer, (trainable, momentum), (mean, square) in zip(layers, before, sums, strict=True):
        layer.trainable, layer.momentum = trainable, momentum
        # Of all batches as one: the mean of their variances alone would leave out how far apart
        # their means are.
        mean, square = mean / order.steps, square / order.steps
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(square - mean**2)


def tent(model: "keras.Model", images: Examples, batch_size: int, seed: int) -> None:
    """Make `model` surer of `images` by the scales and offsets of its BatchNormalizations.

    These use each batch's own statistics meanwhile, and keep those of all `images` (Wang et al.
    2021, arXiv:2006.10726).

    Raises:
        ConfigError: there is no BatchNormalization.
    """
    import keras
    import tensorflow as tf

    from graft.recipes.adapt.methods import entropy

    layers = normalizations(model, "tent")
    variables = [v for layer in layers for v in (layer.gamma, layer.beta) if v is not None]
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    optimizer.build(variables)
    for layer in layers:
        layer.trainable = True

    @tf.function
    def step(inputs: "tf.Tensor") -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(entropy(model(inputs, training=True)))
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    order = pipeline.Order(len(images), batch_size, seed)
    with _nothing_random(model), progress("tent", order.steps) as advance:
        for inputs, *_ in pipeline.training_batches(images, order):
            step(inputs)
            advance()
    adabn(model, images, batch_size, seed)


@contextlib.contextmanager
def _nothing_random(model: "keras.Model") -> Iterator[None]:
    """Dropout, noise and stochastic depth of `model` do nothing meanwhile: what it ships with are
    statistics of whole features, the same ones each time.
    """
    found = [
        (layer, name, getattr(layer, name))
        for layer in model._flatten_layers(include_self=False, recursive=True)
        for name in RANDOM
        if isinstance(getattr(layer, name, None), int | float)
    ]
    for layer, name, _ in found:
        setattr(layer, name, 0.0)
    try:
        yield
    finally:
        for layer, name, value in found:
            setattr(layer, name, value)


def normalizations(model: "keras.Model", method: str) -> list:
    """Every BatchNormalization in `model`.

    Raises:
        ConfigError: there is none, which `method` needs.
    """
    found = [
        layer
        for layer in model._flatten_layers(include_self=False, recursive=True)
        if type(layer).__name__ == "BatchNormalization"
    ]
    if not found:
        raise ConfigError(
            f"{method} changes what BatchNormalization knows of the data, and '{model.name}' has "
            f"none: leave {method} out "
            "of --methods, or take a backbone that has it"
        )
    return found
