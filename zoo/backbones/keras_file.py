"""Models in .keras files, which may come from anyone, opened in safe mode only."""

import contextlib
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.zoo.errors import ArtifactError
from graft.zoo.files.archives import opened_archive, read_member
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.keras_archives import check_keras_archive
from graft.zoo.heads.table import all_kinds
from graft.zoo.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras

__all__ = ["describe_foreign_file", "load_keras_model"]

FUNCTIONAL_HINT = (
    "where its class is known, `image = keras.Input((224, 224, 3)); keras.Model(image, "
    "model.call(image)).save('m.keras')` makes a functional model of it"
)


def load_keras_model(path: Path) -> "keras.Model":
    """Load a .keras file, in safe mode only: a file that holds Python code is refused. A Sequential
    model comes back as the functional one that it is.

    Raises:
        ArtifactError: damaged, no Keras file, one with code in it, or one that needs classes which
            the file does not hold.
    """
    load_tensorflow()
    import keras

    from graft.zoo.graph import layers  # noqa: F401  (registers our own layers)

    if not zipfile.is_zipfile(path):
        raise ArtifactError(
            f"'{path}' is damaged or no .keras file (a .keras file is a zip archive)"
        )
    with one_line_if_damaged(path, "expected a whole .keras file"):
        most_weights = check_keras_archive(path)
        with opened_archive(path) as archive:
            of_keras_hub = b"keras_hub" in read_member(archive, "config.json")
    if of_keras_hub:
        import keras_hub  # noqa: F401  (registers its layers)
    for kind in all_kinds():
        kind.register_layers()
    try:
        with _limited_weights(path, most_weights):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on whatever its layers raise
        text = str(error)
        too_large = _cause(error, ArtifactError)
        if too_large is not None:
            raise too_large from None
        unknown = re.search(r"Could not locate (?:class|function|object) '([^']+)'", text)
        if unknown:
            raise ArtifactError(_unknown_class(path, unknown[1])) from error
        raise ArtifactError(f"'{path}' cannot be loaded: {text[:300]}") from error
    if not isinstance(model, keras.Sequential):
        return model
    if model._functional is None:
        raise ArtifactError(
            f"'{path}' is a Sequential model that does not know the shape of its input: "
            "`model.build((None, 224, 224, 3))` with the size of your images, then save it again"
        )
    return model._functional


@contextlib.contextmanager
def _limited_weights(path: Path, most: int) -> Iterator[None]:
    """Let no layer ask for weights once all of them together would have more than `most` numbers.

    The file does not say how large a layer becomes that is built on another one, and Keras makes
    the weights at once.
    """
    import keras

    total, add_weight = 0, keras.Layer.add_weight

    def add(
        layer: "keras.Layer",
        shape: tuple[int, ...] | int | None = None,
        *args: Any,
        **settings: Any,
    ) -> "keras.Variable":
        nonlocal total
        sides = [shape] if isinstance(shape, int) else (shape or ())
        total += math.prod(side for side in sides if isinstance(side, int))
        if total > most:
            raise ArtifactError(
                f"'{path}' is damaged: with its layer '{layer.name}' it would have {total:,} "
                "weights, far more than it holds"
            )
        return add_weight(layer, shape, *args, **settings)

    keras.Layer.add_weight = add
    try:
        yield
    finally:
        keras.Layer.add_weight = add_weight


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """`error`, or what it comes from, if that is of a kind."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _unknown_class(path: Path, name: str) -> str:
    """What to say of a file that needs a class which it does not hold."""
    with opened_archive(path) as archive:
        outermost = json.loads(read_member(archive, "config.json")).get("class_name")
    if outermost == name:
        return (
            f"'{path}' is a subclassed model: its class '{name}' is Python code, which the file "
            f"does not hold; {FUNCTIONAL_HINT}"
        )
    return (
        f"'{path}' needs '{name}', a class or function of your own, which the file does not hold: "
        "build it from Keras's own layers and save it again"
    )


FOREIGN_FILES = {
    ".h5": "a model in Keras's older HDF5 format",
    ".hdf5": "a model in Keras's older HDF5 format",
    ".pb": "a TensorFlow graph",
    ".pt": "a file of PyTorch",
    ".pth": "a file of PyTorch",
    ".bin": "a file of weights without a model",
    ".ckpt": "a checkpoint, weights without a model",
    ".safetensors": "a file of weights without a model",
    ".npz": "a file of arrays",
    ".pkl": "a Python pickle, which runs code when it is opened",
    ".joblib": "a Python pickle, which runs code when it is opened",
    ".mlmodel": "a Core ML model",
    ".mlpackage": "a Core ML model",
}


def describe_foreign_file(path: Path) -> str | None:
    """What a file of another kind is, judged by its name, and how to get one that can be opened;
    None: it is not known.
    """
    path = Path(path)
    what = FOREIGN_FILES.get(path.suffix.lower())
    if what is None:
        return None
    if path.name.lower().endswith(".weights.h5"):
        cure = "build the model, load them, and model.save('m.keras')"
        return f"weights without a model: {cure}"
    if path.suffix.lower() in (".h5", ".hdf5"):
        cure = f"keras.models.load_model('{path.name}', compile=False).save('{path.stem}.keras')"
        return f'{what}: save it as .keras first, `python -c "import keras; {cure}"`'
    return f"{what}: save the model as .keras with Keras, `model.save('m.keras')`"
