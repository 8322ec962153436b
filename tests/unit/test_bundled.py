"""What ships inside: the rendered characters, the digits, the bundled backbone and its card."""

import hashlib
import re

import numpy as np
import pytest

from graft.recipes.data.builtin import digits, glyphs
from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import find_backbone
from graft.zoo.backbones.weights import BUNDLED_FOLDER

NAME = "mobilenet_v2_0.35"
CHECKPOINT = BUNDLED_FOLDER / f"{NAME}.weights.h5"


def test_glyphs_repeat_by_seed_and_cover_all_classes():
    pictures, labels = glyphs.render(2 * len(glyphs.CLASSES), 3, 32)
    again, same = glyphs.render(2 * len(glyphs.CLASSES), 3, 32)
    other, _ = glyphs.render(2 * len(glyphs.CLASSES), 4, 32)
    np.testing.assert_array_equal(pictures, again)
    np.testing.assert_array_equal(labels, same)
    assert not np.array_equal(pictures, other)
    assert pictures.shape == (2 * len(glyphs.CLASSES), 32, 32, 3)
    assert pictures.dtype == np.uint8
    assert np.bincount(labels).tolist() == [2] * len(glyphs.CLASSES)
    assert min(picture.std() for picture in pictures) > 4, "ink shows on every picture"


def test_glyph_fonts_exist_and_hold_every_class():
    from pathlib import Path

    import matplotlib
    from fontTools.ttLib import TTFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert not set(glyphs.FONTS) & set(glyphs.HELD_OUT_FONTS)
    for name in glyphs.FONTS + glyphs.HELD_OUT_FONTS:
        assert set(map(ord, glyphs.CLASSES)) <= set(TTFont(folder / f"{name}.ttf").getBestCmap())


def test_some_classes_and_some_fonts_only():
    pictures, labels = glyphs.render(20, 0, 16, classes="0123456789", fonts=["cmr10"])
    assert sorted(labels) == sorted(list(range(10)) * 2)
    assert len(pictures) == 20


def test_digits_are_bright_ink_on_black():
    pairs = digits.load()
    assert len(pairs) == 1797
    pixels, label = pairs[0]
    assert (pixels.shape, pixels.dtype, label) == ((32, 32, 3), np.uint8, "0")
    assert (
        np.median([p[[0, -1], :].mean() for p, _ in pairs]) < 120 < max(p.max() for p, _ in pairs)
    )


@pytest.fixture(scope="module")
def bundled():
    return build_backbone(find_backbone(NAME), image_size=64, weights="bundled")


def test_the_checkpoint_gives_its_golden_features(bundled):
    with np.load(BUNDLED_FOLDER / f"{NAME}.golden.npz") as golden:
        features = bundled(np.float32(golden["inputs"])).numpy().mean((1, 2))
        assert golden["features"].std() > 0.1
        np.testing.assert_allclose(
            features, golden["features"], rtol=1e-4, atol=1e-4 * golden["features"].max()
        )


def test_the_checkpoint_is_small_and_its_card_is_about_it():
    assert CHECKPOINT.stat().st_size <= 2_000_000
    card = (BUNDLED_FOLDER / f"{NAME}.md").read_text()
    assert hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest() in card
    for part in ("graft train pretrain-glyphs", "seconds", "Limits", "Apache-2.0", "new fonts"):
        assert part in card
    assert re.search(r"accuracy", card)


def test_the_checkpoint_loads_the_plain_keras_way():
    import keras

    plain = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=str(CHECKPOINT), input_shape=(64, 64, 3)
    )
    ours = build_backbone(find_backbone(NAME), image_size=64, weights="bundled")
    for a, b in zip(plain.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_its_features_beat_random_ones_on_digits(bundled):
    """Nearest neighbour on frozen features, 20 examples a class: what transfer rests on, without
    any training.
    """
    from sklearn.neighbors import KNeighborsClassifier

    from graft.zoo.vision import decode_image

    pairs = digits.load()[:800]
    pixels = np.float32([decode_image(image, 64) for image, _ in pairs])
    labels = np.array([label for _, label in pairs])
    train = np.concatenate([np.flatnonzero(labels == label)[:20] for label in "0123456789"])
    test = np.setdiff1d(np.arange(len(labels)), train)

    def accuracy(backbone):
        features = np.concatenate(
            [backbone(pixels[i : i + 100]).numpy().mean((1, 2)) for i in range(0, 800, 100)]
        )
        return (
            KNeighborsClassifier(1)
            .fit(features[train], labels[train])
            .score(features[test], labels[test])
        )

    assert (
        accuracy(bundled)
        > accuracy(build_backbone(find_backbone(NAME), image_size=64, weights="none")) + 0.1
    )
