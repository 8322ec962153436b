"""What a detector learns by: quality focal loss of its scores, generalized IoU of its boxes."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from graft.zoo.heads.dense.assignment import assign, generalized_iou
from graft.zoo.heads.dense.cells import cells_of

__all__ = ["DetectionLoss"]

LEAST_WEIGHT = 0.05
"""What a cell that does not find its box at all counts among the boxes: it shall come to."""
ROUNDING = 1e-7
"""Scores are this far from 0 and 1 where their logarithms are taken."""

Tensor = Any
"""A tensor of the backend, or of a graph that is being built."""


@keras.saving.register_keras_serializable(package="graft")
class DetectionLoss(keras.losses.Loss):
    """Quality focal loss (Li et al. 2020, arXiv:2006.04388) and generalized IoU (Rezatofighi et al.
    2019, arXiv:1902.09630) under task-aligned assignment (`assignment.py`).

    `y_true`: float32 `(n, boxes, 6)`: x0, y0, x1, y1 in pixels of the model's image, index of the
    label, 1 for a crowd region; the label of padding is -1, and there may be no row at all. In a
    crowd region only the cells that have a box are judged. `y_pred`: `(n, cells, 4 + labels)`, what
    `detection.boxes` gives.

    Args:
        image_size: height and width of the model's image, in pixels.
        strides: of the maps that are read.
        cells_per_box: how many cells learn to find a box.
        box_weight: what the boxes count, where scores count 1.
        name, kwargs: as Keras has them.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        strides: Sequence[int],
        cells_per_box: int = 13,
        box_weight: float = 2.0,
        name: str = "detection",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.image_size, self.strides = tuple(image_size), tuple(strides)
        self.cells_per_box, self.box_weight = cells_per_box, box_weight
        self.cells = cells_of(self.image_size, self.strides)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each image, `(n,)`: of all of a batch in the same unit, which is how well its
        boxes are found in sum.
        """
        y_true = ops.concatenate([ops.cast(y_true, "float32"), _padding(y_true)], axis=1)
        boxes, scores = y_pred[..., :4], y_pred[..., 4:]
        goal = assign(y_true, boxes, scores, self.cells, self.cells_per_box)
        chance = ops.clip(scores, ROUNDING, 1.0 - ROUNDING)
        entropy = -goal.scores * ops.log(chance) - (1.0 - goal.scores) * ops.log(1.0 - chance)
        focal = ops.square(goal.scores - scores) * entropy
        quality = ops.sum(focal * goal.counted[..., None], axis=(1, 2))
        found = ops.sum(goal.scores, axis=-1)
        weight = ops.maximum(found, LEAST_WEIGHT) * goal.positive
        distance = ops.sum((1.0 - generalized_iou(boxes, goal.boxes)) * weight, axis=1)
        unit = ops.maximum(ops.mean(ops.sum(found, axis=1)), 1.0)
        return (quality + self.box_weight * distance) / unit

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "strides": self.strides,
            "cells_per_box": self.cells_per_box,
            "box_weight": self.box_weight,
        }


def _padding(y_true: Tensor) -> Tensor:
    """A row of padding for each image: no box at all is like any other number of boxes."""
    row = ops.convert_to_tensor([[[0.0, 0.0, 0.0, 0.0, -1.0, 0.0]]])
    return ops.tile(row, (ops.shape(y_true)[0], 1, 1))
