"""The built-in scenes: what is said of them is what is painted."""

import numpy as np
import pytest

from graft.recipes.data.builtin import shapes as module
from graft.recipes.data.builtin.shapes import LABELS, shapes


@pytest.fixture(scope="module")
def scenes():
    return shapes(60, seed=5)


def test_boxes_and_masks_are_of_what_is_seen(scenes):
    for scene in scenes:
        height, width, _ = scene.image.shape
        assert scene.mask.shape == scene.instances.shape == (height, width)
        assert (scene.image.dtype, scene.mask.dtype, scene.boxes.dtype) == ("u1", "u1", "f4")
        assert 96 <= min(height, width) <= max(height, width) <= 160
        assert scene.boxes.shape == (len(scene.labels), 4)
        assert 1 <= len(scene.labels) <= 6
        assert scene.instances.max() == len(scene.labels)
        for number, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True), 1):
            seen = scene.instances == number
            assert (scene.mask[seen] == label + 1).all()
            x0, y0, x1, y1 = box.astype(int)
            inside = seen[y0:y1, x0:x1]
            assert inside.sum() == seen.sum()
            # Not a pixel too large.
            assert all(edge.any() for edge in (*inside[[0, -1]], *inside[:, [0, -1]].T))
        assert ((scene.mask == 0) == (scene.instances == 0)).all()


def test_scenes_differ_and_have_every_label(scenes):
    assert set(np.concatenate([scene.labels for scene in scenes])) == set(range(len(LABELS)))
    assert {len(scene.labels) for scene in scenes} == set(range(1, 7))
    assert len({scene.image.shape for scene in scenes}) > 50


def test_objects_differ_from_what_is_around_them(scenes):
    """The mean colour of an object from that of the ground beside it, as texture and noise are."""
    distances = []
    for scene in scenes:
        for number, (x0, y0, x1, y1) in enumerate(scene.boxes.astype(int), 1):
            around = (slice(max(y0 - 3, 0), y1 + 3), slice(max(x0 - 3, 0), x1 + 3))
            pixels, places = scene.image[around].astype(float), scene.instances[around]
            if (places == 0).any():
                own, ground = pixels[places == number].mean(0), pixels[places == 0].mean(0)
                distances.append(np.linalg.norm(own - ground))
    assert np.quantile(distances, 0.01) > 50


def test_a_seed_says_all_and_a_longer_list_begins_the_same(scenes):
    again, other = shapes(3, seed=5), shapes(3, seed=6)
    for scene, one, two in zip(scenes[:3], again, other, strict=True):
        assert all((a == b).all() for a, b in zip(scene, one, strict=True))
        assert scene.image.shape != two.image.shape


def test_what_is_mostly_hidden_is_not_there():
    hidden = []
    for seed in range(60):
        placed = module._placed((96, 96), np.random.default_rng(seed))
        above = np.zeros((96, 96), bool)
        for _, window, cover in reversed(placed):
            own = cover > 0.5
            hidden.append((own & above[window]).sum() / own.sum())
            above[window] |= own
    assert max(hidden) <= 0.6
    assert np.mean(np.array(hidden) > 0.1) > 0.1  # and yet objects cover each other


def test_built_in_splits(monkeypatch):
    monkeypatch.setattr(module, "SPLITS", {"train": 3, "validation": 2, "test": 2})
    splits = module.load()
    assert {name: len(scenes) for name, scenes in splits.items()} == module.SPLITS
    images = {scene.image.tobytes() for scenes in splits.values() for scene in scenes}
    assert len(images) == 7
