"""`kill -9`, then --resume: the run ends as if nothing had happened. Twelve places are tried in
tests/slow.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from graft.recipes.commands import train
from graft.zoo.errors import ConfigError

ROOT = Path(__file__).parents[2]


def options(data, out, *more):
    return [
        "--data",
        str(data),
        "--out",
        str(out),
        "--epochs",
        "4",
        "--batch-size",
        "8",
        "--augment",
        "flip",
        "--views",
        "2",
        "--cache",
        "memory",
        *map(str, more),
    ]


def killed(place: str, count: int, data, out, *more) -> bool:
    """Whether the process was killed there (it may have finished before)."""
    command = [sys.executable, "-m", "tests.killed", place, str(count), *options(data, out, *more)]
    code = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode
    assert code in (0, -signal.SIGKILL)
    return code != 0


def assert_same_run(first: Path, second: Path) -> None:
    a, b = (keras.saving.load_model(folder / "model.keras") for folder in (first, second))
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    a, b = (json.loads((folder / "run.json").read_text()) for folder in (first, second))
    for name in ("metrics", "confusion", "test_accuracy_by_seed"):
        assert a[name] == b[name]
    assert (first / "history.csv").read_text().count("\n") == (
        second / "history.csv"
    ).read_text().count("\n")


@pytest.fixture(scope="module")
def uninterrupted(photo_folder, tiny_keras, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    own = ("--backbone", tiny_keras)
    train.command(["image-classification", *options(photo_folder, out, *own)])
    return out


def test_killed_in_a_cache_write_in_a_checkpoint_write_and_before_the_report(
    photo_folder, tiny_keras, uninterrupted, tmp_path
):
    out, own = tmp_path / "run", ("--backbone", tiny_keras)
    assert killed("cache", 3, photo_folder, out, *own), "before anything trained"
    assert not out.exists()
    assert killed("cache", 3, photo_folder, out, *own), "in the second view, after the first epoch"
    assert (tmp_path / ".run.part").exists(), "what was done is kept"
    own = (*own, "--resume")
    assert killed("checkpoint", 2, photo_folder, out, *own)
    assert killed("report", 1, photo_folder, out, *own)
    assert not out.exists(), "a run is there with its report, or is not there"
    train.command(["image-classification", *options(photo_folder, out, *own)])
    assert_same_run(out, uninterrupted)
    assert (out / "report.html").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".graft-cache", "run"]
    assert not [p for p in (tmp_path / ".graft-cache").iterdir() if p.name.startswith(".")]


def begun(data, out, *more) -> subprocess.Popen:
    """`graft train` in a process of its own that has written a checkpoint."""
    command = [
        sys.executable,
        "-m",
        "graft",
        "train",
        "image-classification",
        *options(data, out, *more),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell ignores it for what runs behind it
    )
    for line in process.stderr:
        if "epoch 3:" in line:
            return process
    raise AssertionError("it ended before its third epoch did")


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGTERM, 143, "ended by SIGTERM"), (signal.SIGINT, 130, "interrupted")],
)
def test_asked_to_end_it_says_in_one_line_what_is_kept(
    number, code, words, photo_folder, tiny_keras, tmp_path
):
    out, own = tmp_path / "run", ("--backbone", tiny_keras)
    process = begun(photo_folder, out, *own, "--epochs", 1_000_000)
    with pytest.raises(ConfigError, match=f"run' is being written by process {process.pid} "):
        train.command(["image-classification", *options(photo_folder, out, *own, "--resume")])
    process.send_signal(number)
    said = process.stderr.read()
    assert process.wait() == code
    last = (
        f"graft train: {words}: '{out}' is kept as of its last finished epoch: --resume goes on "
        "with it"
    )
    assert said.splitlines()[-1] == last
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [".graft-cache", ".run.part"]
