"""`graft measure ARTIFACT...`: size, latency, memory and figure of any files, in one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from graft.recipes.codecs.image_size import ImageSizeOption
from graft.zoo.fits import STRETCH, Fit

if TYPE_CHECKING:
    from graft.recipes.runs.sources import LabelledData
    from graft.zoo.heads.scores import Score

__all__ = ["Options", "command", "measure"]

MEASURED_COLUMNS = (
    *("format", "size_bytes", "latency_ms", "latency_p90_ms", "latency_all_threads_ms", "threads"),
    *("peak_memory_bytes", "figure", "split", "accuracy", "low", "high", "examples", "error"),
)
"""What a row holds beside "path"; None where it is not known."""


@dataclass(frozen=True)
class Options:
    """Measure files one after the other on this machine: each in a process of its own, for one
    image at a time.
    """

    artifacts: Positional[tuple[Path, ...]]
    """Runs, .keras files, SavedModel folders, .tflite or .onnx files; of a folder that `graft
    export` made, all files.
    """
    data: str | None = None
    """Labelled data, as for `graft evaluate`: each file is measured by the figure that its task is
    judged by. Without it no figure is measured.
    """
    split: Literal["train", "validation", "test"] = "test"
    out: Path | None = None
    """A folder for measured.csv and, with --data, measured.png: the figure against latency and
    size.
    """
    overwrite: bool = False
    """Replace the files in that folder."""
    json: bool = False
    """Print JSON."""
    labels: str | None = None
    outputs: Literal["probabilities", "logits", "values"] | None = None
    input_range: Literal["0..255", "0..1", "-1..1"] = "0..255"
    fit: Fit = STRETCH
    image_size: ImageSizeOption = None
    """Of .keras files of your own: as for `graft evaluate`."""
    trust: bool = False
    """Open also what is refused as long as nobody vouches for it: a SavedModel that can do more
    than compute, a .tflite or .onnx file that does not pass its trial. Only for files whose origin
    you know.
    """


def command(arguments: Sequence[str]) -> int:
    """Print the table to stdout; 1 if a file could not be measured (its row says why)."""
    import tyro

    from graft.zoo.terminal import json_shown

    options = tyro.cli(Options, args=arguments, prog="graft measure")
    rows = measure(options)
    if options.json:
        print(json_shown(rows))
    else:
        _print_rows(rows)
    return 1 if any(row["error"] for row in rows) else 0


def measure(options: Options) -> list[dict]:
    """Measure all files that `options` name.

    Returns:
        A row for each file: "path", "format", "size_bytes", "latency_ms" (median, one thread),
        "latency_p90_ms", "latency_all_threads_ms", "threads", "peak_memory_bytes", "split" that was
        measured and its "examples", "figure" (what the task is judged by: "accuracy", "average
        precision", "entity F1", "recall at 1", "R²"; None of several tasks, which have no one
        figure), "accuracy" (its value) with its 95 % interval "low" to "high", "error".

    Raises:
        ConfigError: there is nothing to measure; options for files of your own, and there is none;
            `out` is a file, or holds tables already.
        ArtifactError: an artifact does not exist.
    """
    from graft.export.sessions import is_own_model
    from graft.recipes.commands import own_model
    from graft.recipes.report.drawing import trade_off
    from graft.recipes.runs.sources import LabelledData
    from graft.zoo.errors import ConfigError
    from graft.zoo.files.staging import staged_file
    from graft.zoo.files.writing import write_csv
    from graft.zoo.heads.own_outputs import MEANING_OPTIONS
    from graft.zoo.terminal import progress

    files = [file for artifact in options.artifacts for file in _files_of(artifact)]
    if not files:
        raise ConfigError("nothing to measure: give runs or exported files")
    if own_model.is_told(options) and not any(map(is_own_model, files)):
        raise ConfigError(f"{MEANING_OPTIONS} are for .keras files of your own: there is none")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out '{options.out}' is a file: give a folder")
    targets = (
        [options.out / name for name in ("measured.csv", "measured.png")] if options.out else []
    )
    for target in targets:
        if target.exists() and not options.overwrite:
            raise ConfigError(
                f"'{target}' exists already: --overwrite replaces it, or give another --out"
            )
    rows = []
    data = None if options.data is None else LabelledData(options.data, {})
    with progress("measure", len(files)) as advance:
        for file in files:
            rows.append(_measured_row(file, options, data))
            advance(note=file.name)
    if options.out:
        write_csv(targets[0], rows)
        if any(row["accuracy"] is not None for row in rows):
            with staged_file(targets[1]) as path:
                trade_off.draw(path, [row for row in rows if row["accuracy"] is not None])
    return rows


def _files_of(artifact: Path) -> list[Path]:
    from graft.export.manifest import MANIFEST_NAME, read_manifest
    from graft.zoo.errors import ArtifactError

    if not artifact.exists():
        raise ArtifactError(f"there is no artifact '{artifact}'")
    if not (artifact / MANIFEST_NAME).is_file():
        return [artifact]
    return [artifact / row["path"] for row in read_manifest(artifact)["files"] if row.get("path")]


def _measured_row(file: Path, options: Options, data: "LabelledData | None") -> dict:
    """What is measured of a file; `data` are those of the options."""
    from graft.export.manifest import size_bytes
    from graft.export.probe import measure_file
    from graft.export.sessions import is_own_model
    from graft.export.untrusted.checks import check_untrusted
    from graft.recipes.commands import evaluate
    from graft.zoo.errors import ArtifactError, CheckFailed

    row = {"path": str(file), **dict.fromkeys(MEASURED_COLUMNS)}
    folder = "savedmodel" if (file / "saved_model.pb").is_file() else "run"
    row["format"] = folder if file.is_dir() else file.suffix.lstrip(".")
    try:
        held = file / "model.keras" if row["format"] == "run" else file
        if not held.exists():
            raise ArtifactError(f"there is no '{held}'")
        row["size_bytes"] = size_bytes(held)
        check_untrusted(file, options.trust)
        facts = measure_file(file, options.image_size if is_own_model(file) else None)
        one, every = facts["latency_ms"]["one_thread"], facts["latency_ms"]["all_threads"]
        row |= {
            "latency_ms": one["median"],
            "latency_p90_ms": one["p90"],
            "latency_all_threads_ms": every["median"],
            "threads": every["threads"],
            "peak_memory_bytes": facts["peak_memory_bytes"],
        }
        if data is not None:
            asked = evaluate.Options(artifact=file, data=data.data, split=options.split, trust=True)
            if is_own_model(file):
                asked = replace(
                    asked,
                    labels=options.labels,
                    outputs=options.outputs,
                    input_range=options.input_range,
                    fit=options.fit,
                    image_size=options.image_size,
                )
            row |= _figure_columns(*evaluate.judge(asked, data))
    except (ArtifactError, CheckFailed) as error:
        row["error"] = str(error)
    return row


def _figure_columns(result: Mapping, score: "Score | None") -> dict:
    """The columns of a row that are about a figure, of what `evaluate.judge` gives."""
    from graft.export.intervals import interval

    columns = {"split": result["split"], "examples": result["examples"]}
    if score is None:  # several tasks: `graft evaluate` tells theirs
        return columns
    columns["figure"] = score.name
    if not math.isnan(score.value):
        low, high = interval(score) or (score.value,) * 2
        columns |= {"accuracy": score.value, "low": low, "high": high}
    return columns


def _print_rows(rows: Sequence[Mapping]) -> None:
    from rich.table import Table

    from graft.zoo.terminal import draw, table_row

    titles = ("file", "MB", "ms, 1 thread", "p90", "ms, all", "peak MB", "split", "figure")
    table = Table(*titles, "value (95 %)")
    for row in rows:
        if row["error"]:
            table_row(table, row["path"], *[""] * 7, row["error"])
            continue
        milliseconds = [
            row[key] for key in ("latency_ms", "latency_p90_ms", "latency_all_threads_ms")
        ]
        figures = (row["size_bytes"] / 1e6, *milliseconds, row["peak_memory_bytes"] / 1e6)
        cells = [f"{figure:.2f}" for figure in figures]
        cells += [row["split"] or "", row["figure"] or "", _figure_text(row)]
        table_row(table, row["path"], *cells)
    draw(table)


def _figure_text(row: Mapping) -> str:
    """The figure of a file with its interval, "not known" where the data cannot tell it."""
    if row["figure"] is None:
        return ""
    if row["accuracy"] is None:
        return "not known"
    return f"{row['accuracy']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
