"""`graft demo`: the main job on what is built in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.zoo.errors import ConfigError

__all__ = ["Options", "command"]


@dataclass(frozen=True)
class Options:
    """Handwritten digits, 20 labelled images of each, from the bundled backbone; or with --text
    household voice commands, intents and slots, from the bundled encoder. Against training from
    scratch, three seeds; exported to three files and verified. With --adapt printed digits have
    labels and handwritten ones none: against no adaptation, three seeds. Offline, no download.
    """

    text: bool = False
    """Voice commands instead of digits."""
    adapt: bool = False
    """From printed digits to handwritten ones."""
    out: Path | None = None
    """The run directory to make. Default: runs/demo, runs/demo-text or runs/demo-adapt."""
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
    if options.text and options.adapt:
        raise ConfigError("--text and --adapt are two demonstrations: choose one of them")
    kind, shown = (
        ("text", _commands)
        if options.text
        else ("adapt", _glyphs)
        if options.adapt
        else ("", _digits)
    )
    out = options.out or Path("runs", "-".join(filter(None, ("demo", kind))))
    shown(out, options.overwrite)
    manifest = export.export(export.Options(run=out))
    facts = read_run(out)
    return 0 if all(row["passed"] for row in manifest["files"]) and _won(facts) else 1


def _won(facts: Mapping) -> bool:
    """Whether the run may claim that what it shows gained over its baseline: what its own verdict
    says.
    """
    from graft.recipes.report.wording import decision

    verdict, adaptation = facts["verdict"], facts.get("adaptation")
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
