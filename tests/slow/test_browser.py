"""The report opens in a browser without a network and shows everything."""

import subprocess

import numpy as np
import pytest

from graft.recipes.image_classification import Config, main
from graft.recipes.train.settings import FitSettings
from tests.slow.conftest import CHROMIUM, FLAGS

pytestmark = pytest.mark.slow


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_in_a_browser(photo_folder, tmp_path):
    from PIL import Image

    run = main(
        Config(
            data=str(photo_folder),
            out=tmp_path / "run",
            backbone="mobilenet_v2_0.35",
            weights="bundled",
            image_size=32,
            epochs=2,
            fit=FitSettings(batch_size=8),
        )
    )

    def browser(*flags):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        page = (run / "report.html").as_uri()
        return subprocess.run(
            [CHROMIUM, *FLAGS, profile, *flags, page], capture_output=True, text=True, timeout=120
        )

    text = browser("--dump-dom").stdout
    for part in ("Image classification", "Confusion", "Schedule", "top half"):
        assert part in text
    for width in (390, 1280):
        shot = tmp_path / f"{width}.png"
        browser(f"--screenshot={shot}", f"--window-size={width},2000", "--enable-logging=stderr")
        pixels = np.asarray(Image.open(shot).convert("L"))
        assert pixels.shape[1] == width
        assert pixels.std() > 10, "something is drawn"
