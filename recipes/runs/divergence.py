"""Which trainings exploded, and what is to be said of the comparisons that rest on them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

__all__ = ["ALONE", "Training", "cautioned", "trainings", "warnings_of"]

VERDICT = ("transfer", "scratch")
"""The trainings that a verdict compares."""
ALONE = "{task} alone"
"""What the training of a model for one of several tasks is called."""


class Training(Protocol):
    """What is known of one seed of one training."""

    seed: int
    diverged: Mapping[str, float]


def trainings(arms: Mapping[str, Sequence[Training]]) -> dict[str, list[dict]]:
    """What run.json says of every training that a run is made of, by what it is called: `{"seed",
    "diverged"}` for each seed.
    """
    return {
        name: [{"seed": training.seed, "diverged": dict(training.diverged)} for training in arm]
        for name, arm in arms.items()
    }


def warnings_of(facts: Mapping) -> tuple[list[str], bool]:
    """What is to be said of the trainings that exploded.

    Args:
        facts: of run.json: "seed", "kept", "trainings" (the first one ships, unless there is an
            "adaptation"), and the comparisons "verdict", "sharing" and "adaptation".

    Returns:
        A sentence for each training and phase; whether the model that ships exploded, or a training
        that one of the comparisons rests on.
    """
    found, bad = [], _exploded(facts)
    last = facts.get("kept", {}).get("rule") == "last"
    kept = "kept is its last epoch" if last else "kept is the best epoch all the same"
    for name, seeds in bad.items():
        for phase in dict.fromkeys(phase for phases in seeds.values() for phase in phases):
            losses = {seed: phases[phase] for seed, phases in seeds.items() if phase in phases}
            found.append(
                f"the training '{name}' diverged in phase '{phase}' (seed {_listed(losses)}): its "
                "loss ended at "
                f"{_listed(f'{loss:.3g}' for loss in losses.values())}; {kept}; try a "
                "--learning-rate a tenth of it, or "
                "--clip-norm 1"
            )
    compared = {name for names in _compared(facts) for name in names}
    return found, facts["seed"] in bad.get(_shipped(facts), ()) or not compared.isdisjoint(bad)


def cautioned(facts: Mapping) -> dict:
    """The comparisons of `facts`, where one rests on a training that exploded with a word of
    caution in its text.
    """
    bad = _exploded(facts)

    def careful(made: Mapping | None, names: Sequence[str]) -> Mapping | None:
        seeds = [
            f"'{name}' diverged with seed {_listed(bad[name])}" for name in names if name in bad
        ]
        if made is None or not seeds:
            return made
        return {
            **made,
            "text": f"{made['text'].rstrip('.')}; but {' and '.join(seeds)}: this does not compare "
            "what they can",
        }

    found: dict = {}
    if "verdict" in facts:
        found["verdict"] = careful(facts["verdict"], VERDICT)
    if "sharing" in facts:
        found["sharing"] = [careful(made, _sharing(facts, made)) for made in facts["sharing"]]
    if "adaptation" in facts:
        adaptation = facts["adaptation"]
        verdicts = {
            name: careful(made, (name, adaptation["baseline"]))
            for name, made in adaptation["verdicts"].items()
        }
        found["adaptation"] = {**adaptation, "verdicts": verdicts}
    return found


def _compared(facts: Mapping) -> list[Sequence[str]]:
    """The trainings that each comparison rests on; of methods, that of the one which ships."""
    found: list[Sequence[str]] = [VERDICT] if facts.get("verdict") else []
    found += [_sharing(facts, made) for made in facts.get("sharing", ())]
    return found + (
        [(_shipped(facts), facts["adaptation"]["baseline"])] if "adaptation" in facts else []
    )


def _shipped(facts: Mapping) -> str | None:
    if "adaptation" in facts:
        return facts["adaptation"]["chosen"]["method"]
    return next(iter(facts.get("trainings", ())), None)


def _sharing(facts: Mapping, made: Mapping) -> tuple[str | None, str]:
    return _shipped(facts), ALONE.format(task=made["task"])


def _exploded(facts: Mapping) -> dict[str, dict[int, Mapping[str, float]]]:
    """Of those that exploded: the loss by phase by seed, by what the training is called."""
    found = {
        name: {entry["seed"]: entry["diverged"] for entry in arm if entry["diverged"]}
        for name, arm in facts.get("trainings", {}).items()
    }
    return {name: seeds for name, seeds in found.items() if seeds}


def _listed(values: Iterable) -> str:
    return ", ".join(map(str, values))
