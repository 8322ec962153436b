"""The levels that heads can read, of every row of the catalogue, and of one of each family trained
from the cache.
"""

import numpy as np
import pytest

from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import BACKBONES
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.cuts import narrowest_cut, split_at
from graft.zoo.graph.levels import STRIDES, feature_maps
from graft.zoo.graph.stack import backbone_of, stack
from tests.unit.test_levels import spot_head

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forget_the_last_model")]

UNPADDED = ("inception_resnet_v2", "inception_v3", "xception")
"""Families with convolutions without padding: their maps are smaller than height / stride."""
SMALLEST = {row.family: row for row in sorted(BACKBONES, key=lambda row: -row.parameters)}


@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)
def test_every_backbone_has_all_levels(row):
    size = max(row.min_image_size, 128)
    maps = feature_maps(build_backbone(row, image_size=size, weights="none"))
    assert tuple(maps) == STRIDES
    for stride, tensor in maps.items():
        side = size // stride
        assert tensor.shape[1] == tensor.shape[2]
        if row.family in UNPADDED:
            assert side / 2 <= tensor.shape[1] <= side
        else:
            assert tensor.shape[1] == side


@pytest.mark.parametrize("row", SMALLEST.values(), ids=lambda row: row.name)
def test_a_model_of_two_levels_is_taken_apart_at_every_block(row):
    size = max(row.min_image_size, 64)
    model = stack(build_backbone(row, image_size=size, weights="none"), [spot_head(resize=True)])
    blocks = find_blocks(backbone_of(model))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    whole = model(pixels, training=False).numpy()
    assert len(blocks) > 2
    for index in sorted({0, len(blocks) // 2, len(blocks) - 1}):
        prefix, suffix = split_at(model, narrowest_cut(model, blocks[index].cut))
        through = suffix(prefix(pixels, training=False), training=False).numpy()
        np.testing.assert_allclose(through, whole, atol=1e-5)
