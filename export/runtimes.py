"""The runtimes of the formats, behind one shape: a file, opened, that runs a batch.

`open_tflite` and `open_onnx` import neither TensorFlow nor Keras. Labels are read, not judged: export/sessions.py does that.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.manifest import cores
from zoo.errors import ArtifactError
from zoo.quiet import load_tensorflow, native_silence

__all__ = ["Runtime", "open_onnx", "open_raw_text", "open_savedmodel", "open_tflite"]


@dataclass(frozen=True)
class Runtime:
    """An opened file.

    Attributes:
        inputs: name -> shape without batch, such as `{"image": (160, 160, 3)}`.
        outputs: name -> shape without batch.
        attached: the text files that the file holds, by name: labels.txt, preprocessing.json, tokenizer.json.
        integers: whether the inputs are whole numbers, token ids; else they are float32.
        run: name -> batch to name -> float32 batch, by name. A file of 8 bits is given and gives real values all the same.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: Mapping[str, tuple[int | None, ...]]
    attached: Mapping[str, str]
    integers: bool
    run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def open_tflite(path: Path, threads: int = 1) -> Runtime:
    """Open a .tflite file with LiteRT; `threads` 0 takes all.

    Raises:
        ArtifactError: damaged, or without a signature.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        with native_silence():
            interpreter = Interpreter(model_path=str(path), num_threads=threads or cores())
            interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"'{path}' is damaged, cut short or no .tflite file: {_first(error)}; export again"
        ) from error
    inputs, outputs = runner.get_input_details(), runner.get_output_details()

    def run(given):
        count = len(next(iter(given.values())))
        values = {name: _quantized(value, inputs[name]) for name, value in given.items()}
        # The file has batch 1, so that it runs on delegates that know no other.
        rows = [runner(**{name: value[i : i + 1] for name, value in values.items()}) for i in range(count)]
        return {name: _real(np.concatenate([row[name] for row in rows]), outputs[name]) for name in outputs}

    shapes = [{name: tuple(map(int, d["shape"][1:])) for name, d in side.items()} for side in (inputs, outputs)]
    integers = any(d["dtype"] == np.int32 for d in inputs.values())
    return Runtime(*shapes, _archived(path), integers, _named(run, path))


def open_onnx(path: Path, threads: int = 1) -> Runtime:
    """Open a .onnx file with onnxruntime on the CPU; `threads` 0 takes all.

    Raises:
        ArtifactError: damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's error classes share no public parent
        raise ArtifactError(f"'{path}' is damaged, cut short or no ONNX file: {_first(error)}; export again") from error
    properties = session.get_modelmeta().custom_metadata_map
    outputs = [output.name for output in session.get_outputs()]

    def run(given):
        return dict(zip(outputs, session.run(None, dict(given)), strict=True))

    shapes = [
        {entry.name: tuple(d if isinstance(d, int) else None for d in entry.shape[1:]) for entry in side}
        for side in (session.get_inputs(), session.get_outputs())
    ]
    attached = {f"{key}.json": properties[key] for key in ("preprocessing", "tokenizer") if key in properties}
    if "labels" in properties:
        attached["labels.txt"] = "\n".join(json.loads(properties["labels"]))
    integers = any("int32" in entry.type for entry in session.get_inputs())
    return Runtime(*shapes, attached, integers, _named(run, path))


def open_savedmodel(path: Path, threads: int = 1) -> Runtime:
    """Open a SavedModel folder with TensorFlow. `threads` counts only where TensorFlow has not started yet; 0 takes all.

    Raises:
        ArtifactError: damaged, or without the signature `serving_default`.
    """
    load_tensorflow()
    import tensorflow as tf

    if (path / "assets" / "vocab.txt").is_file():  # its second signature has operators of that library
        import tensorflow_text  # noqa: F401
    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(f"'{path}' is damaged or has no signature 'serving_default': {_first(error)}") from error
    inputs = function.structured_input_signature[1]

    def run(given, keep=loaded):  # without a reference to it the variables of a SavedModel die
        outputs = function(**{name: tf.constant(value, inputs[name].dtype) for name, value in given.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    assets = {file.name: file for file in (path / "assets").glob("*") if file.suffix in (".txt", ".json")}
    return Runtime(
        {name: tuple(spec.shape[1:]) for name, spec in inputs.items()},
        {name: tuple(spec.shape[1:]) for name, spec in function.structured_outputs.items()},
        {name: file.read_text(encoding="utf-8") for name, file in assets.items() if name != "vocab.txt"},
        any(spec.dtype == tf.int32 for spec in inputs.values()),
        _named(run, path),
    )


def open_raw_text(path: Path) -> Callable:
    """A function: strings -> outputs by name, through the signature `raw_text` of a SavedModel.

    Raises:
        ArtifactError: damaged, or without that signature.
    """
    load_tensorflow()
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["raw_text"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(f"'{path}' is damaged or has no signature 'raw_text': {_first(error)}") from error

    def run(texts, keep=loaded):
        return {name: value.numpy() for name, value in function(text=tf.constant(list(texts))).items()}

    return _named(run, path)


def _named(run: Callable, path: Path) -> Callable:
    """`run`, whose errors name the file; a file can be opened and still hold what its runtime cannot run."""

    def guarded(given):
        try:
            return run(given)
        except Exception as error:  # each runtime has classes of its own
            raise ArtifactError(f"'{path}' cannot be run: {_first(error)}; export again") from error

    return guarded


def _archived(path: Path) -> dict[str, str]:
    """The text files in the archive at the end of a .tflite file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name).decode("utf-8") for name in archive.namelist() if name != "vocab.txt"}
    except zipfile.BadZipFile:
        return {}


def _quantized(values: np.ndarray, detail: Mapping) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not np.issubdtype(detail["dtype"], np.integer) or not scale:
        return values.astype(detail["dtype"], copy=False)
    bounds = np.iinfo(detail["dtype"])
    return np.clip(np.round(values / scale) + zero, bounds.min, bounds.max).astype(detail["dtype"])


def _real(values: np.ndarray, detail: Mapping) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not np.issubdtype(values.dtype, np.integer) or not scale:
        return values
    return (values.astype(np.float32) - zero) * np.float32(scale)


def _first(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
