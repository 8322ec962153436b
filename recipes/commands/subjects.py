"""What an export is of: a run, or a Keras model of one's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.export.judge import Examples, Subject
from graft.export.manifest import Description
from graft.recipes.data.membership import MEMBERSHIP, find_membership
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.fits import STRETCH, Fit, ImageShape, ImageSize

if TYPE_CHECKING:
    import keras


__all__ = ["Asked", "check_run", "of_keras_file", "of_run"]


@dataclass(frozen=True)
class Asked:
    """What is to be exported.

    Attributes:
        path: a run, or a .keras file.
        data: where the data lies now; None: where the run was trained from, of a .keras file
            nowhere.
        labels, outputs, input_range, fit, image_size: what a .keras file cannot say of itself.
    """

    path: Path
    data: str | None = None
    labels: str | None = None
    outputs: str | None = None
    input_range: str = "0..255"
    fit: Fit = STRETCH
    image_size: ImageSize | None = None


def of_run(asked: Asked, content: Mapping) -> "tuple[keras.Model, Subject]":
    """The model of a run, whose run.json holds `content`, and what its files are checked with."""
    from graft.recipes.runs import examples
    from graft.recipes.tasks.table import tasks_of
    from graft.zoo.backbones.keras_file import load_keras_model

    if not content["tasks"]:
        raise ConfigError(
            f"'{asked.path}' is a backbone without a head: train one on it first, `graft train "
            f"image-classification --backbone {asked.path / 'backbone.keras'}`"
        )
    codec, preprocessing = _codec_of_run(asked.path, content)
    tasks = tasks_of(preprocessing["tasks"])
    measured, calibration = examples.from_run(asked.path, content, asked.data, codec, tasks)
    subject = Subject(
        Description(
            name=asked.path.resolve().name,
            labels=list(tasks.first.head.labels),
            preprocessing=preprocessing,
            input_range=codec.input_range,
            tokenizer=getattr(codec, "tokenizer", None),
        ),
        {task.name: task.kind for task in tasks},
        measured,
        calibration,
        **_origin(asked.path, content["data"]),
    )
    return load_keras_model(asked.path / "model.keras"), subject


def _codec_of_run(run: Path, content: Mapping) -> tuple[Any, dict]:
    """(how an example goes into a run, its preprocessing.json)."""
    from graft.recipes.runs.session import codec_of_files
    from graft.zoo.files.reading import read_json

    data = content["data"]
    preprocessing = {**data.get("decode", {}), "image_size": data.get("image_size")}
    if (run / "preprocessing.json").is_file():  # an older Graft wrote none for one task on images
        preprocessing = read_json(run / "preprocessing.json", dict)
        preprocessing.pop("outputs", None)
    preprocessing = {
        "modality": content["modality"],
        **preprocessing,
        "tasks": {
            name: {key: value for key, value in facts.items() if key != "figure"}
            for name, facts in content["tasks"].items()
        },
    }
    return codec_of_files(run, preprocessing), preprocessing


def _origin(folder: Path, data: Mapping | None) -> dict:
    """What the manifest says of the `data` that the run in `folder` was trained on, and the file
    that it refers to.
    """
    told = ("source", "fingerprint", "made_splits", "split_seed", "membership")
    file = folder / MEMBERSHIP
    return {
        "training_data": {key: data[key] for key in told if key in data} if data else {},
        "beside": [file] if data and file.is_file() else [],
    }


def check_run(path: Path) -> None:
    """Refuse what is neither a run nor a .keras file, by what it is."""
    from graft.zoo.backbones.keras_file import describe_foreign_file

    foreign = None
    if path.exists() and not (path / "run.json").is_file():
        foreign = describe_foreign_file(path)
        if (path / "saved_model.pb").is_file() or path.suffix in (".tflite", ".onnx"):
            foreign = "a finished file: export the .keras file or the run that it was made from"
    if foreign:
        raise ArtifactError(f"'{path}' is {foreign}")


def of_keras_file(asked: Asked) -> "tuple[keras.Model, Subject]":
    """A Keras model of one's own, and what its files are checked with."""
    from graft.recipes.commands import own_model
    from graft.recipes.commands.evaluate import provenance
    from graft.recipes.runs import examples
    from graft.zoo.heads.own_outputs import load_own_model
    from graft.zoo.heads.table import find_kind
    from graft.zoo.labels import read_labels
    from graft.zoo.vision import describe_decoding

    if not asked.path.is_file():
        raise ArtifactError(f"there is no file '{asked.path}'")
    meaning = own_model.meaning_of(asked.path, asked)
    beside = asked.path.parent / "labels.txt"
    if meaning.labels is None and beside.is_file():  # of the model.keras of a run
        meaning = replace(meaning, labels=read_labels(beside).labels)
    if asked.data is not None and meaning.labels is not None and len(meaning.labels) == 1:
        meaning = replace(meaning, labels=_both_labels(asked.data, meaning.labels))
    own, known = load_own_model(asked.path, meaning, beside), provenance(asked.path)
    shape, name = ImageShape(*own.model.inputs[0].shape[1:]), own.model.output_names[0]
    kind, labels = find_kind(own.kind), list(own.labels)
    tasks = {name: {"kind": kind.name, "labels": labels}}
    if asked.data is None:
        measured, calibration = examples.made_up(shape), None
    else:
        measured, calibration = _own_examples(asked, shape, tasks, known)
    if kind.confident and measured.targets is not None:
        _ask_for_pixels(asked, own.model, measured, name)
    how = describe_decoding(asked.fit, shape)
    preprocessing = {"modality": "image", **how, "image_size": shape.size, "tasks": tasks}
    subject = Subject(
        Description(asked.path.stem, labels, preprocessing, (0, 255)),
        {name: kind},
        measured,
        calibration,
        **_origin(asked.path.parent, known),
    )
    return own.model, subject


def _own_examples(
    asked: Asked, shape: ImageShape, described: Mapping, known: Mapping | None
) -> tuple[Examples, Examples]:
    """(for measuring, for calibration); the labels are looked at where the answers are about
    them.
    """
    from graft.recipes.codecs.images import ImageCodec
    from graft.recipes.data import sources
    from graft.recipes.runs import examples
    from graft.recipes.tasks.table import tasks_of
    from graft.zoo.terminal import warn

    codec, tasks, source = (
        ImageCodec(shape, True, fit=asked.fit),
        tasks_of(described),
        sources.load(asked.data),
    )
    if not tasks.first.kind.named:
        warn(
            f"the answers of '{asked.path}' are values: the labels of --data are not looked at, "
            "its "
            "images are"
        )
        return examples.from_source(codec, source, ())
    return examples.from_source(codec, source, tasks, find_membership(asked.path, known))


def _both_labels(data: str, labels: Sequence[str]) -> tuple[str, ...]:
    """`labels`, or of one label and data with two classes both names, the one that was given
    last.
    """
    from graft.recipes.commands import own_model
    from graft.recipes.data import sources

    both = own_model.other_label(labels, sources.load(data, to_train=False).labels)
    return both if both else tuple(labels)


def _ask_for_pixels(asked: Asked, model: "keras.Model", examples: Examples, name: str) -> None:
    """Warn where the model is right about as often as chance is: it may expect other pixels."""
    from graft.recipes.commands import own_model

    def answers(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(model(pixels, training=False))

    own_model.warn_near_chance(
        asked.path, answers, examples.inputs, examples.targets[name], asked.input_range
    )
