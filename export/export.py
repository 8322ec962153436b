"""All files of one model: written, reopened from disk, and measured as files."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from graft.export import manifest
from graft.export.convert.graph import as_float32, output_tensors
from graft.export.convert.savedmodel import write_savedmodel
from graft.export.judge import Examples, Judge, Subject
from graft.export.manifest import Description
from graft.export.measured import blank_row, measured_row
from graft.export.quantize.choose import PRECISIONS, Preference
from graft.export.quantize.quantizer import NO_CALIBRATION
from graft.export.quantize.smaller import CONVERTERS, WRITERS, SmallerFiles
from graft.zoo.errors import ConfigError, ExportError, UnknownName
from graft.zoo.files.staging import staged_folder
from graft.zoo.files.writing import write_text
from graft.zoo.heads.kind import by_file_output
from graft.zoo.terminal import progress

if TYPE_CHECKING:
    import keras

__all__ = [
    "FORMATS",
    "FOR_CALIBRATION",
    "Examples",
    "ExportSettings",
    "Subject",
    "export_model",
]

FORMATS = ("savedmodel", "tflite", "onnx")
FOR_CALIBRATION = 32
"""With fewer examples the ranges of int8 depend on which ones they are."""


@dataclass(frozen=True)
class ExportSettings:
    """Which files are wanted.

    Attributes:
        formats: of `FORMATS`.
        precisions: "float16", "dynamic", "int8", "int8-full": smaller TFLite and ONNX files beside
            the float32 one.
        max_drop: points that a file may lose of the figure that each output is judged by.
        prefer: of the files that pass in the place of one that loses more, the quickest or the
            smallest is kept, under the name of what it is.
        explain: whether what each layer loses in int8 is measured in any case.
        overwrite: whether the folder may exist.
    """

    formats: tuple[str, ...] = FORMATS
    precisions: tuple[str, ...] = ()
    max_drop: float = 1.0
    prefer: Preference = "latency"
    explain: bool = False
    overwrite: bool = False

    def check(self) -> None:
        """Refuse names that do not exist.

        Raises:
            UnknownName: a format or precision.
        """
        for noun, names, known in (
            ("format", self.formats, FORMATS),
            ("precision", self.precisions, PRECISIONS),
        ):
            for name in names:
                if name not in known:
                    raise UnknownName(noun, name, known)

    def files_of(self, name: str) -> tuple[str, ...]:
        """The precisions of the files of a format, float32 first."""
        smaller = () if name == "savedmodel" else self.precisions
        return ("float32", *dict.fromkeys(smaller))

    @property
    def requested(self) -> dict:
        """What the manifest says of them."""
        return {
            "formats": list(self.formats),
            "precisions": list(self.precisions),
            "max_drop": self.max_drop,
            "prefer": self.prefer,
        }


def export_model(
    model: "keras.Model",
    folder: Path,
    subject: Subject,
    settings: ExportSettings = ExportSettings(),
    report: Callable[[dict], None] = lambda row: None,
    finish: Callable[[Path], None] = lambda staging: None,
) -> dict:
    """Write `model` in all formats into `folder`, with labels.txt and manifest.json.

    Each file is opened from disk by its own runtime and run on the examples of `subject`, beside
    `model` as it was given. "int8" needs its calibration examples. Where a file loses more than it
    may, or may have, others are tried (see `export/quantize/choose.py`).

    Each row has a `"status"`: "pass", "undecided" (it lost more than it may, which chance may
    explain), "fail", "skipped" (a precision that makes no sense for a format). A file that fails
    stays; a format that cannot be written is a row with its `"error"`.

    Args:
        model: functional.
        folder: to be made.
        subject: what the files say of themselves and are checked with.
        settings: which files.
        report: receives each row when it is done.
        finish: receives the folder that holds all of it, before it takes its place, to add to it.

    Returns:
        The manifest.

    Raises:
        UnknownName: a format or precision that does not exist.
        ConfigError: `folder` exists and may not be replaced; the disk is full; no examples; int8
            without calibration.
        CheckFailed: `model` itself answers NaN, or otherwise than is stated of it.
    """
    from graft.export.convert.shipped import shipped_model

    settings.check()
    if not len(subject.examples):
        raise ConfigError("an export needs at least one example to check its files with")
    needs_calibration = any(name.startswith("int8") for name in settings.precisions)
    if subject.calibration is None and needs_calibration:
        raise ConfigError(NO_CALIBRATION)
    subject = _with_tasks(subject)
    # The model as it is, in its own precision.
    judge = Judge.of(model, subject, settings.max_drop)
    given, model = model, as_float32(model)
    # A rebuilt model may call its inputs otherwise.
    names = {old.name: new.name for old, new in zip(given.inputs, model.inputs, strict=True)}
    judge = replace(judge, inputs={names[name]: values for name, values in judge.inputs.items()})
    whole = shipped_model(model, subject.kinds)
    rows, formats = [], tuple(dict.fromkeys(settings.formats))
    count = sum(len(settings.files_of(name)) for name in formats)
    with (
        staged_folder(folder, settings.overwrite) as staging,
        progress("export", count) as advance,
    ):
        for name in formats:
            made = _Format(whole, name, subject, judge, settings).rows(staging)
            for file in settings.files_of(name):
                advance(0, f"{name} {file}")
                row = next(made, None)
                if row is not None:
                    report(row)
                    rows.append(row)
                advance(1)
        for name, text in subject.description.attached.items():
            if name != "preprocessing.json":  # the manifest holds it
                write_text(staging / name, text)
        for file in subject.beside:
            shutil.copyfile(file, staging / file.name)
        content = {"files": rows, "requested": settings.requested, **_facts(whole, subject)}
        written = manifest.write_manifest(staging, content)
        finish(staging)
    return written


def _with_tasks(subject: Subject) -> Subject:
    """`subject` with a description that says what each output means."""
    description = subject.description
    if "tasks" in description.preprocessing:
        return subject
    tasks = {
        name: {"kind": kind.name, "labels": description.labels}
        for name, kind in subject.kinds.items()
    }
    preprocessing = {**description.preprocessing, "tasks": tasks}
    return replace(subject, description=replace(description, preprocessing=preprocessing))


def _facts(model: "keras.Model", subject: Subject) -> dict:
    """What the manifest says of a model, as files give its answers, beside these."""
    examples, calibration = subject.examples, subject.calibration
    kinds, outputs = by_file_output(subject.kinds), output_tensors(model, model.output)
    return {
        "labels": subject.description.labels,
        "tasks": subject.description.preprocessing["tasks"],
        "inputs": [_tensor(t.name, t) for t in model.inputs],
        "outputs": [{**_tensor(name, t), "kind": kinds[name].name} for name, t in outputs.items()],
        "preprocessing": subject.description.preprocessing,
        "measured_on": {"examples": len(examples), **(examples.facts or {})},
        "calibration": None
        if calibration is None
        else {"examples": len(calibration), **(calibration.facts or {})},
        "training_data": dict(subject.training_data or {}),
        "machine": manifest.describe_machine(),
        "versions": manifest.package_versions(),
    }


def _tensor(name: str, tensor: "keras.KerasTensor") -> dict:
    return {"name": name, "shape": [None, *tensor.shape[1:]], "dtype": tensor.dtype}


@dataclass(frozen=True)
class _Format:
    """The files of one format."""

    model: "keras.Model"
    name: str
    subject: Subject
    judge: Judge
    settings: ExportSettings

    def rows(self, staging: Path) -> Iterator[Mapping]:
        """Write them into the folder `staging`; a row of the manifest for each."""
        blank, description = blank_row(self.name, "float32"), self.subject.description
        target = staging / ("savedmodel" if self.name == "savedmodel" else f"model.{self.name}")
        start = time.perf_counter()
        try:
            content = self._write(target, description)
        except ExportError as error:
            yield blank | {"error": str(error)}
            return
        seconds = time.perf_counter() - start
        whole = measured_row(blank, target, self.judge, description, seconds)
        yield whole
        if self.name == "savedmodel":
            return
        calibration = self.subject.calibration
        smaller = SmallerFiles(
            format=self.name,
            content=content,
            judge=self.judge,
            description=description,
            calibration=None if calibration is None else calibration.named(self.model),
            prefer=self.settings.prefer,
            whole=whole,
        )
        for precision in self.settings.files_of(self.name)[1:]:
            explain = self.settings.explain and precision == "int8"
            yield smaller.row(staging, precision, explain)

    def _write(self, target: Path, description: Description) -> bytes:
        """The float32 file; its content, of a folder nothing."""
        if self.name == "savedmodel":
            write_savedmodel(self.model, target, description)
            return b""
        fixed = [description.length] if self.name == "tflite" and description.length else []
        content = CONVERTERS[self.name](self.model, *fixed)
        WRITERS[self.name](content, target, description)
        return content
