"""Cuts of a functional Keras graph: where it can be taken apart and what the parts compute.

A *cut* is a set of at most two tensors through which everything behind it is computed: keep them,
and what lies before need not run again.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras

OPEN = 32
"""What a dimension of no fixed size counts for: about so many tokens a sentence has."""

__all__ = [
    "cuts_with_positions",
    "find_cuts",
    "flatten",
    "functional",
    "has_weights",
    "input_dependent",
    "is_layer",
    "narrowest_cut",
    "nodes_of",
    "split",
    "with_frozen_prefix",
]


def flatten(model: "keras.Model") -> "keras.Model":
    """The same graph with every nested functional or sequential model dissolved; weights are shared
    with `model`.

    A model without nested models is returned as it is. A layer whose name stands twice gets its
    nested model's name in front.

    Raises:
        ConfigError: `model` is not functional (a subclass with its own `call`), so it has no graph
            to look at.
    """
    import keras

    model = functional(model)
    if model is None:
        raise ConfigError(
            "blocks can be found in functional and sequential Keras models only; this model's "
            "call() is its own code"
        )
    if not any(functional(operation) for operation in model.operations):
        return model
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs]
    known = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    names: set[str] = {t.name for t in inputs}
    outputs = _replay(model.outputs, known, dissolve=names)
    return keras.Model(
        keras.tree.pack_sequence_as(model._inputs_struct, inputs),
        keras.tree.pack_sequence_as(model._outputs_struct, outputs),
        name=model.name,
    )


def find_cuts(model: "keras.Model", width: int = 1) -> list[tuple["keras.KerasTensor", ...]]:
    """All cuts of at most `width` tensors, in the order of computation.

    Graph inputs (a padding mask) are always at hand and do not count; neither do tensors that
    depend on no input.
    """
    return [cut for _, cut in cuts_with_positions(model, width)]


def split(
    model: "keras.Model", cut: Sequence["keras.KerasTensor"]
) -> tuple["keras.Model", "keras.Model"]:
    """`(prefix, suffix)` with `model(x) == suffix(prefix(x))`; both share their layers with
    `model`.

    `prefix` returns the tensors of `cut`, then those graph inputs that the suffix needs again (a
    padding mask).

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
    outputs = keras.tree.pack_sequence_as(model._outputs_struct, _replay(model.outputs, known))
    return prefix, keras.Model(_alone(entries), outputs, name=f"{model.name}_suffix")


def with_frozen_prefix(model: "keras.Model", cut: Sequence["keras.KerasTensor"]) -> "keras.Model":
    """The same model, but all that lies before `cut` runs in inference mode also while training.

    There BatchNormalization uses its statistics, and dropout and stochastic depth are off. The
    layers are shared; those behind the cut are not nested.
    """
    import keras

    from graft.zoo.graph.layers import InferenceOnly

    prefix, suffix = split(model, cut)
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
    import math

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

    def values(found) -> int:
        used = {
            id(t)
            for node in nodes_of(model.outputs, {id(t) for t in found})
            for t in node.input_tensors
        }
        again = [t for t in model.inputs if id(t) in used]
        return sum(math.prod(d or OPEN for d in t.shape[1:]) for t in (*found, *again))

    return min(candidates, key=values)


# ---------------------------------------------------------------------------------------------------------------------
# The graph


def functional(operation):
    """The functional model inside `operation`, or None; a built Sequential keeps one."""
    import keras

    if isinstance(operation, keras.Sequential):
        return operation._functional
    is_functional = isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth")
    # A functional model whose class overrides call() computes something else than its graph.
    return (
        operation
        if is_functional and type(operation).call is keras.src.models.Functional.call
        else None
    )


def is_layer(operation) -> bool:
    """Whether `operation` is a layer, not a bare function of `keras.ops`."""
    import keras

    return isinstance(operation, keras.layers.Layer)


def _alone(tensors: list):
    return tensors[0] if len(tensors) == 1 else tensors


def nodes_of(outputs: Sequence, stop: set[int] = frozenset()) -> list:
    """The calls that compute `outputs`, each after those it needs; nothing before the tensors in
    `stop`.

    Depth first: a branch is finished before the next one begins, so that few tensors are alive at a
        time.
    """
    order, seen = [], set()
    stack = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, ready = stack.pop()
        if id(tensor) in stop:
            continue
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if ready:
            if id(node) not in seen:
                seen.add(id(node))
                order.append(node)
        elif id(node) not in seen and type(node.operation).__name__ != "InputLayer":
            stack.append((tensor, True))
            stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return order


def _replay(outputs: Sequence, known: dict[int, object], dissolve: set[str] | None = None) -> list:
    """Call the operations behind `outputs` again, from the tensors in `known` (id of the old one ->
    the new one).

    With `dissolve` (the layer names used so far) nested models are replaced by what they contain.
    """
    import keras

    for node in nodes_of(outputs, set(known)):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(known)
        inner = functional(operation) if dissolve is not None else None
        if inner is not None:
            fed = {
                id(old): new for old, new in zip(inner.inputs, _tensors(args, kwargs), strict=True)
            }
            taken = set(dissolve)
            results = _replay(inner.outputs, fed, dissolve)
            for layer in {id(n.operation): n.operation for n in nodes_of(inner.outputs)}.values():
                if layer.name in taken and functional(layer) is None:
                    layer.name = f"{operation.name}_{layer.name}"
                dissolve.add(layer.name)
        else:
            results = keras.tree.flatten(operation(*args, **kwargs))
            if dissolve is not None:
                dissolve.add(operation.name)
        known.update((id(old), new) for old, new in zip(node.outputs, results, strict=True))
    return [known[id(tensor)] for tensor in outputs]


def _tensors(args, kwargs) -> list:
    import keras

    return [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]


def cuts_with_positions(model, width: int) -> Iterator[tuple[int, tuple]]:
    """(position of the last call before the cut, its tensors) for every cut of at most `width`
    tensors.
    """
    nodes = nodes_of(model.outputs)
    computed = input_dependent(model, nodes)
    last_use: dict[int, int] = {id(t): len(nodes) for t in model.outputs}
    for position, node in enumerate(nodes):
        for tensor in node.input_tensors:
            last_use[id(tensor)] = max(position, last_use.get(id(tensor), -1))
    live: dict[int, object] = {}
    for position, node in enumerate(nodes[:-1]):
        live.update((id(t), t) for t in node.output_tensors if id(t) in computed)
        live = {key: t for key, t in live.items() if last_use.get(key, -1) > position}
        if 1 <= len(live) <= width:
            yield position, tuple(live.values())


def has_weights(operation) -> bool:
    """Whether `operation` is a layer that holds any weight."""
    return is_layer(operation) and bool(operation.weights)


def input_dependent(model, nodes) -> set[int]:
    """Ids of the tensors that are computed from a graph input (the inputs themselves are not in
    it).
    """
    inputs = {id(t) for t in model.inputs}
    computed: set[int] = set()
    for node in nodes:
        if any(id(t) in inputs or id(t) in computed for t in node.input_tensors):
            computed.update(id(t) for t in node.output_tensors)
    return computed


def _is_fixed(operation) -> bool:
    """Whether the operation computes the same in every epoch: no weights, no random numbers."""
    return not is_layer(operation) or not operation.variables
