"""`kill -9`, then --resume: the run ends as if nothing had happened. Twelve places are tried in tests/slow."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from recipes.commands import train

ROOT = Path(__file__).parents[2]


def options(data, out, *more):
    return [
        "--data", str(data), "--out", str(out), "--backbone", "mobilenet_v2_0.35", "--weights", "bundled",
        "--image-size", "32", "--epochs", "4", "--batch-size", "8", "--augment", "flip", "--views", "2", "--cache", "memory",
        *more,
    ]  # fmt: skip


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
    assert (first / "history.csv").read_text().count("\n") == (second / "history.csv").read_text().count("\n")


@pytest.fixture(scope="module")
def uninterrupted(photo_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train.command(["image-classification", *options(photo_folder, out)])
    return out


def test_killed_in_a_cache_write_and_in_a_checkpoint_write(photo_folder, uninterrupted, tmp_path):
    out = tmp_path / "run"
    assert killed("cache", 3, photo_folder, out), "before anything trained"
    assert not out.exists()
    assert killed("cache", 3, photo_folder, out), "in the second view, after the first epoch"
    assert (tmp_path / ".run.part").exists(), "what was done is kept"
    assert killed("checkpoint", 2, photo_folder, out, "--resume")
    train.command(["image-classification", *options(photo_folder, out, "--resume")])
    assert_same_run(out, uninterrupted)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".graft-cache", "run"]
    assert not [p for p in (tmp_path / ".graft-cache").iterdir() if p.name.startswith(".")]
