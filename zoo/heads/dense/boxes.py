"""Geometry of boxes, and greedy non-maximum suppression: what exported files are compared with.
numpy alone.

A box is a row `x0, y0, x1, y1` in pixels, y downwards; x1 and y1 lie outside of it, so that its
width is x1 - x0. One that ends before it begins is empty.
"""

import numpy as np

__all__ = ["area", "clip", "giou", "iou", "suppress"]


def area(boxes: np.ndarray) -> np.ndarray:
    """The area of each box.

    Args:
        boxes: `(n, 4)`.

    Returns:
        `(n,)`, 0 for empty boxes.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union of all pairs, computed in the type of the boxes.

    Args:
        first: `(n, 4)`.
        second: `(m, 4)`.
        crowd: bool `(m,)`, which boxes of `second` are crowd regions. There the share of the first
            box that lies in the region is given, as COCO has it. None: no one is.

    Returns:
        `(n, m)`, 0 to 1; 0 where a box is empty.
    """
    common = _intersection(first, second)
    whole = area(first)[:, None] + area(second) - common
    if crowd is not None:
        whole = np.where(crowd, area(first)[:, None], whole)
    return _ratio(common, whole)


def giou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Generalized intersection over union of all pairs (Rezatofighi et al. 2019, arXiv:1902.09630):
    what the smallest box around both wastes is taken off.

    Args:
        first: `(n, 4)`.
        second: `(m, 4)`.

    Returns:
        `(n, m)`, -1 to 1.
    """
    common = _intersection(first, second)
    union = area(first)[:, None] + area(second) - common
    low = np.minimum(first[:, None, :2], second[:, :2])
    high = np.maximum(first[:, None, 2:], second[:, 2:])
    hull = np.prod(np.maximum(high - low, 0), -1)
    return _ratio(common, union) - _ratio(hull - union, hull)


def clip(boxes: np.ndarray, height: float, width: float) -> np.ndarray:
    """The parts of boxes that lie in an image.

    Args:
        boxes: `(n, 4)`.
        height, width: of the image, in pixels.

    Returns:
        `(n, 4)`; a box outside of the image is empty.
    """
    return np.clip(boxes, 0, np.asarray([width, height, width, height], boxes.dtype))


def suppress(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, overlap: float, most: int
) -> np.ndarray:
    """Greedy non-maximum suppression within each label.

    The box with the highest score is kept, those of its label that overlap it by more than
    `overlap` are left out, and so on. Of equal scores the lower index comes first, and an IoU of
    exactly `overlap` does not suppress: so do NonMaxSuppression of TensorFlow and of ONNX. They
    compute in float32; so does this, given boxes in float32. A score that is not a number is never
    kept.

    Args:
        boxes: `(n, 4)`.
        scores: `(n,)`.
        labels: `(n,)`, whole numbers.
        overlap: the IoU above which the lower score goes, 0 to 1.
        most: how many boxes are kept, of all labels together.

    Returns:
        The indices of the kept boxes, highest score first, `(kept,)`.
    """
    waiting = np.argsort(-scores, kind="stable")
    waiting = waiting[~np.isnan(scores[waiting])]
    kept: list[int] = []
    while len(waiting) and len(kept) < most:
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        overlaps = iou(boxes[best : best + 1], boxes[waiting])[0]
        waiting = waiting[~((labels[waiting] == labels[best]) & (overlaps > overlap))]
    return np.asarray(kept, np.int64)


def _intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    sides = np.maximum(high - low, 0)
    # Where one of the boxes is empty, `high` may still lie behind `low` on both axes.
    valid = (area(first) > 0)[:, None] & (area(second) > 0)
    return np.where(valid, sides[..., 0] * sides[..., 1], 0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
