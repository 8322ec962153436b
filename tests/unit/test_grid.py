"""The grid without trainings: what runs, what is kept of it, and what is said of it."""

import json
import os
import signal
import socket
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.recipes.grid import analysis, jobs, plan, report, rows, suggest
from graft.recipes.grid.entries import Entry, read_entries, weights_of
from graft.recipes.grid.grid import Grid, _row_to_export, typed
from graft.recipes.grid.grid import run as run_grid
from graft.recipes.grid.ledger import Ledger, read_rows
from graft.zoo.backbones import table as backbone_table
from graft.zoo.errors import ArtifactError, ConfigError, UnknownName, WeightsError

BACKBONES = ["mobilenet_v2_0.35@bundled"]


def row(backbone="a", schedule="fine_tune", seed=0, validation=0.8, test=None, **others):
    test = validation if test is None else test
    return {
        "cell": f"{backbone}-{schedule}-{seed}-{others.get('fraction', 1.0)}",
        "backbone": backbone,
        "weights": None,
        "schedule": schedule,
        "fraction": 1.0,
        "seed": seed,
        "status": "done",
        "cause": None,
        "measure": "accuracy",
        "validation": validation,
        "test": test,
        "train_seconds": 60.0,
        "machine": "m",
        "versions": "v",
        "cached_seconds": 0.0,
        "curve": f"10.00:{validation / 2:.4f} 60.00:{validation}",
        "peak_memory_bytes": 10**9,
        "parameters": 10**6,
        **others,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Plan


def planned(**changes):
    settings = {
        "data": "digits",
        "backbones": read_entries(BACKBONES),
        "schedules": ["fine_tune"],
        "seeds": range(2),
    }
    settings |= {"fractions": [1.0], "options": []} | changes
    return plan.plan(**settings)


def test_the_baseline_is_always_there_and_every_seed_sees_everything_first():
    grid = planned(fractions=[0.1, 1.0])
    assert [(c.seed, c.fraction, c.schedule) for c in grid.cells[:4]] == [
        (0, 1.0, "fine_tune"),
        (0, 1.0, "scratch"),
        (0, 0.1, "fine_tune"),
        (0, 0.1, "scratch"),
    ]
    assert len(grid.cells) == 8
    assert len({cell.name for cell in grid.cells}) == 8


def test_a_cell_is_a_command_that_a_user_could_type(tmp_path):
    grid = planned(options=["--epochs", "3"])
    words = " ".join(grid.arguments(grid.cells[0], tmp_path))
    assert words.startswith(
        "train image-classification --data digits --backbone mobilenet_v2_0.35 --weights bundled"
    )
    assert "--schedule fine_tune --seed 0 --epochs 3" in words
    assert "--weights" not in grid.arguments(grid.cells[1], tmp_path)  # scratch
    plan.check(grid)


def test_training_from_scratch_keeps_its_own_rate(tmp_path):
    grid = planned(options=["--learning-rate=1e-4", "--epochs", "3", "--blocks", "2"])
    transfer, scratch = (" ".join(grid.arguments(cell, tmp_path)) for cell in grid.cells[:2])
    assert "--learning-rate 1e-4 --epochs 3 --blocks 2" in transfer
    assert "--epochs 3 --out" in scratch
    assert "--learning-rate" not in scratch
    assert "--blocks" not in scratch
    plan.check(grid)


def test_all_labels_are_always_there():
    assert {cell.fraction for cell in planned(fractions=[0.1]).cells} == {0.1, 1.0}
    assert {cell.fraction for cell in planned(fractions=[]).cells} == {1.0}


def test_models_of_two_runs_have_two_names(tmp_path):
    names = [str(tmp_path / run / "model.keras") for run in ("first", "second")]
    assert [Entry(name).name for name in names] == ["first", "second"]
    assert Entry("mine.keras").name == "mine"
    assert Entry("mobilenet_v2_0.35").name == "mobilenet_v2_0.35"


def test_weights_are_known_by_what_is_in_them(tmp_path):
    path = tmp_path / "w.weights.h5"
    found = []
    for content in (b"a", b"b"):
        path.write_bytes(content)
        grid = planned(
            backbones=[
                Entry("mobilenet_v2", str(path)),
                Entry("mobilenet_v2_0.35", "bundled"),
            ]
        )
        found.append(weights_of(grid.entries))
    assert found[0]["mobilenet_v2"] != found[1]["mobilenet_v2"]
    assert found[0]["mobilenet_v2_0.35"] == found[1]["mobilenet_v2_0.35"] == "bundled"


def test_an_encoder_in_a_folder_is_known_by_its_files(tmp_path):
    found, entry = [], Entry(str(tmp_path), None)
    for content in ("a", "b", "a"):
        (tmp_path / "model.weights.h5").write_text(content)
        found.append(weights_of([entry])[entry.name])
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"options": ["--epochs", "3", "--seed=5"]}, ConfigError, "--seed stands behind --"),
        ({"fractions": [0.0]}, ConfigError, "--label-fractions are shares"),
        ({"seeds": range(0)}, ConfigError, "number of seeds"),
        (
            {"backbones": read_entries(["mobilenet_v2", "graft_mini_en"])},
            ConfigError,
            "mixes some for images",
        ),
    ],
)
def test_a_grid_that_cannot_be(changes, error, words):
    with pytest.raises(error, match=words):
        planned(**changes)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], ConfigError, "names none"),
        (["mobilnet_v2"], UnknownName, "Did you mean 'mobilenet_v2'"),
        (["graft_mini_eng"], UnknownName, "Did you mean 'graft_mini_en'"),
        (["mobilenet_v2@none", "mobilenet_v2@imagenet"], ConfigError, "stands twice"),
    ],
)
def test_backbones_that_cannot_be(names, error, words):
    with pytest.raises(error, match=words):
        read_entries(names)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"schedules": ["fine_tone"]}, UnknownName, "Did you mean 'fine_tune'"),
        ({"options": ["--epochs", "1"]}, ConfigError, "cannot be spread"),
        ({"options": ["--budget", "soon"]}, ConfigError, "--budget is a time above 0"),
        (
            {"options": ["--budget", "3m", "--epochs", "5"]},
            ConfigError,
            "both say how long to train",
        ),
        (
            {"options": ["--per-class", "10"], "fractions": [0.1]},
            ConfigError,
            "both say how many labels are used",
        ),
        (
            {"backbones": read_entries(["mobilenet_v2@nowhere.h5"])},
            WeightsError,
            "no weights file 'nowhere.h5'",
        ),
    ],
)
def test_what_no_cell_could_run_with_is_refused_before_anything_runs(changes, error, words):
    with pytest.raises(error, match=words):
        plan.check(planned(**changes))


def test_no_folder_of_this_machine_stands_in_a_report():
    words = [
        "--data",
        "/home/me/photos",
        "--backbones",
        "mobilenet_v2@/home/me/w.h5",
        "--seeds",
        "3",
    ]
    assert typed(words) == "graft bench --data photos --backbones mobilenet_v2@w.h5 --seeds 3"


# ---------------------------------------------------------------------------------------------------------------------
# Jobs


def job(tmp_path, code: str, name: str = "job"):
    return jobs.Job(name, (sys.executable, "-c", code), tmp_path / f"{name}.log")


def test_a_job_that_ends_well_tells_its_memory_and_its_time(tmp_path):
    outcome = jobs.run(job(tmp_path, "x = bytearray(300_000_000); import time; time.sleep(0.5)"))
    assert (outcome.code, outcome.cause) == (0, "")
    assert 3e8 < outcome.peak_memory_bytes < 6e8
    assert outcome.seconds > 0


def test_a_job_that_is_killed_for_memory_is_an_outcome_with_its_cause(tmp_path):
    outcome = jobs.run(job(tmp_path, f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"))
    assert outcome.code == -9
    assert "killed by SIGKILL" in outcome.cause
    assert "--workers" in outcome.cause


def test_a_job_that_fails_says_its_last_word(tmp_path):
    said = (
        "print('noise'); print('graft train: the disk is full'); print('more noise'); raise "
        "SystemExit(2)"
    )
    assert jobs.run(job(tmp_path, said)).cause == "exit code 2: the disk is full"
    assert jobs.run(job(tmp_path, "raise SystemExit(3)")).cause == "exit code 3: it said nothing"


@pytest.mark.parametrize("workers", [1, 3])
def test_all_jobs_run_whatever_becomes_of_one(tmp_path, workers):
    several = [job(tmp_path, f"raise SystemExit({n} == 1)", f"job{n}") for n in range(5)]
    found = {j.name: outcome.code for j, outcome in jobs.run_all(several, workers)}
    assert found == {f"job{n}": int(n == 1) for n in range(5)}


def test_who_stops_waiting_leaves_no_job_behind(tmp_path):
    long = (
        "import os, pathlib, time; "
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    waiting = jobs.run_all(
        [job(tmp_path, "import time; time.sleep(1)", "short"), job(tmp_path, long, "long")], 2
    )
    assert next(waiting)[0].name == "short"
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    waiting.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_job_that_does_not_listen_is_ended_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.2)
    ready = tmp_path / "ready"
    deaf = job(
        tmp_path,
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)",
    )
    assert jobs.run(deaf, stopped=ready.exists).code == -signal.SIGKILL
    ready.unlink()

    def interrupted():
        if ready.exists():
            raise KeyboardInterrupt
        return False

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        jobs.run(deaf, stopped=interrupted)
    assert time.monotonic() - begun < 20


def test_workers_share_the_cores(tmp_path):
    said = job(tmp_path, "import os; print(os.environ['TF_NUM_INTRAOP_THREADS'])")
    list(jobs.run_all([said, said], 2))
    assert said.log.read_text().strip() == str(max(1, os.cpu_count() // 2))


def test_a_dead_ray_address_is_said_at_once(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at '{address}'"):
        list(jobs.run_all([job(tmp_path, "pass")], ray=address))


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"graft-zoo\[ray\]"):
        list(jobs.run_all([job(tmp_path, "pass")], ray="auto"))


# ---------------------------------------------------------------------------------------------------------------------
# Ledger


def test_a_table_is_read_as_it_was_written(tmp_path):
    ledger = Ledger(tmp_path / "grid", {"data": "digits"})
    files = {
        "files_of": "a",
        "formats": "tflite onnx",
        "precisions": "int8 float16",
        "tflite_int8_bytes": None,
    }
    first, second = (
        row(**files),
        row(seed=1, status="failed", cause="killed, by a comma", tflite_int8_bytes=10),
    )
    ledger.put(first)
    ledger.put(second)
    again = Ledger(tmp_path / "grid", {"data": "digits"})
    assert again.finished(first["cell"])
    assert not again.finished(second["cell"])
    assert not again.finished("other")
    empty = dict.fromkeys(("files_of", "formats", "precisions"))
    assert list(again.rows.values()) == [first, second | empty]


def test_the_results_of_another_grid_are_refused(tmp_path):
    Ledger(tmp_path / "grid", {"data": "digits", "options": []}).put(row())
    with pytest.raises(
        ConfigError, match=r"another grid: options \(\[\] then, \['--epochs', '3'\] now\)"
    ):
        Ledger(tmp_path / "grid", {"data": "digits", "options": ["--epochs", "3"]})
    assert Ledger(tmp_path / "grid", {"data": "letters"}, overwrite=True).rows == {}


def test_weights_that_both_grids_have_must_be_the_same(tmp_path):
    Ledger(tmp_path / "grid", {"weights": {"a": "1", "b": "2"}}).put(row())
    assert len(Ledger(tmp_path / "grid", {"weights": {"b": "2", "c": "3"}}).rows) == 1
    with pytest.raises(ConfigError, match="another grid: weights of a;"):
        Ledger(tmp_path / "grid", {"weights": {"a": "0"}})


def test_a_grid_that_begins_anew_forgets_its_rows_at_once(tmp_path):
    Ledger(tmp_path / "grid", {"data": "digits"}).put(row())
    Ledger(
        tmp_path / "grid", {"data": "letters"}, overwrite=True
    )  # and is killed in its first cell
    assert Ledger(tmp_path / "grid", {"data": "letters"}).rows == {}


def test_a_cell_that_died_and_is_not_asked_for_any_more_is_forgotten(tmp_path):
    ledger = Ledger(tmp_path / "grid", {})
    dead, asked = (row(b, status="failed", cause="killed") for b in "bc")
    ledger.put(row("a"), dead, asked)
    ledger.forget_dead([asked["cell"]])
    assert [r["backbone"] for r in ledger.rows.values()] == ["a", "c"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no grid"):
        Ledger(tmp_path, {}, overwrite)
    with pytest.raises(ConfigError, match="is a file"):
        Ledger(tmp_path / "thesis.txt", {}, overwrite)


def test_a_broken_table_is_named(tmp_path):
    (tmp_path / "bench.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ArtifactError, match="no table of `graft bench`"):
        read_rows(tmp_path / "bench.csv")


# ---------------------------------------------------------------------------------------------------------------------
# Analysis


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0, 1)), min_size=1, max_size=12))
def test_nothing_on_the_front_is_beaten_and_everything_else_is(pairs):
    found = analysis.groups(
        [row(str(i), validation=v, train_seconds=s) for i, (s, v) in enumerate(pairs)]
    )
    front = analysis.front(found, lambda g: g.seconds)
    for group in found:
        beaten = any(
            other.seconds <= group.seconds
            and other.validation.mean >= group.validation.mean
            and (other.seconds, other.validation.mean) != (group.seconds, group.validation.mean)
            for other in found
        )
        assert not (beaten and group in front)
        assert beaten or any(
            (g.seconds, g.validation.mean) == (group.seconds, group.validation.mean) for g in front
        )


def test_features_that_another_training_computed_cost_what_they_cost():
    (group,) = analysis.groups([row(train_seconds=20.0, cached_seconds=40.0)])
    assert group.seconds == 60


def test_a_second_more_of_the_same_budget_is_not_beaten():
    found = analysis.groups(
        [
            row("a", validation=0.9, train_seconds=181.0),
            row("b", validation=0.8, train_seconds=180.0),
        ]
    )
    assert [g.backbone for g in analysis.front(found, lambda g: g.time)] == ["a"]


def test_what_saves_two_things_is_said_once():
    small = {"tflite_int8_ms": 1.0, "tflite_int8_bytes": 1e6}
    made = [
        row("large", validation=0.9, tflite_int8_ms=9.0, tflite_int8_bytes=9e6),
        row("small", validation=0.88, **small),
    ]
    said = analysis.sentences(analysis.groups(made), "tflite_int8_ms", "tflite_int8_bytes")
    assert len(said) == 2
    assert said[1].endswith("the best at 1/9.0 of its latency and 1/9.0 of its size")


def test_intervals_are_students():
    found = analysis.interval([0.1, 0.2, 0.3])
    assert found.mean == pytest.approx(0.2)
    assert found.half == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    assert analysis.interval([0.5]).half is None


def grid_of(transfer, scratch, fraction=1.0):
    return [row(validation=v, seed=i, fraction=fraction) for i, v in enumerate(transfer)] + [
        row(schedule="scratch", validation=v, seed=i, fraction=fraction)
        for i, v in enumerate(scratch)
    ]


@pytest.mark.parametrize(
    ("transfer", "scratch", "words"),
    [
        (
            (0.80, 0.81, 0.82),
            (0.60, 0.61, 0.63),
            "transfer (fine_tune) gained +19.7 points (95 % interval",
        ),
        ((0.60, 0.61, 0.63), (0.80, 0.81, 0.82), "NEGATIVE transfer"),
        ((0.80, 0.70, 0.75), (0.75, 0.76, 0.74), "cannot be told apart"),
        ((0.80,), (0.70,), "cannot be told from one seed"),
        ((0.80, 0.80), (0.70, 0.70), "the same in all 2 seeds"),
    ],
)
def test_a_verdict_needs_more_than_chance(transfer, scratch, words):
    (gain,) = analysis.gains(analysis.groups(grid_of(transfer, scratch)))
    assert words in gain.text


def test_test_examples_are_paired_where_the_rows_hold_them(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for schedule, share in (("fine_tune", 0.9), ("scratch", 0.7)):
        for seed in range(3):
            right = (rng.random((1, 300)) < share).astype(np.float32)
            np.savez(tmp_path / "units.npz", units=right)
            text = rows.packed(tmp_path / "units.npz")
            assert np.array_equal(rows.units_of({"test_units": text}), right[0])
            validation = float(right.mean())
            made.append(
                row(
                    schedule=schedule,
                    seed=seed,
                    validation=validation,
                    test=validation,
                    test_units=text,
                )
            )
    (gain,) = analysis.gains(analysis.groups(made))
    assert gain.made.examples == 300
    assert "300 test examples" in gain.text
    (without,) = analysis.gains(analysis.groups([each | {"test_units": None} for each in made]))
    assert without.made.examples is None
    assert "other test examples may differ" in without.text


def test_scores_that_are_no_shares_are_kept_as_they_are(tmp_path):
    units = np.float32([[0.25, -3.5, 200.0]])
    np.savez(tmp_path / "units.npz", units=units)
    assert np.array_equal(
        rows.units_of({"test_units": rows.packed(tmp_path / "units.npz")}), units[0]
    )
    assert rows.packed(tmp_path / "none.npz") is None


def test_a_cell_of_the_table_can_be_read_again(tmp_path):
    """Python's csv refuses cells of more than 131,072 characters: what is longer is left out."""
    units = np.random.default_rng(0).normal(size=(1, 40_000)).astype(np.float32)
    np.savez(tmp_path / "units.npz", units=units)
    text = rows.packed(tmp_path / "units.npz")
    assert text is None
    Ledger(tmp_path / "grid", {}).put(row(test_units=text))
    assert len(Ledger(tmp_path / "grid", {}).rows) == 1
    assert rows.units_of({}) is None


def test_seeds_are_compared_with_themselves_only():
    """The third seed of transfer has no partner."""
    (gain,) = analysis.gains(analysis.groups(grid_of((0.8, 0.9, 0.1), (0.7, 0.8))))
    assert gain.made.seeds == 2
    assert gain.made.mean == pytest.approx(10)


def test_agreement_of_scores_with_what_was_reached():
    reached = {"a": 0.1, "b": 0.5, "c": 0.9, "d": 0.7}
    assert analysis.correlation({"a": 1.0, "b": 2.0, "c": 4.0, "d": 3.0}, reached)[
        "kendall"
    ] == pytest.approx(1)
    assert analysis.correlation({"a": 1.0, "b": None, "c": 2.0}, reached) is None
    assert analysis.correlation({"a": 1.0, "b": 1.0, "c": 1.0}, reached) is None


def test_sentences_name_the_best_and_what_is_nearly_as_good_at_much_less():
    made = [
        row(
            "large",
            validation=0.90,
            train_seconds=900,
            tflite_int8_ms=9.0,
            tflite_int8_bytes=3_000_000,
        )
    ]
    made += [
        row(
            "small",
            validation=0.88,
            train_seconds=100,
            tflite_int8_ms=8.0,
            tflite_int8_bytes=2_600_000,
        )
    ]
    made += [
        row("bad", validation=0.30, train_seconds=10, tflite_int8_ms=1.0, tflite_int8_bytes=100_000)
    ]
    said = analysis.sentences(analysis.groups(made), "tflite_int8_ms", "tflite_int8_bytes")
    assert said == [
        "large + fine_tune: 90.0 % (one seed) in 15.0 min, 9.0 ms, 3.0 MB int8; the best of 3 on "
        "validation data",
        "small + fine_tune: 88.0 % (one seed) in 1.7 min, 8.0 ms, 2.6 MB int8; "
        "2.0 points below the best at 1/9.0 of its time",
    ]


def test_what_was_reached_by_when():
    points = rows.curve_of({"curve": "10.00:0.5 20.00:0.4 30.00:0.7"})
    assert [rows.best_until(points, t) for t in (5, 10, 25, 31)] == [None, 0.5, 0.5, 0.7]


def test_the_report_holds_everything_and_loads_nothing(tmp_path):
    made = grid_of((0.8, 0.82, 0.81), (0.6, 0.61, 0.6)) + grid_of(
        (0.5, 0.52, 0.51), (0.2, 0.21, 0.2), 0.1
    )
    made.append(row("<b>", schedule="full", status="failed", cause="killed by SIGKILL"))
    scores = [{"backbone": "a", "log_me": 0.1, "h_score": 2.0, "knn_accuracy": 0.5, "leep": None}]
    report.write(tmp_path, {"data": "photos", "command": "graft bench --data photos"}, made, scores)
    page, text = (tmp_path / "bench.html").read_text(), (tmp_path / "bench.md").read_text()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in page.replace("https://", "").split("<style>")[0]
    assert "<script" not in page
    assert "&lt;b&gt;" in page
    assert "<b>-full" not in page
    for part in (
        "81.0 (80.0 to 82.0)",
        "gained +20.7 points",
        "killed by SIGKILL",
        "graft bench --data photos",
        "10 %",
    ):
        assert part in page
        assert part in text


@pytest.mark.parametrize("value", [0.8, 0.0])
def test_seeds_that_reach_the_same_can_be_drawn(tmp_path, value):
    report.write(tmp_path, {"data": "photos", "command": ""}, grid_of((value,) * 3, (value,) * 3))
    assert (tmp_path / "bench.png").exists()


def test_the_file_that_stands_for_all_is_one_that_all_have(tmp_path):
    files = {"tflite_float32_bytes": 9e6, "tflite_float32_ms": 2.0}
    made = [row("a", tflite_int8_bytes=2e6, tflite_int8_ms=1.0, **files), row("b", **files)]
    assert report.shipped(made) == ("tflite_float32_ms", "tflite_float32_bytes")
    report.write(tmp_path, {"data": "photos", "command": ""}, [*made, row("c")])
    lines = [
        line for line in (tmp_path / "bench.md").read_text().splitlines() if line.startswith("|")
    ]
    assert len({line.count("|") for line in lines}) == 1
    assert "tflite float32: ms" in lines[0]


def test_a_grid_in_which_everything_died_still_has_a_report(tmp_path):
    report.write(
        tmp_path, {"data": "photos", "command": ""}, [row(status="failed", cause="killed")]
    )
    assert "killed" in (tmp_path / "bench.html").read_text()


def test_a_cell_whose_run_cannot_be_seen_is_a_row_that_says_so(tmp_path):
    outcome = jobs.Outcome(0, "", 1.0, 10**9, "node")
    made = rows.of_cell(planned().cells[0], outcome, tmp_path / "cells" / "a", None)
    assert made["status"] == "failed"
    assert "have to share that folder" in made["cause"]


WARNINGS = [
    "texts of 2 labels look alike",
    "the training diverged in phase 'all': its loss ended at nan",
]
VALIDATION, TEST = {"accuracy": 0.75, "loss": 0.6}, {"accuracy": 0.7, "loss": 0.7}
UNKNOWN = {"accuracy": None, "loss": None}


def measured(validation, test):
    """The metrics of a run.json of one task."""
    splits = {"validation": validation, "test": test}
    return {name: {**part, "tasks": {"probabilities": part}} for name, part in splits.items()}


DIVERGED_RUN = {
    "schema": 2,
    "modality": "image",
    "diverged": True,
    "warnings": WARNINGS,
    "tasks": {"probabilities": {"figure": {"name": "accuracy", "key": "accuracy"}}},
    "metrics": measured(VALIDATION, TEST),
    "schedule": {
        "phases": [
            {
                "name": "all",
                "seconds": 2.0,
                "epochs_run": 2,
                "cached_seconds": 0.0,
                "images_per_second": 9.0,
                "glances": [],
                "trainable_parameters": 5,
            }
        ]
    },
    "data": {"labels": ["a", "b"], "splits": {"train": {"examples": 9}, "test": {"examples": 10}}},
    "seconds": {"train": 2.0},
    "backbone": {"parameters": 5},
    "versions": {"keras": "3"},
}
OF_SCHEMA_1 = {
    **{name: part for name, part in DIVERGED_RUN.items() if name not in ("modality", "tasks")},
    "schema": 1,
    "metrics": {"validation": VALIDATION, "test": TEST},
}
"""The same, of a grid that an older Graft began."""
HISTORY = "phase,elapsed,loss,val_accuracy\nall,1.0,0.6,0.75\nall,2.0,nan,\n"
TRAINING = """
import sys
from pathlib import Path

out = Path(sys.argv[1])
with (out.parent.parent / "calls.txt").open("a") as file:
    file.write(out.name + "\\n")
out.mkdir(exist_ok=True)
(out / "run.json").write_text(sys.argv[2])
(out / "history.csv").write_text(sys.argv[3])
print("report: report.html")
sys.exit(1)
"""


def diverging(tmp_path, monkeypatch, content):
    """A grid whose trainings are whole runs of `content` that end with exit code 1."""
    arguments = [json.dumps(content), HISTORY]
    monkeypatch.setattr(
        plan, "command", lambda p, cell, out: [sys.executable, "-c", TRAINING, str(out), *arguments]
    )
    monkeypatch.setattr("graft.recipes.grid.grid._suggest", lambda made: [])
    return Grid(planned(seeds=[0]), tmp_path / "bench", None, None, 1, None, "graft bench")


@pytest.mark.parametrize("content", [DIVERGED_RUN, OF_SCHEMA_1])
def test_a_cell_that_diverged_keeps_its_figures_and_is_not_run_again(
    content, tmp_path, monkeypatch, capsys
):
    made = diverging(tmp_path, monkeypatch, content)
    found = run_grid(made, "data")
    assert [r["status"] for r in found] == ["diverged", "diverged"]
    assert {(r["cause"], r["validation"], r["test"], r["curve"]) for r in found} == {
        (WARNINGS[1], 0.75, 0.7, "1.00:0.750000")
    }
    assert f"{found[0]['cell']}: {WARNINGS[1]}" in " ".join(capsys.readouterr().err.split())
    assert run_grid(made, "data") == read_rows(tmp_path / "bench" / "bench.csv")  # nothing to go
    assert len((tmp_path / "bench" / "calls.txt").read_text().split()) == 2
    for name in ("bench.html", "bench.md"):
        text = (tmp_path / "bench" / name).read_text()
        assert "Trainings that diverged" in text
        assert "its loss ended at nan" in text
        assert "1 (1 diverged)" in text
        assert "Trainings that died" not in text


def test_a_row_of_before_that_died_of_its_divergence_is_healed(tmp_path, monkeypatch):
    made = diverging(tmp_path, monkeypatch, DIVERGED_RUN)
    before = run_grid(made, "data")
    for died in before:
        died |= {
            "status": "failed",
            "cause": "exit code 1: report: report.html",
            "validation": None,
            "test": None,
        }
    common = json.loads((tmp_path / "bench" / "grid.json").read_text())
    Ledger(tmp_path / "bench", common).put(*before)
    assert [(r["status"], r["validation"]) for r in run_grid(made, "data")] == [
        ("diverged", 0.75)
    ] * 2


@pytest.mark.parametrize(
    "content",
    [
        {**DIVERGED_RUN, "diverged": False},  # whole, but something else was wrong
        {**DIVERGED_RUN, "metrics": measured(UNKNOWN, UNKNOWN)},
    ],
)
def test_where_nothing_has_figures_there_is_no_grid(tmp_path, monkeypatch, content):
    with pytest.raises(ConfigError, match="no cell of the grid could be trained"):
        run_grid(diverging(tmp_path, monkeypatch, content), "data")


def test_what_a_diverged_training_reached_is_compared_and_said():
    made = grid_of((0.80, 0.81, 0.82), (0.60, 0.61, 0.63))
    made[0] |= {"status": "diverged", "cause": "the training diverged"}
    made[4] |= {"status": "diverged", "cause": "the training diverged", "validation": float("nan")}
    found = analysis.groups(made)
    assert [(group.test.count, group.diverged) for group in found] == [(3, 1), (2, 0)]
    assert "3 seeds, 1 diverged" in analysis.sentences(found, None, None)[0]
    (gain,) = analysis.gains(found)
    assert gain.made.seeds == 2
    assert gain.text.endswith("; 1 of the 4 trainings diverged")


@pytest.mark.parametrize(
    ("diverged", "chosen"),
    [
        ((), ("fine_tune", 0.82)),
        ((2,), ("fine_tune", 0.81)),
        ((0, 1, 2), ("scratch", 0.63)),
        (range(6), ("fine_tune", 0.82)),
    ],
)
def test_what_is_exported_of_a_backbone_did_not_diverge_if_anything_did_not(diverged, chosen):
    made = grid_of((0.80, 0.81, 0.82), (0.60, 0.61, 0.63))
    for i in diverged:
        made[i]["status"] = "diverged"
    row = _row_to_export(analysis.groups(made))
    assert (row["schedule"], row["validation"]) == chosen


def test_rows_of_files(tmp_path):
    manifest = {
        "files": [
            {
                "format": "tflite",
                "precision": "int8",
                "passed": True,
                "size_bytes": 5,
                "accuracy": {"drop_points": 0.3},
                "latency_ms": {"one_thread": {"median": 2.0}},
            },
            {
                "format": "onnx",
                "precision": "int8",
                "passed": False,
                "size_bytes": 5,
                "accuracy": {"drop_points": 9.0},
            },
            {"format": "onnx", "requested": "dynamic", "skipped": "not for pictures"},
        ]
    }
    expected = {"tflite_int8_bytes": 5, "tflite_int8_ms": 2.0, "tflite_int8_drop_points": 0.3}
    expected["files_missing"] = "onnx_int8=fail=int8 onnx_dynamic=skipped=dynamic"
    assert rows.file_columns(json.loads(json.dumps(manifest))) == expected


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (
            {"status": "undecided"},
            "it was made, and the validation examples cannot tell whether it lost too much",
        ),
        ({"status": "fail"}, "it was made, and did not pass"),
        ({"precision": "dynamic", "status": "pass"}, "model.dynamic.tflite took its place"),
        (
            {"precision": "dynamic", "status": "undecided"},
            "model.dynamic.tflite took its place, and the validation examples cannot tell whether "
            "it lost too much",
        ),
        (
            {"precision": "dynamic", "status": "fail"},
            "model.dynamic.tflite took its place, and did not pass",
        ),
        ({"status": "fail", "accuracy": None, "error": "no converter"}, "it could not be made"),
        (
            {"status": "skipped", "accuracy": None, "skipped": "no such layers"},
            "there is none of such a model",
        ),
        (None, "the table holds none that passed"),
    ],
)
def test_where_a_backbone_has_no_such_file_the_report_says_why(tmp_path, facts, why):
    whole = {
        "format": "tflite",
        "precision": "int8",
        "requested": "int8",
        "size_bytes": 5,
        "status": "pass",
        "passed": True,
        "accuracy": {"drop_points": 0.3},
    }
    file = {name: value for name, value in {**whole, **(facts or {})}.items() if value is not None}
    lacking = {} if facts is None else rows.file_columns({"files": [file]})
    ledger = Ledger(tmp_path / "grid", {})
    # Two backbones have the file, so that it is the one which stands for all.
    ledger.put(
        *(row(name, **rows.file_columns({"files": [whole]})) for name in "ab"), row("c", **lacking)
    )
    report.write(
        tmp_path, {"data": "photos", "command": ""}, read_rows(tmp_path / "grid" / "bench.csv")
    )
    assert f"\n- c: {why}\n" in (tmp_path / "bench.md").read_text()
    assert f"<li><b>c</b>: {why}</li>" in (tmp_path / "bench.html").read_text()
    assert "<li><b>a</b>" not in (tmp_path / "bench.html").read_text()


def test_where_all_backbones_have_the_file_nothing_is_said_to_be_missing(tmp_path):
    report.write(
        tmp_path, {"data": "photos", "command": ""}, [row(tflite_int8_bytes=5, tflite_int8_ms=1.0)]
    )
    assert (
        "Without figures"
        not in (tmp_path / "bench.html").read_text() + (tmp_path / "bench.md").read_text()
    )


def test_without_backbones_those_are_suggested_whose_weights_are_here(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "models").mkdir()
    # Not by its name alone: that would mean ImageNet's weights, and download them.
    assert suggest.on_this_machine() == ["mobilenet_v2_0.35@bundled"]
    kept = backbone_table.find_backbone("mobilenet_v2_0.35").download.file.format(size=160)
    (tmp_path / "models" / kept).touch()
    assert suggest.on_this_machine(160) == ["mobilenet_v2_0.35"]
    assert suggest.on_this_machine(224) == ["mobilenet_v2_0.35@bundled"]
