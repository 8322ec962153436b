"""From levels to a map at the finest of them. Layers that every runtime has built in."""

from collections.abc import Sequence

import keras
from keras import layers

__all__ = ["DECODERS"]

MOMENTUM = 0.9
"""Of the statistics of a BatchNormalization: a head sees few steps, and they begin at 0 and 1."""

Tensor = keras.KerasTensor


def _lraspp(levels: Sequence[Tensor], units: int, channels: int, name: str) -> Tensor:
    """Lite R-ASPP: the coarsest level, weighted by what the whole image shows; classes are told
    from each level, and added up.
    """
    deep = _convolved(levels[-1], channels, f"{name}_deep")
    whole = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(levels[-1])
    gate = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_gate")(whole)
    found = layers.Multiply(name=f"{name}_gated")([deep, gate])
    logits = layers.Conv2D(units, 1, name=f"{name}_classes_{len(levels) - 1}")(found)
    for place in reversed(range(len(levels) - 1)):
        level = levels[place]
        own = layers.Conv2D(units, 1, name=f"{name}_classes_{place}")(level)
        larger = _enlarged(logits, level, f"{name}_up_{place}")
        logits = layers.Add(name=f"{name}_sum_{place}")([own, larger])
    return logits


def _unet(levels: Sequence[Tensor], units: int, channels: int, name: str) -> Tensor:
    """Step by step to the finest level, each joined by depthwise separable convolutions."""
    found = _convolved(levels[-1], channels, f"{name}_deep")
    for place in reversed(range(len(levels) - 1)):
        level = levels[place]
        own = _convolved(level, channels, f"{name}_side_{place}")
        larger = _enlarged(found, level, f"{name}_up_{place}")
        joined = layers.Concatenate(name=f"{name}_join_{place}")([own, larger])
        spread = layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, name=f"{name}_spread_{place}"
        )(joined)
        found = _convolved(spread, channels, f"{name}_step_{place}")
    return layers.Conv2D(units, 1, name=f"{name}_classes")(found)


DECODERS = {"lraspp": _lraspp, "unet": _unet}


def _convolved(tensor: Tensor, channels: int, name: str) -> Tensor:
    """A convolution of single pixels, with normalization."""
    found = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_convolution")(tensor)
    found = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm")(found)
    return layers.ReLU(name=f"{name}_relu")(found)


def _enlarged(tensor: Tensor, like: Tensor, name: str) -> Tensor:
    """At the size of another map."""
    return layers.Resizing(*like.shape[1:3], "bilinear", name=name)(tensor)
