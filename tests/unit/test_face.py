"""The public face without a training: what it loads, and what natural wrong calls are told."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

import graft
from graft.arguments import command_options, recipe_options
from graft.recipes.commands import evaluate
from graft.recipes.data import sources
from graft.recipes.data.given import write_given
from graft.recipes.image_classification import Config
from graft.recipes.runs import workspace
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ArtifactError, ConfigError, DataError, UnknownName

PIXELS = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)


def test_import_is_quick_and_loads_no_framework():
    code = (
        "import time, sys; began = time.perf_counter(); import graft; dir(graft); "
        "seconds = time.perf_counter() - began; "
        "print(seconds, [m for m in ('numpy', 'keras', 'tensorflow', 'tyro') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.split(" ", 1)
    assert loaded.strip() == "[]"
    assert float(seconds) < 0.1 * 5, "five times the aim: the machine may be busy"


def test_every_public_name_is_there_and_documented():
    for name in graft.__all__:
        assert getattr(graft, name).__doc__, name
    assert graft.__version__
    with pytest.raises(AttributeError, match="no attribute 'fit': it has Model, Run, backbone"):
        _ = graft.fit


def test_rooms_are_functions_too_whatever_is_imported_first():
    code = "import graft.export.manifest, graft; print(callable(graft.export), len(graft.zoo()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    called, rows = done.stdout.split()
    assert called == "True"
    assert int(rows) > 30


def test_catalogues_show_themselves():
    assert "mobilenet_v2" in repr(graft.zoo)
    assert "<td>mobilenet_v2</td>" in graft.zoo._repr_html_()
    assert "gradual_unfreeze    4 blocks" in repr(graft.schedules)
    assert "<td>probe</td>" in graft.schedules._repr_html_()
    assert "lora" in graft.schedules.texts
    with pytest.raises(UnknownName, match="Did you mean 'fine_tune'"):
        _ = graft.schedules["finetune"]


def test_stacking():
    backbone = graft.backbone("mobilenet_v3_small", weights="none", image_size=32)
    model = graft.stack(backbone, graft.heads.single_label(["a", "b"]))
    assert model.output_shape == (None, 2)
    assert isinstance(model, keras.Model)


WITHOUT_LABELS = {
    "schema": 2,
    "recipe": "self-supervised",
    "modality": "image",
    "tasks": {},
    "config": {},
    "pairs": {"before": 0.25, "after": 0.75, "count": 12},
    "said": "The second version of an image is found in 75.0 % of cases, 25.0 % before.",
}
"""What run.json says after a training without labels."""


@pytest.fixture
def training(monkeypatch, tmp_path):
    """A recipe whose training makes a run of nothing but run.json, or ends as `ends_with` says."""
    monkeypatch.chdir(tmp_path)
    state = SimpleNamespace(ends_with=None, after_an_epoch=False, seen=[])

    def main(config):
        settings = {"overwrite": config.overwrite, "resume": config.resume}
        if workspace.finished(config.out, settings):
            return config.out
        with workspace.workspace(config.out, settings, "") as folder:
            state.seen.append(Path(config.data).read_text())
            if state.ends_with is not None:
                if state.after_an_epoch:
                    (folder / "checkpoint" / "0").mkdir(parents=True)
                    (folder / "checkpoint" / "0" / "state.npz").touch()
                raise state.ends_with
            (folder / "run.json").write_text('{"schema": 2, "tasks": {}, "config": {}}')
            (folder / "report.html").touch()
        return config.out

    monkeypatch.setattr("graft.recipes.image_classification.main", main)
    return state


FIRST, OTHER = (list(PIXELS), list("abab")), (list(PIXELS[:2]), list("cd"))


def held(folder: str = ".") -> dict[str, bytes]:
    """All files in a folder."""
    return {str(file): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def text_of(data) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return write_given(data, Path(folder) / "data").read_text()


def small_model(seed: int):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])


@pytest.mark.parametrize("more", [{}, {"overwrite": True, "resume": True}, {"resume": True}])
def test_what_a_run_was_trained_on_stays_where_another_training_is_refused(more, training):
    """Before, the data and the backbone of the finished run were those of the refused one."""
    graft.train(data=FIRST, out="runs/a", backbone=small_model(0))
    before = held()
    assert {"runs/a-backbone.keras", "runs/a-data/data.csv"} <= {*before}
    with pytest.raises(ConfigError, match="exists already|choose one of them|other content of"):
        graft.train(data=OTHER, out="runs/a", backbone=small_model(1), **more)
    assert held() == before


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"seed": -1}, ConfigError), ({"batch_size": 0}, ConfigError), ({}, DataError)],
)
def test_a_refused_training_leaves_nothing_new(wrong, error, training, tmp_path):
    training.ends_with = DataError("too few")
    with pytest.raises(error):
        graft.train(data=FIRST, out="runs/a", backbone=small_model(0), **wrong)
    assert [*tmp_path.iterdir()] == []
    training.ends_with = None
    graft.train(data=FIRST, out="runs/a", backbone=small_model(0))
    before, training.ends_with = held(), DataError("too few")
    with pytest.raises(error):
        graft.train(data=OTHER, out="runs/a", backbone=small_model(1), overwrite=True, **wrong)
    assert held() == before, "it was to replace the run, and has not"


@pytest.mark.parametrize("kind", ["folder", "table", "edited", "file"])
def test_a_folder_of_the_users_own_is_not_replaced(kind, training):
    if kind == "edited":
        graft.train(data=FIRST, out="photos")
        Path("photos").rename("old")
        (Path("photos-data") / "notes.txt").write_text("mine")
    elif kind == "file":
        Path("photos-data").write_text("mine")
    else:
        Path("photos-data").mkdir()
        name = "data.csv" if kind == "table" else "a.png"
        Path("photos-data", name).write_text("text,label\n")
    before = held()
    with pytest.raises(ConfigError, match="'photos-data' is not as Graft wrote it.*move it away"):
        graft.train(data=OTHER, out="photos", overwrite=True)
    assert held() == before


def test_a_backbone_of_the_users_own_is_not_replaced(training):
    small_model(0).save("photos-backbone.keras")
    before = held()
    with pytest.raises(ConfigError, match="'photos-backbone.keras' is not as Graft wrote it"):
        graft.train(data="digits", out="photos", backbone=small_model(1))
    assert held() == before


def test_a_run_is_replaced_with_what_it_was_trained_on(training):
    graft.train(data=FIRST, out="a", backbone=small_model(0))
    graft.train(data=OTHER, out="a", backbone=small_model(1), overwrite=True)
    assert {path.name for path in Path().iterdir()} == {"a", "a-data", "a-backbone.keras"}
    assert training.seen == [text_of(FIRST), text_of(OTHER)]
    loaded = keras.models.load_model("a-backbone.keras")
    for one, other in zip(loaded.weights, small_model(1).weights, strict=True):
        np.testing.assert_array_equal(one, other)
    before = held()
    graft.train(data=OTHER, out="a", backbone=small_model(1), resume=True)
    assert held() == before, "it is complete: the same data and backbone stay as they are"


@pytest.mark.parametrize("end", ["resume", "overwrite", "elsewhere"])
def test_an_interrupted_replacement_goes_on_with_its_data(end, training):
    graft.train(data=FIRST, out="a")
    training.ends_with, training.after_an_epoch = KeyboardInterrupt(), True
    with pytest.raises(KeyboardInterrupt):
        graft.train(data=OTHER, out="a", overwrite=True)
    table = Path("a-data", "data.csv")
    assert table.read_text() == text_of(OTHER)
    with pytest.raises(ConfigError, match="begun with other content of 'a-data'"):
        graft.train(data=FIRST, out="a", resume=True)
    training.ends_with = None
    if end == "elsewhere":
        graft.train(data=str(table), out="a", resume=True)
        graft.train(data=OTHER, out="a", overwrite=True)
    else:
        graft.train(data=OTHER, out="a", **{end: True})
    assert table.read_text() == training.seen[-1] != training.seen[0]
    assert {path.name for path in Path().iterdir()} == {"a", "a-data"}


def test_what_a_killed_training_replaced_is_put_back(training):
    graft.train(data=FIRST, out="a")
    before = held()
    Path(".a-data.before").mkdir()
    Path("a-data").rename(".a-data.before/a-data")
    write_given(OTHER, Path("a-data"))
    with pytest.raises(ConfigError, match="exists already"):
        graft.train(data=FIRST, out="a")
    graft.train(data=FIRST, out="a", resume=True)
    assert held() == before


@pytest.mark.parametrize("probe", [None, {"before": 0.5, "after": 0.625}])
def test_a_run_without_labels_shows_what_there_is(probe, tmp_path):
    """Before, showing it ended with a KeyError."""
    (tmp_path / "run.json").write_text(json.dumps({**WITHOUT_LABELS, "probe": probe}))
    run = graft.Run(tmp_path)
    assert run.metrics == {"pairs": WITHOUT_LABELS["pairs"], **({"probe": probe} if probe else {})}
    for shown in (repr(run), run._repr_html_()):
        assert "pairs" in shown
        assert "0.75" in shown
        assert ("0.625" in shown) == bool(probe)
        assert WITHOUT_LABELS["said"] in shown
    assert run.verdict is None


def test_a_run_that_says_nothing_of_itself_shows_its_place(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"schema": 2, "tasks": {}}))
    assert graft.Run(tmp_path).metrics == {}
    assert str(tmp_path) in repr(graft.Run(tmp_path))


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: graft.backbone("mobilnet_v2"), UnknownName, "Did you mean 'mobilenet_v2'"),
        (lambda: graft.backbone(3), ConfigError, "asked for by its name"),
        (lambda: graft.stack(keras.Sequential(), "softmax"), ConfigError, "got 'softmax'"),
        (lambda: graft.stack(keras.Sequential(), None), ConfigError, "a head is made by"),
        (lambda: graft.stack(3, graft.heads.embedding(4)), ConfigError, "got int"),
        (lambda: graft.train("photos", data="x", out="o"), UnknownName, "no recipe is called"),
        (lambda: graft.train(data="x", out="o", epoch=3), UnknownName, "Did you mean 'epochs'"),
        (lambda: graft.train(data="x", out="o", labels=["a"]), ConfigError, "data in memory"),
        (lambda: graft.train(data="digits", out="o", backbone=3), ConfigError, "backbone= is"),
        (lambda: graft.train(keras.Sequential(), data="x", out="o"), ConfigError, "backbone=model"),
        (lambda: graft.load("nothing.tflite"), ArtifactError, "there is no artifact"),
        (lambda: graft.load(3), ConfigError, "named by its path"),
        (lambda: graft.export("run", format="onnx"), UnknownName, "Did you mean 'formats'"),
        (lambda: graft.export(keras.Sequential()), ConfigError, "say where the files go"),
        (lambda: graft.measure("a", datas="x"), UnknownName, "Did you mean 'data'"),
        (lambda: graft.evaluate("a", "x", splits="test"), UnknownName, "Did you mean 'split'"),
        (
            lambda: graft.evaluate("a", "x", split="val"),
            UnknownName,
            "no value of split= is called 'val'. Known: test, train, validation",
        ),
        (
            lambda: graft.measure("a", data="x", split="tests"),
            UnknownName,
            "no value of split= is called 'tests'. Did you mean 'test'",
        ),
        (
            lambda: graft.evaluate("a", "x", outputs="logit"),
            UnknownName,
            "no value of outputs= is called 'logit'. Did you mean 'logits'",
        ),
        (
            lambda: graft.export("run", formats=["onnx", "tflit"]),
            UnknownName,
            "no value of formats= is called 'tflit'. Did you mean 'tflite'",
        ),
        (
            lambda: graft.train(data="x", out="o", cache="of"),
            UnknownName,
            "no value of cache= is called 'of'. Did you mean 'off'",
        ),
        (
            lambda: graft.train(data="x", out="o", cache=None),
            UnknownName,
            "no value of cache= is called 'None'.",
        ),
        (
            lambda: graft.train(data="x", out="o", augment="flips"),
            UnknownName,
            "no value of augment= is called 'flips'. Did you mean 'flip'",
        ),
        (
            lambda: graft.train("multitask", data="x", out="o", weighting="fix"),
            UnknownName,
            "no value of weighting= is called 'fix'. Did you mean 'fixed'",
        ),
        (
            lambda: graft.train(data="x", out="o", fit=FitSettings(cache="of")),
            UnknownName,
            "no value of cache= is called 'of'. Did you mean 'off'",
        ),
        (
            lambda: graft.train("text-classification", data="x", out="o", fit="crop"),
            ConfigError,
            r"fit= is FitSettings\(\.\.\.\), whose options may be given .*: got 'crop'",
        ),
    ],
)
def test_natural_wrong_calls_are_told_in_one_line(call, error, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("first", ["fit", "batch_size"])
def test_an_option_counts_before_and_after_the_settings_that_it_is_of(first):
    """Before, settings that came later had the last word on all of their options."""
    given = {"fit": FitSettings(views=3, cache="off"), "batch_size": 8, "augment": "flip"}
    found = recipe_options(Config, "x", {first: given[first], **given})
    settings = FitSettings(views=3, cache="off", batch_size=8, augment=("flip",))
    assert found == {"fit": settings}


def test_an_option_that_may_be_left_out_may_be_none():
    found = command_options(evaluate.Options, "evaluate", {"outputs": None, "split": "train"})
    assert found == {"outputs": None, "split": "train"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (PIXELS, r"a pair \(inputs, labels\).*got an array of shape \(4, 8, 8, 3\)"),
        ((PIXELS, ["a"]), "there are 4 inputs but 1 labels"),
        ((PIXELS, None), "the labels are a list or an array with one each: got NoneType"),
        ((PIXELS, "abab"), "the labels are a list or an array with one each: got str"),
        ((PIXELS[None], ["a"]), r"shape \(n, height, width, channels\).*got \(1, 4, 8, 8, 3\)"),
        ((PIXELS[..., :2], list("abab")), r"image 0 has the shape \(8, 8, 2\)"),
        ((PIXELS / 255, list("abab")), "image 0 has values from 0 to 1: .* multiply them by 255"),
        ((PIXELS - 128.0, list("abab")), "image 0 has values from -128 to"),
        ((PIXELS, [0, 1, 2, 1]), "label 2 is 2, but there are 2 names: no, yes"),
        ((PIXELS, [0.5, 1, 0, 1]), "label 0 is 0.5"),
        ((PIXELS, np.full((4, 2), 0.5)), "label 0 is no name, no number and no one-hot row"),
        ({"training": (PIXELS, list("abab"))}, "train, validation, test: got 'training'"),
        (([], []), "the data hold no example"),
        ((["a text", PIXELS[0]], ["a", "b"]), "some of the data are images and some are texts"),
    ],
)
def test_data_in_memory_of_another_form_are_told_in_one_line(data, told, tmp_path):
    with pytest.raises(DataError, match=told) as caught:
        write_given(data, tmp_path / "data", ("no", "yes"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def pixels_read(table) -> list[np.ndarray]:
    return [np.asarray(Image.open(e.image)) for e in sources.load(str(table)).splits["train"]]


@pytest.mark.parametrize("form", ["arrays", "floats", "pil", "paths", "tf.data", "one-hot"])
def test_data_in_memory_are_read_again_as_they_were(form, tmp_path):
    import tensorflow as tf

    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    names = ["no", "yes", "no", "yes"]
    given = {
        "arrays": (PIXELS, names),
        "floats": (np.float32(PIXELS), np.array([0, 1, 0, 1])),
        "pil": ([Image.fromarray(pixels) for pixels in PIXELS], names),
        "paths": ([tmp_path / f"{i}.png" for i in range(4)], names),
        "tf.data": tf.data.Dataset.from_tensor_slices((PIXELS, [0, 1, 0, 1])).batch(3),
        "one-hot": (list(PIXELS), np.eye(2)[[0, 1, 0, 1]]),
    }[form]
    table = write_given(given, tmp_path / "data", ("no", "yes"))
    source = sources.load(str(table))
    assert [example.label for example in source.splits["train"]] == names
    np.testing.assert_array_equal(pixels_read(table), PIXELS)


def test_splits_and_texts_in_memory(tmp_path):
    texts = {"train": (["a, b", 'say "c"'], ["x", "y"]), "test": (["d"], ["x"])}
    table = write_given(texts, tmp_path / "data")
    assert table.read_text().splitlines() == [
        "text,label,split",
        '"a, b",x,train',
        '"say ""c""",y,train',
        "d,x,test",
    ]
