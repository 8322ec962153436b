"""One small run, trained and exported once, through the same functions as the command line."""

import csv
import json
from pathlib import Path

import pytest

from graft.recipes.commands import __main__, export
from graft.recipes.image_classification import Config, main
from graft.recipes.train.settings import FitSettings


@pytest.fixture(scope="session")
def small_run(photo_folder, tmp_path_factory) -> Path:
    """A run on the three-class pictures: three kinds that even a narrow network at 32 pixels can
    tell apart.
    """
    out = tmp_path_factory.mktemp("runs") / "small"
    main(
        Config(
            data=str(photo_folder),
            out=out,
            backbone="mobilenet_v2_0.35",
            weights="bundled",
            schedule="fine_tune",
            image_size=32,
            epochs=6,
            fit=FitSettings(batch_size=8, augment=()),
            learning_rate=1e-3,
            seeds=2,
            compare_scratch=True,
        )
    )
    manifest = export.export(export.Options(run=out))
    assert [row["passed"] for row in manifest["files"]] == [True, True, True]
    return out


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


@pytest.fixture
def call(capsys):
    """Run the command line in this process: (exit code, stdout, lines of stderr that begin with
    "graft ").
    """

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            __main__.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return (
            ended.value.code,
            out,
            [line for line in err.splitlines() if line.startswith(("graft ", "warning"))],
        )

    return run
