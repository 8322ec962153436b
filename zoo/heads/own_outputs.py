"""What the numbers of a model of the user's mean: probabilities, logits or values, and of which
labels.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.backbones.own import (
    MAX_VALUES_PER_EXAMPLE,
    check_own_shapes,
    free_name,
    own_shape,
    with_pixel_input,
)
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.fits import STRETCH, Fit, ImageSize
from graft.zoo.graph.nodes import as_functional, flatten

if TYPE_CHECKING:
    import keras

__all__ = ["MEANING_OPTIONS", "Meaning", "OwnModel", "kind_of_outputs", "load_own_model"]

MEANING_OPTIONS = "--labels, --outputs, --input-range, --fit and --image-size"
"""By which a `Meaning` is given."""


@dataclass(frozen=True)
class Meaning:
    """What a .keras file cannot say of itself.

    Attributes:
        labels: the names of its output units; two of a model with one unit that says how sure it is
            of the second.
        outputs: what its numbers are; None: what its last layer tells.
        input_range: the pixels that it expects, a key of `INPUT_RANGES`.
        fit: how an image of other proportions is fitted.
        image_size: height and width of its images; None: its own.
    """

    labels: tuple[str, ...] | None = None
    outputs: Literal["probabilities", "logits", "values"] | None = None
    input_range: str = "0..255"
    fit: Fit = STRETCH
    image_size: ImageSize | None = None


@dataclass(frozen=True)
class OwnModel:
    """A model of one's own as Graft's own models are: pixels from 0 to 255 in, probabilities or
    values out.

    Attributes:
        model: functional, one float input `(height, width, channels)`, one output `(units,)`.
        labels: one for each unit.
        kind: "single_label", "multi_label" or "regression".
    """

    model: "keras.Model"
    labels: tuple[str, ...]
    kind: str


def load_own_model(path: Path, meaning: Meaning, labels_file: Path | None = None) -> OwnModel:
    """The classifier or regression of images in a .keras file, as Graft's own models are.

    A softmax or sigmoid is put behind logits, the other label beside a single probability, a
    scaling before the model, and a conversion before one that takes whole numbers.

    Args:
        path: the .keras file.
        meaning: what it cannot say of itself.
        labels_file: what a message names where the labels are missing.

    Raises:
        ArtifactError: no model that can be opened here; labels that are missing, or other ones than
            it has outputs.
        ConfigError: another kind of model, or one of which more has to be said.
    """
    model = load_keras_model(path)
    check_own_shapes(path, model)
    shape = own_shape(path, model, meaning.image_size)
    model = with_pixel_input(path, model, meaning.input_range, shape)
    kind, closing = _kind_and_closing(path, model, meaning, labels_file)
    units = model.outputs[0].shape[-1]
    labels = meaning.labels or _value_names(units)
    return OwnModel(_closed(model, closing), tuple(labels), kind)


def _kind_and_closing(
    path: Path, model: "keras.Model", meaning: Meaning, labels_file: Path | None
) -> tuple[str, str | None]:
    """(the kind of the answers, what has to come behind the model: "softmax", "sigmoid", "both",
    "other label").
    """
    units, asked = model.outputs[0].shape[-1], meaning.outputs
    named = None if meaning.labels is None else len(meaning.labels)
    seen = kind_of_outputs(model)
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
            "say what the numbers are, --outputs logits if they are scores of labels (a "
            f"{'softmax' if units > 1 else 'sigmoid'} is added), --outputs values if they are "
            "values"
        )
    if asked == "values" or (asked is None and seen == "regression"):
        _check_count(path, units, named, (units,), labels_file, optional=True)
        return "regression", None
    if units == 1:
        _check_count(path, units, named, (1, 2), labels_file)
        if named == 2:
            return "single_label", "both" if asked == "logits" else "other label"
        return "multi_label", "sigmoid" if asked == "logits" else None
    _check_count(path, units, named, (units,), labels_file)
    return ("single_label", "softmax") if asked == "logits" else (str(seen), None)


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
            f"output{'s' * (units != 1)}: one label for each output, in order{more}"
        )


def _closed(model: "keras.Model", closing: str | None) -> "keras.Model":
    """`model` with what `closing` says behind it, in float32."""
    import keras

    if closing is None:
        return model
    (x,) = model.outputs
    name = free_name(model, "probabilities")
    if closing == "softmax":
        x = keras.layers.Activation("softmax", dtype="float32", name=name)(x)
    elif closing == "sigmoid":
        x = keras.layers.Activation("sigmoid", dtype="float32", name=name)(x)
    else:
        logit = x if closing == "both" else _logit_of(model)
        if logit is None:
            other = keras.layers.Rescaling(
                -1.0, 1.0, dtype="float32", name=free_name(model, "first")
            )(x)
            x = keras.layers.Concatenate(dtype="float32", name=name)([other, x])
        else:
            # Not 1 - p: of a p near 1 float32 would leave nothing.
            other = keras.layers.Rescaling(-1.0, dtype="float32", name=free_name(model, "first"))(
                logit
            )
            pair = keras.layers.Concatenate(dtype="float32", name=free_name(model, "both"))(
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
        {**last.get_config(), "activation": "linear", "name": free_name(model, "logit")}
    )
    logit = linear(last.input)
    linear.set_weights(last.get_weights())
    return logit


def _value_names(units: int) -> tuple[str, ...]:
    return ("value",) if units == 1 else tuple(f"value {number}" for number in range(1, units + 1))


def _kind_of_answers(path: Path, model: "keras.Model") -> str:
    """What a model's answers to random images look like."""
    shape = model.inputs[0].shape[1:]
    count = max(1, min(8, MAX_VALUES_PER_EXAMPLE // max(1, math.prod(shape))))
    try:
        images = np.random.default_rng(0).uniform(0, 255, (count, *shape)).astype("float32")
        rows = np.asarray(model(images, training=False), np.float32)
    except Exception as error:  # its layers raise whatever they like, out of memory too
        raise ConfigError(
            f"'{path}' cannot answer an image of {shape}: {str(error)[:300]}"
        ) from error
    if rows.min() < 0 or rows.max() > 1:
        return "regression"
    return (
        "single_label"
        if rows.shape[-1] > 1 and np.allclose(rows.sum(-1), 1, atol=1e-3)
        else "multi_label"
    )


def kind_of_outputs(model: "keras.Model") -> str | None:
    """What the numbers of a model's only output mean, by the operation that makes them.

    Returns:
        "single_label" (softmax), "multi_label" (sigmoid: each unit for itself) or "regression" (any
        other activation: values, or logits). None: it cannot be seen from the graph.
    """
    import keras

    if len(model.outputs) != 1:
        return None
    (tensor,) = (flatten(model) if as_functional(model) is not None else model).outputs
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
