"""Random changes to images: drawn for each image, by (seed, step) alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from graft.recipes.codecs.augmentation import augmenter
from graft.recipes.codecs.rand_augment import RandAugment, equalize

RNG = np.random.default_rng(0)


def changed(name, pixels, steps, targets=None):
    """Batches of (pixels, targets) after the augmentation `name`, one for each of `steps`."""
    targets = np.eye(len(pixels), dtype="float32") if targets is None else targets
    apply = augmenter((name,), 0)
    numbers = tf.data.Dataset.from_tensor_slices(np.int32(steps))
    batches = numbers.map(lambda step: apply(step, pixels, {"label": targets}))
    return [(a.numpy(), b["label"].numpy()) for a, b in batches]


def different(images):
    """How many different ones there are among `images`, `(b, h, w, 3)`."""
    return len(np.unique(np.round(images.reshape(len(images), -1)), axis=0))


# How many of 16 copies of one image differ, at least; a flip or a loss of colour has two outcomes.
LEAST = {"flip": 2, "crop": 16, "zoom": 16, "color": 16, "grayscale": 2, "randaugment": 6}


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_copies_of_an_image_in_a_batch_come_out_different(name, least):
    copies = np.float32(RNG.uniform(0, 255, (1, 16, 16, 3))).repeat(16, 0)
    counts = [different(pixels) for pixels, _ in changed(name, copies, range(12))]
    # All sixteen flipped, or none grey, happens in one batch in 30.
    assert np.median(counts) >= least
    assert np.mean(np.array(counts) >= least) >= 0.75, counts


def test_randaugment_draws_the_operations_for_each_image():
    """Moving an image of one colour changes nothing, an operation on colours does: a batch has
    both.
    """
    flat = np.full((64, 16, 16, 3), (120, 60, 200), np.float32)
    for pixels, _ in changed("randaugment", flat, range(8)):
        share = np.mean(np.abs(pixels - flat).max((1, 2, 3)) < 1)
        assert 0.05 < share < 0.7


def test_what_randaugment_makes_of_an_image_is_its_own_affair():
    """The other images of the batch change nothing: not through a histogram of all of them, for
    example.
    """
    some = np.float32(RNG.uniform(60, 200, (12, 16, 16, 3)))
    others = np.concatenate([some[:1], np.float32(RNG.uniform(0, 90, (11, 16, 16, 3)))])
    beside_some, beside_others = (
        changed("randaugment", images, range(30)) for images in (some, others)
    )
    for (a, _), (b, _) in zip(beside_some, beside_others, strict=True):
        np.testing.assert_allclose(a[0], b[0], atol=1e-3)


def test_equalizing_is_that_of_keras_for_a_single_image():
    images = np.float32(RNG.integers(40, 190, (5, 12, 10, 3)))
    images[1] = 77.0
    reference = keras.layers.Equalization((0, 255))
    for image, spread in zip(images, equalize(images).numpy(), strict=True):
        np.testing.assert_allclose(spread, reference(image[None])[0], atol=1)
    assert equalize(images[:0]).shape == (0, 12, 10, 3)
    assert equalize(images[:1]).numpy().min() == 0
    assert equalize(images[:1]).numpy().max() == 255


@pytest.mark.parametrize("count", [1, 2, 33])
def test_randaugment_keeps_shape_and_range(count):
    images = np.float32(RNG.uniform(0, 255, (count, 9, 12, 3)))
    layer = RandAugment((0, 255), num_ops=2, factor=0.4, seed=1)
    for batch in tf.data.Dataset.range(4).map(lambda _: layer(images, training=True)):
        assert batch.shape == images.shape
        assert np.isfinite(batch).all()
        assert np.min(batch) >= -1e-3
        assert np.max(batch) <= 255 + 1e-3


@pytest.mark.parametrize("name", ["randaugment", "cutmix"])
def test_a_step_gives_the_same_whatever_came_before_it(name):
    images = np.float32(RNG.uniform(0, 255, (8, 16, 16, 3)))
    whole, resumed = changed(name, images, range(6)), changed(name, images, (4, 5))
    for (a, b), (c, d) in zip(whole[4:], resumed, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    assert np.abs(whole[4][0] - whole[5][0]).max() > 1


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_images_are_mixed_in_proportions_of_their_own(name):
    images = np.float32(RNG.uniform(0, 255, (16, 32, 32, 3)))
    for _, targets in changed(name, images, range(5)):
        assert len(np.unique(np.round(np.diag(targets), 3))) > 5


def test_cutmix_draws_from_the_distribution_of_its_paper():
    """Uniform in every batch (Yun et al. 2019). Of a range of exponents Keras draws one a batch: in
    many, all weights are near 0 or 1.
    """
    images = np.float32(RNG.uniform(0, 255, (32, 32, 32, 3)))
    kept = np.array([np.diag(targets) for _, targets in changed("cutmix", images, range(30))])
    assert np.mean((kept < 0.05) | (kept > 0.95), -1).max() < 0.5
