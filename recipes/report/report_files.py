"""The exported files as the report and the card show them: a row a file, and in it one a task."""

from collections.abc import Mapping, Sequence
from typing import Any

from graft.recipes.report.shareable import without_folders
from graft.recipes.report.wording import file_check

__all__ = ["figure_names", "file_rows", "measured_noun"]

Tree = Mapping[str, Any]

SHOWN = (
    *(
        "format",
        "path",
        "size_bytes",
        "sha256",
        "seconds",
        "parity",
        "latency_ms",
        "peak_memory_bytes",
    ),
    *("error", "skipped", "reason", "requested", "precision", "attempts", "operators", "flex"),
    *("custom", "format_version", "raw_text"),
)
"""What a row has, None where the manifest has nothing: of a file that could not be written only its
format and an error are known.
"""


def measured_noun(manifest: Tree | None, noun: str) -> str:
    """What the files were measured on, in the plural: "validation images"; without a split
    "images".
    """
    split = ((manifest or {}).get("measured_on") or {}).get("split")
    return f"{split} {noun}s" if split else f"{noun}s"


def file_rows(manifest: Tree | None, noun: str) -> list[dict]:
    """The files of a manifest.

    Args:
        manifest: as `export.manifest.read_manifest` gives it; None if nothing was exported.
        noun: what one example is: "image" or "sentence".

    Returns:
        A dict a file: the keys `SHOWN`, and
        "outputs": a dict a task, see `_output`; empty where nothing was measured;
        "check": "status" and "text" of the file as a whole;
        "difference": the largest difference of an output from Keras's, at any batch size, or None;
        "note": what to say below the row, or "".
    """
    examples = measured_noun(manifest, noun)
    return [_row(file, examples) for file in (manifest or {"files": ()})["files"]]


def _row(file: Tree, examples: str) -> dict:
    row = {**dict.fromkeys(SHOWN), **file}
    measured = file.get("accuracy_of_outputs") or {}
    if not measured and file.get("accuracy"):
        measured = {"": file["accuracy"]}
    parity = file.get("parity") or {}
    differences = [parity.get(key) for key in ("max_abs_diff", "batch_1_diff")]
    note = file.get("error") or file.get("skipped") or file.get("reason") or ""
    attempts = [{**a, "check": file_check(a, examples)} for a in file.get("attempts") or ()]
    return row | {
        "accuracy": file.get("accuracy"),
        "outputs": [_output(task, figures, examples) for task, figures in measured.items()],
        "check": file_check(file, examples),
        "difference": max((d for d in differences if d is not None), default=None),
        "note": without_folders(note).rstrip("."),
        "attempts": attempts,
    }


def _output(task: str, figures: Tree, examples: str) -> dict:
    """One task of a file: "task" ("" where there is one alone), "figure", "key", "check", and the
    figures.

    Manifests before schema 3 do not name the figure. Of values and vectors they state how far the
    file agrees with Keras, which is no accuracy.
    """
    old = "agreement with Keras" if figures.get("truth") == "keras" else "accuracy"
    return {
        "task": task,
        "figure": figures.get("figure") or old,
        "key": figures.get("key") or "accuracy",
        "check": file_check(figures, examples),
        **{
            name: figures.get(name)
            for name in ("value", "interval", "drop_points", "drop_interval", "calibration_error")
        },
    }


def figure_names(rows: Sequence[Tree]) -> list[str]:
    """The figures that the outputs of `rows` are measured by, each once."""
    return list(dict.fromkeys(output["figure"] for row in rows for output in row["outputs"]))
