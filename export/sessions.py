"""One way to predict with any artifact: a run, a .keras file, a SavedModel folder, a .tflite or a
.onnx file.

Opening a .tflite or .onnx file imports neither TensorFlow nor Keras.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from graft.export.preprocessing import read_preprocessing
from graft.export.runtimes.keras import open_keras, open_own_keras
from graft.export.runtimes.onnx import open_onnx
from graft.export.runtimes.runtime import Arrays, Runtime, Shapes, check_shapes
from graft.export.runtimes.savedmodel import open_savedmodel
from graft.export.runtimes.tflite import open_tflite
from graft.export.untrusted.checks import check_untrusted
from graft.zoo.backbones.keras_file import describe_foreign_file
from graft.zoo.errors import ArtifactError, CheckFailed, ConfigError
from graft.zoo.files import leases
from graft.zoo.files.staging import recover_replaced, unchanged_folder
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.own_outputs import MEANING_OPTIONS, Meaning
from graft.zoo.heads.table import find_kind
from graft.zoo.text import Tokenizer, check_tokenizer

__all__ = ["Session", "answered", "check_finite", "is_own_model", "open_artifact", "rows_of"]

TOKEN_INPUTS = ("token_ids", "padding_mask", "segment_ids")
Answered = Callable[[Arrays], np.ndarray]
"""What a file gave, by the names of its outputs -> the rows of a task."""
OPENERS: Mapping[str, Callable[[Path, int], Runtime]] = {
    "keras": open_keras,
    "savedmodel": open_savedmodel,
    "tflite": open_tflite,
    "onnx": open_onnx,
}
ACCEPTED_ARTIFACTS = "a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file"


@dataclass(frozen=True)
class Session:
    """An opened artifact.

    Attributes:
        format: "keras", "savedmodel", "tflite" or "onnx".
        path: what was opened.
        labels: the names of the output units, in order.
        inputs: name -> shape without batch, such as `{"image": (160, 160, 3)}`.
        outputs: the names of the tasks, or of the outputs where nobody says what they mean.
        integers: whether the inputs are token ids.
        preprocessing: how an example becomes an input and what the outputs mean, as the artifact
            says it.
        tokenizer: what turns texts into ids; None for other models.
        run: name -> batch to name -> batch; use `predict`.
    """

    format: str
    path: Path
    labels: tuple[str, ...]
    inputs: Shapes
    outputs: tuple[str, ...]
    integers: bool
    preprocessing: Mapping
    tokenizer: Tokenizer | None
    run: Callable[[Arrays], dict[str, np.ndarray]]

    @property
    def tasks(self) -> Mapping[str, Mapping]:
        """`{"kind", "labels", ...}` of each output; empty where the artifact does not say it."""
        return self.preprocessing["tasks"]

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the first input, without batch."""
        return next(iter(self.inputs.values()))

    def predict(self, batch: np.ndarray | Arrays) -> np.ndarray | dict[str, np.ndarray]:
        """The outputs for a batch.

        Args:
            batch: one array `(n, *input_shape)`, or one for each input by name; for images float32,
                0 to 255.

        Returns:
            `(n, units)` for one output, else name -> array.

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


def check_finite(outputs: Arrays, path: Path) -> None:
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
                f"'{name}'): its weights are damaged, or too large for its precision; export "
                "again, or train with a lower --learning-rate"
            )


def open_artifact(
    path: Path,
    threads: int = 0,
    meaning: Meaning | None = None,
    *,
    timed: bool = False,
    trust: bool = False,
) -> Session:
    """Open what lies at `path`, whatever it is.

    Args:
        path: a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file.
        threads: how many a file runs on, 0 for all.
        meaning: what a .keras file of your own cannot say.
        timed: what is only timed needs no labels.
        trust: open also what the manifest beside it does not vouch for, without the checks of
            `check_untrusted`.

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
        raise ArtifactError(f"there is no artifact '{path}': expected {ACCEPTED_ARTIFACTS}")
    if is_own_model(path):
        # As values its numbers need no names.
        meaning = meaning or Meaning()
        meaning = replace(meaning, outputs="values") if timed else meaning
        return _session("keras", path, open_own_keras(path, meaning, labels_beside=not timed))
    if meaning is not None and meaning != Meaning():
        raise ConfigError(
            f"{MEANING_OPTIONS} are for a .keras file of your own: '{path}' knows its labels, and "
            "what goes in and comes out"
        )
    with unchanged_folder(path):
        check_untrusted(path, trust)
        kind, file = _format_of(path)
        session = _session(kind, file, OPENERS[kind](file, threads))
    if not session.tasks and not (timed or trust):
        raise ArtifactError(
            f"'{path}' does not say what its {len(session.outputs)} outputs mean: export again"
        )
    return session


def _format_of(path: Path) -> tuple[str, Path]:
    """The format of an artifact, and what is opened of it.

    Raises:
        ArtifactError: it is none.
    """
    if (path / "saved_model.pb").is_file():
        return "savedmodel", path
    if (path / "model.keras").is_file():
        return "keras", path / "model.keras"
    if path.is_file() and path.suffix in (".keras", ".tflite", ".onnx"):
        return path.suffix.removeprefix("."), path
    if foreign := describe_foreign_file(path):
        raise ArtifactError(
            f"'{path}' is no artifact: expected {ACCEPTED_ARTIFACTS}; it is {foreign}"
        )
    kind = "the folder " if path.is_dir() else ""
    raise ArtifactError(f"{kind}'{path}' is no artifact: expected {ACCEPTED_ARTIFACTS}")


def is_own_model(path: Path) -> bool:
    """Whether `path` is a .keras file that says nothing of itself: Graft's own lie in a run."""
    path = Path(path)
    beside = [path.parent / name for name in ("run.json", "preprocessing.json")]
    return path.suffix == ".keras" and path.is_file() and not any(file.is_file() for file in beside)


def _session(kind: str, path: Path, runtime: Runtime) -> Session:
    """A session of an opened file, whose text files fit its inputs and outputs.

    Raises:
        ArtifactError: one is missing, or does not fit.
    """
    attached = runtime.attached
    lacking = [name for name in ("labels.txt", "preprocessing.json") if name not in attached]
    if kind != "keras" and lacking:
        raise ArtifactError(
            f"'{path}' is cut short, or was not exported by Graft: it holds no "
            f"{' and no '.join(lacking)}, which say what comes out and how an example goes in; "
            "export the Keras model that it was made from, `graft export MODEL.keras --labels FILE`"
        )
    check_shapes(runtime, path)
    labels = tuple(attached["labels.txt"].splitlines())
    texts = runtime.integers and "tokenizer.json" in attached
    described = attached.get("preprocessing.json", "{}")
    preprocessing = read_preprocessing(described, path, runtime.outputs, labels, texts=texts)
    tokenizer = None
    if texts:
        _check_token_inputs(runtime, path)
        pad_id = preprocessing["tokenizer"]["pad_id"]
        tokenizer = check_tokenizer(attached["tokenizer.json"], pad_id, path)
    elif not runtime.integers and None in next(iter(runtime.inputs.values())):
        raise ArtifactError(f"'{path}' takes images of no fixed size: fix it, and export again")
    kinds = {name: find_kind(facts["kind"]) for name, facts in preprocessing["tasks"].items()}
    shape = next(iter(runtime.outputs.values()))
    units = shape[-1] if shape else None
    named = len(runtime.outputs) == 1 and all(kind.named for kind in kinds.values())
    if named and labels and units is not None and len(labels) != units:
        raise ArtifactError(
            f"'{path}' has {units} outputs but {len(labels)} labels: its labels.txt belongs to "
            "another model"
        )
    tasks = answered(kind, runtime, kinds)
    return Session(
        format=kind,
        path=path,
        labels=labels,
        inputs=runtime.inputs,
        outputs=tuple(tasks),
        integers=runtime.integers,
        preprocessing=preprocessing,
        tokenizer=tokenizer,
        run=lambda given: rows_of(tasks, runtime.run(given)),
    )


def answered(kind: str, runtime: Runtime, kinds: Mapping[str, Kind]) -> Mapping[str, Answered]:
    """Task -> what makes its rows of the outputs of a file of format `kind`; where it is not known
    what they mean, of each output itself.
    """
    found: dict[str, Answered] = {}
    size = next(iter(runtime.inputs.values()))[:2]
    for output in runtime.outputs:
        name = next((n for n, k in kinds.items() if output in (n, *k.file_outputs(n))), output)
        if name not in kinds:
            found[name] = operator.itemgetter(output)
        elif kind == "keras":
            found[name] = partial(_of_model, kinds[name], name, size)
        else:
            found[name] = partial(kinds[name].gathered, name, size=size)
    return found


def _of_model(kind: Kind, name: str, size: tuple[int, int], outputs: Arrays) -> np.ndarray:
    """The rows of an output of the graph that trains."""
    return kind.shipped(outputs[name], size)


def rows_of(tasks: Mapping[str, Answered], outputs: Arrays) -> dict[str, np.ndarray]:
    """The rows of each task in what a file gave."""
    return {name: rows(outputs) for name, rows in tasks.items()}


def _check_token_inputs(runtime: Runtime, path: Path) -> None:
    """Refuse a model of texts that takes something else than rows of ids."""
    for name, shape in runtime.inputs.items():
        if name not in TOKEN_INPUTS or len(shape) != 1:
            raise ArtifactError(
                f"'{path}' is damaged: expected inputs (n, length) of {', '.join(TOKEN_INPUTS)}, "
                f"got '{name}' with {shape}; export again"
            )
