"""The files of a run: everything that a training leaves behind.

run.json            configuration, seed, versions, data fingerprint, phases, tasks, metrics, verdict
history.csv         one row an epoch
model.keras         the trained model, float32
preprocessing.json  how an example goes in and what comes out, task by task; every exported file
                    carries it
labels.txt          one label a line, those of the first task
tokenizer.json, vocab.txt   of texts: what turns them into ids
examples.npz        64 validation examples for parity, 200 training examples for calibration: a run
                    can be exported after its data moved
confusion.npz       the confusion matrix of more than 100 labels: the cells that are not 0
samples.npz, mistakes.npz, places.npz   images for the report
texts.json          of texts: lengths, samples and mistakes for the report
splits.npz          by which the examples of each split are known again: no model is measured on
                    what it was trained on
test_units.npz      what each test example contributes to the test figure of each seed, of one task:
                    for paired comparisons
report.html         all of it for a person
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.report.run_file import CONFUSION, SCHEMA, read_run
from graft.recipes.report.shown_examples import keep_shown_examples
from graft.recipes.runs import run_facts
from graft.recipes.runs.examples import CALIBRATION
from graft.recipes.runs.problem import Experiment, Outcome
from graft.recipes.tasks.counted_words import compare_with_counted_words
from graft.recipes.tasks.group import Tasks
from graft.recipes.train import fit
from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.errors import CheckFailed
from graft.zoo.files.staging import staged_file
from graft.zoo.files.writing import format_json, save_arrays, write_csv, write_text

if TYPE_CHECKING:
    import keras

__all__ = ["exit_code", "write_facts", "write_history", "write_model", "write_run"]

MOST_IN_JSON = 100
"""Labels up to which run.json holds the confusion matrix itself."""
PARITY_EXAMPLES = 64


def exit_code(folder: Path) -> int:
    """1 where a training that the run in `folder` ships or compares diverged, else 0."""
    return int((Path(folder) / "run.json").is_file() and bool(read_run(folder).get("diverged")))


def write_run(
    folder: Path,
    model: "keras.Model",
    experiment: Experiment,
    outcome: Outcome,
    found: Mapping[str, Any],
) -> None:
    """Measure `model` on the validation and test examples and write all files but the report.

    Args:
        folder: of the run.
        model: with the weights that ship.
        experiment: what it was trained for and on.
        outcome: what the training gave.
        found: "duplicates" across splits, "warnings" and "hints" that were said of the data, the
            "floor" of counted words.
    """
    problem, codec, examples = experiment.problem, experiment.codec, experiment.examples
    tasks = problem.tasks
    model, validation = write_model(folder, model, examples["validation"])
    size = model.inputs[0].shape[1:3]
    outputs = {"validation": tasks.answers(validation, size), "test": outcome.outputs}
    if outcome.outputs is None:
        outputs["test"] = tasks.answers(fit.predict(model, examples["test"])[0], size)
    first = tasks.first.head.labels
    write_text(folder / "labels.txt", "".join(f"{label}\n" for label in first))
    described = codec.describe(examples["train"]) | {"tasks": tasks.describe()}
    text = json.dumps(described, ensure_ascii=False, indent=2)
    write_text(folder / "preprocessing.json", text + "\n")
    for name, content in codec.attached.items():
        write_text(folder / name, content)
    write_history(folder, outcome.kept.history)
    if outcome.units is not None:
        save_arrays(folder / "test_units.npz", units=np.asarray(outcome.units, np.float32))
    _write_examples(folder, experiment, examples[outcome.calibration])
    keep_shown_examples(folder, model, experiment, outputs["test"])
    metrics = {split: tasks.figures(outputs[split], examples[split].targets) for split in outputs}
    facts = {
        "recipe": problem.recipe,
        "modality": codec.modality,
        **run_facts.environment(),
        "config": run_facts.plain(experiment.config),
        **run_facts.shipped(outcome.kept, experiment.config.schedule, experiment.described),
        "backbone": problem.backbone.describe(model),
        "tasks": {task.name: task.describe() | {"figure": task.measure} for task in tasks},
        "measure": {**tasks.first.measure, "heads": [task.measure for task in tasks]},
        "data": run_facts.describe_data(experiment, found, outcome),
        "warnings": list(found["warnings"]),
        **outcome.facts,
    }
    facts = run_facts.with_membership(folder, facts, examples)
    content = {
        "schema": SCHEMA,
        **facts,
        **run_facts.concerns(facts, metrics["test"], tasks),
        "metrics": metrics,
        "confusion": _confusion(tasks, outputs["test"], examples["test"]),
        "sections": _sections(tasks, outputs["test"], examples["test"]),
        "counted_words": _counted_words(model, experiment, outputs["test"], found["floor"]),
    }
    write_facts(folder, content)


def _counted_words(
    model: "keras.Model", experiment: Experiment, outputs: Mapping, floor: Any
) -> dict | None:
    """What counted words say of the examples that the model is for."""
    if floor is None:
        return None
    measured = experiment.examples.get("measured")
    if measured is not None:
        outputs = experiment.problem.tasks.of_output(fit.predict(model, measured)[0])
    return compare_with_counted_words(floor, outputs[floor.task.name])


def _confusion(tasks: Tasks, outputs: Mapping, examples: Examples) -> dict | None:
    """Of the first task that chooses one label."""
    for task in tasks:
        matrix = task.confusion(outputs[task.name], examples.targets[task.name])
        if matrix is not None:
            return {"split": "test", "labels": list(task.shown_labels), "matrix": matrix}
    return None


def _sections(tasks: Tasks, outputs: Mapping, examples: Examples) -> list[dict]:
    """What the report shows of the tasks that have something of their own to show."""
    found = [
        (task.name, task.section(outputs[task.name], examples.targets[task.name])) for task in tasks
    ]
    return [{"task": name, **shown} for name, shown in found if shown is not None]


def write_facts(folder: Path, content: Mapping) -> None:
    """Write run.json; a confusion matrix of many labels goes into confusion.npz beside it, as the
    cells that are not 0.
    """
    confusion = content.get("confusion")
    if confusion and len(confusion["matrix"]) > MOST_IN_JSON:
        matrix = np.asarray(confusion["matrix"], np.int32)
        rows, columns = np.nonzero(matrix)
        save_arrays(
            folder / CONFUSION,
            truth=rows.astype(np.int32),
            predicted=columns.astype(np.int32),
            count=matrix[rows, columns],
        )
        labels = confusion.get("labels", content["data"]["labels"])
        named = {} if labels == content["data"]["labels"] else {"labels": labels}
        content = {
            **content,
            "confusion": {"split": confusion["split"], **named, "file": CONFUSION},
        }
    write_text(folder / "run.json", format_json(content) + "\n")


def write_model(
    folder: Path, model: "keras.Model", validation: Examples
) -> tuple["keras.Model", Any]:
    """Write model.keras, open it again and return what was opened and its outputs for the
    `validation` examples: the figures that a run states of them are those of the file.

    Raises:
        CheckFailed: the file answers the `validation` examples otherwise than `model`.
    """
    import keras

    with staged_file(folder / "model.keras") as path:
        model.save(path)
    opened = load_keras_model(folder / "model.keras")
    given, outputs = (fit.predict(each, validation)[0] for each in (model, opened))
    pairs = zip(keras.tree.flatten(given), keras.tree.flatten(outputs), strict=True)
    for before, after in pairs:
        if not np.allclose(before, after, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise CheckFailed(
                "model.keras answers otherwise than the model that was trained (by up to "
                f"{np.abs(before - after).max():.3g} on {len(validation)} validation examples): "
                "some layer has a state that Keras does not save; use layers that can be saved"
            )
    return opened, outputs


def write_history(folder: Path, rows: Sequence[dict]) -> None:
    """Write history.csv, a row an epoch."""
    write_csv(folder / "history.csv", rows)


def _write_examples(
    folder: Path, experiment: Experiment, calibrated: Examples, seed: int = 0
) -> None:
    """Validation examples for parity and `calibrated` ones for the export's checks."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    validation, codec = experiment.examples["validation"], experiment.codec
    for name, part, count in (
        ("parity", validation, PARITY_EXAMPLES),
        ("calibration", calibrated, CALIBRATION),
    ):
        chosen = np.sort(rng.permutation(len(part))[:count])
        arrays |= {f"{name}_{key}": rows for key, rows in codec.arrays(part, chosen).items()}
        arrays[f"{name}_names"] = np.array([part.names[i] for i in chosen], dtype=str)
        if name == "parity":
            targets = codec.target_arrays(part, chosen)
            arrays |= {f"{name}_target_{task}": rows for task, rows in targets.items()}
    save_arrays(folder / "examples.npz", **arrays)
