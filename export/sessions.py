"""One way to predict with any artifact: a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file.

Opening a .tflite or .onnx file imports neither TensorFlow nor Keras.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.graph import output_tensors
from zoo.errors import ArtifactError, ConfigError
from zoo.quiet import load_tensorflow, native_silence

if TYPE_CHECKING:
    import keras

__all__ = ["Session", "load_keras", "open_artifact"]


@dataclass(frozen=True)
class Session:
    """An opened artifact.

    Attributes:
        format: "keras", "savedmodel", "tflite" or "onnx".
        path: what was opened.
        labels: the names of the output units, in order.
        inputs: name -> shape without batch, such as `{"image": (160, 160, 3)}`.
        outputs: the names of the outputs.
        run: name -> batch to name -> batch; use `predict`.
    """

    format: str
    path: Path
    labels: tuple[str, ...]
    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the first input, without batch."""
        return next(iter(self.inputs.values()))

    def predict(self, batch: "np.ndarray | Mapping[str, np.ndarray]") -> "np.ndarray | dict[str, np.ndarray]":
        """The outputs for a batch: `(n, units)` for one output, else name -> array.

        `batch` is one array `(n, *input_shape)`, or one for each input by name; for pictures float32, 0 to 255.

        Raises:
            ConfigError: an input is missing or has another shape.
        """
        given = dict(batch) if isinstance(batch, Mapping) else {next(iter(self.inputs)): batch}
        if set(given) != set(self.inputs):
            raise ConfigError(f"'{self.path}' has the inputs {sorted(self.inputs)}, got {sorted(given)}")
        for name, value in given.items():
            shape = self.inputs[name]
            fits = len(value.shape) == len(shape) + 1 and all(
                want in (None, have) for want, have in zip(shape, value.shape[1:], strict=True)
            )
            if not fits:
                raise ConfigError(f"the input '{name}' of '{self.path}' has shape (n, *{shape}), got {value.shape}")
        outputs = self.run(given)
        return outputs[self.outputs[0]] if len(self.outputs) == 1 else outputs


def open_artifact(path: Path) -> Session:
    """Open what lies at `path`, whatever it is.

    Raises:
        ArtifactError: missing, damaged, of an unknown kind, without labels, or with labels that do not fit.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"there is no artifact '{path}': expected {ACCEPTED}")
    if (path / "saved_model.pb").is_file():
        return _savedmodel(path)
    if (path / "model.keras").is_file():
        return _keras(path / "model.keras")
    if path.is_file() and path.suffix in OPENERS:
        return OPENERS[path.suffix](path)
    kind = "the folder " if path.is_dir() else ""
    raise ArtifactError(f"{kind}'{path}' is no artifact: expected {ACCEPTED}")


def load_keras(path: Path) -> "keras.Model":
    """Load a .keras file, in safe mode only: a file that holds Python code is refused.

    Raises:
        ArtifactError: damaged, no Keras file, or one with code in it.
    """
    load_tensorflow()
    import keras

    import zoo.layers  # noqa: F401  (registers our own layers)

    if not zipfile.is_zipfile(path):
        raise ArtifactError(f"'{path}' is damaged or no .keras file (a .keras file is a zip archive)")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on whatever its layers raise
        text = str(error)
        if "safe_mode" in text or "unsafe" in text or "Lambda" in text:
            raise ArtifactError(
                f"'{path}' holds Python code (a Lambda layer), which would run when it is loaded: refused; replace the "
                "layer by a registered one"
            ) from error
        raise ArtifactError(f"'{path}' cannot be loaded: {text[:300]}") from error


def _keras(path: Path) -> Session:
    load_tensorflow()
    import tensorflow as tf

    model = load_keras(path)
    call = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)
    names = [t.name for t in model.inputs]

    def run(given):
        values = [tf.constant(given[name]) for name in names]
        outputs = call(values if len(values) > 1 else values[0])
        return {name: np.asarray(t) for name, t in output_tensors(model, outputs).items()}

    outputs = output_tensors(model, model.output)
    units = next(iter(outputs.values())).shape[-1]
    return Session(
        "keras",
        path,
        _checked_labels(path, _labels_file(path.parent / "labels.txt", path), units if len(outputs) == 1 else None),
        {t.name: tuple(t.shape[1:]) for t in model.inputs},
        tuple(outputs),
        run,
    )


def _savedmodel(path: Path) -> Session:
    load_tensorflow()
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(f"'{path}' is damaged or has no signature 'serving_default': {str(error)[:200]}") from error
    inputs = function.structured_input_signature[1]

    def run(given, keep=loaded):  # without a reference to it the variables of a SavedModel die
        outputs = function(**{name: tf.constant(value, inputs[name].dtype) for name, value in given.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    outputs = function.structured_outputs
    units = next(iter(outputs.values())).shape[-1]
    return Session(
        "savedmodel",
        path,
        _checked_labels(path, _labels_file(path / "assets" / "labels.txt", path), units if len(outputs) == 1 else None),
        {name: tuple(spec.shape[1:]) for name, spec in inputs.items()},
        tuple(outputs),
        run,
    )


def _tflite(path: Path) -> Session:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with zipfile.ZipFile(path) as archive:
            labels = archive.read("labels.txt").decode("utf-8").splitlines()
    except (zipfile.BadZipFile, KeyError) as error:
        raise ArtifactError(
            f"'{path}' is cut short, or was not exported by Graft: it holds no labels.txt; export again"
        ) from error
    try:
        with native_silence():
            interpreter = Interpreter(model_path=str(path), num_threads=1)
            interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner("serving_default")
    except (ValueError, RuntimeError) as error:
        raise ArtifactError(f"'{path}' cannot be opened: {str(error)[:200]}") from error
    inputs, outputs = runner.get_input_details(), runner.get_output_details()

    def run(given):
        count = len(next(iter(given.values())))
        # The file has batch 1, so that it runs on delegates that know no other.
        rows = [runner(**{name: value[i : i + 1] for name, value in given.items()}) for i in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in outputs}

    units = next(iter(outputs.values()))["shape"][-1]
    return Session(
        "tflite",
        path,
        _checked_labels(path, labels, units if len(outputs) == 1 else None),
        {name: tuple(map(int, detail["shape"][1:])) for name, detail in inputs.items()},
        tuple(outputs),
        run,
    )


def _onnx(path: Path) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's error classes share no public parent
        raise ArtifactError(f"'{path}' is damaged or no ONNX file: {str(error)[:200]}") from error
    properties = session.get_modelmeta().custom_metadata_map
    if "labels" not in properties:
        raise ArtifactError(f"'{path}' holds no labels in its metadata, so it was not exported by Graft; export again")
    outputs = session.get_outputs()

    def run(given):
        values = session.run(None, given)
        return {output.name: value for output, value in zip(outputs, values, strict=True)}

    return Session(
        "onnx",
        path,
        _checked_labels(path, json.loads(properties["labels"]), outputs[0].shape[-1] if len(outputs) == 1 else None),
        {
            entry.name: tuple(d if isinstance(d, int) else None for d in entry.shape[1:])
            for entry in session.get_inputs()
        },
        tuple(output.name for output in outputs),
        run,
    )


def _labels_file(file: Path, artifact: Path) -> list[str]:
    if not file.is_file():
        raise ArtifactError(f"the labels of '{artifact}' are missing: expected '{file}'")
    return file.read_text(encoding="utf-8").splitlines()


def _checked_labels(path: Path, labels, units: int | None) -> tuple[str, ...]:
    if units is not None and labels and len(labels) != units:
        raise ArtifactError(
            f"'{path}' has {units} outputs but {len(labels)} labels: its labels.txt belongs to another model"
        )
    return tuple(labels)


OPENERS: Mapping[str, Callable[[Path], Session]] = {".keras": _keras, ".tflite": _tflite, ".onnx": _onnx}
ACCEPTED = "a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file"
