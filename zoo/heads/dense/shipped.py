"""Detectors as they are shipped: what suppresses overlapping boxes lies in the file, so that
whoever runs it gets the boxes that are shown.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.heads.dense.detections import MOST, OVERLAP, SCORE_THRESHOLD

if TYPE_CHECKING:
    import keras

__all__ = ["assembled", "suppressing"]


def suppressing(
    model: "keras.Model",
    image_size: tuple[int, int],
    *,
    iou: float = OVERLAP,
    score_threshold: float = SCORE_THRESHOLD,
    most: int = MOST,
) -> "keras.Model":
    """`model` with suppression behind it; the weights are shared. It takes one image at a time.

    Args:
        model: functional, one output `(batch, cells, 4 + labels)` as of `detection.boxes`.
        image_size: height and width of the model's image, in pixels.
        iou: above which the lower of two boxes of a label goes, 0 to 1.
        score_threshold: what scores must exceed, at least 0.
        most: how many boxes are kept, of all labels together.

    Returns:
        Outputs by name, those of `layers.Suppression`.
    """
    import keras

    from graft.zoo.heads.dense.layers import Suppression

    layer = Suppression(image_size, iou, score_threshold, most, name="suppression")
    return keras.Model(model._inputs_struct, layer(model.output), name=model.name)


def assembled(
    location: np.ndarray, category: np.ndarray, score: np.ndarray, image_size: Sequence[int]
) -> np.ndarray:
    """What `detections.detections_of` gives, from what a file with suppression in it gives.

    Args:
        location: `(n, most, 4)`, y0, x0, y1, x1 as shares of the image.
        category, score: `(n, most)`.
        image_size: height and width of the image that the boxes are to be in pixels of.

    Returns:
        float32 `(n, most, 6)`.
    """
    height, width = image_size
    boxes = location[..., [1, 0, 3, 2]] * np.float32([width, height, width, height])
    found = np.concatenate([boxes, score[..., None], category[..., None]], -1)
    padding = np.float32([0, 0, 0, 0, -1, -1])
    return np.where(score[..., None] < 0, padding, found).astype(np.float32)
