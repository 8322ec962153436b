"""All formats of one model: written, reopened from disk, compared with Keras."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export import evidence, manifest, to_onnx, to_savedmodel, to_tflite
from export.graph import as_float32, output_tensors
from export.sessions import open_artifact
from zoo.errors import ConfigError, ExportError, UnknownName
from zoo.files import staged_folder, write_text

if TYPE_CHECKING:
    import keras

__all__ = ["FORMATS", "export_model"]

FORMATS: Mapping[str, tuple[Callable, str]] = {
    "savedmodel": (to_savedmodel.write, "savedmodel"),
    "tflite": (to_tflite.write, "model.tflite"),
    "onnx": (to_onnx.write, "model.onnx"),
}


def export_model(
    model: "keras.Model",
    folder: Path,
    *,
    labels: Sequence[str],
    kind: str,
    preprocessing: Mapping,
    examples: np.ndarray,
    formats: Sequence[str] = tuple(FORMATS),
    training_data: Mapping | None = None,
    overwrite: bool = False,
    report: Callable[[dict], None] = lambda row: None,
) -> dict:
    """Write `model` in all `formats` into `folder`, with labels.txt and manifest.json; returns the manifest.

    Each file is opened from disk by its own runtime and its outputs for `examples` (a batch of real inputs, without
    preprocessing) are compared with Keras's; `kind` is the head's. A file that fails the check stays, with
    `"passed": false`; a format that cannot be written is a row with its `"error"`. `report` receives each row when it is
    done. `training_data` (where the data came from, its fingerprint, how splits were made) goes into the manifest.

    Raises:
        UnknownName: a format that does not exist.
        ConfigError: `folder` exists and `overwrite` is false; the disk is full; no examples.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownName("format", name, FORMATS)
    if not len(examples):
        raise ConfigError("an export needs at least one example to check its files with")
    model = as_float32(model)
    inputs = np.asarray(examples, model.inputs[0].dtype)
    (reference,) = output_tensors(model, model(inputs, training=False)).values()
    rows = []
    with staged_folder(folder, overwrite) as staging:
        for name in dict.fromkeys(formats):
            write, path = FORMATS[name]
            row = {"format": name, "path": path, "precision": "float32"}
            start = time.perf_counter()
            try:
                write(model, staging / path, labels=labels, preprocessing=preprocessing)
            except ExportError as error:
                row |= {"passed": False, "error": str(error)}
            else:
                seconds = time.perf_counter() - start
                outputs = open_artifact(staging / path).predict(inputs)
                result = evidence.parity(np.asarray(reference), outputs, kind)
                row |= {
                    "size_bytes": manifest.size_bytes(staging / path),
                    "sha256": manifest.sha256(staging / path),
                    "seconds": round(seconds, 2),
                    "parity": result.as_dict(),
                    "passed": result.passed,
                }
            report(row)
            rows.append(row)
        write_text(staging / "labels.txt", "".join(f"{label}\n" for label in labels))
        return manifest.write(
            staging,
            {
                "files": rows,
                "requested": list(formats),
                "labels": list(labels),
                "inputs": [{"name": t.name, "shape": [None, *t.shape[1:]], "dtype": t.dtype} for t in model.inputs],
                "outputs": [
                    {"name": name, "shape": [None, *t.shape[1:]], "dtype": t.dtype, "kind": kind}
                    for name, t in output_tensors(model, model.output).items()
                ],
                "preprocessing": dict(preprocessing),
                "training_data": dict(training_data or {}),
                "versions": manifest.versions(),
            },
        )
