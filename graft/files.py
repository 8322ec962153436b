"""Runs and exported files from Python: open, predict, evaluate, export, measure."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from graft.arguments import command_options, labels_file, readable_data
from graft.shown import Rows, html_table, text_table
from graft.zoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    from graft.recipes.runs.session import OpenedModel

__all__ = ["Exported", "Model", "evaluate", "export", "load", "measure", "predict"]

Split = Literal["train", "validation", "test"]


class Model:
    """An opened artifact that answers: a run, a .keras file, a SavedModel, a .tflite or a .onnx
    file.

    Attributes:
        path: what was opened.
        format: "keras", "savedmodel", "tflite" or "onnx".
        labels: the names of the output units, of several tasks those of the first.
    """

    def __init__(self, opened: "OpenedModel"):
        self._opened = opened
        self.path = opened.session.path
        self.format = opened.session.format
        self.labels = opened.session.labels

    @property
    def tasks(self) -> dict[str, dict]:
        """What each output means: name -> `{"kind", "labels", ...}`."""
        return {name: dict(facts) for name, facts in self._opened.session.tasks.items()}

    def predict(self, inputs: Any) -> dict | list[dict]:
        """What the model says.

        Args:
            inputs: an image (a path, an array `(height, width)` or `(height, width, channels)` of
                1, 3 or 4 channels with pixels from 0 to 255, an image of PIL; of any size) or a
                text; or several of them in a list or an array `(n, height, width, channels)`.

        Returns:
            Of one input a dict, as `{"label", "probability", "scores"}` of one label; of several
            tasks one by the name of each. Of several inputs a list of such dicts.

        Raises:
            DataError: an input that cannot be read.
        """
        one = _is_one(inputs)
        said = list(self._opened.answers([inputs] if one else inputs))
        if not said:
            raise DataError("nothing to predict: the list of inputs is empty")
        return said[0] if one else said

    def evaluate(self, data: Any, **options: Any) -> dict:
        """As `graft.evaluate`."""
        return evaluate(self.path, data, **options)

    def _rows(self) -> list[dict]:
        return [
            {"output": name, "kind": facts["kind"], "labels": _few(facts.get("labels", ()))}
            for name, facts in self.tasks.items()
        ]

    def __repr__(self) -> str:
        takes = ", ".join(f"{n} {s}" for n, s in self._opened.session.inputs.items())
        return f"Model '{self.path}' ({self.format}): {takes}\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>Model <code>{escape(str(self.path))}</code></p>{html_table(self._rows())}"


def _few(labels: Sequence[str]) -> str:
    return ", ".join([*labels[:8], *(["..."] if len(labels) > 8 else [])])


def _is_one(inputs: Any) -> bool:
    """Whether this is one input, and no list of them: an array of several images has rank 4."""
    if isinstance(inputs, str | Path) or hasattr(inputs, "convert"):  # an image of PIL
        return True
    return len(getattr(inputs, "shape", ())) in (2, 3)


def load(path: Any, *, trust: bool = False) -> Model:
    """Open a run or a file, of whatever format.

    Args:
        path: a run (or its folder), a .keras file, a SavedModel folder, a .tflite or a .onnx file.
        trust: open also what is refused as long as nobody vouches for it.

    Raises:
        ArtifactError: missing, damaged, without labels, or refused.
    """
    from graft.export.sessions import open_artifact
    from graft.recipes.runs.session import OpenedModel

    return Model(OpenedModel.of(open_artifact(_place(path), trust=trust)))


def _place(path: Any) -> Path:
    try:
        return Path(path)
    except TypeError:
        raise ConfigError(
            "an artifact is named by its path: a run, a .keras file, a SavedModel folder, a "
            ".tflite or "
            f"a .onnx file; got {type(path).__name__}"
        ) from None


def predict(artifact: Any, inputs: Any) -> dict | list[dict]:
    """What an artifact says of inputs: `load(artifact).predict(inputs)`."""
    return load(artifact).predict(inputs)


def evaluate(artifact: Any, data: Any, *, split: Split = "test", **options: Any) -> dict:
    """All figures of an artifact on labelled data, as `graft evaluate` tells them.

    Args:
        artifact: a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file.
        data: as for `graft.train`.
        split: "train", "validation" or "test".
        **options: of the command, as `skip_bad=True` or `label_column="class"`.

    Returns:
        `{"split", "examples", figures..., "per_class", "tasks", "skipped"}`.

    Raises:
        GraftError: whatever the command would refuse, in the same words.
    """
    from graft.recipes.commands import evaluate as command

    options = command_options(command.Options, "evaluate", {"split": split, **options})
    if data is None:
        raise ConfigError("say what to measure on: graft.evaluate(artifact, data)")
    with readable_data(data, split) as name:
        asked = command.Options(artifact=_place(artifact), data=str(name), **options)
        return command.evaluate(asked)


class Exported:
    """A folder of exported files that were measured as files.

    Attributes:
        path: the folder.
        manifest: manifest.json.
    """

    def __init__(self, path: Path, manifest: dict):
        self.path, self.manifest = path, manifest

    @property
    def passed(self) -> bool:
        """Whether no file failed its checks; one that is undecided has not passed."""
        return {row["status"] for row in self.manifest["files"]} <= {"pass", "skipped"}

    def __fspath__(self) -> str:
        return str(self.path)

    def _rows(self) -> list[dict]:
        return [
            {
                "file": row.get("path"),
                "status": row["status"],
                "MB": row["size_bytes"] / 1e6 if row.get("size_bytes") else None,
                "ms, 1 thread": row.get("latency_ms", {}).get("one_thread", {}).get("median"),
                "figure": (row.get("accuracy") or {}).get("figure"),
                "value": (row.get("accuracy") or {}).get("value"),
            }
            for row in self.manifest["files"]
        ]

    def __repr__(self) -> str:
        return f"Exported '{self.path}'\n{text_table(self._rows())}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>Exported <code>{escape(str(self.path))}</code></p>{html_table(self._rows())}"


def export(
    model: Any,
    out: Path | str | None = None,
    *,
    data: Any = None,
    labels: Sequence[str] | str | None = None,
    **options: Any,
) -> Exported:
    """Write a run or a Keras model as files that other runtimes open, and measure each of them.

    Args:
        model: a run, a .keras file, or a Keras model that takes images (of any size:
            `image_size=` says which one the files take).
        out: the folder to make. Default: RUN/export, or beside the .keras file.
        data: what the files are checked with, as for `graft.train`; in memory, without a split, a
            run takes all of them, and a Keras model a part (the others calibrate int8). Default:
            where the run was trained from; of a Keras model none.
        labels: of a Keras model, one for each output unit in order, or a text file.
        **options: of `graft export`, as `formats=["onnx"]`, `quantize=["int8"]`, `max_drop=0.5`.

    Returns:
        The folder with its manifest.

    Raises:
        GraftError: whatever the command would refuse, in the same words.
    """
    from graft.recipes.commands import export as command

    options = command_options(command.Options, "export", options)
    with contextlib.ExitStack() as stack:
        path = model
        if hasattr(model, "save") and hasattr(model, "layers"):
            if out is None:
                raise ConfigError('say where the files go: graft.export(model, "out", labels=...)')
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.keras"
            model.save(path)
        # A run knows which examples it learned from; of a model of one's own splits are made.
        split = None if _place(path).suffix == ".keras" else "validation"
        names = None if isinstance(labels, str | Path) else labels
        source = stack.enter_context(readable_data(data, split, names))
        asked = command.Options(
            run=_place(path),
            out=None if out is None else Path(out),
            data=source,
            labels=stack.enter_context(labels_file(labels)),
            **options,
        )
        manifest = command.export(asked)
    return Exported(command.folder_of(asked), manifest)


def measure(*artifacts: Any, data: Any = None, **options: Any) -> Rows:
    """Size, latency, memory and, with `data`, the figure of files, each in a process of its own.

    Args:
        *artifacts: runs, files, or folders that `graft.export` made.
        data: labelled data, as for `graft.train`.
        **options: of `graft measure`, as `split="validation"` or `out="measured"`.

    Returns:
        A row for each file: see `graft.recipes.commands.measure.measure`.

    Raises:
        GraftError: whatever the command would refuse, in the same words.
    """
    from graft.recipes.commands import measure as command

    options = command_options(command.Options, "measure", options)
    with readable_data(data, options.get("split", "test")) as name:
        places = tuple(map(_place, artifacts))
        return Rows(command.measure(command.Options(artifacts=places, data=name, **options)))
