"""Settings tried for the best cell of a grid, by Optuna: on validation data, resumable, hopeless
ones stopped early.
"""

import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.export.child_process import child_environment
from graft.recipes.grid import analysis, plan
from graft.recipes.grid.jobs import cause_of, end
from graft.recipes.grid.rows import divergence, measure_of, whole_run
from graft.recipes.grid.sides import SIDES
from graft.recipes.report.run_file import read_run
from graft.recipes.train.checkpoint import epochs_in
from graft.zoo.errors import ConfigError
from graft.zoo.files import flock
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.writing import write_csv
from graft.zoo.terminal import progress, say, tell

if TYPE_CHECKING:
    import optuna

    from graft.recipes.grid.grid import Grid

__all__ = ["AUGMENTATIONS", "require", "run"]

STORAGE, TABLE = "search.sqlite3", "search.csv"
AUGMENTATIONS = ("none", "flip", "flip crop", "flip crop color", "flip randaugment")
CAUSE = "cause"
"""What a trial is noted with, beside its settings, that died or diverged."""
LOOK_SECONDS = 2.0
"""How often a trial's checkpoint is looked at."""
FIRST, WARM_UP = 4, 2
"""The median of at least so many trials stops another one, after so many of its epochs."""


def require(grid: plan.Plan) -> None:
    """Refuse a search that could not begin, before anything runs.

    Raises:
        ConfigError: Optuna is not installed, or the grid has nothing but scratch.
    """
    if all(cell.schedule == plan.BASELINE for cell in grid.cells):
        raise ConfigError(
            "--search tries settings of the best transfer: give --schedules another one beside "
            "scratch"
        )
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "--search needs the package optuna: pip install 'graft-zoo[search]'"
        ) from error


def run(grid: "Grid", rows: Sequence[Mapping], count: int) -> None:
    """Bring the search for the settings of the grid's best transfer cell to `count` trials and
    print what they found.

    Each trial is a `graft train` with the grid's first seed. search.sqlite3 holds all of them,
    search.csv a row a trial. The test figure of the best one alone is reported.

    Raises:
        ConfigError: no transfer cell was finished.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    planned = {cell.name: cell for cell in grid.plan.cells}
    groups = analysis.with_all_labels(
        analysis.groups([row for row in rows if row["cell"] in planned])
    )
    best = next((g for g in groups if g.schedule != plan.BASELINE), None)
    if best is None:
        raise ConfigError("--search needs a finished cell other than scratch to start from")
    known = best.rows[0]
    cell = planned[known["cell"]]
    content = read_run(grid.cells / cell.name)
    with one_line_if_damaged(grid.out / STORAGE, "remove it: the search begins anew"):
        study = optuna.create_study(
            study_name=f"{best.backbone} {best.schedule}",
            storage=f"sqlite:///{grid.out / STORAGE}",
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=WARM_UP),
        )
    # A search that was killed left them.
    for left in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(left.number, state=optuna.trial.TrialState.FAIL)
    # Another seed each time, or a search that goes on would draw the settings of its beginning
    # again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.get_trials(deepcopy=False)))
    done = len(
        study.get_trials(states=[optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED])
    )
    say(f"search: {best.name}, {max(0, count - done)} of {count} settings to go")
    with progress("search", max(0, count - done)) as advance:
        while done < count:
            trial = study.ask()
            told = _trial(grid, cell, content, trial, study)
            done += 1
            advance(note=f"trial {trial.number}: {told}")
    _write(grid.out / TABLE, study)
    try:
        winner = study.best_trial
    except ValueError as error:
        raise ConfigError(
            f"no trial of the search could be trained: its words are in '{grid.out / 'search'}'"
        ) from error
    measured = read_run(_folder(grid, study, winner))
    key = measure_of(measured)["key"]
    settings = ", ".join(
        f"{name} {value if isinstance(value, str) else format(value, '.3g')}"
        for name, value in winner.params.items()
    )
    test = measured["metrics"]["test"][key]
    tell(
        f"search: the best of {done} settings for {best.name} reaches {100 * winner.value:.1f} % "
        "on validation data "
        f"({100 * known['validation']:.1f} % in the grid with the same seed), {100 * test:.1f} % "
        "on test data (one seed): "
        f"{settings}" + (f"; {winner.user_attrs[CAUSE]}" if CAUSE in winner.user_attrs else "")
    )


def _trial(
    grid: "Grid", cell: plan.Cell, content: Mapping, trial: "optuna.Trial", study: "optuna.Study"
) -> str:
    """Train with the settings of a trial; says how it ended."""
    from optuna.trial import TrialState

    folder = _folder(grid, study, trial)
    options = _settings(trial, content)
    command = [*plan.command(grid.plan, cell, folder), *options]
    flock.resolve_links(folder.parent).mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    environment = child_environment()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        try:
            while process.poll() is None:
                time.sleep(LOOK_SECONDS)
                _report(trial, folder, measure_of(content)["key"])
                if trial.should_prune():
                    end(process)
                    study.tell(trial, state=TrialState.PRUNED)
                    return "stopped: below the median of the others"
        except BaseException:
            end(process)
            raise
    measured = whole_run(process.returncode, folder)
    diverged = divergence(measured)
    value = measured["metrics"]["validation"][measure_of(measured)["key"]] if measured else None
    if value is None or not math.isfinite(value):
        cause = diverged or cause_of(process.returncode, log) or "it left no figure"
        trial.set_user_attr(CAUSE, cause)
        study.tell(trial, state=TrialState.FAIL)
        return f"died: {cause}"
    if diverged:  # what it reached before is real, and the same settings would diverge again
        trial.set_user_attr(CAUSE, diverged)
    study.tell(trial, value)
    return f"{value:.4f} (best {study.best_value:.4f})" + (", diverged" if diverged else "")


def _settings(trial: "optuna.Trial", content: Mapping) -> list[str]:
    """The options of `graft train` that a trial chooses."""
    last = content["schedule"]["phases"][-1]
    rate = trial.suggest_float(
        "learning_rate", last["learning_rate"] / 10, last["learning_rate"] * 10, log=True
    )
    decay = trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True)
    dropout = trial.suggest_float("dropout", 0.0, 0.6)
    options = [
        "--learning-rate",
        f"{rate:.3e}",
        "--weight-decay",
        f"{decay:.3e}",
        "--dropout",
        f"{dropout:.3f}",
    ]
    if last["train"] not in ("head", "all"):
        options += ["--blocks", str(trial.suggest_int("blocks", 1, last["total_blocks"]))]
    if not SIDES[content["modality"]].of_texts:
        chosen = trial.suggest_categorical("augment", AUGMENTATIONS)
        options += ["--augment", *(chosen.split() if chosen != "none" else ())]
    return options


def _report(trial: "optuna.Trial", folder: Path, key: str) -> None:
    """Tell Optuna of the epochs that a trial has finished: the figure `key` that trials are judged
    by in the end, of which more is better whatever the task.
    """
    folder = flock.resolve_links(folder)
    checkpoints = folder.with_name(f".{folder.name}.part") / "checkpoint" / "transfer"
    known = len(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
    figures = [row.get(f"val_{key}") for row in epochs_in(checkpoints)]
    reached = [value for value in figures if value is not None and math.isfinite(value)]
    for step in range(known, len(reached)):
        trial.report(max(reached[: step + 1]), step)


def _folder(
    grid: "Grid", study: "optuna.Study", trial: "optuna.Trial | optuna.trial.FrozenTrial"
) -> Path:
    return (
        grid.out.resolve() / "search" / study.study_name.replace(" ", "-") / f"trial-{trial.number}"
    )


def _write(target: Path, study: "optuna.Study") -> None:
    trials = study.get_trials(deepcopy=False)
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "validation": trial.value,
            "epochs": len(trial.intermediate_values),
            CAUSE: trial.user_attrs.get(CAUSE),
            **{name: trial.params.get(name) for name in names},
        }
        for trial in trials
    ]
    write_csv(target, rows)
