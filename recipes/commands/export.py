"""`graft export RUN`: SavedModel, TFLite and ONNX, each reopened from disk and measured as a
file.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import numpy as np
from tyro.conf import Positional

__all__ = ["Options", "command", "export", "lines", "undecided"]

Format = Literal["savedmodel", "tflite", "onnx"]
SLOWER = 1.1
"""Times the latency of float32 from which a file is called slower."""
Precision = Literal["none", "float16", "dynamic", "int8", "int8-full"]


@dataclass(frozen=True)
class Options:
    """Write a run as files that other runtimes open, and measure each of them on validation
    pictures.
    """

    run: Positional[Path]
    """The run directory, or a .keras file of your own that takes square pictures."""
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

    from graft.zoo.terminal import json_shown

    options = tyro.cli(Options, args=arguments, prog="graft export")
    manifest = export(options)
    if options.json:
        print(json_shown(manifest))
    found = {row["status"] for row in manifest["files"]}
    return 1 if "fail" in found or ("undecided" in found and not options.accept_undecided) else 0


def export(options: Options) -> dict:
    """Write the files, a model card and a fresh report; returns the manifest. A line a file goes to
    stdout (stderr with `json`).
    """
    from graft.recipes.runs.workspace import settle_run
    from graft.recipes.train.settings import check_numbers
    from graft.zoo import locks
    from graft.zoo.errors import ConfigError
    from graft.zoo.files import recover, unchanged

    check_numbers(options)
    if options.max_drop < 0:
        raise ConfigError(f"--max-drop is in points and cannot be below 0: {options.max_drop}")
    if options.explain and "int8" not in options.quantize:
        raise ConfigError("--explain says what each layer loses in int8: add --quantize int8")
    stream = sys.stderr if options.json else sys.stdout
    of_a_run = options.run.suffix != ".keras"
    if of_a_run and (options.labels, options.outputs, options.input_range) != (
        None,
        None,
        "0..255",
    ):
        raise ConfigError(
            "--labels, --outputs and --input-range are for a .keras file of your own: a run knows "
            "its labels and what it "
            "takes"
        )
    if of_a_run:
        _check_run(options.run)
    folder = options.out or (options.run if of_a_run else options.run.parent) / "export"
    recover(options.run)
    if not options.run.exists():  # says so
        return _write(options, folder, of_a_run, stream)
    if (
        of_a_run
        and options.run.resolve() in folder.resolve().parents
        and os.access(options.run.resolve().parent, os.W_OK)
    ):
        with locks.hold(options.run):  # no training replaces it meanwhile
            settle_run(options.run)
            return _write(options, folder, of_a_run, stream)
    with locks.hold(folder), unchanged(options.run):
        return _write(options, folder, of_a_run, stream)


def _write(options: Options, folder: Path, of_a_run: bool, stream: TextIO) -> dict:
    from graft.export.export import FOR_CALIBRATION, export_model
    from graft.recipes.report import card
    from graft.zoo.files import check_free, one_line_if_damaged, sweep
    from graft.zoo.terminal import tell, warn

    sweep(folder)
    if of_a_run and not options.overwrite and _finish(options.run, folder):
        known = _as_asked(options, folder)
        if known is not None:
            with one_line_if_damaged(folder / "manifest.json", "--overwrite exports again"):
                told = [
                    line
                    for row in known["files"]
                    for line in lines(row, known["measured_on"].get("split"), options)
                ]
            tell("\n".join(told), stream)
            return known
    check_free(folder, options.overwrite)
    asked = _from_run(options) if of_a_run else _from_keras(options)
    precisions = [precision for precision in options.quantize if precision != "none"]
    if not any(precision.startswith("int8") for precision in precisions):
        asked["calibration"] = None
    elif asked["calibration"] is not None and len(asked["calibration"]) < FOR_CALIBRATION:
        warn(
            f"int8 is calibrated with {len(asked['calibration'])} examples only: with fewer than "
            f"{FOR_CALIBRATION} its "
            "ranges depend on which ones they are"
        )
    split = (asked["examples"].facts or {}).get("split")
    told = f"'{folder}' is as it was" if folder.exists() else f"nothing of '{folder}' is left"
    with _saying_what_is_kept(told):
        manifest = export_model(
            **asked,
            folder=folder,
            formats=options.formats,
            precisions=precisions,
            max_drop=options.max_drop,
            prefer=options.prefer,
            explain=options.explain,
            overwrite=options.overwrite,
            report=lambda row: tell("\n".join(lines(row, split, options)), stream),
            finish=lambda staging: card.write(options.run, staging) if of_a_run else None,
        )
    if folder == options.run / "export":
        _report(options.run, folder)
    return manifest


def _report(run: Path, folder: Path) -> None:
    """Write the report of `run` anew, which then shows the files in `folder`."""
    from graft.recipes.report import report
    from graft.zoo.files import one_line_if_full

    told = f"'{folder}' is complete, `graft export {run}` writes the report that shows it"
    with (
        _saying_what_is_kept(told),
        one_line_if_full(run / "report.html", f"free some space; {told}"),
    ):
        report.write(run)


@contextlib.contextmanager
def _saying_what_is_kept(told: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        error.add_note(told)
        raise


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


def _from_run(options: Options) -> dict:
    from graft.recipes.runs import run
    from graft.zoo.files import one_line_if_damaged

    content = run.read(options.run)
    with one_line_if_damaged(f"{options.run}: what the run keeps"):
        return _of_run(options, content)


def _of_run(options: Options, content: Mapping) -> dict:
    from graft.export.manifest import Description
    from graft.recipes.runs import export_data
    from graft.zoo.backbones.own import load_keras
    from graft.zoo.errors import ConfigError

    if content["recipe"] == "self-supervised":
        raise ConfigError(
            f"'{options.run}' is a backbone without a head: train one on it first, `graft train "
            "image-classification "
            f"--backbone {options.run / 'backbone.keras'}`"
        )
    data, name = content["data"], options.run.resolve().name
    if content.get("modality") == "text":
        asked = _of_texts(options, content, name)
    elif content["recipe"] == "multitask":
        asked = _of_tasks(options, content, name)
    else:
        examples, calibration = export_data.from_run(options.run, content, options.data)
        preprocessing = data["decode"] | {"image_size": data["image_size"]}
        asked = {
            "description": Description(name, data["labels"], preprocessing, (0, 255)),
            "kind": "single_label",
            "examples": examples,
            "calibration": calibration,
        }
    return {
        "model": load_keras(options.run / "model.keras"),
        **_origin(options.run, data),
        **asked,
    }


def _origin(folder: Path, data: Mapping | None) -> dict:
    """What the manifest says of the `data` that the run in `folder` was trained on, and the file
    that it refers to.
    """
    from graft.recipes.data import membership

    told = ("source", "fingerprint", "made_splits", "split_seed", "membership")
    file = folder / membership.FILE
    return {
        "training_data": {key: data[key] for key in told if key in data} if data else {},
        "beside": [file] if data and file.is_file() else [],
    }


def _of_tasks(options: Options, content: Mapping, name: str) -> dict:
    from graft.export.manifest import Description
    from graft.recipes.runs import task_run
    from graft.zoo.files import read_json

    preprocessing = read_json(options.run / "preprocessing.json", dict)
    examples, calibration = task_run.examples_of(options.run, content, options.data)
    return {
        "description": Description(name, content["data"]["labels"], preprocessing, (0, 255)),
        "kind": {name: facts["kind"] for name, facts in preprocessing["outputs"].items()},
        "examples": examples,
        "calibration": calibration,
    }


def _of_texts(options: Options, content: Mapping, name: str) -> dict:
    from graft.export.manifest import Description
    from graft.recipes.runs import text_export
    from graft.zoo.files import read_json, read_text
    from graft.zoo.text import checked

    preprocessing = read_json(options.run / "preprocessing.json", dict)
    tokenizer = checked(
        read_text(options.run / "tokenizer.json"), preprocessing["tokenizer"]["pad_id"], options.run
    )
    examples, calibration = text_export.from_run(
        options.run, content, options.data, preprocessing, tokenizer
    )
    outputs = preprocessing["outputs"]
    return {
        "description": Description(
            name, next(iter(outputs.values()))["labels"], preprocessing, None, tokenizer
        ),
        "kind": {name: facts["kind"] for name, facts in outputs.items()},
        "examples": examples,
        "calibration": calibration,
    }


def _check_run(path: Path) -> None:
    """Refuse what is neither a run nor a .keras file, by what it is."""
    from graft.zoo.backbones.own import foreign_file
    from graft.zoo.errors import ArtifactError

    foreign = None
    if path.exists() and not (path / "run.json").is_file():
        foreign = foreign_file(path)
        if (path / "saved_model.pb").is_file() or path.suffix in (".tflite", ".onnx"):
            foreign = "a finished file: export the .keras file or the run that it was made from"
    if foreign:
        raise ArtifactError(f"'{path}' is {foreign}")


def _from_keras(options: Options) -> dict:
    from dataclasses import replace

    from graft.export.manifest import Description
    from graft.recipes.commands.evaluate import provenance
    from graft.recipes.data import membership
    from graft.recipes.runs import export_data, own_model
    from graft.zoo.backbones.own import load_own
    from graft.zoo.errors import ArtifactError
    from graft.zoo.labels import read_labels
    from graft.zoo.terminal import warn
    from graft.zoo.vision import DECODE

    if not options.run.is_file():
        raise ArtifactError(f"there is no file '{options.run}'")
    meaning = own_model.meaning_of(
        options.run, options.labels, options.outputs, options.input_range
    )
    beside = options.run.parent / "labels.txt"
    if meaning.labels is None and beside.is_file():  # of the model.keras of a run
        meaning = replace(meaning, labels=read_labels(beside).labels)
    if options.data is not None and meaning.labels is not None and len(meaning.labels) == 1:
        meaning = replace(meaning, labels=_both_labels(options, meaning.labels))
    own, known = load_own(options.run, meaning, beside), provenance(options.run)
    shape = own.model.inputs[0].shape[1:]
    if options.data is None:
        examples, calibration = export_data.made_up(shape), None
    elif own.kind == "regression":
        warn(
            f"the answers of '{options.run}' are values: the labels of --data are not looked at, "
            "its pictures are"
        )
        examples, calibration = export_data.from_source(options.data, None, shape[0])
    else:
        seen = membership.beside(options.run, known)
        examples, calibration = export_data.from_source(options.data, own.labels, shape[0], seen)
    if own.kind == "single_label" and examples.targets is not None:
        _ask_for_pixels(options, own.model, examples)
    preprocessing = DECODE | {"image_size": shape[0], "kind": own.kind}
    return {
        "model": own.model,
        **_origin(options.run.parent, known),
        "description": Description(options.run.stem, list(own.labels), preprocessing, (0, 255)),
        "kind": own.kind,
        "examples": examples,
        "calibration": calibration,
    }


def _both_labels(options: Options, labels: Sequence[str]) -> tuple[str, ...]:
    """`labels`, or of one label and data with two classes both names, the one that was given
    last.
    """
    from graft.recipes.data import sources
    from graft.recipes.runs import own_model

    both = own_model.other_label(labels, sources.load(options.data, to_train=False).labels)
    return both if both else tuple(labels)


def _ask_for_pixels(options: Options, model, examples) -> None:
    """Warn where the model is right about as often as chance is: it may expect other pixels."""
    from graft.recipes.runs import own_model

    def answers(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(model(pixels, training=False))

    own_model.warn_near_chance(
        options.run, answers, examples.inputs, examples.targets, options.input_range
    )


def lines(row: Mapping, split: str | None, options: Options) -> list[str]:
    """What stdout says of a file: a line, one more for each task where there are several, and those
    that explain it.
    """
    name = row["path"] or f"{row['format']} {row['requested']}"
    if "skipped" in row:
        return [f"{name:<24} skip  {row['skipped']}"]
    if "accuracy" not in row:
        return [f"{name:<24} FAIL  {row['error']}"]
    parity, accuracy = row["parity"], row["accuracy"]
    latency = row["latency_ms"]["one_thread"]["median"] if "latency_ms" in row else float("nan")
    status = {"pass": "pass", "undecided": "undecided", "fail": "FAIL"}[row["status"]]
    parts = row.get("accuracy_of_outputs")
    differs = max(parity["max_abs_diff"], parity["batch_1_diff"] or 0.0)
    text = f"{name:<24} {status:<9}  {row['size_bytes'] / 1e6:7.2f} MB  {latency:7.2f} ms  "
    text += "" if parts else f"{_figure(accuracy, split)}  "
    text += f"max difference {differs:.1e}  agreement {100 * parity['agreement']:.1f} %"
    told = [text + _costs(row)]
    told += [f"  {output}: {_figure(figures, split)}" for output, figures in (parts or {}).items()]
    if row["status"] == "fail":
        told.append(f"  {_failure(row, split)}")
    if row["status"] == "undecided":
        told.append(f"  {undecided(accuracy, split, bool(parts))}")
    if row.get("reason"):
        told.append(f"  {row['reason']}")
    for entry in row.get("layer_errors", ()) if options.explain else ():
        told.append(f"  {entry['error']:.1e}  {entry['layer'].split(';')[0]}")
    return told


def undecided(accuracy: Mapping, split: str | None, named: bool = False) -> str:
    """Why the examples cannot tell, and how many might."""
    low, high = accuracy["drop_interval"]
    of = f"{accuracy['output']}: " if named else ""
    return (
        f"undecided: {of}{accuracy['drop_points']:.1f} points less "
        f"{accuracy['figure']}{_of_label(accuracy)} than Keras "
        f"(95 % interval {low:.1f} to {high:.1f}): {accuracy['examples']:,} {_called(split)} "
        "cannot tell, about "
        f"{accuracy['enough_examples']:,} would; give more with --data, or --accept-undecided"
    )


def _of_label(accuracy: Mapping) -> str:
    """ " of 'red'": which of several labels or values loses most; empty where there is one
    alone.
    """
    if accuracy.get("unit") is None:
        return ""
    return (
        f" of '{accuracy['label']}'"
        if accuracy.get("label")
        else f" of output {accuracy['unit'] + 1}"
    )


def _figure(accuracy: Mapping, split: str | None) -> str:
    """ "validation accuracy 91.2 % (-0.3; -1.1 to +0.5)": the figure, how it differs from Keras's,
    the interval of that.
    """
    low, high = accuracy["drop_interval"] or (accuracy["drop_points"],) * 2
    value = accuracy["value"]
    shown = f"{value:.3f}" if accuracy["key"] == "r2" else f"{100 * value:.1f} %"
    change = f"{0.0 - accuracy['drop_points']:+.1f}; {0.0 - high:+.1f} to {0.0 - low:+.1f}"
    return f"{split + ' ' if split else ''}{accuracy['figure']} {shown} ({change})"


def _costs(row: Mapping) -> str:
    """What a smaller file is beside the float32 one; one that is worth less and slower too has to
    say so.
    """
    against = row.get("against_float32")
    if not against or against["latency"] is None:
        return ""
    text = f"  {against['size']:.2f} x size, {against['latency']:.2f} x time of float32"
    if against["latency"] > SLOWER and row["accuracy"]["drop_points"] > 0:
        text += ": SLOWER AND WORTH LESS"
    return text


def _called(split: str | None) -> str:
    return f"{split} examples" if split else "examples"


def _failure(row: Mapping, split: str | None) -> str:
    """Which check a file did not pass, with the numbers."""
    accuracy = row["accuracy"]
    if "error" in row:
        return row["error"]
    if not row["parity"]["passed"]:
        return f"its outputs differ from Keras's by more than a {row['precision']} file may"
    low, high = accuracy["drop_interval"] or (accuracy["drop_points"],) * 2
    of = _of_label(accuracy)  # Keras's own figure is that of all labels
    whole = (
        f"{accuracy['figure']}{of}"
        if of
        else f"{100 * accuracy['reference']:.1f} {accuracy['figure']}"
    )
    return (
        f"it loses {accuracy['drop_points']:.1f} points ({low:.1f} to {high:.1f}) of Keras's "
        f"{whole} on "
        f"{accuracy['examples']} {_called(split)}: more than --max-drop, and more than chance"
    )
