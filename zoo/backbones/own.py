"""Models in .keras files, which may come from anyone: opened in safe mode, and as backbones of your
own.
"""

import contextlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.zoo.archives import check_keras, opened_archive, read_member
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files import one_line_if_damaged
from graft.zoo.graph.state import clone
from graft.zoo.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras

__all__ = [
    "INPUT_RANGES",
    "MOST_VALUES",
    "OUTPUTS",
    "Meaning",
    "OwnModel",
    "build_backbone",
    "build_encoder",
    "foreign_file",
    "image_size",
    "kind_of",
    "load_keras",
    "load_own",
]

OUTPUTS = ("probabilities", "logits", "values")
"""What the numbers of a model of one's own can be."""

INPUT_RANGES: Mapping[str, tuple[float, float]] = {
    "0..255": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "-1..1": (1 / 127.5, -1.0),
}
"""The pixels that a model of one's own can expect, and what pixels from 0 to 255 are multiplied by,
and what is added.
"""

MOST_VALUES = 2**25
"""Numbers that one input or output of an example can have: 3,300 x 3,300 colour pixels."""

REBUILD = (
    "where its class is known, `image = keras.Input((224, 224, 3)); keras.Model(image, "
    "model.call(image)).save('m.keras')` "
    "makes a functional model of it"
)


def load_keras(path: Path) -> "keras.Model":
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
        most = check_keras(path)
        with opened_archive(path) as archive:
            of_keras_hub = b"keras_hub" in read_member(archive, "config.json")
    if of_keras_hub:
        import keras_hub  # noqa: F401  (registers its layers)
    try:
        with _limited_weights(path, most):
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
            "`model.build((None, 224, 224, 3))` "
            "with the size of your pictures, then save it again"
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

    def add(layer, shape=None, *args, **settings):
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


def _cause(error: BaseException | None, kind: type) -> BaseException | None:
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
            f"does not hold; {REBUILD}"
        )
    return (
        f"'{path}' needs '{name}', a class or function of your own, which the file does not hold: "
        "build it from Keras's own "
        "layers and save it again"
    )


FOREIGN = {
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


def foreign_file(path: Path) -> str | None:
    """What a file of another kind is, judged by its name, and how to get one that can be opened;
    None: it is not known.
    """
    path = Path(path)
    what = FOREIGN.get(path.suffix.lower())
    if what is None:
        return None
    if path.name.lower().endswith(".weights.h5"):
        cure = "build the model, load them, and model.save('m.keras')"
        return f"weights without a model: {cure}"
    if path.suffix.lower() in (".h5", ".hdf5"):
        cure = f"keras.models.load_model('{path.name}', compile=False).save('{path.stem}.keras')"
        return f'{what}: save it as .keras first, `python -c "import keras; {cure}"`'
    return f"{what}: save the model as .keras with Keras, `model.save('m.keras')`"


def image_size(path: Path) -> int:
    """The height and width of the pictures that the model in `path` takes, read without Keras.

    Raises:
        ArtifactError: damaged, or no .keras file.
        ConfigError: its input is no square picture of a fixed size.
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
    if len(shape) != 4 or shape[1] != shape[2] or not shape[1] or shape[3] != 3:
        raise ConfigError(
            f"the backbone '{path}' takes {shape}: expected square pictures (None, size, size, 3)"
        )
    if math.prod(shape[1:]) > MOST_VALUES:
        raise ConfigError(
            f"the backbone '{path}' takes {shape}: one such picture has more than {MOST_VALUES:,} "
            "numbers"
        )
    return shape[1]


def build_backbone(path: Path, name: str, *, fresh: bool = False) -> "keras.Model":
    """The model in `path` without its head, as a flat backbone called `name`; `fresh` starts it
    from random weights.

    What Graft trained gives its backbone. Of another model a classifier at the end (dense layer,
    activation, dropout before it) is left away; what remains takes pixels from 0 to 255, as the
    model itself did.

    Raises:
        ArtifactError: damaged, no Keras file, or one with code in it.
    """
    import keras

    from graft.zoo.graph.cuts import flatten
    from graft.zoo.graph.stack import FEATURES, backbone_of

    flat = flatten(load_keras(path))
    # The layers also remember the graph before flatten; a copy of them does not.
    model = clone(keras.Model(flat.inputs[0], flat.outputs[0]), flat.inputs[0])
    trained_here = any(layer.name == FEATURES for layer in model.layers)
    features = backbone_of(model).outputs[0] if trained_here else _before_classifier(model)
    image = keras.Input(model.inputs[0].shape[1:], name="image")
    copy = clone(keras.Model(model.inputs[0], features), image, fresh)
    return keras.Model(image, copy.outputs[0], name=name)


def build_encoder(path: Path, name: str, *, fresh: bool = False) -> "keras.Model":
    """The encoder in the model for texts in `path`, which Graft trained, as a flat model called
    `name`; `fresh` gives it random weights.

    Raises:
        ArtifactError: damaged, no Keras file, one with code in it, or a model that Graft did not
            make.
    """
    import keras

    from graft.zoo.graph.cuts import flatten
    from graft.zoo.graph.stack import backbone_of

    copy = clone(backbone_of(clone(flatten(load_keras(path)))), fresh=fresh)
    return keras.Model(copy._inputs_struct, copy.outputs[0], name=name)


@dataclass(frozen=True)
class Meaning:
    """What a .keras file cannot say of itself.

    Attributes:
        labels: the names of its output units; two of a model with one unit that says how sure it is
            of the second.
        outputs: what its numbers are; None: what its last layer tells.
        input_range: the pixels that it expects, a key of `INPUT_RANGES`.
    """

    labels: tuple[str, ...] | None = None
    outputs: Literal["probabilities", "logits", "values"] | None = None
    input_range: str = "0..255"


@dataclass(frozen=True)
class OwnModel:
    """A model of one's own as Graft's own models are: pixels from 0 to 255 in, probabilities or
    values out.

    Attributes:
        model: functional, one float input `(size, size, 3)`, one output `(units,)`.
        labels: one for each unit.
        kind: "single_label", "multi_label" or "regression".
    """

    model: "keras.Model"
    labels: tuple[str, ...]
    kind: str


def load_own(path: Path, meaning: Meaning, labels_file: Path | None = None) -> OwnModel:
    """The classifier or regression of pictures in the .keras file `path`, with what `meaning` says
    built into its graph.

    A softmax or sigmoid is put behind logits, the other label beside a single probability, a
    scaling before the model, and a conversion before one that takes whole numbers. `labels_file` is
    what a message names where the labels are missing.

    Raises:
        ArtifactError: no model that can be opened here; labels that are missing, or other ones than
            it has outputs.
        ConfigError: another kind of model, or one of which more has to be said.
    """
    model = load_keras(path)
    _check_shapes(path, model)
    model = _with_pixels(path, model, meaning.input_range)
    kind, closing = _kind_and_closing(path, model, meaning, labels_file)
    units = model.outputs[0].shape[-1]
    labels = meaning.labels or _value_names(units)
    return OwnModel(_closed(model, closing), tuple(labels), kind)


def _check_shapes(path: Path, model: "keras.Model") -> None:
    """Refuse what is no model of square pictures with one answer."""
    from graft.zoo.graph.cuts import functional

    if functional(model) is None:
        raise ConfigError(
            f"'{path}' is a subclassed model, whose call() is its own code: {REBUILD}"
        )
    inputs, outputs = ([tuple(t.shape) for t in side] for side in (model.inputs, model.outputs))
    expected = (
        f"'{path}' cannot be used here: expected one input of square RGB pictures of a fixed size "
        "and one output"
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
    if len(shape) == 3 and shape[2] in (3, None) and None in shape[:2]:
        raise ConfigError(
            f"{expected}; its pictures are {shape}: fix the size, `image = keras.Input((224, 224, "
            "3)); "
            "keras.Model(image, model(image)).save('m.keras')`"
        )
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3:
        grey = len(shape) == 3 and shape[0] == shape[1] and shape[2] == 1
        hint = (
            f"; for grey pictures, `image = keras.Input({(*shape[:2], 3)}); keras.Model(image, "
            "model(keras.ops.mean(image, -1, keepdims=True))).save('m.keras')`"
        )
        raise ConfigError(f"{expected}; its input is {shape}{hint if grey else ''}")
    answer = outputs[0][1:]
    if None in answer or any(side != 1 for side in answer[:-1]):
        raise ConfigError(
            f"{expected} `(units,)`; it answers {answer} for each picture, as one for segmentation "
            "or detection: such "
            "models are neither exported nor measured here"
        )
    for side, values in (("picture", shape), ("answer", answer)):
        if math.prod(values) > MOST_VALUES:
            raise ConfigError(
                f"{expected}; one {side} is {values}, more than {MOST_VALUES:,} numbers: save the "
                "model for smaller ones"
            )


def _with_pixels(path: Path, model: "keras.Model", input_range: str) -> "keras.Model":
    """`model` behind what makes its pixels of float pixels from 0 to 255; with one row of answers
    for each picture.
    """
    import keras

    from graft.zoo.graph.cuts import flatten

    (given,) = model.inputs
    whole, answer = "int" in given.dtype, model.outputs[0].shape[1:]
    scale, offset = INPUT_RANGES[input_range]
    if whole and input_range != "0..255":
        raise ConfigError(
            f"'{path}' takes whole numbers ({given.dtype}), which are pixels from 0 to 255: leave "
            "--input-range away"
        )
    if not whole and (scale, offset) == (1.0, 0.0) and len(answer) == 1:
        return flatten(model)
    pixels = x = keras.Input(given.shape[1:], name=given.name, dtype="float32")
    if whole:
        x = keras.ops.cast(x, given.dtype)
    elif (scale, offset) != (1.0, 0.0):
        x = keras.layers.Rescaling(
            scale, offset, dtype="float32", name=_free(model, "input_range")
        )(x)
    x = model(x)
    if len(answer) != 1:
        x = keras.layers.Reshape((answer[-1] if answer else 1,), name=_free(model, "answer"))(x)
    return flatten(keras.Model(pixels, x, name=model.name))


def _kind_and_closing(
    path: Path, model: "keras.Model", meaning: Meaning, labels_file: Path | None
) -> tuple[str, str | None]:
    """(the kind of the answers, what has to come behind the model: "softmax", "sigmoid", "both",
    "other label").
    """
    units, asked = model.outputs[0].shape[-1], meaning.outputs
    named = None if meaning.labels is None else len(meaning.labels)
    seen = kind_of(model)
    if asked == "logits" and seen in ("single_label", "multi_label"):
        raise ConfigError(
            f"'{path}' ends in a {'softmax' if seen == 'single_label' else 'sigmoid'}: its outputs "
            "are no logits"
        )
    if asked == "probabilities" or (asked is None and seen is None):
        seen = seen if seen in ("single_label", "multi_label") else _kind_of_answers(path, model)
        if asked and seen == "regression":
            raise ConfigError(
                f"'{path}' answers with numbers below 0 or above 1, no probabilities: --outputs "
                "logits or values"
            )
    if asked is None and seen == "regression" and (units > 1 or named == 2):
        raise ConfigError(
            f"'{path}' has {units} output{'s' * (units > 1)} with no softmax or sigmoid behind: "
            "say what the numbers are, "
            "--outputs logits if they are scores of labels (a "
            f"{'softmax' if units > 1 else 'sigmoid'} is added), --outputs "
            "values if they are values"
        )
    if asked == "values" or (asked is None and seen == "regression"):
        _check_count(path, units, named, (units,), labels_file, optional=True)
        return "regression", None
    if units == 1:
        _check_count(path, units, named, (1, 2), labels_file)
        closings = {
            (True, 1): "sigmoid",
            (True, 2): "both",
            (False, 1): None,
            (False, 2): "other label",
        }
        return ("single_label" if named == 2 else "multi_label"), closings[asked == "logits", named]
    _check_count(path, units, named, (units,), labels_file)
    return ("single_label", "softmax") if asked == "logits" else (seen, None)


def _check_count(
    path: Path,
    units: int,
    named: int | None,
    expected: tuple[int, ...],
    labels_file: Path | None,
    optional: bool = False,
) -> None:
    """Refuse labels that are missing, or other ones than the model has outputs."""
    if named is None and not optional:
        how = (
            f"give --labels FILE, one label a line, {units} of them in the order of the outputs, "
            "or --labels a,b,c"
        )
        if expected == (1, 2):
            how = (
                "give --labels NO,YES if it gives the probability of the second, or --outputs "
                "values"
            )
        beside = f"expected '{labels_file}', or " if labels_file else ""
        raise ArtifactError(f"the labels of '{path}' are missing: {beside}{how}")
    if named is not None and named not in expected:
        more = (
            ", or two labels of which it gives the probability of the second"
            if 2 in expected
            else ""
        )
        raise ArtifactError(
            f"'{path}' has {named} label{'s' * (named != 1)}, but {units} "
            f"output{'s' * (units != 1)}: one label "
            f"for each output, in order{more}"
        )


def _closed(model: "keras.Model", closing: str | None) -> "keras.Model":
    """`model` with what `closing` says behind it, in float32."""
    import keras

    if closing is None:
        return model
    (x,) = model.outputs
    name = _free(model, "probabilities")
    if closing == "softmax":
        x = keras.layers.Activation("softmax", dtype="float32", name=name)(x)
    elif closing == "sigmoid":
        x = keras.layers.Activation("sigmoid", dtype="float32", name=name)(x)
    else:
        logit = x if closing == "both" else _logit_of(model)
        if logit is None:
            other = keras.layers.Rescaling(-1.0, 1.0, dtype="float32", name=_free(model, "first"))(
                x
            )
            x = keras.layers.Concatenate(dtype="float32", name=name)([other, x])
        else:
            # Not 1 - p: of a p near 1 float32 would leave nothing.
            other = keras.layers.Rescaling(-1.0, dtype="float32", name=_free(model, "first"))(logit)
            pair = keras.layers.Concatenate(dtype="float32", name=_free(model, "both"))(
                [other, logit]
            )
            x = keras.layers.Activation("sigmoid", dtype="float32", name=name)(pair)
    return keras.Model(model.inputs[0], x, name=model.name)


def _logit_of(model: "keras.Model") -> "keras.KerasTensor | None":
    """What goes into the sigmoid at the end of a flat `model`; None: it is not to be had."""
    import keras

    last = model.outputs[0]._keras_history.operation
    if isinstance(last, keras.layers.Activation) or type(last).__name__ == "Sigmoid":
        return last.input
    if not isinstance(last, keras.layers.Dense):
        return None
    linear = keras.layers.Dense.from_config(
        {**last.get_config(), "activation": "linear", "name": _free(model, "logit")}
    )
    logit = linear(last.input)
    linear.set_weights(last.get_weights())
    return logit


def _free(model: "keras.Model", name: str) -> str:
    """`name`, or one like it that no layer has."""
    taken = {operation.name for operation in model.operations}
    while name in taken:
        name += "_"
    return name


def _value_names(units: int) -> tuple[str, ...]:
    return ("value",) if units == 1 else tuple(f"value {number}" for number in range(1, units + 1))


def _kind_of_answers(path: Path, model: "keras.Model") -> str:
    """What a model's answers to random pictures look like."""
    shape = model.inputs[0].shape[1:]
    count = max(1, min(8, MOST_VALUES // max(1, math.prod(shape))))
    try:
        pictures = np.random.default_rng(0).uniform(0, 255, (count, *shape)).astype("float32")
        rows = np.asarray(model(pictures, training=False), np.float32)
    except Exception as error:  # its layers raise whatever they like, out of memory too
        raise ConfigError(
            f"'{path}' cannot answer a picture of {shape}: {str(error)[:300]}"
        ) from error
    if rows.min() < 0 or rows.max() > 1:
        return "regression"
    return (
        "single_label"
        if rows.shape[-1] > 1 and np.allclose(rows.sum(-1), 1, atol=1e-3)
        else "multi_label"
    )


def kind_of(model: "keras.Model") -> str | None:
    """What the numbers of a model's only output mean, by the operation that makes them:
    "single_label" (softmax), "multi_label" (sigmoid: each unit for itself), "regression" (any other
    activation: values, or logits). None: it cannot be seen from the graph.
    """
    import keras

    from graft.zoo.graph.cuts import flatten, functional

    if len(model.outputs) != 1:
        return None
    (tensor,) = (flatten(model) if functional(model) is not None else model).outputs
    operation = tensor._keras_history.operation
    through = (
        keras.layers.Reshape,
        keras.layers.Flatten,
        keras.layers.Dropout,
        keras.layers.Identity,
    )
    while isinstance(operation, through):
        operation = operation.input._keras_history.operation
    name = getattr(
        getattr(operation, "activation", None), "__name__", type(operation).__name__
    ).lower()
    if name == "softmax":
        return "single_label" if tensor.shape[-1] != 1 else "regression"
    if name == "sigmoid":
        return "multi_label"
    return (
        "regression"
        if isinstance(operation, (keras.layers.Dense, keras.layers.Activation))
        else None
    )


def _before_classifier(model: "keras.Model") -> "keras.KerasTensor":
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
