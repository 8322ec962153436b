"""A model of the user's in a .keras file: what it takes in, and the model as a backbone or an
encoder.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graft.zoo.backbones.keras_file import FUNCTIONAL_HINT, load_keras_model
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files.archives import opened_archive, read_member
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.fits import MAX_SIDE, MODES, ImageShape, ImageSize, check_sides
from graft.zoo.graph.nodes import as_functional, flatten
from graft.zoo.graph.state import clone_model

if TYPE_CHECKING:
    import keras

__all__ = [
    "build_own_backbone",
    "build_own_encoder",
    "check_own_shapes",
    "free_name",
    "own_input_shape",
    "own_shape",
    "with_pixel_input",
]

INPUT_RANGES: Mapping[str, tuple[float, float]] = {
    "0..255": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "-1..1": (1 / 127.5, -1.0),
}
"""The pixels that a model of one's own can expect, and what pixels from 0 to 255 are multiplied by,
and what is added.
"""
MAX_VALUES_PER_EXAMPLE = 2**25
"""Numbers that one input or output of an example can have: 3,300 x 3,300 colour pixels."""
CHANNELS = "1 (grey), 3 (RGB) or 4 (RGBA)"


InputShape = tuple[int | None, int | None, int]
"""Height, width (None: any) and channels of the images that a model takes."""


def own_input_shape(path: Path) -> InputShape:
    """What the model in `path` takes, read without Keras.

    Raises:
        ArtifactError: damaged, or no .keras file.
        ConfigError: its input is no image.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtifactError(
            f"there is no file '{path}': --backbone takes a name from `graft zoo`, or a .keras file"
        )
    with one_line_if_damaged(path, "expected a functional .keras model with one input"):
        with opened_archive(path) as archive:
            layers = json.loads(read_member(archive, "config.json"))["config"]["layers"]
        (shape,) = (
            entry["config"]["batch_shape"]
            for entry in layers
            if entry["class_name"] == "InputLayer"
        )
        if not isinstance(shape, list) or not all(isinstance(side, int | None) for side in shape):
            raise TypeError(f"the shape of its input is {str(shape)[:100]}")
    if not _is_image(shape[1:]):
        raise ConfigError(
            f"the backbone '{path}' takes {shape}: expected images (None, height, width, "
            f"channels) of {CHANNELS} channels"
        )
    _check_values(f"the backbone '{path}' takes {shape}: one such image", shape[1:])
    return (shape[1], shape[2], shape[3])


def _is_image(shape: Sequence[int | None]) -> bool:
    sides_fit = all(side is None or 1 <= side <= MAX_SIDE for side in shape)
    return len(shape) == 3 and shape[2] in MODES and sides_fit


def _check_values(what: str, shape: Sequence[int | None]) -> None:
    if math.prod(side or 1 for side in shape) > MAX_VALUES_PER_EXAMPLE:
        raise ConfigError(
            f"{what} has more than {MAX_VALUES_PER_EXAMPLE:,} numbers: save the model for smaller "
            "ones"
        )


def build_own_backbone(
    path: Path, name: str, shape: ImageShape, *, fresh: bool = False
) -> "keras.Model":
    """The model in `path` without its head, as a flat backbone called `name` for images of `shape`;
    `fresh` starts it from random weights.

    What Graft trained gives its backbone. Of another model a classifier at the end (dense layer,
    activation, dropout before it) is left away; what remains takes pixels from 0 to 255, as the
    model itself did.

    Raises:
        ArtifactError: damaged, no Keras file, or one with code in it.
        ConfigError: a model for images of any size that cannot take these.
    """
    import keras

    from graft.zoo.graph.stack import FEATURES, backbone_of

    flat = flatten(load_keras_model(path))
    # The layers also remember the graph before flatten; a copy of them does not.
    model = clone_model(keras.Model(flat.inputs[0], flat.outputs[0]), flat.inputs[0])
    trained_here = any(layer.name == FEATURES for layer in model.layers)
    features = backbone_of(model).outputs[0] if trained_here else _penultimate_features(model)
    image = keras.Input(shape, name="image")
    with _one_line_if_it_cannot(path, shape, model):
        copy = clone_model(keras.Model(model.inputs[0], features), image, fresh)
    return keras.Model(image, copy.outputs[0], name=name)


@contextlib.contextmanager
def _one_line_if_it_cannot(path: Path, shape: ImageShape, model: "keras.Model") -> Iterator[None]:
    """A model of any size whose layers cannot take images of `shape` is refused in one line."""
    try:
        yield
    except Exception as error:  # its layers raise whatever they like
        if None not in model.inputs[0].shape[1:]:
            raise
        raise ConfigError(
            f"'{path}' cannot take images of {shape} pixels: give another --image-size "
            f"({' '.join(str(error).split())[:200]})"
        ) from error


def build_own_encoder(path: Path, name: str, *, fresh: bool = False) -> "keras.Model":
    """The encoder in the model for texts in `path`, which Graft trained, as a flat model called
    `name`; `fresh` gives it random weights.

    Raises:
        ArtifactError: damaged, no Keras file, one with code in it, or a model that Graft did not
            make.
    """
    import keras

    from graft.zoo.graph.stack import backbone_of

    copy = clone_model(backbone_of(clone_model(flatten(load_keras_model(path)))), fresh=fresh)
    return keras.Model(copy._inputs_struct, copy.outputs[0], name=name)


def check_own_shapes(path: Path, model: "keras.Model") -> None:
    """Refuse what is no model of images with one answer."""
    if as_functional(model) is None:
        raise ConfigError(
            f"'{path}' is a subclassed model, whose call() is its own code: {FUNCTIONAL_HINT}"
        )
    inputs, outputs = ([tuple(t.shape) for t in side] for side in (model.inputs, model.outputs))
    expected = (
        f"'{path}' cannot be used here: expected one input of images (height, width, channels) "
        f"with {CHANNELS} channels, and one output"
    )
    if len(inputs) > 1:
        raise ConfigError(
            f"{expected}; it has {len(inputs)} inputs, {inputs}: give the other ones a constant, "
            "and save that model"
        )
    shape = inputs[0][1:]
    if len(outputs) > 1:
        raise ConfigError(
            f"{expected}; it has {len(outputs)} outputs, {outputs}: save one of them, "
            "`keras.Model(model.inputs, model.outputs[0])`"
        )
    if not _is_image(shape):
        raise ConfigError(f"{expected}; its input is {shape}")
    answer = outputs[0][1:]
    if None in answer or any(side != 1 for side in answer[:-1]):
        raise ConfigError(
            f"{expected} `(units,)`; it answers {answer} for each image, as one for segmentation "
            "or detection: such models are neither exported nor measured here"
        )
    for side, values in (("image", shape), ("answer", answer)):
        _check_values(f"{expected}; one {side} is {values}, which", values)


def own_shape(path: Path, model: "keras.Model", image_size: ImageSize | None) -> ImageShape:
    """The images that `model` takes, which `check_own_shapes` let through.

    Args:
        path: what a message names.
        model: functional.
        image_size: asked for; None: the model's own.

    Raises:
        ConfigError: it takes images of any size and none is asked for, or of another size.
    """
    height, width, channels = model.inputs[0].shape[1:]
    if image_size is None:
        if None in (height, width):
            raise ConfigError(
                f"'{path}' takes images of any size: say for which one it was trained, "
                f"--image-size {height or 224}x{width or 224} for example"
            )
        return ImageShape(height, width, channels)
    asked = ImageShape.of(image_size)._replace(channels=channels)
    check_sides(asked, (height, width), str(path))
    _check_values(f"one image of {asked} pixels", asked)
    return asked


def with_pixel_input(
    path: Path, model: "keras.Model", input_range: str, shape: ImageShape
) -> "keras.Model":
    """`model` for images of `shape`, behind what makes its pixels of float pixels from 0 to 255;
    with one row of answers for each image.
    """
    import keras

    (given,) = model.inputs
    whole, answer = "int" in given.dtype, model.outputs[0].shape[1:]
    scale, offset = INPUT_RANGES[input_range]
    if whole and input_range != "0..255":
        raise ConfigError(
            f"'{path}' takes whole numbers ({given.dtype}), which are pixels from 0 to 255: leave "
            "--input-range away"
        )
    as_it_is = not whole and (scale, offset) == (1.0, 0.0) and len(answer) == 1
    if as_it_is and None not in given.shape[1:]:
        return flatten(model)
    pixels = x = keras.Input(shape, name=given.name, dtype="float32")
    if whole:
        x = keras.ops.cast(x, given.dtype)
    elif (scale, offset) != (1.0, 0.0):
        x = keras.layers.Rescaling(
            scale, offset, dtype="float32", name=free_name(model, "input_range")
        )(x)
    with _one_line_if_it_cannot(path, shape, model):
        x = model(x)
    if len(answer) != 1:
        x = keras.layers.Reshape((answer[-1] if answer else 1,), name=free_name(model, "answer"))(x)
    return flatten(keras.Model(pixels, x, name=model.name))


def free_name(model: "keras.Model", name: str) -> str:
    """`name`, or one like it that no layer has."""
    taken = {operation.name for operation in model.operations}
    while name in taken:
        name += "_"
    return name


def _penultimate_features(model: "keras.Model") -> "keras.KerasTensor":
    """What the last dense layer of a classifier takes; the output itself where the model ends
    otherwise.
    """
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
