"""What the best epoch is chosen by: each figure over the whole validation set, in the units of its
task.
"""

from dataclasses import replace

import numpy as np
import pytest

from graft.recipes.adapt import catalogue, selection
from graft.recipes.codecs.targets import Ragged, Tagged
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train import fit
from graft.recipes.train.optimizer import group_size
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.recipes.train.validation import Validation, Watched
from graft.zoo.errors import TrainingError
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads import heads
from graft.zoo.heads.heads import Heads
from tests.tiny import (
    GREY,
    HEAD,
    PLACE,
    builder,
    normalization,
    pictures,
    plan_of,
    tasked,
    two_domains,
)

QUIET = FitSettings(batch_size=8, cache="off")


def validation_of(heads, targets, class_weights=None):
    """The figures of heads against `targets`, of one head bare."""
    tasks = tasks_for(heads)
    targets = targets if isinstance(targets, dict) else {tasks.first.name: targets}
    return Validation(tasks, targets, class_weights)


def tagged(tags, labels=("O", "B-x")):
    """The targets of sentences of one piece a word with these tags."""
    rows = [np.array([labels.index(tag) for tag in sentence], np.int32) for sentence in tags]
    pieces = Ragged.of(rows)
    begun = Ragged.of([np.arange(len(row), dtype=np.int32) for row in rows])
    words = tuple(tuple("w" for _ in row) for row in rows)
    return Tagged(pieces.values, pieces.starts, begun, Ragged.of(rows), words)


def test_each_head_names_what_it_is_watched_by():
    places = pictures(12).targets[HEAD.name]
    slots, vectors = heads.tags(["O", "B-x"], name="slots"), heads.embedding(4)
    assert validation_of(HEAD, places).watched == Watched("validation loss", "min")
    weighted = validation_of(HEAD, places, np.ones(3, np.float32))
    assert weighted.watched.name == "validation weighted loss"
    assert validation_of(vectors, places).watched == Watched("validation recall at 1", "max")
    assert validation_of(slots, tagged([["O", "B-x"]])).watched == Watched(
        "validation entity F1", "max"
    )
    assert validation_of(slots, tagged([["O", "O"]])).watched == Watched(
        "validation accuracy", "max"
    ), "no entity"
    assert validation_of(vectors, places[:3]).watched == Watched("validation loss", "min"), (
        "no two of a class"
    )
    assert validation_of(Heads((PLACE, GREY)), tasked(12).targets).watched.mode == "min"


def test_an_embedding_is_measured_over_the_whole_set():
    """Before, a loss over batches in order of length chose the epoch: here no batch of 2 holds a
    pair.
    """
    places = pictures(12).targets[HEAD.name]
    outputs = np.eye(3, 4, dtype=np.float32)[places.argmax(-1)]
    found = validation_of(heads.embedding(4), places).figures(outputs)
    assert found["val_watched"] == found["val_recall_at_1"] == 1.0


def test_learned_weights_have_no_say_and_those_of_the_user_have():
    targets = tasked(30, 1, gaps=0.2).targets
    outputs = {
        "place": np.full((30, 3), 1 / 3, np.float32),
        "grey": np.full((30, 1), 120, np.float32),
    }
    found = validation_of(Heads((PLACE, GREY), None), targets).figures(outputs)
    assert found["val_loss"] == pytest.approx(found["val_place_loss"] + found["val_grey_loss"])
    assert found["val_place_loss"] == pytest.approx(np.log(3), abs=1e-5), (
        "of the known answers alone"
    )
    weighted = validation_of(Heads((PLACE, GREY), (2.0, 0.5)), targets).figures(outputs)
    assert weighted["val_watched"] == pytest.approx(
        2 * found["val_place_loss"] + 0.5 * found["val_grey_loss"]
    )


def test_class_weights_weigh_what_is_watched():
    places = pictures(12).targets[HEAD.name]
    outputs = np.full((12, 3), 0.1, np.float32)
    outputs[:, 0] = 0.8
    plain = validation_of(HEAD, places).figures(outputs)["val_loss"]
    weights = np.array([3, 0, 0], np.float32)
    first = validation_of(HEAD, places, weights).figures(outputs)["val_loss"]
    assert first == pytest.approx(-np.log(0.8), abs=1e-5)
    assert plain > first


def test_the_best_epoch_of_all_phases_is_kept():
    """Before, it was the best one of the last phase, however bad that was."""
    noisy = pictures(24, 1)
    wrong = noisy.targets[HEAD.name]
    wrong[:6] = wrong[1:7]  # wrong labels: who is too sure pays for it
    data = {"train": pictures(48), "validation": noisy}
    phases = (Phase("all", "all", 4, 0.03, batch_norm="train"), Phase("head", "head", 2, 100.0))
    plan = plan_of(builder(normalization), HEAD, phases, settings=QUIET)
    model, (result,) = fit.train(plan, data)
    losses = [row["val_loss"] for row in result.history]
    assert min(losses[:4]) < min(losses[4:]), "the second phase only does harm"
    assert result.kept["phase"] == 0
    assert result.kept["row"] == int(np.argmin(losses))
    assert result.validation_loss == min(losses)
    outputs = fit.predict(model, data["validation"], [result.weights])[0]
    found = validation_of(HEAD, noisy.targets).figures(outputs)
    assert found["val_loss"] == pytest.approx(min(losses), abs=1e-4)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_methods_and_baseline_keep_the_same_epoch(keep):
    """Before, a method kept the last epoch and the baseline the best one."""
    data = two_domains()
    phases = (Phase("all", "all", 6, 0.05, batch_norm="train"),)
    for method in (None, catalogue.maker("pseudo_label", 1.0, None)):
        build, more = builder(normalization), {"method": method, "keep": keep}
        _, (result,) = fit.train(plan_of(build, HEAD, phases, settings=QUIET, **more), data)
        losses = [row["val_loss"] for row in result.history]
        wanted = int(np.argmin(losses)) if keep == "best" else 5
        assert result.kept["row"] == wanted
        assert result.phases[-1]["best_epoch"] == wanted + 1


def test_the_seed_that_ships_is_the_one_whose_own_losses_are_lowest():
    data = {"train": tasked(60), "validation": tasked(30, 1)}
    both = Heads((PLACE, GREY), None)

    def build():
        return stack(backbone_of(builder(normalization)()), both)

    phases = (Phase("all", "all", 8, 0.01, batch_norm="train"),)
    plan = plan_of(build, both, phases, [0, 1], replace(QUIET, batch_size=10))
    model, trained = fit.train(plan, data)
    measured, found = validation_of(both, data["validation"].targets), []
    for result in trained:
        outputs = fit.predict(model, data["validation"], [result.weights])[0]
        found.append(measured.figures(outputs)["val_loss"])
        assert found[-1] == pytest.approx(result.validation_loss, abs=1e-3)
    assert fit.best_of(trained) is trained[int(np.argmin(found))]


def test_best_of_follows_the_direction_of_what_is_watched():
    def result(seed, value, mode, loss=0.0):
        kept = {"watched": "x", "mode": mode, "value": value}
        return fit.Trained(seed, [], [], [], 0.0, 0.0, loss, kept, {})

    assert fit.best_of([result(0, 0.5, "min"), result(1, 0.4, "min")]).seed == 1
    assert fit.best_of([result(0, 0.5, "max"), result(1, 0.4, "max")]).seed == 0
    assert fit.best_of([result(0, 0.5, "max", 2.0), result(1, 0.5, "max", 1.0)]).seed == 1


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("nothing", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_nothing(mode, nothing):
    """Before, a NaN that came first was never beaten."""
    watched = Watched("x", mode)
    assert not watched.better(nothing, None)
    assert not watched.better(nothing, 0.5)
    assert watched.better(0.5, nothing)
    assert watched.better(0.5, None)
    rows = [
        {"method": "a", "labelled": nothing},
        {"method": "b", "labelled": 0.5},
        {"method": "b", "labelled": nothing},
    ]
    assert selection.choose(rows[:2], "labelled") == 1
    assert selection.choose(rows[1:], "labelled") == 0


def test_answers_that_are_no_numbers_are_not_judged():
    """Before, their largest one was the first label, and a share of right answers came out."""
    outputs = np.full((1, 3), 1 / 3, np.float32)
    two = Heads((PLACE, replace(HEAD, name="other")))
    places = pictures(12).targets[HEAD.name]
    vectors = np.full((12, 4), np.nan, np.float32)
    found = validation_of(heads.embedding(4), places).figures(vectors)
    assert np.isnan(found["val_watched"])
    both = {"place": places, "other": places}
    answers = {"place": np.repeat(outputs, 12, 0), "other": np.full((12, 3), np.nan, np.float32)}
    assert np.isnan(validation_of(two, both).figures(answers)["val_watched"])


def watching(monkeypatch, values, phases, keep):
    """A training whose watched validation figure is each of `values` in turn."""
    left, figures = list(values), Validation.figures
    monkeypatch.setattr(
        Validation, "figures", lambda *given: figures(*given) | {"val_watched": left.pop(0)}
    )
    data = {"train": pictures(24), "validation": pictures(9, 1)}
    phases = [Phase(f"phase {i}", "head", epochs, 0.01) for i, epochs in enumerate(phases)]
    plan = plan_of(builder(normalization), HEAD, phases, settings=QUIET, keep=keep)
    _, (result,) = fit.train(plan, data)
    return result


@pytest.mark.parametrize(
    ("values", "phases", "keep", "row"),
    [
        ([np.nan, 0.5, 0.6], (3,), "best", 1),
        ([np.nan, np.nan, 0.5, 0.6], (2, 2), "best", 2),
        ([np.inf, 0.5, np.nan, np.nan], (2, 2), "best", 1),
        ([0.5, 0.6, np.nan], (3,), "last", 1),
        ([0.5, np.nan, np.nan], (1, 2), "last", 0),
    ],
)
def test_an_epoch_without_a_number_is_not_kept(monkeypatch, values, phases, keep, row):
    result = watching(monkeypatch, values, phases, keep)
    assert result.kept["row"] == row
    assert result.kept["value"] == values[row]


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_training_without_any_number_ends_with_one_line(monkeypatch, keep):
    with pytest.raises(
        TrainingError,
        match=r"validation loss is no number .* 3 epochs; .*--learning-rate .*--clip-norm 1",
    ) as e:
        watching(monkeypatch, [np.nan, np.inf, np.nan], (2, 1), keep)
    assert e.value.exit_code == 1


@pytest.mark.parametrize("accumulate", [4, 5, 8, 100])
def test_what_was_accumulated_is_never_lost(accumulate):
    """Before, more steps than a phase has made not one update, in silence."""
    data = {"train": pictures(48), "validation": pictures(12, 1)}
    settings = replace(QUIET, accumulate=accumulate)  # 6 steps an epoch
    phases = (Phase("head", "head", 3, 0.1),)
    plan = plan_of(builder(normalization), HEAD, phases, settings=settings)
    _, (result,) = fit.train(plan, data)
    losses = [row["val_loss"] for row in result.history]
    assert len(set(losses)) == 3, "every epoch ends with an update"


def test_a_group_that_is_whole_is_the_same_with_and_without_a_rest():
    """Two epochs of 6 steps in groups of 4: an update of 4 steps and one of the mean of 2, in each
    epoch.
    """
    import keras

    from graft.recipes.train.optimizer import LearningRate, OptimizerSettings, flush, make_optimizer

    assert (group_size(8, 6), group_size(4, 6), group_size(1, 6)) == (6, 4, 1)
    variable = keras.Variable([0.0])
    optimizer = make_optimizer(
        [variable], LearningRate(0.1, 16, steps_per_epoch=8), OptimizerSettings(accumulate=4)
    )
    optimizer.build([variable])
    seen = []
    for step in range(6):
        optimizer.apply([keras.ops.convert_to_tensor([float(step + 1)])])
        seen.append(float(variable[0]))
    assert seen[:3] == [0, 0, 0]
    assert seen[3] != 0
    assert seen[3] == seen[5]
    flush(optimizer)
    assert float(variable[0]) != seen[5]
    assert int(optimizer._iterations) == 8, "the next group begins anew"
    assert float(np.abs(optimizer._accumulated_gradients[0]).sum()) == 0
    flush(optimizer)
    assert int(optimizer._iterations) == 8
