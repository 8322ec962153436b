"""A grid of trainings: each cell a `graft train` process, one row a cell, resumable, one report at
the end.
"""

import contextlib
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.export.child_process import PYTHON_COMMAND
from graft.export.manifest import read_manifest
from graft.recipes.feed.cluster import connect
from graft.recipes.grid import analysis, jobs, plan, report, rows
from graft.recipes.grid.entries import Entry, weights_of
from graft.recipes.grid.ledger import Ledger
from graft.recipes.grid.outlook import outlook
from graft.recipes.runs import workspace
from graft.zoo.errors import ArtifactError, ConfigError, GraftError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.reading import read_json
from graft.zoo.terminal import progress, say, tell, warn

__all__ = ["Files", "Grid", "run", "typed"]

SUGGESTED = "suggested.json"
MADE = ("cells", "search", "search.sqlite3", "search.csv", SUGGESTED)
"""What a grid makes beside its table and its report."""


@dataclass(frozen=True)
class Files:
    """What is exported of each backbone: formats and precisions beside float32."""

    formats: tuple[str, ...]
    precisions: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """What is to be run, where it goes, and how.

    Attributes:
        plan: the cells.
        out: the folder; a grid that is there already goes on.
        budget: seconds of training that each cell gets; None: its schedule's epochs.
        files: what is exported; None: nothing.
        workers, ray: see `jobs.run_all`.
        command: what the user typed, for the report.
    """

    plan: plan.Plan
    out: Path
    budget: float | None
    files: Files | None
    workers: int
    ray: str | None
    command: str

    @property
    def cells(self) -> Path:
        """The folder of the runs, as every process finds it."""
        return self.out.resolve() / "cells"


def run(grid: Grid, fingerprint: str, overwrite: bool = False) -> list[dict]:
    """Run what is missing, write the table after each cell and the report at the end; returns all
    rows.

    `fingerprint` is that of the data, which may lie elsewhere when the grid goes on.

    Raises:
        ConfigError: the folder holds another grid; no Ray cluster answers; or no cell has figures.
    """
    if grid.ray is not None:
        # Before the folder is touched, of which `overwrite` would remove what is there.
        connect(grid.ray)
    common = {
        "fingerprint": fingerprint,
        "recipe": grid.plan.recipe,
        "options": list(grid.plan.options),
        "weights": weights_of(grid.plan.entries),
    }
    ledger = Ledger(grid.out, common, overwrite)
    if overwrite:
        for path in (grid.out / name for name in MADE):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    wanted = {cell.name: cell for cell in grid.plan.cells}
    ledger.forget_dead(wanted)
    missing = [cell for name, cell in wanted.items() if not ledger.finished(name)]
    known = [row for name, row in ledger.rows.items() if ledger.finished(name)]
    say(outlook(len(wanted), len(missing), grid.budget, known, grid.workers))
    _train(grid, ledger, missing)
    _export(grid, ledger)
    suggested = _suggest(grid)
    found = list(ledger.rows.values())
    if not any(map(rows.has_figures, found)):
        raise ConfigError(
            f"no cell of the grid could be trained; the first one: {found[0]['cause']}"
        )
    facts = {"data": Path(grid.plan.data).name, "command": grid.command}
    for sentence in report.write(grid.out, facts, found, suggested):
        tell(sentence)
    return found


def _train(grid: Grid, ledger: Ledger, missing: Sequence[plan.Cell]) -> None:
    queue = {cell.name: cell for cell in missing}
    for name in queue:
        with contextlib.suppress(GraftError):  # the cell itself says it, and the others go on
            workspace.drop_older(grid.cells / name)
    todo = [
        jobs.Job(
            name,
            tuple(plan.command(grid.plan, cell, grid.cells / name)),
            grid.cells / f"{name}.log",
        )
        for name, cell in queue.items()
    ]
    with progress("bench", len(todo)) as advance:
        if todo:
            advance(0, f"{todo[0].name} begins; its words: {todo[0].log}")
        for job, outcome in jobs.run_all(todo, grid.workers, grid.ray):
            with one_line_if_damaged(grid.cells / job.name / "run.json"):
                row = rows.of_cell(queue[job.name], outcome, grid.cells / job.name, grid.budget)
            row["workers"] = grid.workers
            ledger.put(row)
            advance(note=f"{job.name}: {rows.told(row)}")
            if row["status"] == rows.DIVERGED:
                warn(f"{job.name}: {row['cause']} (its words: {job.log})")
            elif row["status"] != "done":
                warn(f"{job.name} died: {row['cause']} (its words: {job.log})")


def _export(grid: Grid, ledger: Ledger) -> None:
    """Export the best run of each backbone; its figures stand in all rows of the backbone.

    Size and latency follow from the architecture, which schedules and seeds share; a file for each
    cell would say the same a dozen times. One at a time, whatever the workers, because latency is
    measured.
    """
    if grid.files is None:
        return
    groups = analysis.with_all_labels(analysis.groups(list(ledger.rows.values())))
    for backbone in dict.fromkeys(group.backbone for group in groups):
        row = _row_to_export([g for g in groups if g.backbone == backbone])
        own = [r for r in ledger.rows.values() if r["backbone"] == backbone]
        known = next((r for r in own if r.get("files_of")), {})
        had = [(known.get(column) or "").split() for column in ("formats", "precisions")]
        formats, precisions = (
            list(dict.fromkeys([*there, *asked]))
            for there, asked in zip(had, (grid.files.formats, grid.files.precisions), strict=True)
        )
        if [formats, precisions] == had:
            ledger.put(*({**r, **rows.files_in(known)} for r in own))  # rows that came later
            continue
        say(f"exporting {row['cell']}")
        folder = grid.cells / row["cell"]
        command = [
            *PYTHON_COMMAND,
            "-m",
            "graft",
            "export",
            str(folder),
            "--formats",
            *formats,
            "--overwrite",
        ]
        if precisions:
            command += ["--quantize", *precisions]
        log = grid.cells / f"{row['cell']}.export.log"
        outcome = jobs.run(jobs.Job(row["cell"], tuple(command), log))
        manifest = folder / "export" / "manifest.json"
        if outcome.code not in (0, 1) or not manifest.is_file():
            warn(f"{row['cell']} could not be exported: {outcome.cause} (its words: {log})")
            continue
        with one_line_if_damaged(manifest):
            found = rows.file_columns(read_manifest(manifest.parent))
        found |= {
            "files_of": row["cell"],
            "formats": " ".join(formats),
            "precisions": " ".join(precisions),
        }
        ledger.put(*({**r, **found} for r in own))


def _row_to_export(rivals: Sequence[analysis.Group]) -> Mapping:
    """The best row of the best transfer group that holds one which did not diverge, else of
    scratch, else of all: huge weights have figures, but what is quantized of them says nothing of
    the backbone. `rivals`: the best first.
    """
    ordered = sorted(
        rivals,
        key=lambda group: (group.diverged == len(group.rows), group.schedule == plan.BASELINE),
    )
    return max(ordered[0].rows, key=lambda row: (row["status"] == "done", row["validation"]))


def _suggest(grid: Grid) -> list[Mapping]:
    """The scores of all backbones before training, so that the report can say what they were
    worth.
    """
    target = grid.out / SUGGESTED
    known = _suggested(target) if target.is_file() else []
    if {row["backbone"] for row in known} >= {entry.name for entry in grid.plan.entries}:
        return known
    config = plan.config_of(grid.plan)
    if getattr(config, "multi_label", False):
        return []  # scores are of one label an example
    say("scoring the backbones without training, to see what such scores are worth")
    command = [
        *PYTHON_COMMAND,
        "-m",
        "graft",
        "suggest",
        "--data",
        grid.plan.data,
        "--out",
        str(target),
    ]
    command += ["--backbones", *map(_spec, grid.plan.entries)]
    for name in ("image_size", "split_seed", "path_column", "text_column", "label_column"):
        value = getattr(config, name, None)
        command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    command += ["--fit", config.image_fit] if hasattr(config, "image_fit") else []
    command += ["--skip-bad"] if getattr(config, "skip_bad", False) else []
    log = grid.cells / "suggest.log"
    outcome = jobs.run(jobs.Job("suggest", tuple(command), log))
    if outcome.code:
        warn(f"the backbones could not be scored: {outcome.cause} (its words: {log})")
        return []
    return _suggested(target)


def _suggested(file: Path) -> list[Mapping]:
    """The rows of a suggested.json."""
    found = read_json(file, list)
    if not all(isinstance(row, dict) and isinstance(row.get("backbone"), str) for row in found):
        raise ArtifactError(
            f"'{file}' is damaged (a row names no backbone): remove it, and the same command makes "
            "it anew"
        )
    return found


def _spec(entry: Entry) -> str:
    return entry.backbone if entry.weights is None else f"{entry.backbone}@{entry.weights}"


def typed(arguments: Sequence[str]) -> str:
    """The command as a user would type it, without folders of this machine."""
    words = []
    for word in arguments:
        name, at, spec = word.partition("@")
        words.append(
            f"{name}@{Path(spec).name}"
            if at
            else Path(word).name
            if word.startswith(("/", "~"))
            else word
        )
    return shlex.join(["graft", "bench", *words])
