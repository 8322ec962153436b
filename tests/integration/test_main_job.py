"""A folder of photos in, verified files out, through the real command line."""

import csv
import hashlib
import json
import re
import resource
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from graft.recipes.commands import evaluate
from graft.zoo.vision import decode_image
from tests.integration.conftest import here


def test_a_run_holds_what_the_contract_says(small_run, kept_of):
    assert kept_of(small_run)["rule"] == "best"
    names = {path.name for path in small_run.iterdir()}
    assert names == {
        "run.json",
        "history.csv",
        "model.keras",
        "labels.txt",
        "preprocessing.json",
        "examples.npz",
        "samples.npz",
        "mistakes.npz",
        "report.html",
        "test_units.npz",
        "splits.npz",
        "export",
    }
    run = json.loads((small_run / "run.json").read_text())
    assert (
        (small_run / "labels.txt").read_text().split()
        == run["data"]["labels"]
        == ["left", "right", "top"]
    )
    assert {split: part["examples"] for split, part in run["data"]["splits"].items()} == {
        "train": 42,
        "validation": 9,
        "test": 9,
    }
    assert run["data"]["made_splits"] == ["test", "validation"]
    assert run["backbone"]["weights"]["spec"] == "own"
    assert len(run["backbone"]["weights"]["sha256"]) == 64
    assert [phase["name"] for phase in run["schedule"]["phases"]] == ["head", "top half"]
    assert run["metrics"]["test"]["accuracy"] > 0.6, "three kinds told apart by brightness"
    assert np.sum(run["confusion"]["matrix"]) == 9
    assert len(run["test_accuracy_by_seed"]) == len(run["verdict"]["gain_points"]) == 2
    assert re.match("transfer (gained|lost|and scratch)", run["verdict"]["text"])
    with (small_run / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 7))
    assert {row["phase"] for row in rows} == {"head", "top half"}


def test_the_manifest_describes_the_files(small_run):
    folder = small_run / "export"
    manifest = json.loads((folder / "manifest.json").read_text())
    parameters = json.loads((small_run / "run.json").read_text())["backbone"]["parameters"]
    assert manifest["labels"] == ["left", "right", "top"]
    assert [entry["name"] for entry in manifest["inputs"]] == ["image"]
    assert [entry["name"] for entry in manifest["outputs"]] == ["probabilities"]
    for row in manifest["files"]:
        assert row["parity"]["max_abs_diff"] <= 1e-4
        assert row["parity"]["agreement"] == 1
        assert row["size_bytes"] > 0.95 * 4 * parameters, "the weights are in the file"
        path = folder / row["path"]
        if path.is_file():
            assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert row["size_bytes"] == path.stat().st_size


def test_the_report_shows_the_exported_files(small_run):
    text = (small_run / "report.html").read_text()
    for part in ("model.tflite", "model.onnx", "savedmodel", "confusion", "top half"):
        assert part in text
    assert not re.search(r"(src|href)=\"https?:", text), "the page loads nothing"


@pytest.mark.parametrize("kind", ["keras", "savedmodel", "tflite", "onnx"])
def test_every_artifact_measures_the_same(small_run, artifacts, photo_folder, kind):
    """On the test split that the run made, found again through the provenance beside each file."""
    expected = json.loads((small_run / "run.json").read_text())["metrics"]["test"]
    result = evaluate.evaluate(evaluate.Options(artifact=artifacts[kind], data=str(photo_folder)))
    assert result["examples"] == expected["examples"] == 9
    assert result["accuracy"] == expected["accuracy"]
    assert result["loss"] == pytest.approx(expected["loss"], abs=1e-3)


@pytest.fixture(scope="module")
def oddities(tmp_path_factory):
    """Pictures of several sizes and modes of one scene, and where to find them."""
    folder = tmp_path_factory.mktemp("odd pictures")
    pixels = np.zeros((90, 60, 3), np.uint8)
    pixels[:, :30] = 220
    scene = Image.fromarray(pixels)
    scene.save(folder / "large.png")
    scene.convert("L").save(folder / "grey.jpg", quality=95)
    scene.convert("P").save(folder / "palette.gif")
    scene.convert("RGBA").save(folder / "alpha.PNG")
    exif = scene.getexif()
    exif[0x0112] = 8
    scene.transpose(Image.Transpose.ROTATE_270).save(folder / "turned.jpg", exif=exif, quality=95)
    return folder


@pytest.mark.parametrize("kind", ["run", "keras", "savedmodel", "tflite", "onnx"])
def test_predict_on_any_artifact(call, artifacts, oddities, kind):
    code, out, _ = call("predict", artifacts[kind], oddities, "--json")
    assert code == 0
    results = json.loads(out)
    assert [result["input"].rsplit("/", 1)[1] for result in results] == sorted(
        p.name for p in oddities.iterdir()
    )
    for result in results:
        assert set(result) == {"input", "label", "probability", "scores"}
        assert set(result["scores"]) == {"left", "right", "top"}
        assert (
            result["scores"][result["label"]]
            == result["probability"]
            == max(result["scores"].values())
        )
        assert sum(result["scores"].values()) == pytest.approx(1, abs=1e-5)
        # One scene, whatever the file's size and mode.
        assert result["scores"]["left"] == pytest.approx(results[0]["scores"]["left"], abs=0.08)


def test_predict_prints_a_line_a_picture(graft, artifacts, oddities):
    done = graft(
        "predict", artifacts["tflite"], oddities / "grey.jpg", oddities / "large.png", "--top", 2
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r".*grey\.jpg\t\w+ [01]\.\d{3}\t\w+ [01]\.\d{3}", lines[0])


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_predict_and_evaluate_on_small_files_import_no_tensorflow(artifacts, photo_folder, kind):
    import subprocess
    import sys

    picture = next(photo_folder.rglob("*.png"))
    code = (
        "import sys\n"
        "from graft.recipes.commands import predict, evaluate\n"
        f"predict.command([{str(artifacts[kind])!r}, {str(picture)!r}])\n"
        f"evaluate.command([{str(artifacts[kind])!r}, '--data', {str(photo_folder)!r}])\n"
        "print([m for m in ('tensorflow', 'keras', 'torch', 'jax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_train_export_evaluate_by_hand(graft, photo_folder, tmp_path):
    """What a user types, in processes of their own: a backbone with its pretrained weights, from a
    table, with several options on.
    """
    shutil.copytree(photo_folder, tmp_path / "photos")
    table = tmp_path / "photos" / "photos.csv"
    rows = ["path,label"] + [
        f"{p.relative_to(table.parent)},{p.parent.name}"
        for p in sorted(table.parent.rglob("*.png"))
    ]
    table.write_text("\n".join(rows))
    out = tmp_path / "run"
    done = graft(
        "train",
        "image-classification",
        "--data",
        table,
        "--out",
        out,
        "--backbone",
        "mobilenet_v2_0.35",
        "--weights",
        "bundled",
        "--schedule",
        "full",
        "--epochs",
        1,
        "--image-size",
        32,
        "--batch-size",
        16,
        "--augment",
        "flip",
        "crop",
        "color",
        "cutmix",
        "--label-smoothing",
        0.1,
        "--class-weights",
        "--patience",
        1,
        "--mixed-precision",
        "--tensorboard",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("test accuracy ")
    assert "head + 11 of 11 blocks" in " ".join(done.stderr.split())
    assert list((out / "tensorboard").rglob("events*"))
    weights = json.loads((out / "run.json").read_text())["backbone"]["weights"]
    assert weights["spec"] == "bundled"
    assert len(weights["sha256"]) == 64
    done = graft("export", out, "--formats", "tflite", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["files"]
    assert row["format"] == "tflite"
    assert row["size_bytes"] > 1_500_000, "the weights are in the file"
    assert "tflite" in done.stderr, "the line a file goes to stderr, so that stdout is JSON"
    assert ModelCard.load(out / "export" / "MODEL_CARD.md").data.license == "apache-2.0"
    again = here("export", out, "--formats", "tflite")
    assert again.returncode == 2
    assert "exists already: --overwrite replaces it" in again.stderr
    assert here("export", out, "--formats", "tflite", "--overwrite").returncode == 0


def test_help_and_zoo_are_quick(graft):
    def used() -> float:
        """Seconds of a processor: other workers of the tests want one too."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    for arguments in (("--help",), ("zoo",)):
        graft(*arguments)
        seconds = []
        for _ in range(3):
            start = used()
            done = graft(*arguments)
            seconds.append(used() - start)
            assert done.returncode == 0
        assert min(seconds) < 0.5, (arguments, seconds)


def test_zoo_lists_every_row(graft):
    rows = json.loads(graft("zoo", "--json").stdout)
    lines = graft("zoo").stdout.splitlines()
    assert len(lines) == len(rows) + 5, (
        "a head and a foot for each of two tables, and a line between"
    )
    assert {row["modality"] for row in rows} == {"image", "text"}
    assert {"name", "parameters", "image_size", "feature_dim", "top1", "licence", "paper"} <= set(
        rows[0]
    )


def test_recipes_have_help(graft):
    from graft.recipes.runs.recipes import RECIPES

    for name in RECIPES:
        done = here("train", name, "--help")
        assert done.returncode == 0
        assert "--seed" in done.stdout
    assert "image-classification" in graft("train").stdout
    assert graft("--version").stdout[0].isdigit()


def test_tensorflow_datasets(tmp_path, monkeypatch):
    """Real `tfds.load` on a data set that tfds's own builder prepared on disk."""
    import tensorflow_datasets as tfds

    from graft.recipes.data import sources
    from graft.zoo.contents import Packed
    from graft.zoo.errors import ConfigError, DataError
    from tests.conftest import shapes_image

    class TinyShapes(tfds.core.GeneratorBasedBuilder):
        """Three kinds of pictures."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(24, 24, 3)),
                    "label": tfds.features.ClassLabel(names=["l", "r", "t"]),
                }
            )
            return self.dataset_info_from_configs(
                features=features, supervised_keys=("image", "label")
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples(6), "test": self._generate_examples(3)}

        def _generate_examples(self, count):
            for i in range(count):
                yield i, {"image": shapes_image(i % 3, i), "label": "lrt"[i % 3]}

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path), raising=False)
    TinyShapes(data_dir=str(tmp_path)).download_and_prepare()
    source = sources.load("tfds:tiny_shapes")
    assert source.labels == ("l", "r", "t")
    assert {split: len(examples) for split, examples in source.splits.items()} == {
        "train": 6,
        "test": 3,
    }
    by_name = {example.name: example for example in source.splits["train"]}
    found = {tuple(decode_image(e.image, 24).ravel()): e.label for e in by_name.values()}
    assert found == {tuple(shapes_image(i % 3, i).ravel()): "lrt"[i % 3] for i in range(6)}
    # They stay where they are: nothing is held of an image but its place.
    assert all(isinstance(example.image, Packed) for example in by_name.values())
    file = by_name["train 5"].image.file
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"tfrecord.*, record 5' is not a readable image \(.*cut"):
        [decode_image(example.image, 24) for example in source.splits["train"]]
    with pytest.raises(ConfigError, match="knows no data set 'no_such_thing'"):
        sources.load("tfds:no_such_thing")


def test_tensorflow_datasets_without_a_network(tmp_path, monkeypatch):
    from graft.recipes.data import sources
    from graft.zoo.errors import ConfigError

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    # tfds tries again and again, for minutes; the pauses between are not what is tested.
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    with pytest.raises(ConfigError, match="could not prepare 'tf_flowers' .* without a network"):
        sources.load(
            "tfds:tf_flowers"
        )  # one file: no other download goes on after the first has failed
