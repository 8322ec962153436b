"""Fixtures that several rooms share. TensorFlow loads once in each worker of pytest-xdist."""

import gc
import io
import os
import shutil
import subprocess
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tiny models gain nothing from threads, and the workers of pytest-xdist share the cores.
for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
settings.register_profile("graft", deadline=None)  # a machine may be busy with something else
settings.load_profile("graft")
warnings.filterwarnings("ignore", message="In the future `np.object` will be defined")


def pytest_collection_finish() -> None:
    """What TensorFlow loads stays: the garbage collector need not look through it while tests run,
    which took a tenth of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def graft_data() -> Path:
    """The folder of real weights and data, from GRAFT_DATA; a test that needs it skips without
    (fails where GRAFT_REQUIRE_DATA is set).
    """
    folder = os.environ.get("GRAFT_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    message = "GRAFT_DATA names no folder of real weights and data"
    if os.environ.get("GRAFT_REQUIRE_DATA"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`made_once(name, make)` gives the folder `name`, the same one in every worker; the first one
    that asks fills it, with `make(folder)`, while the others wait. A test that changes something
    works on a copy.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made-once"
    root.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker in which it failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def clothing(graft_data, made_once) -> Path:
    """clothing_small, unpacked: train/validation/test folders of ten classes."""
    zipped = graft_data / "clothing_small" / "clothing_small_160.zip"
    return made_once("clothing", lambda folder: zipfile.ZipFile(zipped).extractall(folder))


@pytest.fixture(scope="session")
def tiny_model():
    """(flat functional backbone, stacked model) of a stem and two residual blocks, weights fixed by
    seed.
    """
    import keras

    from graft.zoo.graph.stack import stack
    from graft.zoo.heads.heads import single_label

    keras.utils.set_random_seed(0)
    backbone = tiny_backbone()
    return backbone, stack(backbone, [single_label(["ant", "bee", "cat"])])


def tiny_backbone(size: int = 16, width: int = 8, blocks: int = 4):
    """A residual network with BatchNormalization and dropout inside, a few thousand weights, pixels
    0 to 255 in.
    """
    import keras
    from keras import layers

    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="preprocessing")(inputs)
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    for i in range(blocks):
        y = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"block{i}_conv")(x)
        y = layers.BatchNormalization(name=f"block{i}_bn")(y)
        y = layers.ReLU(name=f"block{i}_relu")(y)
        y = layers.Dropout(0.2, name=f"block{i}_drop")(y)
        x = layers.Add(name=f"block{i}_add")([x, y])
    return keras.Model(inputs, x, name="tiny")


@pytest.fixture(scope="session")
def make_tiny_backbone():
    """The function `tiny_backbone(size, width, blocks)`, for tests that need a fresh one."""
    return tiny_backbone


def shapes_image(label: int, seed: int, size: int = 24) -> np.ndarray:
    """A noisy picture whose class shows: 0 a bright left half, 1 a bright right half, 2 a bright
    top.
    """
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 90, (size, size, 3), np.uint8)
    half = size // 2
    region = [np.s_[:, :half], np.s_[:, half:], np.s_[:half, :]][label]
    picture[region] = rng.integers(150, 255, picture[region].shape, np.uint8)
    return picture


@pytest.fixture(scope="session")
def tiny_keras(made_once) -> Path:
    """A .keras file of a backbone of the user's own: `tiny_backbone` of two blocks at 16 pixels,
    20 thousand random weights.
    """

    def make(folder: Path) -> None:
        import keras

        keras.utils.set_random_seed(0)
        tiny_backbone(width=32, blocks=2).save(folder / "tiny.keras")

    return made_once("tiny backbone", make) / "tiny.keras"


@pytest.fixture(scope="session")
def photo_folder(made_once) -> Path:
    """A folder of three class folders (left, right, top), 20 PNG pictures each."""
    from PIL import Image

    def make(root: Path) -> None:
        for label, name in enumerate(("left", "right", "top")):
            (root / name).mkdir()
            for i in range(20):
                picture = Image.fromarray(shapes_image(label, 100 * label + i))
                picture.save(root / name / f"{i:02d}.png")

    return made_once("photos", make)


@pytest.fixture(scope="session")
def graft():
    """Run the real command line in a process of its own: `graft("zoo", "--json")` ->
    CompletedProcess with text.
    """

    def call(*arguments, cwd=None, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "graft", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=600,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "COLUMNS": "120",
                **environment,
            },
        )

    return call


WORDS = [
    "red",
    "green",
    "blue",
    "round",
    "square",
    "heavy",
    "light",
    "stone",
    "apple",
    "ball",
    "box",
    "runs",
    "sleeps",
    "falls",
    "big",
    "small",
    "very",
    "not",
    "the",
    "a",
    "is",
    "in",
]


@pytest.fixture(scope="session")
def tiny_encoder(made_once) -> Path:
    """The folder of a KerasHub preset: a BERT of two layers and width 16 with a vocabulary of some
    forty pieces.
    """
    return made_once("encoder", lambda folder: save_encoder(folder / "tiny_bert")) / "tiny_bert"


def save_encoder(folder: Path) -> None:
    """Write the preset of `tiny_encoder`."""
    import keras
    import keras_hub

    from graft.zoo.quiet import load_tensorflow

    load_tensorflow()
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    pieces = list(dict.fromkeys(pieces))
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(pieces),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=32,
    )
    backbone.save_to_preset(folder)
    keras_hub.models.BertTokenizer(
        vocabulary=pieces, lowercase=True, strip_accents=True
    ).save_to_preset(folder)


@pytest.fixture(scope="session")
def sentences_csv(made_once) -> Path:
    """A table of 90 sentences with three labels, colours by which they are told."""
    return made_once("sentences", lambda folder: write_sentences(folder / "colours.csv")) / (
        "colours.csv"
    )


def write_sentences(path: Path) -> None:
    """Write the table of `sentences_csv`."""
    rng = np.random.default_rng(0)
    rows = ["text,label,split"]
    for i in range(90):
        colour = ("red", "green", "blue")[i % 3]
        words = [*rng.choice(WORDS[3:], int(rng.integers(1, 12))), colour]
        rng.shuffle(words)
        rows.append(
            f"{' '.join(words)},{colour},{('train', 'train', 'train', 'validation', 'test')[i // 3 % 5]}"
        )
    path.write_text("\n".join(rows) + "\n")


@pytest.fixture
def stdin(monkeypatch):
    """Gives bytes to stdin."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))

    return give
