"""Boxes: the task, the kind of answer, what is said and drawn."""

import numpy as np
import pytest

from graft.export.gate import Gate, accuracy
from graft.export.parity import parity
from graft.recipes.codecs.asked import Shown
from graft.recipes.data.scenes.scene import Boxes, Scene
from graft.recipes.tasks.dense.boxes import BoxTask
from graft.zoo.errors import CheckFailed, DataError
from graft.zoo.fits import ImageShape
from graft.zoo.heads import heads
from graft.zoo.heads.dense.box_kind import BOXES

LABELS = ("cat", "dog")
TASK = BoxTask(heads.boxes(LABELS, image_size=(64, 96)), "boxes")


def scene(*boxes, size=(32, 48), name="a.png") -> Scene:
    """An image with boxes (label, x0, y0, x1, y1)."""
    made = Boxes.of([b[0] for b in boxes], [b[1:] for b in boxes], [False] * len(boxes))
    return Scene(np.zeros((*size, 3), np.uint8), name, size, made)


def rows(*found) -> np.ndarray:
    """`(1, 4, 6)`: boxes (x0, y0, x1, y1, score, label), then nothing."""
    made = np.tile(np.float32([0, 0, 0, 0, -1, -1]), (1, 4, 1))
    made[0, : len(found)] = np.reshape(found, (-1, 6))
    return made


def test_boxes_are_scaled_to_the_images_of_the_model():
    records = [scene(("dog", 4, 8, 20, 16), ("cat", 0, 0, 48, 32)), scene()]
    target = TASK.targets(records, ImageShape(64, 96, 3))
    assert target.shape == (2, 2, 6)
    assert target[0].tolist() == [[8, 16, 40, 32, 1, 0], [0, 0, 96, 64, 0, 0]]
    assert (target[1, :, 4] == -1).all()
    assert TASK.holds(target).tolist() == [[True, True], [False, False]]
    assert TASK.targets([scene()], ImageShape(64, 96, 3)).shape == (1, 1, 6)


def test_what_cannot_be_learned_is_named():
    with pytest.raises(DataError, match=r"b\.png: the label 'cow' is not one of the model's 2"):
        TASK.targets([scene(("cow", 0, 0, 4, 4), name="b.png")], ImageShape(64, 96, 3))
    blank = Scene(np.zeros((4, 4, 3), np.uint8), "c.png", (4, 4))
    with pytest.raises(DataError, match=r"c\.png: it is not known which boxes it has"):
        TASK.targets([blank], ImageShape(64, 96, 3))


def test_figures_of_one_image():
    target = TASK.targets([scene(("dog", 4, 8, 20, 16), ("cat", 0, 0, 48, 32))], ImageShape(64, 96))
    found = rows((8, 16, 40, 32, 0.9, 1), (0, 0, 96, 64, 0.8, 0), (50, 50, 60, 60, 0.7, 0))
    figures = TASK.figures(found, target)
    assert figures["map50"] == figures["map50_95"] == pytest.approx(1.0)
    dog = figures["per_class"]["dog"]
    assert (dog["precision"], dog["recall"], dog["boxes"], dog["examples"]) == (1, 1, 1, 1)
    assert TASK.concern(figures) is None
    lost = TASK.figures(rows((8, 16, 40, 32, 0.9, 0)), target)
    assert lost["map50"] == 0
    assert TASK.concern(lost).startswith("'cat' (and 1 more) is never found")


def test_boxes_are_said_in_pixels_of_the_image_as_it_came():
    found = rows((8, 16, 40, 32, 0.9, 1), (0, 0, 9, 9, 0.1, 0))[0]
    said = TASK.said(found, Shown(scale=(0.5, 2.0)))
    assert said == {
        "boxes": [{"label": "dog", "score": pytest.approx(0.9), "bbox": [16.0, 8.0, 64.0, 8.0]}]
    }
    assert TASK.cells(said, 3) == ["1 dog"]
    assert TASK.columns(said) == {"count_cat": 0, "count_dog": 1}
    assert TASK.cells(TASK.said(rows()[0], Shown()), 3) == ["nothing"]
    with pytest.raises(CheckFailed, match="a score of 7"):
        TASK.said(rows((8, 16, 40, 32, 7.0, 1))[0], Shown())


def test_drawn_boxes_are_where_they_are():
    pixels = np.zeros((128, 192, 3), np.uint8)
    shown = TASK.drawn(pixels, rows((20, 30, 60, 50, 0.9, 1))[0], (64, 96))
    assert shown[100, 40:120].any(-1).all() or shown[99, 40:120].any(-1).all()
    assert not shown[110:].any()


def test_the_same_boxes_pass_and_others_do_not():
    reference = rows((8, 16, 40, 32, 0.9, 1), (0, 0, 96, 64, 0.8, 0))
    target = TASK.targets([scene(("dog", 4, 8, 20, 16), ("cat", 0, 0, 48, 32))], ImageShape(64, 96))
    swapped = reference[:, [1, 0, 2, 3]]
    same = parity(reference, swapped + np.float32([1e-5] * 4 + [0, 0]), BOXES)
    assert same.passed
    assert same.agreement == 1
    moved = parity(reference, reference + np.float32([9, 0, 9, 0, 0, 0]), BOXES)
    assert not moved.passed
    gone = parity(reference, rows((8, 16, 40, 32, 0.9, 1)), BOXES)
    assert (gone.passed, gone.agreement) == (False, 0.5)
    nothing = parity(rows(), rows(), BOXES)
    assert nothing.passed
    judged = accuracy(reference, rows((8, 16, 40, 32, 0.9, 1)), target, Gate(BOXES))
    assert (judged.key, judged.reference, judged.value) == ("map50", 1.0, 0.5)
    unlabelled = accuracy(reference, swapped, None, Gate(BOXES))
    assert (unlabelled.truth, unlabelled.drop_points) == ("keras", 0.0)
