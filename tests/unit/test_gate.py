"""What the console and the manifest say of files: status, task, split, costs; older manifests are
read.
"""

import json

import pytest

from graft.export import manifest
from graft.recipes.commands import export as verb
from graft.recipes.commands.file_lines import file_lines
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError


def figures(**changes):
    made = {
        "output": "probabilities",
        "figure": "accuracy",
        "key": "accuracy",
        "value": 0.9,
        "interval": [0.85, 0.93],
        "reference": 0.9,
        "drop_points": 0.0,
        "drop_interval": [-0.8, 0.8],
        "calibration_error": None,
        "examples": 341,
        "truth": "labels",
        "status": "pass",
        "passed": True,
        "undecided": False,
        "enough_examples": None,
    }
    return made | changes


def row(**changes):
    made = {
        "path": "model.int8.onnx",
        "format": "onnx",
        "requested": "int8",
        "precision": "int8",
        "status": "pass",
        "size_bytes": 1e6,
        "latency_ms": {"one_thread": {"median": 1.0}},
        "accuracy": figures(),
        "reason": None,
        "parity": {"max_abs_diff": 1e-5, "batch_1_diff": 4e-3, "agreement": 1.0, "passed": True},
    }
    return made | changes


def said(made, split="validation"):
    return "\n".join(file_lines(made, split))


def test_a_line_names_figure_and_split_and_shows_the_interval():
    text = said(row())
    assert "validation accuracy 90.0 % (+0.0; -0.8 to +0.8)" in text
    assert "max difference 4.0e-03" in text, (
        "the larger one: alone an example is answered otherwise"
    )


def test_each_task_is_shown_with_its_own_figure():
    """Before, one figure stood for all: 'accuracy 100.0 %', a regression's agreement with Keras."""
    kind = figures(
        output="kind",
        value=0.567,
        drop_points=1.5,
        status="undecided",
        undecided=True,
        enough_examples=900,
    )
    price = figures(output="price", figure="R²", key="r2", value=0.41)
    text = said(
        row(accuracy=kind, accuracy_of_outputs={"kind": kind, "price": price}, status="undecided")
    )
    assert "kind: validation accuracy 56.7 %" in text
    assert "price: validation R² 0.410" in text
    assert "100.0 % (" not in text
    assert "kind: 1.5 points less accuracy than Keras" in text
    assert "341 validation examples cannot tell, about 900 would" in text


def test_the_label_that_loses_most_is_named():
    lost = figures(
        figure="average precision",
        drop_points=40.0,
        drop_interval=[30.0, 50.0],
        unit=3,
        label="red",
    )
    text = said(row(status="fail", accuracy=lost | {"status": "fail"}))
    assert (
        "it loses 40.0 points (30.0 to 50.0) of Keras's average precision of 'red' on 341 "
        "validation examples" in text
    )
    lost |= {"status": "undecided", "enough_examples": 900}
    assert "40.0 points less average precision of 'red' than Keras" in said(
        row(status="undecided", accuracy=lost)
    )
    unnamed = lost | {"label": None, "figure": "R²"}
    assert "points less R² of output 4 than Keras" in said(
        row(status="undecided", accuracy=unnamed)
    )


def test_a_file_that_is_slower_and_worth_less_says_so():
    slow = row(against_float32={"size": 0.28, "latency": 6.6}, accuracy=figures(drop_points=0.4))
    assert "0.28 x size, 6.60 x time of float32: SLOWER AND WORTH LESS" in said(slow)
    assert "SLOWER" not in said(row(against_float32={"size": 0.28, "latency": 6.6}))
    assert "SLOWER" not in said(
        row(against_float32={"size": 0.3, "latency": 0.5}, accuracy=figures(drop_points=0.4))
    )


@pytest.mark.parametrize(
    ("statuses", "accept", "code"),
    [
        (["pass", "skipped"], False, 0),
        (["pass", "undecided"], False, 1),
        (["pass", "undecided"], True, 0),
        (["undecided", "fail"], True, 1),
    ],
)
def test_what_is_undecided_ends_with_1_unless_it_is_accepted(monkeypatch, statuses, accept, code):
    files = [{"status": status, "path": "model.onnx"} for status in statuses]
    monkeypatch.setattr(verb, "export", lambda options: {"files": files})
    assert verb.command(["run", *(["--accept-undecided"] if accept else [])]) == code


def test_an_older_manifest_is_shown_as_what_it_was(tmp_path):
    old = {
        "value": 0.9,
        "interval": [0.8, 0.95],
        "reference": 0.95,
        "drop_points": 5.0,
        "drop_interval": [-1, 9],
    }
    old |= {"calibration_error": None, "examples": 30, "truth": "labels", "passed": True}
    parity = {"max_abs_diff": 0.1}
    content = {
        "schema": 2,
        "outputs": [{"name": "probabilities", "kind": "single_label"}],
        "files": [
            {"path": "a", "passed": True, "accuracy": old | {"undecided": True}, "parity": parity},
            {
                "path": "b",
                "passed": True,
                "accuracy": old | {"undecided": False},
                "parity": dict(parity),
            },
            {"path": "c", "passed": False, "error": "broken"},
            {"path": None, "passed": True, "skipped": "no"},
        ],
    }
    content["files"] = [{"format": "tflite", "precision": "int8"} | row for row in content["files"]]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    rows = manifest.read_manifest(tmp_path)["files"]
    assert [row["status"] for row in rows] == ["undecided", "pass", "fail", "skipped"]
    assert (rows[0]["accuracy"]["figure"], rows[0]["accuracy"]["output"]) == (
        "accuracy",
        "probabilities",
    )
    assert rows[0]["parity"]["batch_1_diff"] is None


@pytest.mark.parametrize("option", ["weight_decay", "clip_norm", "ema"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_options_that_are_no_numbers_are_refused(option, value):
    """Before, NaN passed every check, because every comparison with it is false."""
    with pytest.raises(ConfigError, match=rf"--{option.replace('_', '-')} is a number, not"):
        FitSettings(**{option: value}).check()
