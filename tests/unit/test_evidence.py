"""What is said of a file: accuracy beside Keras's, its intervals, the gate, calibration error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import evidence


def answers(right, labels=5):
    """(outputs, targets) of a classifier that is right where `right` says so."""
    right = np.asarray(right, bool)
    truth = np.arange(len(right)) % labels
    given_ = np.where(right, truth, (truth + 1) % labels)
    return np.eye(labels)[given_] * 0.8 + 0.04, np.eye(labels)[truth]


def judged(lost, won, n=341, max_drop=1.0):
    """The gate's view of a file that loses `lost` right answers of n and wins `won`."""
    before = np.ones(n, bool)
    before[:won] = False
    after = before.copy()
    after[:won] = True
    after[n - lost :] = False
    reference, targets = answers(before)
    return evidence.accuracy(reference, answers(after)[0], targets, "single_label", max_drop)


def test_three_photos_prove_nothing_and_a_collapse_does():
    assert judged(0, 0).passed
    assert judged(3, 0).drop_points < 1
    assert judged(4, 0).drop_points > 1
    assert judged(4, 0).passed, "four of 341, and chance might have done it"
    assert not judged(8, 0).passed
    assert judged(20, 18).passed, "many answers changed, as many to the better"
    assert not judged(30, 10).passed
    assert not judged(150, 2).passed
    assert not judged(8, 0, max_drop=2.0).passed
    assert judged(8, 0, max_drop=3.0).passed


@given(st.integers(1, 400), st.data())
def test_the_interval_of_a_paired_drop_holds_the_drop_and_narrows(n, data):
    lost = data.draw(st.integers(0, n))
    won = data.draw(st.integers(0, n - lost))
    before, after = np.zeros(n, bool), np.zeros(n, bool)
    before[:lost], after[lost : lost + won] = True, True
    drop, low, high = evidence.paired_drop(before, after)
    assert drop == pytest.approx(100 * (lost - won) / n)
    assert -100 <= low <= high <= 100
    wide = high - low
    _, low, high = evidence.paired_drop(np.tile(before, 9), np.tile(after, 9))
    assert high - low <= wide + 1e-9
    back, _, _ = evidence.paired_drop(after, before)
    assert back == pytest.approx(-drop)


def test_the_paired_interval_covers_what_is_true():
    """Of 2,000 pairs of classifiers with a true difference of 3 points, the interval misses it about one time in twenty."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        draw = rng.random(341)
        _, low, high = evidence.paired_drop((draw < 0.85) | (draw > 0.95), draw < 0.92)
        hits += low <= 100 * (0.90 - 0.92) <= high
    assert 0.93 <= hits / 2000 <= 0.98


def test_without_labels_keras_has_the_truth():
    outputs, targets = answers([True] * 90 + [False] * 10)
    result = evidence.accuracy(targets, outputs, None, "single_label", 1.0)
    assert (result.truth, result.reference, result.value) == ("keras", 1.0, 0.9)
    assert result.calibration_error is None, "nothing is known of what is right"
    assert not result.passed


def test_values_lose_variance():
    reference = np.random.default_rng(0).normal(size=(100, 3))
    noise = np.random.default_rng(1).normal(size=(100, 3))
    near = evidence.accuracy(reference, reference + 0.01 * noise, None, "regression", 1.0)
    far = evidence.accuracy(reference, reference + noise, None, "embedding", 1.0)
    assert near.passed
    assert near.drop_points < 0.1
    assert near.interval is None
    assert not far.passed
    assert far.drop_points > 50


def test_several_labels_must_all_be_right():
    targets = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    outputs = np.abs(targets - 0.1)
    outputs[0, 0] = 0.4
    result = evidence.accuracy(np.float64(targets), outputs, targets, "multi_label", 1.0)
    assert (result.value, result.calibration_error) == (0.75, None)


def test_outputs_that_are_no_numbers_fail():
    outputs, targets = answers([True] * 50)
    assert not evidence.accuracy(outputs, outputs * np.nan, targets, "single_label", 100.0).passed


def test_calibration_error():
    right = np.arange(1000) < 700
    sure = np.tile([[0.7, 0.3]], (1000, 1))
    assert evidence.calibration_error(sure, right) == pytest.approx(0, abs=1e-9)
    assert evidence.calibration_error(np.tile([[1.0, 0.0]], (1000, 1)), right) == pytest.approx(0.3)
    # By hand: two bins, 0.9 sure and always right, 0.6 sure and never.
    mixed = np.array([[0.9, 0.1]] * 30 + [[0.6, 0.4]] * 10)
    assert evidence.calibration_error(mixed, np.arange(40) < 30) == pytest.approx(0.75 * 0.1 + 0.25 * 0.6)


@pytest.mark.parametrize(
    ("precision", "off", "passed"),
    [
        ("float32", 5e-5, True),
        ("float32", 5e-3, False),
        ("float16", 5e-3, True),
        ("float16", 5e-2, False),
        ("int8", 5e-2, True),
    ],
)
def test_what_a_precision_may_differ_by(precision, off, passed):
    reference = np.tile([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], (20, 1))
    outputs = reference + np.array([off, -off, 0])
    assert evidence.parity(reference, outputs, "single_label", precision).passed is passed
