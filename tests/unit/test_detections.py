"""Suppression is the same in numpy, TensorFlow, TFLite and ONNX, to the last box."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from graft.export.convert.onnx import convert_to_onnx
from graft.export.convert.savedmodel import save_as_savedmodel
from graft.export.convert.tflite import convert_to_tflite
from graft.zoo.heads.dense.boxes import iou
from graft.zoo.heads.dense.detections import CANDIDATES, OUTPUTS, assembled, detections_of
from graft.zoo.heads.dense.layers import Suppression

SIZE = (48, 80)
CELLS, LABELS, MOST = 60, 3, 20


def drawn(seed, ties=False, cells=CELLS, labels=LABELS):
    """The raw output for an image: boxes that overlap much; some empty, some scores equal."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, 1, (cells, 2)) * [SIZE[1], SIZE[0]] * 0.6
    half = rng.uniform(0, 14, (cells, 2)) * (rng.random((cells, 1)) < 0.95)
    corners = np.concatenate([middle - half, middle + half], 1).clip(0, np.tile(SIZE[::-1], 2))
    scores = rng.uniform(0, 1, (cells, labels)) ** 3
    if ties:
        corners, scores = np.round(corners), np.round(scores * 4) / 4
    return np.concatenate([corners, scores], 1)[None].astype(np.float32)


def by_hand(raw, overlap, threshold, most):
    """One box after the other, label by label, in float64."""
    image = raw[0].astype(float)
    found = []
    for label in range(image.shape[1] - 4):
        kept = []
        for cell in np.argsort(-image[:, 4 + label], kind="stable"):
            box, score = image[cell, :4], image[cell, 4 + label]
            is_empty = (box[2:] <= box[:2]).any()
            if (
                score > threshold
                and not is_empty
                and all(iou(box[None], other[None]) <= overlap for other in kept)
            ):
                kept.append(box)
                found.append([*box, score, label])
    found.sort(key=lambda row: -row[4])
    return np.array(found[:most]).reshape(-1, 6)


@pytest.mark.parametrize("seed", range(6))
def test_suppression_is_that_of_each_label_by_itself(seed):
    raw = drawn(seed)
    (found,) = detections_of(raw, iou=0.5, score_threshold=0.1, most=MOST)
    expected = by_hand(raw, 0.5, 0.1, MOST)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-6)
    assert (found[len(expected) :] == [0, 0, 0, 0, -1, -1]).all()


def test_where_nothing_scores_there_is_no_box():
    raw = drawn(0)
    raw[..., 4:] = 0.001
    assert (detections_of(raw)[..., 4:] == -1).all()
    assert (detections_of(np.zeros((0, CELLS, 7), np.float32))).shape == (0, 100, 6)


def test_more_boxes_than_candidates():
    raw = drawn(0, cells=2 * CANDIDATES, labels=1)
    raw[..., :4] = [0, 0, 9, 9]
    found = detections_of(raw, iou=1.0, most=3 * CANDIDATES)
    assert (found[0, :, 4] >= 0).sum() == CANDIDATES
    assert detections_of(raw, most=7).shape == (1, 7, 6)


def suppressing(model, size, **settings):
    """`model` with suppression behind it."""
    layer = Suppression(size, **settings, name="suppression")
    return keras.Model(model._inputs_struct, layer(model.output), name=model.name)


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """Names -> functions of a raw output, suppression with a threshold of 0.1 inside."""
    raw = keras.Input((CELLS, 4 + LABELS), name="raw")
    model = keras.Model(raw, keras.layers.Identity(name="boxes")(raw))
    model = suppressing(model, SIZE, iou=0.55, score_threshold=0.1, most=MOST)
    lite = Interpreter(model_content=convert_to_tflite(model))
    signature = lite.get_signature_runner()
    content = convert_to_onnx(model)
    session = onnxruntime.InferenceSession(content)
    folder = tmp_path_factory.mktemp("saved")
    save_as_savedmodel(model, folder)
    saved = tf.saved_model.load(str(folder))
    return {
        "keras": lambda raw: {name: np.asarray(value) for name, value in model(raw).items()},
        "tflite": lambda raw: signature(raw=raw),
        "onnx": lambda raw: dict(zip(OUTPUTS, session.run(OUTPUTS, {"raw": raw}), strict=True)),
        "savedmodel": lambda raw: {
            name: value.numpy()
            for name, value in saved.signatures["serving_default"](raw=tf.constant(raw)).items()
        },
        "files": (lite, content),
    }


@pytest.mark.parametrize("form", ["keras", "tflite", "onnx", "savedmodel"])
def test_every_form_finds_the_same_boxes(forms, form):
    none = drawn(0)
    none[..., 4:] = 0.05
    flat = drawn(1)
    flat[..., 4:] = 0.5
    same = np.repeat(drawn(2)[:, :1], CELLS, 1)
    for raw in (*(drawn(seed, seed % 2) for seed in range(40)), none, flat, same):
        given = forms[form](raw)
        assert set(given) == set(OUTPUTS)
        location, category, score, number = (given[name] for name in OUTPUTS)
        assert location.shape == (1, MOST, 4)
        assert category.shape == score.shape == (1, MOST)
        assert {part.dtype for part in given.values()} == {np.dtype(np.float32)}
        assert number.tolist() == [MOST]
        assert location.min() >= 0
        assert location.max() <= 1
        expected = detections_of(raw, iou=0.55, score_threshold=0.1, most=MOST)
        np.testing.assert_allclose(
            assembled(location, category, score, SIZE), expected, rtol=1e-6, atol=1e-5
        )
        padding = expected[..., 4] < 0
        assert not location[padding].any()
        assert not category[padding].any()


def test_an_overlap_of_exactly_the_limit_does_not_suppress(forms):
    """11 / 20 is the limit's float32; TFLite does suppress."""
    raw = np.zeros((1, CELLS, 4 + LABELS), np.float32)
    raw[0, :2] = [[0, 0, 20, 1, 0.9, 0, 0], [0, 0, 11, 1, 0.8, 0, 0]]
    assert np.float32(11) / np.float32(20) == np.float32(0.55)
    kept = (detections_of(raw, iou=0.55)[0, :, 4] > 0).sum()
    assert kept == 2
    for form in ("keras", "onnx", "savedmodel"):
        assert (forms[form](raw)["score"] > 0).sum() == kept, form


def test_operators_are_built_in(forms):
    lite, content = forms["files"]
    operators = {operator["op_name"] for operator in lite._get_ops_details()}
    assert "NON_MAX_SUPPRESSION_V4" in operators
    assert not [name for name in operators if "Flex" in name or "CUSTOM" in name]
    nodes = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert nodes.count("NonMaxSuppression") == 1
    assert "Loop" not in nodes


@pytest.mark.parametrize("form", ["keras", "tflite", "onnx", "savedmodel"])
def test_two_images_at_once_are_refused(forms, form):
    with pytest.raises(Exception, match=r"(?i)shape|dimension"):
        forms[form](np.concatenate([drawn(0), drawn(1)]))


def test_suppression_is_saved_with_its_settings(tmp_path):
    raw = keras.Input((CELLS, 4 + LABELS), name="raw")
    model = keras.Model(raw, keras.layers.Identity()(raw))
    model = suppressing(model, SIZE, iou=0.3, score_threshold=0.2, most=9)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    given = {name: np.asarray(value) for name, value in again(drawn(3)).items()}
    found = assembled(given["location"], given["category"], given["score"], SIZE)
    np.testing.assert_allclose(found, detections_of(drawn(3), 0.3, 0.2, 9), rtol=1e-6, atol=1e-5)
