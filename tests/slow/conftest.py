"""What several slow tests share: a browser, a model of photos, memory that is given back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def forget_the_last_model():
    """A model of each family would fill the memory."""
    import keras

    yield
    keras.backend.clear_session()


@pytest.fixture(scope="session")
def train_clothes(graft, graft_data, clothing) -> Callable[..., None]:
    """Trains the head of MobileNetV2 on photos of clothes at 160 px, into a run."""

    def train(run: Path, epochs: int, *options: str) -> None:
        named = {
            "--data": clothing,
            "--out": run,
            "--weights": graft_data / "mobilenet_v2_1.0_224" / "mobilenet_v2_1.0_224.weights.h5",
            "--image-size": 160,
            "--schedule": "feature_extraction",
            "--epochs": epochs,
        }
        given = [str(part) for option in named.items() for part in option]
        done = graft("train", "image-classification", *given, *options, "--augment")
        assert done.returncode == 0, done.stderr

    return train
