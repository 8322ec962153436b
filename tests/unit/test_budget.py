"""Training for a given time."""

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.recipes.train.budget import Clock, bound, seconds_of
from graft.recipes.train.optimizer import LearningRate, OptimizerSettings, make_optimizer, rate_of
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
        ConfigError, match="budget of 5 s was over before the first step.*give 16s or more"
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
