"""What a run or a file says of itself is true of the file, through the real command line."""

import json
import shutil

import keras
import numpy as np
import pytest
from keras import layers

from tests.tiny import pictures


@pytest.fixture
def broken(artifacts, tmp_path):
    """The ONNX file of the small run with weights that are no numbers."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(artifacts["onnx"])
    # The layer that gives three labels: before it a clipped activation would swallow what is no
    # number.
    for tensor in model.graph.initializer:
        if list(tensor.dims)[:1] == [3]:
            values = np.full_like(numpy_helper.to_array(tensor), np.nan)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_file_that_answers_nan_is_refused_by_predict_and_measure(call, broken, photo_folder):
    """Before, `graft predict` wrote a label with the probability nan, and ended with 0."""
    code, out, (line,) = call("predict", broken, photo_folder / "left" / "00.png")
    assert (code, out) == (1, "")
    assert "answers NaN or infinity to 1 of 1 examples" in line
    code, out, _ = call("measure", broken, "--json")
    assert code == 1
    assert "answers NaN or infinity" in json.loads(out)[0]["error"]


def test_evaluate_refuses_nan_too(call, broken, small_run, photo_folder):
    for name in ("run.json", "splits.npz"):  # how the splits were made, and what is in them
        shutil.copy(small_run / name, broken.parent)
    code, out, lines = call("evaluate", broken, "--data", photo_folder)
    assert (code, out) == (1, "")
    assert "answers NaN or infinity" in lines[-1]


@pytest.mark.usefixtures("quick_probe")
def test_an_export_repeats_what_the_run_states(call, small_run, tmp_path):
    """Before, a run that stated 71 % and reached 10 % was exported with 'pass 10.0 % (+0.0)'."""
    copy = tmp_path / "run"
    shutil.copytree(small_run, copy, ignore=shutil.ignore_patterns("export"))
    assert call("export", copy, "--formats", "onnx")[0] == 0
    content = json.loads((copy / "run.json").read_text())
    content["metrics"]["validation"]["accuracy"] -= 0.2
    (copy / "run.json").write_text(json.dumps(content))
    code, _, (line,) = call("export", copy, "--formats", "onnx", "--overwrite")
    assert code == 1
    assert "it is not the model that was measured" in line
    assert (copy / "export" / "model.onnx").is_file(), "what was there stays"


@pytest.mark.usefixtures("quick_probe")
def test_an_adapted_backbone_of_ones_own_reaches_in_files_what_the_run_states(
    call, photo_folder, tmp_path
):
    """Before, a run on a backbone with adapted preprocessing stated 0.714 and reached 0.100."""
    pixels = np.float32(pictures(48).pixels)
    normalize = layers.Normalization()
    normalize.adapt(pixels)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = normalize(inputs)
    for _ in range(2):
        x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(4)(x)
    keras.Model(inputs, layers.Dense(3, "softmax")(layers.Flatten()(x))).save(
        tmp_path / "own.keras"
    )
    out = tmp_path / "run"
    code, _, _ = call(
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--backbone",
        tmp_path / "own.keras",
        "--out",
        out,
        "--epochs",
        6,
        "--augment",
        "--schedule",
        "full",
        "--batch-size",
        8,
        "--learning-rate",
        3e-3,
        "--compare-scratch",
    )
    assert code == 0
    stated = json.loads((out / "run.json").read_text())["metrics"]["test"]["accuracy"]
    assert stated > 0.6
    assert call("export", out, "--formats", "onnx", "tflite")[0] == 0
    for file in ("model.keras", "export/model.onnx", "export/model.tflite"):
        code, said, _ = call("evaluate", out / file, "--data", photo_folder, "--json")
        assert json.loads(said)["accuracy"] == pytest.approx(stated)


def test_a_training_that_explodes_ends_with_1(call, photo_folder, tiny_keras, tmp_path):
    """Before, a loss of 4e15 ended with exit code 0."""
    out = tmp_path / "run"
    code, _, lines = call(
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--backbone",
        tiny_keras,
        "--schedule",
        "full",
        "--epochs",
        2,
        "--augment",
        "--batch-size",
        8,
        "--learning-rate",
        1e4,
        "--out",
        out,
    )
    assert code == 1
    assert any("diverged in phase" in line for line in lines), lines
    assert json.loads((out / "run.json").read_text())["diverged"]


@pytest.mark.parametrize(
    "option", ["--learning-rate", "--clip-norm", "--weight-decay", "--dropout"]
)
def test_nan_is_refused_at_once(call, photo_folder, tmp_path, option):
    code, _, (line,) = call(
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--out",
        tmp_path / "r",
        option,
        "nan",
    )
    assert code == 2
    assert f"{option} is a number, not nan" in line
    assert not list(tmp_path.iterdir())
