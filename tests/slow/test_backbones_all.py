"""Every row of the catalogue as Keras builds it, and the real weights in GRAFT_DATA."""

import gc
import importlib
import shutil

import numpy as np
import pytest

from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import BACKBONES, find_backbone
from graft.zoo.errors import WeightsError
from graft.zoo.graph.levels import feature_maps

pytestmark = pytest.mark.slow

KERAS_MODULE = {"vgg": "vgg16"}
SMALLEST = {row.family: row for row in sorted(BACKBONES, key=lambda row: -row.parameters)}


@pytest.fixture(autouse=True)
def _leave_nothing_behind(tmp_path):
    """The files of all rows together take 11 GB, and the largest models 1.4 GB each in memory."""
    yield
    import keras

    shutil.rmtree(tmp_path, ignore_errors=True)
    keras.backend.clear_session()
    gc.collect()


def keras_function(row):
    import keras

    return getattr(keras.applications, row.target.partition(":")[2])


def normalize_like_imagenet(model):
    """The numbers that the published files of EfficientNet hold (tensorflow issue 49930)."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.adapt_mean.assign([0.485, 0.456, 0.406])
            layer.adapt_variance.assign([0.229, 0.224, 0.225])
            layer.finalize_state()


def pixels(row, size, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (2, size, size, 3)).astype("float32")


def assert_same_features(ours, theirs):
    """Equal but for float32 rounding, on outputs that do differ from each other."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    spread = theirs.std()
    assert np.isfinite(spread)
    assert spread > 0
    assert np.abs(ours - theirs).max() <= 1e-3 * spread


@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)
def test_a_row_is_true_and_computes_what_keras_computes(row, tmp_path, monkeypatch):
    import keras
    from keras.src.utils import file_utils

    size = row.min_image_size
    shape = (size, size, 3)
    with pytest.raises(ValueError, match="at least"):
        keras_function(row)(
            include_top=False,
            weights=None,
            input_shape=(size - 1, size - 1, 3),
            **dict(row.arguments),
        )
    source = keras_function(row)(
        include_top=False, weights=None, input_shape=shape, **dict(row.arguments)
    )
    normalize_like_imagenet(source)
    path = tmp_path / "source.weights.h5"
    source.save_weights(path)
    del source
    gc.collect()

    # Keras builds its ImageNet graph, and asks for its ImageNet file: it gets ours.
    asked = []

    def get_file(*args, **options):
        asked.append((*args, options.get("file_hash")))
        return str(path)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    theirs = keras_function(row)(
        include_top=False, weights="imagenet", input_shape=shape, **dict(row.arguments)
    )
    monkeypatch.undo()
    assert asked == [
        (row.download.file.format(size=224), row.download.url.format(size=224), row.download.hash)
    ]

    ours = build_backbone(row, image_size=size, weights=str(path))
    assert ours.count_params() == theirs.count_params() == row.parameters
    assert ours.output.shape == theirs.output.shape
    assert ours.output.shape[1] >= 1
    assert ours.output.shape[-1] == row.feature_dim
    assert not any(isinstance(layer, keras.Model) for layer in ours.layers)
    preprocess_input = importlib.import_module(
        f"keras.applications.{KERAS_MODULE.get(row.family, row.family)}"
    ).preprocess_input
    x = pixels(row, size)
    expected = theirs(preprocess_input(x.copy()), training=False)
    features = ours(x, training=False)
    assert_same_features(features, expected)
    del theirs
    gc.collect()

    # The layers of the model belong to its own graph.
    middle = ours.layers[len(ours.layers) // 2]
    assert keras.Model(ours.input, middle.output)(x).shape[0] == 2

    # Its own files load again: the whole model in safe mode, and the weights of the flat graph.
    ours.save(tmp_path / "whole.keras")
    del ours, middle
    gc.collect()
    again = keras.models.load_model(tmp_path / "whole.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x, training=False), features)
    del again
    gc.collect()
    again = build_backbone(row, image_size=size, weights=str(tmp_path / "whole.keras"))
    np.testing.assert_array_equal(again(x, training=False), features)


def layers_with_weights(model):
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layers_with_weights(layer)
        elif layer.weights:
            yield layer


@pytest.mark.parametrize("row", SMALLEST.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("name", ["top.weights.h5", "top.h5", "notop.h5"])
def test_files_of_keras_applications_in_both_formats(row, name, tmp_path):
    shape = (row.min_image_size, row.min_image_size, 3)
    top = {"include_top": False} if name == "notop.h5" else {"include_top": True, "classes": 5}
    theirs = keras_function(row)(weights=None, input_shape=shape, **top, **dict(row.arguments))
    rng = np.random.default_rng(0)
    for variable in theirs.weights:
        if "float" in variable.dtype:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    normalize_like_imagenet(theirs)
    path = tmp_path / name
    theirs.save_weights(path) if name == "top.weights.h5" else theirs.save(path)
    ours = build_backbone(row, image_size=row.min_image_size, weights=str(path))
    pairs = list(zip(layers_with_weights(ours), layers_with_weights(theirs), strict=False))
    assert sum(layer.count_params() for layer, _ in pairs) == row.parameters
    for layer, other in pairs:
        for variable, value in zip(layer.weights, other.weights, strict=True):
            np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("row", SMALLEST.values(), ids=lambda row: row.name)
def test_odd_sizes_and_the_default_size(row):
    for size in [*range(row.min_image_size, row.min_image_size + 6), 97, row.image_size]:
        model = build_backbone(row, image_size=size, weights="none")
        height, width, channels = model.output.shape[1:]
        assert height == width >= 1
        assert channels == row.feature_dim


@pytest.mark.parametrize("row", SMALLEST.values(), ids=lambda row: row.name)
def test_rectangles(row):
    least = row.min_image_size
    for size in ((least, least + 66), (least + 66, least)):
        model = build_backbone(row, image_size=size, weights="none")
        assert model.input.shape == (None, *size, 3)
        height, width, channels = model.output.shape[1:]
        assert (height < width) == (size[0] < size[1])
        assert channels == row.feature_dim
        assert 4 in feature_maps(model)


def test_what_enters_the_first_convolution_of_convnext_and_of_a_large_efficientnet_v2():
    import keras

    x = pixels(None, 32)
    expected = {
        "convnext_tiny": (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "efficientnet_v2_s": x / 128 - 1,
    }
    for name, value in expected.items():
        model = build_backbone(find_backbone(name), image_size=32, weights="none")
        first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
        np.testing.assert_allclose(
            keras.Model(model.input, first.input)(x), value, rtol=1e-5, atol=1e-5
        )


def test_an_efficientnet_without_the_normalization_of_imagenet(tmp_path):
    row = find_backbone("efficientnet_b0")
    path = tmp_path / "own.weights.h5"
    keras_function(row)(weights=None, include_top=False, input_shape=(32, 32, 3)).save_weights(path)
    with pytest.raises(WeightsError, match=r"a normalization of its own \(mean \[0\. 0\. 0\.\]"):
        build_backbone(row, image_size=32, weights=str(path))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet_v2", "mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.weights.h5"),
        ("mobilenet_v2_0.35", "mobilenet_v2_0.35_224_notop/mobilenet_v2_0.35_224_notop.weights.h5"),
        ("mobilenet_0.25", "mobilenet_v1_0.25_224/mobilenet_0.25_224.weights.h5"),
    ],
)
def test_real_weights_give_the_features_that_keras_gives(graft_data, name, file):
    import keras

    row = find_backbone(name)
    path = graft_data / file
    ours = build_backbone(row, image_size=224, weights=str(path))
    theirs = keras_function(row)(
        include_top=False, weights=str(path), input_shape=(224, 224, 3), **dict(row.arguments)
    )
    photo = graft_data / "imagenet_class_index" / "bird.jpg"
    x = keras.utils.img_to_array(keras.utils.load_img(photo, target_size=(224, 224)))[None]
    assert_same_features(ours(x), theirs(x / 127.5 - 1))


def test_real_weights_of_another_architecture(graft_data):
    path = graft_data / "mobilenet_v1_0.25_224" / "mobilenet_0.25_224.weights.h5"
    with pytest.raises(
        WeightsError,
        match=r"'resnet50': layer 'conv1_conv' has shapes \(7, 7, 3, 64\), \(64,\), in the",
    ):
        build_backbone(find_backbone("resnet50"), image_size=32, weights=str(path))
