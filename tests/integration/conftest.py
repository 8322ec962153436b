"""One small run, trained and exported once, through the same functions as the command line."""

from pathlib import Path

import pytest

from recipes.commands import __main__, export
from recipes.engine.settings import FitSettings
from recipes.image_classification import Config, main


@pytest.fixture(scope="session")
def small_run(photo_folder, tmp_path_factory) -> Path:
    """A run on the three-class pictures: three kinds that even a narrow network at 32 pixels can tell apart."""
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
    """Run the command line in this process: (exit code, stdout, lines of stderr that begin with "graft ")."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            __main__.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, [line for line in err.splitlines() if line.startswith(("graft ", "warning"))]

    return run
