"""Trainings of several tasks at once: what is not known, weights that are learned, cached features."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from recipes.engine import tasks
from recipes.engine.fit import predict, train
from recipes.engine.gradnorm import GradNorm
from recipes.engine.images import Images
from recipes.engine.schedule import Phase
from recipes.engine.settings import FitSettings
from recipes.engine.store import Store
from tests.conftest import tiny_backbone
from tests.tiny import GREY, PLACE, tasked
from tests.unit.test_resume import Killed
from zoo import heads
from zoo.heads import Tasks
from zoo.stack import stack

ALL = (Phase("all", "all", 4, 0.01, batch_norm="train"),)


HEAD_FIRST = (Phase("head", "head", 2, 0.01), Phase("top", 2, 2, 0.01))


@pytest.fixture(scope="module")
def data():
    return {"train": tasked(48, gaps=0.3), "validation": tasked(12, 1, gaps=0.3), "test": tasked(12, 2)}


def fitted(data, together, store=None, phases=ALL, **settings):
    build = lambda: stack(tiny_backbone(), together)  # noqa: E731
    settings = FitSettings(batch_size=8, cache_dtype="float32", **settings)
    model, (result,) = train(build, together, phases, data, [0], settings, store=store)
    return model, result


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "gradnorm"])
def test_what_is_not_known_counts_nothing(data, weighting):
    """Training with gaps learns, and examples without any answer change no figure."""
    together = Tasks(
        (PLACE, GREY), None if weighting == "uncertainty" else (1.0, 0.5), balanced=weighting == "gradnorm"
    )
    model, result = fitted(data, together)
    assert np.isfinite([row["val_loss"] for row in result.history]).all()
    outputs = predict(model, data["test"])[0]
    figures = tasks.figures((PLACE, GREY), outputs, data["test"])["tasks"]
    assert figures["place"]["accuracy"] > 0.6
    assert set(outputs) == {"place", "grey"}
    # Rows of which nothing is known could as well not be there.
    empty = {
        name: np.concatenate([rows, np.full_like(rows[:8], np.nan)])
        for name, rows in data["validation"].targets.items()
    }
    more = data["validation"]
    pixels = np.concatenate([more.pixels, more.pixels[:8]])
    longer = {**data, "validation": Images(pixels, empty, more.names + more.names[:8], ())}
    _, again = fitted(longer, together)
    for a, b in zip(result.history, again.history, strict=True):
        assert a["val_place_accuracy"] == pytest.approx(b["val_place_accuracy"], abs=1e-6)


def test_cached_features_serve_several_tasks(data, tmp_path):
    together = Tasks((PLACE, GREY), (1.0, 1.0))
    phases = (Phase("head", "head", 2, 0.01), Phase("top", 2, 2, 0.01))
    _, plain = fitted(data, together, phases=phases)
    _, cached = fitted(data, together, Store(tmp_path), phases=phases)
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(plain.weights, cached.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4)


@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm"])
def test_weights_are_found_with_and_without_cached_features(data, tmp_path, weighting):
    """Behind cached features the tasks share nothing but the inputs; behind a frozen prefix the rest is nested."""
    balanced = weighting == "gradnorm"
    together = Tasks((PLACE, GREY), (1.0, 1.0) if balanced else None, balanced=balanced)
    _, plain = fitted(data, together, phases=HEAD_FIRST)
    _, cached = fitted(data, together, Store(tmp_path), phases=HEAD_FIRST)
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(plain.history[:2], cached.history[:2], strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-3)
    assert np.isfinite([row["val_loss"] for row in (*plain.history, *cached.history)]).all()


def test_gradnorm_begins_anew_with_each_seed_and_goes_on_after_a_kill(data, tmp_path, monkeypatch):
    from recipes.engine.checkpoint import Checkpoints

    together = Tasks((PLACE, GREY), (1.0, 0.5), balanced=True)

    def run(seeds, folder=None):
        build = lambda: stack(tiny_backbone(), together)  # noqa: E731
        return train(build, together, ALL, data, seeds, FitSettings(batch_size=8), folder=folder)[1]

    expected = run([3, 4])
    (alone,) = run([4])
    for a, b in zip(expected[1].weights, alone.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    write, count = Checkpoints._write, [0]

    def counting(self, *args):
        write(self, *args)
        count[0] += 1
        if count[0] == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_write", counting)
        with pytest.raises(Killed):
            run([3, 4], tmp_path)
    for a, b in zip(run([3, 4], tmp_path), expected, strict=True):
        for x, y in zip(a.weights, b.weights, strict=True):
            np.testing.assert_array_equal(x, y)


def balance(losses, answered, first=(0.0, 0.0)):
    """(the slope by the weights of two tasks whose gradients are of one size, their first losses)"""
    model = stack(tiny_backbone(), [PLACE, GREY])
    made = GradNorm(model, Tasks((PLACE, GREY), (1.0, 1.0), balanced=True))
    made.first.assign(first)
    slope = made._slope(*(tf.constant(values, tf.float32) for values in ((1.0, 1.0), losses, answered)))
    return np.asarray(slope), np.asarray(made.first)


def test_a_task_that_lags_behind_is_pulled_forward():
    slope, _ = balance((0.9, 0.1), (1.0, 1.0), first=(1.0, 1.0))
    np.testing.assert_allclose(slope, [-1, 1])  # the weights move against it


def test_a_task_with_few_answers_does_not_seem_to_lag():
    """A loss is a mean over all examples: with one answer in ten it is a tenth, and no sign of learning."""
    slope, first = balance((1.0, 0.1), (1.0, 0.1))
    np.testing.assert_allclose(first, [1, 1])
    np.testing.assert_allclose(balance((0.5, 0.025), (1.0, 0.05), first)[0], slope)
    slope, first = balance((1.0, 0.0), (1.0, 0.0))
    np.testing.assert_allclose(first, [1, 0], err_msg="without an answer nothing is known of its pace")
    assert slope[1] == 0


def test_gradnorm_gives_weight_to_the_task_whose_gradient_is_small():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")(inputs)
    outputs = {name: layers.Dense(1, name=name)(shared) for name in ("loud", "quiet")}
    made = [heads.regression([name], name=name, scale=scale) for name, scale in (("loud", 0.01), ("quiet", 10.0))]
    model = GradNorm(keras.Model(inputs, outputs), Tasks(tuple(made), (1.0, 1.0), balanced=True))
    model.compile("sgd", loss={head.name: head.loss() for head in made})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = {name: rng.normal(size=(64, 1)).astype("float32") for name in outputs}
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    loud, quiet = np.asarray(model.task_weights)
    assert loud < 1 < quiet
    assert loud + quiet == pytest.approx(2.0, abs=1e-4)
    assert (np.asarray(model.first) > 0).all()
