"""`graft demo`: the main job on what is built in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options", "command"]


@dataclass(frozen=True)
class Options:
    """Handwritten digits, 20 labelled pictures of each, from the bundled backbone; or with --text household voice commands,
    intents and slots, from the bundled encoder. Against training from scratch, three seeds; exported to three files and
    verified. Offline, no download."""

    text: bool = False
    """Voice commands instead of digits."""
    out: Path | None = None
    """The run directory to make. Default: runs/demo or runs/demo-text."""
    overwrite: bool = False
    """Replace the run directory if it exists."""


def command(arguments: Sequence[str]) -> int:
    """Train, compare, export; 1 if a file did not pass or transfer did not win."""
    import tyro

    from recipes.commands import export
    from recipes.engine import run

    options = tyro.cli(Options, args=arguments, prog="graft demo")
    out = options.out or Path("runs/demo-text" if options.text else "runs/demo")
    (_commands if options.text else _digits)(out, options.overwrite)
    manifest = export.export(export.Options(run=out))
    won = run.read(out)["verdict"]["gain_points"]
    return 0 if all(row["passed"] for row in manifest["files"]) and min(won) > 0 else 1


def _digits(out: Path, overwrite: bool) -> None:
    from recipes.engine.settings import FitSettings
    from recipes.image_classification import Config, main

    main(
        Config(
            data="digits",
            out=out,
            overwrite=overwrite,
            backbone="mobilenet_v2_0.35",
            weights="bundled",
            schedule="fine_tune",
            image_size=64,
            epochs=12,
            learning_rate=1e-3,
            per_class=20,
            seeds=3,
            fit=FitSettings(batch_size=16, augment=("crop",)),
            compare_scratch=True,
        )
    )


def _commands(out: Path, overwrite: bool) -> None:
    from recipes.text_multitask import Config, main

    main(
        Config(
            data="commands",
            out=out,
            overwrite=overwrite,
            schedule="full",
            epochs=20,
            uncertainty=True,
            seeds=3,
            compare_scratch=True,
        )
    )
