"""The search of `graft bench`, with a script in the place of the trainings."""

import csv
import json
import sys

import pytest

from graft.recipes.grid import plan, search
from graft.recipes.grid.entries import Entry
from graft.recipes.grid.grid import Grid
from graft.zoo.errors import ConfigError

TRAINING = """
import json, sys, time
from pathlib import Path
from graft.recipes.train.checkpoint import Checkpoint, Checkpoints

out = Path(sys.argv[1])
number = int(out.name.partition("-")[2])
reached, pause = {accuracies}[number], {pauses}[number]
if reached is None:
    sys.exit("graft train: the loss is nan")
checkpoints = Checkpoints(out.with_name(f".{{out.name}}.part") / "checkpoint" / "transfer")
for epoch in range(1, 6):
    checkpoints.save(0, Checkpoint(rows=[{{"val_{key}": reached, "val_loss": 0.1}}] * epoch))
    time.sleep(pause)
out.mkdir()
metrics = {{"validation": {{"{key}": reached}}, "test": {{"{key}": 0.5}}}}
diverged = number in {diverged}
tasks = {{"probabilities": {{"figure": {{"name": "{key}", "key": "{key}"}}}}}}
content = {{"schema": 2, "metrics": metrics, "tasks": tasks, "diverged": diverged}}
(out / "run.json").write_text(json.dumps({{**content, "warnings": ["the training diverged"]}}))
sys.exit(int(diverged))
"""


def planned(schedules=("fine_tune",)):
    return plan.plan("photos", [Entry("mobilenet_v2")], schedules, [0], [1.0], [])


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """(a grid with one finished cell, a function that says what the trials reach and how
    slowly).
    """
    pytest.importorskip("optuna")
    made = Grid(planned(), tmp_path, None, None, 1, None, "")
    cell = tmp_path / "cells" / "mobilenet_v2-fine_tune-0"
    cell.mkdir(parents=True)
    phases = [{"learning_rate": 3e-4, "train": 0.5, "total_blocks": 11}]

    def trials(accuracies, pauses, key="accuracy", diverged=(), schema=2):
        tasks = {"probabilities": {"figure": {"name": key, "key": key}}}
        older = {"metrics": {"validation": {key: 0.7}}, "data": {"labels": ["a", "b"]}}
        of_schema = {1: older, 2: {"modality": "image", "tasks": tasks}}
        content = {"schema": schema, "schedule": {"phases": phases}, **of_schema[schema]}
        (cell / "run.json").write_text(json.dumps(content))
        script = TRAINING.format(accuracies=accuracies, pauses=pauses, key=key, diverged=diverged)
        monkeypatch.setattr(
            plan, "command", lambda p, c, out: [sys.executable, "-c", script, str(out)]
        )

    monkeypatch.setattr(search, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(search, "FIRST", 2)
    monkeypatch.setattr(search, "WARM_UP", 1)
    return made, trials


ROWS = [
    {
        "cell": f"mobilenet_v2-{s}-0",
        "backbone": "mobilenet_v2",
        "schedule": s,
        "fraction": 1.0,
        "seed": 0,
        "status": "done",
        "validation": 0.7,
        "test": 0.7,
        "train_seconds": 1.0,
        "cached_seconds": 0.0,
    }
    for s in ("fine_tune", "scratch")
]


def states(folder):
    with (folder / "search.csv").open(newline="") as file:
        return [row["state"] for row in csv.DictReader(file)]


def test_a_hopeless_trial_is_stopped_and_a_dead_one_is_passed_over(grid, capsys):
    made, trials = grid
    trials([0.8, 0.9, 0.1, None], [0.1, 0.1, 3.0, 0.0])
    search.run(made, ROWS, 4)
    assert states(made.out) == ["complete", "complete", "pruned", "fail"]
    assert not (
        made.out / "search" / "mobilenet_v2-fine_tune" / "trial-2"
    ).exists()  # it did not come to its end
    said = capsys.readouterr().out
    assert (
        "the best of 4 settings for mobilenet_v2 + fine_tune reaches 90.0 % on validation data "
        "(70.0 % in the grid "
        "with the same seed)" in said
    )
    assert "50.0 % on test data" in said
    for name in ("learning_rate", "weight_decay", "dropout", "blocks", "augment"):
        assert name in said


@pytest.mark.parametrize("key", ["average_precision", "r2"])
def test_trials_are_stopped_by_the_figure_that_their_task_is_judged_by(grid, key):
    made, trials = grid
    trials([0.8, 0.9, 0.1], [0.0, 0.0, 1.0], key)
    search.run(made, ROWS, 3)
    assert states(made.out) == ["complete", "complete", "pruned"]


def test_a_trial_that_diverged_keeps_what_it_had_reached(grid, capsys):
    made, trials = grid
    trials([0.8, 0.9], [0.0, 0.0], diverged=(1,))
    search.run(made, ROWS, 2)
    assert states(made.out) == ["complete", "complete"]
    search.run(made, ROWS, 2)  # it is not tried again
    with (made.out / "search.csv").open(newline="") as file:
        assert [row["cause"] for row in csv.DictReader(file)] == ["", "the training diverged"]
    said = capsys.readouterr()
    assert "trial 1: 0.9000 (best 0.9000), diverged" in said.err
    assert said.out.splitlines()[-1].endswith("; the training diverged")


def test_a_search_that_was_interrupted_goes_on(grid, capsys):
    made, trials = grid
    trials([0.8, 0.9], [0.0, 0.0])
    search.run(made, ROWS, 1)
    search.run(made, ROWS, 2)
    assert states(made.out) == ["complete", "complete"]
    search.run(made, ROWS, 2)  # nothing to do
    assert "the best of 2 settings" in capsys.readouterr().out.splitlines()[-1]


def test_a_search_begins_from_a_cell_of_an_older_graft(grid):
    made, trials = grid
    trials([0.8], [0.0], schema=1)
    search.run(made, ROWS, 1)
    assert states(made.out) == ["complete"]


def test_a_search_in_which_everything_died(grid):
    made, trials = grid
    trials([None, None], [0, 0])
    with pytest.raises(ConfigError, match="no trial of the search could be trained"):
        search.run(made, ROWS, 2)


def test_a_search_needs_something_to_start_from(grid):
    made, _ = grid
    with pytest.raises(ConfigError, match="needs a finished cell other than scratch"):
        search.run(made, ROWS[1:], 1)


def test_a_search_beside_nothing_but_scratch_is_refused_before_anything_runs():
    with pytest.raises(ConfigError, match="give --schedules another one beside scratch"):
        search.require(planned(["scratch"]))


def test_rows_of_a_backbone_that_is_not_asked_for_any_more_start_no_search(grid, capsys):
    made, trials = grid
    trials([0.8], [0.0])
    other = {**ROWS[0], "cell": "vgg16-fine_tune-0", "backbone": "vgg16", "validation": 0.99}
    search.run(made, [other, *ROWS], 1)
    assert "settings for mobilenet_v2 + fine_tune" in capsys.readouterr().out


def test_without_optuna_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"graft-zoo\[search\]"):
        search.require(planned())
