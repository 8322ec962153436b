"""From what a model of boxes gives to the boxes that are shown: the reference that exported files
are compared with. numpy alone.

`layers.Suppression` does the same inside a graph. So that all forms agree to the last box, each
step is one that all runtimes have: candidates are the pairs of cell and label with the highest
scores, of equal ones the first; they keep that order; boxes of different labels are kept from
meeting by being moved apart; and empty boxes are left out, because TFLite fills the list with the
first one. (TFLite alone also suppresses at an IoU of exactly the limit.)
"""

from collections.abc import Sequence

import numpy as np

from graft.zoo.heads.dense.boxes import suppress

__all__ = [
    "CANDIDATES",
    "CATEGORY",
    "LOCATION",
    "MOST",
    "NUMBER",
    "OUTPUTS",
    "OVERLAP",
    "SCORE",
    "SCORE_THRESHOLD",
    "assembled",
    "detections_of",
]

OVERLAP = 0.55
"""The IoU above which the lower of two boxes of a label goes; 0.5 to 0.6 was best of what was
tried.
"""
SCORE_THRESHOLD = 0.001
"""What scores must exceed."""
MOST = 100
"""How many boxes of an image are kept."""
CANDIDATES = 1000
"""How many pairs of cell and label of an image are compared."""
LOCATION = "location"
CATEGORY = "category"
SCORE = "score"
NUMBER = "number_of_detections"
OUTPUTS = (LOCATION, CATEGORY, SCORE, NUMBER)
"""What `layers.Suppression` gives, in the order that detectors of mobile phones have."""


def detections_of(
    raw: np.ndarray,
    iou: float = OVERLAP,
    score_threshold: float = SCORE_THRESHOLD,
    most: int = MOST,
) -> np.ndarray:
    """The boxes of each image after suppression.

    Args:
        raw: float32 `(n, cells, 4 + labels)`: boxes x0, y0, x1, y1 in pixels, then scores.
        iou: above which the lower of two boxes of a label goes, 0 to 1.
        score_threshold: what scores must exceed, at least 0.
        most: how many boxes of an image are kept, of all labels together.

    Returns:
        float32 `(n, most, 6)`: x0, y0, x1, y1, score, index of the label, by falling score. The
        rows behind the last box have score -1, label -1 and a box of zeros.
    """
    raw = np.asarray(raw, np.float32)
    found = np.zeros((len(raw), most, 6), np.float32)
    found[..., 4:] = -1
    for rows, image in zip(found, raw, strict=True):
        kept = _kept(image, iou, score_threshold, most)
        rows[: len(kept)] = kept
    return found


def assembled(
    location: np.ndarray, category: np.ndarray, score: np.ndarray, image_size: Sequence[int]
) -> np.ndarray:
    """What `detections_of` gives, from what a file with suppression in it gives.

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


def _kept(image: np.ndarray, iou: float, score_threshold: float, most: int) -> np.ndarray:
    """Of one image, `(kept, 6)`."""
    labels_count = image.shape[-1] - 4
    scores = image[:, 4:].reshape(-1)
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    cells, labels = np.divmod(order, labels_count)
    boxes, scores = image[cells, :4], scores[order]
    apart = _apart(boxes, labels, labels_count)
    is_candidate = (scores > score_threshold) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    apart, boxes, scores, labels = (part[is_candidate] for part in (apart, boxes, scores, labels))
    kept = suppress(apart, scores, labels, iou, most)
    return np.concatenate([boxes[kept], scores[kept, None], labels[kept, None]], -1)


def _apart(boxes: np.ndarray, labels: np.ndarray, labels_count: int) -> np.ndarray:
    """Boxes moved so that those of different labels do not meet: labels lie in a square grid, where
    coordinates are smaller, and so more exact, than in a row.
    """
    side = np.ceil(np.sqrt(labels_count)).astype(int)
    step = boxes.max(initial=0) + np.float32(1)
    across, down = labels % side * step, labels // side * step
    return boxes + np.stack([across, down, across, down], -1).astype(np.float32)
