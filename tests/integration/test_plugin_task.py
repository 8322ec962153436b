"""A task of another package, answers on a scale: trained, exported, asked and compared through the
command line, while nothing in Graft knows of it. The package is `tests/ordinal_package`.
"""

import configparser
import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from graft.recipes.tasks.table import find_task
from graft.zoo.heads.table import find_kind, installed_tasks
from tests.integration.conftest import here

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tests" / "ordinal_package"
SCALE = ("small", "medium", "large")
SHARES = {"small": 0.2, "medium": 0.45, "large": 0.8}
"""The diameter of a circle, as a share of the image."""


def install(site: Path) -> None:
    """Make the folder `site` look as if pip had installed the package there."""
    setup = configparser.ConfigParser()
    setup.read(PACKAGE / "setup.cfg")
    facts = setup["metadata"]
    shutil.copy(PACKAGE / f"{setup['options']['py_modules']}.py", site)
    told = site / f"{facts['name'].replace('-', '_')}-{facts['version']}.dist-info"
    told.mkdir()
    lines = ("Metadata-Version: 2.1", f"Name: {facts['name']}", f"Version: {facts['version']}")
    (told / "METADATA").write_text("\n".join(lines) + "\n")
    groups = [f"[{group}]{lines}" for group, lines in setup["options.entry_points"].items()]
    (told / "entry_points.txt").write_text("\n".join(groups) + "\n")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    """The package is installed, in this process and in those that it starts."""
    site = tmp_path_factory.mktemp("site")
    install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(site), before))))
        installed_tasks.cache_clear()
        yield
    installed_tasks.cache_clear()


@pytest.fixture(scope="module")
def circles(tmp_path_factory) -> Path:
    """A folder of three class folders, 24 images of 48 pixels each: a bright circle on dark
    noise.
    """
    root, rng = tmp_path_factory.mktemp("circles"), np.random.default_rng(0)
    for size, share in SHARES.items():
        (root / size).mkdir()
        for i in range(24):
            image = Image.fromarray(rng.integers(0, 60, (48, 48, 3), np.uint8))
            radius = 24 * share * rng.uniform(0.9, 1.1)
            x, y = rng.uniform(24 - 4, 24 + 4, 2)
            box = (x - radius, y - radius, x + radius, y + radius)
            ImageDraw.Draw(image).ellipse(box, fill=tuple(rng.integers(180, 255, 3)))
            image.save(root / size / f"{i:02d}.png")
    return root


SETTINGS = ("--batch-size", "8", "--augment", "--learning-rate", "1e-2")


@pytest.fixture(scope="module")
def run(circles, tiny_keras, tmp_path_factory) -> Path:
    """A run of the recipe, exported to all formats."""
    out = tmp_path_factory.mktemp("runs") / "sizes"
    asked = ("--data", circles, "--backbone", tiny_keras, "--scale", *SCALE, "--out", out)
    done = here("train", "ordinal-size", *asked, "--epochs", "8", "--seeds", "2", *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert re.search(r"test weighted kappa \d\.\d+ \(seed \d; 2 seeds", done.stdout), done.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.export.probe.measure_file", lambda path: {})  # no latency
        done = here("export", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"validation weighted kappa \d\.\d{3} \(", done.stdout), "no share in percent"
    return out


@pytest.fixture(scope="module")
def facts(run) -> dict:
    """Its run.json."""
    return json.loads((run / "run.json").read_text())


def test_the_kind_is_found():
    assert find_kind("ordinal") is find_task("ordinal").kind


def test_a_run_says_what_the_task_says(facts):
    (task,) = facts["tasks"].values()
    assert task["figure"] == {"name": "weighted kappa", "key": "weighted_kappa"}
    assert task["scale"] == facts["data"]["labels"] == list(SCALE)
    assert task["labels"] == ["above small", "above medium"]
    assert facts["metrics"]["test"]["weighted_kappa"] > 0.6, "the circles are told apart"
    assert len(facts["test_by_seed"]) == 2
    counts = facts["data"]["splits"]["test"]["per_label"]
    assert np.sum(facts["confusion"]["matrix"], 1).tolist() == [counts[step] for step in SCALE]


def test_the_report_has_the_section_of_the_task(run, facts):
    page = (run / "report.html").read_text()
    assert "<h2>Distance on the scale</h2>" in page
    (section,) = facts["sections"]
    assert sum(count for _, count in section["rows"]) == facts["metrics"]["test"]["examples"]
    assert f">{facts['metrics']['test']['weighted_kappa']:.2f}</dd>" in page
    for step in SCALE:
        assert f"<b>{step}</b>" in page


def test_every_file_is_judged_by_the_figure_of_the_task(run):
    manifest = json.loads((run / "export" / "manifest.json").read_text())
    assert [row["format"] for row in manifest["files"]] == ["savedmodel", "tflite", "onnx"]
    for row in manifest["files"]:
        assert row["status"] == "pass"
        assert row["parity"]["passed"]
        judged = row["accuracy"]
        assert (judged["key"], judged["truth"]) == ("weighted_kappa", "labels")
        low, high = judged["interval"]
        assert low <= judged["value"] <= high
        assert judged["value"] == pytest.approx(judged["reference"])
    card = (run / "export" / "MODEL_CARD.md").read_text()
    assert "weighted_kappa" in card
    assert "pipeline_tag: image-classification" in card


FILES = ("model.keras", "export/savedmodel", "export/model.tflite", "export/model.onnx")


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_asked(run, circles, tmp_path, file):
    images = [circles / step / "00.png" for step in SCALE]
    table = tmp_path / "answers.csv"
    done = here("predict", run / file, *images, "--json", "--out", table)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for answer in answers:
        assert set(answer) == {"input", "step", "above"}
        passed = sum(value > 0.5 for value in answer["above"].values())
        assert answer["step"] == SCALE[passed]
    assert answers[0]["step"] == "small"
    assert answers[2]["step"] == "large"
    with table.open(newline="") as rows:
        assert list(next(csv.DictReader(rows))) == ["input", "step", "above_small", "above_medium"]
    lines = here("predict", run / file, *images).stdout.splitlines()
    assert [line.split("\t")[1] for line in lines] == [answer["step"] for answer in answers]


@pytest.mark.parametrize("file", FILES[2:])
def test_a_file_measures_what_the_run_says(run, facts, circles, file):
    done = here("evaluate", run / file, "--data", circles, "--json")
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), facts["metrics"]["test"]
    assert found["examples"] == expected["examples"]
    for key in ("weighted_kappa", "mean_distance"):
        assert found[key] == pytest.approx(expected[key])


def test_a_label_off_the_scale_is_one_line(circles, tiny_keras, tmp_path):
    asked = ("--data", circles, "--backbone", tiny_keras, "--scale", "small", "large")
    done = here("train", "ordinal-size", *asked, "--out", tmp_path / "run", *SETTINGS)
    assert done.returncode == 2
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("graft train: ")]
    assert "'medium' is no step of the scale small < large" in told
    assert not (tmp_path / "run").exists()


def test_the_recipe_is_listed(capsys):
    from graft.recipes.commands.train import command

    command(["--help"])
    assert re.search(r"ordinal-size +of the package ordinal-package", capsys.readouterr().out)


def test_a_grid_trains_cells_with_the_recipe(circles, tiny_keras, tmp_path):
    out = tmp_path / "bench"
    asked = ("--data", circles, "--backbones", tiny_keras, "--recipe", "ordinal-size")
    more = ("--schedules", "feature_extraction", "--seeds", "1", "--formats", "--out", out)
    done = here("bench", *asked, *more, "--", "--scale", *SCALE, "--epochs", "3", *SETTINGS)
    assert done.returncode == 0, done.stderr
    with (out / "bench.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["schedule"] for row in rows} == {"feature_extraction", "scratch"}
    for row in rows:
        assert (row["status"], row["measure"]) == ("done", "weighted kappa")
    cell = json.loads((out / "cells" / rows[0]["cell"] / "run.json").read_text())
    assert cell["recipe"] == "ordinal-size"


def test_a_package_that_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    told = tmp_path / "broken-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (told / "entry_points.txt").write_text("[graft.tasks]\nnone = no_such_module:Task\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed_tasks.cache_clear()
    try:
        done = here("predict", tmp_path / "model.onnx", "image.png")
        assert find_kind("single_label").name == "single_label", "our own kinds need no package"
        with pytest.raises(Exception, match="package 'broken' cannot be loaded"):
            find_kind("ordinal")
    finally:
        installed_tasks.cache_clear()
    assert done.returncode == 2


def test_graft_does_not_know_of_it():
    """But as an example in docstrings."""
    import ast

    for room in ("zoo", "recipes", "export"):
        for path in (ROOT / room).rglob("*"):
            if path.suffix not in (".py", ".jinja"):
                continue
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".py":
                tree = ast.parse(text)
                for node in ast.walk(tree):
                    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                        node.value = ast.Constant(None)
                text = ast.unparse(tree)
            assert "ordinal" not in text.lower(), path
