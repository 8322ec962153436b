"""Average precision of boxes is that of pycocotools, and resamples are those of copied images."""

import contextlib
import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from graft.export.intervals import interval
from graft.zoo.errors import DataError
from graft.zoo.heads import scores
from graft.zoo.heads.dense import average_precision as ap
from graft.zoo.heads.dense.average_precision import DetectionMeter
from graft.zoo.heads.dense.matching import Detections, TrueBoxes

LABELS = 3


def boxes_of(rng, count, side):
    """Boxes on a grid of quarters, which floating point has exactly, so that overlaps tie."""
    low = rng.integers(0, 3 * side, (count, 2)) / 4
    return np.concatenate([low, low + rng.integers(1, 2 * side, (count, 2)) / 4], 1)


def scene(rng, *, most=8, crowded=0.15, distinct=False):
    """(detections, truth) of an image: some objects found, moved a little, with other labels, and
    some found where nothing is.
    """
    side = int(rng.choice([30, 80, 250]))
    truth = boxes_of(rng, rng.integers(0, most), side)
    labels = rng.integers(0, LABELS - 1, len(truth))  # the last label is never there
    found = np.concatenate([truth, truth[rng.random(len(truth)) < 0.4]])
    found = np.concatenate([found, boxes_of(rng, rng.integers(0, most), side)])
    found[:, 2:] += rng.integers(-4, 5, (len(found), 2)) * side / 128
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 0.25)
    known = np.concatenate([labels, rng.integers(0, LABELS, len(found) - len(labels))])
    values = rng.integers(1, 12, len(found)) / 12
    if distinct:
        values = rng.permutation(len(found)) / max(len(found), 1)
    return (
        Detections(found, values, known),
        TrueBoxes(truth, labels, rng.random(len(truth)) < crowded),
    )


def coco(images, annotations):
    made = COCO()
    made.dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label} for label in range(LABELS)],
        "annotations": [{"id": place, **entry} for place, entry in enumerate(annotations, 1)],
    }
    made.createIndex()
    return made


def entries(image, boxes, labels, **others):
    for place, ((x0, y0, x1, y1), label) in enumerate(zip(boxes, labels, strict=True)):
        width, height = float(x1 - x0), float(y1 - y0)
        entry = {"image_id": image, "category_id": int(label), "area": width * height}
        entry["bbox"] = [float(x0), float(y0), width, height]
        yield entry | {name: values[place].item() for name, values in others.items()}


def evaluated(scenes) -> COCOeval:
    """What pycocotools says."""
    found, there = [], []
    for image, (predicted, truth) in enumerate(scenes):
        there += entries(image, truth.boxes, truth.labels, iscrowd=truth.crowd.astype(int))
        found += entries(image, predicted.boxes, predicted.labels, score=predicted.scores)
    with contextlib.redirect_stdout(io.StringIO()):
        made = COCOeval(coco(len(scenes), there), coco(len(scenes), found), "bbox")
        made.evaluate()
        made.accumulate()
        made.summarize()
    return made


def met(scenes) -> DetectionMeter:
    meter = DetectionMeter(LABELS)
    for predicted, truth in scenes:
        meter.add(predicted, truth)
    return meter


def said(value):
    """pycocotools says -1 where there is nothing to find."""
    return -1.0 if np.isnan(value) else value


def check(scenes):
    meter, expected = met(scenes), evaluated(scenes)
    figures = (ap.MAP, ap.MAP50, ap.MAP75, ap.MAP_SMALL, ap.MAP_MEDIUM, ap.MAP_LARGE)
    for place, figure in enumerate(figures):
        assert said(meter.score(figure).value) == pytest.approx(expected.stats[place], abs=1e-9)
    precision, reached = expected.eval["precision"], expected.eval["scores"]
    for label in range(LABELS):
        unit = said(meter.score().units[label])
        assert unit == pytest.approx(precision[:, :, label, 0, 2].mean(), abs=1e-9)
        for figure, step in ((ap.MAP50, 0), (ap.MAP75, 5)):
            curve = meter.curve(label, figure)
            wanted = precision[step, :, label, 0, 2]
            if curve is None:
                assert (wanted == -1).all()
                continue
            np.testing.assert_allclose(curve.precision, wanted, atol=1e-9)
            # At recall 0 pycocotools gives the score of an ignored detection where one comes first.
            known = ~np.isnan(curve.scores[1:])
            np.testing.assert_array_equal(
                curve.scores[1:][known], reached[step, 1:, label, 0, 2][known]
            )
            assert (curve.precision[1:][~known] == 0).all()
            unit = meter.score(figure).units[label]
            assert curve.precision.mean() == pytest.approx(unit, abs=1e-12)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([0.0, 0.15, 0.6]))
def test_figures_are_those_of_pycocotools(seed, images, crowded):
    rng = np.random.default_rng(seed)
    check([scene(rng, crowded=crowded) for _ in range(images)])


@pytest.mark.parametrize(("order", "value"), [([0, 1], 1.0), ([1, 0], 51 / 101)])
def test_of_objects_that_overlap_a_detection_equally_the_last_is_taken(order, value):
    truth = np.array([[0.0, 0, 10, 10], [0, 4, 10, 14]])[order]
    found = np.array([[0.0, 2, 10, 12], [0, 0, 10, 10]])  # the first overlaps both by 2/3
    labels = np.zeros(2, int)
    scenes = [
        (Detections(found, np.array([0.9, 0.8]), labels), TrueBoxes(truth, labels, labels > 0))
    ]
    assert met(scenes).score(ap.MAP50).value == pytest.approx(value)
    check(scenes)


def test_only_the_hundred_highest_scores_of_a_label_count():
    rng = np.random.default_rng(0)
    scenes = [scene(rng, most=220) for _ in range(3)]
    assert max(np.bincount(found.labels).max() for found, _ in scenes) > 100
    check(scenes)


def test_nothing_to_find_has_no_figure():
    rng = np.random.default_rng(0)
    found, truth = scene(rng)
    nothing = TrueBoxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    crowd = truth._replace(crowd=np.ones(len(truth.boxes), bool))
    for scenes in ([(found, nothing)], [(found, crowd)]):
        assert np.isnan(met(scenes).score().value)
        assert met(scenes).curve(0) is None
        check(scenes)
    assert interval(met([(found, nothing)]).score()) is None


def test_nothing_found_is_zero():
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    truth = TrueBoxes(np.array([[0.0, 0, 9, 9]]), np.zeros(1, int), np.zeros(1, bool))
    assert met([(nothing, truth)]).score().value == 0
    assert (met([(nothing, truth)]).curve(0).precision == 0).all()
    check([(nothing, truth)])


def test_boxes_that_are_no_numbers_are_wrong():
    _, truth = scene(np.random.default_rng(3), most=20, crowded=0)
    found = Detections(truth.boxes, np.ones(len(truth.boxes)), truth.labels)
    assert met([(found, truth)]).score().value == pytest.approx(1)
    broken = found._replace(boxes=np.full_like(truth.boxes, np.nan))
    assert met([(broken, truth)]).score().value == 0


def test_an_unknown_label_is_said():
    found, truth = scene(np.random.default_rng(1))
    with pytest.raises(DataError, match="a box of image 0 has label 3, but labels are 0 to 2"):
        met([(found, truth._replace(labels=np.full(len(truth.boxes), 3)))])
    with pytest.raises(DataError, match="a detection of image 0 has label -1"):
        met([(found._replace(labels=np.full(len(found.boxes), -1)), truth)])


@pytest.mark.parametrize("seed", range(8))
def test_a_resample_is_a_data_set_with_copies_of_its_images(seed):
    """Scores tie between images, and not within one: the order of copies is that of pycocotools."""
    rng = np.random.default_rng(seed)
    scenes = [scene(rng, distinct=True) for _ in range(7)]
    for figure, place in ((ap.MAP, 0), (ap.MAP50, 1), (ap.MAP_MEDIUM, 4)):
        found = met(scenes).score(figure)
        weights = scores.resamples(len(scenes), 6, seed)
        for row, value in zip(weights, scores.mean_of_units(found.under(weights)), strict=True):
            copies = [
                one for one, times in zip(scenes, row, strict=True) for _ in range(int(times))
            ]
            assert said(value) == pytest.approx(evaluated(copies).stats[place], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_leaving_an_image_out_is_exact(seed):
    """Also of a label that a single image has, and of images without boxes."""
    rng = np.random.default_rng(seed)
    found = met([scene(rng, most=4) for _ in range(9)]).score()
    np.testing.assert_allclose(found.without(), found.under(1 - np.eye(9)), atol=1e-12)
    assert np.isfinite(scores.unit_scores(found)).all()


def test_a_thousand_resamples_take_seconds():
    """72 images of 15 boxes of 3 labels; matching is done once."""
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(72):
        truth = boxes_of(rng, 15, 150)
        labels = rng.integers(0, LABELS, 15)
        moved = truth + rng.normal(0, 3, truth.shape)
        found = Detections(moved, rng.random(15), labels)
        scenes.append((found, TrueBoxes(truth, labels, np.zeros(15, bool))))
    made = met(scenes).score()
    start = time.process_time()
    low, high = np.quantile(scores.mean_of_units(made.drawn(1000)), (0.025, 0.975))
    assert time.process_time() - start < 5
    assert low < made.value < high
