"""The frozen graph of a model, up to its cuts: what names it, what it needs, what runs it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.zoo.graph.cuts import nodes_of, split_at
from graft.zoo.hashing import hash_of

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["Cut", "FrozenGraph", "FrozenPart", "cut_key", "is_of_positions", "row_shape"]

Cut = Sequence["keras.KerasTensor"]

NO_EFFECT = ("name", "trainable", "momentum")
"""Settings of a layer that do not change what it gives in inference mode."""


def cut_key(cut: Cut) -> tuple[int, ...]:
    """What tells a cut from the others of its graph."""
    return tuple(map(id, cut))


def is_of_positions(tensor: "keras.KerasTensor") -> bool:
    """Whether a tensor has a row for each position, `(batch, length, ...)`, and the length is left
    open.
    """
    return len(tensor.shape) > 2 and tensor.shape[1] is None


def row_shape(tensor: "keras.KerasTensor") -> list[int]:
    """The shape of a row: of an example, or of a position."""
    return list(tensor.shape[2 if is_of_positions(tensor) else 1 :])


class FrozenGraph:
    """What lies before the cuts of `model`. Its weights may change in the course of a training, its
    graph not.
    """

    def __init__(self, model: "keras.Model"):
        self.model = model
        self._forwards: dict[tuple, Callable] = {}
        self._prefixes: dict[tuple, tuple[keras.Model, str]] = {}
        self._digests: dict[tuple, str] = {}
        self._needed_again: dict[tuple, tuple[keras.KerasTensor, ...]] = {}

    def weights_changed(self) -> None:
        """Forget the digests."""
        self._digests.clear()

    def ascending(self, cuts: Sequence[Cut]) -> list[tuple]:
        """The different ones of `cuts`, from the input towards the output."""
        place = {
            id(t): i
            for i, node in enumerate(nodes_of(self.model.outputs))
            for t in node.output_tensors
        }
        different = {tuple(map(id, cut)): tuple(cut) for cut in cuts}
        return sorted(different.values(), key=lambda cut: max(place[id(t)] for t in cut))

    def again(self, cut: Cut) -> tuple["keras.KerasTensor", ...]:
        """The inputs of the model that what lies behind `cut` needs beside it."""
        key = cut_key(cut)
        if key not in self._needed_again:
            names = {t.name for t in split_at(self.model, cut)[1].inputs[len(cut) :]}
            self._needed_again[key] = tuple(t for t in self.model.inputs if t.name in names)
        return self._needed_again[key]

    def digest(self, cut: Cut) -> str:
        """Of the frozen graph and its weights, as `begin` found them."""
        key = cut_key(cut)
        if key not in self._digests:
            prefix, structure = self._prefix(cut)
            self._digests[key] = hash_of(structure, [np.asarray(v) for v in prefix.weights])
        return self._digests[key]

    def _prefix(self, cut: Cut) -> tuple["keras.Model", str]:
        """The model up to `cut` and its graph as text. Its weights may change in the course of a
        training, its graph not.
        """
        import keras

        key = cut_key(cut)
        if key not in self._prefixes:
            prefix = keras.Model(self.model._inputs_struct, list(cut))
            self._prefixes[key] = prefix, _structure(prefix)
        return self._prefixes[key]

    def forward(self, cuts: Sequence[Cut], start: Cut | None) -> Callable:
        """A function from the pixels, or from the tensors of `start`, to those of all `cuts`;
        traced once.
        """
        key = (*(id(t) for cut in cuts for t in cut), None, *map(id, start or ()))
        if key not in self._forwards:
            self._forwards[key] = self.part(cuts, start).forward()
        return self._forwards[key]

    def part(self, cuts: Sequence[Cut], start: Cut | None) -> "FrozenPart":
        """What lies between the inputs, or the cut `start`, and `cuts`."""
        import keras

        model = keras.Model(self.model._inputs_struct, [t for cut in cuts for t in cut])
        if start is None:
            return FrozenPart(model, ())
        model = split_at(model, start)[1]
        # Of the inputs beside `start`, `cuts` may need fewer than all that lies behind it.
        needed = {t.name for t in model.inputs[len(start) :]}
        again = [len(start) + i for i, t in enumerate(self.again(start)) if t.name in needed]
        return FrozenPart(model, (*range(len(start)), *again))


@dataclass(frozen=True)
class FrozenPart:
    """A part of the frozen graph, as a model.

    Attributes:
        model: from the inputs of the part to its cuts.
        places: which of the tensors that are read it takes; none: they are the inputs as they are.
    """

    model: "keras.Model"
    places: tuple[int, ...]

    def forward(self) -> "Callable[[Any], list[tf.Tensor]]":
        """A function from what is read to the tensors of all cuts, in inference mode. Faster than
        `predict` on a CPU.

        It is traced once, for batches of any size and length: how TensorFlow orders a sum depends
        on the shapes that it was traced for, and a process that begins in the middle of the
        examples is to give the same bits as one that has seen those before.
        """
        import keras
        import tensorflow as tf

        model, places = self.model, self.places
        traced: list[Callable] = []

        def compute(*tensors: "tf.Tensor") -> "list[tf.Tensor]":
            inputs = keras.tree.pack_sequence_as(model._inputs_struct, tensors)
            return keras.tree.flatten(model(inputs, training=False))

        def forward(inputs: Any) -> "list[tf.Tensor]":
            if places:
                given = inputs if isinstance(inputs, tuple) else (inputs,)
                tensors = [given[place] for place in places]
            else:
                tensors = keras.tree.flatten(inputs)
            if not traced:
                pairs = zip(model.inputs, tensors, strict=True)
                signature = [tf.TensorSpec(own.shape, tensor.dtype) for own, tensor in pairs]
                traced.append(tf.function(compute, input_signature=signature))
            return traced[0](*tensors)

        return forward

    @property
    def weights_digest(self) -> str:
        """A hash of its weights."""
        return hash_of([np.asarray(v) for v in self.model.weights])


def _structure(model: "keras.Model") -> str:
    """The graph as text, without what does not change its outputs in inference mode.

    The names of layers count up in one process and differ between two.
    """
    config = model.get_config()
    names = {layer.name: f"#{i}" for i, layer in enumerate(model.layers)}

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items() if key not in NO_EFFECT}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return names.get(value, value) if isinstance(value, str) else value

    return json.dumps(plain(config), sort_keys=True, default=str)
