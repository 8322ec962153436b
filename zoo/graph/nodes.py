"""The calls that a functional Keras graph is made of: listed in order, called again, nested models
dissolved.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras
    from keras.src.ops.node import Node

__all__ = [
    "as_functional",
    "call_again",
    "flatten",
    "has_weights",
    "input_dependent",
    "is_layer",
    "nodes_of",
]


def flatten(model: "keras.Model") -> "keras.Model":
    """Dissolve every nested functional or sequential model of `model`.

    Args:
        model: a functional or sequential model.

    Returns:
        The same graph without nested models; the weights are shared with `model`. A model without
        nested models is returned as it is. A layer whose name stands twice gets the name of its
        nested model in front.

    Raises:
        ConfigError: `model` is a subclass with its own `call`, so it has no graph to look at.
    """
    import keras

    functional = as_functional(model)
    if functional is None:
        raise ConfigError(
            "blocks can be found in functional and sequential Keras models only; this model's "
            "call() is its own code"
        )
    if not any(as_functional(operation) for operation in functional.operations):
        return functional
    inputs = [
        keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in functional.inputs
    ]
    known = {id(old): new for old, new in zip(functional.inputs, inputs, strict=True)}
    names: set[str] = {t.name for t in inputs}
    outputs = call_again(functional.outputs, known, names)
    return keras.Model(
        keras.tree.pack_sequence_as(functional._inputs_struct, inputs),
        keras.tree.pack_sequence_as(functional._outputs_struct, outputs),
        name=functional.name,
    )


def as_functional(operation: "keras.Operation") -> "keras.Model | None":
    """The functional model that `operation` is or, as a built Sequential, keeps; else None."""
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


def is_layer(operation: "keras.Operation") -> bool:
    """Whether `operation` is a layer, not a bare function of `keras.ops`."""
    import keras

    return isinstance(operation, keras.layers.Layer)


def has_weights(operation: "keras.Operation") -> bool:
    """Whether `operation` is a layer that holds any weight."""
    return is_layer(operation) and bool(operation.weights)


def nodes_of(
    outputs: "Sequence[keras.KerasTensor]", stop: Collection[int] = frozenset()
) -> "list[Node]":
    """The calls that compute `outputs`.

    Args:
        outputs: tensors of a graph.
        stop: the `id` of tensors before which nothing is listed.

    Returns:
        Each call after those that it needs. Depth first: a branch is finished before the next one
        begins, so that few tensors are alive at a time.
    """
    order: list[Node] = []
    seen: set[int] = set()
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


def input_dependent(model: "keras.Model", nodes: "Sequence[Node]") -> set[int]:
    """The `id` of each tensor that is computed from an input of `model`; the inputs are not in it.

    `nodes` are calls of the graph in the order of `nodes_of`.
    """
    inputs = {id(t) for t in model.inputs}
    computed: set[int] = set()
    for node in nodes:
        if any(id(t) in inputs or id(t) in computed for t in node.input_tensors):
            computed.update(id(t) for t in node.output_tensors)
    return computed


def call_again(
    outputs: "Sequence[keras.KerasTensor]",
    known: "dict[int, keras.KerasTensor]",
    dissolve: set[str] | None = None,
) -> "list[keras.KerasTensor]":
    """Call the operations behind `outputs` again, on other tensors.

    Args:
        outputs: tensors of a graph.
        known: `id` of a tensor -> what takes its place; what is computed here is added.
        dissolve: None, or the layer names that are taken: nested models are then replaced by what
            they contain, and the names of their layers are added.

    Returns:
        What takes the place of each of `outputs`.
    """
    import keras

    for node in nodes_of(outputs, known.keys()):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(known)
        inner = None if dissolve is None else as_functional(operation)
        if inner is not None and dissolve is not None:
            fed = {
                id(old): new for old, new in zip(inner.inputs, _tensors(args, kwargs), strict=True)
            }
            taken = set(dissolve)
            results = call_again(inner.outputs, fed, dissolve)
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


def _tensors(args: Sequence[Any], kwargs: Mapping[str, Any]) -> "list[keras.KerasTensor]":
    import keras

    return [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
