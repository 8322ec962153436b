"""Trainings for a given time."""

import time
from types import SimpleNamespace

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


@pytest.fixture
def slept(monkeypatch):
    """The clock counts what this process computes, not what others do beside it, and so many
    seconds of sleep.
    """
    from graft.recipes.feed import clock

    seconds = [0.0]
    now = SimpleNamespace(perf_counter=lambda: time.process_time() + seconds[0])
    monkeypatch.setattr(clock, "time", now)
    return seconds


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


@pytest.fixture
def no_doubt(monkeypatch):
    """Every phase is begun: what tracing takes on a busy machine is not what is asked."""
    from graft.recipes.train.phases import forecast, time_left

    monkeypatch.setattr(forecast, "TRACE", 0.0)
    monkeypatch.setattr(time_left.TimeLeft, "noted", lambda self, seconds: None)


def test_training_ends_in_time_and_every_phase_has_its_share(data, tmp_path, no_doubt, slept):
    _, result = trained(data, 12, tmp_path)
    assert [phase["cached"] for phase in result.phases] == [True, False]
    assert all(phase["epochs_run"] >= 1 for phase in result.phases)
    assert result.seconds < 12 + 4  # what tracing took, of which nothing is known before
    assert [row["elapsed"] for row in result.history] == sorted(
        row["elapsed"] for row in result.history
    )
    last = [row["learning_rate"] for row in result.history if row["phase"] == "all"][-1]
    assert last < 1e-4  # it has fallen, however many steps there were


def test_a_phase_without_time_is_skipped_and_said(data, tmp_path, monkeypatch, capsys):
    from graft.recipes.train.phases import forecast

    told = iter((0.0, 1e6))  # of the first phase, of the second one
    made = forecast.Forecast.of.__func__

    def of(cls, trial, examples):
        found = made(cls, trial, examples)
        found.tracing = next(told)
        return found

    monkeypatch.setattr(forecast.Forecast, "of", classmethod(of))
    _, result = trained(data, 60, tmp_path)
    head, skipped = result.phases
    assert head["epochs_run"] == 5
    assert skipped["epochs_run"] == 0
    assert skipped["skipped"] == "the --budget of 60 s has no time for phase 'all': it is not begun"
    assert skipped["skipped"] in capsys.readouterr().err
    assert result.kept["phase"] == 0
    assert {row["phase"] for row in result.history} == {"head"}


def test_a_pass_that_does_not_fit_is_refused_before_it_begins(data, tmp_path, monkeypatch):
    from graft.recipes.feed.cache import PrefixCache
    from graft.zoo.errors import ConfigError

    monkeypatch.setattr(PrefixCache, "_seconds_an_example", lambda self, cuts: 1.0)
    monkeypatch.setattr(PrefixCache, "fill", lambda *given: pytest.fail("it was begun"))
    with pytest.raises(ConfigError, match="frozen blocks give takes about 128 s; give 25[67]s"):
        trained(data, 60, tmp_path)


def test_a_second_run_is_charged_for_the_features_that_it_finds(data, tmp_path, no_doubt):
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


def test_long_epochs_are_looked_into(data, tmp_path, monkeypatch, slept, no_doubt):
    """A batch takes so long that no epoch ends before the last sixth."""
    from graft.recipes.train import phase as phase_module

    made, counted = phase_module.deadline, []

    def slow(*arguments):
        callback = made(*arguments)
        told = callback.on_train_batch_end

        def on_train_batch_end(batch, logs=None):
            slept[0] += 1.0
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
