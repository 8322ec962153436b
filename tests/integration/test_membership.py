"""Nothing is measured on what a model was trained on, through the real command line: runs, files,
exports.
"""

import json
import os
import shutil

import pytest

from graft.recipes.data import sources, splits


@pytest.fixture(scope="module")
def moved(small_run, photo_folder, tmp_path_factory):
    """The photos that the small run was trained on, under other names, a third of them in each
    split.
    """
    facts = json.loads((small_run / "run.json").read_text())["data"]
    known = splits.reuse(sources.load(str(photo_folder)), "train", facts)
    root = tmp_path_factory.mktemp("moved")
    for number, example in enumerate(known):
        split = ("train", "validation", "test")[number % 3]
        place = root / split / example.label / f"renamed {number}.jpeg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(example.image.read_bytes())
    return root


@pytest.mark.parametrize("kind", ["run", "keras", "onnx", "savedmodel"])
def test_pictures_that_were_trained_on_are_refused_under_any_name(call, artifacts, moved, kind):
    for split in ("test", "validation"):
        code, out, lines = call("evaluate", artifacts[kind], "--data", moved, "--split", split)
        assert code == 2
        assert out == ""
        assert (
            "14 of 14 "
            + split
            + " examples are in the training data of this model, whatever they are"
            in lines[-1]
        )
        assert "renamed" in lines[-1]
    assert call("evaluate", artifacts[kind], "--data", moved, "--split", "train")[0] == 0


@pytest.mark.usefixtures("quick_probe")
def test_neither_does_an_export_or_a_table_of_files_measure_on_them(
    call, small_run, artifacts, moved, tmp_path
):
    for run in (small_run, small_run / "model.keras"):
        code, _, lines = call(
            "export", run, "--data", moved, "--formats", "onnx", "--out", tmp_path / "out"
        )
        assert code == 2
        assert "14 of 14 validation examples are in the training data of this model" in lines[-1]
    code, _, lines = call("measure", artifacts["onnx"], "--data", moved)
    assert code == 2
    assert "test examples are in the training data" in lines[-1]


def test_what_a_run_records_is_small_and_goes_with_its_files(small_run):
    content = json.loads((small_run / "run.json").read_text())["data"]
    record = content["membership"]
    assert record["examples"] == {"train": 42, "validation": 9, "test": 9}
    assert set(record["digests"]) == {"train", "validation", "test"}
    assert (
        json.loads((small_run / "export" / "manifest.json").read_text())["training_data"][
            "membership"
        ]
        == record
    )
    assert (small_run / "export" / "splits.npz").read_bytes() == (
        small_run / "splits.npz"
    ).read_bytes()
    assert (small_run / "splits.npz").stat().st_size < 100 * 60


@pytest.mark.usefixtures("quick_probe")
def test_a_run_and_files_of_before_work_with_a_warning(call, small_run, photo_folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(small_run, old)
    for name, key in (("run.json", "data"), ("export/manifest.json", "training_data")):
        content = json.loads((old / name).read_text())
        del content[key]["membership"]
        (old / name).write_text(json.dumps(content))
    (old / "splits.npz").unlink()
    (old / "export" / "splits.npz").unlink()
    for artifact in (old, old / "export" / "model.onnx"):
        code, out, lines = call("evaluate", artifact, "--data", photo_folder)
        assert code == 0
        assert "of 9" not in out or out
        assert "is not recorded (an older Graft wrote it)" in lines[0]
    code, _, lines = call("export", old, "--formats", "onnx", "--out", tmp_path / "again")
    assert code == 0
    assert "is not recorded (an older Graft wrote it)" in lines[0]
    assert call("predict", old / "export" / "model.onnx", photo_folder / "left" / "00.png")[0] == 0


def test_predict_does_not_wait_for_a_pipe(graft, artifacts, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    done = graft("predict", artifacts["onnx"], tmp_path / "pipe.png")
    assert done.returncode == 2
    assert "pipe.png' is not a readable image (it is a pipe)" in done.stderr
    assert "Traceback" not in done.stderr
