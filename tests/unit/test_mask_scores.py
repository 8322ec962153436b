"""Figures of label maps are those of scikit-learn, or of counting pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from graft.export.intervals import interval
from graft.zoo.errors import DataError
from graft.zoo.heads import scores
from graft.zoo.heads.masks import mask_scores as ms

CLASSES = 4
seeds = st.integers(0, 2**32 - 1)


def blobs(rng, shape, count=5):
    """A map of overlapping rectangles, numbered from 1."""
    found = np.zeros(shape, np.uint8)
    for number in range(1, count + 1):
        y, x = rng.integers(0, shape)
        found[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = number
    return found


def maps(seed, n=5, ignored=0.1):
    """(truth, predicted) of images of different sizes; the last class is never there, and one image
    is ignored as a whole.
    """
    rng = np.random.default_rng(seed)
    truth, predicted = [], []
    for image in range(n):
        shape = tuple(rng.integers(8, 20, 2))
        true = blobs(rng, shape) % (CLASSES - 1)
        guess = np.roll(true, rng.integers(-2, 3, 2), (0, 1))
        noise = rng.random(shape) < 0.05
        guess[noise] = rng.integers(0, CLASSES - 1, noise.sum())
        true[rng.random(shape) < (1 if image == 1 else ignored)] = ms.IGNORED
        truth.append(true)
        predicted.append(guess)
    return truth, predicted


def flat(truth, predicted):
    true, guess = (np.concatenate([one.ravel() for one in many]) for many in (truth, predicted))
    return true[true != ms.IGNORED], guess[true != ms.IGNORED]


@given(seeds)
def test_pooled_figures_are_those_of_scikit_learn(seed):
    truth, predicted = maps(seed)
    counts = ms.confusion(truth, predicted, CLASSES)
    pair = flat(truth, predicted)
    assert (counts.sum(0) == confusion_matrix(*pair, labels=range(CLASSES))).all()
    assert counts[1].sum() == 0
    present = np.union1d(*pair)  # classes that are in neither are left out
    found = ms.mean_iou(counts)
    assert np.isnan(found.units[-1])
    assert found.value == pytest.approx(jaccard_score(*pair, labels=present, average="macro"))
    everything = ms.pooled_dice(counts, background=None)
    assert everything.value == pytest.approx(f1_score(*pair, labels=present, average="macro"))
    objects = present[present != 0]
    wanted = f1_score(*pair, labels=objects, average="macro") if len(objects) else np.nan
    assert ms.pooled_dice(counts).value == pytest.approx(wanted, nan_ok=True)
    assert ms.pixel_accuracy(counts).value == pytest.approx(accuracy_score(*pair))


@given(seeds)
def test_mean_dice_is_that_of_each_image(seed):
    truth, predicted = maps(seed)
    found = ms.mean_dice(ms.confusion(truth, predicted, CLASSES))
    for label, unit in zip(range(1, CLASSES), found.units, strict=True):
        values = [
            f1_score(true == label, guess == label)
            for true, guess in (
                flat([true], [guess]) for true, guess in zip(truth, predicted, strict=True)
            )
            if (true == label).any() or (guess == label).any()
        ]
        assert unit == pytest.approx(np.mean(values) if values else np.nan, nan_ok=True)


def boundary(labels, label, judged):
    """The pixels of a boundary, one by one."""
    height, width = labels.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if judged[y, x] and labels[y, x] == label
        if any(
            0 <= v < height and 0 <= u < width and judged[v, u] and labels[v, u] != label
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        )
    ]


def share_near(points, others, near):
    distances = np.hypot(*(np.array(points)[:, None] - np.array(others)).transpose(2, 0, 1))
    return (distances.min(1) <= near).mean()


@settings(max_examples=30)
@given(seeds, st.sampled_from([0.0, 0.05, 0.12]))
def test_boundaries_are_those_found_pixel_by_pixel(seed, tolerance):
    truth, predicted = maps(seed, n=3, ignored=0.03)
    found = ms.boundary_f(truth, predicted, CLASSES, tolerance=tolerance)
    for label in range(CLASSES):
        values = []
        for true, guess in zip(truth, predicted, strict=True):
            judged = true != ms.IGNORED
            first, second = boundary(true, label, judged), boundary(guess, label, judged)
            if not first and not second:
                continue
            near = tolerance * np.sqrt(true.shape[0] ** 2 + true.shape[1] ** 2)
            both = first and second
            precision = share_near(second, first, near) if both else 0
            recall = share_near(first, second, near) if both else 0
            total = precision + recall
            values.append(2 * precision * recall / total if total else 0)
        expected = np.mean(values) if values else np.nan
        assert found.units[label] == pytest.approx(expected, nan_ok=True)


def test_a_boundary_may_lie_as_far_off_as_the_tolerance_says():
    """The diagonal of 300 x 400 pixels is 500, of which .75 % are 3.75 pixels."""
    truth = np.zeros((300, 400), np.uint8)
    truth[100:200, 100:200] = 1
    values = [ms.boundary_f([truth], [np.roll(truth, by, 1)], 2).value for by in (0, 3, 4)]
    assert values[:2] == [1, 1]
    assert values[2] < 0.6


def test_edges_of_an_image_and_of_ignored_pixels_are_no_boundaries():
    truth = np.ones((9, 9), np.uint8)
    assert np.isnan(ms.boundary_f([truth], [truth], 2).value)
    truth[:, 4:] = 0
    truth[:, 3:5] = ms.IGNORED  # a band where one class ends and the other begins
    predicted = np.repeat(np.uint8([1, 1, 1, 1, 0, 0, 0, 0, 0])[None], 9, 0)
    assert np.isnan(ms.boundary_f([truth], [predicted], 2).value)


def assigned(true, guess):
    """Found, missed, invented, by the best assignment."""
    wanted, given = (np.setdiff1d(part, 0) for part in (true, guess))
    overlaps = np.array(
        [
            [((true == a) & (guess == b)).sum() / ((true == a) | (guess == b)).sum() for b in given]
            for a in wanted
        ]
    ).reshape(len(wanted), len(given))
    pairs = linear_sum_assignment(overlaps >= 0.5, maximize=True)
    hits = (overlaps[pairs] >= 0.5).sum()
    return hits, len(wanted) - hits, len(given) - hits


@given(seeds)
def test_instances_are_those_of_the_best_assignment(seed):
    rng = np.random.default_rng(seed)
    truth = [blobs(rng, (12, 14), rng.integers(0, 6)) for _ in range(4)]
    predicted = [np.roll(one, rng.integers(-1, 2), 1) for one in truth]
    predicted[0] = (predicted[0] != 0) * rng.integers(1, 3, predicted[0].shape)
    hits, missed, invented = np.sum(list(map(assigned, truth, predicted)), 0)
    total = hits + missed + invented
    expected = hits / total if total else np.nan
    assert ms.instance_ap50(truth, predicted).value == pytest.approx(expected, nan_ok=True)


def test_an_instance_cut_in_halves_is_found_once():
    whole, halves = np.ones((4, 4), int), np.ones((4, 4), int)
    halves[2:] = 300  # numbers may be large
    assert ms.instance_ap50([whole], [halves]).value == 0.5
    assert ms.instance_ap50([halves], [whole]).value == 0.5
    assert np.isnan(ms.instance_ap50([whole * 0], [whole * 0]).value)


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_is_a_data_set_with_copies_of_its_images(seed):
    truth, predicted = maps(seed, n=6)

    def made(true, guess):
        counts = ms.confusion(true, guess, CLASSES)
        yield from (ms.mean_iou(counts), ms.pooled_dice(counts), ms.mean_dice(counts))
        yield from (ms.pixel_accuracy(counts), ms.boundary_f(true, guess, CLASSES))
        yield ms.instance_ap50(true, guess)

    for row in scores.resamples(6, 4, seed):
        drawn = np.repeat(np.arange(6), row.astype(int))
        copies = made([truth[i] for i in drawn], [predicted[i] for i in drawn])
        for whole, copied in zip(made(truth, predicted), copies, strict=True):
            value = float(scores.mean_of_units(whole.under(row[None]))[0])
            assert value == pytest.approx(copied.value, nan_ok=True), whole.name
            np.testing.assert_allclose(whole.without(), whole.under(1 - np.eye(6)), atol=1e-12)
            low, high = interval(whole)
            assert low <= whole.value <= high


def test_maps_that_cannot_be_compared_are_said():
    right = np.zeros((4, 5), np.uint8)
    with pytest.raises(DataError, match=r"image 1 has shape \(4, 5\), the predicted one \(5, 4\)"):
        ms.confusion([right, right], [right, right.T], 2)
    with pytest.raises(
        DataError, match="the true label map of image 0 has class 2, but classes are 0 to 1"
    ):
        ms.confusion([right + 2], [right], 2)
    with pytest.raises(DataError, match="the predicted label map of image 0 has class 255"):
        ms.confusion([right], [right + 255], 2)
