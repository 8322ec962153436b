"""Boxes around things, each with a label: one guess for each cell of the feature maps, no anchors.

Tian et al. 2019, arXiv:1904.01355 (distances to the sides); Li et al. 2020, arXiv:2006.04388 (a
score says both which label and how good the box is).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.heads.dense.average_precision import MAP, MAP50, DetectionMeter
from graft.zoo.heads.dense.cells import check_strides
from graft.zoo.heads.dense.detections import detections_of
from graft.zoo.heads.dense.matching import Detections, TrueBoxes
from graft.zoo.heads.dense.pyramid import activated, pyramid, separable_layers
from graft.zoo.heads.head import Head, check_options
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.scores import Score

if TYPE_CHECKING:
    import keras

__all__ = ["BOXES", "Boxes", "boxes", "judge_detections"]

PRIOR = 0.01
"""What each score is before training (Lin et al. 2017, arXiv:1708.02002): few cells hold a thing.
"""
FIRST_DISTANCE = 2.0
"""From a cell's centre to each side of its box before training, in strides."""
TOWER = 2
"""Convolutions before what is read off, of scores and of distances."""


class Boxes(Kind):
    """Rows x0, y0, x1, y1 in pixels of the model's image, then a score a label; one a cell."""

    name: ClassVar[str] = "boxes"
    figure: ClassVar[str] = MAP50.name
    key: ClassVar[str] = MAP50.key
    agreement: ClassVar[str] = "mAP50 against Keras's own boxes"
    bounded: ClassVar[bool] = False

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """mAP50 of what is left after suppression.

        Args:
            outputs: `(n, cells, 4 + labels)`.
            targets: float32 `(n, boxes, 6)`, as `detection_loss.DetectionLoss` takes them.
        """
        return judge_detections(outputs, targets).score(MAP50)

    def register_layers(self) -> None:
        """The layer that decodes boxes."""
        from graft.zoo.heads.dense import layers  # noqa: F401


BOXES = Boxes()


def judge_detections(outputs: np.ndarray, targets: np.ndarray) -> DetectionMeter:
    """The meter that has seen what is left after suppression.

    Sizes are in pixels of the model's image, not of the file's: figures of small and large objects
    are of those.

    Args:
        outputs: `(n, cells, 4 + labels)`.
        targets: float32 `(n, boxes, 6)`, as `detection_loss.DetectionLoss` takes them.
    """
    meter = DetectionMeter(outputs.shape[-1] - 4)
    for found, there in zip(detections_of(outputs), targets, strict=True):
        found, there = found[found[:, 4] >= 0], there[there[:, 4] >= 0]
        meter.add(
            Detections(found[:, :4], found[:, 4], found[:, 5].astype(int)),
            TrueBoxes(there[:, :4], there[:, 4].astype(int), there[:, 5] > 0),
        )
    return meter


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

    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
        meter = judge_detections(outputs, targets)
        return {MAP50.key: meter.score(MAP50).value, MAP.key: meter.score(MAP).value}

    return Head(name, BOXES, tuple(labels), attach, loss, list, score, reads=tuple(strides))


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
