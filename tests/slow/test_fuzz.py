"""500 mutated files of each kind, the same ones each time: each is opened or refused in one line.
None ends in a traceback, blocks for longer than 10 seconds, or takes 2 GB.

What a native runtime cannot bear (LiteRT and onnxruntime trust what a file says) is opened once
more as `graft predict` opens it, in a process of its own first, and has to be refused there.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import shapes_image
from tests.slow import fuzzing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

COUNT = int(os.environ.get("GRAFT_FUZZ", 500))
SECONDS = 10
START_SECONDS = 300
STARVED = 6
"""So many times longer it may take without having worked."""
ROOT = Path(__file__).parents[2]


@dataclass
class Found:
    """What became of the files of a kind."""

    outcomes: Counter = field(default_factory=Counter)
    bad: list[tuple[Path, str]] = field(default_factory=list)
    native: list[Path] = field(default_factory=list)


class Opener:
    """A process that opens files one after the other, and another one after it has ended."""

    def __init__(self, kind: str, run: Path):
        self.arguments, self.process = (
            [sys.executable, "-m", "tests.slow.fuzzing", kind, str(run)],
            None,
        )
        self.warm = run / "model.keras" if kind == "keras" else None

    def open(self, path: Path) -> dict:
        if self.process is None:
            self.process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            )
            assert self._answer(START_SECONDS)["outcome"] == "ready"
            if self.warm is not None:  # loading TensorFlow is no opening
                self._ask(self.warm)
                assert self._answer(START_SECONDS)["outcome"] == "ok"
        self._ask(path)
        found = self._answer(SECONDS)
        if found["outcome"] in ("hang", "crash") or found["bytes"] > fuzzing.MOST_BYTES:
            self.close()
        return found

    def _ask(self, path: Path) -> None:
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()

    def _answer(self, seconds: float) -> dict:
        """A process that gets no time from a busy machine does not hang: it has worked for so long,
        or waits for long.
        """
        began, worked = time.monotonic(), _worked(self.process.pid)
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not selector.select(1):
                waited = time.monotonic() - began
                if waited > STARVED * seconds or (
                    waited > seconds and _worked(self.process.pid) - worked > seconds
                ):
                    return {"outcome": "hang"}
        line = self.process.stdout.readline()
        return (
            json.loads(line)
            if line
            else {"outcome": "crash", "text": f"ended with {self.process.wait()}"}
        )

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None


def _worked(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def opened(kind: str, files: list[Path], run: Path) -> Found:
    """Open all `files`; what ends a native runtime is kept apart from what is wrong of us."""
    found, opener = Found(), Opener(kind, run)
    try:
        for file in files:
            answer = opener.open(file)
            outcome = answer["outcome"]
            if outcome in ("ok", "refused") and answer["bytes"] > fuzzing.MOST_BYTES:
                outcome = "large"
            found.outcomes[outcome] += 1
            if outcome in ("hang", "crash", "large") and kind in ("tflite", "onnx"):
                found.native.append(file)
            elif outcome not in ("ok", "refused"):
                found.bad.append((file, f"{outcome}: {answer.get('text', '')}"))
    finally:
        opener.close()
    return found


@pytest.fixture(scope="module")
def run(graft, tmp_path_factory) -> Path:
    """A small run of pictures with its export."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("fuzz")
    for label, name in enumerate(("left", "right", "top")):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(20):
            picture = Image.fromarray(shapes_image(label, 100 * label + i, 32))
            picture.save(folder / "photos" / name / f"{i:02d}.png")
    done = graft(
        "train",
        "image-classification",
        "--data",
        folder / "photos",
        "--backbone",
        "mobilenet_v2_0.35",
        "--weights",
        "bundled",
        "--schedule",
        "feature_extraction",
        "--epochs",
        "1",
        "--image-size",
        "32",
        "--out",
        folder / "run",
    )
    assert done.returncode == 0, done.stderr
    done = graft("export", folder / "run", "--formats", "tflite", "onnx")
    assert done.returncode in (0, 1), done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def bases(run, tmp_path_factory) -> dict[str, list[Path]]:
    """The whole files of each kind."""
    from PIL import Image

    from graft.recipes.train.checkpoint import Checkpoint, Checkpoints
    from graft.zoo.backbones.encoder_table import BUNDLED_FOLDER
    from graft.zoo.backbones.encoders import find_encoder, load_tokenizer

    folder = tmp_path_factory.mktemp("bases")
    files = {
        "tflite": [run / "export" / "model.tflite"],
        "onnx": [run / "export" / "model.onnx"],
        "keras": [run / "model.keras"],
        "manifest": [run / "export" / "manifest.json"],
        "run": [run / "run.json"],
        "npz": [run / "examples.npz", run / "mistakes.npz", run / "samples.npz"],
        "h5": [BUNDLED_FOLDER.parent / "bundled" / "mobilenet_v2_0.35.weights.h5"],
    }
    state = Checkpoint(
        1,
        2,
        [np.ones((3, 3), np.float32)],
        [np.zeros(4)],
        rows=[{"loss": 1.0}],
        history=[{"loss": 2.0}],
    )
    Checkpoints(folder / "checkpoint").save(0, state)
    files["npz"].append(folder / "checkpoint" / "seed-0.npz")
    (folder / "tokenizer.json").write_text(
        load_tokenizer(find_encoder("graft_mini_en")).json, encoding="utf-8"
    )
    files["tokenizer"] = [folder / "tokenizer.json"]
    (folder / "table.csv").write_text(
        "text,label,split,path\n" + "a fine day,good,train,x.png\nbad,poor,test,y.png\n" * 20
    )
    bench = "cell,backbone,schedule,status,test,curve\na-b,a,b,done,0.5,1:0.5\n"
    (folder / "bench.csv").write_text(bench * 3)
    files["csv"] = [folder / "table.csv", folder / "bench.csv", run / "history.csv"]
    picture = Image.fromarray(shapes_image(0, 0, 64))
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm"):
        picture.save(folder / f"picture.{suffix}")
    files["images"] = sorted(folder.glob("picture.*"))
    return files


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_mutated_files_are_opened_or_refused_in_a_line(kind, run, bases, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "mutants").mkdir()
    files = fuzzing.mutants(kind, bases[kind], COUNT, tmp_path / "mutants")
    found = opened(kind, files, tmp_path / "run")
    print(kind, dict(found.outcomes), "native:", len(found.native))
    told = "\n".join(f"{file}: {text}" for file, text in found.bad[:5])
    assert not found.bad, f"{len(found.bad)} of {COUNT}:\n{told}"
    _tried_first(found.native)


def _tried_first(files: list[Path]) -> None:
    """Each of `files` is refused by its trial, in one line, and the process that asks for it lives
    on.
    """
    from graft.export.sessions import open_artifact
    from graft.zoo.errors import ArtifactError

    for file in files:
        with pytest.raises(ArtifactError) as caught:
            open_artifact(file)
        assert "\n" not in str(caught.value)
