"""Twelve kills of one run, each time resumed: in steps, cache writes, checkpoint writes, and before
the results.
"""

import numpy as np
import pytest

from graft.recipes.commands import train
from tests.integration.test_kill_and_resume import assert_same_run, killed, options

pytestmark = pytest.mark.slow


def test_twelve_kills(photo_folder, tmp_path):
    straight = tmp_path / "a" / "run"
    bundled = ("--backbone", "mobilenet_v2_0.35", "--weights", "bundled", "--image-size", "32")
    more = (*bundled, "--seeds", "2", "--epochs", "6", "--compare-scratch")
    train.command(["image-classification", *options(photo_folder, straight, *more)])
    out = tmp_path / "b" / "run"
    rng = np.random.default_rng(0)
    for place in ("cache", *("checkpoint", "step") * 5, "results"):
        count = 1 if place == "results" else int(rng.integers(1, 4))
        begun = out.with_name(".run.part").exists()
        assert killed(place, count, photo_folder, out, *more, *(["--resume"] if begun else [])), (
            place,
            count,
        )
        assert not out.exists()
    train.command(["image-classification", *options(photo_folder, out, *more, "--resume")])
    assert_same_run(out, straight)
