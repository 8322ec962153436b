"""Functions of a batch as graphs of TensorFlow."""

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["traced"]


def traced(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of a batch, one tensor or several, as a graph for any number of examples.

    It is traced at the first call, which leaves that number open. TensorFlow by itself traces a
    batch as it is and again for the last one, which is shorter: a second each time for a small
    network, ten for a large one. What else changes between batches (the length of texts) is left
    open where it changes first.
    """
    import keras
    import tensorflow as tf

    graph = tf.function(function, reduce_retracing=True, autograph=False)
    is_first = True

    def call(batch: Any) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            graph.get_concrete_function(
                keras.tree.map_structure(
                    lambda values: tf.TensorSpec((None, *np.shape(values)[1:]), values.dtype), batch
                )
            )
        return graph(batch)

    return call
