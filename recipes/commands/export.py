"""`graft export RUN`: SavedModel, TFLite and ONNX, each reopened from disk and measured as a
file.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from graft.recipes.codecs.image_size import ImageSizeOption
from graft.recipes.commands import own_model, subjects
from graft.recipes.commands.file_lines import file_lines
from graft.zoo.fits import STRETCH, Fit
from graft.zoo.heads.own_outputs import MEANING_OPTIONS
from graft.zoo.processes import telling

if TYPE_CHECKING:
    import keras

    from graft.export.judge import Subject

__all__ = ["Options", "command", "export", "folder_of"]

Format = Literal["savedmodel", "tflite", "onnx"]
Precision = Literal["none", "float16", "dynamic", "int8", "int8-full"]


@dataclass(frozen=True)
class Options:
    """Write a run as files that other runtimes open, and measure each of them on validation
    images.
    """

    run: Positional[Path]
    """The run directory, or a .keras file of your own that takes images."""
    formats: tuple[Format, ...] = ("savedmodel", "tflite", "onnx")
    quantize: tuple[Precision, ...] = ()
    """Beside float32, smaller TFLite and ONNX files: float16, dynamic (8-bit weights), int8
    (weights and activations), int8-full (inputs and outputs too, for accelerators).
    """
    max_drop: float = 1.0
    """Points that a file may lose against Keras, of the figure that its task is judged by:
    accuracy, average precision, entity F1, recall at 1 or R², each x 100.
    """
    prefer: Literal["latency", "size"] = "latency"
    """Where int8 or float16 loses more than that: which of the other files that pass to keep, the
    quickest or the smallest.
    """
    accept_undecided: bool = False
    """End with exit code 0 also where a file lost more than --max-drop and the examples are too few
    to tell it from chance.
    """
    explain: bool = False
    """Also print what each layer alone loses in int8."""
    data: str | None = None
    """Where the data lies now. Default: where the run was trained from; a .keras file has none."""
    labels: str | None = None
    """Of a .keras file: a text file, one label a line in the order of the outputs, or a,b,c; of a
    model with one output two labels, of which it gives the probability of the second. Default:
    labels.txt beside it.
    """
    outputs: Literal["probabilities", "logits", "values"] | None = None
    """Of a .keras file: what its numbers are. Behind logits a softmax is added, behind a single one
    a sigmoid. Default: what its last layer tells.
    """
    input_range: Literal["0..255", "0..1", "-1..1"] = "0..255"
    """Of a .keras file: the pixels that it expects. The files take 0 to 255 and scale them."""
    fit: Fit = STRETCH
    """Of a .keras file: how an image of other proportions is fitted, which the files say. stretch
    changes them, crop takes the largest part in the centre, pad keeps all of it on grey.
    """
    image_size: ImageSizeOption = None
    """Of a .keras file that takes images of any size: pixels a side, or HEIGHTxWIDTH as 160x224,
    which the files then take.
    """
    out: Path | None = None
    """The folder to make. Default: RUN/export, or beside a .keras file."""
    overwrite: bool = False
    """Replace the folder if it exists."""
    json: bool = False
    """Print the manifest as JSON."""


def command(arguments: Sequence[str]) -> int:
    """Export, print a line a file; 1 if a file could not be written, did not pass its checks, or is
    undecided and that was not accepted.
    """
    import tyro

    from graft.zoo.terminal import json_shown, say_next

    options = tyro.cli(Options, args=arguments, prog="graft export")
    manifest = export(options)
    if options.json:
        print(json_shown(manifest))
    passed = [row["path"] for row in manifest["files"] if row["status"] == "pass"]
    if passed:
        # One that needs no TensorFlow, where there is one.
        chosen = min(passed, key=lambda name: name == "savedmodel")
        say_next("graft", "predict", folder_of(options) / chosen, "INPUT")
    found = {row["status"] for row in manifest["files"]}
    return 1 if "fail" in found or ("undecided" in found and not options.accept_undecided) else 0


def export(options: Options) -> dict:
    """Write the files, a model card and a fresh report; returns the manifest. A line a file goes to
    stdout (stderr with `json`).
    """
    from graft.recipes.runs.workspace import settle_run
    from graft.recipes.train.settings import check_numbers
    from graft.zoo.errors import ConfigError
    from graft.zoo.files import leases
    from graft.zoo.files.staging import recover_replaced, unchanged_folder

    check_numbers(options)
    if options.max_drop < 0:
        raise ConfigError(f"--max-drop is in points and cannot be below 0: {options.max_drop}")
    if options.explain and "int8" not in options.quantize:
        raise ConfigError("--explain says what each layer loses in int8: add --quantize int8")
    of_a_run = options.run.suffix != ".keras"
    if of_a_run and own_model.is_told(options):
        raise ConfigError(
            f"{MEANING_OPTIONS} are for a .keras file of your own: a run knows its labels and what "
            "it takes"
        )
    if of_a_run:
        subjects.check_run(options.run)
    folder = folder_of(options)
    recover_replaced(options.run)
    if not options.run.exists():  # says so
        return _write(options, folder, of_a_run)
    if (
        of_a_run
        and options.run.resolve() in folder.resolve().parents
        and os.access(options.run.resolve().parent, os.W_OK)
    ):
        with leases.hold_lease(options.run):  # no training replaces it meanwhile
            settle_run(options.run)
            return _write(options, folder, of_a_run)
    with leases.hold_lease(folder), unchanged_folder(options.run):
        return _write(options, folder, of_a_run)


def folder_of(options: Options) -> Path:
    """Where the files go."""
    of_a_run = options.run.suffix != ".keras"
    return options.out or (options.run if of_a_run else options.run.parent) / "export"


def _write(options: Options, folder: Path, of_a_run: bool) -> dict:
    from graft.export.export import FOR_CALIBRATION, ExportSettings, export_model
    from graft.recipes.report import card
    from graft.zoo.files.guards import one_line_if_damaged
    from graft.zoo.files.staging import refuse_existing, sweep_unfinished
    from graft.zoo.terminal import warn

    sweep_unfinished(folder)
    if of_a_run and not options.overwrite and _finish(options.run, folder):
        known = _as_asked(options, folder)
        if known is not None:
            with one_line_if_damaged(folder / "manifest.json", "--overwrite exports again"):
                split = known["measured_on"].get("split")
                told = [
                    line
                    for row in known["files"]
                    for line in file_lines(row, split, options.explain)
                ]
            _tell(told, options)
            return known
    refuse_existing(folder, options.overwrite)
    model, subject = _subject(options, of_a_run)
    precisions = tuple(precision for precision in options.quantize if precision != "none")
    if not any(precision.startswith("int8") for precision in precisions):
        subject = replace(subject, calibration=None)
    elif subject.calibration is not None and len(subject.calibration) < FOR_CALIBRATION:
        warn(
            f"int8 is calibrated with {len(subject.calibration)} examples only: with fewer than "
            f"{FOR_CALIBRATION} its ranges depend on which ones they are"
        )
    split = (subject.examples.facts or {}).get("split")
    settings = ExportSettings(
        formats=options.formats,
        precisions=precisions,
        max_drop=options.max_drop,
        prefer=options.prefer,
        explain=options.explain,
        overwrite=options.overwrite,
    )
    kept = f"'{folder}' is as it was" if folder.exists() else f"nothing of '{folder}' is left"
    with telling(kept):
        manifest = export_model(
            model,
            folder,
            subject,
            settings,
            report=lambda row: _tell(file_lines(row, split, options.explain), options),
            finish=lambda staging: card.write(options.run, staging) if of_a_run else None,
        )
    if folder == options.run / "export":
        _report(options.run, folder)
    return manifest


def _tell(lines: Sequence[str], options: Options) -> None:
    """Print lines about files, to the stream of now: while a bar is drawn it is one that does not
    disturb it.
    """
    from graft.zoo.terminal import tell

    tell("\n".join(lines), sys.stderr if options.json else sys.stdout)


def _subject(options: Options, of_a_run: bool) -> "tuple[keras.Model, Subject]":
    """What is exported, and what its files are checked with."""
    from graft.recipes.report.run_file import read_run
    from graft.zoo.files.guards import one_line_if_damaged
    from graft.zoo.terminal import say

    asked = subjects.Asked(
        options.run,
        options.data,
        options.labels,
        options.outputs,
        options.input_range,
        options.fit,
        options.image_size,
    )
    say(f"reading '{options.run}'")
    if not of_a_run:
        return subjects.of_keras_file(asked)
    content = read_run(options.run)
    with one_line_if_damaged(f"{options.run}: what the run keeps"):
        return subjects.of_run(asked, content)


def _report(run: Path, folder: Path) -> None:
    """Write the report of `run` anew, which then shows the files in `folder`."""
    from graft.recipes.report import report
    from graft.zoo.files.guards import one_line_if_full

    told = f"'{folder}' is complete, `graft export {run}` writes the report that shows it"
    with (
        telling(told),
        one_line_if_full(run / "report.html", f"free some space; {told}"),
    ):
        report.write(run)


def _as_asked(options: Options, folder: Path) -> dict | None:
    """The manifest in `folder` if it is what `options` ask for."""
    from graft.export.manifest import read_manifest

    known = read_manifest(folder)
    asked = {
        "formats": list(options.formats),
        "precisions": [precision for precision in options.quantize if precision != "none"],
        "max_drop": options.max_drop,
        "prefer": options.prefer,
    }
    return known if known.get("requested") == asked else None


def _finish(run: Path, folder: Path) -> bool:
    """Write what an export had not written yet when it was killed: the report, or the card (by an
    older Graft). Returns whether there was something to write.
    """
    from graft.export.manifest import MANIFEST_NAME
    from graft.recipes.report import card
    from graft.zoo.terminal import say

    known, page = folder / MANIFEST_NAME, run / "report.html"
    if not known.is_file():
        return False
    no_card = not (folder / card.NAME).exists()
    older = folder == run / "export" and (
        not page.exists() or page.stat().st_mtime_ns < known.stat().st_mtime_ns
    )
    if no_card:
        card.write(run, folder)
    if older:
        _report(run, folder)
    if no_card or older:
        say(
            f"'{folder}' was complete but for its {'card' if no_card else 'report'}, which is "
            "written now"
        )
    return no_card or older
