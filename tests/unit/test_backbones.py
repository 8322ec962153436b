"""The table, its preprocessing, and `build` on the smallest rows; tests/slow builds every row."""

import importlib
import json
import re
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from graft.zoo.backbones.build import build_backbone, preprocess_image
from graft.zoo.backbones.table import BACKBONES, find_backbone
from graft.zoo.errors import ConfigError, GraftError, UnknownName

FAMILIES = {row.family: row for row in BACKBONES}
KERAS_MODULE = {"vgg": "vgg16"}


def test_listing_the_catalogue_imports_no_heavy_library():
    code = (
        "import sys; from graft.zoo.backbones import table; table.find_backbone('vgg16');"
        "print(sorted({'keras', 'tensorflow', 'numpy', 'h5py'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_names_are_unique_and_rows_sorted():
    names = [row.name for row in BACKBONES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_.]*", name) for name in names)
    assert [(row.family, row.name) for row in BACKBONES] == sorted(
        (row.family, row.name) for row in BACKBONES
    )


def test_every_member_of_keras_applications_has_a_row():
    import keras

    members = {
        name
        for name, value in vars(keras.applications).items()
        if name[0].isupper() and callable(value)
    }
    assert {row.target.removeprefix("keras.applications:") for row in BACKBONES} == members


def test_rows_are_plausible_and_can_be_written_as_json():
    for row in BACKBONES:
        assert 32 <= row.min_image_size <= row.image_size <= 600, row.name
        assert {"imagenet", "none"} <= set(row.weights) <= {"bundled", "imagenet", "none"}, row.name
        assert row.licence in {"MIT", "Apache-2.0", "BSD-3-Clause", "CC-BY-4.0"}, row.name
        assert re.fullmatch(r"\d{4}\.\d{4,5}", row.paper), row.name
        assert row.accuracy_source, row.name
        assert row.top1 is None or 50 < row.top1 < 90, row.name
        assert row.top5 is None or row.top1 < row.top5 < 98, row.name
        assert row.download.hash is None or len(row.download.hash) in (32, 64), row.name
        assert row.download.url.startswith("https://storage.googleapis.com/"), row.name
        assert ("{size}" in row.download.file) == bool(row.download.sizes), row.name
    assert json.loads(json.dumps([asdict(row) for row in BACKBONES]))[0]["name"] == "convnext_base"


def test_wider_members_of_a_family_have_more_parameters():
    widths = [
        find_backbone(f"mobilenet_v2{suffix}").parameters
        for suffix in ("_0.35", "_0.5", "_0.75", "", "_1.3", "_1.4")
    ]
    assert widths == sorted(widths)


def test_find_names_the_nearest():
    assert find_backbone("mobilenet_v2").target == "keras.applications:MobileNetV2"
    with pytest.raises(
        UnknownName, match="Did you mean 'mobilenet_v2'\\? `graft zoo` lists them all\\."
    ) as caught:
        find_backbone("mobilenetv2")
    assert isinstance(caught.value, GraftError)
    with pytest.raises(
        UnknownName, match="no backbone is called 'zzz'\\. `graft zoo` lists them all\\."
    ):
        find_backbone("zzz")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_preprocessing_is_that_of_keras(family):
    import keras

    module = importlib.import_module(f"keras.applications.{KERAS_MODULE.get(family, family)}")
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 7, 5, 3)).astype("float32")
    image = keras.Input((7, 5, 3), name="image")
    ours = keras.Model(image, preprocess_image(image, FAMILIES[family].preprocessing))(pixels)
    # The largest values are 151 (caffe), 2.6 (torch) and 1 (tf): a few units in the last place of
    # float32.
    np.testing.assert_allclose(ours, module.preprocess_input(pixels.copy()), rtol=1e-6, atol=2e-5)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_preprocessing_reloads_in_safe_mode(mode, tmp_path):
    import keras

    image = keras.Input((4, 4, 3), name="image")
    model = keras.Model(image, preprocess_image(image, mode))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    pixels = np.random.default_rng(1).uniform(0, 255, (3, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(again(pixels), model(pixels))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v3_small_minimalistic", lambda x: x / 127.5 - 1),
        ("efficientnet_b0", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        ("efficientnet_v2_b0", lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
    ],
)
def test_what_enters_the_first_convolution_of_an_in_graph_family(name, expected):
    import keras

    model = build_backbone(find_backbone(name), image_size=32, weights="none")
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    before = first.input
    if isinstance(before._keras_history.operation, keras.layers.ZeroPadding2D):
        before = before._keras_history.operation.input
    pixels = np.random.default_rng(2).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(
        keras.Model(model.input, before)(pixels), expected(pixels), rtol=1e-5, atol=1e-5
    )


def test_build_gives_one_flat_graph_from_pixels_to_the_last_feature_map():
    import keras

    row = find_backbone("mobilenet_0.25")
    model = build_backbone(row, image_size=48, weights="none")
    assert model.name == "mobilenet_0.25"
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.input.shape == (None, 48, 48, 3)
    assert model.input.dtype == "float32"
    assert model.output.shape == (None, 1, 1, row.feature_dim)
    assert model.count_params() == row.parameters
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


def test_the_default_image_size_is_the_rows():
    assert build_backbone(find_backbone("mobilenet_0.25"), weights="none").input.shape == (
        None,
        224,
        224,
        3,
    )


def test_an_image_size_below_the_minimum_names_both_and_the_backbone():
    with pytest.raises(
        ConfigError, match="image size 64 is too small for backbone 'xception': .* 71 pixels"
    ):
        build_backbone(find_backbone("xception"), image_size=64, weights="none")


NO_SIZES = (
    *(96.0, True, 0, -3, 10**9, "", "x", "axb", "96x", "96x0", "9.5", "3x4x5", "-96"),
    *((96,) * 3, (96, "96"), ()),
)


@pytest.mark.parametrize("size", NO_SIZES)
def test_an_image_size_that_is_none(size):
    with pytest.raises(ConfigError, match="whole number of pixels, or HEIGHTxWIDTH as 160x224"):
        build_backbone(find_backbone("mobilenet_0.25"), image_size=size, weights="none")


def test_channels_first_is_refused(monkeypatch):
    import keras

    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(ConfigError, match="channels_last"):
        build_backbone(find_backbone("mobilenet_0.25"), image_size=32, weights="none")
