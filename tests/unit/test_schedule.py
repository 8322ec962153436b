"""Schedules are data: they stretch, scale and print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from graft.recipes.train.schedule import (
    SCHEDULES,
    TEXT_SCHEDULES,
    for_width,
    resolve,
    table,
    weights_for,
    with_epochs,
)
from graft.zoo.errors import ConfigError, UnknownName


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 300))
def test_epochs_are_spread_exactly(name, epochs):
    phases = SCHEDULES[name]
    if epochs < len(phases):
        with pytest.raises(ConfigError, match="cannot be spread"):
            with_epochs(phases, epochs)
        return
    stretched = with_epochs(phases, epochs)
    assert sum(phase.epochs for phase in stretched) == epochs
    assert min(phase.epochs for phase in stretched) >= 1
    assert [phase.name for phase in stretched] == [phase.name for phase in phases]
    for phase, before in zip(stretched, phases, strict=True):
        exact = epochs * before.epochs / sum(p.epochs for p in phases)
        assert phase.epochs == 1 or phase.epochs < exact + 1
        assert phase.epochs > exact - 1 or any(p.epochs == 1 for p in stretched)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(6, (2, 4)), (10, (3, 7)), (5, (2, 3)), (2, (1, 1))]
)
def test_epochs_keep_their_proportions(epochs, expected):
    assert tuple(phase.epochs for phase in with_epochs(SCHEDULES["fine_tune"], epochs)) == expected


def test_the_rate_scales_all_phases():
    phases = resolve("fine_tune", learning_rate=6e-4)
    assert phases[-1].learning_rate == pytest.approx(6e-4)
    before = SCHEDULES["fine_tune"]
    assert phases[0].learning_rate / phases[1].learning_rate == pytest.approx(
        before[0].learning_rate / before[1].learning_rate
    )
    with pytest.raises(ConfigError, match="above 0"):
        resolve("fine_tune", learning_rate=0)


def test_a_rate_that_is_a_schedules_own_changes_nothing_whatever_the_width():
    known = {name: for_width(phases, 128) for name, phases in TEXT_SCHEDULES.items()}
    for name, phases in known.items():
        same = resolve(name, learning_rate=phases[-1].learning_rate, known=known)
        for a, b in zip(same, phases, strict=True):
            assert a.learning_rate == pytest.approx(b.learning_rate)


def test_unknown_schedule_names_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'fine_tune'"):
        resolve("finetune")


def test_scratch_begins_with_nothing_and_says_so_where_weights_are_named():
    assert weights_for("fine_tune", None, "imagenet") == "imagenet"
    assert weights_for("fine_tune", "bundled", "imagenet") == "bundled"
    assert (
        weights_for("scratch", None, "imagenet")
        == weights_for("scratch", "none", "imagenet")
        == "none"
    )
    with pytest.raises(ConfigError, match="leave --weights bundled away"):
        weights_for("scratch", "bundled", "imagenet")


def test_what_the_names_promise():
    assert [phase.train for phase in SCHEDULES["fine_tune"]] == ["head", 0.5]
    assert [phase.train for phase in SCHEDULES["probe_then_tune"]] == ["head", "all"]
    assert [phase.train for phase in SCHEDULES["gradual_unfreeze"]] == ["head", 2, 4, 6]
    assert {phase.batch_norm for phase in SCHEDULES["scratch"] + SCHEDULES["full"]} == {"train"}
    assert {p.batch_norm for n in ("feature_extraction", "fine_tune") for p in SCHEDULES[n]} == {
        "inference"
    }


def test_the_table_says_what_trains():
    row = {"name": "top half", "blocks": 5, "total_blocks": 11, "trainable_parameters": 1_000_000}
    row |= {
        "total_parameters": 2_257_984,
        "epochs": 7,
        "learning_rate": 3e-4,
        "batch_norm": "inference",
    }
    console = Console(width=140, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table("fine_tune", [row]))
    text = console.export_text()
    for part in (
        "top half",
        "head + 5 of 11 blocks",
        "1,000,000 of 2,257,984",
        "7",
        "3.0e-04",
        "inference",
    ):
        assert part in text
