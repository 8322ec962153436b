"""An image that is no square is stretched, cropped or padded, everywhere in the same way."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from graft.arguments import recipe_options
from graft.export.preprocessing import read_preprocessing
from graft.recipes.codecs import decoding
from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.commands import evaluate, own_model
from graft.recipes.data.folders.known_files import KnownFiles
from graft.recipes.data.records import Example
from graft.recipes.image_classification import Config
from graft.recipes.runs.backbones import ImageBackbone
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ArtifactError, UnknownName
from graft.zoo.files.store import Store
from graft.zoo.fits import FITS, GREY, ImageShape, draft_size
from graft.zoo.vision import decode_image, describe_decoding

SIDES = st.integers(1, 70)
SIZES = st.integers(1, 33)


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height, width, 3), "uint8"
    )


def centre(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


@given(SIDES, SIZES)
def test_of_a_square_all_fits_are_the_same(side, size):
    pixels = noise(side, side)
    stretched = decode_image(pixels, size)
    for fit in FITS:
        np.testing.assert_array_equal(decode_image(pixels, size, fit), stretched)


@given(SIDES, SIDES, SIZES)
def test_cropping_is_stretching_the_centre_square(width, height, size):
    pixels = noise(width, height)
    expected = decode_image(centre(pixels), size, "stretch")
    np.testing.assert_array_equal(decode_image(pixels, size, "crop"), expected)


@given(SIDES, SIDES, SIZES)
def test_padding_keeps_everything_between_bars_of_grey(width, height, size):
    pixels = np.full((height, width, 3), 255, np.uint8)
    padded = decode_image(pixels, size, "pad")
    assert padded.shape == (size, size, 3)
    inside = (padded == 255).all(-1)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert inside.sum() == len(rows) * len(columns), "one rectangle"
    assert (padded[~inside] == GREY).all()
    for found, length in ((rows, height), (columns, width)):
        exact = length * size / max(width, height)
        assert len(found) == max(1, int(exact + 0.5))
        before, behind = found[0], size - 1 - found[-1]
        assert before == (size - len(found)) // 2
        assert 0 <= behind - before <= 1, "in the middle"


@given(SIDES, SIDES, SIZES)
def test_what_lies_between_the_bars_has_the_proportions_of_the_image(width, height, size):
    pixels = noise(width, height)
    padded, longer = decode_image(pixels, size, "pad"), max(width, height)
    wide, high = (max(1, int(side * size / longer + 0.5)) for side in (width, height))
    top, left = (size - high) // 2, (size - wide) // 2
    expected = Image.fromarray(pixels).resize((wide, height), 2).resize((wide, high), 2)
    np.testing.assert_array_equal(padded[top : top + high, left : left + wide], expected)


@pytest.mark.parametrize("fit", FITS)
def test_files_bytes_arrays_and_images_agree(tmp_path, fit):
    pixels = noise(37, 22)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    expected = decode_image(pixels, 16, fit)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), content, image):
        np.testing.assert_array_equal(decode_image(source, 16, fit), expected)
    codec = ImageCodec(16, fit=fit)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), pixels, image):
        np.testing.assert_array_equal(codec.item(source).pixels, expected)
    encoded = codec.encode([Example(tmp_path / "a.png", "a", "a.png")], ())
    np.testing.assert_array_equal(encoded.pixels[0], expected)


@pytest.mark.parametrize("fit", FITS)
def test_the_orientation_comes_before_the_fit(tmp_path, fit):
    image = Image.fromarray(np.repeat(np.repeat(noise(6, 4), 8, 0), 8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(
        decode_image(tmp_path / "turned.png", 16, fit), decode_image(upright, 16, fit)
    )


@pytest.mark.parametrize("size", [(2400, 1200), (1200, 2400), (3000, 90), (90, 3000)])
@pytest.mark.parametrize("fit", FITS)
def test_a_large_jpeg_is_decoded_smaller_but_never_too_small(tmp_path, fit, size):
    whole = Image.fromarray(noise(6, 4)).resize(size, Image.Resampling.BICUBIC)
    whole.save(tmp_path / "large.jpg", quality=95)
    found, exact = decode_image(tmp_path / "large.jpg", 32, fit), decode_image(whole, 32, fit)
    assert np.abs(np.float32(found) - exact).mean() < 3
    with Image.open(tmp_path / "large.jpg") as image:
        image.draft("RGB", draft_size(image.size, ImageShape(32, 32), fit))
        deciding = max(image.size) if fit == "pad" else min(image.size)
        before = max(size) if fit == "pad" else min(size)
        assert deciding >= min(before, 64), "twice what it becomes"


def test_padding_lets_a_jpeg_be_decoded_at_a_smaller_scale_than_stretching():
    assert draft_size((3000, 90), ImageShape(32, 32), "pad") == (64, 1)
    assert draft_size((90, 3000), ImageShape(32, 32), "pad") == (1, 64)
    assert draft_size((3000, 90), ImageShape(32, 32), "crop") == (64, 64)


def test_what_is_decoded_once_is_found_by_its_fit(tmp_path):
    Image.fromarray(noise(30, 12)).save(tmp_path / "a.png")
    records = [Example(tmp_path / "a.png", "a", "a.png")]
    digests = set()
    for fit in (*FITS, *FITS):
        store = Store(tmp_path / "store")
        decoded = DecodedImages(store, 8, KnownFiles(tmp_path / "store"), fit=fit)
        images = ImageCodec(8, decoded=decoded, fit=fit).encode(records, ())
        np.testing.assert_array_equal(
            images.pixels[0], decode_image(tmp_path / "a.png", 8, fit), err_msg=fit
        )
        digests.add(images.digest)
    assert len(digests) == len(FITS), "the prefix cache tells them apart too"
    assert len(list((tmp_path / "store").glob("decoded-*"))) == len(FITS)


def test_damaged_pixels_are_decoded_anew_by_the_same_fit(tmp_path):
    Image.fromarray(noise(30, 12)).save(tmp_path / "a.png")
    store = Store(tmp_path / "store")
    decoded = DecodedImages(store, 8, KnownFiles(tmp_path / "store"), fit="crop")
    found = decoded.find([Example(tmp_path / "a.png", "a", "a.png")], "decode")
    (shard,) = (tmp_path / "store").glob("decoded-*")
    (shard / "pixels.bin").write_bytes(bytes(8 * 8 * 3))
    np.testing.assert_array_equal(found.pixels[0], decode_image(tmp_path / "a.png", 8, "crop"))


@pytest.mark.parametrize("fit", FITS)
def test_a_run_of_a_recipe_decodes_as_its_option_says(tmp_path, fit):
    config = Config("digits", tmp_path / "run", image_size=64, image_fit=fit)
    config.check()
    backbone = ImageBackbone.chosen(config)
    codec = backbone.codec(None, config)
    assert codec.fit == codec.decoded.fit == fit
    assert decoding.decoded_beside(config, 64).fit == fit
    described = codec.describe()
    assert described["fit"] == codec.facts["decode"]["fit"] == fit
    assert ImageCodec.described(described).fit == fit


def test_fits_are_told_apart_in_words():
    words = [describe_decoding(fit)["resize"] for fit in FITS]
    assert len(set(words)) == len(FITS)
    assert describe_decoding()["resize"] == "stretch to a square", "as it always was"


OUTPUTS = {"p": (2,)}


def test_what_says_nothing_is_stretched():
    old = {"modality": "image", "resize": "stretch to a square", "image_size": 8}
    assert read_preprocessing(json.dumps(old), "m.onnx", OUTPUTS)["fit"] == "stretch"
    assert ImageCodec.described(old).fit == "stretch"


@pytest.mark.parametrize("fit", ["croop", None, 7, ["crop"]])
def test_an_unknown_fit_of_a_file_is_refused(fit):
    text = json.dumps({"fit": fit})
    with pytest.raises(ArtifactError, match="expected 'fit' to be one of stretch, crop, pad"):
        read_preprocessing(text, "m.onnx", OUTPUTS)


def test_a_misspelt_fit_from_python_is_one_line(tmp_path):
    told = "no fit is called 'croop'. Did you mean 'crop'?"
    with pytest.raises(UnknownName, match=told):
        Config("digits", tmp_path / "run", image_fit="croop").check()
    asked = evaluate.Options(tmp_path / "a.keras", "digits", labels="a,b", fit="croop")
    with pytest.raises(UnknownName, match=told):
        own_model.meaning_of(asked.artifact, asked)
    with pytest.raises(UnknownName, match=told):
        evaluate.evaluate(evaluate.Options(tmp_path / "a.keras", "digits", fit="croop"))


def test_the_option_has_the_name_of_the_command_line_in_python_too():
    assert recipe_options(Config, "image-classification", {"fit": "pad"}) == {"image_fit": "pad"}
    assert recipe_options(Config, "x", {"image_fit": "pad"}) == {"image_fit": "pad"}
    settings = FitSettings(batch_size=8)
    assert recipe_options(Config, "x", {"fit": settings}) == {"fit": settings}
    both = recipe_options(Config, "x", {"fit": "crop", "batch_size": 8})
    assert (both["image_fit"], both["fit"].batch_size) == ("crop", 8)


def test_animations_and_grey_images_are_fitted_too():
    buffer = io.BytesIO()
    frames = [Image.fromarray(noise(20, 10)).convert("P") for _ in range(2)]
    frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:])
    assert (decode_image(buffer.getvalue(), 8, "pad")[:2] == GREY).all()
    grey = np.full((10, 20), 200, np.uint8)
    assert (decode_image(grey, 8, "crop") == 200).all()
