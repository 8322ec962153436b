"""Rounding of probabilities is no fault of a file."""

import numpy as np
import pytest

from graft.export.parity import parity
from graft.zoo.heads.kind import SIGMOID_ROUNDING
from graft.zoo.heads.table import find_kind

MULTI_LABEL = find_kind("multi_label")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.float64(logits)))


def test_a_sigmoid_may_be_computed_as_a_half_plus_something():
    """As onnxruntime does: near 0 and 1 what is rounded is much of the logit."""
    exact = sigmoid(np.linspace(-16, 16, 3000)).reshape(-1, 3)
    from_half = np.float32(0.5) + np.float32(exact - 0.5)
    assert np.abs(from_half - exact).max() > 1e-8
    assert parity(np.float32(exact), from_half, MULTI_LABEL).passed


@pytest.mark.parametrize("shift", [0.01, -0.01])
def test_small_probabilities_hide_no_fault(shift):
    logits = np.random.default_rng(0).normal(-7, 0.5, (100, 3))
    made = parity(np.float32(sigmoid(logits)), np.float32(sigmoid(logits + shift)), MULTI_LABEL)
    assert made.max_abs_diff < 1e-4
    assert made.logit_diff > 1e-3
    assert not made.passed


def test_a_softmax_has_no_such_rounding():
    """Its small probabilities are computed as they are: one that is a fifth larger is a fault."""
    rows = np.tile(np.float32([1 - 2e-6, 1e-6, 1e-6]), (100, 1))
    other = rows * np.float32([1, 1.2, 1])
    assert np.abs(rows - other).max() < SIGMOID_ROUNDING
    assert not parity(rows, other).passed
    assert parity(rows, other, MULTI_LABEL).passed


def test_what_is_no_number_has_no_difference():
    rows = np.full((4, 2), 0.5, np.float32)
    made = parity(rows, np.where(np.arange(8).reshape(4, 2) == 3, np.nan, rows), MULTI_LABEL)
    assert np.isnan(made.logit_diff)
    assert not made.passed
