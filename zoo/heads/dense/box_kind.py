"""Boxes as a kind of answer: rows of what is left after suppression."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from graft.zoo.heads.columns import MeanOf
from graft.zoo.heads.dense import detections
from graft.zoo.heads.dense.average_precision import MAP50, DetectionMeter
from graft.zoo.heads.dense.boxes import iou
from graft.zoo.heads.dense.matching import Detections, TrueBoxes
from graft.zoo.heads.kind import Kind, Scorer
from graft.zoo.heads.scores import Score

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["BOXES", "Boxes", "detection_meter"]

SURE = 0.3
"""The score from which on a box of Keras counts as one where nobody knows the truth."""
COMPARED = 0.1
"""The score from which on boxes are compared number by number."""
NOTHING = np.array([[0.0, 0, 1, 1, 0]])
ALIKE = 0.99
"""The IoU of two boxes that are the same."""


class Boxes(Kind):
    """Rows `(n, most, 6)`: x0, y0, x1, y1 in pixels of the model's image, score, label; -1 for both
    behind the last box. Truth is float32 `(n, most, 6)` with a label, which is -1 where there is no
    box, and 1 for a crowd region in their place.
    """

    name: ClassVar[str] = "boxes"
    figure: ClassVar[str] = MAP50.name
    key: ClassVar[str] = MAP50.key
    agreement: ClassVar[str] = "mAP50 against the boxes of Keras"
    bounded: ClassVar[bool] = False
    named: ClassVar[bool] = False
    alone: ClassVar[bool] = True
    vision_task: ClassVar[Literal["", "segmenter", "detector"]] = "detector"

    def file_outputs(self, name: str) -> tuple[str, ...]:
        """The four that detectors of phones have, whatever the output is called."""
        return detections.OUTPUTS

    def ship(self, name: str, values: "tf.Tensor", size: tuple[int, int]) -> "dict[str, tf.Tensor]":
        """The boxes of one image after suppression."""
        from graft.zoo.heads.dense.layers import Suppression

        return Suppression(size).call(values)

    def float_layers(self, name: str) -> tuple[str, ...]:
        """What decodes and suppresses boxes."""
        return (
            f"{name}_decoded",
            f"{name}_sigmoid",
            f"{name}_shipped",
            f"{name}_rows",
            f"/{name}/",
        )

    def shipped(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The same."""
        return detections.detections_of(values)

    def gathered(
        self, name: str, outputs: Mapping[str, np.ndarray], size: tuple[int, int]
    ) -> np.ndarray:
        """The same, in pixels of the model's image."""
        parts = (outputs[part] for part in detections.OUTPUTS[:3])
        return detections.assembled(*parts, size)

    def compared(self, reference: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corners and score of each box of the reference, `(m, 5)`, and of the box of its label
        that lies nearest; zeros where there is none.
        """
        pairs = [_paired(*images) for images in zip(reference, outputs, strict=True)]
        left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
        if not len(left):  # nothing is sure in any image, which is the same of both
            return NOTHING, NOTHING
        return left, right

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """mAP50: the mean over the labels that some image shows."""
        labels = 1 + int(max(outputs[..., 5].max(), targets[..., 4].max(), 0))
        whole = detection_meter(outputs, targets, labels).score(MAP50)
        return Score(whole.name, whole.key, whole.examples, [MeanOf(tuple(whole.columns))])

    def score_against(self, reference: np.ndarray, margin: float) -> Scorer:
        """The same, with the boxes of `reference` that are sure for true ones."""
        truth = np.zeros_like(reference)
        truth[..., :4] = reference[..., :4]
        truth[..., 4] = np.where(reference[..., 4] >= SURE, reference[..., 5], -1)
        return lambda values: self.score(values, truth)

    def same(self, reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Where boxes as `compared` pairs them are the same."""
        overlaps = [
            iou(a[None, :4], b[None, :4])[0, 0] for a, b in zip(reference, outputs, strict=True)
        ]
        return np.array(overlaps) >= ALIKE

    def near_ties(self, reference: np.ndarray) -> int:
        """None that matter: a figure of ranked boxes hardly moves by one of them."""
        return 0

    def register_layers(self) -> None:
        """The layer that decodes boxes."""
        from graft.zoo.heads.dense import layers  # noqa: F401


BOXES = Boxes()


def detection_meter(found: np.ndarray, targets: np.ndarray, labels: int) -> DetectionMeter:
    """The meter that has seen these boxes. Sizes are in pixels of the model's image, not of the
    file's: figures of small and large objects are of those.

    Args:
        found: rows as of `Boxes`.
        targets: float32 `(n, most, 6)`.
        labels: how many there are.
    """
    meter = DetectionMeter(labels)
    for rows, there in zip(found, targets, strict=True):
        rows, there = rows[rows[:, 4] >= 0], there[there[:, 4] >= 0]
        meter.add(
            Detections(rows[:, :4], rows[:, 4], rows[:, 5].astype(int)),
            TrueBoxes(there[:, :4], there[:, 4].astype(int), there[:, 5] > 0),
        )
    return meter


def _paired(reference: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of one image, as `Boxes.compared` gives them."""
    left = reference[reference[:, 4] >= COMPARED]
    right = np.zeros((len(left), 5), reference.dtype)
    overlap = iou(left[:, :4], found[:, :4])
    overlap[left[:, 5, None] != found[None, :, 5]] = -1
    if overlap.size:
        best = overlap.argmax(1)
        is_there = overlap[np.arange(len(left)), best] > 0
        right[is_there] = found[best[is_there], :5]
    return left[:, :5], right
