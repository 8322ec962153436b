"""`graft demo`: the main job on what is built in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.zoo.errors import ConfigError

__all__ = ["Options", "command"]


@dataclass(frozen=True)
class Options:
    """Handwritten digits, 20 labelled images of each, from the bundled backbone; or with --text
    household voice commands, intents and slots, from the bundled encoder. Against training from
    scratch, three seeds; exported to three files and verified. With --adapt printed digits have
    labels and handwritten ones none: against no adaptation, three seeds. With --detect or --segment
    digits and figures in rendered scenes are found, or the class of each pixel. Offline, no
    download.
    """

    text: bool = False
    """Voice commands instead of digits."""
    adapt: bool = False
    """From printed digits to handwritten ones."""
    detect: bool = False
    """Boxes around digits and figures in scenes."""
    segment: bool = False
    """The class of each pixel of these."""
    out: Path | None = None
    """The run directory to make. Default: runs/demo, runs/demo-text, runs/demo-adapt, ..."""
    overwrite: bool = False
    """Replace the run directory if it exists."""


def command(arguments: Sequence[str]) -> int:
    """Train, compare, export; 1 if a file did not pass, or the verdict is not that what is shown
    gained.
    """
    import tyro

    from graft.recipes.commands import export
    from graft.recipes.report.run_file import read_run

    options = tyro.cli(Options, args=arguments, prog="graft demo")
    asked = [name for name in SHOWN if name and getattr(options, name)]
    if len(asked) > 1:
        raise ConfigError(
            f"--{asked[0]} and --{asked[1]} are two demonstrations: choose one of them"
        )
    kind = asked[0] if asked else ""
    shown = SHOWN[kind]
    out = options.out or Path("runs", "-".join(filter(None, ("demo", kind))))
    shown(out, options.overwrite)
    manifest = export.export(export.Options(run=out))
    facts = read_run(out)
    return 0 if all(row["passed"] for row in manifest["files"]) and _won(facts) else 1


def _won(facts: Mapping) -> bool:
    """Whether the run may claim that what it shows gained over its baseline, where it has one: what
    its own verdict says.
    """
    from graft.recipes.report.wording import decision

    verdict, adaptation = facts["verdict"], facts.get("adaptation")
    if verdict is None and not adaptation:
        return True
    if adaptation:
        verdict = adaptation["verdicts"].get(
            adaptation["chosen"]["method"], {}
        )  # {}: the baseline itself is kept
    return decision(verdict) == "gained"


def _digits(out: Path, overwrite: bool) -> None:
    from graft.recipes.image_classification import Config, main
    from graft.recipes.train.settings import FitSettings

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


def _glyphs(out: Path, overwrite: bool) -> None:
    from graft.recipes.domain_adaptation import Config, main
    from graft.recipes.train.settings import FitSettings

    main(
        Config(
            data="glyphs",
            target="digits",
            target_labels=True,
            out=out,
            overwrite=overwrite,
            backbone="mobilenet_v2_0.35",
            weights="bundled",
            image_size=64,
            epochs=10,
            seeds=3,
            fit=FitSettings(augment=("crop",)),
        )
    )


def _commands(out: Path, overwrite: bool) -> None:
    from graft.recipes.text_multitask import Config, main

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


def _boxes(out: Path, overwrite: bool) -> None:
    from graft.recipes.object_detection import Config, main

    main(Config(**_of_scenes(out, overwrite)))


def _masks(out: Path, overwrite: bool) -> None:
    from graft.recipes.segmentation import Config, main

    main(Config(**_of_scenes(out, overwrite)))


def _of_scenes(out: Path, overwrite: bool) -> dict[str, Any]:
    return {
        "data": "shapes",
        "out": out,
        "overwrite": overwrite,
        "backbone": "mobilenet_v2_0.35",
        "weights": "bundled",
        "schedule": "fine_tune",
        "image_size": 128,
        "epochs": 20,
    }


SHOWN: Mapping[str, Callable[[Path, bool], None]] = {
    "": _digits,
    "text": _commands,
    "adapt": _glyphs,
    "detect": _boxes,
    "segment": _masks,
}
"""By the option that asks for it."""
