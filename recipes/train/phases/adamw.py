"""AdamW that updates the small variables of a model together."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

__all__ = ["PackedAdamW"]

LARGEST = 65_536
"""Numbers of a variable that is updated with others, at most: of large ones there are few, and to
put them together takes their memory again.
"""


class PackedAdamW(keras.optimizers.AdamW):
    """Keras's AdamW to the bit, with one momentum and one velocity for all small variables.

    A small convolutional network has more than a hundred scales, offsets and kernels of a few
    hundred numbers each. Keras makes some thirty operations for each of them: to trace and prepare
    these took nearly half of the time before the first step. Matrices are left to Keras: the
    gradient of a table of embeddings may be that of a few rows. So is everything where devices
    share a batch.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the momenta and velocities for `variables`."""
        if self.built:
            return
        super(keras.optimizers.Adam, self).build(variables)  # Adam's own makes two for each
        shared = tf.distribute.has_strategy()
        # Numbers, not variables: Keras would take those in a list for the optimizer's own.
        self._packed = [i for i, v in enumerate(variables) if not shared and _is_small(v)]
        self._sizes = [int(np.prod(variables[i].shape)) for i in self._packed]
        rest = [i for i in range(len(variables)) if i not in self._packed]
        own = self.add_optimizer_variables([variables[i] for i in rest], ["momentum", "velocity"])
        self._momentums, self._velocities = (
            [found.get(i) for i in range(len(variables))]
            for found in (dict(zip(rest, made, strict=True)) for made in own)
        )
        self._moments = [
            self.add_variable((sum(self._sizes),), name=f"packed_{name}")
            for name in ("momentum", "velocity")
            if self._packed
        ]

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        if tf.distribute.has_strategy():
            super()._apply_weight_decay(variables)
            return
        # Keras's own works the rate out for each of them.
        rate = ops.cast(self.learning_rate, "float32")
        for variable in map(_value, variables):
            if self._use_weight_decay(variable):
                decay = tf.cast(self.weight_decay, variable.dtype)
                variable.assign_sub(variable * decay * tf.cast(rate, variable.dtype))

    def _backend_update_step(
        self, grads: Sequence, trainable_variables: Sequence, learning_rate: Any
    ) -> None:
        found = {
            self._get_variable_index(v): g for g, v in zip(grads, trainable_variables, strict=True)
        }
        packed = [found.pop(i, None) for i in self._packed]
        if any(gradient is not None for gradient in packed):
            self._update_packed(packed, learning_rate)
        if found:
            rest = [(g, self._trainable_variables[i]) for i, g in found.items()]
            super()._backend_update_step(*zip(*rest, strict=True), learning_rate)

    def _update_packed(self, gradients: Sequence, learning_rate: Any) -> None:
        """Adam's step for all packed variables; a variable without a gradient stays as it is."""
        momentum, velocity = self._moments
        flat = [
            tf.zeros(size) if gradient is None else tf.reshape(gradient, [size])
            for size, gradient in zip(self._sizes, gradients, strict=True)
        ]
        gradient = tf.concat(flat, axis=0)
        step = ops.cast(self.iterations + 1, "float32")
        powers = [ops.power(ops.cast(b, "float32"), step) for b in (self.beta_1, self.beta_2)]
        rate = ops.cast(learning_rate, "float32") * ops.sqrt(1 - powers[1]) / (1 - powers[0])
        changes = [
            (gradient - momentum) * (1 - self.beta_1),
            (ops.square(gradient) - velocity) * (1 - self.beta_2),
        ]
        if any(gradient is None for gradient in gradients):
            known = [float(gradient is not None) for gradient in gradients]
            changes = [change * np.repeat(np.float32(known), self._sizes) for change in changes]
        momentum.assign_add(changes[0])
        velocity.assign_add(changes[1])
        moved = ops.multiply(momentum, rate) / (ops.sqrt(velocity) + self.epsilon)
        parts = tf.split(moved, self._sizes)
        for i, part, given in zip(self._packed, parts, gradients, strict=True):
            if given is not None:
                variable = self._trainable_variables[i].value
                variable.assign_sub(tf.reshape(part, variable.shape))


def _value(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _is_small(variable: keras.Variable) -> bool:
    size = int(np.prod(variable.shape))
    return len(variable.shape) != 2 and size <= LARGEST and variable.dtype == "float32"
