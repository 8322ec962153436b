"""The runtimes of the formats, behind one shape: a file, opened, that runs a batch.

`open_tflite` and `open_onnx` import neither TensorFlow nor Keras. Labels are read, not judged:
export/sessions.py does that.
"""

import mmap
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export.manifest import cores
from graft.zoo.errors import ArtifactError
from graft.zoo.files.archives import opened_archive, read_member
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.reading import parse_json, read_text
from graft.zoo.quiet import load_tensorflow, native_silence

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = [
    "Runtime",
    "check_external_data",
    "open_onnx",
    "open_raw_text",
    "open_savedmodel",
    "open_tflite",
]


ATTACHED = ("labels.txt", "preprocessing.json", "tokenizer.json")
"""The text files that an exported file holds, and is read for."""


@dataclass(frozen=True)
class Runtime:
    """An opened file.

    Attributes:
        inputs: name -> shape without batch, such as `{"image": (160, 160, 3)}`.
        outputs: name -> shape without batch.
        attached: the text files that the file holds, by name: labels.txt, preprocessing.json,
            tokenizer.json.
        integers: whether the inputs are whole numbers, token ids; else they are float32.
        run: name -> batch to name -> float32 batch, by name. A file of 8 bits is given and gives
            real values all the same.
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
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        shapes = [
            {name: tuple(map(int, d["shape"][1:])) for name, d in side.items()}
            for side in (inputs, outputs)
        ]
        integers = any(d["dtype"] == np.int32 for d in inputs.values())
    except Exception as error:  # what its wrapper makes of damaged content
        raise ArtifactError(
            f"'{path}' is damaged, cut short or no .tflite file: {_first(error)}; export again"
        ) from error

    def run(given):
        count = len(next(iter(given.values())))
        values = {name: _quantized(value, inputs[name]) for name, value in given.items()}
        # The file has batch 1, so that it runs on delegates that know no other.
        rows = [
            runner(**{name: value[i : i + 1] for name, value in values.items()})
            for i in range(count)
        ]
        return {
            name: _real(np.concatenate([row[name] for row in rows]), outputs[name])
            for name in outputs
        }

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
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        properties = session.get_modelmeta().custom_metadata_map
        outputs = [output.name for output in session.get_outputs()]
        shapes = [
            {
                entry.name: tuple(d if isinstance(d, int) else None for d in entry.shape[1:])
                for entry in side
            }
            for side in (session.get_inputs(), session.get_outputs())
        ]
        integers = any("int32" in entry.type for entry in session.get_inputs())
    except Exception as error:  # onnxruntime's error classes share no public parent
        raise ArtifactError(
            f"'{path}' is damaged, cut short or no ONNX file: {_first(error)}; export again"
        ) from error

    def run(given):
        return dict(zip(outputs, session.run(None, dict(given)), strict=True))

    attached = {
        f"{key}.json": properties[key]
        for key in ("preprocessing", "tokenizer")
        if key in properties
    }
    if "labels" in properties:
        labels = parse_json(properties["labels"], f"{path}: labels", list, "export again")
        if not all(isinstance(label, str) for label in labels):
            raise ArtifactError(
                f"the labels of '{path}' are damaged: expected a list of names; export again"
            )
        attached["labels.txt"] = "\n".join(labels)
    return Runtime(*shapes, attached, integers, _named(run, path))


def check_external_data(path: Path) -> None:
    """Refuse a .onnx file whose weights are in other files: their bytes could be those of any file
    of the machine.

    Raises:
        ArtifactError: it names such a file; or it is damaged.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"location") < 0:  # without that word no tensor can be elsewhere
                return
    import onnx

    with one_line_if_damaged(path, "export again"):
        model = onnx.load(path, load_external_data=False)
        outside = [
            tensor
            for tensor in _messages(model)
            if isinstance(tensor, onnx.TensorProto)
            and tensor.data_location == onnx.TensorProto.EXTERNAL
        ]
    if outside:
        named = next(
            (entry.value for entry in outside[0].external_data if entry.key == "location"), ""
        )
        raise ArtifactError(
            f"'{path}' keeps the weights '{outside[0].name}' in another file ('{named}'): refused, "
            "because weights must "
            "be in the file itself; save it with onnx.save_model(model, path), or --trust opens it "
            "all the same"
        )


def _messages(message: "Message") -> "Iterator[Message]":
    """A message and all that it holds: a tensor may be in a graph, a sparse tensor, an attribute, a
    branch, a function.
    """
    from google.protobuf.message import Message

    waiting = [message]
    while waiting:
        item = waiting.pop()
        yield item
        for field, value in item.ListFields():
            if field.message_type is not None:
                waiting += [value] if isinstance(value, Message) else value


def open_savedmodel(path: Path, threads: int = 1) -> Runtime:
    """Open a SavedModel folder with TensorFlow. `threads` counts only where TensorFlow has not
    started yet; 0 takes all.

    Raises:
        ArtifactError: damaged, or without the signature `serving_default`.
    """
    load_tensorflow()
    import tensorflow as tf

    if (
        path / "assets" / "vocab.txt"
    ).is_file():  # its second signature has operators of that library
        import tensorflow_text  # noqa: F401
    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["serving_default"]
        shapes = [
            {name: tuple(spec.shape[1:]) for name, spec in side.items()}
            for side in (function.structured_input_signature[1], function.structured_outputs)
        ]
    except Exception as error:  # TensorFlow passes on what its loaders stumble over
        raise ArtifactError(
            f"'{path}' is damaged or has no signature 'serving_default': {_first(error)}"
        ) from error
    inputs = function.structured_input_signature[1]

    def run(given, keep=loaded):  # without a reference to it the variables of a SavedModel die
        outputs = function(
            **{name: tf.constant(value, inputs[name].dtype) for name, value in given.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}

    assets = {
        file.name: file for file in (path / "assets").glob("*") if file.suffix in (".txt", ".json")
    }
    return Runtime(
        *shapes,
        {name: read_text(file) for name, file in assets.items() if name != "vocab.txt"},
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
    except Exception as error:
        raise ArtifactError(
            f"'{path}' is damaged or has no signature 'raw_text': {_first(error)}"
        ) from error

    def run(texts, keep=loaded):
        return {
            name: value.numpy() for name, value in function(text=tf.constant(list(texts))).items()
        }

    return _named(run, path)


def _named(run: Callable, path: Path) -> Callable:
    """`run`, whose errors name the file; a file can be opened and still hold what its runtime
    cannot run.
    """

    def guarded(given):
        try:
            return run(given)
        except Exception as error:  # each runtime has classes of its own
            raise ArtifactError(f"'{path}' cannot be run: {_first(error)}; export again") from error

    return guarded


def _archived(path: Path) -> dict[str, str]:
    """The text files in the archive at the end of a .tflite file."""
    if not zipfile.is_zipfile(path):
        return {}
    with one_line_if_damaged(path, "export again"), opened_archive(path) as archive:
        return {
            name: read_member(archive, name).decode("utf-8")
            for name in ATTACHED
            if name in archive.namelist()
        }


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
