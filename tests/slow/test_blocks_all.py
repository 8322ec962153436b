"""The rules for blocks, on every row of the catalogue: cuts exact, each weight in one block,
freezing exact.

The golden table pins the number of blocks, because schedules count them.
"""

import numpy as np
import pytest

from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import BACKBONES
from graft.zoo.graph.blocks import find_blocks, freeze_blocks
from graft.zoo.graph.cuts import split_at
from graft.zoo.graph.nodes import flatten

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forget_the_last_model")]

BLOCKS = {
    "convnext_base": 36,
    "convnext_large": 36,
    "convnext_small": 36,
    "convnext_tiny": 18,
    "convnext_xlarge": 36,
    "densenet121": 58,
    "densenet169": 82,
    "densenet201": 98,
    "efficientnet_b0": 10,
    "efficientnet_b1": 17,
    "efficientnet_b2": 17,
    "efficientnet_b3": 20,
    "efficientnet_b4": 26,
    "efficientnet_b5": 33,
    "efficientnet_b6": 39,
    "efficientnet_b7": 49,
    "efficientnet_v2_b0": 16,
    "efficientnet_v2_b1": 22,
    "efficientnet_v2_b2": 23,
    "efficientnet_v2_b3": 27,
    "efficientnet_v2_l": 74,
    "efficientnet_v2_m": 52,
    "efficientnet_v2_s": 36,
    "inception_resnet_v2": 44,
    "inception_v3": 11,
    "mobilenet": 27,
    "mobilenet_0.25": 27,
    "mobilenet_0.5": 27,
    "mobilenet_0.75": 27,
    "mobilenet_v2": 11,
    "mobilenet_v2_0.35": 11,
    "mobilenet_v2_0.5": 11,
    "mobilenet_v2_0.75": 11,
    "mobilenet_v2_1.3": 11,
    "mobilenet_v2_1.4": 11,
    "mobilenet_v3_large": 11,
    "mobilenet_v3_large_0.75": 11,
    "mobilenet_v3_large_minimalistic": 11,
    "mobilenet_v3_small": 7,
    "mobilenet_v3_small_0.75": 7,
    "mobilenet_v3_small_minimalistic": 7,
    "nasnet_large": 22,
    "nasnet_mobile": 16,
    "resnet101": 33,
    "resnet152": 50,
    "resnet50": 16,
    "resnet101_v2": 33,
    "resnet152_v2": 50,
    "resnet50_v2": 16,
    "vgg16": 13,
    "vgg19": 16,
    "xception": 13,
}


@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)
def test_blocks(row):
    size = max(row.min_image_size, 64)
    model = flatten(build_backbone(row, image_size=size, weights="none"))
    blocks = find_blocks(model)
    assert row.name in BLOCKS, f"add '{row.name}': {len(blocks)} to BLOCKS"
    assert len(blocks) == BLOCKS[row.name]

    ids = [id(v) for block in blocks for v in block.weights]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(v) for v in model.weights}

    pixels = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    whole = model(pixels, training=False).numpy()
    for index in sorted({0, len(blocks) // 2, len(blocks) - 2}):
        prefix, suffix = split_at(model, blocks[index].cut)
        through = suffix(prefix(pixels, training=False), training=False).numpy()
        np.testing.assert_allclose(through, whole, atol=1e-5 * max(1.0, np.abs(whole).max()))

    for trained in (len(blocks), 0, len(blocks) // 2, 1):
        freeze_blocks(model, blocks, trained, "train")
        thawed = [layer for block in blocks[len(blocks) - trained :] for layer in block.layers]
        meant = {id(v) for layer in thawed for v in layer.trainable_variables}
        assert {id(v) for v in model.trainable_weights} == meant
        assert bool(meant) == bool(trained)
