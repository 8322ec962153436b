"""`graft predict ARTIFACT INPUT...`: labels and probabilities for pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tyro.conf import Positional

__all__ = ["Options", "command"]

BATCH = 32


@dataclass(frozen=True)
class Options:
    """Label pictures with a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file."""

    artifact: Positional[Path]
    """The run or the file."""
    inputs: Positional[tuple[Path, ...]]
    """Image files of any size, or folders of them."""
    top: int = 3
    """How many labels to print for each picture."""
    json: bool = False
    """Print a JSON list, all scores."""


def command(arguments: Sequence[str]) -> None:
    """Print a line a picture (tab separated), or JSON, to stdout."""
    import tyro

    from export.sessions import open_artifact
    from zoo.errors import ConfigError, DataError
    from zoo.vision import decode

    options = tyro.cli(Options, args=arguments, prog="graft predict")
    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, not {options.top}")
    files = [file for item in options.inputs for file in _files(item)]
    if not files:
        raise DataError("no pictures to label: give image files, or folders that hold some")
    session = open_artifact(options.artifact)
    size = session.input_shape[0]
    results = []
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        scores = session.predict(np.stack([np.float32(decode(file, size)) for file in batch]))
        results += [_result(file, row, session.labels) for file, row in zip(batch, scores, strict=True)]
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    for result in results:
        best = sorted(result["scores"].items(), key=lambda item: -item[1])[: options.top]
        print("\t".join([result["input"], *(f"{label} {p:.3f}" for label, p in best)]))


def _files(item: Path) -> list[Path]:
    from zoo.vision import IMAGE_SUFFIXES

    if item.is_dir():
        return sorted(f for f in item.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    return [item]


def _result(file: Path, row: np.ndarray, labels: Sequence[str]) -> dict:
    best = int(row.argmax())
    return {
        "input": str(file),
        "label": labels[best],
        "probability": float(row[best]),
        "scores": dict(zip(labels, map(float, row), strict=True)),
    }
