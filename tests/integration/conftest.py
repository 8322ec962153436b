"""One small run, trained and exported once, through the same functions as the command line."""

import contextlib
import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from graft.recipes.commands import __main__, export
from graft.recipes.image_classification import Config, main
from graft.recipes.train.settings import FitSettings


@pytest.fixture(scope="session")
def small_run(photo_folder, tiny_keras, made_once) -> Path:
    """A run on the three-class pictures: three kinds that even a tiny network can tell apart."""

    def make(folder: Path) -> None:
        out = folder / "small"
        main(
            Config(
                data=str(photo_folder),
                out=out,
                backbone=str(tiny_keras),
                schedule="fine_tune",
                epochs=6,
                fit=FitSettings(batch_size=8, augment=()),
                learning_rate=1e-2,
                seeds=2,
                compare_scratch=True,
            )
        )
        manifest = export.export(export.Options(run=out))
        assert [row["passed"] for row in manifest["files"]] == [True, True, True]

    return made_once("small run", make) / "small"


@pytest.fixture(scope="session")
def kept_of():
    """What the run.json of a run says of its kept epoch, compared with its history.csv."""

    def kept(run: Path) -> dict:
        facts = json.loads((run / "run.json").read_text())
        with (run / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = facts["kept"]
        own = [row for row in rows if row["phase"] == found["phase"]]
        assert own[found["epoch"] - 1] == rows[found["of_all"] - 1]
        assert found["phase"] in [phase["name"] for phase in facts["schedule"]["phases"]]
        assert found["watched"].startswith("validation ")
        if found["watched"] == "validation loss":
            losses = [float(row["val_loss"]) for row in rows]
            assert losses[found["of_all"] - 1] == pytest.approx(found["value"])
            assert found["rule"] == "last" or found["value"] == pytest.approx(min(losses))
        if found["rule"] == "last":
            assert found["of_all"] == len(rows)
        if (run / "report.html").exists() and facts["recipe"] != "self-supervised":
            told = f"what was kept: epoch {found['epoch']} of {found['phase']}, "
            assert told in (run / "report.html").read_text()
        return found

    return kept


@pytest.fixture(scope="session")
def artifacts(small_run) -> dict[str, Path]:
    """Every kind of artifact of the small run."""
    return {
        "run": small_run,
        "keras": small_run / "model.keras",
        "savedmodel": small_run / "export" / "savedmodel",
        "tflite": small_run / "export" / "model.tflite",
        "onnx": small_run / "export" / "model.onnx",
    }


def skip_probe(patch: pytest.MonkeyPatch) -> None:
    """Latency and memory are not measured, in two processes a file, but stated."""
    latency = {"median": 1.0, "p90": 1.0, "runs": 1, "threads": 1}
    stated = {
        "latency_ms": {"one_thread": latency, "all_threads": latency},
        "peak_memory_bytes": 1,
    }
    patch.setattr("graft.export.probe.measure_file", lambda path, image_size=None: stated)


@pytest.fixture
def quick_probe(monkeypatch) -> None:
    skip_probe(monkeypatch)


def exit_code(*arguments) -> int:
    """Run the command line in this process."""
    with pytest.raises(SystemExit) as ended:
        __main__.main([str(argument) for argument in arguments])
    return ended.value.code


def here(*arguments) -> subprocess.CompletedProcess:
    """What the `graft` fixture does, in this process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "120")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = exit_code(*arguments)
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *said)


@pytest.fixture
def call(capsys):
    """Run the command line in this process: (exit code, stdout, lines of stderr that begin with
    "graft ").
    """

    def run(*arguments):
        code = exit_code(*arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        told = [line for line in err.splitlines() if line.startswith(("graft ", "warning"))]
        return code, out, told

    return run
