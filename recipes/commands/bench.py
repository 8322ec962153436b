"""`graft bench --data SOURCE --backbones A B C`: which backbone, which schedule, how long, how
large.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from graft.recipes.codecs.image_size import ImageSizeOption

__all__ = ["Options", "bench", "command"]

Format = Literal["tflite", "onnx", "savedmodel"]
Precision = Literal["float16", "dynamic", "int8", "int8-full"]


@dataclass(frozen=True)
class Options:
    """Train a grid of backbones, schedules and seeds on your data, compare what they reach with
    what they cost, and go on where an interrupted grid stopped. What stands behind ` -- ` goes to
    every `graft train`.
    """

    data: str
    """As for `graft train`: a folder, a table, shards, an address, tfds:NAME, hf:NAME or a
    built-in name."""
    backbones: tuple[str, ...]
    """NAME, or NAME@WEIGHTS (imagenet, bundled, none or a file), or .keras files; for texts names
    or folders.
    """
    recipe: str | None = None
    """The recipe that trains the cells, as `graft train` lists them. Default: image-classification,
    of texts text-classification.
    """
    schedules: tuple[str, ...] = ("feature_extraction", "fine_tune", "scratch")
    """As for `graft train`; scratch, the baseline, is always there."""
    seeds: int = 3
    """Trainings of each kind, with consecutive seeds from --seed."""
    seed: int = 0
    """The first seed."""
    budget: str | None = None
    """Time to train each cell for: 90s, 3m, 1h. Default: the schedules' epochs."""
    label_fractions: tuple[float, ...] = (1.0,)
    """Shares of the training labels, for learning curves; all of them (1) are always there."""
    image_size: ImageSizeOption = None
    """Pixels a side, or HEIGHTxWIDTH as 160x224. Default: each backbone's."""
    formats: tuple[Format, ...] = ("tflite",)
    """Of the files that are exported and measured, one run of each backbone; write `--formats`
    alone for none.
    """
    quantize: tuple[Precision, ...] = ()
    """Beside float32. Default: int8 for images, dynamic for texts."""
    workers: int = 1
    """Cells at the same time, each a process. Times and latencies are comparable with one only."""
    ray: str | None = None
    """The address of a Ray cluster whose nodes see the same files; `auto` finds one on this
    machine.
    """
    search: int = 0
    """Then try so many settings of the best cell's backbone (rate, decay, dropout, blocks,
    augmentation) with Optuna.
    """
    out: Path = Path("bench")
    """The folder for bench.csv, bench.html, bench.png, bench.md and the runs; a grid that is there
    goes on.
    """
    overwrite: bool = False
    """Begin anew in a folder that holds a grid; what it found is lost."""


def command(arguments: Sequence[str]) -> int:
    """Run the grid; what a person can act on goes to stdout, a line each. 1 if a cell died or
    diverged.
    """
    import tyro

    arguments = list(arguments)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    rows = bench(
        tyro.cli(Options, args=arguments[:cut], prog="graft bench"), arguments[cut + 1 :], arguments
    )
    return 1 if any(row["status"] != "done" for row in rows) else 0


def bench(
    options: Options, train_options: Sequence[str] = (), typed: Sequence[str] = ()
) -> list[dict]:
    """The rows of the grid, one a cell; `train_options` go to every training."""
    from graft.recipes.grid.outlook import next_command
    from graft.zoo.errors import ConfigError
    from graft.zoo.files import leases
    from graft.zoo.terminal import say_next, tell

    if options.workers < 1:
        raise ConfigError(f"--workers must be at least 1, not {options.workers}")
    if options.ray is not None and options.workers > 1:
        raise ConfigError(
            "--workers are processes here, --ray places cells on the nodes of a cluster: choose "
            "one of them"
        )
    with leases.hold_lease(options.out):
        rows = _bench(options, train_options, typed)
    tell(f"report: {options.out / 'bench.html'}")
    say_next(*next_command(options.out / "cells", rows))
    return rows


def _bench(options: Options, train_options: Sequence[str], typed: Sequence[str]) -> list[dict]:
    from graft.recipes.codecs import decoding
    from graft.recipes.data import splits
    from graft.recipes.grid import grid, plan, search
    from graft.recipes.grid.entries import common_modality, read_entries
    from graft.recipes.grid.sides import SIDES, source_of
    from graft.recipes.train.budget import seconds_of

    given = list(train_options)
    for name in ("budget", "image_size"):
        value = getattr(options, name)
        given += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    budget = None if options.budget is None else seconds_of(options.budget)
    entries = read_entries(options.backbones)
    seeds = range(options.seed, options.seed + options.seeds)
    planned = plan.plan(
        options.data, entries, options.schedules, seeds, options.label_fractions, given
    )
    if options.recipe is not None:
        planned = replace(planned, recipe=options.recipe)
    plan.check(planned)
    if options.search:
        search.require(planned)
    modality, config = common_modality(entries), plan.config_of(planned)
    source = source_of(config, modality)
    decoding.know(replace(config, out=options.out.absolute() / "cells" / "all"), source)
    fingerprint = splits.fingerprint(splits.complete(source, config.split_seed)[0])
    precisions = options.quantize or SIDES[modality].precisions
    files = grid.Files(options.formats, precisions) if options.formats else None
    made = grid.Grid(
        planned, options.out, budget, files, options.workers, options.ray, grid.typed(typed)
    )
    with _saying_what_is_kept(options):
        rows = grid.run(made, fingerprint, options.overwrite)
        if options.search:
            search.run(made, rows, options.search)
    return rows


@contextlib.contextmanager
def _saying_what_is_kept(options: Options) -> Iterator[None]:
    from graft.zoo.files.guards import one_line_if_full
    from graft.zoo.processes import telling

    told = f"'{options.out}' keeps what is finished: the same command goes on"
    told += ", without --overwrite" if options.overwrite else ""
    with telling(told), one_line_if_full(options.out, f"free some space; {told}"):
        yield
