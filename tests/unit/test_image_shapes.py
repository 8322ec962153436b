"""Images that are no squares, and those of one or four channels, from the option to the pixels."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from PIL import Image

from graft.arguments import command_options, recipe_options
from graft.export.preprocessing import read_preprocessing
from graft.recipes.adapt import catalogue, methods
from graft.recipes.codecs.augmentation import augmenter, check_channels
from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.commands.predict import Options
from graft.recipes.data.folders.known_files import KnownFiles
from graft.recipes.data.records import Example
from graft.recipes.image_classification import Config
from graft.recipes.report.drawing import figures
from graft.recipes.report.run_file import read_run
from graft.recipes.runs import backbones
from graft.recipes.runs.backbones import Reading
from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import find_backbone
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files.store import Store
from graft.zoo.fits import FITS, GREY, ImageShape, draft_size
from graft.zoo.graph.levels import feature_maps
from graft.zoo.heads.own_outputs import Meaning, load_own_model
from graft.zoo.vision import decode_image, describe_decoding

SIDES = st.integers(1, 60)
SHAPES = st.builds(ImageShape, st.integers(1, 33), st.integers(1, 33), st.sampled_from((1, 3, 4)))
ABC = ("a", "b", "c")


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    pixels = np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height, width, channels), "uint8"
    )
    return pixels[..., 0] if channels == 1 else pixels


def rounded(value: float) -> int:
    """Halves up, at least 1."""
    return max(1, int(np.floor(value + 0.5)))


@given(SIDES, SIDES, SHAPES)
def test_the_crop_is_the_largest_centred_part_of_the_proportions(width, height, shape):
    pixels = noise(width, height, shape.channels)
    scale = min(width / shape.width, height / shape.height)
    wide, high = (
        min(s, rounded(scale * t)) for s, t in zip((width, height), shape[1::-1], strict=True)
    )
    assert wide == width or high == height, "no larger one fits"
    left, top = (width - wide) // 2, (height - high) // 2
    part = pixels[top : top + high, left : left + wide]
    expected = decode_image(np.ascontiguousarray(part), shape, "stretch")
    found = decode_image(pixels, shape, "crop")
    assert found.shape == shape
    np.testing.assert_array_equal(found, expected)


@given(SIDES, SIDES, SHAPES)
def test_padding_keeps_all_of_an_image_and_its_proportions(width, height, shape):
    pixels = noise(width, height, shape.channels)
    found = decode_image(pixels, shape, "pad")
    assert found.shape == shape
    scale = min(shape.width / width, shape.height / height)
    wide, high = rounded(width * scale), rounded(height * scale)
    assert wide == shape.width or high == shape.height
    left, top = (shape.width - wide) // 2, (shape.height - high) // 2
    inside = found[top : top + high, left : left + wide]
    whole = ImageShape(high, wide, shape.channels)
    np.testing.assert_array_equal(inside, decode_image(pixels, whole, "stretch"))
    around = np.ones(shape[:2], bool)
    around[top : top + high, left : left + wide] = False
    grey = [GREY, GREY, GREY, 255] if shape.channels == 4 else [GREY] * shape.channels
    assert (found[around] == grey).all()


@given(SHAPES, st.integers(1, 4))
def test_of_the_right_proportions_all_fits_are_the_same(shape, times):
    pixels = noise(times * shape.width, times * shape.height, shape.channels)
    stretched = decode_image(pixels, shape)
    for fit in FITS:
        np.testing.assert_array_equal(decode_image(pixels, shape, fit), stretched)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("fit", FITS)
def test_a_large_jpeg_on_its_side_is_not_decoded_too_small(tmp_path, fit, orientation):
    upright = Image.fromarray(noise(8, 6)).resize((2400, 640), Image.Resampling.BICUBIC)
    turns = {1: 0, 3: 180, 6: 90, 8: 270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = upright.rotate(turns[orientation], expand=True)
    lying.save(tmp_path / "large.jpg", quality=95, exif=exif)
    shape = ImageShape(40, 150)
    found = decode_image(tmp_path / "large.jpg", shape, fit)
    assert np.abs(np.float32(found) - decode_image(upright, shape, fit)).mean() < 2


def test_a_jpeg_is_decoded_at_twice_what_it_becomes_on_the_sides_that_decide():
    wide, high = ImageShape(40, 150), ImageShape(150, 40)
    assert draft_size((2400, 640), wide, "crop") == draft_size((1, 1), wide, "stretch") == (300, 80)
    assert draft_size((2400, 640), wide, "pad") == (300, 1)
    assert draft_size((2400, 640), high, "pad") == (80, 1)
    assert draft_size((640, 2400), wide, "pad") == (1, 80)


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (160, (160, 160, 3)),
        ("160", (160, 160, 3)),
        ("160x224", (160, 224, 3)),
        ((160, 224), (160, 224, 3)),
        ([7, 7], (7, 7, 3)),
        (ImageShape(2, 3, 4), (2, 3, 4)),
    ],
)
def test_a_size_is_read_as_people_and_files_write_it(given, shape):
    found = ImageShape.of(given)
    assert found == shape
    assert ImageShape.of(str(found), shape[2]) == ImageShape.of(found.size, shape[2]) == shape
    assert json.loads(json.dumps(found.size)) == (
        shape[0] if shape[0] == shape[1] else [*shape[:2]]
    )


def test_luminance_and_transparency(tmp_path):
    rgb = noise(9, 7)
    grey = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
    np.testing.assert_array_equal(decode_image(rgb, ImageShape(7, 9, 1)), grey)
    np.testing.assert_array_equal(decode_image(grey, ImageShape(7, 9, 1)), grey)
    rgba = noise(9, 7, 4)
    rgba[0, 0] = (200, 100, 50, 0)
    np.testing.assert_array_equal(decode_image(rgba, ImageShape(7, 9, 4)), rgba)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", ImageShape(7, 9, 4)), rgba)
    assert decode_image(rgba, ImageShape(7, 9, 1))[0, 0] == 255, "laid over white"
    assert (decode_image(rgb, ImageShape(3, 5, 4))[..., 3] == 255).all(), "opaque"
    deep = np.full((8, 8), 40_000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert decode_image(tmp_path / "deep.png", ImageShape(4, 6, 1)).max() == 155
    found = decode_image(tmp_path / "deep.png", ImageShape(4, 6, 4))
    assert (found == [155, 155, 155, 255]).all()


def test_the_fourth_channel_is_resized_by_itself():
    rgba = noise(30, 20, 4)
    shape = ImageShape(11, 7, 4)
    found = decode_image(rgba, shape)
    np.testing.assert_array_equal(found[..., :3], decode_image(rgba[..., :3].copy(), (11, 7)))
    alpha = decode_image(rgba[..., 3].copy(), ImageShape(11, 7, 1))
    np.testing.assert_array_equal(found[..., 3:], alpha)


def test_what_is_said_of_squares_is_what_was_always_said():
    assert "channels" not in describe_decoding()
    assert describe_decoding() == describe_decoding("stretch", ImageShape(96, 96))
    codec = ImageCodec(ImageShape(48, 64, 1), fit="pad")
    said = codec.describe()
    assert (said["image_size"], said["channels"]) == ([48, 64], 1)
    assert "luminance" in said["color_space"]
    assert "square" not in said["resize"]
    assert ImageCodec.described(json.loads(json.dumps(said))).shape == (48, 64, 1)
    assert ImageCodec(16).describe()["image_size"] == 16
    assert ImageCodec.described({"image_size": 16}).shape == (16, 16, 3)
    with_transparency = describe_decoding("crop", ImageShape(4, 4, 4))
    assert (with_transparency["channels"], with_transparency["color_space"]) == (4, "RGBA")
    assert "kept" in with_transparency["transparency"]


@pytest.mark.parametrize("shape", [ImageShape(6, 10), ImageShape(8, 8, 1), ImageShape(5, 7, 4)])
def test_stored_pixels_have_the_shape(tmp_path, shape):
    rgba = noise(30, 12, 4)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    records = [Example(tmp_path / "a.png", "a", "a.png")]

    def decoded(of):
        return DecodedImages(Store(tmp_path / "store"), of, KnownFiles(tmp_path / "store"))

    assert len({decoded(of).key for of in (shape, shape[:2], 8, (6, 8), (8, 6))}) >= 4
    images = ImageCodec(shape, decoded=decoded(shape)).encode(records, ())
    assert images.pixels.shape == (1, *shape)
    assert images.pixels.row_bytes == np.prod(shape)
    expected = decode_image(tmp_path / "a.png", shape)
    np.testing.assert_array_equal(images.pixels[0], expected)
    (store,) = (tmp_path / "store").glob("decoded-*")
    (store / "pixels.bin").write_bytes(bytes(int(np.prod(shape))))
    again = ImageCodec(shape, decoded=decoded(shape)).encode(records, ())
    np.testing.assert_array_equal(again.pixels[0], expected, err_msg="damaged, decoded anew")
    plain = ImageCodec(shape).encode(records, ())
    np.testing.assert_array_equal(plain.pixels[0], expected)
    assert plain.input_reader()(tf.constant([0])).shape == (1, *shape)


def test_the_key_of_decoded_squares_is_that_of_before(tmp_path):
    """What an older Graft decoded is found: a size went in as a number."""
    key = DecodedImages(Store(tmp_path), 8, KnownFiles(tmp_path)).key
    assert key == DecodedImages(Store(tmp_path), ImageShape(8, 8), KnownFiles(tmp_path)).key
    assert ImageShape(8, 8).size == 8


def changed(augment, pixels, targets=None):
    apply = augmenter(augment, 0)
    steps = tf.data.Dataset.range(6, output_type=tf.int32)
    labels = np.eye(len(pixels), dtype="float32")
    found = list(steps.map(lambda step: apply(step, pixels, {"label": labels})[0]))
    return [batch.numpy() for batch in found]


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize(
    "name", ["flip", "crop", "zoom", "color", "grayscale", "randaugment", "mixup", "cutmix"]
)
def test_augmentation_of_other_channels(name, channels):
    pixels = np.float32(np.random.default_rng(0).uniform(30, 220, (8, 12, 20, channels)))
    if (name, channels) == ("randaugment", 4):
        with pytest.raises(ConfigError, match="--augment randaugment changes colours .* leave it"):
            check_channels((name,), channels)
        return
    check_channels((name,), channels)
    batches = changed((name,), pixels)
    assert all(batch.shape == pixels.shape for batch in batches)
    assert all(np.isfinite(batch).all() and batch.max() <= 255 for batch in batches)
    moved = max(np.abs(batch - pixels).max() for batch in batches)
    if (name, channels) == ("grayscale", 1):
        assert moved < 0.1, "grey is grey"
    else:
        assert moved > 1
    if channels == 4 and name in ("color", "grayscale"):
        assert all((batch[..., 3] == pixels[..., 3]).all() for batch in batches), "no colour"


def test_a_run_that_would_break_a_fourth_channel_is_refused_before_it_begins(tmp_path):
    image = keras.Input((16, 16, 4))
    keras.Model(image, layers.Conv2D(4, 3, strides=2)(image)).save(tmp_path / "b.keras")
    config = Config("digits", tmp_path / "run", backbone=str(tmp_path / "b.keras"))
    chosen = backbones.ImageBackbone.chosen(config)
    assert chosen.shape == chosen.codec(None).shape == (16, 16, 4)
    asked = replace(config, fit=replace(config.fit, augment=("flip", "randaugment")))
    with pytest.raises(ConfigError, match="--augment randaugment"):
        backbones.ImageBackbone.chosen(asked)


@pytest.mark.parametrize("size", [(48, 64), [48, 64], "48x64"])
def test_python_may_give_a_pair(size):
    assert recipe_options(Config, "x", {"image_size": size}) == {"image_size": "48x64"}
    assert command_options(Options, "predict", {"image_size": size}) == {"image_size": "48x64"}
    assert recipe_options(Config, "x", {"image_size": 48}) == {"image_size": 48}
    with pytest.raises(ConfigError, match=r"HEIGHTxWIDTH as 160x224, .* not \(48, 64, 3\)"):
        recipe_options(Config, "x", {"image_size": (48, 64, 3)})


def test_methods_that_would_break_a_fourth_channel_are_refused():
    catalogue.check_channels(tuple(catalogue.METHODS), 1)
    with pytest.raises(ConfigError, match="fixmatch changes images by randaugment, .* leave"):
        catalogue.check_channels(("pseudo_label", "fixmatch"), 4)
    joint = [row for row in catalogue.METHODS.values() if row.kind == "joint"]
    assert all(getattr(methods, row.of).strong == row.strong for row in joint)


@pytest.mark.parametrize("size", ["x", "axb", "0", "0x5", "64x", 0, "1e3"])
def test_a_bad_size_of_a_recipe_is_one_line(tmp_path, size):
    with pytest.raises(ConfigError, match="HEIGHTxWIDTH as 160x224, of .* at most: not") as told:
        Config("digits", tmp_path / "run", image_size=size).check()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("size", ["64x96", "96x64"])
def test_both_sides_reach_the_minimum(size):
    row = find_backbone("xception")
    with pytest.raises(ConfigError, match=f"image size {size} is too small .* at least 71 pixels"):
        row.shape(size)
    assert row.shape("71x96") == (71, 96, 3)


def test_backbones_of_the_catalogue_take_rectangles():
    model = build_backbone(find_backbone("mobilenet_v2_0.35"), image_size="64x96", weights="none")
    assert model.input.shape == (None, 64, 96, 3)
    assert model.output.shape[1:3] == (2, 3)
    assert {s: t.shape[1:3] for s, t in feature_maps(model).items()} == {
        4: (16, 24),
        8: (8, 12),
        16: (4, 6),
        32: (2, 3),
    }
    thin = build_backbone(find_backbone("mobilenet_v2_0.35"), image_size="32x256", weights="none")
    assert [*feature_maps(thin)] == [4, 8, 16, 32], "its height is 1 at the end"


def saved(path, shape, dense=False):
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, strides=2, name="first")(layers.Rescaling(1 / 255)(image))
    if not dense:
        x = layers.Conv2D(4, 3, strides=2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    keras.Model(image, layers.Dense(3, "softmax")(x)).save(path)
    return path


def test_a_model_of_any_size_has_to_be_told_one(tmp_path, capsys):
    path = saved(tmp_path / "m.keras", (None, None, 3))
    with pytest.raises(ConfigError, match="takes images of any size: say .*--image-size 224x224"):
        load_own_model(path, Meaning(ABC))
    own = load_own_model(path, Meaning(ABC, image_size="12x20"))
    assert own.model.input.shape == (None, 12, 20, 3)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 12, 20, 3)).astype("float32")
    np.testing.assert_allclose(own.model(pixels), keras.models.load_model(path)(pixels), atol=1e-6)
    row = find_backbone(str(path))
    assert (row.any_size, row.shape(), row.shape("12x20")) == (True, (224, 224, 3), (12, 20, 3))
    assert build_backbone(row, image_size="12x20", weights="own").input.shape == (None, 12, 20, 3)
    assert backbones.found(str(path), None).shape == (224, 224, 3)
    assert "takes images of any size: here 224 pixels (see --image-size)" in " ".join(
        capsys.readouterr().err.split()
    )
    assert backbones.found(str(path), None, Reading(32)).shape == (32, 32, 3)
    assert not capsys.readouterr().err


def test_one_side_may_be_fixed(tmp_path):
    path = saved(tmp_path / "m.keras", (32, None, 1))
    with pytest.raises(ConfigError, match="--image-size 32x224 for example"):
        load_own_model(path, Meaning(ABC))
    assert load_own_model(path, Meaning(ABC, image_size="32x50")).model.input.shape[1:] == (
        32,
        50,
        1,
    )
    row = find_backbone(str(path))
    assert row.shape() == (32, 224, 1)
    for refused in (
        lambda: load_own_model(path, Meaning(ABC, image_size=50)),
        lambda: row.shape(50),
    ):
        with pytest.raises(ConfigError, match="takes images of 32xANY pixels, not 50: leave"):
            refused()


@pytest.mark.parametrize("dense", [False, True])
def test_a_size_that_the_layers_of_a_model_cannot_take_is_one_line(tmp_path, dense):
    path = saved(tmp_path / "m.keras", (None, None, 3), dense)
    for refused in (
        lambda: load_own_model(path, Meaning(ABC, image_size=2)),
        lambda: build_backbone(find_backbone(str(path)), image_size=2, weights="own"),
    ):
        with pytest.raises(ConfigError, match="cannot take images of 2 pixels: give") as told:
            refused()
        assert "\n" not in str(told.value)


def test_a_model_of_a_fixed_size_takes_no_other(tmp_path):
    path = saved(tmp_path / "m.keras", (12, 20, 3))
    assert load_own_model(path, Meaning(ABC, image_size="12x20")).model.input.shape[1] == 12
    row = find_backbone(str(path))
    assert (row.image_size, row.shape(), row.any_size) == ((12, 20), (12, 20, 3), False)
    for refused in (
        lambda: load_own_model(path, Meaning(ABC, image_size="20x12")),
        lambda: build_backbone(row, image_size="20x12", weights="own"),
    ):
        with pytest.raises(ConfigError, match="takes images of 12x20 pixels, not 20x12: leave"):
            refused()


@pytest.mark.parametrize("channels", [1, 4])
def test_models_of_other_channels_are_opened(tmp_path, channels):
    path = saved(tmp_path / "m.keras", (16, 16, channels))
    assert load_own_model(path, Meaning(ABC)).model.input.shape == (None, 16, 16, channels)
    row = find_backbone(str(path))
    assert row.channels == channels
    assert build_backbone(row, weights="own").input.shape == (None, 16, 16, channels)


def test_a_model_of_other_channels_is_refused_as_a_backbone(tmp_path):
    path = saved(tmp_path / "m.keras", (16, 16, 2))
    with pytest.raises(ConfigError, match=r"of 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\) channels"):
        find_backbone(str(path))


OUTPUTS = {"p": (2,)}


@pytest.mark.parametrize("content", [{"image_size": 8}, {"image_size": [8, 12], "channels": 1}])
def test_preprocessing_of_before_and_of_now_is_read(content):
    assert read_preprocessing(json.dumps(content), "m.onnx", OUTPUTS)["fit"] == "stretch"


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"image_size": [8]}, "image_size"),
        ({"image_size": [8, 0]}, "image_size"),
        ({"image_size": "8x8"}, "image_size"),
        ({"channels": 2}, "channels"),
        ({"channels": [3]}, "channels"),
        ({"channels": True}, "channels"),
    ],
)
def test_damaged_preprocessing_is_refused(content, field):
    with pytest.raises(ArtifactError, match=f"expected '{field}' to be"):
        read_preprocessing(json.dumps(content), "m.onnx", OUTPUTS)


@pytest.mark.parametrize(
    ("size", "read"), [(24, True), ([24, 36], True), ([24], False), ([], False)]
)
def test_run_files_of_before_and_of_now_are_read(tmp_path, size, read):
    content = {"schema": 2, "data": {"image_size": size}}
    (tmp_path / "run.json").write_text(json.dumps(content))
    if read:
        assert read_run(tmp_path)["data"]["image_size"] == size
    else:
        with pytest.raises(ArtifactError, match="is damaged"):
            read_run(tmp_path)


@pytest.mark.parametrize("shape", [(20, 30, 1), (20, 30, 4), (200, 100, 4), (200, 100, 1)])
def test_pages_show_images_of_any_channels(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    shown = figures.thumbnail(image, 96)
    assert shown.height / shown.width == pytest.approx(shape[0] / shape[1], abs=0.03)
    heat = figures.heat_thumbnail(image, np.random.default_rng(0).uniform(size=(4, 2)), 96)
    assert max(heat.width, heat.height) == 96
