"""The report of a run: one HTML file with everything inside, made from nothing but the run's folder.

Because it reads only what the run left behind, it can be made again at any time: `graft export` does so to add its
table of files. The page loads nothing (no scripts, no fonts, no pictures from elsewhere), and every text that came with
the data (labels, file names) is escaped.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.evidence import wilson
from recipes.engine import figures
from recipes.engine.run import read as read_run
from zoo.errors import ArtifactError
from zoo.files import read_arrays, read_json, write_text

__all__ = ["write"]

MOST_LABELS = 120
"""Beyond this many labels the page shows the ones that matter most (it says so); all figures are in run.json."""

MOST_SAMPLES = 120
MOST_MISTAKES = 24
SAMPLE_SIDE, MISTAKE_SIDE = 96, 144
"""Pixels; together these keep the page below two megabytes."""

Tree = Mapping[str, Any]


def write(run: Path) -> Path:
    """Write `run/report.html` from the files in the folder `run`; returns its path.

    `run.json` is needed. `history.csv`, `samples.npz`, `mistakes.npz` and `export/manifest.json` are shown when there.

    Raises:
        ArtifactError: `run.json` is missing, or one of the files cannot be read or lacks something.
    """
    from jinja2 import UndefinedError

    run = Path(run)
    facts = read_run(run)
    try:
        text = _page(_context(run, facts))
    except (KeyError, IndexError, TypeError, UndefinedError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ArtifactError(
            f"the files in '{run}' do not hold what a report needs ({reason}): another version of Graft wrote them"
        ) from error
    # Names of files that are no UTF-8 come as lone surrogates, which cannot be written.
    write_text(run / "report.html", text.encode("utf-8", "replace").decode("utf-8"))
    return run / "report.html"


def _page(context: Tree) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": _percent,
        "as_measured": lambda v, key="": f"{v:.2f}" if key == "r2" and not _blank(v) else _percent(v),
        "duration": _duration,
        "size": lambda size: _scaled(size, ("B", "kB", "MB", "GB")),
        "amount": lambda count: _scaled(count, ("", "k", "M", "G")),
        "figure": lambda value: "–" if _blank(value) else f"{value:,.4g}",
    }
    return environment.get_template("report.html.jinja").render(context)


def _context(run: Path, facts: Tree) -> Tree:
    labels = facts["data"]["labels"]
    split = next((name for name in ("test", "validation") if facts["metrics"].get(name)), None)
    metrics = facts["metrics"][split] if split else None
    manifest = _if_there(read_json, run / "export" / "manifest.json")
    export = _export(manifest)
    return {
        "run": facts,
        "split": split,
        "summary": _summary(facts, split, metrics, export),
        "verdict": _verdict(facts.get("verdict")),
        "data": _data(facts["data"], labels, _if_there(read_arrays, run / "samples.npz")),
        "text": _text(facts, _if_there(read_json, run / "texts.json")),
        "curves": _curves(_history(run / "history.csv")),
        "sweeps": _sweeps(facts["schedule"]["phases"]),
        "confusion": _confusion(facts.get("confusion"), labels),
        "per_class": _per_class(metrics, labels),
        "mistakes": _mistakes(_if_there(read_arrays, run / "mistakes.npz"), labels),
        "adaptation": _adaptation(facts.get("adaptation"), _if_there(read_arrays, run / "map.npz")),
        "export": export,
        "measured_on": (manifest or {}).get("measured_on"),
        "machine": (manifest or {}).get("machine"),
    }


def _summary(facts: Tree, split: str | None, metrics: Tree | None, export: Sequence[Tree]) -> Tree:
    phases = facts["schedule"]["phases"]
    # A file that failed its check may be small because its weights are missing.
    files = [file for file in export if file["passed"] and file["size_bytes"]]
    summary = {
        "source": Path(facts["data"]["source"]).name or facts["data"]["source"],
        "seconds": facts["seconds"].get("train", facts["seconds"].get("total")),
        "judged": _judged_by(facts),
        "epochs": sum(phase.get("epochs_run") or 0 for phase in phases),
        "parameters": phases[-1]["total_parameters"] if phases else facts["backbone"]["parameters"],
        "smallest": min(files, key=lambda file: file["size_bytes"], default=None),
        "files": len(files),
        "examples": metrics["examples"] if metrics else 0,
        "measures": _measures(facts, metrics) if metrics else [],
    }
    return summary


def _judged_by(facts: Tree) -> str:
    heads = facts.get("measure", {}).get("heads", [{"name": "accuracy"}])
    return heads[0]["name"] if len(heads) == 1 else "mean of the tasks"


def _measures(facts: Tree, metrics: Tree) -> list[Tree]:
    """What the model is judged by, a row a task; an interval where it is a share of the examples."""
    heads = facts.get("measure", {}).get("heads", [{"name": "accuracy", "key": "accuracy"}])
    tasks = list(metrics["tasks"].items()) if "tasks" in metrics else [("", metrics)]
    rows = []
    for (task, measured), head in zip(tasks, heads, strict=True):
        value, key = measured[head["key"]], head["key"]
        shares = key == "accuracy" and measured["examples"]
        low, high = wilson(value, measured["examples"]) if shares else (None, None)
        seeds = facts.get("test_by_seed")
        by_seed = (
            [(f["tasks"][task] if task else f)[key] for f in seeds]
            if seeds
            else facts.get("test_accuracy_by_seed") or []
        )
        by_seed = [seed for seed in by_seed if seed is not None]
        name = f"{task} {head['name']}".strip()
        rows.append({"name": name, "key": key, "value": value, "low": low, "high": high, "by_seed": by_seed})
    return rows


def _text(facts: Tree, shown: Tree | None) -> Tree | None:
    """What a run for text shows of its sentences."""
    from markupsafe import Markup

    if shown is None:
        return None
    lengths = [np.array(counts) for counts in shown["lengths"].values()]
    total = np.zeros(max(map(len, lengths)), int)
    for counts in lengths:
        total[: len(counts)] += counts
    reached = np.cumsum(total) / total.sum()
    splits = facts["data"]["splits"]
    return {
        **shown,
        "samples": dict(list(shown["samples"].items())[:MOST_LABELS]),
        "lengths": Markup(figures.histogram("lengths", shown["lengths"], "tokens", "share of the sentences")),
        "median": int(np.searchsorted(reached, 0.5)),
        "most": int(np.searchsorted(reached, 0.95)),
        "truncated": sum(split["truncated"] for split in splits.values()),
        "counts": {name: split["per_label"] for name, split in splits.items()},
    }


def _verdict(verdict: Tree | None) -> Tree | None:
    """The verdict with a plain judgement: transfer won or lost only when every seed says so."""
    if not verdict:
        return None
    gains = verdict["gain_points"]
    won = sum(gain > 0 for gain in gains)
    judgement = "won" if won == len(gains) else "lost" if all(gain < 0 for gain in gains) else "undecided"
    sides = [
        {
            "name": name,
            "accuracy": verdict[key]["accuracy"],
            "mean": float(np.mean(verdict[key]["accuracy"])),
            "seconds": float(np.mean(verdict[key]["seconds"])),
        }
        for key, name in (("transfer", "Transfer"), ("scratch", "From random weights"))
    ]
    by_seed = [f"{gain:+.1f}" for gain in gains]
    said = {"text": verdict["text"], "judgement": judgement, "won": won}
    return {**said, "gains": gains, "gains_by_seed": by_seed, "sides": sides}


def _data(data: Tree, labels: Sequence[str], samples: Tree | None) -> Tree:
    splits = [
        {
            "name": name,
            "examples": split["examples"],
            "counts": [split["per_label"].get(label, 0) for label in labels],
            "made": name in data["made_splits"],
        }
        for name, split in data["splits"].items()
    ]
    lacking = {
        split["name"]: [label for label, n in zip(labels, split["counts"], strict=True) if not n] for split in splits
    }
    shown = labels[:MOST_LABELS]
    each = max(1, min(4, MOST_SAMPLES // max(1, len(shown))))
    cards = [
        {
            "label": label,
            "counts": [(split["name"], split["counts"][index]) for split in splits],
            "pictures": [
                figures.picture(image, SAMPLE_SIDE)
                for image in (samples["images"][samples["labels"] == index][:each] if samples else ())
            ],
        }
        for index, label in enumerate(shown)
    ]
    return {"splits": splits, "lacking": {k: v for k, v in lacking.items() if v}, "cards": cards}


def _curves(history: Mapping[str, Sequence] | None) -> list[Tree]:
    """Accuracy and loss against the epoch, each with a sentence for those who cannot see it."""
    from markupsafe import Markup

    if not history or not history["phase"]:
        return []
    curves = []
    keys = [key for key in history if f"val_{key}" in history]
    for key in sorted(keys, key=lambda key: "loss" in key):
        name, percent = key.replace("_", " ").capitalize(), "accuracy" in key
        train, validation = history[key], history[f"val_{key}"]
        if np.isnan([*train, *validation]).all():
            continue
        # matplotlib escapes the phases' names; everything else in the drawing is ours.
        svg = Markup(figures.curve(key, train, validation, history["phase"], percent))
        ends = {"training": _last(train), "validation": _last(validation)}
        curves.append({"name": name, "svg": svg, "percent": percent, "ends": ends})
    return curves


def _adaptation(adaptation: Tree | None, places: Tree | None) -> Tree | None:
    """The methods with means and ranges over the seeds, and the features before and after."""
    from markupsafe import Markup

    if adaptation is None:
        return None
    keys = ("accuracy", "labelled", "information", "iwv", "seconds")
    rows = []
    for method in dict.fromkeys(row["method"] for row in adaptation["rows"]):
        of = [row for row in adaptation["rows"] if row["method"] == method]
        values = {key: [row[key] for row in of] for key in keys if of[0][key] is not None}
        spans = {key: {"mean": float(np.mean(v)), "low": min(v), "high": max(v)} for key, v in values.items()}
        rows.append({"method": method, "seeds": len(of), "chosen": method == adaptation["chosen"]["method"], **spans})
    maps = [
        (name, Markup(figures.feature_map(f"map-{name}", places[name], places["domain"], places["label"])))
        for name in (("before", "after") if places is not None else ())
    ]
    return {**adaptation, "methods": rows, "maps": maps}


def _sweeps(phases: Sequence[Tree]) -> list[Tree]:
    """The curve of each phase for which learning rates were swept."""
    from markupsafe import Markup

    found = [(phase["name"], phase["rate_finder"]) for phase in phases if phase.get("rate_finder")]
    return [
        {
            "phase": name,
            "suggested": sweep["suggested"],
            "svg": Markup(figures.sweep(f"sweep-{i}", sweep["rates"], sweep["losses"], sweep["suggested"])),
        }
        for i, (name, sweep) in enumerate(found)
    ]


def _last(values: Sequence[float]) -> float | None:
    return next((value for value in reversed(values) if not math.isnan(value)), None)


def _confusion(confusion: Tree | None, labels: Sequence[str]) -> Tree | None:
    if not confusion:
        return None
    labels = confusion.get("labels", labels)
    matrix = np.asarray(confusion["matrix"], "int64")
    if matrix.shape != (len(labels), len(labels)):
        raise KeyError(f"a confusion matrix of {len(labels)} x {len(labels)}, it is {matrix.shape}")
    return {"split": confusion["split"], **figures.confusion_table(matrix, labels, MOST_LABELS)}


def _per_class(metrics: Tree | None, labels: Sequence[str]) -> list[Tree]:
    """A table a task, a row a label, the lowest F1 first: what needs work is read first."""
    if not metrics:
        return []
    tables = []
    for task, measured in metrics.get("tasks", {"": metrics}).items():
        per_class = measured["per_class"]
        if per_class:
            order = labels if set(per_class) <= set(labels) else per_class
            tables.append({"task": task, "spans": "entities" in measured, **_label_rows(per_class, order)})
    return tables


def _label_rows(per_class: Tree, labels: Sequence[str]) -> Tree:
    """Without examples a label has no figures."""
    rows = [{"label": label, **per_class[label]} for label in labels if label in per_class]
    for row in rows:
        if not row["examples"]:
            row |= {"precision": None, "recall": None, "f1": None}
    rows.sort(key=lambda row: (row["f1"] is None, row["f1"] or 0.0))
    return {"rows": rows[:MOST_LABELS], "all": len(rows)}


def _mistakes(mistakes: Tree | None, labels: Sequence[str]) -> list[Tree]:
    if not mistakes:
        return []
    heatmaps = mistakes.get("heatmaps")
    cards = []
    for index, image in enumerate(mistakes["images"][:MOST_MISTAKES]):
        heat = None if heatmaps is None else heatmaps[index]
        cards.append(
            {
                "picture": figures.picture(image, MISTAKE_SIDE),
                "heat": None if heat is None else figures.heat_picture(image, heat, MISTAKE_SIDE),
                "hottest": None if heat is None else figures.hottest_place(heat),
                "truth": labels[mistakes["truth"][index]],
                "predicted": labels[mistakes["predicted"][index]],
                "probability": float(mistakes["probability"][index]),
                "name": str(mistakes["names"][index]),
            }
        )
    return cards


def _export(manifest: Tree | None) -> list[Tree]:
    """A row a file; one that could not be written has only its format and an error."""
    keys = ("path", "size_bytes", "sha256", "seconds", "parity", "accuracy", "latency_ms", "peak_memory_bytes", "error")
    keys += ("skipped", "reason", "requested", "precision", "attempts", "operators", "flex", "custom", "format_version")
    blank = dict.fromkeys(keys)
    return [{**blank, **file} for file in (manifest or {"files": ()})["files"]]


def _if_there(read: Callable[[Path], Tree], path: Path) -> Tree | None:
    return read(path) if path.is_file() else None


def _history(path: Path) -> Mapping[str, Sequence] | None:
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        numbers = [key for key in (rows[0] if rows else ()) if "loss" in key or "accuracy" in key]
        columns = {key: [float(row.get(key) or "nan") for row in rows] for key in numbers}
        return columns | {"phase": [row["phase"] for row in rows]}
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"'{path}' is no history of epochs: {error}") from error


def _blank(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if _blank(share) else f"{100 * share:.{digits}f}\u202f%"


def _duration(seconds: float | None) -> str:
    if _blank(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.2g}\u202fs" if seconds < 10 else f"{seconds:.0f}\u202fs"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u202fh {minutes}\u202fmin" if hours else f"{minutes}\u202fmin {seconds}\u202fs"


def _scaled(count: float | None, units: Sequence[str]) -> str:
    """Three digits and a unit of thousands: 2,257,984 -> "2.26 M"."""
    if _blank(count):
        return "–"
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.{3 if power else 4}g}\u202f{units[power]}".strip()
