"""What run.json says of a run: where it was made, what of, which weights ship, what went wrong."""

import dataclasses
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from graft.export import manifest
from graft.recipes.codecs.examples import Examples
from graft.recipes.data import reading
from graft.recipes.data.membership import write_membership
from graft.recipes.data.records import SPLITS
from graft.recipes.runs import divergence
from graft.recipes.runs.problem import Experiment, Outcome
from graft.recipes.tasks.group import Tasks
from graft.zoo.terminal import warn

__all__ = [
    "Shipped",
    "concerns",
    "describe_data",
    "describe_target",
    "environment",
    "plain",
    "shipped",
    "with_membership",
]

PACKAGES = (
    "graft-zoo",
    "tensorflow",
    "keras",
    "keras-hub",
    "tokenizers",
    "numpy",
    "pillow",
    "scikit-learn",
)


def environment() -> dict:
    """What a run depends on beside its configuration: versions, machine, time, command."""
    versions = {"python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in PACKAGES}
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "command": command,
        "versions": versions,
        "machine": manifest.describe_machine(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def plain(config: Any) -> dict:
    """A Config as JSON can hold it."""
    return {
        name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()
    }


class Shipped(Protocol):
    """One seed's result, where several methods are compared that of one of them; see
    `fit.Trained`.
    """

    seed: int
    phases: Sequence[Mapping]
    seconds: float
    kept: Mapping


def shipped(result: Shipped, schedule: str, described: Sequence[Mapping]) -> dict:
    """What run.json says of the training whose model ships, in every recipe.

    Args:
        result: that training.
        schedule: its name.
        described: the phases, as `fit.describe_phases` has them.

    Returns:
        "seed", "seconds", "schedule" with what came of each phase, and "kept": the epoch whose
        weights ship, as `{"phase", "epoch" (in that phase, from 1), "of_all" (its row in
        history.csv, from 1), "watched", "value", "rule"}`. `watched` is the validation figure of
        that `value`; by the rule "best" it chose the epoch, by "last" it did not. "adapted" names
        the method that changed those weights afterwards, of which the value knows nothing.
    """
    kept = result.kept
    return {
        "seed": result.seed,
        "schedule": {
            "name": schedule,
            "phases": [{**a, **b} for a, b in zip(described, result.phases, strict=True)],
        },
        "kept": {
            "phase": described[kept["phase"]]["name"],
            "epoch": kept["epoch"],
            "of_all": kept["row"] + 1,
            **{
                name: kept[name] for name in ("watched", "value", "rule", "adapted") if name in kept
            },
        },
        "seconds": {"train": result.seconds},
    }


def describe_data(experiment: Experiment, found: Mapping[str, Any], outcome: Outcome) -> dict:
    """The data as they were used: counts by split and label, what was made, skipped, cut or found
    twice.

    Args:
        experiment: what was trained for and on.
        found: "duplicates" across splits and "hints", as they were said.
        outcome: what the training gave.
    """
    problem, examples = experiment.problem, experiment.examples
    data, tasks, first = problem.data, problem.tasks, problem.tasks.first
    own = {split: examples[split] for split in data.splits}

    def counts(part: Examples) -> dict:
        several = {
            task.name: task.answered(part.targets[task.name]) for task in tasks if len(tasks) > 1
        }
        return {
            "examples": len(part),
            "per_label": first.label_counts(part.targets[first.name]),
            **({"answers": several} if several else {}),
            **experiment.codec.facts_of(part),
        }

    described = {
        "source": data.source.name,
        "fingerprint": data.fingerprint,
        "labels": list(first.shown_labels),
        "splits": {split: counts(part) for split, part in own.items()},
        "made_splits": list(data.made),
        "split_seed": experiment.config.split_seed,
        "skipped": [message for part in own.values() for message in part.skipped],
        **reading.record(data.source, own),
        "duplicates_across_splits": found["duplicates"],
        **experiment.codec.facts,
        "hints": found["hints"],
    }
    if data.target:
        described["target"] = describe_target(experiment)
    if outcome.calibration != "train":
        described["calibration"] = {"split": outcome.calibration, "source": data.target}
    return described


def describe_target(experiment: Experiment) -> dict:
    """The unlabelled examples as they were used, and those of the target that were measured on."""
    data, examples = experiment.problem.data, experiment.examples
    unlabelled, measured = examples["unlabelled"], examples.get("measured")
    parts = [part for part in (unlabelled, measured) if part is not None]
    # Not by name: line 7 of train.csv is another sentence than line 7 of test.csv.
    known = {record.digest for record in data.unlabelled}
    same = measured is not None and {record.digest for record in data.measured} <= known
    return {
        "source": data.target,
        **reading.record_of(data.left_out, {"unlabelled": unlabelled}),
        "unlabelled": len(unlabelled),
        "measured": 0 if measured is None else len(measured),
        "measured_are_unlabelled": same,
        "skipped": [message for part in parts for message in part.skipped],
    }


def with_membership(folder: Path, facts: Mapping, examples: Mapping[str, Examples]) -> dict:
    """`facts` for run.json with what says which examples the model has seen, by split; writes
    splits.npz.
    """
    seen = {name: part for name, part in examples.items() if name in (*SPLITS, "unlabelled")}
    recorded = write_membership(folder, seen, facts.get("config", {}).get("backbone"))
    return {**facts, "data": {**facts["data"], "membership": recorded}}


def concerns(facts: Mapping, test: Mapping, tasks: Tasks | Sequence[Any]) -> dict:
    """What went wrong in the trainings of a run, for its run.json, and says it.

    Args:
        facts: what run.json holds already: see `divergence.warnings_of`. The first of the warnings
            are those of its "warnings", which were said before.
        test: the figures on the test split.
        tasks: of the model that ships.

    Returns:
        "warnings", sentences; "diverged", whether what ships or is compared exploded; and the
        comparisons, with a word of caution where they rest on a training that did.
    """
    found, diverged = divergence.warnings_of(facts)
    for task in tasks:
        concern = task.concern(test["tasks"][task.name])
        found += [concern] if concern else []
    for text in found:
        warn(text)
    return {
        **divergence.cautioned(facts),
        "warnings": [*facts.get("warnings", ()), *found],
        "diverged": diverged,
    }
