"""The head of boxes: its cells, its pyramid, what it decodes, how it is saved and learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from graft.export.convert.onnx import convert_to_onnx
from graft.export.convert.tflite import convert_to_tflite
from graft.recipes.data.builtin import shapes
from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.errors import ConfigError
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads.dense.average_precision import MAP50
from graft.zoo.heads.dense.box_kind import BOXES, detection_meter
from graft.zoo.heads.dense.cells import cells_of, map_sizes
from graft.zoo.heads.dense.detection import FIRST_DISTANCE, PRIOR, boxes
from graft.zoo.heads.dense.layers import BoxDecoder, Suppression

SIZE = (240, 320)


def backbone(size=SIZE, padding="same", width=8):
    """Five strided convolutions, two more each: maps at strides 2 to 32."""
    image = keras.Input((*size, 3), name="image")
    tensor = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    for stride in (2, 4, 8, 16, 32):
        conv = keras.layers.Conv2D(width, 3, 2, padding, name=f"conv_{stride}")
        tensor = keras.layers.ReLU(name=f"relu_{stride}")(conv(tensor))
    return keras.Model(image, tensor, name="tiny")


def test_cells_lie_where_their_maps_say():
    assert map_sizes(SIZE, (8, 16, 32)) == [(30, 40), (15, 20), (8, 10)]
    centres, strides = cells_of(SIZE, (8, 16, 32))
    assert centres.shape == (30 * 40 + 15 * 20 + 8 * 10, 2)
    assert centres[0].tolist() == [4, 4]
    assert centres[1].tolist() == [12, 4]
    assert centres[40].tolist() == [4, 12]
    assert centres[1200].tolist() == [8, 8]
    assert centres[-1].tolist() == [9.5 * 32, 7.5 * 32]
    assert np.unique(strides, return_counts=True)[1].tolist() == [80 * 15, 300, 80]


def test_distances_become_boxes():
    decoder = BoxDecoder(SIZE, (8, 16, 32))
    logarithms = np.zeros((1, 1580, 4), np.float32)
    logarithms[0, 41] = np.log([0.5, 1, 2, 3])
    logarithms[0, -1] = 99
    found = np.asarray(decoder(logarithms))[0]
    assert found[41] == pytest.approx([12 - 4, 12 - 8, 12 + 16, 12 + 24], abs=1e-4)
    assert found[0].tolist() == [0, 0, 12, 12]
    assert found[1201] == pytest.approx([24 - 16, 0, 24 + 16, 8 + 16])
    assert found[-1].tolist() == [0, 0, 320, 240]
    free = np.asarray(decoder(logarithms, training=True))[0]
    assert free[0].tolist() == [-4, -4, 12, 12]
    assert np.isfinite(free).all()


@pytest.mark.parametrize(
    ("size", "padding"), [(SIZE, "same"), ((96, 160), "same"), ((200, 333), "valid")]
)
def test_a_head_gives_a_row_a_cell(size, padding):
    head = boxes(["a", "b", "c"], image_size=size, channels=8)
    model = stack(backbone(size, padding), head)
    cells = cells_of(size, (8, 16, 32))
    assert model.output.shape == (None, len(cells.strides), 7)
    assert model.output.dtype == "float32"
    assert model.output_names == ["boxes"]
    given = model(np.random.default_rng(0).uniform(0, 255, (2, *size, 3))).numpy()
    corners, scores = given[..., :4], given[..., 4:]
    assert scores == pytest.approx(PRIOR, rel=0.5)
    ends = np.array([size[1], size[0]] * 2)
    assert (corners >= 0).all()
    assert (corners <= ends).all()
    distance = FIRST_DISTANCE * cells.strides[:, None]
    expected = np.concatenate([cells.centres - distance, cells.centres + distance], 1)
    np.testing.assert_allclose(corners[0], expected.clip(0, ends), atol=0.35 * 32)


def test_convolutions_are_shared_by_the_maps_and_the_head_is_small():
    head = boxes(["a"], image_size=SIZE)
    model = stack(backbone(), head)
    towers = [layer for layer in model.layers if layer.name.endswith("_depthwise")]
    shared = [layer for layer in towers if len(layer._inbound_nodes) == 3]
    assert len(shared) == 4
    assert model.count_params() < 60_000


def test_a_head_computes_in_float32_at_its_end():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        image = keras.Input((64, 96, 3))
        maps = [keras.layers.Conv2D(4, 3, s, "same")(image) for s in (8, 16, 32)]
        model = keras.Model(image, boxes(["a"], image_size=(64, 96), channels=8).attach(*maps))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.output.dtype == "float32"
    assert np.isfinite(model(np.ones((1, 64, 96, 3), np.float32))).all()


@pytest.mark.parametrize("strides", [(), (16, 8), (8, 12), (8, 8)])
def test_strides_that_do_not_fit_are_refused(strides):
    with pytest.raises(ConfigError, match="strides .* multiple"):
        boxes(["a"], image_size=SIZE, strides=strides)


def test_a_head_without_labels_or_channels_is_refused():
    with pytest.raises(ConfigError, match="label"):
        boxes([], image_size=SIZE)
    with pytest.raises(ConfigError, match="channels"):
        boxes(["a"], image_size=SIZE, channels=0)


def test_one_stride_will_do():
    head = boxes(["a"], image_size=(64, 96), strides=(16,), channels=8)
    assert stack(backbone((64, 96)), head).output.shape == (None, 24, 5)


def test_a_saved_model_opens_with_its_own_layers(tmp_path):
    model = stack(backbone(), boxes(["a", "b"], image_size=SIZE, channels=8))
    model.save(tmp_path / "m.keras")
    BOXES.register_layers()
    again = load_keras_model(tmp_path / "m.keras")
    image = np.random.default_rng(1).uniform(0, 255, (1, *SIZE, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(image), model(image))
    assert len(backbone_of(again).outputs) == 3


def test_exported_files_decode_the_same_boxes():
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    raw = stack(backbone(), boxes(["a", "b"], image_size=SIZE, channels=8))
    found = suppressing(raw, SIZE, score_threshold=0.0).output
    model = keras.Model(raw.input, {"boxes": raw.output, "score": found["score"]})
    image = np.random.default_rng(1).uniform(0, 255, (1, *SIZE, 3)).astype(np.float32)
    expected = model(image)
    lite = Interpreter(model_content=convert_to_tflite(model)).get_signature_runner()
    session = onnxruntime.InferenceSession(convert_to_onnx(model))
    names = ["boxes", "score"]
    by_onnx = dict(zip(names, session.run(names, {"image": image}), strict=True))
    for given in (lite(image=image), by_onnx):
        np.testing.assert_allclose(given["boxes"], expected["boxes"], atol=1e-3)
        np.testing.assert_allclose(given["score"], expected["score"], atol=1e-5)


def suppressing(model, size, **settings):
    """`model` with suppression behind it."""
    layer = Suppression(size, **settings, name="suppression")
    return keras.Model(model._inputs_struct, layer(model.output), name=model.name)


def scenes(count, size):
    """The first built-in scenes, stretched to a size, and their targets."""
    from PIL import Image

    images, targets = [], np.zeros((count, 6, 6), np.float32)
    targets[..., 4] = -1
    for rows, scene in zip(targets, shapes.shapes(count, 0), strict=True):
        images.append(np.asarray(Image.fromarray(scene.image).resize(size[::-1]), np.float32))
        scale = np.array(size) / scene.image.shape[:2]
        rows[: len(scene.boxes), :4] = scene.boxes * [*scale[::-1], *scale[::-1]]
        rows[: len(scene.boxes), 4] = scene.labels
        rows[: len(scene.boxes), 5] = 0
    return np.stack(images), targets


def test_a_head_learns_four_scenes_by_heart():
    keras.utils.set_random_seed(0)
    size = (112, 144)
    images, targets = scenes(4, size)
    head = boxes(shapes.LABELS, image_size=size, channels=32)
    model = stack(backbone(size, width=24), head)
    loss = head.loss()
    model.compile(keras.optimizers.Adam(5e-3), loss, jit_compile=False)
    batches = tf.data.Dataset.from_tensors((images, targets)).repeat(150)
    history = model.fit(batches, epochs=1, verbose=0).history["loss"]
    outputs = model(images).numpy()
    found = BOXES.shipped(outputs, size)
    value = detection_meter(found, targets, len(shapes.LABELS)).score(MAP50).value
    assert value > 0.9
    assert BOXES.score(found, targets).value == pytest.approx(value)
    assert float(np.mean(loss.call(targets, outputs))) < history[0] / 2
