"""A SavedModel folder, opened by TensorFlow."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from graft.export.runtimes.runtime import Arrays, Runtime, named_errors, one_by_one, one_line
from graft.zoo.errors import ArtifactError
from graft.zoo.files.reading import read_text
from graft.zoo.quiet import load_tensorflow

__all__ = ["load_text_operators", "open_raw_text", "open_savedmodel"]


def open_savedmodel(path: Path, threads: int = 1) -> Runtime:
    """Open a SavedModel folder with TensorFlow. `threads` counts only where TensorFlow has not
    started yet; 0 takes all.

    Raises:
        ArtifactError: damaged, or without the signature `serving_default`.
    """
    load_tensorflow()
    import tensorflow as tf

    load_text_operators(path)
    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["serving_default"]
        inputs = function.structured_input_signature[1]
        input_shapes, output_shapes = (
            {name: tuple(spec.shape[1:]) for name, spec in side.items()}
            for side in (inputs, function.structured_outputs)
        )
    except Exception as error:  # TensorFlow passes on what its loaders stumble over
        raise ArtifactError(
            f"'{path}' is damaged or has no signature 'serving_default': {one_line(error)}"
        ) from error

    # Without the reference `keep` to it the variables of a SavedModel die.
    def run(given: Arrays, keep: object = loaded) -> dict[str, np.ndarray]:
        outputs = function(
            **{name: tf.constant(value, inputs[name].dtype) for name, value in given.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}

    if all(spec.shape.rank and spec.shape[0] == 1 for spec in inputs.values()):
        run = one_by_one(run)
    attached = {
        file.name: read_text(file)
        for file in (path / "assets").glob("*")
        if file.suffix in (".txt", ".json") and file.name != "vocab.txt"
    }
    integers = any(spec.dtype == tf.int32 for spec in inputs.values())
    return Runtime(input_shapes, output_shapes, attached, integers, named_errors(run, path))


def load_text_operators(path: Path) -> None:
    """Load the library whose operators the second signature of a SavedModel for texts has."""
    if (path / "assets" / "vocab.txt").is_file():
        import tensorflow_text  # noqa: F401


def open_raw_text(path: Path) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    """A function: strings -> outputs by name, through the signature `raw_text` of a SavedModel.

    Raises:
        ArtifactError: damaged, or without that signature.
    """
    load_tensorflow()
    import tensorflow as tf
    import tensorflow_text  # noqa: F401

    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures["raw_text"]
    except Exception as error:
        raise ArtifactError(
            f"'{path}' is damaged or has no signature 'raw_text': {one_line(error)}"
        ) from error

    def run(texts: Sequence[str], keep: object = loaded) -> dict[str, np.ndarray]:
        outputs = function(text=tf.constant(list(texts)))
        return {name: value.numpy() for name, value in outputs.items()}

    return named_errors(run, path)
