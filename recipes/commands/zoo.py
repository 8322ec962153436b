"""`graft zoo`: the catalogue of backbones."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.backbones import BACKBONES

__all__ = ["Options", "command"]


@dataclass(frozen=True)
class Options:
    """List the backbones: size, published accuracy, where their weights come from."""

    json: bool = False
    """Print a JSON list of rows, all fields."""


def command(arguments: Sequence[str]) -> None:
    """Print the catalogue to stdout."""
    import tyro

    options = tyro.cli(Options, args=arguments, prog="graft zoo")
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in BACKBONES], indent=2))
        return
    header = ("name", "parameters", "pixels", "features", "top-1 %", "weights")
    rows = [
        (
            row.name,
            f"{row.parameters / 1e6:.1f} M",
            str(row.image_size),
            str(row.feature_dim),
            "" if row.top1 is None else f"{row.top1:.1f}",
            ", ".join(row.weights),
        )
        for row in BACKBONES
    ]
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    for line in (header, *rows):
        cells = [
            cell.ljust(width) if i in (0, 5) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.write(f"{len(BACKBONES)} backbones; top-1: published, ImageNet; sources in `graft zoo --json`\n")
