"""What the report says of the training: phases, curves, learning rate sweeps."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.report import headline, wording
from graft.recipes.report.drawing.curves import curve, sweep
from graft.recipes.report.run_file import task_figures
from graft.zoo.errors import ArtifactError
from graft.zoo.shown import csv_text

__all__ = ["curves", "kept_epoch", "phase_rows", "read_history", "sweep_curves"]

Tree = Mapping[str, Any]


def _kinds(facts: Tree) -> dict[str, str]:
    """The key of the figure that each task is judged by, by task; of one alone under ""."""
    split = headline.measured_split(facts)
    tasks = task_figures(facts["metrics"][split]) if split else {"": None}
    return {task: head["key"] for task, head in zip(tasks, headline.heads_of(facts), strict=False)}


def _metric_name(key: str, kinds: Mapping[str, str]) -> str:
    task = next((task for task in kinds if task and key.startswith(f"{task}_")), "")
    return wording.metric_name(key, kinds.get(task, ""))


def phase_rows(facts: Tree) -> list[Tree]:
    """The phases, each with the validation figures of the epoch that was kept: `(name, value)` as
    text.
    """
    kinds = _kinds(facts)
    rows = []
    for phase in facts["schedule"]["phases"]:
        known = {
            key.removeprefix("best_validation_"): value
            for key, value in phase.items()
            if key.startswith("best_validation_") and value is not None
        }
        watched = known.pop("watched", None)
        shown = {}
        if watched is not None and phase.get("watched"):
            shown[phase["watched"].removeprefix("val_").replace("_", " ")] = watched
        elif "loss" in known:
            shown["loss"] = known["loss"]
        shown |= {_metric_name("accuracy", kinds): known["accuracy"]} if "accuracy" in known else {}
        rows.append(
            {**phase, "kept": [(name, _as_text(name, value)) for name, value in shown.items()]}
        )
    return rows


def _as_text(name: str, value: float) -> str:
    shares = any(word in name for word in ("accuracy", "F1", "precision", "recall"))
    return wording.percent(value) if shares else f"{value:,.4g}"


def kept_epoch(facts: Tree) -> Tree | None:
    """`{"of_all" (counted over all phases, from 1), "text"}` of the epoch whose weights the run
    holds; None in runs of an older Graft, which did not say.
    """
    kept = facts.get("kept")
    if not kept:
        return None
    figure = f"{kept['watched']} {_as_text(kept['watched'], kept['value'])}"
    if kept["rule"] == "last":
        why = f"the last one, which no validation figure chose ({figure})"
    else:
        why = f"the best one by {figure}"
    text = f"epoch {kept['epoch']} of {kept['phase']}, {why}"
    if "adapted" in kept:
        text += f"; {kept['adapted']} adapted it afterwards"
    return {"of_all": kept["of_all"], "text": text}


def curves(history: Mapping[str, Sequence] | None, facts: Tree) -> list[Tree]:
    """Accuracy and loss against the epoch, each with a sentence for those who cannot see it."""
    from markupsafe import Markup

    if not history or not history["phase"]:
        return []
    drawn, kinds = [], _kinds(facts)
    kept = (kept_epoch(facts) or {}).get("of_all")
    keys = [key for key in history if f"val_{key}" in history]
    for key in sorted(keys, key=lambda key: "loss" in key):
        name, percent = _metric_name(key, kinds), "accuracy" in key
        train, validation = history[key], history[f"val_{key}"]
        if np.isnan([*train, *validation]).all():
            continue
        # matplotlib escapes the phases' names, and the ids are made of letters and digits.
        svg = Markup(curve(key, train, validation, history["phase"], percent, kept))
        ends = {"training": _last(train), "validation": _last(validation)}
        name = name if ":" in name else name.capitalize()
        drawn.append({"name": name, "svg": svg, "percent": percent, "ends": ends, "kept": kept})
    return drawn


def sweep_curves(phases: Sequence[Tree]) -> list[Tree]:
    """The curve of each phase for which learning rates were swept."""
    from markupsafe import Markup

    sweeps = [(phase["name"], phase["rate_finder"]) for phase in phases if phase.get("rate_finder")]
    return [
        {
            "phase": name,
            "suggested": found["suggested"],
            "svg": Markup(sweep(f"sweep-{i}", found["rates"], found["losses"], found["suggested"])),
        }
        for i, (name, found) in enumerate(sweeps)
    ]


def _last(values: Sequence[float]) -> float | None:
    return next((value for value in reversed(values) if not math.isnan(value)), None)


def read_history(path: Path) -> Mapping[str, Sequence] | None:
    """The losses and accuracies of history.csv, and the phase, by column; None where there is no
    such file.

    Raises:
        ArtifactError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = [
                {csv_text(name): csv_text(cell) for name, cell in row.items()}
                for row in csv.DictReader(lines)
            ]
        numbers = [key for key in (rows[0] if rows else ()) if "loss" in key or "accuracy" in key]
        columns = {key: [float(row.get(key) or "nan") for row in rows] for key in numbers}
        return columns | {"phase": [row["phase"] for row in rows]}
    except Exception as error:  # short and long rows, cells that are no numbers, what is no table
        raise ArtifactError(f"'{path}' is no history of epochs: {error}") from error
