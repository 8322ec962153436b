"""Trainings of several tasks at once: what is not known, weights that are learned, cached
features.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from graft.recipes.codecs.images import Images
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.fit import predict, train
from graft.recipes.train.gradnorm import GradNorm
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.files.store import Store
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from graft.zoo.heads.head import Heads
from tests.conftest import tiny_backbone
from tests.tiny import GREY, PLACE, killed_after, plan_of, tasked

ALL = (Phase("all", "all", 4, 0.01, batch_norm="train"),)


HEAD_FIRST = (Phase("head", "head", 2, 0.01), Phase("top", 2, 2, 0.01))


LIKE = heads.multi_label(["left", "bright"], name="like")
WEIGHTINGS = pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "gradnorm"])


@pytest.fixture(scope="module")
def data():
    return {
        "train": tasked(48, gaps=0.3),
        "validation": tasked(12, 1, gaps=0.3),
        "test": tasked(12, 2),
    }


def three_tasks(images):
    """The same pictures, of which is also asked what they are like; the answer is known of every
    third.
    """
    place, grey = np.nan_to_num(images.targets["place"]), np.nan_to_num(images.targets["grey"])
    like = np.stack([place[:, 0], grey[:, 0] > 120], -1).astype(np.float32)
    like[np.arange(len(like)) % 3 > 0] = np.nan
    targets = {name: rows.copy() for name, rows in images.targets.items()}
    return Images(images.pixels, {**targets, "like": like}, images.names)


def with_empty(images, count):
    """The same pictures and `count` of which nothing is known."""
    again = np.arange(count) % len(images)
    targets = {
        name: np.concatenate([rows, np.full_like(rows[again], np.nan)])
        for name, rows in images.targets.items()
    }
    names = images.names + tuple(images.names[i] for i in again)
    return Images(np.concatenate([images.pixels, images.pixels[again]]), targets, names)


def weighted(weighting, *parts):
    fixed = tuple(1 / (1 + i) for i in range(len(parts)))
    return Heads(
        parts, None if weighting == "uncertainty" else fixed, balanced=weighting == "gradnorm"
    )


def three_blocks():
    return tiny_backbone(blocks=3)


def fitted(data, together, store=None, phases=ALL, backbone=three_blocks, batch_size=8, **settings):
    build = lambda: stack(backbone(), together)  # noqa: E731
    settings = FitSettings(batch_size=batch_size, cache_dtype="float32", **settings)
    plan = plan_of(build, together, phases, settings=settings)
    model, (result,) = train(plan, data, store=store)
    return model, result


@WEIGHTINGS
def test_what_is_not_known_counts_nothing(data, weighting):
    """Training with gaps learns, and examples without any answer change no figure."""
    together = weighted(weighting, PLACE, GREY)
    model, result = fitted(data, together)
    assert np.isfinite([row["val_loss"] for row in result.history]).all()
    outputs = predict(model, data["test"])[0]
    figures = tasks_for(together).figures(outputs, data["test"].targets)["tasks"]
    assert figures["place"]["accuracy"] > 0.6
    assert set(outputs) == {"place", "grey"}
    # Rows of which nothing is known could as well not be there, be they a batch of their own.
    _, again = fitted({**data, "validation": with_empty(data["validation"], 150)}, together)
    for a, b in zip(result.history, again.history, strict=True):
        for name in ("val_loss", "val_place_accuracy", "val_grey_mean_absolute_error"):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name


def plain_backbone():
    """Neither dropout nor statistics: a step depends on what its examples are, not on how many."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    return keras.Model(inputs, layers.Conv2D(8, 3, strides=2, activation="relu")(x), name="plain")


@WEIGHTINGS
def test_steps_do_not_see_what_is_not_known(data, weighting):
    """Of all kinds of tasks: neither the loss nor the weights of a training change with rows that
    have no answer.
    """
    parts = {split: three_tasks(images) for split, images in data.items()}
    more = {**parts, "train": with_empty(parts["train"], 48)}
    together, phases = weighted(weighting, PLACE, GREY, LIKE), (Phase("all", "all", 3, 0.01),)
    _, few = fitted(parts, together, phases=phases, backbone=plain_backbone, batch_size=48)
    _, many = fitted(more, together, phases=phases, backbone=plain_backbone, batch_size=96)
    for a, b in zip(few.history, many.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    for a, b in zip(few.weights, many.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@WEIGHTINGS
def test_a_batch_without_an_answer_of_a_task(data, weighting):
    """It says nothing of this task, and leaves numbers behind."""
    parts = {split: three_tasks(images) for split, images in data.items()}
    parts["train"].targets["like"][3:] = np.nan  # of 48, in batches of 8
    parts["train"].targets["grey"][4:] = np.nan
    _, result = fitted(parts, weighted(weighting, PLACE, GREY, LIKE))
    assert np.isfinite([[row["loss"], row["val_loss"]] for row in result.history]).all()
    assert all(np.isfinite(value).all() for value in result.weights)


def test_cached_features_serve_several_tasks(data, tmp_path):
    together = Heads((PLACE, GREY), (1.0, 1.0))
    phases = (Phase("head", "head", 2, 0.01), Phase("top", 2, 2, 0.01))
    _, plain = fitted(data, together, phases=phases)
    _, cached = fitted(data, together, Store(tmp_path), phases=phases)
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(plain.weights, cached.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4)


@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm"])
def test_weights_are_found_with_and_without_cached_features(data, tmp_path, weighting):
    """Behind cached features the tasks share nothing but the inputs; behind a frozen prefix the
    rest is nested.
    """
    balanced = weighting == "gradnorm"
    together = Heads((PLACE, GREY), (1.0, 1.0) if balanced else None, balanced=balanced)
    _, plain = fitted(data, together, phases=HEAD_FIRST)
    _, cached = fitted(data, together, Store(tmp_path), phases=HEAD_FIRST)
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(plain.history[:2], cached.history[:2], strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-3)
    assert np.isfinite([row["val_loss"] for row in (*plain.history, *cached.history)]).all()


def test_gradnorm_begins_anew_with_each_seed_and_goes_on_after_a_kill(data, tmp_path):
    together = Heads((PLACE, GREY), (1.0, 0.5), balanced=True)

    def run(seeds, folder=None):
        build = lambda: stack(three_blocks(), together)  # noqa: E731
        plan = plan_of(build, together, ALL, seeds, FitSettings(batch_size=8))
        return train(plan, data, folder=folder)[1]

    expected = run([3, 4])
    (alone,) = run([4])
    for a, b in zip(expected[1].weights, alone.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with killed_after(2):
        run([3, 4], tmp_path)
    for a, b in zip(run([3, 4], tmp_path), expected, strict=True):
        for x, y in zip(a.weights, b.weights, strict=True):
            np.testing.assert_array_equal(x, y)


def balance(losses, answered, first=(0.0, 0.0)):
    """(the slope by the weights of two tasks whose gradients are of one size on what is answered,
    their first losses)
    """
    model = stack(three_blocks(), [PLACE, GREY])
    made = GradNorm(model, Heads((PLACE, GREY), (1.0, 1.0), balanced=True))
    made.first.assign(first)
    slope = made._slope(
        *(tf.constant(values, tf.float32) for values in (answered, losses, answered))
    )
    return np.asarray(slope), np.asarray(made.first)


def test_a_task_that_lags_behind_is_pulled_forward():
    slope, _ = balance((0.9, 0.1), (1.0, 1.0), first=(1.0, 1.0))
    np.testing.assert_allclose(slope, [-1, 1])  # the weights move against it


def test_a_task_with_few_answers_does_not_seem_to_lag():
    """Where a step has a tenth of the answers that are usual, loss and gradient are a tenth, and no
    sign of learning.
    """
    slope, first = balance((1.0, 0.1), (1.0, 0.1))
    np.testing.assert_allclose(first, [1, 1])
    np.testing.assert_allclose(balance((0.5, 0.025), (1.0, 0.05), first)[0], slope)
    slope, first = balance((1.0, 0.0), (1.0, 0.0))
    np.testing.assert_allclose(
        first, [1, 0], err_msg="without an answer nothing is known of its pace"
    )
    assert slope[1] == 0


def test_gradnorm_gives_weight_to_the_task_whose_gradient_is_small():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")(inputs)
    outputs = {name: layers.Dense(1, name=name)(shared) for name in ("loud", "quiet")}
    made = [
        heads.regression([name], name=name, scale=scale)
        for name, scale in (("loud", 0.01), ("quiet", 10.0))
    ]
    model = GradNorm(keras.Model(inputs, outputs), Heads(tuple(made), (1.0, 1.0), balanced=True))
    model.compile("sgd", loss={head.name: head.loss() for head in made})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = {name: rng.normal(size=(64, 1)).astype("float32") for name in outputs}
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    loud, quiet = np.asarray(model.task_weights)
    assert loud < 1 < quiet
    assert loud + quiet == pytest.approx(2.0, abs=1e-4)
    assert (np.asarray(model.first) > 0).all()
