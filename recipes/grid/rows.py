"""A finished run, one that diverged or one that died -> its row in the table of a grid."""

import base64
import csv
import math
import platform
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graft.recipes.grid.jobs import Outcome
from graft.recipes.grid.plan import Cell
from graft.recipes.report.run_file import read_run
from graft.recipes.train.budget import MARKS as LOOKED_AT
from graft.zoo.files.reading import read_arrays
from graft.zoo.shown import csv_text

__all__ = [
    "DIVERGED",
    "MARKS",
    "best_until",
    "curve_of",
    "divergence",
    "file_columns",
    "files_in",
    "has_figures",
    "measure_of",
    "missing_files",
    "of_cell",
    "packed",
    "told",
    "units_of",
    "whole_run",
]

OF_FILES = ("tflite_", "onnx_", "savedmodel_", "files_of", "files_missing", "formats", "precisions")
"""How the columns about exported files begin."""
DIVERGED = "diverged"
"""The status of a row whose training exploded: it has the figures of the best epoch, and training
anew would repeat it.
"""
LONGEST_CELL = 100_000
"""Characters in a cell of bench.csv; Python's csv refuses to read more than 131,072."""
MARKS = (*LOOKED_AT, 1)
"""Shares of a budget of time at which the accuracy so far is kept: of 3 minutes 0.5, 1, 2 and 3."""


def of_cell(cell: Cell, outcome: Outcome, run: Path, budget: float | None) -> dict:
    """The row of `cell`, whose training ended with `outcome` and left the run directory `run`.

    Its status is "done", "failed" where there are no figures, or "diverged": the training exploded,
    which `graft train` says by its exit code, and the figures are those of the best epoch before.
    """
    content = whole_run(outcome.code, run)
    diverged = divergence(content)
    cause = outcome.cause
    if not cause and not content:
        cause = (
            f"it ended well, but '{run}' cannot be seen from here: the nodes of a cluster have to "
            "share that folder"
        )
    status = DIVERGED if diverged else "failed" if cause else "done"
    row = {
        "cell": cell.name,
        "backbone": cell.entry.name,
        "weights": _weights(cell.entry.weights),
        "schedule": cell.schedule,
        "fraction": cell.fraction,
        "seed": cell.seed,
        "status": status,
        "cause": diverged or cause,
    }
    if status == "failed":
        return row | {"peak_memory_bytes": outcome.peak_memory_bytes, "machine": outcome.machine}
    measure = measure_of(content)
    phases = content["schedule"]["phases"]
    points = _points(run / "history.csv", content, measure["key"])
    row |= {
        "measure": measure["name"],
        "validation": content["metrics"]["validation"][measure["key"]],
        "test": content["metrics"]["test"][measure["key"]],
        "validation_loss": content["metrics"]["validation"].get("loss"),
        "test_loss": content["metrics"]["test"].get("loss"),
        "train_examples": content["data"]["splits"]["train"]["examples"],
        "test_examples": content["data"]["splits"]["test"]["examples"],
        "train_seconds": content["seconds"]["train"],
        "cached_seconds": sum(phase["cached_seconds"] for phase in phases),
        "phases": "; ".join(
            f"{p['name']} {p['seconds']:.1f} s, {p['epochs_run']} epochs" for p in phases
        ),
        "epochs": sum(phase["epochs_run"] for phase in phases),
        "images_per_second": next(
            phase["images_per_second"] for phase in reversed(phases) if phase["epochs_run"]
        ),
        "parameters": content["backbone"]["parameters"],
        "trainable_parameters": max(phase["trainable_parameters"] for phase in phases),
        "curve": " ".join(f"{seconds:.2f}:{value:.6f}" for seconds, value in points),
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "process_seconds": outcome.seconds,
        "test_units": packed(run / "test_units.npz"),
        "machine": f"{outcome.machine}, {platform.machine()}, {_cores()} cores",
        "versions": " ".join(f"{name} {version}" for name, version in content["versions"].items()),
    }
    if budget is not None:
        # The last epoch is measured when its time is up, a little behind it.
        ends = {share: budget * share if share < 1 else math.inf for share in MARKS}
        row |= {
            f"validation_at_{budget * share:g}s": best_until(points, end)
            for share, end in ends.items()
        }
    return row


def whole_run(code: int, run: Path) -> dict:
    """The run.json of a training that ended with exit `code`; {} where it left no whole run.

    1 is also the code of a training that diverged, whose run is whole all the same.
    """
    there = code in (0, 1) and (run / "run.json").is_file()
    content = read_run(run) if there else {}
    return content if code == 0 or content.get("diverged") else {}


def divergence(content: Mapping) -> str:
    """What a run.json says of a training that diverged, in a line; "" of one that did not."""
    if not content.get("diverged"):
        return ""
    warnings = content.get("warnings")
    texts = (
        [text for text in warnings if isinstance(text, str)] if isinstance(warnings, list) else []
    )
    return (
        "; ".join([text for text in texts if "diverged" in text] or texts)
        or "the training diverged"
    )


def has_figures(row: Mapping) -> bool:
    """Whether a row can be compared with others: its training was whole, and what it reached are
    numbers.
    """
    return row["status"] in ("done", DIVERGED) and all(
        _finite(row.get(name)) for name in ("validation", "test")
    )


def told(row: Mapping) -> str:
    """How a cell ended, for the terminal."""
    if not has_figures(row):
        return row["cause"] or "it has no figures"
    diverged = ", diverged" if row["status"] == DIVERGED else ""
    return f"{row['measure']} {row['validation']:.3f} (validation){diverged}"


def measure_of(content: Mapping) -> dict:
    """`{"name", "key"}` of the figure that a run is judged by, from its run.json."""
    return next(iter(content["tasks"].values()))["figure"]


def file_columns(manifest: Mapping) -> dict:
    """Size, latency and accuracy of each exported file that passed, as columns: `tflite_int8_ms`
    and the like; and "files_missing", which `missing_files` reads: what became of those that were
    asked for and are not there.
    """
    found, missing = {}, []
    for file in manifest["files"]:
        status = _status_of(file)
        asked = file.get("requested", file.get("precision"))
        made = file.get("precision", asked)
        if status != "pass" or made != asked:
            missing.append(f"{_file_column(file['format'], asked)}={status}={made}")
        if status != "pass":
            continue
        name = _file_column(file["format"], made)
        found[f"{name}_bytes"] = file["size_bytes"]
        if "latency_ms" in file:
            found[f"{name}_ms"] = file["latency_ms"]["one_thread"]["median"]
        found[f"{name}_drop_points"] = file["accuracy"]["drop_points"]
    return found | {"files_missing": " ".join(missing) or None}


def missing_files(row: Mapping) -> dict[str, tuple[str, str]]:
    """By the beginning of its columns ("tflite_int8"), what became of a file that was asked for:
    the status ("pass", "undecided", "fail", "error": it could not be made, "skipped") and precision
    of what was made.
    """
    entries = (entry.split("=") for entry in (row.get("files_missing") or "").split())
    return {name: (status, precision) for name, status, precision in entries}


def _status_of(file: Mapping) -> str:
    if "skipped" in file:
        return "skipped"
    if "accuracy" not in file:
        return "error"
    return file.get("status", "pass" if file["passed"] else "fail")


def _file_column(kind: str, precision: str) -> str:
    return f"{kind}_{precision}".replace("-", "_")


def files_in(row: Mapping) -> dict:
    """The part of a row that is about exported files."""
    return {
        name: value
        for name, value in row.items()
        if name.startswith(OF_FILES) and value is not None
    }


def packed(file: Path) -> str | None:
    """What each test example contributes to the test figure of a run with one seed, as text for a
    cell of the table; None where the run does not hold it, or where it is longer than a cell may
    be: the comparison is then over seeds alone.
    """
    if not file.is_file():
        return None
    (units,) = read_arrays(file)["units"]
    whole = np.array_equal(units, np.round(units)) and np.abs(units).max() < 128  # right or wrong
    content = units.astype(np.int8 if whole else np.float32).tobytes()
    text = ("b" if whole else "f") + base64.b64encode(zlib.compress(content, 9)).decode("ascii")
    return text if len(text) <= LONGEST_CELL else None


def units_of(row: Mapping) -> np.ndarray | None:
    """What `packed` wrote, `(n,)`; None in rows of before."""
    text = row.get("test_units")
    if not text:
        return None
    kind = np.int8 if text[0] == "b" else np.float32
    return np.frombuffer(zlib.decompress(base64.b64decode(text[1:])), kind).astype(float)


def curve_of(row: Mapping) -> list[tuple[float, float]]:
    """(seconds, validation figure) of every epoch of a row."""
    return [tuple(map(float, point.split(":"))) for point in (row.get("curve") or "").split()]


def best_until(points: Sequence[tuple[float, float]], seconds: float) -> float | None:
    """The best figure that was reached by then; None before the first."""
    return max((value for at, value in points if at <= seconds), default=None)


def _points(history: Path, content: Mapping, key: str) -> list[tuple[float, float]]:
    """(seconds, validation figure `key`) after every epoch and at every glance; none where epochs
    do not measure it.
    """
    with history.open(newline="", encoding="utf-8") as file:
        rows = [
            row
            for row in map(_plain, csv.DictReader(file))
            if _finite(row.get(f"val_{key}") or None)
        ]
    glances = [
        g
        for phase in content["schedule"]["phases"]
        for g in phase["glances"]
        if _finite(g.get(key))
    ]
    return sorted(
        [(float(row["elapsed"]), float(row[f"val_{key}"])) for row in rows]
        + [(g["elapsed"], g[key]) for g in glances]
    )


def _finite(value: str | float | None) -> bool:
    return value is not None and math.isfinite(float(value))


def _plain(row: Mapping[str, str]) -> dict[str, str]:
    return {csv_text(name): csv_text(cell) for name, cell in row.items()}


def _weights(spec: str | None) -> str:
    """A path without its folder."""
    return "" if spec is None else Path(spec).name


def _cores() -> int:
    import os

    return os.cpu_count() or 1
