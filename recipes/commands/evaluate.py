"""`graft evaluate ARTIFACT --data SOURCE`: accuracy of a run or a file on labelled data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

__all__ = ["Options", "command", "evaluate", "provenance"]

BATCH = 64


@dataclass(frozen=True)
class Options:
    """Measure a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file on labelled data."""

    artifact: Positional[Path]
    """The run or the file."""
    data: str
    """As for `graft train`: a folder, a table, tfds:NAME or a built-in name."""
    split: Literal["train", "validation", "test"] = "test"
    json: bool = False
    """Print JSON."""
    skip_bad: bool = False
    """Leave unreadable pictures out and count them, instead of stopping."""
    path_column: str = "path"
    label_column: str = "label"


def command(arguments: Sequence[str]) -> None:
    """Print the figures to stdout."""
    import tyro

    options = tyro.cli(Options, args=arguments, prog="graft evaluate")
    result = evaluate(options)
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    print(f"accuracy {result['accuracy']:.4f}  loss {result['loss']:.4f}  on {result['examples']} examples")
    width = max(map(len, result["per_class"]))
    for label, row in result["per_class"].items():
        print(
            f"{label:<{width}}  precision {row['precision']:.3f}  recall {row['recall']:.3f}  f1 {row['f1']:.3f}"
            f"  of {row['examples']}"
        )


def evaluate(options: Options) -> dict:
    """The figures of `recipes.engine.evaluation.evaluate`, with the pictures that were skipped."""
    from export import evidence
    from export.sessions import open_artifact
    from recipes.engine import evaluation, images, sources, splits
    from zoo.heads import single_label

    session = open_artifact(options.artifact)
    source = sources.load(options.data, path_column=options.path_column, label_column=options.label_column)
    examples = splits.reuse(source, options.split, provenance(options.artifact))
    pixels = images.decode_examples(examples, session.labels, session.input_shape[0], skip_bad=options.skip_bad)
    batches = (
        (np.float32(pixels.pixels[i : i + BATCH]), pixels.targets[i : i + BATCH]) for i in range(0, len(pixels), BATCH)
    )
    head = single_label(session.labels)
    result = evidence.measure(session, batches, lambda outputs, targets: evaluation.evaluate(head, outputs, targets))
    return {"split": options.split, **result, "skipped": list(pixels.skipped)}


def provenance(artifact: Path) -> dict | None:
    """What is known of the data that `artifact` was trained on: from the run, or from the manifest beside a file."""
    places = ((artifact, "run.json", "data"), (artifact.parent, "run.json", "data"))
    for folder, name, key in (*places, (artifact.parent, "manifest.json", "training_data")):
        path = Path(folder) / name
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8")).get(key)
    return None
