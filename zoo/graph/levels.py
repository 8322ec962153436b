"""The levels of a backbone that a head can read: pooled features, positions, feature maps by
stride.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.cuts import find_cuts
from graft.zoo.graph.nodes import has_weights, nodes_of
from graft.zoo.heads.head import Level

if TYPE_CHECKING:
    import keras
    from keras.src.ops.node import Node

__all__ = ["STRIDES", "feature_maps", "level_tensors"]

STRIDES = (4, 8, 16, 32)


def feature_maps(backbone: "keras.Model") -> "dict[int, keras.KerasTensor]":
    """Stride -> the last feature map `(batch, height / stride, width / stride, channels)` of a
    block of `backbone`, of the strides in `STRIDES` that it has, ascending.

    They are found in the graph (`zoo.graph.blocks`), so that every backbone has them, a user's own
    included. What a block ends with is taken before it is pooled or padded for the next one. Where
    no block ends at a stride, the map is the last one through which everything behind it is
    computed. Convolutions without padding make maps a little smaller than height / stride.

    Args:
        backbone: flat, with one image input of a fixed size.
    """
    maker = {id(t): node for node in nodes_of(backbone.outputs) for t in node.output_tensors}
    strides = _strides(backbone)
    cuts = [*find_cuts(backbone), tuple(backbone.outputs)]
    inner = [tensor for cut in cuts for tensor in cut if not _is_padded(maker[id(tensor)])]
    ends = [
        tensor
        for block in find_blocks(backbone)
        for end in block.cut
        for tensor in _before_pooling(end, maker)
    ]
    found = {strides[id(t)]: t for t in (*inner, *ends) if id(t) in strides}
    return {stride: found[stride] for stride in STRIDES if stride in found}


def level_tensors(
    backbone: "keras.Model", levels: "list[Level]"
) -> "dict[Level, keras.KerasTensor]":
    """The tensors of `backbone` that the `levels` are made of; "pooled" and "positions" are its
    output.

    Raises:
        ConfigError: the backbone has no feature map of a stride.
    """
    strides = [level for level in levels if isinstance(level, int)]
    maps = feature_maps(backbone) if strides else {}
    missing = [stride for stride in strides if stride not in maps]
    if missing:
        has = ", ".join(map(str, maps)) or "none"
        raise ConfigError(
            f"a head reads the feature map at stride {missing[0]}, and backbone '{backbone.name}' "
            "has "
            f"none: it has {has}"
        )
    (output,) = backbone.outputs
    return {level: maps[level] if isinstance(level, int) else output for level in levels}


def _strides(backbone: "keras.Model") -> dict[int, float]:
    """The `id` of each feature map of a fixed size -> how many pixels of the image one step in it
    is.
    """
    found = {id(t): 1.0 for t in backbone.inputs if _is_map(t)}
    for node in nodes_of(backbone.outputs):
        maps = [t for t in node.input_tensors if id(t) in found]
        if not maps:
            continue
        # The gate of a squeeze-and-excitation has one position: the map that it is put on counts.
        widest = max(maps, key=_longer_side)
        for tensor in node.output_tensors:
            if _is_map(tensor):
                step = _step(node, _longer_side(widest) / _longer_side(tensor))
                found[id(tensor)] = found[id(widest)] * step
    return found


def _longer_side(tensor: "keras.KerasTensor") -> int:
    """By which a map is measured: the shorter one of an image that is no square is soon 1."""
    return max(tensor.shape[1:3])


def _step(node: "Node", shrunk: float) -> float:
    """By how much a call lowers the resolution of a map whose side becomes `shrunk` times smaller.

    Of a small map a convolution without padding takes more than its stride says, and padding adds
    up to half.
    """
    if _is_padded(node):
        return 1
    own = getattr(node.operation, "strides", None)
    return max(own) if shrunk > 1 and own else 2 ** round(math.log2(shrunk))


def _is_map(tensor: "keras.KerasTensor") -> bool:
    return len(tensor.shape) == 4 and None not in tensor.shape[1:3]


def _before_pooling(
    tensor: "keras.KerasTensor", maker: "dict[int, Node]"
) -> "Iterator[keras.KerasTensor]":
    """What `tensor` was pooled or padded from, as far back as nothing has weights, and itself
    unless it is padded; in the order of computation.
    """
    node = maker.get(id(tensor))
    if node is None:
        return
    made_of = node.input_tensors
    alone = len(made_of) == 1 and not has_weights(node.operation)
    if alone and _is_map(tensor) and made_of[0].shape[1:3] != tensor.shape[1:3]:
        yield from _before_pooling(made_of[0], maker)
    if not _is_padded(node):
        yield tensor


def _is_padded(node: "Node") -> bool:
    """Whether a call does no more than to add a border."""
    return type(node.operation).__name__.startswith("ZeroPadding")
