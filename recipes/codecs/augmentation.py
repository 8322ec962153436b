"""Random changes to images while they train, by (seed, step) alone. Never in the graph that ships.

Every image of a batch has draws of its own: operations, strengths, and the weight it is mixed with.
One permutation of the batch says which image is mixed with which. (MixUp's reference code draws one
weight a batch; its paper, Zhang et al. 2018, arXiv:1710.09412, has one for each pair, as here.)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from graft.recipes.codecs.targets import Moves, target_rows, with_rows
from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["MIXERS", "Augmentation", "augmenter", "check_channels", "describe"]

Augmentation = Literal[
    "flip", "flip_vertical", "crop", "zoom", "color", "grayscale", "randaugment", "mixup", "cutmix"
]
MIXERS = ("mixup", "cutmix")
"""Those that join two images and their targets."""
IMAGES_ALONE = (*MIXERS, "randaugment")
"""Those that cannot move what is beside an image."""
OF_COLOURS = ("RandomColorJitter", "RandomGrayscale")
"""Keras's layers that change the colours of RGB images and move nothing."""

BOX_FORMAT = "xyxy"
LEAST_SIDE = 2.0
"""Pixels of a box that was cut; a thinner one shows nothing that could be told."""
PIXELS = (0, 255)
SEEDS_A_STEP = 64
"""No augmentation draws more random tensors than this for a batch."""


def _layers(
    augment: Sequence[str], seed: int, beside: Sequence[Moves] = ()
) -> tuple[list["keras.layers.Layer"], "keras.layers.Layer | None"]:
    """(layers that see images, and what moves `beside` them; the one that mixes images and targets
    or None).
    """
    import keras

    from graft.recipes.codecs.rand_augment import RandAugment

    for name in augment:
        if name not in get_args(Augmentation):
            raise ConfigError(
                f"no augmentation is called '{name}': expected some of "
                f"{', '.join(get_args(Augmentation))}"
            )
    if set(MIXERS) <= set(augment):
        raise ConfigError("mixup and cutmix both mix whole images: choose one of them")
    layer = keras.layers
    # A border that mirrors the image shows objects that have no box.
    border = "constant" if "boxes" in beside else "reflect"
    more: dict[str, Any] = {"bounding_box_format": BOX_FORMAT} if "boxes" in beside else {}
    single = {
        "flip": lambda: [layer.RandomFlip("horizontal", seed=seed, **more)],
        "flip_vertical": lambda: [layer.RandomFlip("vertical", seed=seed + 10, **more)],
        "crop": lambda: [
            layer.RandomTranslation(0.08, 0.08, fill_mode=border, seed=seed + 1, **more),
            layer.RandomZoom((-0.25, 0.0), fill_mode=border, seed=seed + 2, **more),
        ],
        "zoom": lambda: [
            layer.RandomTranslation(0.2, 0.2, fill_mode=border, seed=seed + 7, **more),
            layer.RandomZoom((-0.6, 0.0), fill_mode=border, seed=seed + 8, **more),
        ],
        "color": lambda: [
            layer.RandomColorJitter(
                PIXELS,
                brightness_factor=0.2,
                contrast_factor=0.2,
                saturation_factor=0.2,
                hue_factor=0.05,
                seed=seed + 3,
            )
        ],
        "grayscale": lambda: [layer.RandomGrayscale(0.2, seed=seed + 9)],
        "randaugment": lambda: [RandAugment(PIXELS, num_ops=2, factor=0.4, seed=seed + 4)],
    }
    mixers = {
        "mixup": lambda: layer.MixUp(alpha=0.2, seed=seed + 5),
        # Exactly 1, the exponent of the paper: of a range Keras draws one exponent a batch.
        "cutmix": lambda: layer.CutMix((1.0, 1.0), seed=seed + 6),
    }
    layers = [made for name in single if name in augment for made in single[name]()]
    return layers, next((mixers[name]() for name in mixers if name in augment), None)


def check_channels(augment: Sequence[Augmentation], channels: int) -> None:
    """Refuse changes that images of so many channels cannot be given.

    Raises:
        ConfigError: names the option.
    """
    if channels == 4 and "randaugment" in augment:
        raise ConfigError(
            "--augment randaugment changes colours and moves what it changes, which a fourth "
            "channel beside them cannot follow: leave it out (flip, crop, zoom, color, grayscale, "
            "mixup and cutmix keep it)"
        )


def describe(
    augment: Sequence[Augmentation], seed: int, moving: Mapping[str, Moves] | None = None
) -> list:
    """All that the changes of `augmenter` follow from, as JSON can hold it: what depends on them is
    anew when it changes.
    """
    layers, mixer = _layers(augment, seed, tuple((moving or {}).values()))
    parts = [*layers, *filter(None, [mixer])]
    # The name of a layer counts up in one process and says nothing.
    configs = [
        [type(layer).__name__, {k: v for k, v in layer.get_config().items() if k != "name"}]
        for layer in parts
    ]
    return [configs, PIXELS, SEEDS_A_STEP]


def augmenter(
    augment: Sequence[Augmentation], seed: int, moving: Mapping[str, Moves] | None = None
) -> Callable[["tf.Tensor", "tf.Tensor", dict], tuple["tf.Tensor", dict]]:
    """A function for tf.data: (step, images, targets by task) -> (images, targets), changed at
    random by (seed, step).

    Args:
        augment: the changes.
        seed: of a training, or of cached views.
        moving: tasks whose targets move as their images do: maps to the nearest pixel; boxes are
            cut where the image ends, and left out where next to nothing is left of them.

    Raises:
        ConfigError: an unknown augmentation, more than one of mixup and cutmix, or one that cannot
            move maps.
    """
    import tensorflow as tf

    moving = moving or {}
    alone = next((name for name in augment if name in IMAGES_ALONE), None)
    if moving and alone is not None:
        raise ConfigError(
            f"--augment {alone} cannot move the answers of task '{next(iter(moving))}' with their "
            "images: leave it out"
        )
    layers, mixer = _layers(augment, seed, tuple(moving.values()))
    parts = [*layers, *([mixer] if mixer is not None else [])]
    generators = [
        generator
        for layer in parts
        for part in layer._flatten_layers(include_self=True, recursive=True)
        for generator in part._seed_generators
    ]
    first = [generator.state.numpy() for generator in generators]

    def changed(layer: Any, images: "tf.Tensor", targets: dict) -> "tuple[tf.Tensor, dict]":
        if images.shape[-1] != 3 and type(layer).__name__ in (*OF_COLOURS, "RandAugment"):
            return _changed_as_colours(layer, images), targets
        if not moving:
            return layer(images, training=True), targets
        return _moved(layer, images, targets, moving)

    def apply(step: "tf.Tensor", images: "tf.Tensor", targets: dict) -> "tuple[tf.Tensor, dict]":
        for generator, state in zip(generators, first, strict=True):
            counted = tf.cast([0, step * SEEDS_A_STEP], tf.uint32)
            generator.state.assign(tf.cast(state, tf.uint32) + counted)
        for layer in layers:
            images, targets = changed(layer, images, targets)
        images = tf.clip_by_value(images, *map(float, PIXELS))
        if mixer is not None:
            ((name, labels),) = targets.items()
            mixed = mixer({"images": images, "labels": labels}, training=True)
            images, targets = mixed["images"], {name: mixed["labels"]}
        return images, targets

    return apply


def _moved(
    layer: Any, images: "tf.Tensor", targets: dict, moving: Mapping[str, Moves]
) -> "tuple[tf.Tensor, dict]":
    """(images, targets) after a layer of Keras, which moves one map and one list of boxes beside
    the images: those of all tasks lie behind each other in it.
    """
    import tensorflow as tf

    own = {name: target_rows(targets[name]) for name in moving}
    maps = [name for name, kind in moving.items() if kind == "map"]
    boxes = [name for name, kind in moving.items() if kind == "boxes"]
    given: dict[str, Any] = {"images": images}
    if maps:
        given["segmentation_masks"] = tf.concat([own[name] for name in maps], -1)
    if boxes:
        rows = tf.concat([own[name] for name in boxes], 1)
        given["bounding_boxes"] = {"boxes": rows[..., :4], "labels": rows[..., 4]}
    found = layer(given, training=True)
    moved: dict[str, tf.Tensor] = {}
    if maps:
        sizes = [own[name].shape[-1] for name in maps]
        whole = tf.cast(found["segmentation_masks"], own[maps[0]].dtype)
        moved |= dict(zip(maps, tf.split(whole, sizes, -1), strict=True))
    if boxes:
        sizes = [own[name].shape[1] for name in boxes]
        whole = _boxes(found["bounding_boxes"], rows)
        moved |= dict(zip(boxes, tf.split(whole, sizes, 1), strict=True))
    return found["images"], targets | {
        name: with_rows(targets[name], rows) for name, rows in moved.items()
    }


def _boxes(found: dict, before: "tf.Tensor") -> "tf.Tensor":
    """The rows of boxes that a layer has moved and cut; of which nothing is left have no label."""
    import tensorflow as tf

    corners = tf.cast(found["boxes"], before.dtype)
    sides = tf.reduce_min(corners[..., 2:] - corners[..., :2], -1)
    there = (sides >= LEAST_SIDE) & (before[..., 4] >= 0)
    label = tf.where(there, before[..., 4], -1.0)
    rest = tf.concat([label[..., None], before[..., 5:]], -1)
    return tf.concat([tf.where(there[..., None], corners, 0.0), rest], -1)


def _changed_as_colours(layer: Any, images: "tf.Tensor") -> "tf.Tensor":
    """What a layer for RGB images makes of others: grey ones are given to it as colours that are
    grey, which stay so; a fourth channel is kept beside the colours.
    """
    import tensorflow as tf

    if images.shape[-1] == 1:
        return layer(tf.repeat(images, 3, -1), training=True)[..., :1]
    return tf.concat([layer(images[..., :3], training=True), images[..., 3:]], -1)
