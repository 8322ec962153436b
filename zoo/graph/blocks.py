"""Blocks and freezing, for any functional Keras model. Blocks are what lies between chosen cuts
(`zoo.graph.cuts`):

- a cut that closes a merge (an Add, a Concatenate, an attention layer) ends a block, because
  residual and dense architectures are built of such units;
- where a model has too few merges, each weighted layer starts a block, with the normalization and
  the activation behind it;
- layers that share weights end up in one block; a block without weights joins the next one, a block
  that holds normalization only joins the one before.

The rules look at the graph alone, so a user's own model has blocks too, and no table names layers.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from graft.zoo.errors import ConfigError
from graft.zoo.graph.cuts import cuts_with_positions
from graft.zoo.graph.nodes import as_functional, has_weights, input_dependent, is_layer, nodes_of

if TYPE_CHECKING:
    import keras
    from keras.src.ops.node import Node

__all__ = ["Block", "count_trained", "find_blocks", "freeze_blocks"]

MIN_MERGES = 4
"""With fewer merge cuts than this the blocks would be too coarse for a schedule; weighted layers
are used instead.
"""

NORMALIZATION_LAYERS = (
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
        cut: the one or two tensors that leave it, and beside them the outputs of the backbone
            that are finished there.
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


def find_blocks(backbone: "keras.Model") -> tuple[Block, ...]:
    """Find the blocks of a backbone.

    Args:
        backbone: a flat functional model.

    Returns:
        Its blocks from input to output; every weight belongs to exactly one.

    Raises:
        ConfigError: `backbone` holds nested models (call `flatten` first) or is not functional.
    """
    if as_functional(backbone) is None or any(
        as_functional(operation) for operation in backbone.operations
    ):
        raise ConfigError(
            f"the model '{backbone.name}' holds nested models: pass it through flatten() first"
        )
    nodes = nodes_of(backbone.outputs)
    ends = _block_ends(backbone, nodes)
    runs = _merge_light_runs(nodes, ends)
    runs = _merge_shared_runs(nodes, runs)
    cuts = dict(cuts_with_positions(backbone, width=2))
    blocks, start = [], 0
    for end in runs:
        layers = tuple(
            dict.fromkeys(
                node.operation for node in nodes[start : end + 1] if is_layer(node.operation)
            )
        )
        cut = tuple(backbone.outputs) if end == len(nodes) - 1 else cuts[end]
        blocks.append(Block(layers[-1].name, layers, cut))
        start = end + 1
    return tuple(blocks)


def count_trained(blocks: Sequence[Block], train: int | float | Literal["head", "all"]) -> int:
    """How many blocks, counted from the top, a phase trains.

    Args:
        blocks: of the backbone.
        train: "head" for none, "all" for every one, a number of blocks, or a fraction of them.

    Returns:
        0 to `len(blocks)`; of a fraction at least 1.

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
        f"cannot train {train!r} of {len(blocks)} blocks: expected 'head', 'all', a number from 0 "
        f"to {len(blocks)}, or a fraction between 0 and 1"
    )


def freeze_blocks(
    model: "keras.Model",
    blocks: Sequence[Block],
    trained: int,
    batch_norm: Literal["inference", "train"] = "inference",
) -> None:
    """Train the top blocks and all that is not in a block (the heads); freeze the rest.

    Whatever was frozen or thawed before does not matter. Compile again afterwards: Keras fixes the
    set of trained variables in `compile`.

    Args:
        model: what holds the blocks.
        blocks: of its backbone, from input to output.
        trained: how many of them train, counted from the top.
        batch_norm: "inference" also freezes every BatchNormalization inside the trained blocks,
            statistics, scale and offset; "train" trains them.
    """
    # Keras ignores an assignment that changes nothing, so a parent that is already "trainable"
    # would not pass the value on to its children. Each layer is therefore set to the opposite
    # first.
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
        raise RuntimeError(
            f"freezing '{model.name}' went wrong: Keras trains other weights than the ones meant"
        )


def _block_ends(model: "keras.Model", nodes: "Sequence[Node]") -> list[int]:
    """Positions in `nodes` after which a block ends, the last one included, before light blocks are
    merged.
    """
    computed = input_dependent(model, nodes)
    for width in (1, 2):
        cuts = cuts_with_positions(model, width)
        ends = [position for position, _ in cuts if _closes_a_merge(nodes[position], computed)]
        if len(ends) + _closes_a_merge(nodes[-1], computed) >= MIN_MERGES:
            return [*ends, len(nodes) - 1]
    single = {position for position, _ in cuts_with_positions(model, 1)}
    return [*sorted(p for p in single if _has_kernel(nodes[p + 1].operation)), len(nodes) - 1]


def _closes_a_merge(node: "Node", computed: set[int]) -> bool:
    """An attention layer, or a call that joins two or more computed tensors; a Multiply is a gate,
    not a merge.
    """
    operation = node.operation
    if is_layer(operation) and any(
        "Attention" in type(inner).__name__
        for inner in operation._flatten_layers(include_self=True, recursive=True)
    ):
        return True
    joined = {id(t) for t in node.input_tensors} & computed
    return len(joined) >= 2 and type(operation).__name__ != "Multiply"


def _has_kernel(operation: "keras.Operation") -> bool:
    """Whether the operation holds weights that are not a normalization's."""
    return has_weights(operation) and type(operation).__name__ not in NORMALIZATION_LAYERS


def _merge_light_runs(nodes: "Sequence[Node]", ends: list[int]) -> list[int]:
    """Drop the ends of runs that hold no weights, and the end before a run that holds normalization
    only.
    """
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


def _merge_shared_runs(nodes: "Sequence[Node]", ends: list[int]) -> list[int]:
    """Drop every end that lies between two uses of the same weight."""
    uses: dict[int, list[int]] = defaultdict(list)
    for position, node in enumerate(nodes):
        if is_layer(node.operation):
            for variable in node.operation.weights:
                uses[id(variable)].append(position)
    spans = [(min(at), max(at)) for at in uses.values() if len(at) > 1]
    return [end for end in ends if not any(first <= end < last for first, last in spans)]
