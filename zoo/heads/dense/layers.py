"""The Keras layers that models of boxes hold, registered: they load in safe mode elsewhere."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from graft.zoo.heads.dense.cells import cells_of
from graft.zoo.heads.dense.detections import (
    CANDIDATES,
    CATEGORY,
    LOCATION,
    MOST,
    NUMBER,
    OVERLAP,
    SCORE,
    SCORE_THRESHOLD,
)

__all__ = ["BoxDecoder", "Suppression"]

Tensor = Any
"""A tensor of the backend, or of a graph that is being built."""


@keras.saving.register_keras_serializable(package="graft")
class BoxDecoder(keras.layers.Layer):
    """Logarithms of the distances from each cell's centre to the four sides of a box, in strides
    `(batch, cells, 4)` -> boxes x0, y0, x1, y1 in pixels of the image, in float32.

    Boxes are clipped to the image, but while training: a side that is clipped has no gradient, so
    that one far outside would stay there.

    Args:
        image_size: height and width of the model's image, in pixels.
        strides: of the maps that the cells are of.
    """

    def __init__(self, image_size: Sequence[int], strides: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.image_size, self.strides = tuple(image_size), tuple(strides)
        self.cells = cells_of(self.image_size, self.strides)

    def call(self, logarithms: Tensor, training: bool = False) -> Tensor:
        """The boxes."""
        height, width = self.image_size
        # No distance in the image is longer; the exponential of a larger number may be infinite.
        longest = math.log(2 * max(height, width) / min(self.strides))
        distances = ops.exp(ops.minimum(logarithms, longest)) * self.cells.strides[:, None]
        low = self.cells.centres - distances[..., :2]
        high = self.cells.centres + distances[..., 2:]
        boxes = ops.concatenate([low, high], -1)
        if training:
            return boxes
        return ops.minimum(ops.maximum(boxes, 0.0), [width, height, width, height])

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {**super().get_config(), "image_size": self.image_size, "strides": self.strides}


@keras.saving.register_keras_serializable(package="graft")
class Suppression(keras.layers.Layer):
    """What `detections.detections_of` does, inside a graph of TensorFlow that TFLite and ONNX have
    built-in operators for: `(1, cells, 4 + labels)` -> the tensors that detectors of mobile phones
    give.

    - `location` `(1, most, 4)`: y0, x0, y1, x1 as shares of the image's height and width;
    - `category` `(1, most)`: indices of labels, as floats;
    - `score` `(1, most)`: falling; -1 behind the last box, where the other two are 0;
    - `number_of_detections` `(1,)`: always `most`.

    A batch is one image: another number of them is refused by every runtime.

    Args:
        image_size: height and width of the model's image, in pixels.
        iou: above which the lower of two boxes of a label goes, 0 to 1.
        score_threshold: what scores must exceed, at least 0.
        most: how many boxes are kept, of all labels together.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        iou: float = OVERLAP,
        score_threshold: float = SCORE_THRESHOLD,
        most: int = MOST,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.image_size = tuple(image_size)
        self.iou, self.score_threshold, self.most = iou, score_threshold, most

    def call(self, raw: Tensor) -> dict[str, Tensor]:
        """The four tensors, by name."""
        import tensorflow as tf

        cells, columns = raw.shape[1:]
        labels_count = columns - 4
        image = tf.reshape(raw, (cells, columns))
        candidates = min(CANDIDATES, cells * labels_count)
        scores, order = tf.math.top_k(tf.reshape(image[:, 4:], (-1,)), candidates)
        labels = order % labels_count
        boxes = tf.gather(image[:, :4], order // labels_count)
        is_empty = tf.reduce_any(boxes[:, 2:] <= boxes[:, :2], axis=1)
        is_candidate = tf.logical_and(scores > self.score_threshold, tf.logical_not(is_empty))
        # The candidates are in order, and of equal scores the first comes first. Suppression is
        # handed their places in place of scores, because TFLite takes equal ones in any order.
        places = tf.range(candidates, 0, -1, tf.float32)
        kept, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=_apart(boxes, labels, labels_count),
            scores=tf.where(is_candidate, places, -1.0),
            max_output_size=self.most,
            iou_threshold=self.iou,
            score_threshold=0.0,
            pad_to_max_output_size=True,
        )
        is_box = tf.range(self.most) < count
        height, width = self.image_size
        shares = tf.gather(boxes, kept) / [width, height, width, height]
        shares = tf.gather(shares, [1, 0, 3, 2], axis=1)
        category = tf.cast(tf.gather(labels, kept), tf.float32)
        return {
            LOCATION: tf.where(is_box[:, None], shares, 0.0)[None],
            CATEGORY: tf.where(is_box, category, 0.0)[None],
            SCORE: tf.where(is_box, tf.gather(scores, kept), -1.0)[None],
            # It is `most`, but of a constant tf2onnx makes no output.
            NUMBER: tf.cast(tf.maximum(count, self.most), tf.float32)[None],
        }

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {
            **super().get_config(),
            "image_size": self.image_size,
            "iou": self.iou,
            "score_threshold": self.score_threshold,
            "most": self.most,
        }


def _apart(boxes: Tensor, labels: Tensor, labels_count: int) -> Tensor:
    """As in `detections.py`."""
    import tensorflow as tf

    side = math.ceil(math.sqrt(labels_count))
    step = tf.maximum(tf.reduce_max(boxes), 0.0) + 1.0
    across, down = (tf.cast(place, tf.float32) * step for place in (labels % side, labels // side))
    return boxes + tf.stack([across, down, across, down], -1)
