"""`graft evaluate ARTIFACT --data SOURCE`: accuracy of a run or a file on labelled data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from tyro.conf import Positional

from graft.recipes.codecs.image_size import ImageSizeOption
from graft.zoo.fits import STRETCH, Fit

if TYPE_CHECKING:
    from graft.recipes.data.membership import Membership
    from graft.recipes.data.records import Source
    from graft.recipes.runs.session import OpenedModel
    from graft.recipes.runs.sources import LabelledData
    from graft.recipes.tasks.group import Tasks
    from graft.zoo.heads.scores import Score

__all__ = ["Options", "command", "evaluate", "judge", "provenance"]

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
    """As for `graft train`: a folder, a table, shards, an address, tfds:NAME, hf:NAME or a
    built-in name."""
    split: Literal["train", "validation", "test"] = "test"
    json: bool = False
    """Print JSON."""
    skip_bad: bool = False
    """Leave unreadable images out and count them, instead of stopping."""
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
    fit: Fit = STRETCH
    """Of a .keras file of your own: how an image of other proportions is fitted. stretch changes
    them, crop takes the largest part in the centre, pad keeps all of it on grey.
    """
    image_size: ImageSizeOption = None
    """Of a .keras file of your own that takes images of any size: pixels a side, or HEIGHTxWIDTH
    as 160x224.
    """
    trust: bool = False
    """Open also what is refused as long as nobody vouches for it: a SavedModel that can do more
    than compute, a .tflite or .onnx file that does not pass its trial. Only for files whose origin
    you know.
    """


def command(arguments: Sequence[str]) -> None:
    """Print the figures to stdout."""
    import tyro

    from graft.recipes.report.run_file import figures_by_task
    from graft.zoo.shown import shown
    from graft.zoo.terminal import json_shown, tell

    options = tyro.cli(Options, args=arguments, prog="graft evaluate")
    result = evaluate(options)
    if options.json:
        print(json_shown(result))
        return
    for task, figures in figures_by_task(result["tasks"]).items():
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
    """All figures of an artifact on a split, as `recipes.tasks.group.Tasks.figures` has them, with
    what was skipped or cut. "split" is the one that was measured, "all" where the data have none.
    """
    from graft.recipes.runs.sources import LabelledData

    return judge(options, LabelledData(options.data, vars(options)))[0]


def judge(options: Options, data: "LabelledData") -> "tuple[dict, Score | None]":
    """(what `evaluate` gives, the figure that the artifact is judged by); several tasks have no one
    figure. `data` are those that `options` name, which several artifacts may share.
    """
    from graft.export.sessions import open_artifact
    from graft.recipes.commands import own_model
    from graft.recipes.runs.session import OpenedModel
    from graft.zoo.files.staging import unchanged_folder

    meaning = own_model.meaning_of(options.artifact, options)
    session = open_artifact(options.artifact, meaning=meaning, trust=options.trust)
    model = OpenedModel.of(session, options.skip_bad)
    with unchanged_folder(options.artifact):  # what it was trained on is read beside it later
        return _judged(model, options, data)


def _judged(
    model: "OpenedModel", options: Options, data: "LabelledData"
) -> "tuple[dict, Score | None]":
    from graft.export.sessions import is_own_model
    from graft.recipes.commands import own_model
    from graft.zoo.terminal import warn

    codec = model.codec
    source = data.load(codec.modality, model.tasks)
    tasks, widened = _tasks(model, source, options)
    split, records, seen = _chosen(source, codec.noun, options)
    examples = data.encode(codec, records, tasks)
    if seen is not None:
        seen.refuse(records, options.split)
        seen.refuse_decoded(examples, options.split)
    for doubt in codec.doubts(examples):
        warn(doubt)
    outputs = {name: widened(rows) for name, rows in model.outputs(examples).items()}
    figures, first = tasks.figures(outputs, examples.targets), tasks.first
    if is_own_model(options.artifact) and tasks is model.tasks:
        targets = examples.targets[first.name]
        own_model.warn_near_chance(
            options.artifact, model.session.predict, examples.pixels, targets, options.input_range
        )
    score = None
    if len(tasks) == 1:
        score = first.score(outputs[first.name], examples.targets[first.name])
    more = codec.facts_of(examples) | {"skipped": list(examples.skipped)}
    return {"split": split, **figures, **more}, score


def _tasks(
    model: "OpenedModel", source: "Source", options: Options
) -> "tuple[Tasks, Callable[[np.ndarray], np.ndarray]]":
    """(what the model is measured by, what makes answers to that of its own): of one probability
    its label and the other one of the data.

    Raises:
        ConfigError: its answers choose no label.
    """
    from graft.recipes.commands.own_model import other_label
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import SingleLabelTask
    from graft.zoo.errors import ConfigError
    from graft.zoo.heads.heads import single_label

    (task, *others), labels = model.tasks, model.session.labels
    told = task.column or task.need or task.from_one_label
    if others or told or not model.codec.one_label:
        return model.tasks.with_names(source.labels), lambda rows: rows
    both = other_label(labels, source.labels) if task.kind.named else None
    if both:
        two = Tasks((SingleLabelTask(single_label(both, name=task.name)),))
        return two, lambda rows: np.hstack([1 - rows, rows])
    if task.kind.named and len(labels) == 1:
        raise ConfigError(
            f"'{options.artifact}' gives the probability of '{labels[0]}' alone, the data have "
            f"{', '.join(source.labels)}: to measure it both names have to be known, --labels "
            "NO,YES of "
            "its .keras file"
        )
    answers = "several labels at once" if task.kind.named else "values"
    raise ConfigError(
        f"'{options.artifact}' answers with {answers}: of models that Graft has not trained, those "
        "that "
        "choose one label can be evaluated"
    )


def _chosen(
    source: "Source", noun: str, options: Options
) -> tuple[str, tuple, "Membership | None"]:
    """(the split that is measured, its examples, what the model has seen where that is recorded).

    Of a model of one's own all are measured, where the data have no splits.
    """
    from graft.export.sessions import is_own_model
    from graft.recipes.data import splits
    from graft.recipes.data.membership import find_membership
    from graft.zoo.terminal import warn

    known = provenance(options.artifact)
    if known is None and {*source.splits} == {"train"} and is_own_model(options.artifact):
        examples = source.splits["train"]
        warn(
            f"'{options.data}' has no {options.split} split, so all {len(examples):,} {noun}s are "
            "measured: figures are too good if the model was trained on some of them"
        )
        return ALL, examples, None
    seen = find_membership(options.artifact, known) if options.split != "train" else None
    return options.split, splits.reuse(source, options.split, known), seen


def provenance(artifact: Path) -> dict | None:
    """What is known of the data that `artifact` was trained on: from the run, or from the manifest
    beside a file.
    """
    from graft.zoo.errors import ArtifactError
    from graft.zoo.files.guards import RESTORE_HINT
    from graft.zoo.files.reading import read_json

    places = ((artifact, "run.json", "data"), (artifact.parent, "run.json", "data"))
    for folder, name, key in (*places, (artifact.parent, "manifest.json", "training_data")):
        path = Path(folder) / name
        if path.is_file():
            found = read_json(path, dict).get(key)
            if not isinstance(found, dict | None):
                raise ArtifactError(f"'{path}' is damaged ('{key}' is no object): {RESTORE_HINT}")
            return found
    return None
