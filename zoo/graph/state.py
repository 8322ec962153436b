"""Weights and random numbers that are set or copied, and what Keras derives from them.

Some layers compute with constants that they derive from their variables: `Normalization` divides by
what `finalize_state` made of its mean and variance. `set_weights` changes the variables alone, and
a clone has the constants of a fresh layer. Every place that sets or copies weights goes through
here.
"""

import functools
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

__all__ = ["clone_model", "refresh_derived_state", "set_seed", "set_weights"]


def set_seed(seed: int) -> None:
    """Seed what initial weights, dropout and shuffles are drawn from: Python's and NumPy's numbers,
    and the generator of layers that have none of their own (stochastic depth in ConvNeXt).

    `keras.utils.set_random_seed` seeds TensorFlow's own generator too, from which nothing in Graft
    draws, and for that TensorFlow forgets every function that it has prepared for execution. To
    prepare the training step of a small network again takes longer than an epoch on 200 images. So
    that generator is seeded once, with the same number in every process. And it makes a new
    generator for those layers, of which functions that are traced already know nothing.
    """
    from keras.src.random.seed_generator import global_seed_generator

    _seed_tensorflow()
    state = global_seed_generator().state  # before the others: to make one, Keras draws a number
    state.assign(np.array([seed, 0], state.dtype))
    random.seed(seed)
    np.random.seed(seed)


@functools.cache
def _seed_tensorflow() -> None:
    import keras

    keras.utils.set_random_seed(0)


def set_weights(model: "keras.Model", values: Sequence[np.ndarray]) -> None:
    """Set all variables of `model`, in the order of `model.get_weights()`, and derive again what
    follows from them.
    """
    model.set_weights(values)
    refresh_derived_state(model)


def refresh_derived_state(model: "keras.Model") -> None:
    """Let each layer of `model` compute anew what it derives from its variables.

    Functions that were traced before keep the constants of then: derive before tracing.
    """
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if not layer.variables:  # what Discretization derives comes with its configuration
            continue
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
        elif _loads_its_own_way(layer):
            store: dict[str, object] = {}
            layer.save_own_variables(store)
            layer.load_own_variables(store)


def clone_model(
    model: "keras.Model", inputs: "keras.KerasTensor | None" = None, fresh: bool = False
) -> "keras.Model":
    """Copy a functional model.

    Args:
        model: what is copied.
        inputs: what takes the place of its inputs; None: new ones.
        fresh: whether the weights are new random ones, not those of `model`. Preprocessing that was
            adapted to data (`Normalization`) is kept: it is part of what the model expects.

    Returns:
        A model with weights of its own.
    """
    import keras

    copy = keras.models.clone_model(model, input_tensors=inputs)
    if not fresh:
        set_weights(copy, model.get_weights())
        return copy
    for old, new in zip(_layers(model), _layers(copy), strict=True):
        if hasattr(old, "adapt") and old.variables:
            for variable, value in zip(new.variables, old.variables, strict=True):
                variable.assign(value)
    refresh_derived_state(copy)
    return copy


def _layers(model: "keras.Model") -> "list[keras.layers.Layer]":
    return list(model._flatten_layers(include_self=False, recursive=True))


def _loads_its_own_way(layer: "keras.layers.Layer") -> bool:
    """Whether a layer that is not Keras's says itself how its variables are loaded: it may derive
    something then.
    """
    import keras

    for kind in type(layer).__mro__:
        if "load_own_variables" in vars(kind):
            return kind is not keras.layers.Layer and not kind.__module__.startswith(
                ("keras.", "keras_hub.")
            )
    return False
