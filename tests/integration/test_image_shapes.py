"""Runs and models whose images are no squares, or have one or four channels: trained, exported,
asked, always with the same answers.
"""

import json
import shutil

import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table
from keras import layers
from PIL import Image

import graft
from graft.recipes.commands import export
from graft.recipes.image_classification import Config, main
from graft.recipes.train.settings import FitSettings
from graft.zoo.fits import ImageShape
from graft.zoo.vision import decode_image
from tests.conftest import shapes_image

pytestmark = pytest.mark.usefixtures("quick_probe")

NAMES = ("left", "right", "top")
FILES = ("savedmodel", "model.tflite", "model.onnx")


def network(shape):
    """A residual network of a few hundred weights."""
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(16, 3, strides=2, padding="same")(x)
    for i in range(2):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        x = layers.Add(name=f"add{i}")([x, y])
    return keras.Model(image, x)


@pytest.fixture(scope="session")
def photos(made_once):
    """Images of 40 x 60 pixels with transparency, of which each is half visible: what is not shows
    in the fourth channel alone.
    """

    def make(root):
        for label, name in enumerate(NAMES):
            (root / name).mkdir()
            for i in range(20):
                colours = shapes_image(label, 100 * label + i, 40)
                colours = np.asarray(Image.fromarray(colours).resize((60, 40)))
                visible = np.full((40, 60, 1), 255, np.uint8)
                visible[::2] = 60 + 90 * label
                Image.fromarray(np.dstack([colours, visible])).save(root / name / f"{i:02d}.png")

    return made_once("transparent photos", make)


WAYS = {
    "rectangle": ((None, None, 3), "48x64", "crop"),
    "grey": ((24, 32, 1), None, "pad"),
    "transparent": ((16, 16, 4), None, "stretch"),
}
"""Run -> shape of its backbone's input, `--image-size`, `--fit`."""
SHAPES = {"rectangle": (48, 64, 3), "grey": (24, 32, 1), "transparent": (16, 16, 4)}


@pytest.fixture(scope="session")
def runs(photos, made_once):
    """A run of each way, exported."""

    def make(folder):
        for name, (shape, size, fit) in WAYS.items():
            keras.utils.set_random_seed(0)
            network(shape).save(folder / f"{name}.keras")
            main(
                Config(
                    data=str(photos),
                    out=folder / name,
                    backbone=str(folder / f"{name}.keras"),
                    epochs=2,
                    image_size=size,
                    image_fit=fit,
                    fit=FitSettings(batch_size=8, augment=("flip", "crop", "color", "grayscale")),
                    learning_rate=1e-2,
                )
            )
            smaller = ("int8",) if name == "transparent" else ()
            export.export(export.Options(run=folder / name, quantize=smaller))

    return made_once("shaped runs", make)


@pytest.mark.parametrize("name", WAYS)
def test_everything_says_the_shape(runs, name):
    run, shape, fit = runs / name, ImageShape(*SHAPES[name]), WAYS[name][2]
    facts = json.loads((run / "run.json").read_text())
    assert facts["config"]["image_size"] == WAYS[name][1]
    assert facts["data"]["image_size"] == shape.size
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    assert manifest["inputs"][0]["shape"] == [None, *shape]
    assert [row["status"] for row in manifest["files"] if row["precision"] == "float32"] == [
        "pass",
        "pass",
        "pass",
    ]
    assert all("error" not in row for row in manifest["files"])
    places = [json.loads((run / "preprocessing.json").read_text()), manifest["preprocessing"]]
    places += [graft.load(run / "export" / file)._opened.session.preprocessing for file in FILES]
    for said in places:
        assert (said["image_size"], said.get("channels", 3)) == (shape.size, shape.channels)
        assert said["fit"] == fit
    card = (run / "export" / "MODEL_CARD.md").read_text()
    assert f"images of {shape.height} x {shape.width} pixels" in card
    assert f"(batch, {shape.height}, {shape.width}, {shape.channels})" in card
    assert ("MediaPipe Tasks takes RGB images only" in card) == (shape.channels != 3)
    report = (run / "report.html").read_text()
    assert f"{shape.height} × {shape.width}" in report
    mistakes = run / "mistakes.npz"
    if mistakes.exists():
        kept = np.load(mistakes)
        assert kept["images"].shape[1:] == shape
        if "heatmaps" in kept:
            assert kept["heatmaps"].shape[1:] == (shape.height // 2, shape.width // 2)


@pytest.mark.parametrize("name", WAYS)
def test_whoever_asks_the_answer_is_the_same(call, runs, photos, name):
    run, photo, shape = runs / name, photos / "right" / "01.png", ImageShape(*SHAPES[name])
    pixels = decode_image(photo, shape, WAYS[name][2])
    assert pixels.shape == shape
    expected = graft.load(run)._opened.session.predict(np.float32(pixels)[None])[0]
    for place in (".", *(f"export/{file}" for file in FILES)):
        model = graft.load(run / place)
        answers = model.predict([photo, np.asarray(Image.open(photo)), Image.open(photo)])
        answers += json.loads(call("predict", run / place, photo, "--json")[1])
        for answer in answers:
            scores = [answer["scores"][label] for label in model.labels]
            np.testing.assert_allclose(scores, expected, atol=1e-5)
        figures = json.loads(call("evaluate", run / place, "--data", photos, "--json")[1])
        assert (
            figures["accuracy"]
            == json.loads((run / "run.json").read_text())["metrics"]["test"]["accuracy"]
        )


def test_what_lies_in_the_fourth_channel_counts(runs, photos):
    model, photo = graft.load(runs / "transparent"), photos / "right" / "01.png"
    pixels = np.asarray(Image.open(photo))
    opaque = np.dstack([pixels[..., :3], np.full(pixels.shape[:2], 255, np.uint8)])
    assert model.predict(pixels) != model.predict(opaque)
    assert model.predict(opaque) == model.predict(opaque[..., :3].copy())


def test_a_square_run_says_what_it_always_said(small_run):
    facts = json.loads((small_run / "run.json").read_text())
    said = json.loads((small_run / "preprocessing.json").read_text())
    manifest = json.loads((small_run / "export" / "manifest.json").read_text())
    assert facts["config"]["image_size"] is None
    assert facts["data"]["image_size"] == said["image_size"] == 16
    assert "channels" not in said
    assert "channels" not in manifest["preprocessing"]
    assert (said["resize"], said["color_space"]) == ("stretch to a square", "RGB")


def test_a_rectangle_goes_on_where_it_was_interrupted_and_no_other_does(runs, photos, call):
    given = ("train", "image-classification", "--data", photos, "--out", runs / "rectangle")
    given += ("--backbone", runs / "rectangle.keras", "--fit", "crop", "--epochs", "2")
    given += ("--batch-size", "8", "--augment", "flip", "crop", "color", "grayscale")
    given += ("--learning-rate", "0.01", "--resume")
    code, _, (line,) = call(*given, "--image-size", "64x48")
    assert code == 2
    assert "image_size ('48x64' then, '64x48' now)" in line


@pytest.fixture
def own(runs, tmp_path):
    """A classifier for images of any size, with its labels beside it."""
    model = keras.models.load_model(runs / "rectangle" / "model.keras")
    anywhere = network((None, None, 3))
    x = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(anywhere.output))
    whole = keras.Model(anywhere.input, x)
    whole.set_weights(model.get_weights())
    whole.save(tmp_path / "own.keras")
    shutil.copy(runs / "rectangle" / "labels.txt", tmp_path / "labels.txt")
    return tmp_path / "own.keras"


def test_a_model_of_any_size_is_told_one(call, own, runs, photos, tmp_path):
    photo, size = photos / "right" / "01.png", ("--image-size", "48x64", "--fit", "crop")
    expected = graft.load(runs / "rectangle").predict(photo)["scores"]
    (answer,) = json.loads(call("predict", own, photo, *size, "--json")[1])
    assert answer["scores"] == pytest.approx(expected, abs=1e-5)
    figures = json.loads(call("evaluate", own, "--data", photos, *size, "--json")[1])
    assert figures["examples"] == 60
    code, _, _ = call("export", own, *size, "--data", photos, "--out", tmp_path / "out")
    assert code == 0
    for file in FILES:
        opened = graft.load(tmp_path / "out" / file)
        assert opened._opened.session.input_shape == (48, 64, 3)
        assert opened._opened.session.preprocessing["image_size"] == [48, 64]
        assert opened.predict(photo)["scores"] == pytest.approx(expected, abs=1e-5)
    made = graft.export(
        keras.models.load_model(own), tmp_path / "py", labels=NAMES, formats=["onnx"], image_size=20
    )
    assert made.manifest["inputs"][0]["shape"] == [None, 20, 20, 3]


@pytest.mark.parametrize("verb", ["predict", "evaluate", "export"])
def test_what_has_no_size_or_another_one_is_one_line(call, own, runs, photos, verb, tmp_path):
    more = {"predict": [photos / "right" / "01.png"], "evaluate": ["--data", photos], "export": []}
    tell = lambda path, *size: call(verb, path, *more[verb], *size)  # noqa: E731
    code, _, (line,) = tell(own)
    assert code == 2
    assert "takes images of any size: say for which one it was trained, --image-size" in line
    for size in ("x", "axb", "0", "64x"):
        code, _, (line,) = tell(own, "--image-size", size)
        assert code == 2
        assert "HEIGHTxWIDTH as 160x224, of 33,554,432 pixels at most: not " in line
    network((12, 20, 3)).save(tmp_path / "fixed.keras")
    fixed = keras.models.load_model(tmp_path / "fixed.keras")
    x = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(fixed.output))
    keras.Model(fixed.input, x).save(tmp_path / "fixed.keras")
    code, _, (line,) = tell(tmp_path / "fixed.keras", "--image-size", "48x64")
    assert code == 2
    assert "takes images of 12x20 pixels, not 48x64: leave --image-size" in line
    code, _, (line,) = tell(runs / "grey", "--image-size", "48x64")
    assert code == 2
    assert "--fit and --image-size are for a .keras file of your own" in line


def test_a_model_of_any_size_is_timed_at_the_size_it_is_told(own, monkeypatch):
    """The process that times it has to know the size too."""
    monkeypatch.undo()
    (row,) = graft.measure(own, image_size="48x64")
    assert row["error"] is None
    assert row["latency_ms"] > 0
    (row,) = graft.measure(own)
    assert "takes images of any size" in row["error"]


@pytest.mark.parametrize("size", ["x", "0", "48x", "16x64"])
def test_a_bad_size_of_a_training_is_one_line(call, photos, tmp_path, size):
    given = ("--data", photos, "--out", tmp_path / "run", "--backbone", "mobilenet_v2_0.35")
    given += ("--weights", "none", "--schedule", "scratch")
    code, _, (line,) = call("train", "image-classification", *given, "--image-size", size)
    assert code == 2
    expected = "it needs at least 32 pixels a side" if size == "16x64" else "or HEIGHTxWIDTH"
    assert expected in line
    assert not (tmp_path / "run").exists()


def test_backbones_are_suggested_at_a_rectangle(call, runs, photos, tmp_path):
    names = (runs / "rectangle.keras", runs / "grey.keras")
    code, out, _ = call("suggest", "--data", photos, "--backbones", names[0], "--json")
    assert code == 0, "at 224 pixels"
    given = ("suggest", "--data", photos, "--backbones", *names, "--image-size", "24x32", "--json")
    code, out, _ = call(*given)
    assert code == 0
    assert {row["backbone"] for row in json.loads(out)} == {"rectangle", "grey"}
    code, _, (line,) = call(*given[:-2], "30x30")
    assert code == 2
    assert "takes images of 24x32 pixels, not 30: leave" in line
    code, _, (line,) = call(*given[:-2], "axb")
    assert code == 2
    assert "or HEIGHTxWIDTH" in line


@pytest.mark.parametrize("name", ["rectangle", "grey", "transparent"])
def test_backbones_learn_without_labels_from_such_images(runs, photos, tmp_path, name):
    size = {} if WAYS[name][1] is None else {"image_size": "24x32"}
    run = graft.train(
        "self-supervised",
        data=photos,
        out=tmp_path / "run",
        backbone=str(runs / f"{name}.keras"),
        epochs=2,
        batch_size=16,
        **size,
    )
    saved = keras.models.load_model(run.path / "backbone.keras")
    assert saved.input.shape[1:] == ((24, 32, 3) if size else SHAPES[name])


@pytest.mark.parametrize("recipe", ["domain-adaptation", "semi-supervised"])
def test_recipes_without_all_labels_refuse_what_breaks_a_fourth_channel(
    call, runs, photos, tmp_path, recipe
):
    more = ("--target", photos) if recipe == "domain-adaptation" else ()
    given = ("--data", photos, "--out", tmp_path / "run", "--methods", "fixmatch", *more)
    code, _, (line,) = call("train", recipe, *given, "--backbone", runs / "transparent.keras")
    assert code == 2
    assert "fixmatch changes images by randaugment" in line


def colours_of(file) -> int:
    """What the metadata of a .tflite file say of the colours of its input: 0 unknown, 1 RGB, 2
    greyscale.
    """
    model = flatbuffer_utils.read_model(str(file))
    (entry,) = (m for m in model.metadata if m.name == b"TFLITE_METADATA")
    data = bytes(model.buffers[entry.buffer].data)

    def inside(table, slot, listed=False):
        offset = table.Offset(4 + 2 * slot)
        return Table(data, table.Indirect(table.Vector(offset) if listed else offset + table.Pos))

    root = Table(data, encode.Get(packer.uoffset, data, 0))
    image = inside(inside(inside(inside(root, 3, True), 2, True), 3), 1)
    offset = image.Offset(4)
    return image.Get(number_types.Int8Flags, offset + image.Pos) if offset else 0


def test_metadata_name_the_colours(runs):
    """MediaPipe opens RGB alone, and says so of the others instead of feeding them wrongly."""
    expected = {"rectangle": 1, "grey": 2, "transparent": 0}
    files = {name: runs / name / "export" / "model.tflite" for name in expected}
    assert {name: colours_of(file) for name, file in files.items()} == expected
