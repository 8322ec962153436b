"""The calls that a functional Keras graph is made of: listed in order, called again, nested
models dissolved.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras

__all__ = [
    "as_functional",
    "flatten",
    "has_weights",
    "input_dependent",
    "is_layer",
    "nodes_of",
    "replay",
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

    model = as_functional(model)
    if model is None:
        raise ConfigError(
            "blocks can be found in functional and sequential Keras models only; this model's "
            "call() is its own code"
        )
    if not any(as_functional(operation) for operation in model.operations):
        return model
    inputs = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs]
    known = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    names: set[str] = {t.name for t in inputs}
    outputs = replay(model.outputs, known, dissolve=names)
    return keras.Model(
        keras.tree.pack_sequence_as(model._inputs_struct, inputs),
        keras.tree.pack_sequence_as(model._outputs_struct, outputs),
        name=model.name,
    )


def as_functional(operation):
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


def replay(outputs: Sequence, known: dict[int, object], dissolve: set[str] | None = None) -> list:
    """Call the operations behind `outputs` again, from the tensors in `known` (id of the old one ->
    the new one).

    With `dissolve` (the layer names used so far) nested models are replaced by what they contain.
    """
    import keras

    for node in nodes_of(outputs, set(known)):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(known)
        inner = as_functional(operation) if dissolve is not None else None
        if inner is not None:
            fed = {
                id(old): new for old, new in zip(inner.inputs, _tensors(args, kwargs), strict=True)
            }
            taken = set(dissolve)
            results = replay(inner.outputs, fed, dissolve)
            for layer in {id(n.operation): n.operation for n in nodes_of(inner.outputs)}.values():
                if layer.name in taken and as_functional(layer) is None:
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
