"""`graft suggest --data SOURCE`: backbones ranked for your data before anything is trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graft.recipes.grid.entries import Entry

from graft.recipes.codecs.image_size import ImageSizeOption
from graft.zoo.fits import STRETCH, Fit

__all__ = ["Options", "command", "suggest"]


@dataclass(frozen=True)
class Options:
    """Rank backbones by how well their features suit your data: one forward pass over a sample
    each, no training.
    """

    data: str
    """As for `graft train`: a folder, a table, shards, an address, tfds:NAME, hf:NAME or a
    built-in name."""
    backbones: tuple[str, ...] = ()
    """NAME, or NAME@WEIGHTS (imagenet, bundled, none or a file), or .keras files. Default: those
    for images whose weights are on this machine, if they are two or more.
    """
    sample: int = 1000
    """Training examples to look at, stratified."""
    image_size: ImageSizeOption = None
    """Pixels a side, or HEIGHTxWIDTH as 160x224. Default: each backbone's."""
    fit: Fit = STRETCH
    """How an image of other proportions is fitted: stretch, crop or pad, as for `graft train`."""
    split_seed: int = 0
    """For splits that are missing in the data and have to be made, and for the sample."""
    path_column: str = "path"
    text_column: str = "text"
    label_column: str = "label"
    """The columns of a table."""
    skip_bad: bool = False
    """Leave out images that cannot be read."""
    out: Path | None = None
    """Also write the rows into this JSON file."""
    json: bool = False
    """Print JSON."""


def command(arguments: Sequence[str]) -> None:
    """Print the ranking to stdout."""
    import tyro

    from graft.zoo.terminal import json_shown, say_next

    options = tyro.cli(Options, args=arguments, prog="graft suggest")
    rows = suggest(options)
    if options.json:
        print(json_shown(rows))
    else:
        _print(rows)
    say_next(*_next(options, rows[0]["backbone"]))


def _next(options: Options, best: str) -> list[str]:
    """The training of the backbone that was ranked first."""
    from graft.recipes.grid.entries import common_modality
    from graft.recipes.grid.sides import SIDES

    entry = next(entry for entry in _entries(options) if entry.name == best)
    words = ["graft", "train", SIDES[common_modality([entry])].recipe, "--data", options.data]
    words += ["--backbone", entry.backbone]
    words += [] if entry.weights is None else ["--weights", entry.weights]
    words += [] if options.image_size is None else ["--image-size", str(options.image_size)]
    words += [] if options.fit == STRETCH else ["--fit", options.fit]
    return [*words, "--out", f"runs/{entry.name}"]


def _entries(options: Options) -> list["Entry"]:
    """The backbones that are ranked."""
    from graft.recipes.grid.entries import read_entries
    from graft.recipes.grid.suggest import default_entries

    if options.backbones:
        return read_entries(options.backbones)
    return default_entries(options.image_size)


def suggest(options: Options) -> list[dict]:
    """The rows of `recipes.grid.suggest.suggest`."""
    from graft.recipes.grid import suggest as scoring
    from graft.recipes.grid.entries import common_modality
    from graft.recipes.grid.sides import source_of
    from graft.recipes.runs.backbones import Reading
    from graft.zoo.files.writing import write_text

    entries = _entries(options)
    source = source_of(options, common_modality(entries))
    reading = Reading(options.image_size, options.fit, options.skip_bad)
    rows = scoring.suggest(source, entries, options.sample, options.split_seed, reading)
    if options.out is not None:
        write_text(options.out, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    return rows


def _print(rows: Sequence[Mapping]) -> None:
    from rich.table import Table

    from graft.recipes.adapt.transferability import SCORES
    from graft.recipes.report.wording import duration
    from graft.zoo.terminal import draw, table_row

    table = Table("backbone", *SCORES, "mean rank", "one pass", "one full epoch")
    for row in rows:
        scores = ("–" if row[name] is None else f"{row[name]:.3f}" for name in SCORES)
        table_row(
            table,
            row["backbone"],
            *scores,
            f"{row['mean_rank']:.1f}",
            duration(row["pass_seconds"]),
            duration(row["epoch_seconds"]),
        )
    draw(table)
    print(
        f"Scores of {rows[0]['sample']} training examples; times are estimates for this machine. "
        "How far scores can be trusted on your data, `graft bench` measures."
    )
