"""What is said of a file: accuracy beside Keras's, its intervals, the gate, calibration error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.export.gate import Gate, accuracy
from graft.export.intervals import calibration_error, paired_drop
from graft.export.parity import parity
from graft.zoo.heads.embedding import EMBEDDING
from graft.zoo.heads.multi_label import MULTI_LABEL
from graft.zoo.heads.regression import REGRESSION
from graft.zoo.heads.scores import resamples
from graft.zoo.heads.single_label import SINGLE_LABEL
from graft.zoo.heads.tags import TAGS, entity_f1


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
    return accuracy(reference, answers(after)[0], targets, Gate(SINGLE_LABEL, max_drop))


def test_what_is_lost_decides_and_what_chance_may_explain_is_undecided():
    assert judged(0, 0).status == "pass"
    assert judged(1, 0).status == "pass", "one photo of 341"
    assert judged(3, 0).drop_points < 1
    assert judged(3, 0).status == "pass"
    assert judged(4, 0).drop_points > 1
    assert judged(4, 0).status == "undecided", "four of 341, and chance might have done it"
    assert judged(20, 18).status == "pass", "many answers changed, as many to the better"
    assert judged(30, 10).status == "fail"
    assert judged(150, 2).status == "fail"
    assert judged(12, 0, max_drop=1.0).status == "fail"
    assert judged(12, 0, max_drop=2.0).status == "undecided"
    assert judged(12, 0, max_drop=4.0).status == "pass"


def test_a_sixth_of_thirty_photos_never_passes():
    """Before, 16.7 points passed, because their interval held zero."""
    result = judged(6, 1, n=30)
    assert result.drop_points == pytest.approx(16.67, abs=0.01)
    assert result.status == "undecided"
    assert not result.passed
    assert result.undecided
    assert 30 < result.enough_examples < 60


@settings(max_examples=50, deadline=None)
@given(st.integers(5, 400), st.data(), st.sampled_from([0.0, 1.0, 5.0]))
def test_more_is_never_lost_with_a_better_status(n, data, max_drop):
    lost = data.draw(st.integers(0, n))
    won = data.draw(st.integers(0, n - lost))
    order = ("pass", "undecided", "fail")
    result = judged(lost, won, n, max_drop)
    assert result.passed == (result.drop_points <= max_drop + 1e-9)
    assert (result.enough_examples is not None) == (result.status == "undecided")
    if lost + won < n:
        assert order.index(judged(lost + 1, won, n, max_drop).status) >= order.index(result.status)


def test_as_many_examples_as_it_says_would_decide():
    few = judged(6, 1, n=60, max_drop=1.0)
    assert few.status == "undecided"
    times = -(-few.enough_examples // 60)
    assert judged(6 * times, times, n=60 * times, max_drop=1.0).status == "fail"


@given(st.integers(1, 400), st.data())
def test_the_interval_of_a_paired_drop_holds_the_drop_and_narrows(n, data):
    lost = data.draw(st.integers(0, n))
    won = data.draw(st.integers(0, n - lost))
    before, after = np.zeros(n, bool), np.zeros(n, bool)
    before[:lost], after[lost : lost + won] = True, True
    drop, low, high = paired_drop(before, after)
    assert drop == pytest.approx(100 * (lost - won) / n)
    assert -100 <= low <= high <= 100
    wide = high - low
    _, low, high = paired_drop(np.tile(before, 9), np.tile(after, 9))
    assert high - low <= wide + 1e-9
    back, _, _ = paired_drop(after, before)
    assert back == pytest.approx(-drop)


def test_the_paired_interval_covers_what_is_true():
    """Of 2,000 pairs of classifiers with a true difference of 3 points, the interval misses it
    about one time in twenty.
    """
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        draw = rng.random(341)
        _, low, high = paired_drop((draw < 0.85) | (draw > 0.95), draw < 0.92)
        hits += low <= 100 * (0.90 - 0.92) <= high
    assert 0.93 <= hits / 2000 <= 0.98


def test_without_labels_keras_has_the_truth():
    outputs, targets = answers([True] * 90 + [False] * 10)
    result = accuracy(targets, outputs, None, Gate(SINGLE_LABEL, 1.0))
    assert (result.truth, result.reference, result.value) == ("keras", 1.0, 0.9)
    assert result.calibration_error is None, "nothing is known of what is right"
    assert not result.passed


def test_values_lose_variance():
    reference = np.random.default_rng(0).normal(size=(100, 3))
    noise = np.random.default_rng(1).normal(size=(100, 3))
    near = accuracy(reference, reference + 0.01 * noise, None, Gate(REGRESSION, 1.0))
    far = accuracy(reference, reference + noise, None, Gate(REGRESSION, 1.0))
    assert near.passed
    assert near.drop_points < 0.1
    assert near.interval[0] < near.value < near.interval[1]
    assert far.status == "fail"
    assert far.drop_points > 50


def test_each_value_is_judged_by_itself():
    """Before, their variance was pooled: a constant passed beside a value of 300 times its
    spread.
    """
    rng = np.random.default_rng(0)
    reference = np.stack([rng.normal(1000, 300, 500), rng.normal(0, 1, 500)], 1)
    outputs = reference.copy()
    outputs[:, 1] = 0
    for targets in (None, reference + rng.normal(0, 0.3, (500, 2))):
        result = accuracy(reference, outputs, targets, Gate(REGRESSION, 1.0))
        assert result.status == "fail"
        assert result.drop_points > 80
    assert not parity(reference, outputs, REGRESSION).passed
    slightly = reference + np.array([0, 0.01])
    assert not parity(reference, slightly, REGRESSION).passed


def test_a_value_that_certainly_fails_is_judged_before_one_that_may():
    """Before, the one with the larger drop alone: together they were undecided, which
    --accept-undecided lets pass.
    """
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(300, 2))
    outputs = reference.copy()
    outputs[7, 0] += 25  # one example alone: chance may explain all of it
    outputs[:, 1] += rng.normal(0, 0.4, 300)
    one = accuracy(reference[:, :1], outputs[:, :1], None, Gate(REGRESSION, 1.0))
    other = accuracy(reference[:, 1:], outputs[:, 1:], None, Gate(REGRESSION, 1.0))
    assert one.drop_points > other.drop_points
    assert (one.status, other.status) == ("undecided", "fail")
    assert accuracy(reference, outputs, None, Gate(REGRESSION, 1.0)).status == "fail"


def test_near_ties_are_answers_that_rounding_may_turn():
    rows = np.float32([[0.5, 0.5], [0.5002, 0.4998], [0.9, 0.1]])
    assert SINGLE_LABEL.near_ties(rows) == TAGS.near_ties(rows) == 2
    assert MULTI_LABEL.near_ties(rows) == 2
    assert REGRESSION.near_ties(rows) == 0


def test_one_vector_for_everything_is_no_embedding():
    """Before, it kept 99 % of the variance about zero, and passed."""
    rng = np.random.default_rng(0)
    middle = rng.normal(size=64)
    vectors = middle / np.linalg.norm(middle) + 0.1 * rng.normal(size=(500, 64)) / 8
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    constant = np.tile(vectors.mean(0), (500, 1))
    labels = np.eye(5)[np.arange(500) % 5]
    assert accuracy(vectors, constant, None, Gate(EMBEDDING, 1.0)).status == "fail"
    alike = np.eye(5)[np.arange(500) % 5] + rng.normal(0, 0.1, (500, 5))
    result = accuracy(alike, np.ones((500, 5)), labels, Gate(EMBEDDING, 1.0))
    assert (result.figure, result.reference, result.status) == ("recall at 1", 1.0, "fail")


def test_several_labels_are_judged_by_average_precision():
    targets = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    outputs = np.abs(targets - 0.1)
    outputs[0, 0] = 0.05
    result = accuracy(np.float64(targets), outputs, targets, Gate(MULTI_LABEL, 1.0))
    assert result.figure == "average precision"
    assert result.value == pytest.approx((1 + (1 + 2 / 4) / 2 + 1) / 3)
    assert result.calibration_error is None


def test_entities_are_judged_sentence_by_sentence():
    """Token by token 97 of 100 right answers hide that every second entity is gone."""
    names = ["O", "B-place"]
    truth = [["O"] * 9 + ["B-place"]] * 40
    flat = np.eye(2)[[names.index(tag) for sentence in truth for tag in sentence]]
    worse = flat.copy()
    worse[19::20] = [1, 0]

    def scorer(rows):
        tags = [names[i] for i in rows.argmax(-1)]
        return entity_f1(truth, [tags[i : i + 10] for i in range(0, 400, 10)])

    result = accuracy(flat, worse, None, Gate(TAGS, 1.0, scorer))
    assert (result.figure, result.examples, result.status) == ("entity F1", 40, "fail")
    assert result.drop_points == pytest.approx(100 / 3, abs=0.1)


def rows_of(tags):
    return np.eye(2)[[["O", "B-place"].index(tag) for sentence in tags for tag in sentence]]


def tag_scorer(truth):
    """As an export makes it: rows of tokens, sentence after sentence."""
    ends = np.cumsum([len(sentence) for sentence in truth])[:-1]

    def scorer(rows):
        named = np.array(["O", "B-place"])[rows.argmax(-1)]
        return entity_f1(truth, [part.tolist() for part in np.split(named, ends)])

    return scorer


def test_a_file_that_is_better_than_keras_where_there_is_no_entity_passes():
    """Before, it had no F1, so that Keras's mistakes were taken for true and it failed."""
    truth = [["O"] * 10] * 40
    wrong = [["B-place"] + ["O"] * 9] * 40
    better = accuracy(rows_of(wrong), rows_of(truth), None, Gate(TAGS, 1.0, tag_scorer(truth)))
    assert (better.figure, better.truth, better.status) == ("accuracy", "labels", "pass")
    assert (better.reference, better.value) == (0.9, 1.0)
    assert better.drop_points == pytest.approx(-10)
    worse = accuracy(rows_of(truth), rows_of(wrong), None, Gate(TAGS, 1.0, tag_scorer(truth)))
    assert (worse.status, worse.drop_points) == ("fail", pytest.approx(10))


def test_resamples_without_an_entity_count_for_neither_side():
    """Before, they counted where something was found, and not where nothing was: one side alone had
    a figure.
    """
    truth = [["B-place"] + ["O"] * 9] + [["O"] * 10] * 9
    wrong = [["B-place"] + ["O"] * 9] * 10
    for guess in (truth, wrong):
        found = entity_f1(truth, guess)
        without = found.drawn(200)[:, 0]
        np.testing.assert_array_equal(np.isnan(without), resamples(10, 200)[:, 0] == 0)


def labelled(labels, n=400, seed=0):
    """(outputs, targets) of a model for several labels that is nearly always right."""
    rng = np.random.default_rng(seed)
    targets = np.float64(rng.random((n, labels)) < 0.2)
    return np.clip(targets * 0.8 + rng.random((n, labels)) * 0.2, 0, 1), targets


def test_each_of_many_labels_is_judged_by_itself():
    """Before, their mean was judged: of 100 labels one could be replaced by a constant for 0.8
    points.
    """
    reference, targets = labelled(100)
    outputs = reference.copy()
    outputs[:, 37] = 0.5
    result = accuracy(reference, outputs, targets, Gate(MULTI_LABEL, 1.0))
    assert (result.status, result.unit) == ("fail", 37)
    assert result.drop_points > 70
    assert result.reference - result.value < 0.01, "the figures are those of all labels"
    assert result.interval[0] <= result.value <= result.interval[1]
    same = accuracy(reference, reference, targets, Gate(MULTI_LABEL, 1.0))
    assert (same.status, same.drop_points, same.value) == ("pass", 0, same.reference)


def test_a_label_that_no_example_has_is_not_judged():
    reference, targets = labelled(5)
    targets[:, 2] = 0
    outputs = reference.copy()
    outputs[:, 2] = 0.5
    result = accuracy(reference, outputs, targets, Gate(MULTI_LABEL, 1.0))
    assert (result.truth, result.status, result.drop_points) == ("labels", "pass", 0)
    targets[:] = 0
    assert accuracy(reference, reference, targets, Gate(MULTI_LABEL, 1.0)).truth == "keras", (
        "none is known"
    )


def test_a_value_that_keras_answers_with_one_number_may_not_stray():
    rng = np.random.default_rng(0)
    reference = np.stack([rng.normal(size=200), np.full(200, 7.0)], 1)
    assert accuracy(reference, reference, None, Gate(REGRESSION, 1.0)).passed
    outputs = reference + np.stack([np.zeros(200), rng.normal(size=200)], 1)
    result = accuracy(reference, outputs, None, Gate(REGRESSION, 1.0))
    assert (result.status, result.drop_points) == ("fail", 100)


def test_outputs_that_are_no_numbers_fail():
    outputs, targets = answers([True] * 50)
    for bad in (np.nan, np.inf, -np.inf):
        assert accuracy(outputs, outputs * bad, targets, Gate(SINGLE_LABEL, 100.0)).status == "fail"


def test_a_reference_in_half_precision_is_as_rough_as_a_float16_file():
    reference, _ = answers([True] * 50)
    rounded = reference + 0.004 * np.random.default_rng(0).normal(size=reference.shape)
    assert not parity(rounded, reference, SINGLE_LABEL).passed
    assert parity(rounded, reference, SINGLE_LABEL, half=True).passed
    assert not parity(rounded[:, ::-1], reference, SINGLE_LABEL, half=True).passed


def test_calibration_error():
    right = np.arange(1000) < 700
    sure = np.tile([[0.7, 0.3]], (1000, 1))
    assert calibration_error(sure, right) == pytest.approx(0, abs=1e-9)
    assert calibration_error(np.tile([[1.0, 0.0]], (1000, 1)), right) == pytest.approx(0.3)
    # By hand: two bins, 0.9 sure and always right, 0.6 sure and never.
    mixed = np.array([[0.9, 0.1]] * 30 + [[0.6, 0.4]] * 10)
    assert calibration_error(mixed, np.arange(40) < 30) == pytest.approx(0.75 * 0.1 + 0.25 * 0.6)


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
    assert parity(reference, outputs, SINGLE_LABEL, precision).passed is passed
