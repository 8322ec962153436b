"""Views are computed one an epoch, as they are needed, and change nothing but when that happens."""

import json

import numpy as np
import pytest

from graft.recipes.feed import passes as passes_module
from graft.recipes.feed.features import Features
from graft.recipes.train.fit import train
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.files.rows import Rows
from graft.zoo.files.store import Store
from tests.tiny import HEAD, Killed, builder, normalization, pictures, plan_of

HEAD_FIRST = (Phase("head", "head", 2, 0.01), Phase("top", 1, 3, 0.01))


@pytest.fixture(scope="module")
def data():
    return {"train": pictures(24), "validation": pictures(9, 1)}


def run(data, folder, phases=HEAD_FIRST, checkpoints=None, **settings):
    settings = FitSettings(batch_size=8, cache_dtype="float32", **settings)
    store = None if settings.cache == "off" else Store(folder)
    plan = plan_of(builder(normalization), HEAD, phases, [3], settings)
    _, (result,) = train(plan, data, store=store, folder=checkpoints)
    return result


def rows_kept(folder) -> list[int]:
    """Of every entry, how many rows it has."""
    return sorted(
        json.loads(path.read_text())["facts"]["tensors"][0][0]
        for path in folder.glob("*/entry.json")
    )


@pytest.mark.parametrize(("views", "taken"), [(8, [2, 5]), (3, [2, 3]), (1, [1, 1])])
def test_an_epoch_takes_one_view_and_found_ones_give_the_same_model(data, tmp_path, views, taken):
    first = run(data, tmp_path, augment=("crop",), views=views)
    assert [phase["views"] for phase in first.phases] == taken
    # Two cuts, of which the second phase needs only the lower one; the validation pictures have one
    # view.
    assert rows_kept(tmp_path) == [9] * 2 + [24] * sum(taken)
    assert first.charged == 0
    assert 0 < first.phases[0]["preparation_seconds"] < first.phases[0]["seconds"]
    again = run(data, tmp_path, augment=("crop",), views=views)
    assert again.charged > 0
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert [row["val_loss"] for row in first.history] == [row["val_loss"] for row in again.history]


def test_with_as_many_views_as_epochs_it_is_the_training_without_a_cache(data, tmp_path):
    """Without random changes each view is the picture itself: only where the values come from
    differs.
    """
    cached, plain = run(data, tmp_path), run(data, tmp_path, cache="off")
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(cached.weights, plain.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_a_phase_that_trains_less_than_the_one_before_gets_its_weights(data, tmp_path):
    """Views are computed while the first phase changes the block that the second one freezes."""
    phases = (Phase("top", 1, 2, 0.01), Phase("head", "head", 3, 0.01))
    cached = run(data, tmp_path, phases)
    plain = run(data, tmp_path, phases, cache="off")
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(cached.weights, plain.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    many = run(data, tmp_path / "views", phases, augment=("crop",), views=2)
    again = run(data, tmp_path / "views", phases, augment=("crop",), views=2)
    for a, b in zip(many.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_views_of_a_killed_training_are_there_when_it_goes_on(data, tmp_path, monkeypatch):
    options = {"augment": ("crop",), "views": 4}
    expected = run(data, tmp_path / "a", **options)
    run_pass, passes = passes_module.Pass.run, []

    def counting(self):
        if len(passes) == 4:  # validation and three views
            raise Killed
        passes.append(self.view)
        run_pass(self)

    with monkeypatch.context() as patch:
        patch.setattr(passes_module.Pass, "run", counting)
        with pytest.raises(Killed):
            run(data, tmp_path / "b", checkpoints=tmp_path / "b", **options)
    assert passes == [0, 0, 1, 2]
    assert rows_kept(tmp_path / "b") == [9] * 2 + [24] * (2 + 2 + 1)
    got = run(data, tmp_path / "b", checkpoints=tmp_path / "b", **options)
    assert got.phases[-1]["views"] == 4
    for a, b in zip(got.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_view_beyond_float16_is_read_beside_others(data, tmp_path):
    """From memory and from the disk, the views of one tensor may be kept in different types."""
    views = [
        np.arange(6, dtype="float16").reshape(3, 2),
        np.float32([[1e5, 0], [2e5, 1], [3e5, 2]]),
    ]
    for i, values in enumerate(views):
        values.tofile(tmp_path / f"{i}.bin")
    rows = tuple(Rows(tmp_path / f"{i}.bin", 3, (2,), str(v.dtype)) for i, v in enumerate(views))
    for in_memory in (True, False):
        features = Features((rows,), ("float32",), (False,), in_memory, pictures(3))
        got = features._reader()(np.int32([2, 0, 1]), np.int32([1, 0, 1]))
        np.testing.assert_array_equal(got[0], np.float32([[3e5, 2], [0, 1], [2e5, 1]]))
        _, targets = features.reader(0)(np.int32(0), np.int32([2, 0, 1]))
        np.testing.assert_array_equal(targets[HEAD.name], np.eye(3)[[2, 0, 1]])
