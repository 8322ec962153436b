"""Heads on feature maps of several strides: levels are found, and training on cached ones, maps as
targets included, is the same training.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from graft.recipes.codecs.augmentation import augmenter
from graft.recipes.codecs.images import Images
from graft.recipes.codecs.targets import Moves
from graft.recipes.feed.cache import CacheSettings, PrefixCache
from graft.recipes.feed.entries import BATCH, VIEW_SEED
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.task import Task
from graft.recipes.train import fit
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings, TrainPlan
from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import find_backbone
from graft.zoo.errors import ConfigError
from graft.zoo.files.store import Store
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.cuts import narrowest_cut, split_at
from graft.zoo.graph.levels import feature_maps
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads.head import Head
from graft.zoo.heads.heads import single_label
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.scores import Score, share

SIZE, STRIDE = 64, 8
TWO_PHASES = (Phase("head", "head", 2, 1e-2), Phase("last blocks", 2, 2, 1e-3))


# Where is the brightest spot? A heat map at stride 8.


class SpotKind(Kind):
    """Heat maps `(n, h, w, 1)`: the largest value says where the spot is."""

    name: ClassVar[str] = "spot"
    figure: ClassVar[str] = "spots found"
    key: ClassVar[str] = "found"
    named: ClassVar[bool] = False

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The share of images whose spot is found to the cell."""
        n, side = len(outputs), outputs.shape[1]
        cells = targets.reshape(n, side, STRIDE, side, STRIDE).max((2, 4)).reshape(n, -1)
        right = outputs.reshape(n, -1).argmax(-1) == cells.argmax(-1)
        return share(self.figure, self.key, right)


class HeatLoss(keras.Loss):
    """Cross-entropy of each cell, `(b,)`; targets are maps of the size of the image."""

    def call(self, y_true, y_pred):
        """The mean over the cells of each image."""
        cells = keras.ops.max_pool(y_true, STRIDE, STRIDE)
        return keras.ops.mean(keras.losses.binary_crossentropy(cells, y_pred), axis=(1, 2))


def spot_head(reads=(8, 16), name="spot", resize=False) -> Head:
    """A heat map at stride 8, from the levels 8 and 16; with `resize` their sizes need not fit."""

    def attach(*maps):
        fine, *coarse = sorted(maps, key=lambda level: -level.shape[1])
        for level in coarse:
            larger = layers.UpSampling2D(fine.shape[1] // level.shape[1])
            if resize:
                larger = layers.Resizing(*fine.shape[1:3])
            fine = layers.Concatenate()([fine, larger(level)])
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name=f"{name}_conv")(fine)
        return layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name=name)(x)

    score = lambda outputs, targets: {"found": SpotKind().score(outputs, targets).value}  # noqa: E731
    return Head(name, SpotKind(), (), attach, HeatLoss, list, score, reads)


@dataclass(frozen=True)
class SpotTask(Task):
    """Where the brightest spot of an image is."""

    kind: ClassVar[Kind] = SpotKind()
    moves: ClassVar[Moves] = "map"
    meaning: ClassVar[str] = "a heat map"


def spots(count: int, seed: int = 0) -> Images:
    """Dark noise with one bright spot, and maps of the size of the image that are 1 there."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (count, SIZE, SIZE, 3), np.uint8)
    target = np.zeros((count, SIZE, SIZE, 1), np.float32)
    for i, (y, x) in enumerate(rng.integers(4, SIZE - 4, (count, 2))):
        pixels[i, y - 2 : y + 3, x - 2 : x + 3] = 250
        target[i, y - 2 : y + 3, x - 2 : x + 3] = 1
    return Images(pixels, {"spot": target}, tuple(map(str, range(count))), moving={"spot": "map"})


@pytest.fixture(scope="module")
def data():
    return {"train": spots(32), "validation": spots(8, 1)}


def convolution(x, stride=1):
    x = layers.Conv2D(8, 3, strides=stride, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def tiny(late: bool = False) -> keras.Model:
    """Residual blocks at the strides 4, 8, 16 and 32; with `late` the image joins the last ones
    again.
    """
    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = convolution(layers.Rescaling(1 / 127.5, -1)(inputs), 2)
    for _ in range(4):
        x = convolution(x, 2)
        for _ in range(2):
            x = layers.Add()([x, convolution(x)])
        if late and x.shape[1] == SIZE // STRIDE:
            raw = layers.AveragePooling2D(STRIDE)(layers.Rescaling(1 / 255)(inputs))
            x = convolution(layers.Concatenate()([x, raw]))
    return keras.Model(inputs, x, name="tiny")


def mobilenet() -> keras.Model:
    """The smallest MobileNetV2, random weights."""
    row = find_backbone("mobilenet_v2_0.35")
    return build_backbone(row, image_size=SIZE, weights="none")


def builder(make, heads=None):
    """A function that stacks the same "pretrained" backbone and fresh heads."""
    keras.utils.set_random_seed(3)
    weights = make().get_weights()

    def build():
        backbone = make()
        backbone.set_weights(weights)
        return stack(backbone, heads or [spot_head()])

    return build


def cuts_of(model, trained):
    blocks = find_blocks(backbone_of(model))
    return [narrowest_cut(model, blocks[len(blocks) - n - 1].cut) for n in trained]


def shapes(cut):
    return [tuple(tensor.shape[1:]) for tensor in cut]


# Levels


@pytest.mark.parametrize(
    "name", ["mobilenet_0.25", "mobilenet_v2_0.35", "mobilenet_v3_small", "vgg16"]
)
def test_every_level_is_the_image_divided_by_its_stride(name):
    model = build_backbone(find_backbone(name), image_size=SIZE, weights="none")
    sides = {stride: tensor.shape[1:3] for stride, tensor in feature_maps(model).items()}
    assert sides == {stride: (SIZE // stride, SIZE // stride) for stride in (4, 8, 16, 32)}


def test_a_map_is_taken_before_it_is_pooled_or_padded():
    vgg = build_backbone(find_backbone("vgg16"), image_size=SIZE, weights="none")
    assert feature_maps(vgg)[16] is vgg.get_layer("block5_conv3").output
    model = build_backbone(find_backbone("mobilenet_0.25"), image_size=SIZE, weights="none")
    assert feature_maps(model)[16] is model.get_layer("conv_pw_11_relu").output


def test_a_stride_that_is_not_there_is_one_line():
    with pytest.raises(ConfigError) as caught:
        stack(tiny(), [spot_head(reads=(8, 64))])
    assert str(caught.value) == (
        "a head reads the feature map at stride 64, and backbone 'tiny' has none: it has 4, 8, 16, "
        "32"
    )
    inputs = keras.Input((4,))
    with pytest.raises(ConfigError, match="'flat' has none: it has none"):
        stack(keras.Model(inputs, layers.Dense(4)(inputs), name="flat"), [spot_head()])


@pytest.mark.parametrize("make", [tiny, mobilenet])
def test_blocks_are_those_of_the_whole_backbone_up_to_the_highest_level(make):
    whole = [tuple(v.shape for v in block.weights) for block in find_blocks(make())]
    for reads in ((8, 16), (4, 8, 16, 32), (16, 8)):
        found = find_blocks(backbone_of(stack(make(), [spot_head(reads)])))
        found = [tuple(v.shape for v in block.weights) for block in found]
        assert len(found) > 4
        assert found == whole[: len(found)]


def test_heads_of_every_level_and_the_file_keep_their_backbone(tmp_path):
    heads = [spot_head((4, 8, 32)), single_label(["ant", "bee"])]
    model = stack(tiny(), heads)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    pixels = np.float32(spots(2).pixels)
    found, expected = backbone_of(again)(pixels), backbone_of(model)(pixels)
    assert [tuple(level.shape[1:3]) for level in found] == [(16, 16), (8, 8), (2, 2)]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# What is kept


def test_what_is_kept_is_what_trains_needs():
    model = builder(tiny)()
    head, middle, low = cuts_of(model, (0, 2, 4))
    assert shapes(head) == [(8, 8, 8), (4, 4, 8)]
    assert shapes(middle) == [(8, 8, 8)], "both levels come from the map at stride 8"
    assert shapes(low) == [(16, 16, 8)]
    blocks = find_blocks(backbone_of(model))
    assert shapes(blocks[-2].cut) == [(8, 8, 8), (4, 4, 8)], "a finished level beside what goes on"


def test_four_levels_do_not_hide_the_cuts_between_them():
    model = stack(tiny(), [spot_head((4, 8, 16, 32))])
    found = [len(block.cut) for block in find_blocks(backbone_of(model))]
    assert found == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize("first", ["label", "spot"])
def test_one_head_pools_what_another_takes_as_it_is(first):
    heads = [single_label(["ant", "bee"], name="label"), spot_head()]
    model = stack(tiny(), heads if first == "label" else heads[::-1])
    (head,) = cuts_of(model, (0,))
    assert sorted(shapes(head)) == [(4, 4, 8), (8,), (8, 8, 8)]
    prefix, suffix = split_at(model, head)
    pixels = np.float32(spots(2).pixels)
    for a, b in zip(
        keras.tree.flatten(suffix(prefix(pixels))), keras.tree.flatten(model(pixels)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("augment", [(), ("flip",)])
def test_the_image_is_kept_where_what_trains_makes_a_shallow_level_of_it(data, tmp_path, augment):
    model = builder(lambda: tiny(late=True))()
    blocks = find_blocks(backbone_of(model))
    cut = next(block.cut for block in blocks if shapes(block.cut) == [(8, 8, 8)])
    cache = PrefixCache(Store(tmp_path), model, data, augment, CacheSettings(dtype="float32"))
    kept = [part.name for part in cache.kept(cut, "train")]
    assert [tensor.name for tensor in cache.graph.again(cut)] == ["image"]
    # Unchanged ones are at hand; changed at random they are kept, and their maps beside them.
    assert kept[1:] == (["image", "spot"] if augment else [])
    cache.fill([cut])
    inputs, targets = next(iter(batches_of(cache.features(cut, "train"))))
    assert [tuple(tensor.shape[1:]) for tensor in inputs] == [(8, 8, 8), (SIZE, SIZE, 3)]
    assert tuple(targets["spot"].shape[1:]) == (SIZE, SIZE, 1)


def batches_of(features):
    """(inputs, targets by task) of all examples in their order, in one batch."""
    read = features.reader(0)
    indices = tf.range(len(features))
    return tf.data.Dataset.range(1, output_type=tf.int32).map(lambda step: read(step, indices))


# Targets move with images


def moved(images: Images, augment, view: int = 0, batch: int = BATCH) -> list:
    """The batches of a view as the uncached path computes them: (pixels, targets of the task)."""
    apply = augmenter(augment, VIEW_SEED, images.moving)
    read = images.reader(VIEW_SEED)
    indices = tf.data.Dataset.range(len(images), output_type=tf.int32).batch(batch)
    first = view * len(indices)
    steps = tf.data.Dataset.range(first, first + len(indices), output_type=tf.int32)
    batches = tf.data.Dataset.zip((steps, indices)).map(lambda step, i: (step, *read(step, i)))
    return [(a.numpy(), b["spot"]) for a, b in batches.map(apply)]


def test_a_flipped_image_has_a_flipped_map():
    images = spots(32)
    ((pixels, target),) = moved(images, ("flip",))
    flipped = [not np.array_equal(a, b) for a, b in zip(pixels, images.pixels, strict=True)]
    assert 4 < sum(flipped) < 28
    for i, mirrored in enumerate(flipped):
        step = -1 if mirrored else 1
        np.testing.assert_array_equal(pixels[i], images.pixels[i, :, ::step])
        np.testing.assert_array_equal(target[i], images.targets["spot"][i, :, ::step])


def test_a_shifted_image_has_a_shifted_map():
    images = spots(32)
    ((pixels, target),) = moved(images, ("crop",))
    assert not np.array_equal(target, images.targets["spot"])
    bright = pixels.mean(-1) > 150
    agree = (bright & (target.numpy()[..., 0] > 0.5)).sum((1, 2)) / bright.sum((1, 2)).clip(1)
    agree = agree[bright.sum((1, 2)) > 9]  # a spot at the border may leave the image
    assert len(agree) > 16
    assert agree.min() > 0.6
    assert np.median(agree) > 0.8


def test_a_map_that_is_not_known_stays_unknown():
    images = spots(32)
    images.targets["spot"][::2] = np.nan
    ((_, (target, counts)),) = moved(images, ("flip",))
    np.testing.assert_array_equal(counts, np.float32([0, 2] * 16))
    assert np.isfinite(target).all()


@pytest.mark.parametrize("name", ["randaugment", "mixup", "cutmix"])
def test_what_cannot_move_a_map_is_refused(name):
    with pytest.raises(
        ConfigError, match=f"--augment {name} cannot move the answers of task 'spot'"
    ):
        augmenter((name,), 0, {"spot": "map"})


# Cached training is the same training

STEP = 8
"""Examples a step. How a convolution rounds depends on how many images it is given: a pass that
takes 64 differs from steps of 8 by 1e-7. With as many in both nothing differs.
"""


@pytest.fixture
def same_batches(monkeypatch):
    """The pass takes as many images at a time as a step."""
    monkeypatch.setattr("graft.recipes.feed.work.BATCH", STEP)


def run(build, images, folder, mode, **settings):
    """The result of two phases; `mode` of the cache."""
    plan = TrainPlan(
        build,
        Tasks((SpotTask(spot_head(), answer="spot"),)),
        TWO_PHASES,
        (1,),
        FitSettings(batch_size=STEP, cache=mode, cache_dtype="float32", **settings),
    )
    _, (result,) = fit.train(plan, images, store=Store(folder))
    assert [phase["cached"] for phase in result.phases] == [mode != "off"] * 2
    return result


def assert_same(a, b):
    """But for how convolutions round: TensorFlow fuses them otherwise in a graph that goes on to
    the loss, which changed weights by 1.5e-8.
    """
    for x, y in zip(a.weights, b.weights, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)
    for row, other in zip(a.history, b.history, strict=True):
        for name in ("loss", "val_loss", "val_found"):
            assert row[name] == pytest.approx(other[name], abs=1e-5)


@pytest.mark.parametrize("make", [tiny, lambda: tiny(late=True)], ids=["tiny", "late"])
@pytest.mark.usefixtures("same_batches")
def test_cached_training_is_the_same(make, data, tmp_path):
    build = builder(make)
    plain = run(build, data, tmp_path, "off")
    assert_same(run(build, data, tmp_path, "memory"), plain)
    assert plain.history[-1]["loss"] < plain.history[0]["loss"]


@pytest.mark.usefixtures("same_batches")
def test_cached_training_on_flipped_images_is_that_on_their_pixels(data, tmp_path):
    """A view of flipped images has whole numbers, so that it can stand as images of its own."""
    build = builder(tiny)
    batches = moved(data["train"], ("flip",), batch=STEP)
    pixels, target = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    flipped = replace(data["train"], pixels=np.uint8(pixels), targets={"spot": target})
    plain = run(build, {**data, "train": flipped}, tmp_path / "plain", "off")
    cached = run(build, data, tmp_path / "cached", "memory", augment=("flip",), views=1)
    assert_same(cached, plain)


@pytest.mark.parametrize("make", [tiny, mobilenet])
@pytest.mark.parametrize("augment", [("flip",), ("flip", "crop")], ids="+".join)
def test_a_cached_view_is_what_the_uncached_path_computes(make, augment, data, tmp_path):
    model = builder(make)()
    cuts = cuts_of(model, (0, 2))
    cache = PrefixCache(
        Store(tmp_path), model, data, augment, CacheSettings(views=2, dtype="float32")
    )
    for view in range(2):
        cache.fill(cuts[1:], view)
        cache.fill(cuts, view)  # the higher one from the lower one
        ((pixels, target),) = moved(data["train"], augment, view)
        for cut in cuts:
            features = cache.features(cut, "train", (view,))
            rows = [files[0].load() for files in features.tensors]
            prefix = tf.function(keras.Model(model.input, list(cut)))
            expected = keras.tree.flatten(prefix(pixels, training=False))
            assert len(rows) == len(cut) + 1
            for found, tensor in zip(rows, [*expected, target], strict=True):
                np.testing.assert_allclose(found, tensor, rtol=0, atol=2e-6)
            ((_, targets),) = batches_of(features)
            np.testing.assert_array_equal(targets["spot"], target)


def boxed(count: int) -> Images:
    """The spots with the boxes around them; each image has room for two."""
    images = spots(count)
    rows = np.zeros((count, 2, 6), np.float32)
    rows[..., 4] = -1
    for row, spot in zip(rows, images.targets["spot"][..., 0], strict=True):
        places = np.argwhere(spot)
        row[0] = (*places.min(0)[::-1], *(places.max(0)[::-1] + 1), 3, 0)
    targets = {**images.targets, "boxes": rows}
    return replace(images, targets=targets, moving={"spot": "map", "boxes": "boxes"})


@pytest.mark.parametrize("augment", [("flip",), ("flip_vertical",), ("crop",), ("flip", "crop")])
def test_boxes_move_as_maps_do(augment):
    images = boxed(32)
    apply = augmenter(augment, VIEW_SEED, images.moving)
    inputs = (tf.constant(np.float32(images.pixels)), dict(images.targets))
    _, targets = apply(tf.constant(3), *inputs)
    assert not np.array_equal(targets["boxes"], images.targets["boxes"])
    compared = 0
    for spot, row in zip(targets["spot"].numpy()[..., 0], targets["boxes"].numpy(), strict=True):
        assert row[1].tolist() == [0, 0, 0, 0, -1, 0]
        places = np.argwhere(spot)
        if row[0, 4] < 0:
            assert not len(places) or np.ptp(places, 0).min() < 3
            continue
        around = (*places.min(0)[::-1], *(places.max(0)[::-1] + 1))
        np.testing.assert_allclose(
            row[0, :4], around, atol=1.6
        )  # half a pixel a layer, and that of the map
        compared += 1
    assert compared > 20
