"""The one way from a problem to a run: splits, encoding, model, schedule, training, measuring, run
folder, report.

A recipe makes a `Problem` and calls `run`. What is trained beside the model that ships, and how one
of several is chosen, is a `Training`: `runs/supervised.py`, or `adapt/methods_compared.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft.recipes.codecs.examples import Examples
from graft.recipes.data import concerns, reading
from graft.recipes.data.membership import warn_of_alike
from graft.recipes.data.records import Source
from graft.recipes.report import report
from graft.recipes.runs import hints, run_facts, workspace, writing
from graft.recipes.runs.problem import Experiment, Problem
from graft.recipes.tasks.counted_words import Floor, measure_counted_words
from graft.recipes.train import fit, schedule
from graft.zoo.files.store import store_beside
from graft.zoo.graph.state import set_seed, set_weights
from graft.zoo.quiet import load_tensorflow
from graft.zoo.terminal import say, say_next, warn

__all__ = ["Problem", "run"]

FLOORS = {"text": measure_counted_words}
"""Modality -> what a model is held against that learned nothing but the training data."""


def run(problem: Problem, config: Any) -> Path:
    """Train, measure, write the run folder and print the outcome; returns the folder.

    Raises:
        GraftError: whatever is wrong with the request or the data; nothing is half-written.
    """
    config.fit.check_tasks(problem.tasks)
    settings = run_facts.plain(config)
    if workspace.finished(config.out, settings):
        return config.out
    with workspace.workspace(config.out, settings, problem.data.content) as folder:
        say(_summary(problem, problem.data.splits))
        load_tensorflow()
        experiment, floor, said = _prepared(problem, config, folder)
        outcome = problem.training(experiment)
        model = experiment.build("none", mixed=False)
        set_weights(model, outcome.kept.weights)
        say(f"measuring the model and writing '{config.out}'")
        writing.write_run(folder, model, experiment, outcome, {**said, "floor": floor})
        report.write(folder)
    problem.training.tell(config.out)
    if not writing.exit_code(config.out):
        say_next("graft", "export", config.out)
    return config.out


def _prepared(problem: Problem, config: Any, folder: Path) -> tuple[Experiment, Floor | None, dict]:
    """(what a training needs, counted words, what was found wrong with the data)."""
    data, backbone = problem.data, problem.backbone
    duplicates = concerns.warn_of_concerns(
        data.source, data.fingerprint, config.backbone, config.split_seed
    )
    store = store_beside(config.out, config.fit.cache)
    blank = Experiment(problem, config, folder, store, None, {}, ())
    set_seed(config.seed)
    model = blank.build()
    codec = backbone.codec(model, config)
    described = fit.describe_phases(model, problem.phases)
    # What adaptations add or switch off stays in what was described, and the copies of several
    # devices are built as such.
    if not config.fit.multi_gpu and all(phase.adapt == "weights" for phase in problem.phases):
        blank.ready.append(model)
    examples = _encoded(problem, codec)
    found = backbone.concerns(examples)
    for text in found:
        warn(text)
    hinted = hints.class_weights(problem.tasks, examples["train"].targets, config.fit)
    title = f"{config.schedule} of {backbone.name} ({backbone.weights})"
    say(schedule.table(title, described, config.fit.budget))
    floor = FLOORS.get(codec.modality)
    measured = floor and floor(problem.tasks, examples, examples.get("measured"))
    made = replace(blank, codec=codec, examples=examples, described=described)
    return made, measured, {"duplicates": duplicates, "warnings": found, "hints": hinted}


def _summary(problem: Problem, parts: Mapping[str, Any]) -> str:
    """What was found and what is used of the data, whose splits `parts` are."""
    tasks = problem.tasks
    counted = f"{len(tasks)} tasks" if len(tasks) > 1 else ""
    return reading.summary(problem.data.source, parts, problem.backbone.noun, counted)


def _encoded(problem: Problem, codec: Any) -> dict[str, Examples]:
    """The examples of every split, and those without labels; says how many there are where some
    could not be read, and warns of those that look the same in two splits.
    """
    data, tasks = problem.data, problem.tasks

    def encoded(records: Sequence, name: str) -> Examples:
        return codec.encode(records, tasks, f"decode {name}")

    examples = {split: encoded(records, split) for split, records in data.splits.items()}
    if any(part.skipped for part in examples.values()):
        say(_summary(problem, examples))
    warn_of_alike(examples, codec.same_as)
    if data.unlabelled:
        examples["unlabelled"] = encoded(data.unlabelled, "target")
        target = Source(data.target, (), {}, data.left_out)
        others = {"unlabelled": examples["unlabelled"]}
        say(f"without labels: {reading.summary(target, others, codec.noun)}")
    if data.measured:
        examples["measured"] = encoded(data.measured, "target test")
    for note in codec.notes({split: examples[split] for split in data.splits}):
        warn(note)
    return examples
