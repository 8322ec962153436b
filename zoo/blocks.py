"""Cut points, blocks and freezing, for any functional Keras model.

A *cut* is a set of at most two tensors through which everything behind it is computed: keep them, and what lies
before need not run again. Blocks are what lies between chosen cuts:

- a cut that closes a merge (an Add, a Concatenate, an attention layer) ends a block, because residual and dense
  architectures are built of such units;
- where a model has too few merges, each weighted layer starts a block, with the normalization and the activation
  behind it;
- layers that share weights end up in one block; a block without weights joins the next one, a block that holds
  normalization only joins the one before.

The rules look at the graph alone, so a user's own model has blocks too, and no table names layers.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras

__all__ = ["Block", "count_trained", "find_blocks", "find_cuts", "flatten", "freeze", "split", "with_frozen_prefix"]

LEAST_MERGES = 4
"""With fewer merge cuts than this the blocks would be too coarse for a schedule; weighted layers are used instead."""

NORMALIZATIONS = (
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "UnitNormalization",
    "Normalization",
)


@dataclass(frozen=True)
class Block:
    """Consecutive layers of a backbone.

    Attributes:
        name: the name of its last layer.
        layers: all its layers, in the order in which they run.
        cut: the one or two tensors that leave it.
    """

    name: str
    layers: tuple["keras.layers.Layer", ...]
    cut: tuple["keras.KerasTensor", ...]

    @property
    def weights(self) -> list["keras.Variable"]:
        """Each variable of the block once."""
        return list({id(v): v for layer in self.layers for v in layer.weights}.values())

    @property
    def parameters(self) -> int:
        """The number of scalars in `weights`."""
        return sum(int(v.value.shape.num_elements()) for v in self.weights)


def flatten(model: "keras.Model") -> "keras.Model":
    """The same graph with every nested functional or sequential model dissolved; weights are shared with `model`.

    A model without nested models is returned as it is. A layer whose name stands twice gets its nested model's name in
    front.

    Raises:
        ConfigError: `model` is not functional (a subclass with its own `call`), so it has no graph to look at.
    """
    import keras

    model = _functional(model)
    if model is None:
        raise ConfigError(
            "blocks can be found in functional and sequential Keras models only; this model's call() is its own code"
        )
    if not any(_functional(operation) for operation in model.operations):
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

    Graph inputs (a padding mask) are always at hand and do not count; neither do tensors that depend on no input.
    """
    return [cut for _, cut in _cuts(model, width)]


def find_blocks(backbone: "keras.Model") -> tuple[Block, ...]:
    """The blocks of a flat functional model, from input to output; every weight belongs to exactly one.

    Raises:
        ConfigError: `backbone` holds nested models (call `flatten` first) or is not functional.
    """
    if _functional(backbone) is None or any(_functional(operation) for operation in backbone.operations):
        raise ConfigError(f"the model '{backbone.name}' holds nested models: pass it through flatten() first")
    nodes = _nodes(backbone.outputs)
    ends = _block_ends(backbone, nodes)
    runs = _merge_light_runs(nodes, ends)
    runs = _merge_shared_runs(nodes, runs)
    cuts = dict(_cuts(backbone, width=2))
    blocks, start = [], 0
    for end in runs:
        layers = tuple(dict.fromkeys(node.operation for node in nodes[start : end + 1] if _is_layer(node.operation)))
        cut = tuple(backbone.outputs) if end == len(nodes) - 1 else cuts[end]
        blocks.append(Block(layers[-1].name, layers, cut))
        start = end + 1
    return tuple(blocks)


def split(model: "keras.Model", cut: Sequence["keras.KerasTensor"]) -> tuple["keras.Model", "keras.Model"]:
    """`(prefix, suffix)` with `model(x) == suffix(prefix(x))`; both share their layers with `model`.

    `prefix` returns the tensors of `cut`, then those graph inputs that the suffix needs again (a padding mask).

    Raises:
        ConfigError: something behind `cut` is computed from what lies before it, past the cut.
    """
    import keras

    cut = list(cut)
    stop = {id(t) for t in cut}
    behind = _nodes(model.outputs, stop)
    used = {id(t): t for node in behind for t in node.input_tensors}
    again = [t for t in model.inputs if id(t) in used]
    before = {id(node) for node in _nodes(cut)}
    computed = _input_dependent(model, behind)
    twice = [
        node.operation.name
        for node in behind
        if id(node) in before and _has_weights(node.operation) and id(node.output_tensors[0]) in computed
    ]
    if twice:
        raise ConfigError(f"{[t.name for t in cut]} is no cut of '{model.name}': '{twice[0]}' is needed on both sides")
    prefix = keras.Model(model._inputs_struct, _alone(cut + again), name=f"{model.name}_prefix")
    entries = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=f"cut_{i}") for i, t in enumerate(cut)]
    entries += [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in again]
    known = {id(old): new for old, new in zip(cut + again, entries, strict=True)}
    outputs = keras.tree.pack_sequence_as(model._outputs_struct, _replay(model.outputs, known))
    return prefix, keras.Model(_alone(entries), outputs, name=f"{model.name}_suffix")


def with_frozen_prefix(model: "keras.Model", cut: Sequence["keras.KerasTensor"]) -> "keras.Model":
    """The same model, but all that lies before `cut` runs in inference mode also while training.

    There BatchNormalization uses its statistics, and dropout and stochastic depth are off. The layers are shared.
    """
    import keras

    from zoo.layers import InferenceOnly

    prefix, suffix = split(model, cut)
    return keras.Model(model._inputs_struct, suffix(InferenceOnly(prefix)(model._inputs_struct)), name=model.name)


def count_trained(blocks: Sequence[Block], train: int | float | Literal["head", "all"]) -> int:
    """How many blocks from the top `train` means: "head" 0, "all" every one, a number itself, a fraction its share.

    Raises:
        ConfigError: a number outside 0 to `len(blocks)`, a fraction outside (0, 1), another word.
    """
    if train == "head":
        return 0
    if train == "all":
        return len(blocks)
    if isinstance(train, float) and 0 < train < 1:
        return max(1, round(train * len(blocks)))
    if isinstance(train, int) and not isinstance(train, bool) and 0 <= train <= len(blocks):
        return train
    raise ConfigError(
        f"cannot train {train!r} of {len(blocks)} blocks: expected 'head', 'all', a number from 0 to {len(blocks)}, "
        "or a fraction between 0 and 1"
    )


def freeze(
    model: "keras.Model",
    blocks: Sequence[Block],
    trained: int,
    batch_norm: Literal["inference", "train"] = "inference",
) -> None:
    """Train the top `trained` of `blocks` and all that is not in a block (the heads); freeze the rest.

    `batch_norm="inference"` also freezes every BatchNormalization inside the trained blocks: statistics, scale and
    offset. Whatever was frozen or thawed before does not matter. Compile again afterwards: Keras fixes the set of
    trained variables in `compile`.
    """
    # Keras ignores an assignment that changes nothing, so a parent that is already "trainable" would not pass the
    # value on to its children. Each layer is therefore set to the opposite first.
    everything = list(model._flatten_layers(include_self=True, recursive=True))
    for layer in everything:
        layer.trainable = False
        layer.trainable = True
    natural = {id(v) for v in model.trainable_weights}

    frozen = [layer for block in blocks[: len(blocks) - trained] for layer in block.layers]
    if batch_norm == "inference":
        thawed = [layer for block in blocks[len(blocks) - trained :] for layer in block.layers]
        frozen += [
            leaf
            for layer in thawed
            for leaf in layer._flatten_layers(include_self=True, recursive=True)
            if type(leaf).__name__ == "BatchNormalization"
        ]
    for layer in frozen:
        layer.trainable = False
    meant = natural - {id(v) for layer in frozen for v in layer.weights}
    if {id(v) for v in model.trainable_weights} != meant:
        raise RuntimeError(f"freezing '{model.name}' went wrong: Keras trains other weights than the ones meant")


# ---------------------------------------------------------------------------------------------------------------------
# The graph


def _functional(operation):
    """The functional model inside `operation`, or None; a built Sequential keeps one."""
    import keras

    if isinstance(operation, keras.Sequential):
        return operation._functional
    is_functional = isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth")
    # A functional model whose class overrides call() computes something else than its graph.
    return operation if is_functional and type(operation).call is keras.src.models.Functional.call else None


def _is_layer(operation) -> bool:
    import keras

    return isinstance(operation, keras.layers.Layer)


def _alone(tensors: list):
    return tensors[0] if len(tensors) == 1 else tensors


def _nodes(outputs: Sequence, stop: set[int] = frozenset()) -> list:
    """The calls that compute `outputs`, each after those it needs; nothing before the tensors in `stop`.

    Depth first: a branch is finished before the next one begins, so that few tensors are alive at a time.
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
    """Call the operations behind `outputs` again, from the tensors in `known` (id of the old one -> the new one).

    With `dissolve` (the layer names used so far) nested models are replaced by what they contain.
    """
    import keras

    for node in _nodes(outputs, set(known)):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(known)
        inner = _functional(operation) if dissolve is not None else None
        if inner is not None:
            fed = {id(old): new for old, new in zip(inner.inputs, _tensors(args, kwargs), strict=True)}
            taken = set(dissolve)
            results = _replay(inner.outputs, fed, dissolve)
            for layer in {id(n.operation): n.operation for n in _nodes(inner.outputs)}.values():
                if layer.name in taken and _functional(layer) is None:
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


def _cuts(model, width: int) -> Iterator[tuple[int, tuple]]:
    """(position of the last call before the cut, its tensors) for every cut of at most `width` tensors."""
    nodes = _nodes(model.outputs)
    computed = _input_dependent(model, nodes)
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


def _input_dependent(model, nodes) -> set[int]:
    """Ids of the tensors that are computed from a graph input (the inputs themselves are not in it)."""
    inputs = {id(t) for t in model.inputs}
    computed: set[int] = set()
    for node in nodes:
        if any(id(t) in inputs or id(t) in computed for t in node.input_tensors):
            computed.update(id(t) for t in node.output_tensors)
    return computed


def _block_ends(model, nodes) -> list[int]:
    """Positions in `nodes` after which a block ends, the last one included, before light blocks are merged."""
    computed = _input_dependent(model, nodes)
    for width in (1, 2):
        ends = [position for position, _ in _cuts(model, width) if _closes_a_merge(nodes[position], computed)]
        if len(ends) + _closes_a_merge(nodes[-1], computed) >= LEAST_MERGES:
            return [*ends, len(nodes) - 1]
    single = {position for position, _ in _cuts(model, 1)}
    return [*sorted(p for p in single if _has_kernel(nodes[p + 1].operation)), len(nodes) - 1]


def _closes_a_merge(node, computed: set[int]) -> bool:
    """An attention layer, or a call that joins two or more computed tensors; a Multiply is a gate, not a merge."""
    operation = node.operation
    if _is_layer(operation) and any(
        "Attention" in type(inner).__name__ for inner in operation._flatten_layers(include_self=True, recursive=True)
    ):
        return True
    joined = {id(t) for t in node.input_tensors} & computed
    return len(joined) >= 2 and type(operation).__name__ != "Multiply"


def _has_weights(operation) -> bool:
    return _is_layer(operation) and bool(operation.weights)


def _has_kernel(operation) -> bool:
    """Whether the operation holds weights that are not a normalization's."""
    return _has_weights(operation) and type(operation).__name__ not in NORMALIZATIONS


def _merge_light_runs(nodes, ends: list[int]) -> list[int]:
    """Drop the ends of runs that hold no weights, and the end before a run that holds normalization only."""
    kept: list[int] = []
    start = 0
    for end in ends:
        run = [node.operation for node in nodes[start : end + 1]]
        start = end + 1
        if kept and not any(map(_has_kernel, run)):
            kept[-1] = end  # joins the block before
        elif any(map(_has_kernel, run)) or end == ends[-1]:
            kept.append(end)
    return kept


def _merge_shared_runs(nodes, ends: list[int]) -> list[int]:
    """Drop every end that lies between two uses of the same weight."""
    uses: dict[int, list[int]] = defaultdict(list)
    for position, node in enumerate(nodes):
        if _is_layer(node.operation):
            for variable in node.operation.weights:
                uses[id(variable)].append(position)
    spans = [(min(at), max(at)) for at in uses.values() if len(at) > 1]
    return [end for end in ends if not any(first <= end < last for first, last in spans)]
