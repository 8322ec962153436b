"""Which part of an image a prediction rests on."""

from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.graph.stack import FEATURES

if TYPE_CHECKING:
    import keras

__all__ = ["grad_cam"]

BATCH = 32
"""Images a step; the feature maps of a step are held in memory together."""


def grad_cam(model: "keras.Model", images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) at the last feature map of `model`.

    `model` was made by `zoo.graph.stack.stack` with one head; `images` are float32 `(n, height,
    width, 3)`, pixels 0 to 255; `classes` are the output units to explain, integers `(n,)`. The
    gradient is that of the logit, the number that goes into the last activation, because the
    gradient of a probability near 1 vanishes.

    Returns float32 `(n, h, w)` in [0, 1] at the size of the feature map: each image's hottest
    place is 1, or the whole map is 0 when no place speaks for the class.

    Raises:
        ArtifactError: `model` was not made by `stack`.
        ConfigError: several heads, a backbone without a spatial feature map, no such class, or
            `images` and `classes` of different length.
    """
    classes = np.asarray(classes, dtype="int32")
    to_map, to_logits = _parts(model)
    units = to_logits.output_shape[-1]
    if len(images) != len(classes):
        raise ConfigError(
            f"Grad-CAM needs one class an image, got {len(images)} and {len(classes)}"
        )
    if classes.size and not (classes.min() >= 0 and classes.max() < units):
        raise ConfigError(
            f"Grad-CAM got class {classes.min()} to {classes.max()}; '{model.name}' has classes 0 "
            f"to {units - 1}"
        )
    steps = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
    maps = [_maps(to_map, to_logits, np.float32(images[step]), classes[step]) for step in steps]
    return np.concatenate(maps) if maps else np.zeros((0, *to_map.output_shape[1:3]), "float32")


def _parts(model: "keras.Model") -> tuple["keras.Model", "keras.Model"]:
    """`model` as images -> feature map and feature map -> logits, sharing its weights."""
    import keras

    try:
        feature_map = model.get_layer(FEATURES).input
    except ValueError as error:
        raise ArtifactError(
            f"the model '{model.name}' has no layer called '{FEATURES}': Grad-CAM reads models "
            "made by zoo.stack.stack"
        ) from error
    if len(model.outputs) != 1:
        raise ConfigError(f"Grad-CAM explains one head, '{model.name}' has {len(model.outputs)}")
    if len(feature_map.shape) != 4:
        raise ConfigError(
            f"Grad-CAM needs a feature map (batch, h, w, channels), '{model.name}' has "
            f"{feature_map.shape}"
        )
    head = model.get_layer(model.output_names[0])
    if not isinstance(head, keras.layers.Activation | keras.layers.Softmax):
        raise ArtifactError(
            f"the last layer of '{model.name}' is a {type(head).__name__}: Grad-CAM needs an "
            "activation of its own there"
        )
    return keras.Model(model.inputs[0], feature_map), keras.Model(feature_map, head.input)


def _maps(
    to_map: "keras.Model", to_logits: "keras.Model", images: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    import tensorflow as tf

    feature_map = to_map(images, training=False)
    with tf.GradientTape() as tape:
        tape.watch(feature_map)
        score = tf.gather(to_logits(feature_map, training=False), classes, batch_dims=1)
    gradient = tf.cast(tape.gradient(score, feature_map), "float32")
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * tf.cast(feature_map, "float32"), axis=-1))
    return tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=(1, 2), keepdims=True)).numpy()
