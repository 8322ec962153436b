"""Bad input through the real command line: one line on stderr, exit code 2, nothing
half-written.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def train(call, tmp_path):
    """`graft train image-classification` on `data` at a size that costs nothing; it must fail, and
    leave nothing.
    """

    def run(data, *options):
        shelf = tmp_path / "shelf"
        shelf.mkdir()
        code, _, lines = call(
            "train",
            "image-classification",
            "--data",
            data,
            "--out",
            shelf / "run",
            "--backbone",
            "mobilenet_v2_0.35",
            "--weights",
            "none",
            "--image-size",
            32,
            "--epochs",
            2,
            *options,
        )
        assert code == 2
        assert len(lines) == 1
        # What was decoded before something was found stays, for the next try.
        assert [path.name for path in shelf.iterdir() if path.name != ".graft-cache"] == []
        return lines[0]

    return run


def test_missing_and_empty_folders(train, tmp_path):
    assert "there is no file or folder" in train(tmp_path / "nowhere")


def test_empty_folder(train, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no class folders" in train(tmp_path / "empty")


@pytest.fixture
def photos(photo_folder, tmp_path) -> Path:
    """A copy of the pictures that a test may spoil."""
    return Path(shutil.copytree(photo_folder, tmp_path / "photos"))


def test_a_class_with_one_image(train, photos):
    (photos / "lonely").mkdir()
    shutil.copy(photos / "top" / "00.png", photos / "lonely")
    assert "class 'lonely' of" in train(photos)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_an_unreadable_picture_is_named(train, photos, content):
    target = photos / "right" / "07.png"
    target.write_bytes(target.read_bytes()[:200] if content is None else content)
    line = train(photos)
    assert "right/07.png' is not a readable image" in line
    assert "--skip-bad" in line


def test_skip_bad_goes_on_and_counts(call, photos, tiny_keras, tmp_path, monkeypatch):
    import json

    counted = []
    monkeypatch.setattr("graft.recipes.runs.experiment.say", counted.append)
    (photos / "right" / "07.png").write_bytes(b"")
    (photos / "right" / "08.png").rename(photos / "right" / "08.heic")
    (photos / "right" / ".trash").mkdir()
    shutil.copy(photos / "top" / "00.png", photos / "right" / ".trash")
    code, out, lines = call(
        "train",
        "image-classification",
        "--data",
        photos,
        "--out",
        tmp_path / "run",
        "--backbone",
        tiny_keras,
        "--schedule",
        "feature_extraction",
        "--epochs",
        1,
        "--skip-bad",
    )
    assert code == 0
    assert "test accuracy" in out
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    (skipped,) = data["skipped"]
    assert "right/07.png" in skipped
    assert (data["found"], data["used"]) == (61, 58)
    assert {part["reason"]: part["count"] for part in data["left_out"]} == {
        ".heic": 1,
        "hidden": 1,
        "unreadable": 1,
    }
    assert any("1 of 60 found in" in line and "1 .heic (right/08.heic)" in line for line in lines)
    # The first one was said before anything was decoded.
    _, line = (text for text in counted if " images, " in str(text))
    assert line.startswith("58 images, 3 classes: ")
    assert line.endswith("; 3 left out: 1 .heic, 1 hidden, 1 unreadable")
    assert "1 .heic, 1 hidden, 1 unreadable" in (tmp_path / "run" / "report.html").read_text()


def test_training_lacks_a_class_that_the_test_split_has(train, photos, tmp_path):
    root = tmp_path / "split"
    shutil.copytree(photos, root / "train")
    shutil.copytree(photos / "top", root / "test" / "unheard")
    assert "class 'unheard' of" in train(root)


def test_columns_of_a_table(train, photos):
    (photos / "t.csv").write_text("path,kind\nleft/00.png,left\n")
    assert "has no column 'label': it has path, kind" in train(photos / "t.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--backbone", "mobilenetv2_0.35"),
            "no backbone is called 'mobilenetv2_0.35'. Did you mean 'mobilenet_v2_0.35'?",
        ),
        (("--schedule", "finetune"), "no schedule is called 'finetune'. Did you mean 'fine_tune'?"),
        (("--image-size", "16"), "32"),
        (("--epochs", "1"), "cannot be spread over 2 phases"),
        (("--augment", "mixup", "cutmix"), "choose one of them"),
        (("--dropout", "1.5"), "dropout must be at least 0 and below 1"),
        (("--learning-rate", "-1"), "must be above 0"),
        (("--per-class", "999"), "--per-class 999 cannot be had of"),
        (("--batch-size", "0"), "batch size"),
        (("--seeds", "0"), "seeds"),
        (("--weights", "nowhere.weights.h5"), "nowhere.weights.h5"),
        (("--weights", "bundeld"), "bundeld"),
        (("--backbone", "vgg16", "--weights", "bundled"), "bundled"),
    ],
)
def test_options(train, photo_folder, options, message):
    assert message in train(photo_folder, *options)


def test_weights_of_another_architecture(train, photo_folder, tmp_path):
    import keras

    keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(32, 32, 3)
    ).save_weights(tmp_path / "other.weights.h5")
    line = train(photo_folder, "--weights", tmp_path / "other.weights.h5")
    assert "other.weights.h5" in line
    assert "mobilenet_v2_0.35" in line


def test_imagenet_without_a_network(photo_folder, graft, tmp_path):
    closed = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    done = graft(
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--out",
        tmp_path / "run",
        "--backbone",
        "mobilenet_v2_0.35",
        "--image-size",
        32,
        KERAS_HOME=str(tmp_path / "keras"),
        **closed,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("graft train")]
    assert "--weights" in line
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_exists(call, small_run, photo_folder):
    before = sorted(p.name for p in small_run.iterdir())
    code, _, (line,) = call(
        "train", "image-classification", "--data", photo_folder, "--out", small_run
    )
    assert code == 2
    assert "exists already: --overwrite replaces it" in line
    assert sorted(p.name for p in small_run.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(call, photo_folder, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, _, (line,) = call(
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--out",
        tmp_path / "locked" / "run",
    )
    assert code == 2
    assert "Permission denied" in line


def test_a_place_below_a_file(call, photo_folder, tmp_path):
    (tmp_path / "file").write_text("x")
    given = [
        "--data",
        photo_folder,
        "--backbone",
        "mobilenet_v2_0.35",
        "--weights",
        "bundled",
        "--image-size",
        "32",
    ]
    code, _, (line,) = call(
        "train", "image-classification", *given, "--out", tmp_path / "file" / "run"
    )
    assert code == 2
    assert "file" in line
    assert (tmp_path / "file").read_text() == "x"


def test_commands_recipes_and_artifacts_that_do_not_exist(call, tmp_path, small_run):
    assert "Did you mean 'train'" in call("trian")[2][0]
    assert "Did you mean 'image-classification'" in call("train", "image-clasification")[2][0]
    for verb in (
        ("predict", tmp_path / "no.tflite", "x.png"),
        ("evaluate", tmp_path / "no", "--data", "digits"),
    ):
        code, _, (line,) = call(*verb)
        assert code == 2
        assert str(tmp_path / "no") in line
    assert "holds no run.json" in call("export", tmp_path)[2][0]
    (tmp_path / "strange.pb").write_bytes(b"x")
    assert "strange.pb" in call("predict", tmp_path / "strange.pb", "x.png")[2][0]


@pytest.mark.parametrize("left", [0, 0.5, None], ids=["empty", "cut", "missing"])
def test_export_names_what_a_run_lacks(call, small_run, tmp_path, left):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    kept = run / "examples.npz"
    whole = kept.read_bytes()
    kept.unlink() if left is None else kept.write_bytes(whole[: int(left * len(whole))])
    code, _, (line,) = call("export", run, "--out", tmp_path / "files")
    assert code == 2
    assert f"'{kept}' is {'missing' if left is None else 'damaged'}" in line
    assert not (tmp_path / "files").exists()


def test_predict_names_a_bad_picture(call, artifacts, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nothing")
    code, out, (line,) = call("predict", artifacts["onnx"], tmp_path / "bad.png")
    assert (code, out) == (2, "")
    assert "bad.png' is not a readable image" in line


def test_evaluate_refuses_data_that_changed_or_labels_it_does_not_know(call, artifacts, photos):
    extra = np.full((24, 24, 3), 7, np.uint8)
    Image.fromarray(extra).save(photos / "left" / "new.png")
    assert (
        "is not the data that this model was trained on"
        in call("evaluate", artifacts["run"], "--data", photos)[2][0]
    )
    root = photos.parent / "other"
    for split in ("train", "test"):
        shutil.copytree(photos / "left", root / split / "left")
        shutil.copytree(photos / "top", root / split / "upper")
    assert (
        "label 'upper' is not one of the model's 3"
        in call("evaluate", artifacts["run"], "--data", root)[2][0]
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_disk_full_while_exporting(call, small_run, tmp_path):
    """A file system of 16 kilobytes, on which no exported file fits."""
    shelf = tmp_path / "full"
    shelf.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", shelf], capture_output=True
    ).returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        code, _, lines = call("export", small_run, "--out", shelf / "export")
        assert code == 2
        assert len(lines) == 1
        assert "no space left on the disk" in lines[0]
        assert list(shelf.iterdir()) == []
    finally:
        subprocess.run(["umount", shelf], check=True)
