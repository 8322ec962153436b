"""The engine as a whole: cached, resumed, or behind other seeds, a training is the same
training.
"""

import dataclasses

import keras
import numpy as np
import pytest

from graft.recipes.feed.passes import Pass
from graft.recipes.train import phase
from graft.recipes.train.fit import predict, train
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.files.store import Store
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads.heads import single_label
from tests.tiny import FAMILIES, HEAD, builder, killed_after, normalization, pictures, plan_of
from tests.unit import test_resume
from tests.unit.test_resume import run

PHASES = (Phase("head", "head", 2, 0.05), Phase("one", 1, 1, 0.05), Phase("two", 2, 1, 0.05))


@pytest.fixture(scope="module")
def data():
    return {"train": pictures(40), "validation": pictures(12, 1)}


@pytest.fixture
def sgd(monkeypatch):
    """Adam divides by the size of the gradient, so that a rounding error of a gradient near zero is
    a whole step.
    """
    monkeypatch.setattr(
        phase, "make_optimizer", lambda variables, rate, *_, **__: keras.optimizers.SGD(rate.peak)
    )


@pytest.mark.parametrize("block", FAMILIES)
def test_cached_training_is_the_same_training(block, data, tmp_path, sgd):
    build, phases = builder(block), (PHASES[0], PHASES[2])
    plain = FitSettings(batch_size=8, cache="off")
    model, (expected,) = train(plan_of(build, HEAD, phases, [3], plain), data)
    (wanted,) = predict(model, data["validation"])
    for options, losses, outputs in (
        ({"cache_dtype": "float16", "cache": "memory"}, 1e-3, 1e-2),
        ({"cache_dtype": "float32", "cache": "disk"}, 1e-5, 1e-5),
    ):
        settings = FitSettings(batch_size=8, **options)
        plan = plan_of(build, HEAD, phases, [3], settings)
        model, (got,) = train(plan, data, store=Store(tmp_path))
        assert [phase["cached"] for phase in got.phases] == [True, True]
        assert [phase["cached"] for phase in expected.phases] == [False, False]
        for name in ("loss", "val_loss"):
            np.testing.assert_allclose(
                [row[name] for row in got.history],
                [row[name] for row in expected.history],
                rtol=losses,
            )
        np.testing.assert_allclose(predict(model, data["validation"])[0], wanted, atol=outputs)


def test_one_pass_fills_all_cuts_and_other_seeds_and_runs_find_them(data, tmp_path, monkeypatch):
    passes = []
    run_pass = Pass.run
    monkeypatch.setattr(
        Pass, "run", lambda self: (passes.append((self.name, len(self.cuts))), run_pass(self))
    )
    build, settings = builder(normalization), FitSettings(batch_size=8, cache="memory")
    train(plan_of(build, HEAD, PHASES, [0, 1], settings), data, store=Store(tmp_path))
    assert passes == [("train", 3), ("validation", 3)]
    other = single_label(["left", "right", "top"], dropout=0.0)
    with_other = lambda: stack(backbone_of(build()), [other])  # noqa: E731
    plan = plan_of(with_other, other, PHASES[:1], [9], settings)
    train(plan, data, store=Store(tmp_path))
    assert len(passes) == 2


@pytest.fixture(scope="module")
def straight(data):
    return run(data, None)[1]


@pytest.mark.parametrize("saves", [1, 2, 5, 7, 9])
def test_resumed_is_uninterrupted(saves, data, straight, tmp_path):
    """Two phases of two epochs and the end of each, and of the seed: 7 checkpoints a seed."""
    with killed_after(saves):
        run(data, tmp_path)
    model, results = run(data, tmp_path)
    for got, expected in zip(results, straight, strict=True):
        for a, b in zip(got.weights, expected.weights, strict=True):
            np.testing.assert_array_equal(a, b)
        assert [row["epoch"] for row in got.history] == [1, 2, 3, 4]
        for a, b in zip(got.history, expected.history, strict=True):
            times = ("seconds", "elapsed")
            assert {k: v for k, v in a.items() if k not in times} == {
                k: v for k, v in b.items() if k not in times
            }
        assert [p["best_epoch"] for p in got.phases] == [p["best_epoch"] for p in expected.phases]
    for a, b in zip(model.get_weights(), straight[-1].weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_resumed_on_cached_features(data, tmp_path):
    options = {
        "settings": FitSettings(batch_size=8, augment=("flip",), views=2, cache="memory"),
        "seeds": [3],
    }
    _, (expected,) = run(data, None, store=Store(tmp_path / "a"), **options)
    with killed_after(1):
        run(data, tmp_path / "run", store=Store(tmp_path / "b"), **options)
    _, (got,) = run(data, tmp_path / "run", store=Store(tmp_path / "b"), **options)
    assert got.phases[0]["cached"]
    for a, b in zip(got.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_seed_gives_one_result_alone_or_after_others(data):
    build, settings = builder(normalization), FitSettings(batch_size=8, augment=("crop", "color"))
    plan = plan_of(build, HEAD, test_resume.PHASES, [5], settings)
    _, (alone,) = train(plan, data)
    _, (other, after) = train(dataclasses.replace(plan, seeds=[4, 5]), data)
    for first, second in zip(alone.weights, after.weights, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    assert any(
        not np.allclose(a, b, atol=1e-3) for a, b in zip(other.weights, after.weights, strict=True)
    )
