"""What a grid consists of: backbones x schedules x shares of the labels x seeds, each cell one
`graft train` command.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.export.child_process import PYTHON_COMMAND
from graft.recipes.grid.entries import Entry, absolute, common_modality
from graft.recipes.grid.sides import SIDES, Side
from graft.recipes.runs.recipes import load_recipe
from graft.zoo.errors import ConfigError, GraftError

__all__ = ["BASELINE", "Cell", "Plan", "check", "command", "config_of", "plan"]

BASELINE = "scratch"
"""The schedule that every other one is compared with; it is always in the grid."""
OF_CELLS = (
    "--data",
    "--backbone",
    "--weights",
    "--schedule",
    "--seed",
    "--seeds",
    "--fraction",
    "--out",
    "--resume",
)
"""Options of a training that the grid chooses."""
OF_TRANSFER = ("--learning-rate", "--layer-decay", "--blocks")
"""Options that suit a pretrained backbone: training from scratch keeps its own, or the baseline
would be hobbled.
"""


@dataclass(frozen=True)
class Cell:
    """One training of the grid. `fraction` is the share of the training labels, in (0, 1]."""

    entry: Entry
    schedule: str
    seed: int
    fraction: float = 1.0

    @property
    def name(self) -> str:
        """Of its folder and of its row."""
        share = "" if self.fraction == 1 else f"-{self.fraction:g}"
        return (
            f"{re.sub(r'[^A-Za-z0-9_.]+', '_', self.entry.name)}-{self.schedule}{share}-{self.seed}"
        )


@dataclass(frozen=True)
class Plan:
    """All cells and what they have in common.

    Attributes:
        recipe: the recipe that trains them.
        data: its --data.
        cells: in the order in which they run: seed after seed, so that an interrupted grid has
            something of everything.
        options: what every training gets beside backbone, schedule, seed and share, and scratch
            without `OF_TRANSFER`.
    """

    recipe: str
    data: str
    cells: tuple[Cell, ...]
    options: tuple[str, ...]

    @property
    def side(self) -> Side:
        """What a grid of this modality is like."""
        return SIDES[common_modality(self.entries)]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The backbones, each once."""
        return tuple(dict.fromkeys(cell.entry for cell in self.cells))

    def arguments(self, cell: Cell, out: Path) -> list[str]:
        """What stands behind `graft` to train `cell` into `out`, or to go on with it."""
        given = ["train", self.recipe, "--data", self.data, "--backbone", cell.entry.backbone]
        if cell.entry.weights is not None and cell.schedule != BASELINE:
            given += ["--weights", cell.entry.weights]
        given += ["--schedule", cell.schedule, "--seed", str(cell.seed)]
        if cell.fraction != 1:
            given += ["--fraction", f"{cell.fraction:g}"]
        options = self.options if cell.schedule != BASELINE else _without(self.options, OF_TRANSFER)
        return [*given, *options, "--out", str(out), "--resume"]


def plan(
    data: str,
    backbones: Sequence[Entry],
    schedules: Sequence[str],
    seeds: Sequence[int],
    fractions: Sequence[float],
    options: Sequence[str],
) -> Plan:
    """The grid of all combinations, with the baseline.

    Raises:
        ConfigError: backbones for images and for texts, a share outside (0, 1], no seed, an
            unknown schedule, or an option that the grid chooses.
    """
    options = [
        word
        for option in options
        for word in (option.split("=", 1) if option.startswith("--") else [option])
    ]
    for option in options:
        if option in OF_CELLS:
            raise ConfigError(
                f"{option} stands behind --, but every training of a grid has its own: leave it "
                "away there"
            )
    recipe = SIDES[common_modality(backbones)].recipe
    if not seeds:
        raise ConfigError("the number of seeds must be at least 1")
    fractions = [*fractions, 1.0]  # whose figures everything else is compared with
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ConfigError(
                f"--label-fractions are shares above 0 and at most 1, not {fraction:g}"
            )
    schedules = list(dict.fromkeys([*schedules, BASELINE]))
    cells = tuple(
        Cell(entry, schedule, seed, fraction)
        for seed, fraction, schedule, entry in itertools.product(
            seeds, sorted({*fractions}, reverse=True), schedules, backbones
        )
    )
    return Plan(recipe, absolute(data), cells, tuple(options))


def check(grid: Plan) -> Mapping[str, object]:
    """Refuse what no cell could run with, before anything runs; returns what tables need to know of
    each backbone, by name.

    Raises:
        GraftError: an unknown schedule, weights that cannot be had, an option that the recipe does
            not take.
    """
    from graft.recipes.train import schedule
    from graft.zoo.backbones import encoders, weights
    from graft.zoo.backbones import table as backbone_table

    of_texts = grid.side.of_texts
    known = schedule.TEXT_SCHEDULES if of_texts else schedule.SCHEDULES
    rows = {}
    for cell in grid.cells:
        config = config_of(grid, cell)
        config.check()
        if cell.fraction < 1 and getattr(config, "per_class", None) is not None:
            raise ConfigError(
                "--label-fractions and --per-class both say how many labels are used: choose one "
                "of them"
            )
        more = (getattr(config, name, None) for name in ("layer_decay", "blocks"))
        given = (config.epochs, config.learning_rate, *more)
        schedule.resolve(cell.schedule, *given, known=known)
        if cell.entry.name in rows:
            continue
        if of_texts:
            rows[cell.entry.name] = encoders.find_encoder(cell.entry.backbone)
            continue
        row = backbone_table.find_backbone(cell.entry.backbone)
        spec = cell.entry.weights or backbone_table.default_weights(row)
        row.shape(config.image_size)  # who does not take it says so
        try:
            weights.resolve_weights(row, spec, image_size=config.image_size)
        except GraftError as error:
            raise type(error)(
                f"{cell.entry.name}: {error}; `--backbones {cell.entry.name}@FILE` names a file"
            ) from error
        rows[cell.entry.name] = row
    return rows


def config_of(grid: Plan, cell: Cell | None = None) -> Any:
    """The Config with which the recipe trains `cell`, or the first one."""
    import tyro

    recipe = load_recipe(grid.recipe)
    arguments = grid.arguments(cell or grid.cells[0], Path("cell"))[2:]
    return tyro.cli(recipe.Config, args=arguments, prog="graft bench ... --")


def _without(options: Sequence[str], names: Sequence[str]) -> list[str]:
    """`options` without those called `names` and their one value."""
    return [
        word
        for i, word in enumerate(options)
        if word not in names and not (i and options[i - 1] in names)
    ]


def command(grid: Plan, cell: Cell, out: Path) -> list[str]:
    """The process that trains `cell`."""
    return [*PYTHON_COMMAND, "-m", "graft", *grid.arguments(cell, out)]
