"""A .keras file, opened by Keras: one of a run, or one of your own."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export.convert.graph import named_inputs, output_tensors
from graft.export.runtimes.runtime import Arrays, Runtime
from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.errors import ArtifactError
from graft.zoo.files.reading import read_text
from graft.zoo.graph.tracing import traced
from graft.zoo.heads.own_outputs import Meaning, kind_of_outputs, load_own_model
from graft.zoo.labels import read_labels
from graft.zoo.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras

__all__ = ["open_keras", "open_own_keras"]


def open_keras(path: Path, threads: int = 1) -> Runtime:
    """Open the .keras file of a run, with what the run keeps beside it. TensorFlow's `threads` stay
    as they are.

    Raises:
        ArtifactError: damaged; or no labels.txt lies beside it.
    """
    load_tensorflow()
    model = load_keras_model(path)
    labels = path.parent / "labels.txt"
    if not labels.is_file():
        raise ArtifactError(f"the labels of '{path}' are missing: expected '{labels}'")
    files = [path.parent / name for name in ("labels.txt", "preprocessing.json", "tokenizer.json")]
    attached = {file.name: read_text(file) for file in files if file.is_file()}
    if "preprocessing.json" not in attached and (kind := kind_of_outputs(model)):
        attached["preprocessing.json"] = json.dumps({"kind": kind})
    return _runtime_of(model, attached)


def open_own_keras(path: Path, meaning: Meaning, labels_beside: bool = True) -> Runtime:
    """Open a .keras file of your own.

    Args:
        path: the file.
        meaning: what it cannot say of itself.
        labels_beside: whether the labels are those of labels.txt beside it where `meaning` has
            none.

    Raises:
        ArtifactError, ConfigError, DataError: as `zoo.backbones.own.load_own`.
    """
    load_tensorflow()
    file = path.parent / "labels.txt"
    if labels_beside and meaning.labels is None and file.is_file():
        meaning = replace(meaning, labels=read_labels(file).labels)
    own = load_own_model(path, meaning, file)
    attached = {
        "labels.txt": "".join(f"{label}\n" for label in own.labels),
        "preprocessing.json": json.dumps({"kind": own.kind, "fit": meaning.fit}),
    }
    return _runtime_of(own.model, attached)


def _runtime_of(model: "keras.Model", attached: Mapping[str, str]) -> Runtime:
    import tensorflow as tf

    call = traced(lambda inputs: model(inputs, training=False))

    def run(given: Arrays) -> dict[str, np.ndarray]:
        tensors = {name: tf.constant(value) for name, value in given.items()}
        outputs = output_tensors(model, call(named_inputs(model, tensors)))
        return {name: np.asarray(tensor) for name, tensor in outputs.items()}

    outputs = output_tensors(model, model.output)
    return Runtime(
        inputs={tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs},
        outputs={name: tuple(tensor.shape[1:]) for name, tensor in outputs.items()},
        attached=attached,
        integers=any("int" in tensor.dtype for tensor in model.inputs),
        run=run,
    )
