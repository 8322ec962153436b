"""From a row of the catalogue to a Keras graph: preprocessing and backbone, flat, with its
weights.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from graft.zoo.backbones.families import Preprocessing
from graft.zoo.backbones.table import OWN_FAMILY, Backbone
from graft.zoo.backbones.weight_files import load_weights
from graft.zoo.backbones.weights import resolve_weights
from graft.zoo.errors import ConfigError, WeightsError
from graft.zoo.fits import ImageSize
from graft.zoo.graph.nodes import flatten
from graft.zoo.graph.state import clone_model

if TYPE_CHECKING:
    import keras

__all__ = ["build_backbone", "preprocess_image"]

RGB_MEAN = (0.485, 0.456, 0.406)
RGB_STDDEV = (0.229, 0.224, 0.225)
"""Of the ImageNet training set, pixels scaled to [0, 1]."""
BGR_MEAN = (103.939, 116.779, 123.68)
"""Of the ImageNet training set, pixels in [0, 255], blue first: what the Caffe models subtract."""


def build_backbone(
    row: Backbone, *, image_size: ImageSize | None = None, weights: str = "imagenet"
) -> "keras.Model":
    """Build a backbone with its preprocessing inside, without pooling and classifier.

    Args:
        row: of the catalogue.
        image_size: height and width in pixels: a number (a square), "HEIGHTxWIDTH" or a pair;
            None: `row.image_size`.
        weights: a SPEC of `zoo.backbones.weights`: "imagenet", "none", "bundled" or a path. The
            graph is the same for all of them.

    Returns:
        A flat functional model called `row.name`. Its input `image` is float32
        `(batch, height, width, row.channels)`, 0 to 255 (RGB but of a model of the user's); its
        output is the last feature map, `(batch, rows, columns, row.feature_dim)`.

    Raises:
        ConfigError: `image_size` is below `row.min_image_size`, no size, or none that a model of
            the user's takes; or Keras is set to channels first.
        WeightsError: the weights cannot be had or belong to another architecture.
    """
    shape = row.shape(image_size)
    # Before Keras is imported and the graph built: a missing file answers at once.
    path = resolve_weights(row, weights, image_size=shape)
    if row.family == OWN_FAMILY:
        from graft.zoo.backbones.own import build_own_backbone

        return build_own_backbone(Path(row.target), row.name, shape, fresh=path is None)

    import keras

    if keras.config.image_data_format() != "channels_last":
        raise ConfigError(
            "Keras is set to 'channels_first' images: put 'channels_last' into its keras.json"
        )
    image = keras.Input(shape, dtype="float32", name="image")
    pixels = (
        _before_efficientnet(image)
        if row.family == "efficientnet"
        else preprocess_image(image, row.preprocessing)
    )
    function = getattr(keras.applications, row.target.partition(":")[2])
    # Never weights="imagenet" here: EfficientNet would build another graph. The name stays Keras's
    # own, because EfficientNetV2 chooses its preprocessing by it.
    model = function(
        include_top=False,
        weights=None,
        input_tensor=pixels,
        input_shape=tuple(shape),
        **dict(row.arguments),
    )
    if path is not None:
        load_weights(model, row, path)
    if row.family == "efficientnet":
        _normalize_like_imagenet(model, row, path)
    model = keras.Model(image, model.output, name=row.name)
    flat = flatten(model)
    if flat is model:
        return model
    # The layers also remember the graph before flatten, and get_layer(...).output would answer from
    # that one.
    return clone_model(flat)


def preprocess_image(image: "keras.KerasTensor", mode: Preprocessing) -> "keras.KerasTensor":
    """What Keras's `preprocess_input` of a mode gives, as a graph.

    Nothing random, and only what every export format has: a gather over the channels, a product and
    a sum. It computes in float32 under mixed precision too, so that only its result is rounded.

    Args:
        image: pixels `(batch, height, width, 3)`, RGB, 0 to 255.
        mode: of the backbone.

    Returns:
        What the backbone takes, of the same shape.
    """
    import keras

    if mode == "in_graph":
        return image
    if mode == "tf":
        return keras.layers.Rescaling(
            1 / 127.5, offset=-1.0, dtype="float32", name="preprocessing"
        )(image)
    if mode == "torch":
        scale = [1 / (255 * deviation) for deviation in RGB_STDDEV]
        offset = [-mean / deviation for mean, deviation in zip(RGB_MEAN, RGB_STDDEV, strict=True)]
        return keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="preprocessing")(
            image
        )
    blue_first = keras.ops.take(image, [2, 1, 0], axis=-1)
    offset = [-mean for mean in BGR_MEAN]
    return keras.layers.Rescaling(1.0, offset=offset, dtype="float32", name="preprocessing")(
        blue_first
    )


def _before_efficientnet(image: "keras.KerasTensor") -> "keras.KerasTensor":
    """What makes one EfficientNet graph for all weights.

    The ImageNet files keep the deviation d where Keras's Normalization expects the variance
    (tensorflow issue 49930), so that it gives (x - m) / sqrt(d) for x in [0, 1]. With
    weights="imagenet", and only then, Keras divides by sqrt(d) once more behind it. Scaling x - m
    in front of it instead gives the same numbers.
    """
    import keras

    scale = [1 / math.sqrt(deviation) for deviation in RGB_STDDEV]
    offset = [255 * mean * (1 - factor) for mean, factor in zip(RGB_MEAN, scale, strict=True)]
    return keras.layers.Rescaling(scale, offset=offset, dtype="float32", name="preprocessing")(
        image
    )


def _normalize_like_imagenet(model: "keras.Model", row: Backbone, path: Path | None) -> None:
    """Without a file, give Normalization the numbers of the ImageNet files; with one, see that its
    mean is theirs.
    """
    import keras
    import numpy as np

    layer = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    if path is None:
        layer.adapt_mean.assign(RGB_MEAN)
        layer.adapt_variance.assign(RGB_STDDEV)
        layer.finalize_state()
    elif not np.allclose(layer.adapt_mean, RGB_MEAN, atol=1e-3):
        raise WeightsError(
            f"'{path}' holds an EfficientNet with a normalization of its own (mean "
            f"{np.asarray(layer.adapt_mean)}, ImageNet's is {RGB_MEAN}): give weights that started "
            "from ImageNet, or its .keras file as --backbone"
        )
