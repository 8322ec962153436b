"""`graft evaluate ARTIFACT --data SOURCE`: accuracy of a run or a file on labelled data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tyro.conf import Positional

if TYPE_CHECKING:
    from export.sessions import Session
    from recipes.engine.images import Images
    from recipes.engine.membership import Membership
    from recipes.engine.sources import Source
    from recipes.engine.texts import Texts

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
    text_column: str = "text"
    label_column: str = "label"
    tags_column: str = "tags"
    """The columns of a table."""


def command(arguments: Sequence[str]) -> None:
    """Print the figures to stdout."""
    import tyro

    options = tyro.cli(Options, args=arguments, prog="graft evaluate")
    result = evaluate(options)
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for task, figures in result.get("tasks", {"": result}).items():
        values = (f"{name} {value:.4f}" for name, value in figures.items() if isinstance(value, float))
        print("  ".join(filter(None, [task, *values])), f" on {result['examples']} examples")
        width = max(map(len, figures["per_class"]), default=0)
        for label, row in figures["per_class"].items():
            print(
                f"{label:<{width}}  precision {row['precision']:.3f}  recall {row['recall']:.3f}  f1 {row['f1']:.3f}"
                f"  of {row['examples']}"
            )


def evaluate(options: Options) -> dict:
    """All figures of an artifact on a split: of `recipes.engine.evaluation.evaluate`, with the pictures that were skipped,
    or of `recipes.engine.head_evaluation.figures`."""
    from export.sessions import open_artifact

    session = open_artifact(options.artifact)
    return {"split": options.split, **(_texts(session, options) if session.integers else _pictures(session, options))}


def _texts(session: "Session", options: Options) -> dict:
    from recipes.engine import head_evaluation, sentences, text_session, texts

    heads = text_session.heads_of(session.preprocessing)
    columns = sentences.Columns(options.text_column, options.label_column, options.tags_column)
    source = text_session.labelled(heads, options.data, columns)
    chosen, seen = _chosen(source, options)
    encoded = texts.encode(
        chosen, session.tokenizer, heads, source.labels, inputs=session.inputs, max_length=text_session.longest(session)
    )
    _refuse_what_was_trained_on(seen, chosen, encoded, options.split)
    found = head_evaluation.figures(heads, text_session.outputs(session, encoded), encoded)
    return {**found, "truncated": encoded.truncated}


def _pictures(session: "Session", options: Options) -> dict:
    from export import evidence
    from recipes.engine import evaluation, images, sources
    from zoo.errors import ConfigError
    from zoo.heads import single_label

    if "outputs" in session.preprocessing:
        return _tasks(session, options)
    kind = session.preprocessing.get("kind", "single_label")
    if kind != "single_label":
        raise ConfigError(
            f"'{options.artifact}' answers with {'values' if kind == 'regression' else 'several labels at once'}: of models "
            "that Graft has not trained, those that choose one label can be evaluated"
        )
    columns = {"path_column": options.path_column, "label_column": options.label_column}
    source = sources.load(options.data, **columns, to_train=False)
    examples, seen = _chosen(source, options)
    pixels = images.decode_examples(examples, session.labels, session.input_shape[0], skip_bad=options.skip_bad)
    _refuse_what_was_trained_on(seen, examples, pixels, options.split)
    batches = (
        (np.float32(pixels.pixels[i : i + BATCH]), pixels.targets[i : i + BATCH]) for i in range(0, len(pixels), BATCH)
    )
    head = single_label(session.labels)
    result = evidence.measure(session, batches, lambda outputs, targets: evaluation.evaluate(head, outputs, targets))
    return {**result, "skipped": list(pixels.skipped)}


def _tasks(session: "Session", options: Options) -> dict:
    """Several tasks on pictures; empty cells are not asked."""
    from recipes.engine import images, task_run, tasks, text_session

    described = session.preprocessing
    given = task_run.tasks_in(described)
    source = tasks.load(options.data, given, path_column=options.path_column, to_train=False)
    examples, seen = _chosen(source, options)
    heads = text_session.heads_of(described)
    pixels = images.decode_pictures(
        examples, tasks.targets_of(heads, examples), session.input_shape[0], skip_bad=options.skip_bad
    )
    _refuse_what_was_trained_on(seen, examples, pixels, options.split)
    parts = [session.predict(np.float32(pixels.pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in session.outputs}
    return {**tasks.figures(heads, outputs, pixels), "skipped": list(pixels.skipped)}


def _chosen(source: "Source", options: Options) -> tuple[tuple, "Membership | None"]:
    """(the examples to measure on, what the model has seen where that is recorded)."""
    from recipes.engine import membership, splits

    known = provenance(options.artifact)
    seen = membership.beside(options.artifact, known) if options.split != "train" else None
    return splits.reuse(source, options.split, known), seen


def _refuse_what_was_trained_on(
    seen: "Membership | None", examples: Sequence, found: "Images | Texts", split: str
) -> None:
    if seen is not None:
        seen.refuse(examples, split)
        seen.refuse_decoded(found, split)


def provenance(artifact: Path) -> dict | None:
    """What is known of the data that `artifact` was trained on: from the run, or from the manifest beside a file."""
    places = ((artifact, "run.json", "data"), (artifact.parent, "run.json", "data"))
    for folder, name, key in (*places, (artifact.parent, "manifest.json", "training_data")):
        path = Path(folder) / name
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8")).get(key)
    return None
