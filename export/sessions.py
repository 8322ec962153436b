"""One way to predict with any artifact: a run, a .keras file, a SavedModel folder, a .tflite or a
.onnx file.

Opening a .tflite or .onnx file imports neither TensorFlow nor Keras.
"""

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export import manifest
from graft.export.convert.graph import named_inputs, output_tensors
from graft.export.operators import check_savedmodel
from graft.export.preprocessing import read_preprocessing
from graft.export.runtimes import (
    Runtime,
    check_external_data,
    open_onnx,
    open_savedmodel,
    open_tflite,
)
from graft.export.trial import check_in_a_process
from graft.zoo.backbones.keras_file import describe_foreign_file, load_keras_model
from graft.zoo.backbones.own import MAX_VALUES_PER_EXAMPLE
from graft.zoo.errors import ArtifactError, CheckFailed, ConfigError
from graft.zoo.files import leases
from graft.zoo.files.reading import read_text
from graft.zoo.files.staging import recover_replaced, unchanged_folder
from graft.zoo.heads.own_outputs import Meaning, kind_of_outputs, load_own_model
from graft.zoo.labels import read_labels
from graft.zoo.quiet import load_tensorflow
from graft.zoo.text import Tokenizer, check_tokenizer

if TYPE_CHECKING:
    import keras

__all__ = [
    "Session",
    "check_finite",
    "check_shapes",
    "check_untrusted",
    "is_own",
    "load_keras_model",
    "open_artifact",
    "prepare",
]

TOKEN_INPUTS = ("token_ids", "padding_mask", "segment_ids")


@dataclass(frozen=True)
class Session:
    """An opened artifact.

    Attributes:
        format: "keras", "savedmodel", "tflite" or "onnx".
        path: what was opened.
        labels: the names of the output units, in order.
        inputs: name -> shape without batch, such as `{"image": (160, 160, 3)}`.
        outputs: the names of the outputs.
        integers: whether the inputs are token ids.
        preprocessing: how an example becomes an input, as the artifact says it; of a .keras file of
            pictures only the "kind" of its answers.
        tokenizer: what turns texts into ids; None for other models.
        run: name -> batch to name -> batch; use `predict`.
    """

    format: str
    path: Path
    labels: tuple[str, ...]
    inputs: Mapping[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    integers: bool
    preprocessing: Mapping
    tokenizer: Tokenizer | None
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

    @property
    def tasks(self) -> Mapping[str, Mapping]:
        """`{"kind", "labels", ...}` of each output; empty where the artifact does not say it."""
        return self.preprocessing["tasks"]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the first input, without batch."""
        return next(iter(self.inputs.values()))

    def predict(
        self, batch: "np.ndarray | Mapping[str, np.ndarray]"
    ) -> "np.ndarray | dict[str, np.ndarray]":
        """The outputs for a batch: `(n, units)` for one output, else name -> array.

        `batch` is one array `(n, *input_shape)`, or one for each input by name; for pictures
        float32, 0 to 255.

        Raises:
            ConfigError: an input is missing or has another shape.
            CheckFailed: an answer is no number.
        """
        given = dict(batch) if isinstance(batch, Mapping) else {next(iter(self.inputs)): batch}
        if set(given) != set(self.inputs):
            raise ConfigError(
                f"'{self.path}' has the inputs {sorted(self.inputs)}, got {sorted(given)}"
            )
        for name, value in given.items():
            shape = self.inputs[name]
            fits = len(value.shape) == len(shape) + 1 and all(
                want in (None, have) for want, have in zip(shape, value.shape[1:], strict=True)
            )
            if not fits:
                raise ConfigError(
                    f"the input '{name}' of '{self.path}' has shape (n, *{shape}), got "
                    f"{value.shape}"
                )
        outputs = self.run(given)
        check_finite(outputs, self.path)
        return outputs[self.outputs[0]] if len(self.outputs) == 1 else outputs


def check_finite(outputs: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse answers that are no numbers: what they say is nothing, and would pass for a label all
    the same.

    Raises:
        CheckFailed: one is NaN or infinite; names the file and how many examples.
    """
    for name, rows in outputs.items():
        bad = int((~np.isfinite(rows)).reshape(len(rows), -1).any(-1).sum())
        if bad:
            raise CheckFailed(
                f"'{path}' answers NaN or infinity to {bad} of {len(rows)} examples (output "
                f"'{name}'): its weights are "
                "damaged, or too large for its precision; export again, or train with a lower "
                "--learning-rate"
            )


def open_artifact(
    path: Path,
    threads: int = 1,
    meaning: Meaning | None = None,
    *,
    timed: bool = False,
    trust: bool = False,
) -> Session:
    """Open what lies at `path`, whatever it is; a file runs on so many threads, 0 for all.

    `meaning` says what a .keras file of one's own cannot say. What is only `timed` needs no labels.
    What the manifest beside it does not vouch for is checked as by `check_untrusted`, but with
    `trust`.

    Raises:
        ArtifactError: missing, damaged, of an unknown kind, without labels, with labels that do not
            fit, another file than the manifest beside it describes, or refused.
        ConfigError, DataError: as `zoo.backbones.own.load_own`; or `meaning` is given of what says
            it itself.
    """
    path = Path(path)
    for place in (path, *path.absolute().parents[:2]):  # a file is in an export, and that in a run
        recover_replaced(place)
    if not path.exists():
        leases.refuse_unfinished(path)
        raise ArtifactError(f"there is no artifact '{path}': expected {ACCEPTED}")
    if is_own(path):
        # As values its numbers need no names.
        return _own(
            path, Meaning(outputs="values") if timed else meaning or Meaning(), beside=not timed
        )
    if meaning is not None and meaning != Meaning():
        raise ConfigError(
            f"--labels, --outputs and --input-range are for a .keras file of your own: '{path}' "
            "knows its labels, and what "
            "goes in and comes out"
        )
    with unchanged_folder(path):
        session = _open(path, threads, trust)
    if not session.tasks and not (timed or trust):
        raise ArtifactError(
            f"'{path}' does not say what its {len(session.outputs)} outputs mean: export again"
        )
    return session


def _open(path: Path, threads: int, trust: bool) -> Session:
    check_untrusted(path, trust)
    if (path / "saved_model.pb").is_file():
        return _file("savedmodel", open_savedmodel)(path, threads)
    if (path / "model.keras").is_file():
        return _keras(path / "model.keras", threads)
    if path.is_file() and path.suffix in OPENERS:
        return OPENERS[path.suffix](path, threads)
    if foreign := describe_foreign_file(path):
        raise ArtifactError(f"'{path}' is no artifact: expected {ACCEPTED}; it is {foreign}")
    kind = "the folder " if path.is_dir() else ""
    raise ArtifactError(f"{kind}'{path}' is no artifact: expected {ACCEPTED}")


def check_untrusted(path: Path, trust: bool = False) -> None:
    """Refuse what would do more than compute, or end the process that opens it: the operators of a
    SavedModel are looked at, a .tflite or .onnx file is tried in a process of its own. A file whose
    hash the manifest beside it holds is as it was exported, and is not looked at again.

    Raises:
        ArtifactError: another file than the manifest describes; or refused.
    """
    if _vouched(path) or trust:
        return
    if (path / "saved_model.pb").is_file():
        load_tensorflow()
        if (path / "assets" / "vocab.txt").is_file():  # its operators are those of that library
            import tensorflow_text  # noqa: F401

        check_savedmodel(path)
    elif path.is_file() and path.suffix in (".tflite", ".onnx"):
        if path.suffix == ".onnx":
            check_external_data(path)
        check_in_a_process(path)


def check_shapes(runtime: Runtime, path: Path) -> None:
    """Refuse a file whose inputs or outputs are no rows of examples, or so large that one example
    fills the memory.

    Raises:
        ArtifactError: names the input or output.
    """
    if not runtime.inputs or not runtime.outputs:
        raise ArtifactError(f"'{path}' is damaged: it has no input or no output; export again")
    for name, shape in [*runtime.inputs.items(), *runtime.outputs.items()]:
        if not shape or any(side is not None and side < 1 for side in shape):
            raise ArtifactError(
                f"'{path}' is damaged: its input or output '{name}' is not of the form (examples, "
                f"...), but {shape} for "
                "each; export again"
            )
        if math.prod(side or 1 for side in shape) > MAX_VALUES_PER_EXAMPLE:
            raise ArtifactError(
                f"'{path}' is damaged: its input or output '{name}' would have {shape} values for "
                "each example; export again"
            )


def is_own(path: Path) -> bool:
    """Whether `path` is a .keras file that says nothing of itself: Graft's own lie in a run."""
    path = Path(path)
    beside = [path.parent / name for name in ("run.json", "preprocessing.json")]
    return path.suffix == ".keras" and path.is_file() and not any(file.is_file() for file in beside)


def prepare(path: Path, threads: int = 1) -> None:
    """Load the runtime that `path` needs, on so many threads (0: all), so that opening it costs
    what the file costs.

    Where TensorFlow runs already, its threads stay as they are.
    """
    if Path(path).suffix == ".tflite":
        import ai_edge_litert.interpreter  # noqa: F401
    elif Path(path).suffix == ".onnx":
        import onnxruntime  # noqa: F401
    else:
        load_tensorflow()
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)


def _keras(path: Path, threads: int) -> Session:
    load_tensorflow()
    model = load_keras_model(path)
    attached = _beside(path)
    if "preprocessing.json" not in attached and (kind := kind_of_outputs(model)):
        attached["preprocessing.json"] = json.dumps({"kind": kind})
    return _session("keras", path, _keras_runtime(model, attached))


def _own(path: Path, meaning: Meaning, beside: bool = True) -> Session:
    """A .keras file of one's own, with the labels of labels.txt `beside` it where none are
    given.
    """
    load_tensorflow()
    file = path.parent / "labels.txt"
    if beside and meaning.labels is None and file.is_file():
        meaning = replace(meaning, labels=read_labels(file).labels)
    own = load_own_model(path, meaning, file)
    attached = {
        "labels.txt": "".join(f"{label}\n" for label in own.labels),
        "preprocessing.json": json.dumps({"kind": own.kind}),
    }
    return _session("keras", path, _keras_runtime(own.model, attached))


def _keras_runtime(model: "keras.Model", attached: dict[str, str]) -> Runtime:
    import tensorflow as tf

    call = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

    def run(given):
        outputs = call(
            named_inputs(model, {name: tf.constant(value) for name, value in given.items()})
        )
        return {name: np.asarray(t) for name, t in output_tensors(model, outputs).items()}

    return Runtime(
        {t.name: tuple(t.shape[1:]) for t in model.inputs},
        {name: tuple(t.shape[1:]) for name, t in output_tensors(model, model.output).items()},
        attached,
        any("int" in t.dtype for t in model.inputs),
        run,
    )


def _file(kind: str, opener: Callable[..., Runtime]) -> Callable[[Path, int], Session]:
    def open_it(path: Path, threads: int) -> Session:
        runtime = opener(path, threads)
        lacking = [
            name for name in ("labels.txt", "preprocessing.json") if name not in runtime.attached
        ]
        if lacking:
            raise ArtifactError(
                f"'{path}' is cut short, or was not exported by Graft: it holds no "
                f"{' and no '.join(lacking)}, which say "
                "what comes out and how an example goes in; export the Keras model that it was "
                "made from, `graft export "
                "MODEL.keras --labels FILE`"
            )
        return _session(kind, path, runtime)

    return open_it


def _session(kind: str, path: Path, runtime: Runtime) -> Session:
    check_shapes(runtime, path)
    outputs = tuple(runtime.outputs.values())
    labels = tuple(runtime.attached["labels.txt"].splitlines())
    units = outputs[0][-1]
    tokenizer = runtime.attached.get("tokenizer.json")
    texts = runtime.integers and tokenizer is not None
    described = runtime.attached.get("preprocessing.json", "{}")
    preprocessing = read_preprocessing(described, path, runtime.outputs, labels, texts=texts)
    if texts:
        _check_token_inputs(runtime, path)
        tokenizer = check_tokenizer(tokenizer, preprocessing["tokenizer"]["pad_id"], path)
    elif not runtime.integers and None in next(iter(runtime.inputs.values())):
        raise ArtifactError(f"'{path}' takes pictures of no fixed size: fix it, and export again")
    if len(outputs) == 1 and labels and units is not None and len(labels) != units:
        raise ArtifactError(
            f"'{path}' has {units} outputs but {len(labels)} labels: its labels.txt belongs to "
            "another model"
        )
    names = tuple(runtime.outputs)
    found = tokenizer if texts else None
    return Session(
        kind,
        path,
        labels,
        runtime.inputs,
        names,
        runtime.integers,
        preprocessing,
        found,
        runtime.run,
    )


def _check_token_inputs(runtime: Runtime, path: Path) -> None:
    """Refuse a model of texts that takes something else than rows of ids."""
    for name, shape in runtime.inputs.items():
        if name not in TOKEN_INPUTS or len(shape) != 1:
            raise ArtifactError(
                f"'{path}' is damaged: expected inputs (n, length) of {', '.join(TOKEN_INPUTS)}, "
                f"got '{name}' with {shape}; "
                "export again"
            )


def _vouched(path: Path) -> bool:
    """Whether the manifest beside an exported file holds its hash.

    Raises:
        ArtifactError: it holds another one.
    """
    exported = (path / "saved_model.pb").is_file() or path.suffix in (".tflite", ".onnx")
    if not exported or not (path.parent / manifest.NAME).is_file():
        return False
    rows = [
        row
        for row in manifest.read(path.parent)["files"]
        if row.get("path") == path.name and "sha256" in row
    ]
    if not rows:
        return False
    digest = manifest.sha256(path)
    if any(row["sha256"] != digest for row in rows):
        raise ArtifactError(
            f"'{path}' is not the file that was exported: its sha256 differs from the one in "
            "manifest.json; export "
            "again, or remove manifest.json if you changed the file on purpose"
        )
    return True


def _beside(path: Path) -> dict[str, str]:
    """What a run keeps beside its .keras file."""
    if not (path.parent / "labels.txt").is_file():
        raise ArtifactError(
            f"the labels of '{path}' are missing: expected '{path.parent / 'labels.txt'}'"
        )
    files = [path.parent / name for name in ("labels.txt", "preprocessing.json", "tokenizer.json")]
    return {file.name: read_text(file) for file in files if file.is_file()}


OPENERS: Mapping[str, Callable[[Path, int], Session]] = {
    ".keras": _keras,
    ".tflite": _file("tflite", open_tflite),
    ".onnx": _file("onnx", open_onnx),
}
ACCEPTED = "a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file"
