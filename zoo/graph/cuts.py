"""Cuts of a functional Keras graph: where it can be taken apart and what the parts compute.

A *cut* is a set of at most two tensors through which everything behind it is computed: keep them,
and what lies before need not run again.
"""

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

__all__ = ["cuts_with_positions", "find_cuts", "narrowest_cut", "split_at", "with_frozen_prefix"]

T = TypeVar("T")

ASSUMED_LENGTH = 32
"""What a dimension of no fixed size counts for: about so many tokens a sentence has."""


def find_cuts(model: "keras.Model", width: int = 1) -> list[tuple["keras.KerasTensor", ...]]:
    """All cuts of at most `width` tensors, in the order of computation.

    Graph inputs (a padding mask) are always at hand and do not count; neither do tensors that
    depend on no input.
    """
    return [cut for _, cut in cuts_with_positions(model, width)]


def split_at(
    model: "keras.Model", cut: Sequence["keras.KerasTensor"]
) -> tuple["keras.Model", "keras.Model"]:
    """Take a functional model apart at a cut.

    Args:
        model: a flat functional model.
        cut: the one or two tensors that the second part is computed from.

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
    its pooled features. An input that is needed again behind a cut (raw pixels that join late) is
    kept beside it and counts too.
    """
    nodes = nodes_of(model.outputs)
    start = max(
        i
        for i, node in enumerate(nodes)
        if {id(t) for t in node.output_tensors} & {id(t) for t in cut}
    )
    behind = [i for i, node in enumerate(nodes) if i > start and not _is_fixed(node.operation)]
    stop = min(behind, default=len(nodes))
    candidates = [tuple(cut)]
    candidates += [
        found for position, found in cuts_with_positions(model, width=2) if start < position < stop
    ]

    def values(found: "tuple[keras.KerasTensor, ...]") -> int:
        used = {
            id(t)
            for node in nodes_of(model.outputs, {id(t) for t in found})
            for t in node.input_tensors
        }
        again = [t for t in model.inputs if id(t) in used]
        return sum(math.prod(d or ASSUMED_LENGTH for d in t.shape[1:]) for t in (*found, *again))

    return min(candidates, key=values)


def _alone(tensors: list[T]) -> T | list[T]:
    return tensors[0] if len(tensors) == 1 else tensors


def cuts_with_positions(
    model: "keras.Model", width: int
) -> "Iterator[tuple[int, tuple[keras.KerasTensor, ...]]]":
    """Every cut of at most `width` tensors, in the order of computation.

    Yields:
        (position in `nodes_of(model.outputs)` of the last call before the cut, its tensors).
    """
    nodes = nodes_of(model.outputs)
    computed = input_dependent(model, nodes)
    last_use: dict[int, int] = {id(t): len(nodes) for t in model.outputs}
    for position, node in enumerate(nodes):
        for tensor in node.input_tensors:
            last_use[id(tensor)] = max(position, last_use.get(id(tensor), -1))
    live: dict[int, keras.KerasTensor] = {}
    for position, node in enumerate(nodes[:-1]):
        live.update((id(t), t) for t in node.output_tensors if id(t) in computed)
        live = {key: t for key, t in live.items() if last_use.get(key, -1) > position}
        if 1 <= len(live) <= width:
            yield position, tuple(live.values())


def _is_fixed(operation: "keras.Operation") -> bool:
    """Whether the operation computes the same in every epoch: no weights, no random numbers."""
    return not is_layer(operation) or not operation.variables
