"""`graft predict ARTIFACT INPUT...`: labels and probabilities for pictures or texts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tyro.conf import Positional

if TYPE_CHECKING:
    from export.sessions import Session

__all__ = ["Options", "command"]

BATCH = 32


@dataclass(frozen=True)
class Options:
    """Label pictures or texts with a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file."""

    artifact: Positional[Path]
    """The run or the file."""
    inputs: Positional[tuple[str, ...]]
    """Image files of any size, or folders of them; for a model of texts the texts themselves, or `-` for a line each from
    stdin."""
    top: int = 3
    """How many labels to print for each."""
    json: bool = False
    """Print a JSON list, all scores."""


def command(arguments: Sequence[str]) -> None:
    """Print a line a picture (tab separated), or JSON, to stdout."""
    import tyro

    from export.sessions import open_artifact
    from zoo.errors import ConfigError

    options = tyro.cli(Options, args=arguments, prog="graft predict")
    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, not {options.top}")
    session = open_artifact(options.artifact)
    results = _texts(session, options.inputs) if session.integers else _pictures(session, options.inputs)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    for result in results:
        tasks = (
            [result]
            if not any(isinstance(v, dict) and k not in ("scores", "values") for k, v in result.items())
            else result.values()
        )
        print("\t".join([result["input"], *(_line(task, options.top) for task in tasks if isinstance(task, dict))]))


def _line(result: dict, top: int) -> str:
    """What one head says, for the terminal."""
    if "labels" in result:
        scores = (f"{label} {p:.3f}" for label, p in _highest(result["scores"], top))
        return "\t".join([", ".join(result["labels"]) or "(none)", *scores])
    if "scores" in result:
        return "\t".join(f"{label} {p:.3f}" for label, p in _highest(result["scores"], top))
    if "entities" in result:
        found = (f"{entity['type']}: {entity['text']} {entity['probability']:.3f}" for entity in result["entities"])
        return "\t".join(found) or "(nothing found)"
    if "values" in result:
        return "\t".join(f"{name} {value:.4g}" for name, value in result["values"].items())
    if "value" in result:
        return f"{result['value']:.4g}"
    return " ".join(f"{value:.4f}" for value in result["embedding"])


def _highest(scores: Mapping[str, float], top: int) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: -item[1])[:top]


def _texts(session: "Session", inputs: Sequence[str]) -> list[dict]:
    import sys

    from recipes.engine import text_session
    from zoo.errors import DataError

    lines = [line for item in inputs for line in (sys.stdin.read().splitlines() if item == "-" else [item])]
    if not lines:
        raise DataError("no texts to label: give some, or `-` to read a line each from stdin")
    return list(text_session.predict(session, lines))


def _pictures(session: "Session", inputs: Sequence[str]) -> list[dict]:
    from recipes.engine.text_session import said
    from zoo.errors import DataError
    from zoo.vision import decode

    files = [file for item in inputs for file in _files(Path(item))]
    if not files:
        raise DataError("no pictures to label: give image files, or folders that hold some")
    size = session.input_shape[0]
    results = []
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        scores = session.predict(np.stack([np.float32(decode(file, size)) for file in batch]))
        if isinstance(scores, dict):
            described = session.preprocessing["outputs"]
            results += [
                {"input": str(file), **{name: said(described[name], rows[i]) for name, rows in scores.items()}}
                for i, file in enumerate(batch)
            ]
            continue
        head = {"kind": session.preprocessing.get("kind", "single_label"), "labels": session.labels}
        results += [{"input": str(file), **said(head, row)} for file, row in zip(batch, scores, strict=True)]
    return results


def _files(item: Path) -> list[Path]:
    from zoo.vision import IMAGE_SUFFIXES

    if item.is_dir():
        return sorted(f for f in item.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    return [item]
