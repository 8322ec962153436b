"""How pages and cards write figures, durations and judgements."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from graft.zoo.fits import ImageShape
from graft.zoo.heads.table import in_percent

__all__ = [
    "as_measured",
    "byte_size",
    "decision",
    "duration",
    "file_check",
    "further_figures",
    "further_text",
    "image_size",
    "judgement",
    "metric_name",
    "parameter_count",
    "percent",
    "points",
    "span",
    "verdict_text",
]

Tree = Mapping[str, Any]

SECONDS_UP_TO = 90
"""Durations below this are seconds, longer ones minutes."""

FURTHER = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC (ROC)",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "binary_accuracy": "binary accuracy",
    "exact_match": "exact match",
}
"""Figures that stand beside the one that a model is judged by: key in run.json -> name."""

HEADINGS = {
    "gained": "▲ {subject} gained",
    "lost": "▼ {subject} lost",
    "undecided": "◆ Cannot be told apart",
    "one_seed": "◆ One seed cannot tell",
}
"""What stands above a comparison, by its decision."""


def percent(share: float | None, digits: int = 1) -> str:
    """A share, 0 to 1, in percent; a dash where it is not known."""
    return "–" if _blank(share) else f"{100 * share:.{digits}f}\u202f%"


def as_measured(value: float | None, key: str = "") -> str:
    """A figure by its `key` in run.json: a share in percent, another one (R²) as a number."""
    if in_percent(key) or _blank(value):
        return percent(value)
    return f"{round(value, 2) + 0.0:.2f}"


def span(interval: Sequence[float], key: str = "") -> str:
    """The interval of a figure as `as_measured` writes it, without the sign of percent."""
    return " to ".join(
        f"{100 * bound:.1f}" if in_percent(key) else as_measured(bound, key) for bound in interval
    )


def duration(seconds: float | None) -> str:
    """Seconds below 90 s, then minutes, then hours and minutes."""
    if _blank(seconds):
        return "–"
    if round(seconds) < SECONDS_UP_TO:
        return f"{seconds:.2g}\u202fs" if seconds < 9.95 else f"{seconds:.0f}\u202fs"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}\u202fh {minutes}\u202fmin"
    return f"{minutes}\u202fmin {seconds}\u202fs" if seconds else f"{minutes}\u202fmin"


def byte_size(count: float | None) -> str:
    """Bytes."""
    return _scaled(count, ("B", "kB", "MB", "GB"))


def image_size(data: Tree) -> str:
    """Height and width of the images of a run, of its run.json's "data"."""
    shape = ImageShape.of(data["image_size"])
    return f"{shape.height} × {shape.width}"


def parameter_count(count: float | None) -> str:
    """A number of parameters."""
    return _scaled(count, ("", "k", "M", "G"))


def points(value: float) -> str:
    """A difference in points with its sign; nothing is "-0.0"."""
    return f"{round(value, 1) + 0.0:+.1f}"


def metric_name(key: str, kind: str) -> str:
    """What a column of history.csv measures, in words.

    Args:
        key: the column, without "val_": "loss", "accuracy", or with the task before it, as
            "slots_accuracy".
        kind: what the head is judged by ("accuracy", "f1", ...), or "" where it is not known. The
            accuracy of a tagger or of several labels is another figure than the one it is judged
            by.
    """
    of = {"f1": "token_accuracy", "average_precision": "binary_accuracy"}
    names = {"token_accuracy": "token accuracy", "binary_accuracy": "binary accuracy"}
    metric = next(
        (m for m in (*names, "accuracy", "loss") if key == m or key.endswith(f"_{m}")), key
    )
    task = key.removesuffix(metric).removesuffix("_")
    metric = of.get(kind, metric) if metric == "accuracy" else metric
    name = names.get(metric, metric.replace("_", " "))
    return f"{task}: {name}" if task else name


def further_figures(measured: Tree, key: str) -> list[tuple[str, float | None]]:
    """The figures of `measured`, a split or a task, beside the one that it is judged by, `key`:
    `(name, value)`.
    """
    return [(name, measured[k]) for k, name in FURTHER.items() if k in measured and k != key]


def further_text(measured: Tree, key: str) -> str:
    """The same as a line: "balanced accuracy 0.812, AUC (ROC) 0.900 (positive class: 'spam')"; ""
    where there are none.
    """
    parts = [
        f"{name} {'not known' if value is None else f'{value:.3f}'}"
        for name, value in further_figures(measured, key)
    ]
    positive = (
        f" (positive class: '{measured['positive_class']}')" if "positive_class" in measured else ""
    )
    return ", ".join(parts) + positive


# --------------------------------------------------------------------------------------------------
# Judgements


def decision(compared: Tree) -> str | None:
    """What a comparison may claim: a key of `HEADINGS`, or None where it has no figures.

    Runs of before state the gains of the seeds alone; one seed then decides nothing.
    """
    if compared.get("decision"):
        return compared["decision"]
    gains = compared.get("gain_points") or []
    if len(gains) < 2:
        return "one_seed" if gains else None
    return "gained" if min(gains) > 0 else "lost" if max(gains) < 0 else "undecided"


def judgement(compared: Tree, subject: str) -> dict:
    """A comparison as a page shows it.

    Args:
        compared: "verdict", an entry of "sharing" or of the adaptation's "verdicts" of run.json.
        subject: what is compared with its baseline: "Transfer", "Sharing", the name of a method.

    Returns:
        "decision" (see `decision`), "heading", "text" (a sentence without a full stop), "gain"
        (mean in points or None), "by_seed" and "interval" (both as text, "" where there is none).
    """
    said, gains = decision(compared), compared.get("gain_points") or []
    text = compared["text"].rstrip(".")
    if said == "one_seed" and "decision" not in compared:
        text = (
            f"{subject}: {points(gains[0])} points on one seed, which cannot tell a gain from "
            "chance"
        )
        text = f"{compared['task']}: {text[:1].lower()}{text[1:]}" if "task" in compared else text
    interval = compared.get("interval")
    return {
        "decision": said,
        "heading": HEADINGS[said].format(subject=subject) if said else "",
        # The names of tasks and methods stay as they are written.
        "text": text[:1].upper() + text[1:]
        if subject[:1].isupper() and "task" not in compared
        else text,
        "gain": sum(gains) / len(gains) if gains else None,
        "by_seed": ", ".join(points(gain) for gain in gains) if len(gains) > 1 else "",
        "interval": f"{points(interval[0])} to {points(interval[1])}" if interval else "",
    }


def verdict_text(verdict: Tree) -> str:
    """The judgement of transfer against training from scratch; runs of before said "0.1 minutes" of
    a few seconds.
    """
    transfer, scratch = (verdict[side]["seconds"] for side in ("transfer", "scratch"))
    apart = abs(sum(scratch) / len(scratch) - sum(transfer) / len(transfer))
    text = judgement(verdict, "Transfer")["text"]
    return re.sub(r"(saved|cost) [\d.]+ minutes", rf"\1 {duration(apart)}", text)


def file_check(row: Tree, noun: str) -> dict:
    """The check of a file, or of one of its outputs, in words.

    Args:
        row: has "status" ("pass", "undecided", "fail" or "skipped") or, as the attempts of older
            manifests, "passed" alone.
        noun: what was measured on, in the plural: "validation images".

    Returns:
        "status" and "text".
    """
    status = row.get("status")
    if status is None:
        status = (
            "fail" if not row.get("passed") else "undecided" if row.get("undecided") else "pass"
        )
    if status != "undecided":
        return {"status": status, "text": "FAIL" if status == "fail" else status}
    measured = row.get("accuracy") or row
    count, enough = measured.get("examples"), measured.get("enough_examples")
    text = f"undecided: {count:,} {noun} cannot tell" if count else "undecided"
    return {"status": status, "text": text + (f"; about {enough:,} would" if enough else "")}


def _blank(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _scaled(count: float | None, units: Sequence[str]) -> str:
    """Three digits and a unit of thousands: 2,257,984 -> "2.26 M"."""
    if _blank(count):
        return "–"
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.{3 if power else 4}g}\u202f{units[power]}".strip()
