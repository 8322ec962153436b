"""Boxes around things, each with a label: one guess for each cell of the feature maps, no anchors.

Tian et al. 2019, arXiv:1904.01355 (distances to the sides); Li et al. 2020, arXiv:2006.04388 (a
score says both which label and how good the box is).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError
from graft.zoo.heads.dense.box_kind import BOXES
from graft.zoo.heads.dense.cells import check_strides
from graft.zoo.heads.dense.pyramid import activated, pyramid, separable_layers
from graft.zoo.heads.head import Head, check_options

if TYPE_CHECKING:
    import keras

__all__ = ["boxes"]

PRIOR = 0.01
"""What each score is before training (Lin et al. 2017, arXiv:1708.02002): few cells hold a thing.
"""
FIRST_DISTANCE = 2.0
"""From a cell's centre to each side of its box before training, in strides."""
TOWER = 2
"""Convolutions before what is read off, of scores and of distances."""


def boxes(
    labels: Sequence[str],
    *,
    image_size: tuple[int, int],
    name: str = "boxes",
    strides: tuple[int, ...] = (8, 16, 32),
    channels: int = 64,
) -> Head:
    """Boxes around things of `labels`: float32 `(batch, cells, 4 + len(labels))`, a row a cell of
    the feature maps, in the order of the strides, row by row.

    A row is x0, y0, x1, y1 in pixels of the model's image, clipped to it, then a score from 0 to 1
    for each label. Boxes of one thing overlap until they are suppressed (`detections.py`, and
    `shipped.py` inside a file).

    Targets are float32 `(batch, boxes, 6)`: x0, y0, x1, y1, index of the label, 1 for a crowd
    region; the label of padding is -1.

    Args:
        labels: one or more, in the order of the scores.
        image_size: height and width of the model's image, in pixels.
        name: of the output.
        strides: of the feature maps that are read, rising; each a multiple of the one before.
        channels: of the head's convolutions.

    Raises:
        ConfigError: no label, or strides that no pyramid can be built from.
    """
    check_options(labels, 1)
    check_strides(strides)
    if channels < 1:
        raise ConfigError(f"channels must be at least 1, not {channels}")

    def attach(*levels: "keras.KerasTensor") -> "keras.KerasTensor":
        from keras import layers

        from graft.zoo.heads.dense.layers import BoxDecoder

        maps = pyramid(levels, image_size=image_size, strides=strides, channels=channels, name=name)
        prior = -math.log((1 - PRIOR) / PRIOR)
        logits = _read_off(maps, channels, len(labels), prior, f"{name}_scores")
        logarithms = _read_off(maps, channels, 4, math.log(FIRST_DISTANCE), f"{name}_sides")
        decoded = BoxDecoder(image_size, strides, name=f"{name}_decoded")(logarithms)
        scores = layers.Activation("sigmoid", dtype="float32", name=f"{name}_sigmoid")(logits)
        return layers.Concatenate(dtype="float32", name=name)([decoded, scores])

    def loss() -> "keras.Loss":
        from graft.zoo.heads.dense.detection_loss import DetectionLoss

        return DetectionLoss(image_size, strides)

    return Head(name, BOXES, tuple(labels), attach, loss, list, None, tuple(strides))


def _read_off(
    maps: "Sequence[keras.KerasTensor]", channels: int, units: int, bias: float, name: str
) -> "keras.KerasTensor":
    """`units` numbers of each cell, `(batch, cells, units)`.

    The convolutions are the same ones on all maps, their normalization is not (Lyu et al. 2022,
    arXiv:2212.07784), and neither is the last layer: how large a thing looks differs.
    """
    from keras import initializers, layers

    tower = [separable_layers(channels, f"{name}_{depth}") for depth in range(TOWER)]
    read = []
    for place, tensor in enumerate(maps):
        for depth, (depthwise, pointwise) in enumerate(tower):
            tensor = activated(pointwise(depthwise(tensor)), f"{name}_{depth}_{place}")
        last = layers.Conv2D(
            units,
            1,
            kernel_initializer=initializers.RandomNormal(stddev=0.01),
            bias_initializer=initializers.Constant(bias),
            name=f"{name}_{place}",
        )
        read.append(layers.Reshape((-1, units), name=f"{name}_{place}_rows")(last(tensor)))
    return layers.Concatenate(axis=1, name=name)(read) if len(read) > 1 else read[0]
