"""Which detections of an image are right, by the rules of COCO (Lin et al. 2014, arXiv:1405.0312).
numpy alone.
"""

from typing import NamedTuple

import numpy as np

from graft.zoo.heads.dense.boxes import area, iou

__all__ = ["AREAS", "IOU_THRESHOLDS", "Detections", "Matches", "TrueBoxes", "match_detections"]

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
DETECTIONS_PER_LABEL = 100
"""Of one label in one image; those with lower scores do not count."""
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""In square pixels, both ends included. The area of a box counts; COCO's own files have that of the
object's outline beside it.
"""


class Detections(NamedTuple):
    """What was found in an image.

    Attributes:
        boxes: `(n, 4)`, x0, y0, x1, y1 in pixels of the image as it is on the disk: sizes count.
        scores: `(n,)`; the order is all that counts.
        labels: `(n,)`, indices.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class TrueBoxes(NamedTuple):
    """What is in an image.

    Attributes:
        boxes: `(n, 4)`, as in `Detections`.
        labels: `(n,)`, indices.
        crowd: bool `(n,)`: regions of many objects, in which detections count neither as right
            nor as wrong.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


class Matches(NamedTuple):
    """Detections of one label in one image, by falling score, for each size and IoU threshold.

    Attributes:
        scores: `(detections,)`.
        hits: bool `(sizes, thresholds, detections)`: found an object that counts.
        ignored: bool, the same shape: neither right nor wrong.
        wanted: how many objects count, `(sizes,)`.
    """

    scores: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    wanted: np.ndarray


def match_detections(found: Detections, there: TrueBoxes) -> Matches:
    """Each detection, highest score first, takes the object that it overlaps most and that is left;
    one that does not count only where no other one is near enough.

    Args:
        found, there: of one label in one image.
    """
    order = np.argsort(-found.scores, kind="stable")[:DETECTIONS_PER_LABEL]
    boxes, truth = found.boxes[order].astype(float), there.boxes.astype(float)
    crowd = there.crowd.astype(bool)
    ends = np.asarray(list(AREAS.values()))
    skipped = crowd | _outside(truth, ends)  # (sizes, truths)
    shape = (len(ends), len(IOU_THRESHOLDS))
    matched, ignored = np.zeros((2, *shape, len(boxes)), bool)
    free = np.ones((*shape, len(truth)), bool)
    for place, row in enumerate(iou(boxes, truth, crowd)):
        if not (row >= IOU_THRESHOLDS[0]).any():
            continue
        near = free & (row >= IOU_THRESHOLDS[:, None])
        counting = near & ~skipped[:, None]
        pool = np.where(counting.any(-1, keepdims=True), counting, near)
        # Of equal overlaps COCO takes the last object.
        best = len(truth) - 1 - np.where(pool, row, -1.0)[..., ::-1].argmax(-1)
        matched[..., place] = pool.any(-1)
        ignored[..., place] = matched[..., place] & np.take_along_axis(skipped, best, -1)
        taken = matched[..., place, None] & (np.arange(len(truth)) == best[..., None])
        free &= ~taken | crowd  # a crowd region is never used up
    ignored |= ~matched & _outside(boxes, ends)[:, None]
    return Matches(found.scores[order], matched & ~ignored, ignored, (~skipped).sum(-1))


def _outside(boxes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which boxes are not of each size, `(sizes, boxes)`."""
    areas = area(boxes)
    return (areas < ends[:, :1]) | (areas > ends[:, 1:])
