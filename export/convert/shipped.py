"""The last stretch of the graph of a file: from what the graph that trains gives to the answers."""

from collections.abc import Mapping
from typing import Any

import keras

from graft.zoo.heads.kind import Kind

__all__ = ["shipped_model"]


class _Shipped(keras.layers.Layer):
    """What the file gives of one output; for tracing only, so it is not registered for saving."""

    def __init__(self, kind: Kind, output: str, size: tuple[int, int]) -> None:
        super().__init__(name=f"{output}_shipped", dtype="float32")
        self.kind, self.output_name, self.size = kind, output, size

    def call(self, values: Any) -> dict[str, Any]:
        """By the names of the file's outputs."""
        return self.kind.ship(self.output_name, values, self.size)


def shipped_model(model: keras.Model, kinds: Mapping[str, Kind]) -> keras.Model:
    """`model` as its files give its answers: itself, where all `kinds` train what they
    give. Weights are shared.

    Args:
        model: functional.
        kinds: of its outputs, by name.
    """
    if all(type(kind).ship is Kind.ship for kind in kinds.values()):
        return model
    given: Any = model._inputs_struct
    outputs = model.output
    if any(kind.alone for kind in kinds.values()):
        given = keras.tree.map_structure(
            lambda t: keras.Input(batch_shape=(1, *t.shape[1:]), dtype=t.dtype, name=t.name), given
        )
        outputs = model(given, training=False)
    if not isinstance(outputs, dict):
        outputs = dict(zip(kinds, keras.tree.flatten(outputs), strict=True))
    size = model.inputs[0].shape[1:3]
    found: dict[str, Any] = {}
    for name, tensor in outputs.items():
        found |= _Shipped(kinds[name], name, size)(tensor)
    return keras.Model(given, found, name=model.name)
