"""The smaller files of one format: tried, chosen, written and measured."""

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from graft.export import probe
from graft.export.convert.onnx import convert_to_onnx, write_onnx
from graft.export.convert.tflite import convert_to_tflite, write_tflite
from graft.export.judge import Judge, in_batches
from graft.export.manifest import Description
from graft.export.measured import against_float32, blank_row, measured_row
from graft.export.quantize.choose import Preference, best_attempt, explain_choice, try_precision
from graft.export.quantize.layer_errors import (
    LAYER_ERROR_EXAMPLES,
    measure_layer_errors,
    mixed_file_maker,
)
from graft.export.quantize.onnx import ONNXQuantizer
from graft.export.quantize.quantizer import Quantizer
from graft.export.quantize.tflite import TFLiteQuantizer
from graft.export.runtimes.onnx import open_onnx
from graft.export.runtimes.tflite import open_tflite
from graft.export.sessions import answered, rows_of
from graft.zoo.errors import ArtifactError, CheckFailed, ExportError, NotApplicable

__all__ = ["CONVERTERS", "WRITERS", "SmallerFiles"]

CONVERTERS = {"tflite": convert_to_tflite, "onnx": convert_to_onnx}
WRITERS = {"tflite": write_tflite, "onnx": write_onnx}
OPENERS = {"tflite": open_tflite, "onnx": open_onnx}
SHOWN_LAYERS = 20


@dataclass(frozen=True)
class SmallerFiles:
    """The quantized files of one format; `whole` is the row of its float32 file."""

    format: str
    content: bytes
    judge: Judge
    description: Description
    calibration: Mapping[str, np.ndarray] | None
    prefer: Preference
    whole: Mapping
    errors: dict[str, list[tuple[str, float]]] = field(default_factory=dict)

    def row(self, staging: Path, precision: str, explain: bool) -> dict:
        """Write the file of a `precision` into the folder `staging`; its row of the manifest."""
        row = blank_row(self.format, precision)
        start = time.perf_counter()
        try:
            tried = try_precision(self.quantizer, precision, self._judged, self.layer_errors)
        except NotApplicable as reason:
            return row | {"status": "skipped", "passed": True, "skipped": str(reason)}
        except (ExportError, ArtifactError) as error:
            return row | {"error": str(error)}
        chosen = best_attempt(tried, self.prefer, self._latency)
        target = staging / f"model.{chosen.precision}.{self.format}"
        WRITERS[self.format](chosen.content, target, self.description)
        row |= {"precision": chosen.precision, "attempts": [attempt.as_dict() for attempt in tried]}
        row = measured_row(row, target, self.judge, self.description, time.perf_counter() - start)
        row |= against_float32(row, self.whole)
        row |= {
            "reason": explain_choice(tried, chosen, self.prefer),
            "float_layers": list(chosen.float_layers),
        }
        if explain or len(tried) > 1:
            shown = self.layer_errors(precision)[:SHOWN_LAYERS]
            row["layer_errors"] = [{"layer": layer, "error": error} for layer, error in shown]
        return row

    @cached_property
    def quantizer(self) -> Quantizer:
        """What makes smaller files of the format."""
        if self.format == "onnx":
            return ONNXQuantizer(self.content, self.calibration, self._float_layers)
        bounds = self.description.input_range
        return TFLiteQuantizer(
            self.content,
            self.calibration,
            dict.fromkeys(self.judge.inputs, bounds) if bounds else None,
            self._float_layers,
        )

    @property
    def _float_layers(self) -> tuple[str, ...]:
        """What of the graph stays float32 whatever is asked for, by parts of names."""
        kinds = self.judge.kinds.items()
        return tuple(layer for name, kind in kinds for layer in kind.float_layers(name))

    def layer_errors(self, precision: str) -> list[tuple[str, float]]:
        """What each layer alone loses, the largest first."""
        if precision not in self.errors:
            make = mixed_file_maker(self.quantizer, precision)
            some = self.judge.inputs if self.calibration is None else self.calibration
            some = {name: value[:LAYER_ERROR_EXAMPLES] for name, value in some.items()}

            def run(content: bytes) -> np.ndarray:
                return np.concatenate([rows.ravel() for rows in self._run(content, some).values()])

            self.errors[precision] = measure_layer_errors(
                self.quantizer.layers, make, run, run(self.content)
            )
        return self.errors[precision]

    def _judged(self, content: bytes, precision: str) -> dict:
        outputs = self._run(content, self.judge.inputs)
        worst, found = self.judge.accuracy(outputs)
        parity = self.judge.parity(outputs, precision)
        facts = {
            key: found[worst].as_dict()[key]
            for key in ("figure", "value", "drop_points", "drop_interval")
        }
        status = found[worst].status if parity.passed else "fail"
        facts |= {"output": worst, "max_abs_diff": parity.max_abs_diff}
        return facts | {"status": status, "passed": status == "pass"}

    def _latency(self, content: bytes) -> float:
        """Milliseconds on one thread, of a file that is not there yet; without end where it cannot
        be timed.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"model.{self.format}"
            WRITERS[self.format](content, file, self.description)
            try:
                return probe.measure_latency(file)
            except (ArtifactError, CheckFailed):  # the others are not lost with it
                return math.inf

    def _run(self, content: bytes, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"model.{self.format}"
            file.write_bytes(content)
            runtime = OPENERS[self.format](file, 0)
            tasks = answered(self.format, runtime, self.judge.kinds)
            return in_batches(lambda batch: rows_of(tasks, runtime.run(batch)), inputs)
