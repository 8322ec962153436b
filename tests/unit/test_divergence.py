"""Trainings that exploded are named, whichever of a run's they are, beside what is compared with
them.
"""

import types

import pytest

from graft.recipes.runs import divergence, run_facts
from graft.recipes.train import validation
from graft.zoo.heads import heads

FINE, WILD = {}, {"all": 2e9}


def arm(*diverged):
    return [types.SimpleNamespace(seed=seed, diverged=each) for seed, each in enumerate(diverged)]


def concerns(arms, **facts):
    return run_facts.concerns({"seed": 0, "trainings": divergence.trainings(arms), **facts}, {}, [])


def test_the_last_loss_of_a_phase_counts():
    rows = [
        {"phase": "probe", "loss": 3e5},
        {"phase": "probe", "loss": 0.7},
        {"phase": "all", "loss": float("nan")},
    ]
    found = validation.exploded(rows, 1.0)
    assert list(found) == ["all"]
    assert validation.exploded([{"phase": "all", "loss": 4e15}], 1.0) == {"all": 4e15}


def test_a_loss_counts_in_units_of_the_weights_of_what_it_is_the_sum_of():
    """Before, only tasks of pictures had any: texts with --task-weights and methods with a
    --strength "diverged".
    """
    price, colour = (
        heads.regression(["price"], name="price"),
        heads.single_label(["red", "blue"], name="colour"),
    )
    alone, both = heads.Heads.of(price), (price, colour)
    method = types.SimpleNamespace(strength=999.0)
    assert validation.loss_scale(alone) == 1
    assert validation.loss_scale(heads.Heads(both, (2000.0, 1.0))) == 2001
    assert validation.loss_scale(heads.Heads(both)) == 2
    assert validation.loss_scale(alone, method) == 1000
    assert not validation.exploded(
        [{"phase": "all", "loss": 5e3}], validation.loss_scale(alone, method)
    )


@pytest.mark.parametrize(
    ("arms", "seed"),
    [
        ({"transfer": arm(FINE, FINE), "scratch": arm(FINE, WILD)}, 1),
        ({"transfer": arm(WILD, FINE)}, 0),
    ],
)
def test_every_arm_and_seed_is_looked_at(arms, seed):
    """Before, only the seed that ships was."""
    found = concerns(arms)
    name = "scratch" if "scratch" in arms else "transfer"
    assert (
        f"the training '{name}' diverged in phase 'all' (seed {seed}): its loss ended at 2e+09"
        in found["warnings"][0]
    )


def test_a_verdict_names_the_training_that_exploded():
    verdict = {"text": "transfer gained +30.0 points"}
    found = concerns({"transfer": arm(FINE, FINE), "scratch": arm(WILD, WILD)}, verdict=verdict)
    assert found["diverged"]
    assert found["verdict"]["text"].startswith(
        "transfer gained +30.0 points; but 'scratch' diverged with seed 0, 1: "
    )
    fine = concerns({"transfer": arm(FINE), "scratch": arm(FINE)}, verdict=verdict)
    assert fine == {"verdict": verdict, "warnings": [], "diverged": False}


def test_a_seed_that_neither_ships_nor_is_compared_is_a_warning():
    found = concerns({"transfer": arm(FINE, WILD)}, verdict=None)
    assert found["warnings"]
    assert not found["diverged"]
    assert concerns({"transfer": arm(WILD, FINE)}, verdict=None)["diverged"]


def test_sharing_names_the_model_of_its_own_that_exploded():
    rows = [{"task": name, "text": f"{name}: sharing gained"} for name in ("type", "price")]
    arms = {"together": arm(FINE), "type alone": arm(FINE), "price alone": arm(WILD)}
    found = concerns(arms, sharing=rows)
    assert found["sharing"][0] == rows[0]
    assert "'price alone' diverged with seed 0" in found["sharing"][1]["text"]
    assert found["diverged"]


def test_a_method_that_exploded_and_was_not_chosen_fails_nothing():
    adaptation = {
        "baseline": "source_only",
        "chosen": {"method": "mmd", "seed": 0},
        "verdicts": {"mmd": {"text": "mmd gained"}, "dann": {"text": "dann lost"}},
    }
    found = concerns(
        {"source_only": arm(FINE), "mmd": arm(FINE), "dann": arm(WILD)}, adaptation=adaptation
    )
    assert not found["diverged"]
    assert found["adaptation"]["verdicts"]["mmd"] == {"text": "mmd gained"}
    assert "'dann' diverged with seed 0" in found["adaptation"]["verdicts"]["dann"]["text"]
    arms = {"source_only": arm(WILD), "mmd": arm(FINE), "dann": arm(FINE)}
    found = concerns(arms, adaptation=adaptation, kept={"rule": "last"})
    assert found["diverged"]
    assert "kept is its last epoch" in found["warnings"][0]
