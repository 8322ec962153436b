"""`graft demo`: the main job on what is built in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options", "command"]


@dataclass(frozen=True)
class Options:
    """Handwritten digits, 20 labelled pictures of each, from the bundled backbone; against training from scratch, three
    seeds; exported to three files and verified. Offline, no download."""

    out: Path = Path("runs/demo")
    """The run directory to make."""
    overwrite: bool = False
    """Replace the run directory if it exists."""


def command(arguments: Sequence[str]) -> int:
    """Train, compare, export; 1 if a file did not pass or transfer did not win."""
    import tyro

    from recipes.commands import export
    from recipes.engine import run
    from recipes.engine.settings import FitSettings
    from recipes.image_classification import Config, main

    options = tyro.cli(Options, args=arguments, prog="graft demo")
    main(
        Config(
            data="digits",
            out=options.out,
            overwrite=options.overwrite,
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
    manifest = export.export(export.Options(run=options.out))
    won = run.read(options.out)["verdict"]["gain_points"]
    return 0 if all(row["passed"] for row in manifest["files"]) and min(won) > 0 else 1
