"""Cuts of a functional Keras graph: where it can be taken apart and what the parts compute.

A *cut* is a small set of tensors through which everything behind it is computed: keep them, and
what lies before need not run again.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from graft.zoo.errors import ConfigError
from graft.zoo.graph.nodes import (
    call_again,
    flatten,
    has_weights,
    input_dependent,
    is_layer,
    nodes_of,
)

if TYPE_CHECKING:
    import keras
    from keras.src.ops.node import Node

__all__ = ["cuts_with_positions", "find_cuts", "narrowest_cut", "split_at", "with_frozen_prefix"]

T = TypeVar("T")

ASSUMED_LENGTH = 32
"""What a dimension of no fixed size counts for: about so many tokens a sentence has."""


def find_cuts(model: "keras.Model", width: int = 1) -> list[tuple["keras.KerasTensor", ...]]:
    """All cuts of at most `width` tensors, in the order of computation.

    Graph inputs (a padding mask) are always at hand and do not count; neither do tensors that
    depend on no input.
    """
    return [cut for _, cut in cuts_with_positions(model, width) if len(cut) <= width]


def split_at(
    model: "keras.Model", cut: Sequence["keras.KerasTensor"]
) -> tuple["keras.Model", "keras.Model"]:
    """Take a functional model apart at a cut.

    Args:
        model: a flat functional model.
        cut: the tensors that the second part is computed from.

    Returns:
        `(prefix, suffix)` with `model(x) == suffix(prefix(x))`; both share their layers with
        `model`. `prefix` returns the tensors of `cut`, then those graph inputs that the suffix
        needs again (a padding mask).

    Raises:
        ConfigError: something behind `cut` is computed from what lies before it, past the cut.
    """
    import keras

    cut = list(cut)
    stop = {id(t) for t in cut}
    behind = nodes_of(model.outputs, stop)
    used = {id(t): t for node in behind for t in node.input_tensors}
    again = [t for t in model.inputs if id(t) in used]
    before = {id(node) for node in nodes_of(cut)}
    computed = input_dependent(model, behind)
    twice = [
        node.operation.name
        for node in behind
        if id(node) in before
        and has_weights(node.operation)
        and id(node.output_tensors[0]) in computed
    ]
    if twice:
        raise ConfigError(
            f"{[t.name for t in cut]} is no cut of '{model.name}': '{twice[0]}' is needed on both "
            "sides"
        )
    prefix = keras.Model(model._inputs_struct, _alone(cut + again), name=f"{model.name}_prefix")
    entries = [
        keras.Input(batch_shape=t.shape, dtype=t.dtype, name=f"cut_{i}") for i, t in enumerate(cut)
    ]
    entries += [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in again]
    known = {id(old): new for old, new in zip(cut + again, entries, strict=True)}
    outputs = keras.tree.pack_sequence_as(model._outputs_struct, call_again(model.outputs, known))
    return prefix, keras.Model(_alone(entries), outputs, name=f"{model.name}_suffix")


def with_frozen_prefix(model: "keras.Model", cut: Sequence["keras.KerasTensor"]) -> "keras.Model":
    """The same model, but all that lies before `cut` runs in inference mode also while training.

    There BatchNormalization uses its statistics, and dropout and stochastic depth are off. The
    layers are shared; those behind the cut are not nested.
    """
    import keras

    from graft.zoo.graph.layers import InferenceOnly

    prefix, suffix = split_at(model, cut)
    whole = suffix(InferenceOnly(prefix)(model._inputs_struct))
    return flatten(keras.Model(model._inputs_struct, whole, name=model.name))


def narrowest_cut(
    model: "keras.Model", cut: Sequence["keras.KerasTensor"]
) -> tuple["keras.KerasTensor", ...]:
    """The cut with the fewest values at or behind `cut`, before anything that has weights or is
    random runs.

    A pooling layer shrinks what has to be kept: the narrowest cut behind a backbone's last block is
    its pooled features. Of several outputs each is looked at by itself: one head may pool what
    another one takes as it is. An input that is needed again behind a cut (raw pixels that join
    late) is kept beside it and counts too.
    """
    computed = input_dependent(model, nodes_of(model.outputs))
    stop = {id(t) for t in cut}
    behind = nodes_of(model.outputs, stop)

    def after(done: "Sequence[Node]") -> "tuple[keras.KerasTensor, ...]":
        """The cut behind the calls `done`."""
        ran = {id(node) for node in done}
        used = {id(t) for node in behind if id(node) not in ran for t in node.input_tensors}
        used |= {id(t) for t in model.outputs}
        made = {id(t): t for node in done for t in node.output_tensors if id(t) in computed}
        return tuple(t for t in (*cut, *made.values()) if id(t) in used)

    def values(done: "Sequence[Node]") -> int:
        found = after(done)
        rest = nodes_of(model.outputs, {id(t) for t in found})
        used = {id(t) for node in rest for t in node.input_tensors}
        again = [t for t in model.inputs if id(t) in used]
        return sum(math.prod(d or ASSUMED_LENGTH for d in t.shape[1:]) for t in (*found, *again))

    best: list[Node] = []
    for output in model.outputs:
        calls = nodes_of([output], stop)[:-1]
        fixed = list(itertools.takewhile(lambda node: _is_fixed(node.operation), calls))
        best = min(([*best, *fixed[:count]] for count in range(len(fixed) + 1)), key=values)
    return after(best)


def _alone(tensors: list[T]) -> T | list[T]:
    return tensors[0] if len(tensors) == 1 else tensors


def cuts_with_positions(
    model: "keras.Model", width: int
) -> "Iterator[tuple[int, tuple[keras.KerasTensor, ...]]]":
    """Every cut of at most `width` tensors, in the order of computation.

    Outputs of the model that nothing behind the cut reads are part of it, and do not count: a
    shallow feature map that a head reads waits beside all that comes after it.

    Yields:
        (position in `nodes_of(model.outputs)` of the last call before the cut, its tensors).
    """
    nodes = nodes_of(model.outputs)
    computed = input_dependent(model, nodes)
    outputs = {id(t) for t in model.outputs}
    last_use = {id(t): position for position, node in enumerate(nodes) for t in node.input_tensors}
    live: dict[int, keras.KerasTensor] = {}
    for position, node in enumerate(nodes[:-1]):
        live.update((id(t), t) for t in node.output_tensors if id(t) in computed)
        read = {key for key in live if last_use.get(key, -1) > position}
        live = {key: t for key, t in live.items() if key in read or key in outputs}
        if live and len(read) <= width:
            yield position, tuple(live.values())


def _is_fixed(operation: "keras.Operation") -> bool:
    """Whether the operation computes the same in every epoch: no weights, no random numbers."""
    return not is_layer(operation) or not operation.variables
