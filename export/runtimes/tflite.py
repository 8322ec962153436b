"""A .tflite file, opened by LiteRT. Imports neither TensorFlow nor Keras."""

import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from graft.export.manifest import EXPORT_AGAIN, available_cores
from graft.export.runtimes.runtime import Arrays, Runtime, named_errors, one_line
from graft.zoo.errors import ArtifactError
from graft.zoo.files.archives import opened_archive, read_member
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.quiet import native_silence

__all__ = ["open_tflite"]

ATTACHED_FILES = ("labels.txt", "preprocessing.json", "tokenizer.json")
"""The text files that are read from the archive at the end of a file."""
MOST_INTERPRETERS = 8
"""Of one file at once; each holds the weights in a form of its own."""


def open_tflite(path: Path, threads: int = 1) -> Runtime:
    """Open a .tflite file with LiteRT.

    Args:
        path: the file.
        threads: that it runs on; 0 takes all of the machine: for a single example threads of one
            interpreter, for several interpreters of one thread each, which share them.

    Raises:
        ArtifactError: damaged, or without a signature.
    """
    from ai_edge_litert.interpreter import Interpreter

    def runner_of(count: int) -> Any:
        with native_silence():
            interpreter = Interpreter(model_path=str(path), num_threads=count)
            interpreter.allocate_tensors()
        return interpreter.get_signature_runner("serving_default")

    try:
        runner = runner_of(threads or available_cores())
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        input_shapes, output_shapes = (
            {name: tuple(map(int, detail["shape"][1:])) for name, detail in side.items()}
            for side in (inputs, outputs)
        )
        integers = any(detail["dtype"] == np.int32 for detail in inputs.values())
    except Exception as error:  # what its wrapper makes of damaged content
        raise ArtifactError(
            f"'{path}' is damaged, cut short or no .tflite file: {one_line(error)}; {EXPORT_AGAIN}"
        ) from error
    most = 1 if threads else min(MOST_INTERPRETERS, available_cores())
    more: list[Any] = []

    def run(given: Arrays) -> dict[str, np.ndarray]:
        count = len(next(iter(given.values())))
        values = {name: _quantized(value, inputs[name]) for name, value in given.items()}
        if min(most, count) > 1:
            more.extend(runner_of(1) for _ in range(min(most, count) - len(more)))
            rows = _run_alone(more[:count], values, count)
        else:
            rows = _run_alone([runner], values, count)
        return {
            name: _dequantized(np.concatenate([row[name] for row in rows]), outputs[name])
            for name in outputs
        }

    attached = _attached_files(path)
    return Runtime(input_shapes, output_shapes, attached, integers, named_errors(run, path))


def _run_alone(
    runners: Sequence[Any], values: Mapping[str, np.ndarray], count: int
) -> list[Mapping[str, np.ndarray]]:
    """The outputs of each of `count` examples, shared between `runners`: the file has batch 1, so
    that it runs on delegates that know no other.
    """
    rows: list[Mapping[str, np.ndarray]] = [{}] * count

    def some(number: int) -> None:
        for i in range(number, count, len(runners)):
            rows[i] = runners[number](**{name: v[i : i + 1] for name, v in values.items()})

    if len(runners) == 1:
        some(0)
        return rows
    with ThreadPoolExecutor(len(runners)) as pool:
        list(pool.map(some, range(len(runners))))
    return rows


def _attached_files(path: Path) -> dict[str, str]:
    if not zipfile.is_zipfile(path):
        return {}
    with one_line_if_damaged(path, EXPORT_AGAIN), opened_archive(path) as archive:
        return {
            name: read_member(archive, name).decode("utf-8")
            for name in ATTACHED_FILES
            if name in archive.namelist()
        }


def _quantized(values: np.ndarray, detail: Mapping) -> np.ndarray:
    """Real values as a tensor of the file takes them."""
    scale, zero = detail["quantization"]
    if not np.issubdtype(detail["dtype"], np.integer) or not scale:
        return values.astype(detail["dtype"], copy=False)
    bounds = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale) + zero, bounds.min, bounds.max).astype(detail["dtype"])


def _dequantized(values: np.ndarray, detail: Mapping) -> np.ndarray:
    """Real values of what a tensor of the file holds."""
    scale, zero = detail["quantization"]
    if not np.issubdtype(values.dtype, np.integer) or not scale:
        return values
    return (values.astype(np.float32) - zero) * np.float32(scale)
