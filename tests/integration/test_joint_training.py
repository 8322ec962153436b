"""Trainings that learn from labelled and unlabelled images in the same step, or from pairs."""

import keras
import numpy as np
import pytest

from graft.recipes.adapt import afterwards, catalogue, compare, methods, pretext
from graft.recipes.codecs.images import Images
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.fit import predict, train
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings, TrainPlan
from graft.zoo.files.store import Store
from graft.zoo.graph.stack import stack
from graft.zoo.heads.heads import embedding
from tests.conftest import tiny_backbone as tiny
from tests.tiny import HEAD, builder, killed_after, normalization, plan_of, two_domains

JOINT = [name for name, row in catalogue.METHODS.items() if row.kind == "joint"]


@pytest.fixture(scope="module")
def data():
    return two_domains()


PHASES = (Phase("head", "head", 1, 0.01), Phase("top", 1, 3, 0.01))


def test_baseline_and_method_keep_the_same_epoch(data):
    """Before: the best one for the baseline, the last one for a method, whatever the recipe."""
    settings, phases = FitSettings(batch_size=8), (Phase("all", "all", 4, 0.3),)
    for keep in ("best", "last"):
        plan = compare.Plan("source_only", ["coral"], 1.0, None, keep)
        how = plan_of(builder(normalization), HEAD, phases, settings=settings)
        for found in compare.train(plan, how, data, None, None):
            losses = [row["val_loss"] for row in found.history]
            kept = found.phases[-1]["best_epoch"]
            assert kept == (4 if keep == "last" else 1 + int(np.argmin(losses))), (
                found.method,
                losses,
            )


def fitted(data, name, store=None, folder=None, phases=PHASES, seeds=(0,), **settings):
    settings = FitSettings(batch_size=8, cache_dtype="float32", **settings)
    # A label is taken that is a little surer than chance, of which there are three.
    method = catalogue.maker(name, 1.0, 0.4) if name else None
    build = builder(normalization)
    plan = plan_of(build, HEAD, phases, seeds, settings, method=method, keep="last")
    return train(plan, data, store=store, folder=folder, name="x")


@pytest.fixture(scope="module")
def without(data):
    """The training of `fitted` with no method."""
    return fitted(data, None)[1][0]


@pytest.mark.parametrize("name", JOINT)
def test_every_method_trains_with_and_without_cached_features(
    data, without, tmp_path, capsys, name
):
    model, (plain,) = fitted(data, name)
    assert not any("Joint" in type(layer).__name__ for layer in model._flatten_layers())
    assert plain.phases[-1]["best_epoch"] == 3, "the last epoch is kept"
    assert np.isfinite([row["val_loss"] for row in plain.history]).all()
    _, (cached,) = fitted(data, name, Store(tmp_path))
    strong = getattr(methods, catalogue.METHODS[name].of).strong
    assert [phase["cached"] for phase in cached.phases] == [not strong] * 2
    assert strong == ("prefix cache off: strongly" in capsys.readouterr().err)
    if name in ("coral", "mmd"):  # the others draw weights of their own
        for a, b in zip(plain.weights, cached.weights, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-4)
    assert any(
        np.abs(a - b).max() > 1e-5 for a, b in zip(plain.weights, without.weights, strict=True)
    ), "it had an effect"


def test_a_killed_adaptation_goes_on_as_if_nothing_had_happened(data, tmp_path):
    options = {"augment": ("crop",), "seeds": (3, 4)}
    _, expected = fitted(data, "dann", Store(tmp_path / "a"), **options)
    with killed_after(4):  # in the second epoch of the joint phase
        fitted(data, "dann", Store(tmp_path / "b"), tmp_path / "b", **options)
    _, got = fitted(data, "dann", Store(tmp_path / "b"), tmp_path / "b", **options)
    for a, b in zip(got, expected, strict=True):
        for x, y in zip(a.weights, b.weights, strict=True):
            np.testing.assert_array_equal(x, y)


def test_methods_train_in_mixed_precision(data):
    from graft.recipes.train import optimizer

    def build():
        with optimizer.precision(True):
            return stack(tiny(), [HEAD])

    settings = FitSettings(batch_size=8, mixed_precision=True)
    phases = (Phase("all", "all", 1, 0.01),)
    for name in ("mmd", "cdan", "pseudo_label"):
        method = catalogue.maker(name, 1.0, None)
        plan = plan_of(build, HEAD, phases, settings=settings, method=method)
        _, (result,) = train(plan, data)
        assert np.isfinite(result.history[0]["loss"])


def test_a_backbone_learns_which_versions_belong_together():
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.integers(60, 200, (104, 4, 4, 3)), np.ones((1, 4, 4, 1)))
    head = embedding(8, temperature=0.2, hidden=16)
    labels = np.eye(2, dtype="float32")[np.arange(104) % 2]
    everything = Images(np.uint8(patterns), {head.name: labels}, ("",) * 104)
    images = {
        "all": everything,
        "train": everything.stretch(slice(0, 80)),
        "validation": everything.stretch(slice(80, None)),
    }
    tasks = tasks_for(head, ["even", "odd"])
    build = lambda: stack(tiny(), [head])  # noqa: E731
    settings = FitSettings(batch_size=16, augment=("color",))
    phases = (Phase("all", "all", 10, 1e-2, batch_norm="train"),)
    keras.utils.set_random_seed(0)
    before = pretext.figures(build(), images, tasks.first, settings)
    model, (trained,) = train(TrainPlan(build, tasks, phases, [0], settings, pairs=True), images)
    after = pretext.figures(model, images, tasks.first, settings)
    losses = [row["val_loss"] for row in trained.history]
    assert losses[-1] < losses[0]
    assert after["pairs"] > before["pairs"]
    said = pretext.compared(before, after, images)
    assert f"{100 * after['pairs']:.1f} % of cases" in said["said"]
    assert "share the label" in said["said"]


def test_tent_makes_surer_and_moves_scales_and_offsets_alone(data):
    model, _ = fitted(data, None, phases=(Phase("all", "all", 4, 0.01, batch_norm="train"),))
    afterwards.adabn(model, data["unlabelled"], 8, 0)
    kernels = [np.array(v) for v in model.weights if v.name == "kernel"]
    before = methods.entropy(predict(model, data["unlabelled"])[0]).numpy().mean()
    for _ in range(3):
        afterwards.tent(model, data["unlabelled"], 8, 0)
    assert methods.entropy(predict(model, data["unlabelled"])[0]).numpy().mean() < before
    for a, b in zip(
        kernels, [np.array(v) for v in model.weights if v.name == "kernel"], strict=True
    ):
        np.testing.assert_array_equal(a, b)
