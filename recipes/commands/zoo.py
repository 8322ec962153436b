"""`graft zoo`: the catalogue of backbones."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from graft.zoo.backbones.encoder_table import ENCODERS
from graft.zoo.backbones.table import BACKBONES

__all__ = ["Options", "command"]


@dataclass(frozen=True)
class Options:
    """List the backbones for images and the encoders for texts: size, published accuracy, where
    their weights come from.
    """

    json: bool = False
    """Print a JSON list of rows, all fields."""


def command(arguments: Sequence[str]) -> None:
    """Print the catalogue to stdout."""
    import tyro

    options = tyro.cli(Options, args=arguments, prog="graft zoo")
    if options.json:
        encoders = [
            {"modality": "text", **dataclasses.asdict(row), "paper": row.paper} for row in ENCODERS
        ]
        print(json.dumps([*(dataclasses.asdict(row) for row in BACKBONES), *encoders], indent=2))
        return
    header = ("name", "parameters", "pixels", "features", "top-1 %", "weights")
    rows = [
        (
            row.name,
            f"{row.parameters / 1e6:.1f} M",
            str(row.shape()),
            str(row.feature_dim),
            "" if row.top1 is None else f"{row.top1:.1f}",
            ", ".join(row.weights),
        )
        for row in BACKBONES
    ]
    _table(header, rows, right=(1, 2, 3, 4))
    print(
        f"{len(BACKBONES)} backbones for images; top-1: published, ImageNet; sources in `graft "
        "zoo --json`\n"
    )
    header = ("name", "parameters", "tokens", "features", "family", "weights")
    rows = [
        (
            row.name,
            f"{row.parameters / 1e6:.1f} M",
            str(row.max_length),
            str(row.feature_dim),
            row.family,
            ", ".join(row.weights),
        )
        for row in ENCODERS
    ]
    _table(header, rows, right=(1, 2, 3))
    print(
        f"{len(ENCODERS)} encoders for texts; a folder of a KerasHub preset or of a Hugging Face "
        "model works as a name too"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    for line in (header, *rows):
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
