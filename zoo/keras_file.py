"""Models in .keras files, which may come from anyone: opened in safe mode, and as backbones of your own."""

import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from zoo.errors import ArtifactError, ConfigError
from zoo.quiet import load_tensorflow
from zoo.state import clone

if TYPE_CHECKING:
    import keras

__all__ = ["build_backbone", "build_encoder", "image_size", "kind_of", "load_keras"]


def load_keras(path: Path) -> "keras.Model":
    """Load a .keras file, in safe mode only: a file that holds Python code is refused.

    Raises:
        ArtifactError: damaged, no Keras file, or one with code in it.
    """
    load_tensorflow()
    import keras

    import zoo.layers  # noqa: F401  (registers our own layers)

    if not zipfile.is_zipfile(path):
        raise ArtifactError(f"'{path}' is damaged or no .keras file (a .keras file is a zip archive)")
    _check_members(path)
    try:
        with zipfile.ZipFile(path) as archive:
            of_keras_hub = b"keras_hub" in archive.read("config.json")
    except (KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"'{path}' is damaged or no .keras file: {error.args[0]}") from error
    if of_keras_hub:
        import keras_hub  # noqa: F401  (registers its layers)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras passes on whatever its layers raise
        text = str(error)
        if "safe_mode" in text or "unsafe" in text or "Lambda" in text:
            raise ArtifactError(
                f"'{path}' holds Python code (a Lambda layer), which would run when it is loaded: refused; replace the "
                "layer by a registered one"
            ) from error
        raise ArtifactError(f"'{path}' cannot be loaded: {text[:300]}") from error


def _check_members(path: Path) -> None:
    """Refuse an archive that names files outside of itself: whoever unpacks it would write there."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ArtifactError(f"'{path}' is damaged: {error}") from error
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts):
            raise ArtifactError(f"'{path}' names a file outside of itself ('{name}'): refused; do not unpack it")


def image_size(path: Path) -> int:
    """The height and width of the pictures that the model in `path` takes, read without Keras.

    Raises:
        ArtifactError: damaged, or no .keras file.
        ConfigError: its input is no square picture of a fixed size.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"there is no file '{path}': --backbone takes a name from `graft zoo`, or a .keras file")
    try:
        with zipfile.ZipFile(path) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        (shape,) = (entry["config"]["batch_shape"] for entry in layers if entry["class_name"] == "InputLayer")
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"'{path}' is damaged, or no functional .keras model with one input: {error}") from error
    if len(shape) != 4 or shape[1] != shape[2] or not shape[1] or shape[3] != 3:
        raise ConfigError(f"the backbone '{path}' takes {shape}: expected square pictures (None, size, size, 3)")
    return shape[1]


def build_backbone(path: Path, name: str, *, fresh: bool = False) -> "keras.Model":
    """The model in `path` without its head, as a flat backbone called `name`; `fresh` starts it from random weights.

    What Graft trained gives its backbone. Of another model a classifier at the end (dense layer, activation, dropout
    before it) is left away; what remains takes pixels from 0 to 255, as the model itself did.

    Raises:
        ArtifactError: damaged, no Keras file, or one with code in it.
    """
    import keras

    from zoo.cuts import flatten
    from zoo.stack import FEATURES, backbone_of

    flat = flatten(load_keras(path))
    # The layers also remember the graph before flatten; a copy of them does not.
    model = clone(keras.Model(flat.inputs[0], flat.outputs[0]), flat.inputs[0])
    trained_here = any(layer.name == FEATURES for layer in model.layers)
    features = backbone_of(model).outputs[0] if trained_here else _before_classifier(model)
    image = keras.Input(model.inputs[0].shape[1:], name="image")
    copy = clone(keras.Model(model.inputs[0], features), image, fresh)
    return keras.Model(image, copy.outputs[0], name=name)


def build_encoder(path: Path, name: str, *, fresh: bool = False) -> "keras.Model":
    """The encoder in the model for texts in `path`, which Graft trained, as a flat model called `name`; `fresh` gives
    it random weights.

    Raises:
        ArtifactError: damaged, no Keras file, one with code in it, or a model that Graft did not make.
    """
    import keras

    from zoo.cuts import flatten
    from zoo.stack import backbone_of

    copy = clone(backbone_of(clone(flatten(load_keras(path)))), fresh=fresh)
    return keras.Model(copy._inputs_struct, copy.outputs[0], name=name)


def kind_of(model: "keras.Model") -> str | None:
    """What the numbers of a model's only output mean, by the operation that makes them: "single_label" (softmax),
    "multi_label" (sigmoid: each unit for itself), "regression" (any other activation: values, or logits). None: it cannot be
    seen from the graph."""
    import keras

    from zoo.cuts import flatten, functional

    if len(model.outputs) != 1:
        return None
    (tensor,) = (flatten(model) if functional(model) is not None else model).outputs
    operation = tensor._keras_history.operation
    through = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Dropout, keras.layers.Identity)
    while isinstance(operation, through):
        operation = operation.input._keras_history.operation
    name = getattr(getattr(operation, "activation", None), "__name__", type(operation).__name__).lower()
    if name == "softmax":
        return "single_label" if tensor.shape[-1] != 1 else "regression"
    if name == "sigmoid":
        return "multi_label"
    return "regression" if isinstance(operation, (keras.layers.Dense, keras.layers.Activation)) else None


def _before_classifier(model: "keras.Model") -> "keras.KerasTensor":
    """What the last dense layer of a classifier takes; the output itself where the model ends otherwise."""
    import keras

    (features,) = model.outputs
    layer = features._keras_history.operation
    if isinstance(layer, (keras.layers.Activation, keras.layers.Softmax)):
        layer = layer.input._keras_history.operation
    if not isinstance(layer, keras.layers.Dense) or len(features.shape) != 2:
        return features
    features = layer.input
    while isinstance(features._keras_history.operation, keras.layers.Dropout):
        features = features._keras_history.operation.input
    return features
