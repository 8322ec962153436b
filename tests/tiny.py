"""Images and networks that train in a second, one network for each kind of normalization."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from graft.recipes.codecs.images import Images
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.checkpoint import Checkpoints
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings, TrainPlan
from graft.zoo.graph.stack import stack
from graft.zoo.heads.head import Head, Heads
from graft.zoo.heads.heads import regression, single_label
from tests.conftest import shapes_image

HEAD = single_label(["left", "right", "top"], dropout=0.3)
PLACE = single_label(["left", "right", "top"], name="place")
GREY = regression(["grey"], name="grey", centre=120.0, scale=20.0)


class Killed(BaseException):
    """Nothing catches it."""


@contextlib.contextmanager
def killed_after(writes: int) -> Iterator[None]:
    """What trains in the block is killed when it has written so many checkpoints."""
    write, written = Checkpoints._write, 0

    def counting(self, *arguments) -> None:
        nonlocal written
        write(self, *arguments)
        written += 1
        if written == writes:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "_write", counting)
        with pytest.raises(Killed):
            yield


def plan_of(
    build: Callable[[], keras.Model],
    heads: Head | Heads | Sequence[Head],
    phases: Sequence[Phase],
    seeds: Sequence[int] = (0,),
    settings: FitSettings | None = None,
    **more: Any,
) -> TrainPlan:
    """How to train a model of these heads; each is for the task of its kind."""
    return TrainPlan(build, tasks_for(heads), phases, seeds, settings or FitSettings(), **more)


def pictures(count: int, seed: int = 0) -> Images:
    """Images of the three classes of `HEAD`, in turn."""
    classes = np.arange(count) % 3
    pixels = np.stack([shapes_image(label, 1000 * seed + i, 16) for i, label in enumerate(classes)])
    targets = {HEAD.name: np.eye(3, dtype=np.float32)[classes]}
    return Images(pixels, targets, tuple(map(str, range(count))))


def without_labels(images: Images) -> Images:
    """The same images, whose answers are not known."""
    targets = {name: np.full_like(target, np.nan) for name, target in images.targets.items()}
    return Images(images.pixels, targets, images.names)


def two_domains() -> dict[str, Images]:
    """Labelled images, and darker ones: "unlabelled", and with their labels "measured"."""
    target = pictures(40, 2)
    darker = Images(np.uint8(target.pixels // 2), target.targets, target.names)
    return {
        "train": pictures(48),
        "validation": pictures(12, 1),
        "unlabelled": without_labels(darker),
        "measured": darker,
    }


def tasked(count: int, seed: int = 0, gaps: float = 0.0) -> Images:
    """Images with two tasks, where they are and how grey; a share of the answers is missing."""
    plain = pictures(count, seed)
    grey = plain.pixels.mean((1, 2, 3))[:, None].astype(np.float32)
    rng = np.random.default_rng(seed)
    place = plain.targets[HEAD.name].copy()
    place[rng.random(count) < gaps] = np.nan
    grey[rng.random(count) < gaps] = np.nan
    return Images(plain.pixels, {PLACE.name: place, GREY.name: grey}, plain.names)


def normalization(x, i):
    """Residual blocks with BatchNormalization and dropout."""
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.Dropout(0.2)(layers.ReLU()(layers.BatchNormalization()(y)))
    return layers.Add(name=f"add{i}")([x, y])


def squeeze_excite(x, i):
    """A gate over the channels, swish."""
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.Activation("swish")(layers.BatchNormalization()(y))
    gate = layers.Dense(8, "sigmoid")(
        layers.Dense(4, "swish")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    )
    return layers.Add(name=f"add{i}")([x, layers.Multiply()([y, gate])])


def layer_norm(x, i):
    """Depthwise convolution, LayerNormalization, GELU, stochastic depth."""
    from keras.src.applications.convnext import StochasticDepth

    y = layers.LayerNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    y = layers.Dense(8)(layers.Activation("gelu")(layers.Dense(16)(y)))
    return layers.Add(name=f"add{i}")([x, StochasticDepth(0.3)(y)])


FAMILIES = (normalization, squeeze_excite, layer_norm)


def builder(block):
    """A function that builds the stacked model of three blocks with the same "pretrained" backbone
    every time.
    """

    def backbone():
        inputs = keras.Input((16, 16, 3), name="image")
        x = layers.Conv2D(8, 3, strides=2, padding="same")(layers.Rescaling(1 / 127.5, -1)(inputs))
        for i in range(3):
            x = block(x, i)
        return keras.Model(inputs, x, name="tiny")

    keras.utils.set_random_seed(7)
    model = backbone()
    for layer in model.layers:  # statistics that are not those of a fresh layer
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.random.default_rng(0).normal(0, 0.1, 8))
            layer.moving_variance.assign(np.random.default_rng(1).uniform(0.5, 2, 8))
    pretrained = model.get_weights()

    def build():
        made = backbone()
        made.set_weights(pretrained)
        return stack(made, [HEAD])

    return build
