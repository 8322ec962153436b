"""What `graft bench` leaves for people: bench.html (one file), bench.png and bench.md, from nothing
but the rows.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from graft.recipes.adapt import transferability
from graft.recipes.grid import analysis, plots
from graft.recipes.grid.ledger import columns
from graft.recipes.grid.rows import DIVERGED, has_figures, missing_files
from graft.recipes.report.drawing.templates import page_templates
from graft.zoo.files.staging import staged_file
from graft.zoo.files.writing import write_text
from graft.zoo.shown import markdown, markdown_code

__all__ = ["shipped", "trust", "write"]

PREFERRED = (
    *(
        f"{kind}_{precision}"
        for kind in ("tflite", "onnx")
        for precision in ("int8", "dynamic", "float32")
    ),
    "savedmodel_float32",
)
"""Which file stands for what ships, the first that there is."""
MISSING = {"error": "it could not be made", "skipped": "there is none of such a model"}
"""Why there is no file, by what `missing_files` says."""
UNDECIDED = "the validation examples cannot tell whether it lost too much"


def write(
    folder: Path, facts: Mapping, rows: Sequence[Mapping], suggested: Sequence[Mapping] = ()
) -> list[str]:
    """Write the three files into `folder`; returns the sentences that a person can act on.

    `facts` holds "data", what the data is called, and "command"; `suggested` the rows of
    `recipes.grid.suggest`, for how far its scores can be trusted.
    """
    found = analysis.groups(rows)
    full = analysis.with_all_labels(found)
    gains = analysis.gains(found)
    latency, size = shipped(rows)
    measure = next((row["measure"] for row in rows if row.get("measure")), "accuracy")
    said = analysis.sentences(found, latency, size)
    context = {
        "facts": facts,
        "measure": measure,
        "sentences": said,
        "gains": [gain.text for gain in gains if gain.fraction == 1],
        "fractions": _fractions(found, gains),
        "failed": [row for row in rows if row["status"] not in ("done", DIVERGED)],
        "diverged": [row for row in rows if row["status"] == DIVERGED],
        "table": _table(full, latency, size),
        "size": size and size.removesuffix("_bytes").replace("_", " "),
        "shipped_file": _file_of(size),
        "without_file": _without_file(full, size),
        "crowded": any((row.get("workers") or 1) > 1 for row in rows),
        "trust": trust(full, suggested),
        "scores": transferability.SCORES,
        "suggested": suggested,
        "marks": columns(rows, "validation_at_"),
        "groups": full,
        "machine": next((row["machine"] for row in rows if has_figures(row)), ""),
        "versions": next((row["versions"] for row in rows if has_figures(row)), ""),
        "count": len(rows),
    }
    if full:
        with staged_file(folder / "bench.png") as path:
            plots.draw(path, full, measure, latency, size)
        context["plot"] = _encoded(folder / "bench.png")
    if context["fractions"]:
        with staged_file(folder / "labels.png") as path:
            plots.draw_labels(path, found, measure)
        context["curves"] = _encoded(folder / "labels.png")
    write_text(folder / "bench.md", _rendered("bench.md.jinja", context, escape=False))
    write_text(folder / "bench.html", _rendered("bench.html.jinja", context, escape=True))
    return said


def shipped(rows: Sequence[Mapping]) -> tuple[str | None, str | None]:
    """The columns with latency and size of the file that stands for what ships: one that as many
    backbones have as any.
    """
    having = {
        name: {row["backbone"] for row in rows if row.get(f"{name}_bytes") is not None}
        for name in PREFERRED
    }
    name = max(PREFERRED, key=lambda name: len(having[name]))  # the first of equals
    if not having[name]:
        return None, None
    latency = f"{name}_ms"
    return latency if columns(rows, latency) else None, f"{name}_bytes"


def _file_of(size: str | None) -> str | None:
    """The file that a column of sizes is of: "tflite_int8_bytes" -> "model.int8.tflite"."""
    if size is None:
        return None
    kind, _, precision = size.removesuffix("_bytes").partition("_")
    return _file_name(kind, precision.replace("_", "-"))


def _file_name(kind: str, precision: str) -> str:
    if kind == "savedmodel":
        return kind
    return f"model.{kind}" if precision == "float32" else f"model.{precision}.{kind}"


def _without_file(full: Sequence[analysis.Group], size: str | None) -> dict[str, str]:
    """Why the backbones that have no figure in the column `size` have none."""
    if size is None:
        return {}
    name = size.removesuffix("_bytes")
    lacking = {}
    for group in full:
        if group.figure(size) is None:
            found = next(
                (known[name] for known in map(missing_files, group.rows) if name in known), None
            )
            lacking[group.backbone] = _why_missing(name, found)
    return lacking


def _why_missing(name: str, found: tuple[str, str] | None) -> str:
    """What became of the file whose columns begin with `name`; see `missing_files`."""
    if found is None:
        return "the table holds none that passed"
    status, precision = found
    kind, _, asked = name.partition("_")
    if status in MISSING:
        return MISSING[status]
    judged = {"pass": "", "undecided": f", and {UNDECIDED}", "fail": ", and did not pass"}[status]
    if precision.replace("-", "_") != asked:
        return f"{_file_name(kind, precision)} took its place{judged}"
    return f"it was made{judged}"


def trust(full: Sequence[analysis.Group], suggested: Sequence[Mapping]) -> dict[str, dict | None]:
    """For each score: how it agrees, over the backbones, with what the best transfer schedule
    reached on validation data.
    """
    reached: dict[str, float] = {}
    for group in full:
        if group.schedule != analysis.BASELINE:
            reached[group.backbone] = max(group.validation.mean, reached.get(group.backbone, 0.0))
    return {
        score: analysis.correlation({row["backbone"]: row.get(score) for row in suggested}, reached)
        for score in transferability.SCORES
    }


def _table(full: Sequence[analysis.Group], latency: str | None, size: str | None) -> list[dict]:
    costs = {"time": lambda g: g.time}
    for name, column in (("latency", latency), ("size", size)):
        if column:
            costs[name] = lambda g, column=column: g.figure(column)
    fronts = {name: set(map(id, analysis.front(full, cost))) for name, cost in costs.items()}
    return [
        {
            "group": group,
            "front": ", ".join(name for name, front in fronts.items() if id(group) in front),
            "latency": latency and group.figure(latency),
            "size": size and group.figure(size),
            "memory": group.figure("peak_memory_bytes"),
            "parameters": group.figure("parameters"),
        }
        for group in full
    ]


def _fractions(found: Sequence[analysis.Group], gains: Sequence[analysis.Gain]) -> list[dict]:
    """A row a backbone and share of the labels: the best transfer schedule, scratch, and what lies
    between.
    """
    if {group.fraction for group in found} == {1.0}:
        return []
    by_key = {(g.backbone, g.schedule, g.fraction): g for g in found}
    return [
        {
            "gain": gain,
            "transfer": by_key[gain.backbone, gain.schedule, gain.fraction],
            "scratch": by_key[gain.backbone, analysis.BASELINE, gain.fraction],
        }
        for gain in sorted(gains, key=lambda gain: (gain.backbone, gain.fraction))
    ]


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _rendered(name: str, context: Mapping, escape: bool) -> str:
    environment = page_templates(Path(__file__).parent, escape=escape)
    environment.filters |= {
        "cell": markdown,
        "code": markdown_code,
        "spread": _spread,
        "percent": lambda value: "–" if value is None else f"{100 * value:.1f}",
        "figure": lambda value, digits=1: "–" if value is None else f"{value:,.{digits}f}",
    }
    return environment.get_template(name).render(context)


def _spread(values: analysis.Interval) -> str:
    """ "87.9 (87.2 to 88.6)": the mean and the range over the seeds, in hundredths."""
    if values.count == 1:
        return f"{100 * values.mean:.1f}"
    return f"{100 * values.mean:.1f} ({100 * values.low:.1f} to {100 * values.high:.1f})"
