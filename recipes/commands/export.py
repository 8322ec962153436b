"""`graft export RUN`: SavedModel, TFLite and ONNX, each reopened from disk and measured as a file."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

__all__ = ["Options", "command", "export"]

Format = Literal["savedmodel", "tflite", "onnx"]
Precision = Literal["none", "float16", "dynamic", "int8", "int8-full"]


@dataclass(frozen=True)
class Options:
    """Write a run as files that other runtimes open, and measure each of them on validation pictures."""

    run: Positional[Path]
    """The run directory, or a .keras file of your own (pixels from 0 to 255 in)."""
    formats: tuple[Format, ...] = ("savedmodel", "tflite", "onnx")
    quantize: tuple[Precision, ...] = ()
    """Beside float32, smaller TFLite and ONNX files: float16, dynamic (8-bit weights), int8 (weights and activations),
    int8-full (inputs and outputs too, for accelerators)."""
    max_drop: float = 1.0
    """Points of accuracy that a file may lose against Keras."""
    explain: bool = False
    """Also print what each layer alone loses in int8."""
    data: str | None = None
    """Where the data lies now. Default: where the run was trained from; a .keras file has none."""
    labels: Path | None = None
    """Of a .keras file: a text file, one label a line, in the order of the outputs. Default: labels.txt beside it."""
    out: Path | None = None
    """The folder to make. Default: RUN/export, or beside a .keras file."""
    overwrite: bool = False
    """Replace the folder if it exists."""
    json: bool = False
    """Print the manifest as JSON."""


def command(arguments: Sequence[str]) -> int:
    """Export, print a line a file; 1 if a file could not be written or did not pass its checks."""
    import tyro

    options = tyro.cli(Options, args=arguments, prog="graft export")
    manifest = export(options)
    if options.json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
    return 0 if all(row["passed"] for row in manifest["files"]) else 1


def export(options: Options) -> dict:
    """Write the files, a model card and a fresh report; returns the manifest. A line a file goes to stdout (stderr with
    `json`)."""
    from export.export import FOR_CALIBRATION, export_model
    from recipes.engine import card, report
    from recipes.engine.progress import warn
    from zoo.errors import ConfigError
    from zoo.files import check_free

    if options.max_drop < 0:
        raise ConfigError(f"--max-drop is in points of accuracy and cannot be below 0: {options.max_drop}")
    if options.explain and "int8" not in options.quantize:
        raise ConfigError("--explain says what each layer loses in int8: add --quantize int8")
    stream = sys.stderr if options.json else sys.stdout
    of_a_run = options.run.suffix != ".keras"
    if of_a_run and options.labels is not None:
        raise ConfigError("--labels are for a .keras file of your own: a run knows its labels")
    folder = options.out or (options.run if of_a_run else options.run.parent) / "export"
    check_free(folder, options.overwrite)
    asked = _from_run(options) if of_a_run else _from_keras(options)
    precisions = [precision for precision in options.quantize if precision != "none"]
    if not any(precision.startswith("int8") for precision in precisions):
        asked["calibration"] = None
    elif asked["calibration"] is not None and len(asked["calibration"]) < FOR_CALIBRATION:
        warn(
            f"int8 is calibrated with {len(asked['calibration'])} examples only: with fewer than {FOR_CALIBRATION} its "
            "ranges depend on which ones they are"
        )
    manifest = export_model(
        **asked,
        folder=folder,
        formats=options.formats,
        precisions=precisions,
        max_drop=options.max_drop,
        explain=options.explain,
        overwrite=options.overwrite,
        report=lambda row: print("\n".join(_lines(row, options.explain)), file=stream, flush=True),
    )
    if of_a_run:
        card.write(options.run, folder)
        if folder == options.run / "export":
            report.write(options.run)
    return manifest


def _from_run(options: Options) -> dict:
    from export.manifest import Description
    from export.sessions import load_keras
    from recipes.engine import export_data, run
    from zoo.errors import ConfigError

    content = run.read(options.run)
    if content["recipe"] == "self-supervised":
        raise ConfigError(
            f"'{options.run}' is a backbone without a head: train one on it first, `graft train image-classification "
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
    provenance = ("source", "fingerprint", "made_splits", "split_seed")
    return {
        "model": load_keras(options.run / "model.keras"),
        "training_data": {key: data[key] for key in provenance},
        **asked,
    }


def _of_tasks(options: Options, content: Mapping, name: str) -> dict:
    from export.manifest import Description
    from recipes.engine import task_run
    from zoo.files import read_json

    preprocessing = read_json(options.run / "preprocessing.json")
    examples, calibration = task_run.examples_of(options.run, content, options.data)
    return {
        "description": Description(name, content["data"]["labels"], preprocessing, (0, 255)),
        "kind": {name: facts["kind"] for name, facts in preprocessing["outputs"].items()},
        "examples": examples,
        "calibration": calibration,
    }


def _of_texts(options: Options, content: Mapping, name: str) -> dict:
    from export.manifest import Description
    from recipes.engine import text_export
    from zoo.files import read_json, read_text
    from zoo.text import Tokenizer

    preprocessing = read_json(options.run / "preprocessing.json")
    tokenizer = Tokenizer(read_text(options.run / "tokenizer.json"), preprocessing["tokenizer"]["pad_id"])
    examples, calibration = text_export.from_run(options.run, content, options.data, preprocessing, tokenizer)
    outputs = preprocessing["outputs"]
    return {
        "description": Description(name, next(iter(outputs.values()))["labels"], preprocessing, None, tokenizer),
        "kind": {name: facts["kind"] for name, facts in outputs.items()},
        "examples": examples,
        "calibration": calibration,
    }


def _from_keras(options: Options) -> dict:
    from export.manifest import Description
    from export.sessions import load_keras
    from recipes.engine import export_data
    from zoo.errors import ArtifactError, ConfigError
    from zoo.vision import DECODE

    if not options.run.is_file():
        raise ArtifactError(f"there is no file '{options.run}'")
    model = load_keras(options.run)
    shape = model.inputs[0].shape[1:]
    square = len(shape) == 3 and None not in shape and shape[0] == shape[1] and shape[2] == 3
    if len(model.inputs) != 1 or len(model.outputs) != 1 or not square:
        raise ConfigError(
            f"'{options.run}' cannot be exported: expected one input of square RGB pictures of a fixed size and one output, "
            f"got {[tuple(t.shape) for t in model.inputs]} and {[tuple(t.shape) for t in model.outputs]}"
        )
    file = options.labels or options.run.parent / "labels.txt"
    labels = _labels(file, options.run, model.outputs[0].shape[-1])
    if options.data is None:
        examples, calibration = export_data.made_up(shape), None
    else:
        examples, calibration = export_data.from_source(options.data, labels, shape[0])
    kind = _kind(np.asarray(model(np.float32(examples.inputs[:8]), training=False)))
    preprocessing = DECODE | {"image_size": shape[0], "kind": kind}
    return {
        "model": model,
        "description": Description(options.run.stem, labels, preprocessing, (0, 255)),
        "kind": kind,
        "examples": examples,
        "calibration": calibration,
    }


def _labels(file: Path, model: Path, units: int) -> list[str]:
    from zoo.errors import DataError

    if not file.is_file():
        raise DataError(f"the labels of '{model}' are missing: give --labels FILE, one label a line, {units} of them")
    labels = file.read_text(encoding="utf-8").splitlines()
    if len(labels) != units:
        raise DataError(
            f"'{file}' has {len(labels)} labels, but '{model}' has {units} outputs: one label a line, in order"
        )
    return labels


def _kind(outputs: np.ndarray) -> str:
    """What a model's answers look like."""
    if outputs.min() < 0 or outputs.max() > 1:
        return "regression"
    return "single_label" if np.allclose(outputs.sum(-1), 1, atol=1e-3) else "multi_label"


def _lines(row: Mapping, explain: bool) -> list[str]:
    """What stdout says of a file: one line, and those that explain it."""
    name = row["path"] or f"{row['format']} {row['requested']}"
    if "skipped" in row:
        return [f"{name:<24} skip  {row['skipped']}"]
    if "accuracy" not in row:
        return [f"{name:<24} FAIL  {row['error']}"]
    parity, accuracy = row["parity"], row["accuracy"]
    latency = row["latency_ms"]["one_thread"]["median"] if "latency_ms" in row else float("nan")
    lines = [
        f"{name:<24} {'pass' if row['passed'] else 'FAIL'}  {row['size_bytes'] / 1e6:7.2f} MB  {latency:7.2f} ms  "
        f"accuracy {100 * accuracy['value']:.1f} % ({0.0 - accuracy['drop_points']:+.1f})  "
        f"max difference {parity['max_abs_diff']:.1e}  agreement {100 * parity['agreement']:.1f} %"
    ]
    if not row["passed"]:
        lines.append(f"  {_failure(row)}")
    if accuracy["undecided"]:
        low, high = accuracy["drop_interval"]
        lines.append(
            f"  undecided: {accuracy['drop_points']:.1f} points ({low:.1f} to {high:.1f}) may be chance on "
            f"{accuracy['examples']} examples"
        )
    if row.get("reason"):
        lines.append(f"  {row['reason']}")
    for entry in row.get("layer_errors", ()) if explain else ():
        lines.append(f"  {entry['error']:.1e}  {entry['layer'].split(';')[0]}")
    return lines


def _failure(row: Mapping) -> str:
    """Which check a file did not pass, with the numbers."""
    accuracy = row["accuracy"]
    if "error" in row:
        return row["error"]
    if not row["parity"]["passed"]:
        return f"its outputs differ from Keras's by more than a {row['precision']} file may"
    low, high = accuracy["drop_interval"] or (accuracy["drop_points"],) * 2
    return (
        f"it loses {accuracy['drop_points']:.1f} points ({low:.1f} to {high:.1f}) of Keras's "
        f"{100 * accuracy['reference']:.1f} % on {accuracy['examples']} examples: more than --max-drop, and more than chance"
    )
