"""Backbones from .keras files: models of other people, and of earlier runs."""

import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from graft.zoo.backbones import build as backbones
from graft.zoo.backbones import table as backbone_table
from graft.zoo.backbones import weights
from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.errors import ArtifactError, ConfigError, WeightsError
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from tests.conftest import tiny_backbone


def pixels(count=4, size=16):
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype("float32")


@pytest.fixture
def foreign(tmp_path):
    """A classifier as people write them: nested backbone, pooling, dropout, dense, softmax; (path,
    model, features).
    """
    keras.utils.set_random_seed(0)
    inner = tiny_backbone()
    inputs = keras.Input((16, 16, 3), name="pictures")
    features = layers.GlobalAveragePooling2D()(inner(inputs))
    x = layers.Dense(5)(layers.Dropout(0.5)(features))
    model = keras.Model(inputs, layers.Softmax()(x))
    model.save(tmp_path / "theirs.keras")
    return tmp_path / "theirs.keras", keras.Model(inputs, features)


def test_a_foreign_model_loses_its_classifier(foreign):
    path, features = foreign
    row = backbone_table.find_backbone(str(path))
    assert (row.name, row.image_size, row.family) == ("theirs", 16, "own")
    assert backbone_table.default_weights(row) == "own"
    made = backbones.build_backbone(row, weights="own")
    assert made.inputs[0].name == "image"
    np.testing.assert_allclose(
        made(pixels(), training=False), features(pixels(), training=False), atol=1e-6
    )
    assert not any(isinstance(layer, keras.Model) for layer in made.layers), (
        "flat, so that blocks are found"
    )
    described = weights.describe_weights(row, "own")
    assert described["file"] == str(path)
    assert len(described["sha256"]) == 64


def test_fresh_weights_are_others(foreign):
    row = backbone_table.find_backbone(str(foreign[0]))
    own, fresh = (
        backbones.build_backbone(row, weights=spec).get_weights() for spec in ("own", "none")
    )
    assert [w.shape for w in own] == [w.shape for w in fresh]
    assert any(not np.allclose(a, b) for a, b in zip(own, fresh, strict=True))


def test_what_graft_trained_gives_its_backbone(tmp_path):
    keras.utils.set_random_seed(0)
    backbone = tiny_backbone()
    stack(backbone, [heads.single_label(["a", "b"])]).save(tmp_path / "model.keras")
    made = backbones.build_backbone(
        backbone_table.find_backbone(str(tmp_path / "model.keras")), weights="own"
    )
    assert made.output.shape == backbone.output.shape
    np.testing.assert_allclose(made(pixels()), backbone(pixels()), atol=1e-6)


def test_a_plain_feature_extractor_stays_whole(tmp_path):
    backbone = tiny_backbone()
    backbone.save(tmp_path / "b.keras")
    made = backbones.build_backbone(
        backbone_table.find_backbone(str(tmp_path / "b.keras")), weights="own"
    )
    np.testing.assert_allclose(made(pixels()), backbone(pixels()), atol=1e-6)


def test_what_cannot_be_a_backbone(foreign, tmp_path):
    with pytest.raises(ArtifactError, match="there is no file"):
        backbone_table.find_backbone(str(tmp_path / "no.keras"))
    (tmp_path / "bad.keras").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="is damaged"):
        backbone_table.find_backbone(str(tmp_path / "bad.keras"))
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("data.pkl", "x")
    with pytest.raises(ArtifactError, match="is damaged or no .keras file"):
        load_keras_model(tmp_path / "other.keras")
    inputs = keras.Input((7,))
    keras.Model(inputs, layers.Dense(2)(inputs)).save(tmp_path / "table.keras")
    with pytest.raises(ConfigError, match="expected images"):
        backbone_table.find_backbone(str(tmp_path / "table.keras"))
    row = backbone_table.find_backbone(str(foreign[0]))
    with pytest.raises(ConfigError, match="takes images of 16 pixels, not 32"):
        backbones.build_backbone(row, image_size=32, weights="own")
    with pytest.raises(WeightsError, match="has weights of its own"):
        backbones.build_backbone(row, weights="imagenet")
