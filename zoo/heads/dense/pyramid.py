"""A pyramid of feature maps: what coarse maps know comes down to the fine ones, and back up.

Lin et al. 2017, arXiv:1612.03144 (down); Liu et al. 2018, arXiv:1803.01534 (up again). Convolutions
are depthwise separable, and maps are enlarged by repeating their cells: every runtime has both
built in.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from graft.zoo.heads.dense.cells import map_sizes

if TYPE_CHECKING:
    import keras

__all__ = ["activated", "pyramid", "separable_layers"]

KERNEL = 3
"""Side of the depthwise convolutions, in cells."""
MOMENTUM = 0.9
"""Of running means and variances. With Keras's 0.99 they would lag hundreds of steps behind, which
is most of a short training on few images.
"""


def pyramid(
    levels: "Sequence[keras.KerasTensor]",
    *,
    image_size: tuple[int, int],
    strides: Sequence[int],
    channels: int,
    name: str,
) -> "list[keras.KerasTensor]":
    """Maps that know of each other, one for each level.

    Args:
        levels: feature maps `(batch, rows, columns, any)`, finest first. One that convolutions
            without padding have made smaller than image / stride is padded with zeros on all sides,
            so that its cells lie where `cells.cells_of` says.
        image_size: height and width of the model's image, in pixels.
        strides: of the levels; each is a multiple of the one before.
        channels: of every map that is given.
        name: what the names of the layers begin with.

    Returns:
        `(batch, ceil(height / stride), ceil(width / stride), channels)` for each stride.
    """
    from keras import layers

    sizes = map_sizes(image_size, strides)
    maps = []
    for stride, size, level in zip(strides, sizes, levels, strict=True):
        called = f"{name}_lateral_{stride}"
        lateral = layers.Conv2D(channels, 1, use_bias=False, name=called)(level)
        lateral = _normalized(lateral, called)
        maps.append(_padded(_cropped(lateral, size, called), size, called))
    factors = [high // low for low, high in pairwise(strides)]
    for place in reversed(range(len(factors))):
        called = f"{name}_down_{strides[place]}"
        coarse = layers.UpSampling2D(factors[place], name=f"{called}_up")(maps[place + 1])
        coarse = _cropped(coarse, sizes[place], called)
        both = layers.Add(name=f"{called}_sum")([maps[place], coarse])
        maps[place] = _separable(both, channels, called)
    for place, factor in enumerate(factors):
        called = f"{name}_rise_{strides[place + 1]}"
        shrink = layers.DepthwiseConv2D(
            max(KERNEL, factor), factor, "same", use_bias=False, name=f"{called}_shrink"
        )
        fine = _normalized(shrink(maps[place]), f"{called}_shrink")
        both = layers.Add(name=f"{called}_sum")([maps[place + 1], fine])
        maps[place + 1] = _separable(both, channels, called)
    return maps


def separable_layers(channels: int, name: str) -> "tuple[keras.Layer, keras.Layer]":
    """A depthwise convolution, and the pointwise one that comes behind it.

    Args:
        channels: of the pointwise one.
        name: what the names of the two begin with.
    """
    from keras import layers

    return (
        layers.DepthwiseConv2D(KERNEL, padding="same", use_bias=False, name=f"{name}_depthwise"),
        layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_pointwise"),
    )


def activated(tensor: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    """`tensor`, normalized over the batch, where it is positive."""
    from keras import layers

    return layers.ReLU(name=f"{name}_relu")(_normalized(tensor, name))


def _normalized(tensor: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    from keras import layers

    return layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(tensor)


def _separable(tensor: "keras.KerasTensor", channels: int, name: str) -> "keras.KerasTensor":
    depthwise, pointwise = separable_layers(channels, name)
    return activated(pointwise(depthwise(tensor)), name)


def _cropped(tensor: "keras.KerasTensor", size: tuple[int, int], name: str) -> "keras.KerasTensor":
    """Without the last rows and columns beyond `size`: 8 rows at stride 32 become 16 at stride 16,
    where 240 pixels have 15.
    """
    from keras import layers

    over = [max(have - want, 0) for have, want in zip(tensor.shape[1:3], size, strict=True)]
    if not any(over):
        return tensor
    ends = tuple((0, rows) for rows in over)
    return layers.Cropping2D(ends, name=f"{name}_crop")(tensor)


def _padded(tensor: "keras.KerasTensor", size: tuple[int, int], name: str) -> "keras.KerasTensor":
    from keras import layers

    lacking = [max(want - have, 0) for have, want in zip(tensor.shape[1:3], size, strict=True)]
    if not any(lacking):
        return tensor
    ends = tuple((count // 2, count - count // 2) for count in lacking)
    return layers.ZeroPadding2D(ends, name=f"{name}_pad")(tensor)
