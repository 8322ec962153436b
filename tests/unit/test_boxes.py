"""Geometry of boxes, and suppression as TensorFlow and ONNX have it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.zoo.heads.dense.boxes import area, clip, giou, iou, suppress


def drawn(rng, count, side=20, dtype=float):
    """Boxes with whole coordinates, some of them empty."""
    low = rng.integers(0, side, (count, 2))
    return np.concatenate([low, low + rng.integers(0, side // 2, (count, 2))], 1).astype(dtype)


def painted(box, side=40):
    """The pixels of a box."""
    x0, y0, x1, y1 = box.astype(int)
    pixels = np.zeros((side, side), bool)
    pixels[y0:y1, x0:x1] = True
    return pixels


@given(st.integers(0, 2**32 - 1))
def test_overlaps_are_those_of_counted_pixels(seed):
    rng = np.random.default_rng(seed)
    first, second = drawn(rng, 5), drawn(rng, 4)
    crowd = rng.random(4) < 0.5
    plain, regions, general = iou(first, second), iou(first, second, crowd), giou(first, second)
    for i, a in enumerate(map(painted, first)):
        assert area(first)[i] == a.sum()
        for j, b in enumerate(map(painted, second)):
            common, union = (a & b).sum(), (a | b).sum()
            expected = common / union if union else 0.0
            assert plain[i, j] == pytest.approx(expected)
            share = common / a.sum() if a.any() else 0.0
            assert regions[i, j] == pytest.approx(share if crowd[j] else expected)
            low, high = (
                np.minimum(first[i, :2], second[j, :2]),
                np.maximum(first[i, 2:], second[j, 2:]),
            )
            hull = np.prod(high - low)
            waste = (hull - union) / hull if hull else 0.0
            assert general[i, j] == pytest.approx(expected - waste)


def test_boxes_that_end_before_they_begin_are_empty():
    turned, whole = np.array([[9.0, 9, 1, 1]]), np.array([[0.0, 0, 10, 10]])
    assert area(turned) == 0
    assert iou(turned, whole) == iou(turned, turned) == 0
    assert iou(whole, turned) == 0


def test_boxes_are_clipped_to_an_image_that_is_no_square():
    boxes = np.float32([[-5, -5, 50, 50], [30, 5, 60, 60], [70, 0, 90, 10]])
    found = clip(boxes, height=40, width=55)
    assert found.dtype == np.float32
    assert found.tolist() == [[0, 0, 50, 40], [30, 5, 55, 40], [55, 0, 55, 10]]
    assert area(found)[-1] == 0


def test_no_boxes_are_no_boxes():
    none = np.zeros((0, 4))
    assert area(none).shape == (0,)
    assert iou(none, np.ones((3, 4))).shape == giou(none, np.ones((3, 4))).shape == (0, 3)
    assert suppress(none, np.zeros(0), np.zeros(0, int), 0.5, 10).shape == (0,)


def greedy(boxes, scores, labels, overlap, most):
    """As the kernel of TensorFlow: each candidate is held against all that were selected."""
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if len(kept) == most:
            break
        overlaps = [
            (painted(boxes[index]) & painted(boxes[k])).sum()
            / max((painted(boxes[index]) | painted(boxes[k])).sum(), 1)
            for k in kept
            if labels[k] == labels[index]
        ]
        if not any(found > overlap for found in overlaps):
            kept.append(index)
    return kept


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.5]), st.integers(0, 12))
def test_suppression_is_greedy_within_labels(seed, overlap, most):
    rng = np.random.default_rng(seed)
    boxes = drawn(rng, 12, side=8, dtype=np.float32)
    scores = np.float32(rng.integers(1, 5, 12) / 4)  # ties
    labels = rng.integers(0, 2, 12)
    found = suppress(boxes, scores, labels, overlap, most)
    assert found.tolist() == greedy(boxes, scores, labels, overlap, most)


def test_ties_and_thresholds_of_suppression():
    boxes = np.float32([[0, 0, 2, 1], [0, 0, 1, 1], [0, 0, 2, 1]])  # IoU 0.5 and 1
    same = np.zeros(3, int)
    assert suppress(boxes, np.float32([0.5, 0.5, 0.5]), same, 0.5, 9).tolist() == [0, 1]
    assert suppress(boxes, np.float32([0.5, 0.5, 0.9]), same, 0.49, 9).tolist() == [2]
    assert suppress(boxes, np.float32([0.5, np.nan, 0.9]), np.arange(3), 0.5, 9).tolist() == [2, 0]
