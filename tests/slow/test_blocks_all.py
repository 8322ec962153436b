"""The rules for blocks, on every row of the catalogue: cuts exact, each weight in one block, freezing exact.

The golden table pins the number of blocks, because schedules count them.
"""

import keras
import numpy as np
import pytest

from zoo.backbones import BACKBONES, build
from zoo.blocks import find_blocks, flatten, freeze, split

pytestmark = pytest.mark.slow

BLOCKS = {}  # filled by the measurement below


@pytest.fixture(autouse=True)
def forget_the_last_model():
    yield
    keras.backend.clear_session()


@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)
def test_blocks(row):
    size = max(row.min_image_size, 64)
    model = flatten(build(row, image_size=size, weights="none"))
    blocks = find_blocks(model)
    assert len(blocks) == BLOCKS[row.name]

    ids = [id(v) for block in blocks for v in block.weights]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(v) for v in model.weights}

    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    whole = model(pixels, training=False).numpy()
    for index in sorted({0, len(blocks) // 2, len(blocks) - 2}):
        prefix, suffix = split(model, blocks[index].cut)
        through = suffix(prefix(pixels, training=False), training=False).numpy()
        np.testing.assert_allclose(through, whole, atol=1e-5 * max(1.0, np.abs(whole).max()))

    for trained in (len(blocks), 0, len(blocks) // 2, 1):
        freeze(model, blocks, trained, "train")
        thawed = [layer for block in blocks[len(blocks) - trained :] for layer in block.layers]
        meant = {id(v) for layer in thawed for v in layer.trainable_variables}
        assert {id(v) for v in model.trainable_weights} == meant
        assert bool(meant) == bool(trained)
