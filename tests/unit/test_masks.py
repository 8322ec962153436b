"""Masks: what a file gives, the loss, the figures, what is said."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from graft.recipes.codecs.asked import Shown
from graft.recipes.data.scenes import places
from graft.recipes.tasks.dense.masks import MaskTask, mask_labels
from graft.recipes.tasks.table import find_task
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.fits import ImageShape
from graft.zoo.heads import heads
from graft.zoo.heads.masks.mask_loss import MaskLoss
from graft.zoo.heads.masks.masks import MASKS, Decoder, class_maps, enlarged

LABELS = ("background", "cat", "dog")
TASK = MaskTask(heads.masks(LABELS), "mask")


@pytest.mark.parametrize("size", [(12, 20), (15, 8), (3, 5), (64, 64)])
def test_numpy_ships_what_the_graph_does(size):
    logits = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    (graph,) = MASKS.ship("mask", tf.constant(logits), size).values()
    rows = MASKS.shipped(logits, size)
    np.testing.assert_allclose(rows, graph, atol=1e-6)
    assert rows.shape == (2, *size, 4)
    np.testing.assert_array_equal(class_maps(enlarged(logits, size)), class_maps(rows))


def test_the_loss_of_two_pixels_by_hand():
    truth = np.array([[[[0], [1]]], [[[255], [255]]]], np.uint8)
    logits = np.log(np.array([[[[0.9, 0.1], [0.4, 0.6]]]] * 2, np.float32))
    entropy = -(np.log(0.9) + np.log(0.6)) / 2
    dice = np.mean([2 * 0.9 / (1 + 1.3), 2 * 0.6 / (1 + 0.7)])
    found = MaskLoss().call(truth, logits)
    np.testing.assert_allclose(found, [entropy + 1 - dice, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(MaskLoss(0).call(truth, logits)[0], entropy, rtol=1e-5)
    weighted = MaskLoss(0, (1, 3)).call(truth, logits)[0]
    np.testing.assert_allclose(weighted, -(np.log(0.9) + 3 * np.log(0.6)) / 4, rtol=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(MaskLoss(0.5, (1, 3))))
    assert (again.dice, again.class_weights) == (0.5, (1, 3))


def test_figures_of_two_images():
    truth = np.zeros((2, 2, 2, 1), np.uint8)
    truth[0, 0] = 1
    truth[1, 0, 0] = 255
    answers = np.zeros((2, 2, 2), np.uint8)
    answers[0, 0, 0] = 1
    found = TASK.figures(answers, truth)
    # Background: 5 right of 6 given and 5 there; cat: 1 right of 2; no dog anywhere.
    assert found["mean_iou"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert found["dice"] == pytest.approx(2 / 3)
    assert found["pixel_accuracy"] == pytest.approx(6 / 7)
    assert found["per_class"]["cat"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "iou": 0.5,
        "examples": 1,
    }
    assert found["per_class"]["dog"]["examples"] == 0
    assert TASK.holds(truth).tolist() == [[True, True, False], [True, False, False]]
    assert TASK.stated(found) == found["mean_iou"]
    assert TASK.concern(found) is None
    nothing = TASK.figures(np.zeros_like(answers), truth)
    assert "'cat' is never found" in TASK.concern(nothing)


def test_epochs_are_judged_at_the_size_of_the_truth():
    truth = np.zeros((3, 8, 8, 1), np.uint8)
    truth[:, :4] = 2
    logits = np.zeros((3, 2, 2, 3), np.float32)
    logits[:, 0, :, 2] = logits[:, 1, :, 0] = 9
    found = TASK.epoch_figures(logits, truth)
    assert found["mean_iou"] == found["dice"] == 1.0
    assert 0 < found["loss"] < 0.5


def test_what_is_said_of_an_image():
    row = np.zeros((2, 2, 3), np.float32)
    row[..., 0] = row[0, 0, 1] = 1
    row[0, 0, 0] = 0
    said = TASK.said(row, Shown())
    assert said == {"covers": {"background": 0.75, "cat": 0.25, "dog": 0.0}}
    assert TASK.cells(said, 1) == ["cat 25.0%"]
    assert TASK.columns(said)["covers_cat"] == 0.25
    drawn = TASK.drawn(np.full((4, 4, 3), 100, np.uint8), class_maps(row), (2, 2))
    assert (drawn[2:] == 100).all()
    assert (drawn[:2, :2] != 100).any()


def test_a_head_says_what_it_cannot():
    with pytest.raises(ConfigError, match="no decoder is called 'segnet': lraspp, unet"):
        heads.masks(LABELS, decoder=Decoder("segnet"))
    with pytest.raises(ConfigError, match="reads two levels or more"):
        heads.masks(LABELS, decoder=Decoder(strides=(8,)))
    with pytest.raises(ConfigError, match="255 classes at most, not 300"):
        heads.masks([str(i) for i in range(300)])
    with pytest.raises(ConfigError, match="counts 0 or more"):
        heads.masks(LABELS, dice=-1)
    assert find_task("masks").described("m", {"labels": LABELS}).labels == LABELS


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images and index masks, with names of the classes; one value is of no known class."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(2):
        picture = Image.fromarray(np.full((6, 8, 3), 90 * i, np.uint8))
        picture.save(tmp_path / "images" / f"{i}.png")
        mask = np.zeros((6, 8), np.uint8)
        mask[:3] = 1 + i
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "classes.json").write_text(json.dumps(LABELS))
    return tmp_path


def test_masks_are_read_at_the_size_of_the_images(folder):
    source = places.load(folder, need="mask")
    labels = mask_labels(source)
    task = MaskTask(heads.masks(labels), "mask")
    target = task.targets(source.splits["train"], ImageShape(12, 4, 3))
    assert (target.shape, target.dtype) == ((2, 12, 4, 1), np.uint8)
    assert [sorted(np.unique(image).tolist()) for image in target] == [[0, 1], [0, 2]]
    assert (target[0, :6] == 1).all()
    stranger = MaskTask(heads.masks(labels[:2]), "mask")
    with pytest.raises(DataError, match=f"the class '{labels[2]}' is not one of the model's 2"):
        stranger.targets(source.splits["train"], ImageShape(12, 4, 3))
