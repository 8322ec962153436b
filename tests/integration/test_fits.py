"""`--fit` goes from the training into the files, and every command that reads them does the same."""

import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import graft
from graft.export import contents
from graft.recipes.commands import export
from graft.recipes.image_classification import Config, main
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError, UnknownName
from graft.zoo.vision import decode_image
from tests.conftest import shapes_image

pytestmark = pytest.mark.usefixtures("quick_probe")

NAMES = ("left", "right", "top")


@pytest.fixture(scope="session")
def wide_photos(made_once):
    """Images of which the centre square shows the class, and what lies beside it another one."""

    def make(root):
        for label, name in enumerate(NAMES):
            (root / name).mkdir()
            for i in range(20):
                centre = shapes_image(label, 100 * label + i)
                other = shapes_image((label + 1 + i % 2) % 3, 1000 + 100 * label + i)
                whole = np.hstack([other[:, :12], centre, other[:, 12:]])
                whole = (
                    whole if i % 2 else np.rot90(np.hstack([other, np.rot90(centre, -1), other]))
                )
                Image.fromarray(np.ascontiguousarray(whole)).save(root / name / f"{i:02d}.png")

    return made_once("wide photos", make)


@pytest.fixture(scope="session")
def fitted_runs(wide_photos, tiny_keras, made_once):
    """A run, exported, of each fit that is not the default."""

    def make(folder):
        for fit in ("crop", "pad"):
            main(
                Config(
                    data=str(wide_photos),
                    out=folder / fit,
                    backbone=str(tiny_keras),
                    schedule="fine_tune",
                    epochs=6,
                    image_fit=fit,
                    fit=FitSettings(batch_size=8, augment=()),
                    learning_rate=1e-2,
                )
            )
            export.export(export.Options(run=folder / fit))

    return made_once("fitted runs", make)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_everything_says_the_fit(fitted_runs, fit):
    run = fitted_runs / fit
    facts = json.loads((run / "run.json").read_text())
    assert facts["config"]["image_fit"] == facts["data"]["decode"]["fit"] == fit
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    places = [json.loads((run / "preprocessing.json").read_text()), manifest["preprocessing"]]
    for name in ("model.tflite", "model.onnx", "savedmodel"):
        opened = graft.load(run / "export" / name)._opened.session
        places.append(opened.preprocessing)
        assert contents.describe_file(run / "export" / name)["inputs"]
    for said in places:
        assert said["fit"] == fit
        assert {"crop": "centre square", "pad": "grey"}[fit] in said["resize"]
    card = (run / "export" / "MODEL_CARD.md").read_text()
    assert {"crop": "the centre square is taken", "pad": "laid on a grey square"}[fit] in card
    assert "stretched" not in card
    assert f"fit: {fit}" in (run / "report.html").read_text()


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_whoever_asks_and_however_the_answer_is_the_same(call, fitted_runs, wide_photos, fit):
    run, photo = fitted_runs / fit, wide_photos / "top" / "01.png"
    pixels = np.asarray(Image.open(photo))
    session = graft.load(run)._opened.session
    decoded = np.float32(decode_image(photo, 16, fit))[None]
    expected = session.predict(decoded)[0]
    other = session.predict(np.float32(decode_image(photo, 16, "stretch"))[None])[0]
    assert np.abs(expected - other).max() > 1e-3, "or the test shows nothing"
    for name in (".", "export/savedmodel", "export/model.tflite", "export/model.onnx"):
        model = graft.load(run / name)
        answers = model.predict([photo, pixels, Image.open(photo)])
        answers += json.loads(call("predict", run / name, photo, "--json")[1])
        for answer in answers:
            scores = [answer["scores"][label] for label in model.labels]
            np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_model_of_centres_is_right_where_it_is_measured(call, fitted_runs, wide_photos):
    run = fitted_runs / "crop"
    for name in (run, run / "export" / "model.onnx"):
        asked = ("--data", wide_photos, "--split", "test", "--json")
        found = json.loads(call("evaluate", name, *asked)[1])
        assert found["accuracy"] == 1.0, "what lies beside the centre says otherwise"
    row = json.loads(
        call("measure", run / "export" / "model.tflite", "--data", wide_photos, "--json")[1]
    )[0]
    assert (row["error"], row["accuracy"]) == (None, 1.0)
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    assert [file["accuracy"]["value"] for file in manifest["files"]] == [1.0] * 3


def test_a_run_of_an_older_graft_is_stretched(call, fitted_runs, wide_photos, tmp_path):
    shutil.copytree(fitted_runs / "crop", tmp_path / "old")
    described = tmp_path / "old" / "preprocessing.json"
    content = json.loads(described.read_text())
    del content["fit"]
    described.write_text(json.dumps(content))
    photo = wide_photos / "top" / "01.png"
    model = graft.load(tmp_path / "old")
    stretched = decode_image(photo, 16)
    assert model.predict(photo) == model.predict(stretched)
    assert graft.load(fitted_runs / "crop").predict(photo) != model.predict(photo)


@pytest.fixture
def own(fitted_runs, tmp_path):
    """A .keras file that says nothing of itself; its labels lie beside it."""
    shutil.copy(fitted_runs / "crop" / "model.keras", tmp_path / "own.keras")
    shutil.copy(fitted_runs / "crop" / "labels.txt", tmp_path / "labels.txt")
    return tmp_path / "own.keras"


def test_of_a_model_of_ones_own_the_option_says_it(call, own, wide_photos):
    photo = wide_photos / "top" / "01.png"
    for fit in ("stretch", "crop", "pad"):
        (answer,) = json.loads(call("predict", own, photo, "--fit", fit, "--json")[1])
        assert answer["scores"] == graft.load(own).predict(decode_image(photo, 16, fit))["scores"]
    asked = ("--data", wide_photos, "--json")
    right = json.loads(call("evaluate", own, *asked, "--fit", "crop")[1])["accuracy"]
    assert right == 1.0
    assert json.loads(call("evaluate", own, *asked)[1])["accuracy"] < right
    measured = json.loads(call("measure", own, *asked, "--fit", "crop")[1])
    assert measured[0]["accuracy"] == 1.0
    code, _, _ = call("export", own, "--fit", "crop", "--formats", "onnx", "--data", wide_photos)
    assert code == 0
    file = own.parent / "export" / "model.onnx"
    assert graft.load(file)._opened.session.preprocessing["fit"] == "crop"
    answers = json.loads(call("predict", file, wide_photos, "--json")[1])
    assert len(answers) == 60
    assert all(f"/{answer['label']}/" in answer["input"] for answer in answers)


def test_a_keras_model_is_exported_with_a_fit_from_python(own, wide_photos, tmp_path):
    model, photo = keras.models.load_model(own), wide_photos / "top" / "01.png"
    labels, formats = list(NAMES), ["onnx"]
    for fit in ("crop", "pad"):
        out = tmp_path / fit
        made = graft.export(model, out, labels=labels, formats=formats, fit=fit)
        assert made.manifest["preprocessing"]["fit"] == fit
        opened = graft.load(out / "model.onnx")
        assert opened.predict(photo) == opened.predict(decode_image(photo, 16, fit))
    with pytest.raises(UnknownName, match="Did you mean 'crop'"):
        graft.export(model, tmp_path / "x", labels=labels, formats=formats, fit="croop")
    assert not (tmp_path / "x").exists()


def test_what_knows_its_fit_is_not_told_another(call, fitted_runs, wide_photos):
    run, photo = fitted_runs / "crop", wide_photos / "top" / "01.png"
    for asked in (
        ("predict", run, photo),
        ("evaluate", run / "export" / "model.onnx", "--data", wide_photos),
        ("export", run),
    ):
        code, _, (line,) = call(*asked, "--fit", "pad")
        assert code == 2
        assert "--fit and --image-size are for a .keras file of your own" in line
    with pytest.raises(ConfigError, match="--image-size are for a .keras file"):
        graft.evaluate(run, wide_photos, fit="pad")


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate", "measure", "export"])
def test_a_misspelt_fit_is_refused_with_those_there_are(graft, verb, tmp_path):
    given = {
        "train": ("image-classification", "--data", "digits", "--out", tmp_path / "run"),
        "predict": ("a.keras", "b.png"),
        "evaluate": ("a.keras", "--data", "digits"),
        "measure": ("a.keras",),
        "export": ("a.keras",),
    }[verb]
    done = graft(verb, *given, "--fit", "croop")
    assert done.returncode == 2
    assert "invalid choice 'croop' for argument '--fit'" in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_python_trains_with_a_fit(wide_photos, tiny_keras, tmp_path):
    given = {"data": wide_photos, "backbone": str(tiny_keras), "epochs": 1, "augment": ()}
    given |= {"schedule": "feature_extraction"}
    run = graft.train(out=tmp_path / "run", fit="pad", **given)
    assert run.content["data"]["decode"]["fit"] == "pad"
    with pytest.raises(
        UnknownName, match="no value of fit= is called 'croop'. Did you mean 'crop'"
    ):
        graft.train(out=tmp_path / "other", fit="croop", **given)
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigError, match=r"image_fit \('pad' then, 'crop' now\)"):
        graft.train(out=tmp_path / "run", fit="crop", resume=True, **given)
