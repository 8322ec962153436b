"""All files of one model: written, reopened from disk, and measured as files."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export import contents, evidence, manifest, probe, quantize, to_onnx, to_savedmodel, to_tflite
from export.graph import as_float32, output_tensors
from export.manifest import Description
from export.quantize_onnx import ONNXQuantizer
from export.quantize_tflite import TFLiteQuantizer
from export.runtimes import open_onnx, open_tflite
from export.sessions import open_artifact
from zoo.errors import ArtifactError, ConfigError, ExportError, NotApplicable, UnknownName
from zoo.files import staged_folder, write_text

if TYPE_CHECKING:
    import keras

__all__ = ["FORMATS", "FOR_CALIBRATION", "Examples", "export_model"]

FORMATS = ("savedmodel", "tflite", "onnx")
CONVERTERS = {"tflite": to_tflite, "onnx": to_onnx}
OPENERS = {"tflite": open_tflite, "onnx": open_onnx}
BATCH = 32
FOR_CALIBRATION = 32
"""With fewer examples the ranges of int8 depend on which ones they are."""
SHOWN_LAYERS = 20


@dataclass(frozen=True)
class Examples:
    """Real inputs `(n, *shape)`, without preprocessing.

    Attributes:
        inputs: of the model's first input; integers are made float32.
        targets: `(n, units)` as the head's metrics take them, or None where the truth is not known.
        facts: where they come from, for the manifest: split, names, ...
    """

    inputs: np.ndarray
    targets: np.ndarray | None = None
    facts: Mapping | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def export_model(
    model: "keras.Model",
    folder: Path,
    *,
    description: Description,
    kind: str,
    examples: Examples,
    calibration: Examples | None = None,
    formats: Sequence[str] = FORMATS,
    precisions: Sequence[str] = (),
    max_drop: float = 1.0,
    explain: bool = False,
    training_data: Mapping | None = None,
    overwrite: bool = False,
    report: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Write `model` in all `formats` into `folder`, with labels.txt and manifest.json; returns the manifest.

    Float32 is always written, and beside it, for TFLite and ONNX, each of `precisions` ("float16", "dynamic", "int8",
    "int8-full"). Each file is opened from disk by its own runtime and run on `examples`, which are not from the training
    data; what it loses against Keras in accuracy may be `max_drop` points. "int8" needs `calibration`, from the training
    data. Where it loses more, other files are tried (see export/quantize.py) and the smallest that passes is kept, under
    the name of what it is. `explain` measures what each layer loses in int8 in any case.

    A file that fails stays, with `"passed": false`; a format that cannot be written is a row with its `"error"`, a
    precision that makes no sense for a format one with `"skipped"`. `report` receives each row when it is done.

    Raises:
        UnknownName: a format or precision that does not exist.
        ConfigError: `folder` exists and `overwrite` is false; the disk is full; no examples; int8 without calibration.
    """
    for noun, names, known in (("format", formats, FORMATS), ("precision", precisions, quantize.PRECISIONS)):
        for name in names:
            if name not in known:
                raise UnknownName(noun, name, known)
    if not len(examples):
        raise ConfigError("an export needs at least one example to check its files with")
    if calibration is None and any(precision.startswith("int8") for precision in precisions):
        raise ConfigError(quantize.NO_CALIBRATION)
    model = as_float32(model)
    judge = _Judge(_reference(model, examples.inputs), examples, kind, max_drop)
    rows = []
    with staged_folder(folder, overwrite) as staging:
        for name in dict.fromkeys(formats):
            for row in _format(model, name, staging, description, judge, calibration, precisions, explain):
                report(row)
                rows.append(row)
        write_text(staging / "labels.txt", "".join(f"{label}\n" for label in description.labels))
        content = {
            "files": rows,
            "requested": {"formats": list(formats), "precisions": list(precisions), "max_drop": max_drop},
            "labels": description.labels,
            "inputs": [{"name": t.name, "shape": [None, *t.shape[1:]], "dtype": t.dtype} for t in model.inputs],
            "outputs": [
                {"name": name, "shape": [None, *t.shape[1:]], "dtype": t.dtype, "kind": kind}
                for name, t in output_tensors(model, model.output).items()
            ],
            "preprocessing": description.preprocessing,
            "measured_on": {"examples": len(examples), **(examples.facts or {})},
            "calibration": None if calibration is None else {"examples": len(calibration), **(calibration.facts or {})},
            "training_data": dict(training_data or {}),
            "machine": manifest.machine(),
            "versions": manifest.versions(),
        }
        return manifest.write(staging, content)


@dataclass(frozen=True)
class _Judge:
    """What Keras answers to the examples, and how much a file may lose against it."""

    reference: np.ndarray
    examples: Examples
    kind: str
    max_drop: float

    def outputs(self, predict: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return _in_batches(predict, self.examples.inputs)

    def accuracy(self, outputs: np.ndarray) -> evidence.Accuracy:
        return evidence.accuracy(self.reference, outputs, self.examples.targets, self.kind, self.max_drop)


def _format(model, name, staging, description, judge, calibration, precisions, explain):
    """A row for each file of one format."""
    blank = _blank(name, "float32")
    target = staging / ("savedmodel" if name == "savedmodel" else f"model.{name}")
    start = time.perf_counter()
    try:
        if name == "savedmodel":
            to_savedmodel.write(model, target, description)
            content = b""
        else:
            content = CONVERTERS[name].convert(model)
            CONVERTERS[name].write(content, target, description)
    except ExportError as error:
        yield blank | {"error": str(error)}
        return
    yield _measured(blank, target, judge, description, time.perf_counter() - start)
    if name == "savedmodel":
        return
    smaller = _Smaller(name, content, model.inputs[0].name, judge, description, calibration)
    for precision in dict.fromkeys(precisions):
        yield smaller.row(staging, precision, explain and precision == "int8")


@dataclass(frozen=True)
class _Smaller:
    """The quantized files of one format."""

    format: str
    content: bytes
    input_name: str
    judge: _Judge
    description: Description
    calibration: Examples | None
    errors: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def row(self, staging: Path, precision: str, explain: bool) -> dict:
        row = _blank(self.format, precision)
        start = time.perf_counter()
        try:
            tried = quantize.attempts(self.quantizer, precision, self._judged, self.layer_errors)
        except NotApplicable as reason:
            return row | {"passed": True, "skipped": str(reason)}
        except (ExportError, ArtifactError) as error:
            return row | {"error": str(error)}
        chosen = quantize.best(tried)
        target = staging / f"model.{chosen.precision}.{self.format}"
        CONVERTERS[self.format].write(chosen.content, target, self.description)
        row |= {"precision": chosen.precision, "attempts": [attempt.as_dict() for attempt in tried]}
        row = _measured(row, target, self.judge, self.description, time.perf_counter() - start)
        row |= {"reason": quantize.explain(tried, chosen), "float_layers": list(chosen.float_layers)}
        if explain or len(tried) > 1:
            shown = self.layer_errors(precision)[:SHOWN_LAYERS]
            row["layer_errors"] = [{"layer": layer, "error": error} for layer, error in shown]
        return row

    @cached_property
    def quantizer(self) -> quantize.Quantizer:
        examples = None if self.calibration is None else {self.input_name: self.calibration.inputs}
        if self.format == "onnx":
            return ONNXQuantizer(self.content, examples)
        bounds = self.description.input_range
        return TFLiteQuantizer(self.content, examples, {self.input_name: bounds} if bounds else None)

    def layer_errors(self, precision: str) -> list[tuple[str, float]]:
        if precision not in self.errors:
            make = quantize.maker(self.quantizer, precision)
            some = (self.calibration or self.judge.examples).inputs[: quantize.EXPLAINED_EXAMPLES]
            run = lambda content: self._run(content, some)  # noqa: E731
            self.errors[precision] = quantize.layer_errors(self.quantizer.layers, make, run, run(self.content))
        return self.errors[precision]

    def _judged(self, content: bytes, precision: str) -> dict:
        outputs = self._run(content, self.judge.examples.inputs)
        accuracy = self.judge.accuracy(outputs)
        parity = evidence.parity(self.judge.reference, outputs, self.judge.kind, precision)
        facts = {key: accuracy.as_dict()[key] for key in ("value", "drop_points", "drop_interval")}
        return facts | {"max_abs_diff": parity.max_abs_diff, "passed": accuracy.passed and parity.passed}

    def _run(self, content: bytes, inputs: np.ndarray) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"model.{self.format}"
            file.write_bytes(content)
            runtime = OPENERS[self.format](file)
            (output,) = runtime.outputs
            return _in_batches(lambda batch: runtime.run({self.input_name: batch})[output], inputs)


def _blank(name: str, precision: str) -> dict:
    return {
        "format": name,
        "precision": precision,
        "requested": precision,
        "path": None,
        "passed": False,
        "reason": None,
    }


def _measured(row: Mapping, target: Path, judge: _Judge, description: Description, seconds: float) -> dict:
    """`row` with all that is known of the file `target`, read and run from the disk."""
    row = {**row, "path": target.name}
    row |= {"size_bytes": manifest.size_bytes(target), "sha256": manifest.sha256(target), "seconds": round(seconds, 2)}
    try:
        outputs = judge.outputs(open_artifact(target).predict)
        parity = evidence.parity(judge.reference, outputs, judge.kind, row["precision"])
        accuracy = judge.accuracy(outputs)
        row |= {"parity": parity.as_dict(), "accuracy": accuracy.as_dict()}
        row |= {**_with_ranges(contents.describe(target), description, judge.kind), **probe.measure(target)}
    except ArtifactError as error:
        return row | {"error": str(error)}
    return row | {"passed": parity.passed and accuracy.passed}


def _with_ranges(described: dict, description: Description, kind: str) -> dict:
    described["inputs"][0]["range"] = list(description.input_range) if description.input_range else None
    for output in described["outputs"]:
        output["range"] = [0, 1] if kind in ("single_label", "multi_label") else None
    return described


def _reference(model: "keras.Model", inputs: np.ndarray) -> np.ndarray:
    def predict(batch):
        (output,) = output_tensors(model, model(batch, training=False)).values()
        return np.asarray(output)

    return _in_batches(predict, inputs)


def _in_batches(predict: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([predict(np.float32(inputs[i : i + BATCH])) for i in range(0, len(inputs), BATCH)])
