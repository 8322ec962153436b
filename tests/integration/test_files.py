"""Exported files through the real command line: precisions, the gate, evidence, measuring, and
files that were spoiled.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from graft.recipes.codecs import images
from graft.recipes.commands import export as export_command
from graft.recipes.data import sources
from tests.unit.test_locks import HOLDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small_files(small_run, made_once) -> Path:
    """All precisions of the small run, with a generous gate: the run is too small for int8 to be
    judged.
    """

    def make(folder: Path) -> None:
        options = export_command.Options(
            run=small_run,
            formats=("tflite", "onnx"),
            quantize=("float16", "int8", "int8-full"),
            max_drop=100.0,
            out=folder / "export",
        )
        export_command.export(options)

    return made_once("small files", make) / "export"


def test_every_file_has_its_evidence(small_files):
    content = json.loads((small_files / "manifest.json").read_text())
    paths = [row["path"] for row in content["files"]]
    assert paths == [
        "model.tflite",
        "model.float16.tflite",
        "model.int8.tflite",
        "model.int8-full.tflite",
        "model.onnx",
        "model.float16.onnx",
        "model.int8.onnx",
        None,
    ]
    for row in content["files"][:-1]:
        assert row["passed"], row
        assert (
            row["accuracy"]["examples"]
            == row["parity"]["examples"]
            == content["measured_on"]["examples"]
        )
        assert (
            0
            <= row["accuracy"]["interval"][0]
            <= row["accuracy"]["value"]
            <= row["accuracy"]["interval"][1]
            <= 1
        )
        assert 0 <= row["accuracy"]["calibration_error"] <= 1
        assert row["latency_ms"]["one_thread"]["threads"] == 1
        assert (
            0 < row["latency_ms"]["one_thread"]["median"] <= row["latency_ms"]["one_thread"]["p90"]
        )
        assert row["peak_memory_bytes"] > 0
        assert row["operators"]
        assert row["flex"] == row["custom"] == []
        assert row["inputs"][0]["name"] == "image"
        assert row["inputs"][0]["range"] == [0, 255]
        assert row["outputs"][0]["name"] == "probabilities"
        assert row["format_version"] in ("schema 3", "opset 18")
    assert content["calibration"]["split"] == "train"
    assert len(content["calibration"]["names"]) == content["calibration"]["examples"] > 32
    assert {"python", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer"} <= set(
        content["versions"]
    )
    assert "no vector of labels" not in json.dumps(content)
    sizes = {row["path"]: row["size_bytes"] for row in content["files"] if row["path"]}
    assert sizes["model.int8.tflite"] < sizes["model.float16.tflite"] < sizes["model.tflite"]
    assert sizes["model.int8.onnx"] < sizes["model.float16.onnx"] < sizes["model.onnx"]


def test_the_card_has_front_matter_that_the_hub_reads(small_files):
    from huggingface_hub import ModelCard

    card = ModelCard.load(small_files / "MODEL_CARD.md")
    assert (card.data.license, card.data.license_name) == ("other", "unknown"), "a user's own"
    assert card.data.library_name == "keras"
    (result,) = card.data.eval_results
    assert result.metric_type == "accuracy"
    assert 0 <= result.metric_value <= 1
    for part in ("model.int8.tflite", "## Limits", "left", "| label | precision | recall"):
        assert part in card.text
    assert "\n\n\n" not in card.text
    for line in card.text.splitlines():
        if line.startswith("| "):
            assert line.count("|") in (6, 10), "every row of a table has all its cells"


@pytest.mark.usefixtures("quick_probe")
def test_json_and_the_exit_code_of_a_gate(call, small_run, tmp_path, monkeypatch):
    from graft.export.quantize.tflite import TFLiteQuantizer

    def spoiled(self):
        """The float32 file with nothing in its weights: always the same answer."""
        from ai_edge_litert.tools import flatbuffer_utils

        model = flatbuffer_utils.read_model_from_bytearray(bytearray(self.content))
        for buffer in model.buffers:
            if buffer.data is not None:
                small = len(buffer.data) < 2000  # shapes and the like
                buffer.data = np.frombuffer(bytes(buffer.data), np.uint8) * small
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    monkeypatch.setattr(TFLiteQuantizer, "dynamic", spoiled)
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    options = ("export", small_run, "--formats", "tflite", "--quantize", "dynamic", "--out")
    code, out, _ = call(*options, tmp_path / "a", "--json")
    assert code == 1
    rows = json.loads(out)["files"]
    assert [row["passed"] for row in rows] == [True, False]
    assert (tmp_path / "a" / "model.dynamic.tflite").is_file()


def test_measure(call, small_files, small_run, photo_folder, tmp_path):
    out = tmp_path / "measured"
    code, text, _ = call(
        "measure", small_files / "model.int8.tflite", small_files / "model.onnx", "--out", out
    )
    assert code == 0
    assert "model.int8.tflite" in text
    assert not (out / "measured.png").exists(), "without data there is no accuracy to draw"
    code, text, _ = call(
        "measure", small_files, "--json", "--data", photo_folder, "--out", out, "--overwrite"
    )
    assert code == 0
    rows = json.loads(text)
    assert len(rows) == 7
    assert {row["format"] for row in rows} == {"tflite", "onnx"}
    assert all(
        row["latency_ms"] > 0 and 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        for row in rows
    )
    with (out / "measured.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in rows]
    assert (out / "measured.png").read_bytes()[:4] == b"\x89PNG"
    code, _, (line,) = call("measure", small_files, "--out", out)
    assert code == 2
    assert "--overwrite replaces it" in line
    code, text, _ = call("measure", small_run / "model.keras", "--json")
    assert (code, json.loads(text)[0]["format"]) == (0, "keras")


@pytest.mark.usefixtures("quick_probe")
def test_the_files_of_an_export_share_what_is_decoded(
    call, small_files, small_run, photo_folder, tmp_path, monkeypatch
):
    """Before, each of them decoded it again. A model with another size has pixels of its own."""
    decoded, loaded = [], []
    decode, load = images.decode_all, sources.load
    monkeypatch.setattr(
        images, "decode_all", lambda *given: decoded.append(given[1]) or decode(*given)
    )
    monkeypatch.setattr(
        sources, "load", lambda *given, **more: loaded.append(1) or load(*given, **more)
    )
    code, text, _ = call("measure", small_files, "--json", "--data", photo_folder)
    shared = json.loads(text)
    assert (code, len(shared), len(decoded), len(loaded)) == (0, 7, 1, 1)
    alone = json.loads(call("measure", shared[-1]["path"], "--json", "--data", photo_folder)[1])
    assert alone == shared[-1:]
    decoded.clear()
    layers = [keras.Input((24, 24, 3)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    keras.Sequential(layers).save(tmp_path / "own.keras")
    artifacts = (small_files, tmp_path / "own.keras", small_run, "--labels", "left,right,top")
    code, text, _ = call("measure", *artifacts, "--json", "--data", photo_folder)
    assert code == 0
    assert [shape.size for shape in decoded] == [16, 24, 16]
    assert json.loads(text)[:7] == shared


def test_measure_goes_on_after_a_file_that_cannot_be_run(call, small_files, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes((small_files / "model.tflite").read_bytes()[:5000])
    code, text, _ = call("measure", bad, small_files / "model.onnx", "--json")
    assert code == 1
    rows = json.loads(text)
    assert "bad.tflite" in rows[0]["error"]
    assert rows[1]["error"] is None
    assert "there is no artifact" in call("measure", tmp_path / "no.onnx")[2][0]
    code, text, _ = call("measure", tmp_path, small_files / "model.onnx", "--json")
    rows = json.loads(text)
    assert (code, rows[0]["format"], rows[1]["error"]) == (1, "run", None)
    assert (rows[0]["size_bytes"], "there is no" in rows[0]["error"]) == (None, True), (
        "a folder without a model"
    )
    assert call("measure", tmp_path)[0] == 1, "a table, too"
    code, _, (line,) = call("measure", small_files / "model.onnx", "--out", bad)
    assert code == 2
    assert "is a file: give a folder" in line


@pytest.mark.usefixtures("quick_probe")
def test_a_run_whose_name_has_a_dot_is_a_run(call, small_run, tmp_path):
    shutil.copytree(small_run, tmp_path / "photos.v2", ignore=shutil.ignore_patterns("export"))
    code, text, _ = call("measure", tmp_path / "photos.v2", "--json")
    (measured,) = json.loads(text)
    assert (code, measured["format"]) == (0, "run")
    assert measured["size_bytes"] == (small_run / "model.keras").stat().st_size


def test_data_that_has_moved_is_said_and_the_kept_pictures_serve(
    call, small_run, tmp_path, monkeypatch
):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    run = shutil.copytree(small_run, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    content["data"]["source"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(content))
    code, _, lines = call("export", run, "--formats", "onnx", "--out", tmp_path / "out")
    assert code == 0
    assert "the files are measured on the" in lines[0]
    assert (
        json.loads((tmp_path / "out" / "manifest.json").read_text())["measured_on"]["source"]
        == "kept by the run"
    )
    code, _, (line,) = call("export", run, "--data", tmp_path / "gone", "--out", tmp_path / "other")
    assert code == 2
    assert "there is no file or folder" in line


def test_few_pictures_for_calibration_are_warned_of(call, small_run, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    run = shutil.copytree(small_run, tmp_path / "run")
    with np.load(run / "examples.npz") as kept:
        fewer = {
            key: kept[key][:20] if key.startswith("calibration") else kept[key]
            for key in kept.files
        }
    np.savez(run / "examples.npz", **fewer)
    options = (
        "export",
        run,
        "--formats",
        "tflite",
        "--max-drop",
        "100",
        "--overwrite",
        "--out",
        tmp_path / "out",
    )
    assert "calibrated with 20 examples only" in call(*options, "--quantize", "int8")[2][0]
    assert call(*options, "--quantize", "float16")[2] == []


def spoil_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_a_file_that_was_edited_is_refused(call, small_files, tmp_path, photo_folder, name):
    folder = shutil.copytree(small_files, tmp_path / "export")
    spoil_bytes(folder / name)
    picture = next(photo_folder.rglob("*.png"))
    code, out, (line,) = call("predict", folder / name, picture)
    assert (code, out) == (2, "")
    assert "its sha256 differs from the one in manifest.json" in line


def test_an_edited_savedmodel_is_refused(call, artifacts, tmp_path, photo_folder):
    folder = shutil.copytree(artifacts["savedmodel"].parent, tmp_path / "export")
    (folder / "savedmodel" / "assets" / "labels.txt").write_text("a\nb\nc\n")
    code, _, (line,) = call("predict", folder / "savedmodel", next(photo_folder.rglob("*.png")))
    assert code == 2
    assert "is not the file that was exported" in line


def test_a_manifest_of_a_newer_graft(call, small_files, tmp_path, photo_folder):
    folder = shutil.copytree(small_files, tmp_path / "export")
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(content | {"schema": 99}))
    code, _, (line,) = call("predict", folder / "model.onnx", next(photo_folder.rglob("*.png")))
    assert code == 2
    assert "schema 99" in line
    assert "update graft-zoo" in line


def test_a_keras_file_that_names_paths_outside(call, small_run, tmp_path):
    for name in ("../evil.txt", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"):
        path = tmp_path / "m.keras"
        shutil.copy(small_run / "model.keras", path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "x")
        code, _, (line,) = call(
            "export", path, "--labels", small_run / "labels.txt", "--out", tmp_path / "out"
        )
        assert code == 2
        assert "names a file outside of itself" in line
    assert not (tmp_path / "out").exists()


def test_a_keras_model_of_ones_own(call, small_run, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(small_run / "model.keras", own / "mine.keras")
    code, _, (line,) = call("export", own / "mine.keras")
    assert code == 2
    assert "give --labels FILE, one label a line, 3 of them" in line
    (own / "labels.txt").write_text("left\nright\n")
    assert "has 2 labels, but" in call("export", own / "mine.keras")[2][0]
    (own / "labels.txt").write_text("left\nright\ntop\n")
    assert (
        "int8 needs examples to calibrate with"
        in call("export", own / "mine.keras", "--quantize", "int8")[2][0]
    )
    assert sorted(p.name for p in own.iterdir()) == ["labels.txt", "mine.keras"]
    code, _, _ = call("export", own / "mine.keras", "--formats", "tflite", "onnx")
    assert code == 0
    assert (
        json.loads((own / "export" / "manifest.json").read_text())["measured_on"]["split"] is None
    )
    code, _, _ = call(
        "export",
        own / "mine.keras",
        "--formats",
        "tflite",
        "--quantize",
        "int8",
        "--data",
        photo_folder,
        "--overwrite",
        "--max-drop",
        "100",
    )
    assert code == 0
    code, _, (line,) = call("evaluate", own / "export" / "model.tflite", "--data", photo_folder)
    assert code == 2
    assert "nothing beside the model tells how its training made one" in line
    content = json.loads((own / "export" / "manifest.json").read_text())
    assert content["files"][0]["accuracy"]["truth"] == "labels"
    assert content["calibration"]["split"] == "train"


def test_options_of_export_that_cannot_be(call, small_run, tmp_path):
    code, _, (line,) = call("export", small_run, "--max-drop", "-1", "--out", tmp_path / "out")
    assert code == 2
    assert "--max-drop is in points" in line
    assert (
        "add --quantize int8"
        in call("export", small_run, "--explain", "--out", tmp_path / "out")[2][0]
    )
    assert "there is no file" in call("export", tmp_path / "no.keras")[2][0]
    assert "exists already: --overwrite replaces it" in call("export", small_run)[2][0]
    assert (
        "a run knows its labels"
        in call("export", small_run, "--labels", small_run / "labels.txt")[2][0]
    )
    inputs = keras.Input((28, 28, 2))
    pairs = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, pairs).save(tmp_path / "pairs.keras")
    given = ("export", tmp_path / "pairs.keras", "--labels", small_run / "labels.txt")
    assert "with 1 (grey), 3 (RGB) or 4 (RGBA) channels" in call(*given)[2][0]


def test_a_model_of_ones_own_that_gives_values_is_not_evaluated(
    call, photo_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    inputs = keras.Input((16, 16, 3))
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, logits).save(tmp_path / "logits.keras")
    (tmp_path / "labels.txt").write_text("left\nright\ntop\n")
    code, _, (line,) = call("export", tmp_path / "logits.keras", "--formats", "onnx")
    assert code == 2
    assert "--outputs logits if they are scores of labels" in line
    assert (
        call("export", tmp_path / "logits.keras", "--formats", "onnx", "--outputs", "values")[0]
        == 0
    )
    code, _, (line,) = call(
        "evaluate", tmp_path / "export" / "model.onnx", "--data", photo_folder, "--split", "train"
    )
    assert code == 2
    assert "answers with values" in line


def test_another_run_as_the_backbone(call, small_run, photo_folder, tmp_path):
    """What one run has learned is where the next one starts."""
    out = tmp_path / "next"
    options = (
        "train",
        "image-classification",
        "--data",
        photo_folder,
        "--out",
        out,
        "--epochs",
        2,
        "--augment",
    )
    code, _, _ = call(*options, "--backbone", small_run / "model.keras")
    assert code == 0
    content = json.loads((out / "run.json").read_text())
    assert content["backbone"]["name"] == "model"
    assert content["backbone"]["weights"]["spec"] == "own"
    assert content["data"]["image_size"] == 16
    assert (out / "report.html").is_file()
    code, _, (line,) = call(*options, "--overwrite", "--backbone", tmp_path / "no.keras")
    assert code == 2
    assert "--backbone takes a name from `graft zoo`, or a .keras file" in line


@pytest.mark.usefixtures("quick_probe")
def test_an_export_that_was_killed_before_its_card_or_report_is_finished(call, small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    asked = ("export", run)
    (run / "export" / "MODEL_CARD.md").unlink()
    os.utime(run / "report.html", (0, 0))
    code, out, _ = call(*asked)
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        [name, "pass"] for name in ("savedmodel", "model.tflite", "model.onnx")
    ]
    assert (run / "export" / "MODEL_CARD.md").exists()
    assert (run / "report.html").stat().st_mtime > 0
    assert call(*asked)[::2] == (
        2,
        [
            f"graft export: '{run}/export' exists already: --overwrite replaces it, or give "
            "another --out"
        ],
    )
    (run / "export" / "MODEL_CARD.md").unlink()
    code, _, (told,) = call(*asked, "--formats", "onnx")
    assert (code, "exists already" in told) == (2, True)
    assert (run / "export" / "MODEL_CARD.md").exists()


@pytest.mark.parametrize(
    ("place", "before", "told"),
    [
        ("graft.export.export.export_model", False, "nothing of '{run}/export' is left"),
        ("graft.export.export.export_model", True, "'{run}/export' is as it was"),
        (
            "graft.recipes.report.report.write",
            True,
            "'{run}/export' is complete, `graft export {run}` writes the report that shows it",
        ),
    ],
)
def test_an_interrupted_export_says_what_is_left(
    place, before, told, call, small_run, tmp_path, monkeypatch
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    run = shutil.copytree(
        small_run, tmp_path / "run", ignore=None if before else shutil.ignore_patterns("export")
    )
    if place.endswith("write"):
        monkeypatch.setattr("graft.export.export.export_model", lambda *_, **__: {"files": []})
    monkeypatch.setattr(place, interrupted)
    code, _, (line,) = call("export", run, "--overwrite")
    assert (code, line) == (130, f"graft export: interrupted: {told.format(run=run)}")


@pytest.mark.usefixtures("quick_probe")
def test_two_exports_into_one_run(call, small_run, tmp_path):
    """Or a training that replaces the run; into different folders they may go."""
    run = shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, run], stdout=subprocess.PIPE, cwd=ROOT)
    holder.stdout.readline()
    code, _, (line,) = call("export", run)
    assert code == 2
    assert line.startswith(f"graft export: '{run}' is being written by process {holder.pid} on ")
    assert call("export", run, "--out", tmp_path / "out", "--formats", "tflite")[0] == 0
    holder.kill()
    holder.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.lock", "out", "run"]
