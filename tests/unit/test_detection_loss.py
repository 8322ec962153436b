"""Which cell is to find which box, and what a detector's loss is made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from graft.zoo.heads.dense.assignment import assign, generalized_iou
from graft.zoo.heads.dense.boxes import giou, iou
from graft.zoo.heads.dense.cells import cells_of
from graft.zoo.heads.dense.detection_loss import DetectionLoss

SIZE, STRIDES = (64, 64), (8, 16)
CELLS = cells_of(SIZE, STRIDES)
COUNT = len(CELLS.strides)
NOTHING = [0, 0, 0, 0, -1, 0]


def truth(*images):
    """Rows of each image, padded."""
    most = max(map(len, images))
    return np.float32([[*rows, *[NOTHING] * (most - len(rows))] for rows in images])


def predicted(images=1, labels=2, score=0.1):
    """Every cell says a box of four strides around it, and the same score."""
    half = 2 * CELLS.strides[:, None]
    boxes = np.concatenate([CELLS.centres - half, CELLS.centres + half], 1)
    scores = np.full((COUNT, labels), score, np.float32)
    return np.repeat(boxes[None], images, 0), np.repeat(scores[None], images, 0)


def assigned(rows, boxes=None, scores=None, most=4):
    """The parts for one image, as arrays."""
    first = predicted()
    boxes = first[0] if boxes is None else boxes
    scores = first[1] if scores is None else scores
    return [np.asarray(part)[0] for part in assign(truth(rows), boxes, scores, CELLS, most)]


def test_a_box_gets_the_cells_in_it_that_find_it_best():
    box = [8, 8, 40, 40]
    boxes, scores = predicted()
    scores[0, 9 * 2] = 0.9  # row 2, column 2: its centre is 20, 20
    wanted, targets, positive, counted = assigned([[*box, 1, 0]], boxes, scores)
    own = np.flatnonzero(positive)
    assert len(own) == 4
    assert ((CELLS.centres[own] > 8) & (CELLS.centres[own] < 40)).all()
    assert counted.all()
    assert (targets[own] == box).all()
    assert not targets[positive == 0].any()
    assert not wanted[:, 0].any()
    overlap = np.array([iou(boxes[:1, cell], np.float32([box]))[0, 0] for cell in own])
    alignment = scores[0, own, 1] * overlap**6
    expected = alignment / alignment.max() * overlap.max()
    np.testing.assert_allclose(wanted[own, 1], expected, rtol=1e-4)


def test_cells_that_find_a_box_equally_badly_are_taken_from_its_middle():
    boxes = np.zeros((1, COUNT, 4), np.float32)
    wanted, _, positive, _ = assigned([[0, 0, 40, 40, 0, 0]], boxes, most=1)
    assert np.flatnonzero(positive).tolist() == [2 * 8 + 2]
    assert not wanted.any()


@pytest.mark.parametrize("rows", [[], [NOTHING], [NOTHING] * 3])
def test_an_image_without_a_box_has_no_positive_cell(rows):
    values = np.float32(rows).reshape(1, -1, 6)
    boxes, scores = predicted()
    loss = DetectionLoss(SIZE, STRIDES)
    output = tf.constant(np.concatenate([boxes, scores], -1))
    with tf.GradientTape() as tape:
        tape.watch(output)
        found = loss.call(values, output)
    # Two labels, each a negative with a score of 0.1.
    assert found.numpy() == pytest.approx([COUNT * 2 * 0.01 * -np.log(0.9)], rel=1e-4)
    gradient = tape.gradient(found, output).numpy()
    assert not gradient[..., :4].any()
    assert (gradient[..., 4:] > 0).all()


def test_images_of_a_batch_do_not_mix():
    rows = [[8, 8, 40, 40, 1, 0]]
    boxes, scores = predicted(2)
    both = assign(truth(rows, []), boxes, scores, CELLS, 4)
    assert not np.asarray(both.positive)[1].any()
    np.testing.assert_array_equal(np.asarray(both.scores)[0], assigned(rows)[0])


@pytest.mark.parametrize("box", [[9, 9, 11, 11], [30, 30, 30, 30], [0, 63, 1, 64]])
def test_a_box_that_holds_no_centre_gets_the_nearest_cell(box):
    _, targets, positive, _ = assigned([[*box, 0, 0]])
    (own,) = np.flatnonzero(positive)
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    distance = np.hypot(*(CELLS.centres - middle).T)
    assert distance[own] == distance.min()
    assert targets[own].tolist() == box


def test_a_tiny_box_keeps_its_cell_beside_a_large_one():
    large, tiny = [0, 0, 64, 64, 0, 0], [19, 19, 21, 21, 1, 0]
    for rows in ([large, tiny], [tiny, large]):
        _, targets, positive, _ = assigned(rows, most=100)
        assert positive.all()
        own = (targets == tiny[:4]).all(1)
        assert own.sum() == 1
        assert np.hypot(*(CELLS.centres[own][0] - 20)) < 6


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([8, 8, 40, 40, 0, 0], [8, 8, 40, 40, 1, 0]),
        ([17, 17, 19, 19, 0, 0], [21, 21, 23, 23, 1, 0]),
        ([8, 8, 40, 40, 0, 0], [10, 10, 38, 38, 1, 0]),
    ],
)
def test_each_of_two_boxes_of_one_place_has_a_cell(first, second):
    _, targets, positive, _ = assigned([first, second])
    own = targets[positive > 0]
    assert (own == first[:4]).all(1).any()
    assert (own == second[:4]).all(1).any()


@pytest.mark.parametrize("seed", range(5))
def test_every_box_has_a_cell_and_no_cell_two(seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 50, (12, 2))
    rows = np.concatenate([low, low + rng.uniform(0, 14, (12, 2)), np.zeros((12, 2))], 1)
    boxes, scores = predicted()
    boxes += rng.normal(0, 3, boxes.shape)
    _, targets, positive, _ = assigned(rows, np.float32(boxes), scores)
    for box in np.float32(rows[:, :4]):
        assert np.isclose(targets[positive > 0], box, atol=1e-4).all(1).any()
    for target in targets[positive > 0]:
        assert np.isclose(np.float32(rows[:, :4]), target, atol=1e-4).all(1).any()


def test_a_crowd_region_is_not_judged_but_where_a_box_is():
    crowd, box = [0, 0, 32, 64, 0, 1], [8, 8, 40, 40, 1, 0]
    wanted, targets, positive, counted = assigned([crowd, box])
    inside = CELLS.centres[:, 0] < 32
    assert positive.sum() == 4
    np.testing.assert_array_equal(counted, ~inside | (positive > 0))
    assert (targets[positive > 0] == box[:4]).all()
    assert not wanted[:, 0].any()
    # What lies in a region alone changes nothing.
    boxes, scores = predicted()
    loss = DetectionLoss(SIZE, STRIDES)
    before = loss.call(truth([crowd]), np.concatenate([boxes, scores], -1))
    scores[:, inside] = 0.9
    after = loss.call(truth([crowd]), np.concatenate([boxes, scores], -1))
    assert np.asarray(before) == pytest.approx(np.asarray(after))


def test_a_row_of_padding_counts_nothing_whatever_its_box():
    rows = [[8, 8, 40, 40, -1, 0], [0, 0, 64, 64, -1, 1]]
    _, _, positive, counted = assigned(rows)
    assert not positive.any()
    assert counted.all()


def test_generalized_iou_is_that_of_numpy():
    rng = np.random.default_rng(0)
    first, second = (
        np.sort(rng.uniform(0, 20, (50, 2, 2)), 1).reshape(50, 4).astype(np.float32)
        for _ in range(2)
    )
    expected = np.diagonal(giou(first, second))
    np.testing.assert_allclose(generalized_iou(first, second), expected, atol=1e-5)


def test_gradients_lead_to_the_box_and_to_the_score():
    """Also where a cell's box does not touch its target; none passes through the assignment."""
    rows = truth([[8, 8, 24, 24, 1, 0]])
    boxes, scores = predicted()
    boxes[..., :2] += 50
    boxes[..., 2:] += 50
    loss = DetectionLoss(SIZE, STRIDES)
    output = tf.constant(np.concatenate([boxes, scores], -1))
    goal = assign(rows, boxes, scores, CELLS, 13)
    with tf.GradientTape() as tape:
        tape.watch(output)
        found = loss.call(rows, output)
    gradient = tape.gradient(found, output).numpy()
    own = np.asarray(goal.positive)[0] > 0
    assert np.isfinite(gradient).all()
    assert (gradient[0, own, :2] > 0).all()
    assert not gradient[0, ~own, :4].any()


def test_a_perfect_answer_costs_nothing():
    rows = truth([[8, 8, 24, 24, 1, 0], [40, 32, 60, 60, 0, 0]])
    boxes, scores = predicted(score=0.0)
    for box, label in ((rows[0, 0, :4], 1), (rows[0, 1, :4], 0)):
        inside = ((CELLS.centres > box[:2]) & (CELLS.centres < box[2:])).all(1)
        assert inside.any()
        boxes[0, inside] = box
        scores[0, inside, label] = 1
    loss = DetectionLoss(SIZE, STRIDES, cells_per_box=100)
    found = loss.call(rows, np.concatenate([boxes, scores], -1))
    assert np.asarray(found) == pytest.approx([0], abs=1e-5)


def test_the_loss_is_one_of_each_image_in_a_graph_too():
    rows = truth([[8, 8, 24, 24, 1, 0]], [], [[0, 0, 9, 9, 0, 0], [20, 20, 50, 60, 1, 1]])
    boxes, scores = predicted(3)
    output = np.concatenate([boxes, scores], -1)
    loss = DetectionLoss(SIZE, STRIDES)
    plain = np.asarray(loss.call(rows, output))
    assert plain.shape == (3,)
    graph = tf.function(
        loss.call,
        input_signature=[
            tf.TensorSpec((None, None, 6)),
            tf.TensorSpec((None, COUNT, 6)),
        ],
    )
    np.testing.assert_allclose(graph(rows, output), plain, rtol=1e-5)
    more = np.concatenate([rows, np.tile(np.float32(NOTHING), (3, 5, 1))], 1)
    np.testing.assert_allclose(graph(more, output), plain, rtol=1e-5)
    assert float(loss(rows, output)) == pytest.approx(plain.mean(), rel=1e-5)


def test_a_loss_is_made_again_from_its_settings():
    loss = DetectionLoss(SIZE, STRIDES, cells_per_box=9, box_weight=1.5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    rows = truth([[8, 8, 24, 24, 1, 0]])
    output = np.concatenate(predicted(), -1)
    np.testing.assert_array_equal(again.call(rows, output), loss.call(rows, output))
