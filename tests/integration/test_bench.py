"""`graft bench` and `graft suggest` on a tiny backbone: killed, resumed, on two Ray nodes, with a
search behind it.
"""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.integration.conftest import here

ROOT = Path(__file__).parents[2]
METRICS = (
    "validation",
    "test",
    "validation_loss",
    "test_loss",
    "epochs",
    "parameters",
    "train_examples",
)


def arguments(photos, backbone, out, *more, train=()):
    return [
        "--data",
        str(photos),
        "--backbones",
        str(backbone),
        "--schedules",
        "feature_extraction",
        "--seeds",
        "2",
        "--out",
        str(out),
        *more,
        "--",
        "--batch-size",
        "8",
        "--augment",
        "--epochs",
        "3",
        *train,
    ]


def rows_of(out: Path) -> dict[str, dict]:
    with (out / "bench.csv").open(newline="") as file:
        return {row["cell"]: row for row in csv.DictReader(file)}


def _members(group: int) -> bool:
    """Whether some process of the group lives."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def grid(photo_folder, tiny_keras, tmp_path_factory):
    """(the folder of a grid that was killed after its first cell and went on, what the second call
    said).
    """
    out = tmp_path_factory.mktemp("grids") / "bench"
    command = [sys.executable, "-m", "graft", "bench", *arguments(photo_folder, tiny_keras, out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (out / "bench.csv").exists():
        assert process.poll() is None, "the grid ended before its first row"
        time.sleep(0.1)
    process.kill()  # itself, not the cell that it has started: that one has to notice
    process.wait()
    end = time.monotonic() + 60
    while _members(process.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _members(process.pid), "a cell goes on without its grid"
    first = rows_of(out)
    ended = here("bench", *arguments(photo_folder, tiny_keras, out))
    assert ended.returncode == 0, ended.stderr
    return out, first, ended


def test_a_killed_grid_goes_on_and_repeats_no_finished_cell(grid):
    out, first, ended = grid
    rows = rows_of(out)
    assert list(rows) == [
        f"tiny-{s}-{seed}" for seed in (0, 1) for s in ("feature_extraction", "scratch")
    ]
    assert f"{len(first)} of 4 cells are finished already" in ended.stderr
    for name, row in first.items():
        assert f"{name}:" not in ended.stderr  # not trained again
        assert {key: rows[name][key] for key in row} == row
    assert all(
        row["status"] == "done" and float(row["peak_memory_bytes"]) > 1e8 for row in rows.values()
    )


def test_the_files_of_one_run_stand_for_the_backbone(grid):
    out, _, _ = grid
    for row in rows_of(out).values():
        assert row["files_of"].startswith("tiny-feature_extraction")
        assert 0 < float(row["tflite_int8_bytes"]) < float(row["tflite_float32_bytes"])
        assert float(row["tflite_float32_ms"]) > 0
    assert (
        out / "cells" / rows_of(out)["tiny-scratch-0"]["files_of"] / "export" / "model.tflite"
    ).is_file()


def test_a_grid_says_what_to_take_and_leaves_its_report(grid):
    out, _, ended = grid
    first, *_, last = ended.stdout.splitlines()
    assert first.startswith("tiny + ")
    assert "2 seeds" in first
    assert last == f"report: {out / 'bench.html'}"
    text = (out / "bench.md").read_text()
    assert "Transfer against scratch" in text
    assert "knn_accuracy" in text
    assert str(out.parent) not in text  # no folder of this machine


def test_a_finished_grid_is_only_reported(grid, photo_folder, tiny_keras):
    out, _, _ = grid
    ended = here("bench", *arguments(photo_folder, tiny_keras, out))
    assert ended.returncode == 0
    assert "4 of 4 cells are finished already: 0 to go" in ended.stderr
    assert "exporting" not in ended.stderr


def test_another_grid_is_refused(grid, photo_folder, tiny_keras):
    out, _, _ = grid
    ended = here("bench", *arguments(photo_folder, tiny_keras, out, train=["--dropout", "0.5"]))
    assert ended.returncode == 2
    assert [line[:6] for line in ended.stderr.splitlines()] == ["readin", "graft "]
    assert "holds the results of another grid: options" in ended.stderr


def test_two_ray_nodes_give_the_rows_of_one_process(
    grid, photo_folder, tiny_keras, graft, tmp_path
):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    out, _, _ = grid
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        cluster.add_node(num_cpus=1)
        more = ["--ray", cluster.address, "--formats"]
        ended = graft("bench", *arguments(photo_folder, tiny_keras, tmp_path / "ray", *more))
    finally:
        cluster.shutdown()
    assert ended.returncode == 0, ended.stderr
    expected, found = rows_of(out), rows_of(tmp_path / "ray")
    assert found.keys() == expected.keys()
    for name, row in found.items():
        for metric in METRICS:
            assert float(row[metric]) == pytest.approx(float(expected[name][metric]), abs=1e-6), (
                name,
                metric,
            )


def test_a_search_goes_on_and_reports_the_best(grid, photo_folder, tiny_keras):
    out, _, _ = grid
    for count in (1, 2):
        ended = here("bench", *arguments(photo_folder, tiny_keras, out, "--search", count))
        assert ended.returncode == 0, ended.stderr
        assert f"1 of {count} settings to go" in ended.stderr
    said = next(line for line in ended.stdout.splitlines() if line.startswith("search: "))
    assert "the best of 2 settings for tiny + feature_extraction" in said
    with (out / "search.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert [trial["state"] for trial in trials] == ["complete", "complete"]
    best = max(float(trial["validation"]) for trial in trials)
    assert f"{100 * best:.1f} % on validation data" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["--backbones", "mobilenet_v2_0.35@bundled", "mobilnet"],
            "no backbone is called 'mobilnet'",
        ),
        (["--schedules", "fine_tone"], "no schedule is called 'fine_tone'"),
        (["--budget", "0s"], "--budget is a time above 0"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--label-fractions", "1.5"], "--label-fractions are shares"),
    ],
)
def test_bad_requests_are_refused_before_anything_runs(photo_folder, call, tmp_path, more, words):
    given = [
        "--data",
        photo_folder,
        "--backbones",
        "mobilenet_v2_0.35@bundled",
        "--out",
        tmp_path / "bench",
        *more,
    ]
    code, out, lines = call("bench", *given)
    assert (code, out, len(lines)) == (2, "", 1)
    assert words in lines[0]
    assert not (tmp_path / "bench").exists()


def test_a_cluster_that_does_not_answer_costs_no_results(photo_folder, call, tmp_path):
    pytest.importorskip("ray")
    old = tmp_path / "bench" / "bench.csv"
    old.parent.mkdir()
    old.write_text("hours of work")
    given = [
        "--data",
        photo_folder,
        "--backbones",
        "mobilenet_v2_0.35@bundled",
        "--ray",
        "127.0.0.1:9",
        "--overwrite",
    ]
    code, out, lines = call("bench", *given, "--out", old.parent)
    assert (code, out, len(lines)) == (2, "", 1)
    assert "no Ray cluster answers at '127.0.0.1:9'" in lines[0]
    assert old.read_text() == "hours of work"
    assert list(old.parent.iterdir()) == [old]


def test_a_budget_too_small_for_one_cell(photo_folder, tiny_keras, tmp_path):
    more = ["--schedules", "scratch", "--seeds", "1", "--budget", "0.01s", "--formats"]
    given = arguments(photo_folder, tiny_keras, tmp_path / "bench", *more)[:-2]  # without --epochs
    ended = here("bench", *given)
    assert ended.returncode == 2
    assert "the --budget of 0.01 s is over before the first step" in ended.stderr.splitlines()[-1]
    assert {row["status"] for row in rows_of(tmp_path / "bench").values()} == {"failed"}


def test_suggestions_rank_and_estimate(photo_folder, tiny_keras, call, tmp_path):
    spec = "mobilenet_v2_0.35@bundled"
    given = [
        "--data",
        photo_folder,
        "--backbones",
        spec,
        tiny_keras,
        "--image-size",
        "32",
        "--sample",
        "30",
    ]
    code, _, lines = call("suggest", *given)
    assert code == 2
    assert "takes images of 16 pixels, not 32" in lines[0]
    given = [
        "--data",
        photo_folder,
        "--backbones",
        spec,
        "--image-size",
        "32",
        "--sample",
        "30",
        "--json",
    ]
    code, out, _ = call("suggest", *given, "--out", tmp_path / "s.json")
    (row,) = json.loads(out)
    assert code == 0
    assert json.loads((tmp_path / "s.json").read_text()) == [row]
    assert row["sample"] == 30
    assert row["leep"] is None
    assert 0 <= row["knn_accuracy"] <= 1
    assert row["epoch_seconds"] > row["pass_seconds"] > 0
    assert call("suggest", *given, "--sample", "3")[0] == 2


def test_a_model_with_a_head_of_its_own_has_a_leep(small_run, photo_folder, call):
    given = [
        "--data",
        photo_folder,
        "--backbones",
        small_run / "model.keras",
        "--sample",
        "30",
        "--json",
    ]
    code, out, _ = call("suggest", *given)
    assert code == 0
    (row,) = json.loads(out)
    assert row["backbone"] == small_run.name
    assert np.log(1 / 3) < row["leep"] <= 0  # chance among three classes is log(1/3)
