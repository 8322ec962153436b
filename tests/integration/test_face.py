"""The public face on a small run: trained, exported, opened, measured from Python."""

import numpy as np
import pytest
from PIL import Image

import graft
from graft.zoo.errors import ArtifactError, ConfigError, DataError, GraftError, UnknownName
from tests.conftest import shapes_image


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of three kinds, with their numbers."""
    kinds = np.arange(count) % 3
    return np.stack([shapes_image(k, 1000 * seed + i, 32) for i, k in enumerate(kinds)]), kinds


@pytest.fixture(scope="module")
def run(tiny_keras, tmp_path_factory):
    """Trained on arrays, on a backbone that is a Keras model."""
    import keras

    return graft.train(
        data=images(60, 0),
        labels=["left", "right", "top"],
        out=tmp_path_factory.mktemp("face") / "run",
        backbone=keras.models.load_model(tiny_keras),
        epochs=6,
        learning_rate=1e-2,
        batch_size=8,
        augment=[],
    )


def test_a_run_shows_itself(run):
    assert run.metrics["examples"] == 9
    assert "accuracy" in repr(run)
    assert "<table>" in run._repr_html_()
    assert run.report().is_file()
    assert len(run.history) == 6
    assert "val_accuracy" in run.history[0]
    assert run.verdict is None, "nothing was compared"


def test_a_refused_training_leaves_the_data_of_the_run(run, tiny_keras):
    """Before, they were those of the training that was refused."""
    import keras

    table = run.path.with_name("run-data") / "data.csv"
    figures, before = graft.evaluate(run, table), table.read_text()
    other = {"data": (images(30, 9)[0], list("abc") * 10), "out": run.path}
    for wrong, error in (
        ({}, ConfigError),
        ({"overwrite": True, "backbone": "mobilnet"}, UnknownName),
        ({"overwrite": True, "backbone": keras.Sequential([keras.Input((8, 8))])}, GraftError),
        ({"overwrite": True, "per_class": 100, "backbone": str(tiny_keras)}, ConfigError),
    ):
        with pytest.raises(error):
            graft.train(**other, **wrong)
        assert table.read_text() == before
    assert graft.evaluate(run, table) == figures
    assert {path.name for path in run.path.parent.iterdir() if path.name != ".graft-cache"} == {
        "run",
        "run-data",
        "run-backbone.keras",
    }


def test_files_answer_as_the_run_does(run):
    exported = run.export(formats=["tflite", "onnx"])
    assert exported.passed
    assert "model.onnx" in repr(exported)
    pixels, _ = images(5, 1)
    want = run.load().predict(pixels)
    for name in ("model.tflite", "model.onnx"):
        model = graft.load(exported.path / name)
        found = model.predict(pixels)
        assert [row["label"] for row in found] == [row["label"] for row in want]
        one = model.predict(Image.fromarray(pixels[0]))
        assert one["probability"] == pytest.approx(want[0]["probability"], abs=1e-4)
        assert one == model.predict(pixels[0]) == model.predict(list(pixels))[0]
        assert "single_label" in repr(model)
        assert "<code>" in model._repr_html_()
    with pytest.raises(DataError, match="values from 0 to 1"):
        model.predict(pixels[0] / 255)
    with pytest.raises(DataError, match="nothing to predict"):
        model.predict([])
    pixels, kinds = images(12, 2)
    data = (pixels, np.array(["left", "right", "top"])[kinds])
    figures = graft.evaluate(exported.path / "model.onnx", data)
    right = [
        row["label"] == label for row, label in zip(model.predict(pixels), data[1], strict=True)
    ]
    assert figures["accuracy"] == pytest.approx(np.mean(right))
    (row,) = graft.measure(exported.path / "model.onnx", data=data)
    assert row["accuracy"] == figures["accuracy"]
    assert row["latency_ms"] > 0


def test_a_stacked_model_becomes_files(tiny_keras, tmp_path):
    import keras

    model = graft.stack(keras.models.load_model(tiny_keras), graft.heads.single_label(["a", "b"]))
    exported = graft.export(model, tmp_path / "out", labels=["a", "b, c"], formats="onnx")
    assert graft.load(exported.path / "model.onnx").labels == ("a", "b, c")
    with pytest.raises(ArtifactError, match="1 label, but 2 outputs"):
        graft.export(model, tmp_path / "other", labels=["a"], formats="onnx")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("form", ["numbers", "names", "by split"])
def test_a_model_of_ones_own_is_checked_with_data_in_memory(form, tiny_keras, tmp_path):
    """Before, pairs had no train split and were refused, and numbers had no names."""
    import keras

    names = ["left", "right", "top"]
    model = graft.stack(keras.models.load_model(tiny_keras), graft.heads.single_label(names))
    pixels, kinds = images(60, 3)
    data = {
        "numbers": (pixels, kinds),
        "names": (pixels, np.array(names)[kinds]),
        "by split": {"train": (pixels[:48], kinds[:48]), "validation": (pixels[48:], kinds[48:])},
    }[form]
    exported = graft.export(
        model, tmp_path / "out", labels=names, data=data, formats="onnx", max_drop=100
    )
    measured = exported.manifest["measured_on"]
    assert (measured["split"], measured["examples"]) == (
        "validation",
        12 if form == "by split" else 9,
    )
    assert exported.passed
