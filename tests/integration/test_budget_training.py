"""Trainings for a given time."""

import time

import pytest

from graft.recipes.train import budget, fit
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.files.store import Store
from tests.tiny import HEAD, builder, normalization, pictures, plan_of

PHASES = (Phase("head", "head", 1, 1e-3), Phase("all", "all", 2, 1e-3, batch_norm="train"))


@pytest.fixture(scope="module")
def data():
    return {"train": pictures(96, 0), "validation": pictures(32, 1)}


def test_a_head_alone_does_not_train_for_ever(data, tmp_path):
    phases = (Phase("head", "head", 2, 1e-3),)
    settings = FitSettings(budget="1h", batch_size=16)
    plan = plan_of(builder(normalization), HEAD, phases, settings=settings)
    _, (result,) = fit.train(plan, data, store=Store(tmp_path / "store"), folder=tmp_path)
    assert result.phases[0]["epochs_run"] == 2 * budget.HEAD_PASSES
    assert result.history[-1]["learning_rate"] < result.history[2]["learning_rate"] / 5


def trained(data, seconds, tmp_path, **settings):
    settings = FitSettings(budget=f"{seconds}s", batch_size=16, **settings)
    plan = plan_of(builder(normalization), HEAD, PHASES, settings=settings)
    model, (result,) = fit.train(plan, data, store=Store(tmp_path / "store"), folder=tmp_path)
    return model, result


def test_training_ends_in_time_and_every_phase_has_its_share(data, tmp_path):
    _, result = trained(data, 8, tmp_path)
    assert [phase["cached"] for phase in result.phases] == [True, False]
    assert all(phase["epochs_run"] >= 1 for phase in result.phases)
    assert (
        result.seconds < 8 + 4
    )  # the last validation, and what tracing took after the last look at the clock
    assert [row["elapsed"] for row in result.history] == sorted(
        row["elapsed"] for row in result.history
    )
    last = [row["learning_rate"] for row in result.history if row["phase"] == "all"][-1]
    assert last < 1e-4  # it has fallen, however many steps there were


def test_a_second_run_is_charged_for_the_features_that_it_finds(data, tmp_path):
    _, first = trained(data, 6, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "store").rename(tmp_path / "b" / "store")
    _, second = trained(data, 6, tmp_path / "b")
    assert first.charged == 0
    assert 0 < second.charged <= first.phases[0]["preparation_seconds"]
    assert second.phases[0]["cached_seconds"] == second.charged
    assert second.history[0]["elapsed"] > second.charged


def test_a_budget_buys_as_many_views_as_it_can_pay(data, tmp_path, monkeypatch):
    from graft.recipes.feed.cache import PrefixCache
    from graft.recipes.train import phase as phase_module

    monkeypatch.setattr(phase_module, "HEAD_PASSES", 12)  # it ends long before its time
    monkeypatch.setattr(PrefixCache, "seconds", lambda self, cuts, view: 6.0)
    settings = FitSettings(budget="60s", batch_size=16, augment=("flip",))  # 40 % of it buys four
    plan = plan_of(builder(normalization), HEAD, PHASES[:1], settings=settings)
    _, (result,) = fit.train(plan, data, store=Store(tmp_path), folder=tmp_path)
    (phase,) = result.phases
    assert phase["views"] == 4
    assert phase["epochs_run"] == 12, "1, 2, 3 and 4 over all views so far, then 2 more"


def test_long_epochs_are_looked_into(data, tmp_path, monkeypatch):
    """A batch takes so long that no epoch ends before the last sixth."""
    from graft.recipes.train import phase as phase_module

    made, counted = phase_module.deadline, []

    def slow(*arguments):
        callback = made(*arguments)
        told = callback.on_train_batch_end

        def on_train_batch_end(batch, logs=None):
            time.sleep(1.0)
            told(batch, logs)
            counted.append(float(callback.model.metrics[0].count))

        callback.on_train_batch_end = on_train_batch_end
        return callback

    monkeypatch.setattr(phase_module, "deadline", slow)
    phases = (Phase("all", "all", 1, 1e-3, batch_norm="train"),)
    settings = FitSettings(budget="12s", batch_size=8)
    plan = plan_of(builder(normalization), HEAD, phases, settings=settings)
    _, (result,) = fit.train(plan, data, folder=tmp_path)
    assert result.phases[0]["epochs_run"] == 1
    seen = [glance["elapsed"] for glance in result.phases[0]["glances"]]
    assert 1 <= len(seen) <= len(budget.MARKS)
    assert all(0 <= glance["accuracy"] <= 1 for glance in result.phases[0]["glances"])
    assert result.history[0]["elapsed"] < 12 + 4
    assert counted == [counted[0] * (i + 1) for i in range(len(counted))], (
        "the looks are no part of the epoch's figures"
    )
