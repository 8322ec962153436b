"""The levels of a backbone that a head can read: pooled features, positions, feature maps by stride."""

import math
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.heads.head import Level

if TYPE_CHECKING:
    import keras

__all__ = ["LEAST_STRIDE", "STRIDES", "feature_maps", "level_tensors"]

STRIDES = (4, 8, 16, 32)
LEAST_STRIDE = STRIDES[0]


def feature_maps(backbone: "keras.Model") -> "dict[int, keras.KerasTensor]":
    """Stride -> the last feature map `(batch, height / stride, width / stride, channels)` that a block
    of `backbone` ends with, of the strides in `STRIDES` that it has.

    They are found in the graph (`zoo.graph.blocks`), so that every backbone has them, a user's own
    included. A side that a convolution without padding shortens counts as the nearest power of two.

    Args:
        backbone: flat, with one image input of a fixed size.
    """
    sides = backbone.inputs[0].shape[1:3]
    found: dict[int, keras.KerasTensor] = {}
    for block in find_blocks(backbone):
        for tensor in block.cut:
            if len(tensor.shape) == 4 and None not in (*tensor.shape[1:3], *sides):
                stride = 2 ** round(math.log2(sides[0] / tensor.shape[1]))
                if stride in STRIDES:
                    found[stride] = tensor
    return found


def level_tensors(
    backbone: "keras.Model", levels: "list[Level]"
) -> "dict[Level, keras.KerasTensor]":
    """The tensors of `backbone` that the `levels` are made of; "pooled" and "positions" are its output.

    Raises:
        ConfigError: the backbone has no feature map of a stride.
    """
    strides = [level for level in levels if isinstance(level, int)]
    maps = feature_maps(backbone) if strides else {}
    missing = [stride for stride in strides if stride not in maps]
    if missing:
        has = ", ".join(map(str, maps)) or "none"
        raise ConfigError(
            f"a head reads the feature map at stride {missing[0]}, and backbone '{backbone.name}' has "
            f"none: it has {has}"
        )
    (output,) = backbone.outputs
    return {level: maps[level] if isinstance(level, int) else output for level in levels}
