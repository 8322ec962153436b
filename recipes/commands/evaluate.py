"""`graft evaluate ARTIFACT --data SOURCE`: accuracy of a run or a file on labelled data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tyro.conf import Positional

if TYPE_CHECKING:
    from graft.export.sessions import Session
    from graft.recipes.codecs.images import Images
    from graft.recipes.codecs.texts import Texts
    from graft.recipes.data.membership import Membership
    from graft.recipes.data.sources import Source
    from graft.zoo.heads.scores import Score

__all__ = ["Options", "command", "evaluate", "judge", "provenance"]

BATCH = 64

ALL = "all"
"""What is said of the split where the data have none and all of them are measured."""


@dataclass(frozen=True)
class Options:
    """Measure a run, a .keras file, a SavedModel folder, a .tflite or a .onnx file on labelled
    data.
    """

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
    labels: str | None = None
    """Of a .keras file of your own: a text file, one label a line in the order of the outputs, or
    a,b,c. Default: labels.txt beside it.
    """
    outputs: Literal["probabilities", "logits", "values"] | None = None
    """Of a .keras file of your own: what its numbers are. Default: what its last layer tells."""
    input_range: Literal["0..255", "0..1", "-1..1"] = "0..255"
    """Of a .keras file of your own: the pixels that it expects."""
    trust: bool = False
    """Open also what is refused as long as nobody vouches for it: a SavedModel that can do more
    than compute, a .tflite or .onnx file that does not pass its trial. Only for files whose origin
    you know.
    """


def command(arguments: Sequence[str]) -> None:
    """Print the figures to stdout."""
    import tyro

    from graft.zoo.shown import shown
    from graft.zoo.terminal import json_shown, tell

    options = tyro.cli(Options, args=arguments, prog="graft evaluate")
    result = evaluate(options)
    if options.json:
        print(json_shown(result))
        return
    for task, figures in result.get("tasks", {"": result}).items():
        values = (
            f"{name} {'not known' if value is None else f'{value:.4f}'}"
            for name, value in figures.items()
            if value is None or isinstance(value, float)
        )
        where = "data without splits" if result["split"] == ALL else f"the {result['split']} split"
        tell(
            "  ".join(
                [*filter(None, [task, *values]), f" on {result['examples']} examples of {where}"]
            )
        )
        if "positive_class" in figures:
            tell(f"positive class: {figures['positive_class']}")
        width = max((len(shown(label)) for label in figures["per_class"]), default=0)
        for label, row in figures["per_class"].items():
            tell(
                f"{shown(label):<{width}}  precision {row['precision']:.3f}  recall "
                f"{row['recall']:.3f}  f1 {row['f1']:.3f}"
                f"  of {row['examples']}"
            )


def evaluate(options: Options) -> dict:
    """All figures of an artifact on a split: of `recipes.tasks.evaluation.evaluate`, with the
    pictures that were skipped, or of `recipes.tasks.head_evaluation.figures`. "split" is the one
    that was measured, "all" where the data have none.
    """
    return judge(options)[0]


def judge(options: Options) -> "tuple[dict, Score | None]":
    """(what `evaluate` gives, the figure that the artifact is judged by); several tasks have no one
    figure.
    """
    from graft.export.sessions import open_artifact
    from graft.recipes.runs import own_model
    from graft.zoo.files import unchanged

    meaning = own_model.meaning_of(
        options.artifact, options.labels, options.outputs, options.input_range
    )
    session = open_artifact(options.artifact, meaning=meaning, trust=options.trust)
    with unchanged(options.artifact):  # what it was trained on is read beside it later
        return _texts(session, options) if session.integers else _pictures(session, options)


def _texts(session: "Session", options: Options) -> "tuple[dict, Score | None]":
    from graft.recipes.codecs import hints, texts
    from graft.recipes.data import sentences
    from graft.recipes.runs import text_session
    from graft.recipes.tasks import head_evaluation
    from graft.zoo.terminal import warn

    text_session.check_session(session)
    heads = text_session.heads_of(session.preprocessing)
    columns = sentences.Columns(options.text_column, options.label_column, options.tags_column)
    source = text_session.labelled(heads, options.data, columns)
    split, chosen, seen = _chosen(source, options)
    encoded = texts.encode(
        chosen,
        session.tokenizer,
        heads,
        source.labels,
        inputs=session.inputs,
        max_length=text_session.longest(session),
    )
    _refuse_what_was_trained_on(seen, chosen, encoded, options.split)
    if encoded.unknown_share > hints.MOST_UNKNOWN:
        warn(
            f"{encoded.unknown_share:.1%} of the tokens of these texts are unknown ([UNK]) to the "
            "model's tokenizer"
        )
    outputs = text_session.outputs(session, encoded)
    found = head_evaluation.figures(heads, outputs, encoded)
    score = (
        head_evaluation.score_of(heads[0], outputs, encoded.targets) if len(heads) == 1 else None
    )
    return {"split": split, **found, "truncated": encoded.truncated}, score


def _pictures(session: "Session", options: Options) -> "tuple[dict, Score | None]":
    from graft.export import evidence
    from graft.export.sessions import is_own_model
    from graft.recipes.codecs import images
    from graft.recipes.data import sources
    from graft.recipes.runs import own_model
    from graft.recipes.tasks import evaluation, head_evaluation
    from graft.zoo.heads.heads import single_label

    if "outputs" in session.preprocessing:
        return _tasks(session, options), None
    columns = {"path_column": options.path_column, "label_column": options.label_column}
    source = sources.load(options.data, **columns, to_train=False)
    labels = _labels(session, source, options)
    split, examples, seen = _chosen(source, options)
    pixels = images.decode_examples(
        examples, labels, session.input_shape[0], skip_bad=options.skip_bad
    )
    _refuse_what_was_trained_on(seen, examples, pixels, options.split)
    batches = (
        (np.float32(pixels.pixels[i : i + BATCH]), pixels.targets[i : i + BATCH])
        for i in range(0, len(pixels), BATCH)
    )
    head, one = single_label(labels), len(labels) != len(session.labels)

    def figures(outputs: np.ndarray, targets: np.ndarray) -> "tuple[dict, Score]":
        outputs = np.hstack([1 - outputs, outputs]) if one else outputs
        return evaluation.evaluate(head, outputs, targets), head_evaluation.score_of(
            head, outputs, targets
        )

    result, score = evidence.measure(session, batches, figures)
    if is_own_model(options.artifact) and not one:
        own_model.warn_near_chance(
            options.artifact, session.predict, pixels.pixels, pixels.targets, options.input_range
        )
    return {"split": split, **result, "skipped": list(pixels.skipped)}, score


def _labels(session: "Session", source: "Source", options: Options) -> tuple[str, ...]:
    """What the answers choose from; of one probability its label and the other one of the data.

    Raises:
        ConfigError: the answers choose no label.
    """
    from graft.recipes.runs.own_model import other_label
    from graft.zoo.errors import ConfigError

    kind = session.preprocessing.get("kind", "single_label")
    if kind == "single_label":
        return session.labels
    if kind == "multi_label" and (both := other_label(session.labels, source.labels)):
        return both
    answers = "values" if kind == "regression" else "several labels at once"
    if kind == "multi_label" and len(session.labels) == 1:
        raise ConfigError(
            f"'{options.artifact}' gives the probability of '{session.labels[0]}' alone, the data "
            "have "
            f"{', '.join(source.labels)}: to measure it both names have to be known, --labels "
            "NO,YES of its .keras file"
        )
    raise ConfigError(
        f"'{options.artifact}' answers with {answers}: of models that Graft has not trained, those "
        "that choose one label "
        "can be evaluated"
    )


def _tasks(session: "Session", options: Options) -> dict:
    """Several tasks on pictures; empty cells are not asked."""
    from graft.recipes.codecs import images
    from graft.recipes.data import tasks
    from graft.recipes.runs import task_run, text_session

    described = session.preprocessing
    given = task_run.tasks_in(described)
    source = tasks.load(options.data, given, path_column=options.path_column, to_train=False)
    split, examples, seen = _chosen(source, options)
    heads = text_session.heads_of(described)
    pixels = images.decode_pictures(
        examples,
        tasks.targets_of(heads, examples),
        session.input_shape[0],
        skip_bad=options.skip_bad,
    )
    _refuse_what_was_trained_on(seen, examples, pixels, options.split)
    parts = [
        session.predict(np.float32(pixels.pixels[i : i + BATCH]))
        for i in range(0, len(pixels), BATCH)
    ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in session.outputs}
    return {
        "split": split,
        **tasks.figures(heads, outputs, pixels),
        "skipped": list(pixels.skipped),
    }


def _chosen(source: "Source", options: Options) -> tuple[str, tuple, "Membership | None"]:
    """(the split that is measured, its examples, what the model has seen where that is recorded).

    Of a model of one's own all are measured, where the data have no splits.
    """
    from graft.export.sessions import is_own_model
    from graft.recipes.data import membership, splits
    from graft.zoo.terminal import warn

    known = provenance(options.artifact)
    if known is None and {*source.splits} == {"train"} and is_own_model(options.artifact):
        examples = source.splits["train"]
        warn(
            f"'{options.data}' has no {options.split} split, so all {len(examples):,} pictures are "
            "measured: figures are "
            "too good if the model was trained on some of them"
        )
        return ALL, examples, None
    seen = membership.beside(options.artifact, known) if options.split != "train" else None
    return options.split, splits.reuse(source, options.split, known), seen


def _refuse_what_was_trained_on(
    seen: "Membership | None", examples: Sequence, found: "Images | Texts", split: str
) -> None:
    if seen is not None:
        seen.refuse(examples, split)
        seen.refuse_decoded(found, split)


def provenance(artifact: Path) -> dict | None:
    """What is known of the data that `artifact` was trained on: from the run, or from the manifest
    beside a file.
    """
    from graft.zoo.errors import ArtifactError
    from graft.zoo.files import MEND, read_json

    places = ((artifact, "run.json", "data"), (artifact.parent, "run.json", "data"))
    for folder, name, key in (*places, (artifact.parent, "manifest.json", "training_data")):
        path = Path(folder) / name
        if path.is_file():
            found = read_json(path, dict).get(key)
            if not isinstance(found, dict | None):
                raise ArtifactError(f"'{path}' is damaged ('{key}' is no object): {MEND}")
            return found
    return None
