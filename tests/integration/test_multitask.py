"""Several tasks through the real command line: one table in, files out that answer all of them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.recipes.train import fit


@pytest.fixture(scope="session")
def answers(photo_folder, tmp_path_factory) -> Path:
    """A table of the pictures: where the shape is, how bright the picture is, and what it is like;
    some cells are empty.
    """
    table = tmp_path_factory.mktemp("tasks") / "table.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "place", "brightness", "like"))
        for i, path in enumerate(sorted(photo_folder.rglob("*.png"))):
            mean = np.asarray(Image.open(path).convert("RGB")).mean()
            like = ";".join(
                word for word, yes in (("dark", mean < 128), ("even", i % 2 == 0)) if yes
            )
            writer.writerow(
                (
                    path,
                    "" if i % 5 == 0 else path.parent.name,
                    "" if i % 7 == 0 else f"{mean:.1f}",
                    like,
                )
            )
    return table


@pytest.mark.usefixtures("quick_probe")
def test_several_tasks_from_end_to_end(call, answers, tiny_keras, tmp_path, monkeypatch, kept_of):
    out, updates, train = tmp_path / "run", {}, fit.train

    def watched(plan, examples, **more):
        steps = len(examples["train"]) // plan.settings.batch_size
        updates[more["name"]] = steps * plan.phases[-1].epochs
        return train(plan, examples, **more)

    monkeypatch.setattr(fit, "train", watched)
    code, said, _ = call(
        "train",
        "multitask",
        "--data",
        answers,
        "--tasks",
        "place",
        "light=brightness:regression:0.5",
        "like:multi_label",
        "--path-column",
        "file",
        "--out",
        out,
        "--backbone",
        tiny_keras,
        "--batch-size",
        8,
        "--epochs",
        4,
        "--compare-single",
        "--augment",
    )
    assert code == 0
    facts = json.loads((out / "run.json").read_text())
    assert [task["task"] for task in facts["sharing"]] == ["place", "light", "like"]
    assert len(updates) == 4
    assert kept_of(out)["watched"] == "validation loss of all tasks"
    assert min(updates.values()) == updates["transfer"], (
        "a model by itself learns as long, though it has fewer pictures"
    )
    assert list(facts["metrics"]["test"]["tasks"]) == ["place", "light", "like"]
    for text in ("place accuracy", "light R²", "like average precision"):
        assert text in said
    assert "place" in (out / "report.html").read_text()
    code, _, _ = call("export", out)
    assert code == 0
    manifest = json.loads((out / "export" / "manifest.json").read_text())
    assert [file["passed"] for file in manifest["files"]] == [True] * 3
    assert {output["name"]: output["kind"] for output in manifest["outputs"]} == {
        "place": "single_label",
        "light": "regression",
        "like": "multi_label",
    }
    picture = next(csv.DictReader(answers.open()))["file"]
    found = []
    for artifact in (
        out,
        *(out / "export" / name for name in ("savedmodel", "model.tflite", "model.onnx")),
    ):
        code, said, _ = call("predict", artifact, picture, "--json")
        assert code == 0
        (row,) = json.loads(said)
        assert row["place"]["label"] in ("left", "right", "top")
        assert isinstance(row["like"]["labels"], list)
        found.append(row["light"]["value"])
    np.testing.assert_allclose(found, found[0], rtol=1e-3)
    code, said, _ = call("predict", out / "export" / "model.tflite", picture)
    assert code == 0
    assert len(said.strip().split("\t")) >= 4
    code, said, _ = call(
        "evaluate",
        out / "export" / "model.onnx",
        "--data",
        answers,
        "--path-column",
        "file",
        "--json",
    )
    assert code == 0
    measured = json.loads(said)["tasks"]
    wanted = facts["metrics"]["test"]["tasks"]
    assert measured["place"]["accuracy"] == pytest.approx(wanted["place"]["accuracy"])
    assert measured["light"]["r2"] == pytest.approx(wanted["light"]["r2"], abs=1e-3)
    # A table of nothing but what is to be measured, of pictures it has not seen; a single row of it
    # is not for that.
    rows = list(csv.DictReader(answers.open()))
    for number, row in enumerate(rows):
        Image.open(row["file"]).transpose(Image.Transpose.TRANSPOSE).save(
            tmp_path / f"turned {number}.png"
        )
        row["file"] = f"turned {number}.png"
    for train_rows in (0, 1):
        held_out = tmp_path / f"{train_rows}.csv"
        with held_out.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("file", "place", "brightness", "like", "split"))
            writer.writeheader()
            writer.writerows(
                {**row, "split": "train" if i < train_rows else "test"}
                for i, row in enumerate(rows)
            )
        code, said, _ = call(
            "evaluate",
            out / "export" / "model.onnx",
            "--data",
            held_out,
            "--path-column",
            "file",
            "--json",
        )
        assert code == 0
        assert json.loads(said)["examples"] == len(rows) - train_rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tasks", "place"), "--tasks needs two or more different ones, got place"),
        (
            ("--tasks", "place", "colour"),
            "has no column 'colour': it has file, place, brightness, like",
        ),
        (("--tasks", "place", "like:regression"), "of task 'like' is no number"),
        (
            ("--tasks", "place", "brightness:regression:0.5", "--weighting", "uncertainty"),
            "finds the weights by itself",
        ),
        (
            ("--tasks", "place", "features=like:multi_label", "--weights", "none"),
            "would have two layers 'features': rename the head or",
        ),
        (
            ("--tasks", "place", "like:multi_label", "--augment", "mixup"),
            "--augment mixup mixes the answers",
        ),
        (
            ("--tasks", "place", "like:multi_label:inf"),
            "--tasks 'like:multi_label:inf': a weight is above 0 and at most",
        ),
        (("--tasks", "place", "input=like:multi_label"), "under 'input': call the task otherwise"),
        (
            ("--tasks", "place", "like:multi_label", "--data", "nothere.csv"),
            "there is no file 'nothere.csv'",
        ),
        (
            ("--tasks", "place", "like:multi_label", "--mixed-precision"),
            "--mixed-precision is not made for several tasks",
        ),
    ],
)
def test_bad_requests(call, answers, tmp_path, options, message):
    code, _, lines = call(
        "train",
        "multitask",
        "--data",
        answers,
        "--path-column",
        "file",
        "--out",
        tmp_path / "run",
        *options,
    )
    assert code == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []
