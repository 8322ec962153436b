"""Training for a given time: what is begun, by what the same took before. No clock runs here."""

from types import SimpleNamespace

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.recipes.train.budget import Clock, bound, seconds_of
from graft.recipes.train.callbacks.deadline import PhaseTime, TimedState, deadline
from graft.recipes.train.optimizer import LearningRate, OptimizerSettings, make_optimizer, rate_of
from graft.recipes.train.phases.forecast import Forecast, Look, Trial
from graft.recipes.train.phases.time_left import TimeLeft
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("3m", 180), ("1.5h", 5400), (" 2 m ", 120)]
)
def test_times(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "m", "0s", "-3m", "3 days"])
def test_what_is_no_time(text):
    with pytest.raises(ConfigError, match="--budget is a time above 0 like 90s, 3m or 1h"):
        seconds_of(text)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.floats(0, 50), st.floats(51, 1000))
def test_phases_share_what_is_left_in_proportion_to_their_epochs(epochs, first, whole):
    """Where each one takes its time; what one leaves goes to those behind it."""
    begin = first
    for number in range(len(epochs)):
        now, end = bound(epochs[number:], begin, whole, first=number == 0)
        assert now == begin
        assert end - begin == pytest.approx(
            max(1e-3, (whole - first) * epochs[number] / sum(epochs)), rel=1e-6, abs=2e-3
        )
        begin = end
    assert begin == pytest.approx(whole, abs=1e-2)
    assert (
        bound([3, 7], first, whole, first=True)[1] < bound([7], first, whole, first=False)[1] + 1e-6
    )


def test_a_budget_that_is_over_before_the_first_step():
    with pytest.raises(
        ConfigError,
        match="budget of 5 s is over before the first step.*about 8 s; give 16s or more",
    ):
        bound([1], 8.0, 5.0, first=True)
    begin, end = bound([1], 8.0, 5.0, first=False)
    assert begin < end < begin + 0.1


def test_the_clock_counts_what_features_had_cost():
    clock = Clock(own=10.0, charged=5.0)
    clock.charged += 2
    assert clock.own == pytest.approx(10, abs=0.5)
    assert clock.used == pytest.approx(17, abs=0.5)


def test_the_rate_follows_the_share_not_the_steps():
    import tensorflow as tf

    share, variable = tf.Variable(0.0), keras.Variable([[1.0]])
    optimizer = make_optimizer([variable], LearningRate(1e-2, 10, share=share), OptimizerSettings())
    rates = []
    for value in (0.0, 0.1, 0.55, 1.0):
        share.assign(value)
        rates.append(rate_of(optimizer))
    assert rates == pytest.approx([1e-3, 1e-2, 5e-3, 0.0], abs=1e-6)


def test_epochs_and_a_budget_exclude_each_other():
    with pytest.raises(ConfigError, match="--epochs and --budget"):
        FitSettings(budget="3m").check(epochs=5)


class Told:
    """A clock that moves when it is told to."""

    def __init__(self, used=0.0):
        self.used = used
        self.charged = 0.0

    @property
    def own(self):
        return self.used


def test_the_first_call_is_tracing_and_the_next_ones_are_foreseen():
    forecast = Forecast.of(Trial(tracing=2.0, batch=0.1, whole=1.0), examples=0.5)
    assert forecast.tracing > 2.0
    assert forecast.ending == 1.0
    assert forecast.call == pytest.approx(0.15)
    assert forecast.least == forecast.tracing + forecast.call + forecast.ending
    forecast.called(30.0)
    assert (forecast.tracing, forecast.call) == (0.0, pytest.approx(0.15)), "that was tracing"
    for seconds in (0.4, 0.5, 9.0):  # one was disturbed
        forecast.called(seconds)
    forecast.ended(2.5)
    assert (forecast.call, forecast.least) == (0.5, 3.0)


def test_a_trial_knows_tracing_from_running():
    """Of 10 batches in one size and one of another, which are traced for 5 s each."""
    import tensorflow as tf

    clock, sizes = Told(), set()

    def outputs(batches):
        for batch in batches:
            clock.used += 0.5 + 5.0 * (len(batch) not in sizes)
            sizes.add(len(batch))

    batches = tf.data.Dataset.range(84).batch(8)
    trial = Look(batches, 84, 8, outputs, lambda found: {}).tried(clock)
    assert (trial.tracing, trial.batch, trial.whole) == pytest.approx((5.0, 0.5, 5.5))
    assert sizes == {8, 4}, "the last batch is traced too, before anything is timed"


@pytest.fixture
def phase_of_ten():
    """A phase from 0 to 10 s whose steps take 1 s and whose epochs 2 s to measure and save."""
    clock, forecast = Told(), Forecast(call=1.0, ending=2.0)
    forecast.called(1.0)
    state, looks, glances = TimedState.fresh(4), [], []

    def look():
        looks.append(clock.used)
        clock.used += 2.0
        return {"val_accuracy": 0.5}

    time = PhaseTime(clock, 0.0, 10.0, 10.0, None, forecast)
    ends = deadline(time, state, look, glances)
    ends.set_model(SimpleNamespace(stop_training=False, steps_per_execution=1))
    ends.on_train_begin()
    return SimpleNamespace(clock=clock, ends=ends, state=state, looks=looks, forecast=forecast)


def test_no_step_and_no_look_is_begun_that_ends_too_late(phase_of_ten):
    phase, steps = phase_of_ten, 0
    phase.ends.on_epoch_begin(0)
    while not phase.ends.model.stop_training:
        phase.clock.used += 1.0
        phase.ends.on_train_batch_end(steps)
        steps += 1
    assert phase.clock.used == 8.0, "2 s are left for the end of the epoch"
    assert phase.looks == [2.0, 5.0], "a third one, behind 2/3 of 10 s, would not end in time"
    assert float(phase.state.share.numpy()) == 1.0, "the rate has fallen by then"
    phase.clock.used += 2.0
    phase.ends.on_epoch_end(0)
    phase.ends.epoch_over(0)
    assert (phase.clock.used, phase.forecast.ending) == (10.0, 2.0)


def test_no_epoch_is_begun_of_which_nothing_fits(phase_of_ten):
    phase = phase_of_ten
    phase.ends.on_epoch_begin(0)
    for ended, stopped in ((6.0, False), (7.5, True)):  # with a step and its end: 9 s, 10.5 s
        phase.clock.used = ended
        phase.ends.on_epoch_end(0)
        assert phase.ends.model.stop_training is stopped


def turn_of(number, used):
    return SimpleNamespace(number=number, clock=Told(used))


def test_a_phase_that_does_not_fit_is_not_begun():
    time = TimeLeft(10.0)
    time.noted(3.0)
    assert not time.is_over(turn_of(1, 6.9), [{}], ready=False)
    assert time.is_over(turn_of(1, 7.1), [{}], ready=False), "to make it ready takes 3 s"
    assert not time.is_over(turn_of(1, 7.1), [{}], ready=True)
    assert time.is_over(turn_of(2, 1.0), [{}, {"skipped": "why"}], ready=True)
    assert time.is_too_long(turn_of(1, 8.0), "a pass", 2.1)
    assert not TimeLeft(None).is_too_long(turn_of(1, 1e9), "a pass", 1e9)


def test_the_phase_that_a_training_is_for_has_a_step():
    time = TimeLeft(10.0, wanted=2)
    assert time.is_over(turn_of(1, 11.0), [{}], ready=True)
    assert not time.is_over(turn_of(2, 11.0), [{}, {"skipped": "why"}], ready=False)


def test_a_first_phase_that_does_not_fit_is_refused_before_it_begins():
    with pytest.raises(ConfigError, match="budget of 8 s is over before.*about 20 s; give 40s"):
        TimeLeft(8.0).is_too_long(turn_of(0, 1.0), "what the frozen blocks give", 19.0)
