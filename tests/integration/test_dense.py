"""Boxes and masks from the command line to the files, small."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.export.sessions import open_artifact
from graft.recipes.commands import evaluate, export, predict, train
from graft.recipes.data.scenes import places
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.heads.table import find_kind
from graft.zoo.vision import decode_image

FILES = ("", "export/savedmodel", "export/model.tflite", "export/model.onnx")


@pytest.fixture(scope="module")
def levels_keras(made_once) -> Path:
    """A .keras file of a small network with maps at the strides 4 to 32, of 64 x 96 pixels."""

    def make(folder: Path) -> None:
        import keras
        from keras import layers

        keras.utils.set_random_seed(0)
        inputs = keras.Input((64, 96, 3), name="image")
        x = layers.Rescaling(1 / 127.5, -1)(inputs)
        x = layers.Conv2D(8, 3, 2, "same", activation="relu")(x)
        for _ in range(4):
            x = layers.Conv2D(12, 3, 2, "same", activation="relu")(x)
            x = layers.Add()([x, layers.Conv2D(12, 3, padding="same", activation="relu")(x)])
        keras.Model(inputs, x, name="levels").save(folder / "levels.keras")

    return made_once("levels", make) / "levels.keras"


@pytest.fixture(scope="module")
def runs(made_once, levels_keras):
    """A run of each recipe on a tenth of the built-in scenes, exported in three formats."""

    def make(folder: Path) -> None:
        for recipe, schedule, epochs in (
            ("object-detection", "full", "16"),
            ("segmentation", "fine_tune", "3"),
        ):
            options = ["--data", "shapes", "--out", str(folder / recipe), "--fraction", "0.2"]
            options += ["--backbone", str(levels_keras), "--schedule", schedule]
            options += ["--epochs", epochs, "--learning-rate", "1e-2"]
            train.command([recipe, *options])
            export.export(export.Options(run=folder / recipe))

    return made_once("dense runs", make)


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [("object-detection", ("map50", "map50_95")), ("segmentation", ("mean_iou", "dice"))],
)
def test_every_file_measures_what_the_run_does(runs, recipe, keys):
    run = runs / recipe
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    assert [row["status"] for row in manifest["files"]] == ["pass"] * 3
    assert [row["parity"]["agreement"] for row in manifest["files"]] == [1.0] * 3
    stated = json.loads((run / "run.json").read_text())["metrics"]["test"]
    for file in FILES:
        found = evaluate.evaluate(evaluate.Options(artifact=run / file, data="shapes"))
        (own,) = found["tasks"].values()
        for key in keys:
            assert found[key] == own[key] == pytest.approx(stated[key], abs=1e-4), file


@pytest.mark.parametrize("recipe", ["object-detection", "segmentation"])
def test_every_file_gives_the_same_rows(runs, recipe):
    images = [record.image for record in places.load("shapes").splits["test"][:12]]
    batch = np.float32([decode_image(image, "64x96") for image in images])
    session = open_artifact(runs / recipe)
    (facts,) = session.tasks.values()
    kind = find_kind(facts["kind"])
    for file in FILES[1:]:
        found = open_artifact(runs / recipe / file).predict(batch)
        pair = kind.compared(session.predict(batch), found)
        assert len(pair[0]) > 12
        assert kind.same(*pair).mean() >= 0.99, file
        np.testing.assert_allclose(pair[1][..., -1], pair[0][..., -1], atol=1e-3, err_msg=file)


def test_answers_are_in_pixels_of_the_image_and_can_be_drawn(runs, tmp_path, capsys):
    image = places.load("shapes").splits["test"][0].image
    Image.fromarray(image).resize((300, 200)).save(tmp_path / "a.png")
    for recipe, key in (("object-detection", "boxes"), ("segmentation", "covers")):
        target = tmp_path / f"{recipe}.png"
        file = str(runs / recipe / "export" / "model.onnx")
        predict.command([file, str(tmp_path / "a.png"), "--json", "--draw", str(target)])
        (answer,) = json.loads(capsys.readouterr().out)
        assert list(answer) == ["input", key]
        assert Image.open(target).size == (300, 200)
        with pytest.raises(ConfigError, match="exists"):
            predict.command([file, str(tmp_path / "a.png"), "--draw", str(target)])
    folder = tmp_path / "drawn"
    predict.command([file, str(tmp_path / "a.png"), str(target), "--draw", str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "segmentation.png"]
    with pytest.raises(ConfigError, match="is one file, and there are several images"):
        predict.command([file, str(folder), "--draw", str(tmp_path / "one.png")])


def test_the_report_shows_the_worst_images(runs):
    for recipe in ("object-detection", "segmentation"):
        page = (runs / recipe / "report.html").read_text()
        assert "<h2>Worst images</h2>" in page
        assert (runs / recipe / "export" / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize(
    ("recipe", "more", "told"),
    [
        ("segmentation", ("--image-fit", "crop"), None),
        ("segmentation", ("--fit", "crop"), "boxes and masks stay where they are with stretch"),
        ("object-detection", ("--augment", "mixup"), "mixup cannot move the answers of task"),
        ("object-detection", ("--class-weights",), "--class-weights is for one label an example"),
        ("segmentation", ("--decoder", "x"), None),
        ("segmentation", ("--channels", "0"), "has 1 channel or more"),
    ],
)
def test_what_cannot_be_trained_is_said(levels_keras, tmp_path, recipe, more, told):
    options = ["--data", "shapes", "--out", str(tmp_path / "run")]
    options += ["--backbone", str(levels_keras), "--fraction", "0.1", "--epochs", "2", *more]
    if told is None:  # no such option or value: the parser says it
        with pytest.raises(SystemExit):
            train.command([recipe, *options])
    else:
        with pytest.raises(ConfigError, match=told):
            train.command([recipe, *options])
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_a_backbone_without_the_levels_is_named(tiny_keras, tmp_path):
    options = ["--data", "shapes", "--out", str(tmp_path / "run"), "--backbone", str(tiny_keras)]
    with pytest.raises(ConfigError, match="reads the feature map at stride 8, and backbone 'tiny"):
        train.command(["object-detection", *options])


def test_a_folder_of_classes_has_no_boxes(photo_folder, levels_keras, tmp_path):
    options = ["--out", str(tmp_path / "run"), "--backbone", str(levels_keras)]
    with pytest.raises(DataError, match="holds no boxes: looked for COCO"):
        train.command(["object-detection", "--data", str(photo_folder), *options])
    with pytest.raises(DataError, match="holds no masks: looked for COCO"):
        train.command(["segmentation", "--data", str(photo_folder), *options])
