"""Pictures of every size and mode become the same kind of pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from graft.zoo import image_modes, vision
from graft.zoo.errors import DataError
from graft.zoo.vision import decode_image


@pytest.fixture
def scene() -> Image.Image:
    """48 x 32, red above blue."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :, 0] = pixels[16:, :, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "tif"), ("P", "gif")],
)
def test_modes_give_the_same_colours(scene, tmp_path, mode, suffix):
    path = tmp_path / f"scene.{suffix}"
    scene.convert(mode).save(path)
    pixels = decode_image(path, 16)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[2, 8], [255, 0, 0], atol=12)
    np.testing.assert_allclose(pixels[13, 8], [0, 0, 255], atol=12)


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_grey_pictures_have_three_equal_channels(tmp_path, mode):
    ramp = np.tile(np.linspace(0, 1, 20), (20, 1))
    image = {
        "L": lambda: Image.fromarray(np.uint8(255 * ramp)),
        "1": lambda: Image.fromarray(np.uint8(255 * (ramp > 0.5))).convert("1"),
        "I;16": lambda: Image.fromarray(np.uint16(65535 * ramp)),
    }[mode]()
    image.save(tmp_path / "grey.png")
    pixels = decode_image(tmp_path / "grey.png", 20)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, 0] == 255
    if mode == "I;16":
        np.testing.assert_allclose(pixels[0, :, 0], 255 * ramp[0], atol=1.5)


def test_what_wide_pixels_mean_does_not_depend_on_the_picture(tmp_path):
    dark = Image.fromarray(np.full((8, 8), 255, np.uint16))
    dark.save(tmp_path / "dark.png")
    assert decode_image(tmp_path / "dark.png", 8).max() <= 1, "255 of 65535"
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "half.tif")
    assert abs(int(decode_image(tmp_path / "half.tif", 8).max()) - 127) <= 1


def test_exif_orientation_is_applied(scene, tmp_path):
    exif = scene.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    scene.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels = decode_image(tmp_path / "turned.jpg", 16)
    assert pixels[8, 13, 0] > 200
    assert pixels[8, 2, 2] > 200


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "clear.png", 8), 255)


def test_files_bytes_arrays_and_images_agree(scene, tmp_path):
    scene.save(tmp_path / "scene.png")
    expected = decode_image(tmp_path / "scene.png", 24)
    buffer = io.BytesIO()
    scene.save(buffer, "png")
    for source in (str(tmp_path / "scene.png"), buffer.getvalue(), np.asarray(scene), scene):
        np.testing.assert_array_equal(decode_image(source, 24), expected)


def test_the_right_size_is_left_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(pixels, 16), pixels)
    grey = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    np.testing.assert_array_equal(decode_image(grey, 16), np.repeat(grey, 3, -1))


def test_a_large_jpeg_keeps_its_content(scene, tmp_path):
    large = scene.resize((2400, 1600))
    large.save(tmp_path / "large.jpg", quality=95)
    np.testing.assert_allclose(
        decode_image(tmp_path / "large.jpg", 32), decode_image(large, 32), atol=8
    )


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"not a picture at all", "no known image format"),
        ("cut", "truncated"),
        (None, "no such file"),
    ],
)
def test_unreadable_files_are_named_with_their_cause(scene, tmp_path, content, cause):
    path = tmp_path / "broken.jpg"
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:900])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=cause) as caught:
        decode_image(path, 16)
    assert "broken.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_what_counts_is_what_decoding_takes(tmp_path):
    """A JPEG of 200 megapixels is decoded at 1/8; what a header of a few bytes claims is not
    allocated.
    """
    Image.new("L", (16320, 12240), 99).save(tmp_path / "p200.jpg")
    assert decode_image(tmp_path / "p200.jpg", 32).tolist() == np.full((32, 32, 3), 99).tolist()
    too_large = {
        "line.ppm": b"P6 99999999 1 255\n",
        "huge.ppm": b"P6 40000 40000 255\n",
        "tall.ppm": b"P5 1 70000 255\n" + bytes(70000),
        "large.ppm": b"P6 13000 13000 255\n",
    }
    for name, content in too_large.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            DataError, match=rf"{name}' is too large to be decoded: .*make it smaller"
        ):
            decode_image(tmp_path / name, 32)


def test_passes_over_a_jpeg_are_paid_for(tmp_path, monkeypatch):
    """A progressive one is held as a whole, and so is one whose colours come one after the
    other.
    """
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).resize((1600, 1200))
    costs = {}
    kinds = {
        "plain": {},
        "whole": {"progressive": True},
        "full": {"progressive": True, "subsampling": 0},
    }
    for name, options in kinds.items():
        photo.save(tmp_path / f"{name}.jpg", **options)
        monkeypatch.setattr(vision, "MAX_DECODING_BYTES", 0)
        with pytest.raises(DataError, match="too large"):
            decode_image(tmp_path / f"{name}.jpg", 16)
        image = vision._opened(tmp_path / f"{name}.jpg")
        image.draft("RGB", (32, 32))
        costs[name] = vision._decoding_bytes(image, (1600, 1200))
    assert costs["whole"] - costs["plain"] == 2.5 * 1600 * 1200
    assert costs["full"] - costs["plain"] == 5.5 * 1600 * 1200
    grey_first = bytes([0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0])  # a pass of one colour
    content = (tmp_path / "plain.jpg").read_bytes()
    start = content.index(b"\xff\xda")
    image = vision._opened(content[:start] + grey_first + content[start + 14 :])
    image.draft("RGB", (32, 32))
    assert vision._decoding_bytes(image, (1600, 1200)) - costs["plain"] == 2.5 * 1600 * 1200


def test_a_picture_that_is_open_already_costs_nothing_more(scene, tmp_path):
    scene.save(tmp_path / "x.jpg")
    image = Image.open(tmp_path / "x.jpg")
    image.load()
    assert decode_image(image, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1.5, 300.0, 1e9, 3.4e38, -9999.0])
def test_one_pixel_does_not_say_what_white_is(tmp_path, odd):
    ramp = np.float32(np.tile(np.linspace(0, 1, 24), (24, 1)))
    Image.fromarray(ramp).save(tmp_path / "ramp.tif")
    expected = decode_image(tmp_path / "ramp.tif", 24)
    ramp[5, 5] = odd
    Image.fromarray(ramp).save(tmp_path / "odd.tif")
    found = decode_image(tmp_path / "odd.tif", 24)
    assert (found != expected).any(-1).sum() <= 1
    assert found[5, 5, 0] == (255 if odd > 0 else 0)


def test_floats_and_wide_integers_keep_their_range(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 24), (24, 1))
    for name, pixels in (
        ("unit", np.float32(ramp)),
        ("bytes", np.float32(255 * ramp)),
        ("wide", np.float32(65535 * ramp)),
        ("integers", np.int32(255 * ramp)),
        ("wide integers", np.int32(65535 * ramp)),
    ):
        hot = pixels.copy()
        hot[0, 0] = 70000
        for image in (pixels, hot):
            Image.fromarray(image).save(tmp_path / "x.tif")
            np.testing.assert_allclose(
                decode_image(tmp_path / "x.tif", 24)[1, :, 0], 255 * ramp[0], atol=1.5, err_msg=name
            )
    holes = np.float32(ramp)
    holes[:12] = np.nan
    Image.fromarray(holes).save(tmp_path / "holes.tif")
    assert decode_image(tmp_path / "holes.tif", 24)[12:].max() == 255
    assert decode_image(tmp_path / "holes.tif", 24)[:12].max() == 0
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nothing.tif")
    assert decode_image(tmp_path / "nothing.tif", 8).max() == 0


def test_strips_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    clear = Image.fromarray(rng.integers(0, 256, (40, 30, 4), np.uint8))
    wide = Image.fromarray(np.float32(rng.random((40, 30))))
    expected = [decode_image(image, 16) for image in (clear, wide)]
    monkeypatch.setattr(image_modes, "STRIP_PIXELS", 70)
    for image, whole in zip((clear, wide), expected, strict=True):
        np.testing.assert_allclose(decode_image(image, 16), whole, atol=1)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"]
)
def test_a_program_is_no_picture(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DataError, match="EPS files are programs"):
        decode_image(tmp_path / "x.jpg", 16)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="it is a folder"):
        decode_image(tmp_path, 16)
