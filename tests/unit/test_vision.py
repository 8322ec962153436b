"""Pictures of every size and mode become the same kind of pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DataError
from zoo.vision import decode


@pytest.fixture
def scene() -> Image.Image:
    """48 x 32, red above blue."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :, 0] = pixels[16:, :, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "tif"), ("P", "gif")]
)
def test_modes_give_the_same_colours(scene, tmp_path, mode, suffix):
    path = tmp_path / f"scene.{suffix}"
    scene.convert(mode).save(path)
    pixels = decode(path, 16)
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
    pixels = decode(tmp_path / "grey.png", 20)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, 0] == 255
    if mode == "I;16":
        np.testing.assert_allclose(pixels[0, :, 0], 255 * ramp[0], atol=1.5)


def test_what_wide_pixels_mean_does_not_depend_on_the_picture(tmp_path):
    dark = Image.fromarray(np.full((8, 8), 255, np.uint16))
    dark.save(tmp_path / "dark.png")
    assert decode(tmp_path / "dark.png", 8).max() <= 1, "255 of 65535"
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "half.tif")
    assert abs(int(decode(tmp_path / "half.tif", 8).max()) - 127) <= 1


def test_exif_orientation_is_applied(scene, tmp_path):
    exif = scene.getexif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    scene.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels = decode(tmp_path / "turned.jpg", 16)
    assert pixels[8, 13, 0] > 200
    assert pixels[8, 2, 2] > 200


def test_transparency_is_laid_over_white(tmp_path):
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(decode(tmp_path / "clear.png", 8), 255)


def test_files_bytes_arrays_and_images_agree(scene, tmp_path):
    scene.save(tmp_path / "scene.png")
    expected = decode(tmp_path / "scene.png", 24)
    buffer = io.BytesIO()
    scene.save(buffer, "png")
    for source in (str(tmp_path / "scene.png"), buffer.getvalue(), np.asarray(scene), scene):
        np.testing.assert_array_equal(decode(source, 24), expected)


def test_the_right_size_is_left_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(decode(pixels, 16), pixels)
    grey = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    np.testing.assert_array_equal(decode(grey, 16), np.repeat(grey, 3, -1))


def test_a_large_jpeg_keeps_its_content(scene, tmp_path):
    large = scene.resize((2400, 1600))
    large.save(tmp_path / "large.jpg", quality=95)
    np.testing.assert_allclose(decode(tmp_path / "large.jpg", 32), decode(large, 32), atol=8)


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "empty"), (b"not a picture at all", "no known image format"), ("cut", "truncated"), (None, "no such file")],
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
        decode(path, 16)
    assert "broken.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(DataError, match="it is a folder"):
        decode(tmp_path, 16)
