"""What the table of measured files says: the figure of the task with its interval, and of which
split.
"""

import csv
import json

import numpy as np
import pytest

from graft.export.intervals import interval
from graft.recipes.commands import evaluate, measure
from graft.zoo.errors import ConfigError
from graft.zoo.heads.table import find_kind
from graft.zoo.heads.tags import entity_f1

FACTS = {
    "latency_ms": {
        name: {"median": 1.0, "p90": 1.5, "threads": 2} for name in ("one_thread", "all_threads")
    },
    "peak_memory_bytes": 5_000_000,
}


def judged_as(score, split="test"):
    """What `graft evaluate` finds: a figure beside others that are not to be shown in its place."""
    return {"split": split, "examples": score.examples, "accuracy": 0.99, "exact_match": 0.5}, score


def scored(kind):
    rng = np.random.default_rng(0)
    if kind == "tags":
        truth = [["B-a", "O", "O", "O"]] * 40
        return entity_f1(truth, [["O"] * 4] * 10 + truth[10:])
    if kind == "multi_label":
        targets = np.float64(rng.random((40, 3)) < 0.4)
        return find_kind(kind).score(targets * 0.4 + rng.random((40, 3)) * 0.6, targets)
    truth = rng.normal(size=(40, 1))
    return find_kind(kind).score(truth + 0.3 * rng.normal(size=(40, 1)), truth)


@pytest.fixture
def artifact(tmp_path, monkeypatch):
    """A file, of which everything is known but its figure."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 1000)
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path, size: FACTS)
    monkeypatch.setattr("graft.export.untrusted.checks.check_untrusted", lambda path, trust: None)
    return file


@pytest.mark.parametrize("kind", ["tags", "multi_label", "regression"])
def test_a_file_is_measured_by_the_figure_of_its_task(
    kind, artifact, monkeypatch, tmp_path, capsys
):
    """Before, a tagger stood there with the accuracy of its tokens, several labels and values with
    nothing.
    """
    score = scored(kind)
    monkeypatch.setattr(evaluate, "judge", lambda options, data: judged_as(score, options.split))
    out = tmp_path / "out"
    options = [str(artifact), "--data", "d", "--split", "validation", "--out", str(out)]
    assert measure.command([*options, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["figure"] == find_kind(kind).figure
    assert (row["split"], row["examples"]) == ("validation", 40)
    assert row["accuracy"] == pytest.approx(score.value)
    assert (row["low"], row["high"]) == pytest.approx(interval(score))
    assert row["low"] < row["accuracy"] < row["high"]
    with (out / "measured.csv").open() as file:
        (cells,) = csv.DictReader(file)
    assert (cells["figure"], cells["split"]) == (row["figure"], "validation")
    assert (out / "measured.png").read_bytes()[:4] == b"\x89PNG"
    assert measure.command(options[:-2]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("validation", row["figure"], f"{row['accuracy']:.3f}"))


@pytest.mark.parametrize(
    "said", [("--labels", "a,b"), ("--fit", "crop"), ("--outputs", "logits"), ("--fit", "pad")]
)
def test_what_is_said_of_files_of_ones_own_is_refused_without_any(said, artifact):
    """Before, --fit alone was dropped without a word."""
    with pytest.raises(
        ConfigError, match="--image-size are for .keras files of your own: there is none"
    ):
        measure.command([str(artifact), "--data", "d", *said])


def test_what_the_data_cannot_tell_is_not_known(artifact, monkeypatch, capsys):
    nothing = entity_f1([["O", "O"]] * 5, [["O", "O"]] * 5)
    monkeypatch.setattr(evaluate, "judge", lambda options, data: judged_as(nothing))
    assert measure.command([str(artifact), "--data", "d"]) == 0
    text = capsys.readouterr().out
    assert "entity F1" in text
    assert "not known" in text


def test_several_tasks_have_no_one_figure(artifact, monkeypatch, capsys):
    monkeypatch.setattr(
        evaluate,
        "judge",
        lambda options, data: ({"split": "test", "examples": 7, "tasks": {}}, None),
    )
    assert measure.command([str(artifact), "--data", "d", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["figure"], row["accuracy"], row["examples"], row["split"]) == (
        None,
        None,
        7,
        "test",
    )


@pytest.mark.parametrize(
    ("split", "said"),
    [("validation", "of the validation split"), ("all", "of data without splits")],
)
def test_evaluate_names_the_split(split, said, monkeypatch, capsys):
    found = {
        "split": split,
        "examples": 60,
        "tasks": {"probabilities": {"accuracy": 0.5, "per_class": {}}},
    }
    monkeypatch.setattr(evaluate, "evaluate", lambda options: found)
    evaluate.command(["model.onnx", "--data", "d"])
    assert capsys.readouterr().out == f"accuracy 0.5000   on 60 examples {said}\n"


@pytest.mark.parametrize("name", ["v$1_$2.onnx", "_hidden.onnx", r"a$\bad$.onnx"])
def test_names_of_files_are_no_formulas(name, tmp_path):
    """Before, two dollars ended the command after everything was measured."""
    from graft.recipes.report.drawing import trade_off

    row = {
        "path": name,
        "accuracy": 0.9,
        "low": 0.8,
        "high": 0.95,
        "latency_ms": 1.0,
        "size_bytes": 10**6,
        "format": "onnx",
        "figure": "accuracy",
    }
    trade_off.draw(tmp_path / "p.png", [row])
    assert (tmp_path / "p.png").stat().st_size > 1000
