"""The run directory: everything that a training leaves behind, and how it is read again.

run.json       configuration, seed, versions, data fingerprint, phases, metrics, verdict
history.csv    one row an epoch
model.keras    the trained model, float32
labels.txt     one label a line, in the order of the output
examples.npz   64 validation pictures for parity, 200 training pictures for calibration: a run can be exported
               after its data moved
confusion.npz  the confusion matrix of more than 100 labels: the cells that are not 0
samples.npz, mistakes.npz   pictures for the report
splits.npz     by which the examples of each split are known again: no model is measured on what it was trained on
test_units.npz what each test example contributes to the test figure of each seed: for paired comparisons
report.html    all of it for a person
"""

import dataclasses
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graft.export.manifest import describe_machine
from graft.recipes.train import divergence, fit
from graft.recipes.tasks import evaluation
from graft.recipes.report import explain, wording
from graft.recipes.data import membership, reading
from graft.recipes.runs.export_data import CALIBRATION
from graft.recipes.codecs.images import Images
from graft.zoo.terminal import tell, warn
from graft.recipes.data.sources import SPLITS, Source
from graft.recipes.codecs.texts import Texts
from graft.zoo import locks
from graft.zoo.backbones import weights
from graft.zoo.backbones.table import Backbone
from graft.zoo.errors import ArtifactError, CheckFailed
from graft.zoo.files import MEND, json_text, one_line_if_damaged, read_arrays, read_json, recover, staged_file, write_table, write_text
from graft.zoo.heads.heads import Head
from graft.zoo.backbones.own import load_keras
from graft.zoo.graph.stack import backbone_of
from graft.zoo.vision import DECODE

if TYPE_CHECKING:
    import keras

__all__ = [
    "SCHEMA",
    "Shipped",
    "concerns",
    "describe_backbone",
    "describe_data",
    "environment",
    "exit_code",
    "plain",
    "read",
    "read_confusion",
    "save_arrays",
    "shipped",
    "summarize",
    "with_membership",
    "write_classifier",
    "write_facts",
    "write_history",
    "write_model",
    "write_units",
]

SCHEMA = 1
CONFUSION = "confusion.npz"
MOST_IN_JSON = 100
"""Labels up to which run.json holds the confusion matrix itself."""
PARITY_EXAMPLES = 64
SAMPLES_PER_LABEL = 4
WORST_MISTAKES = 16
LARGEST_IMAGE = 10_000
"""Pixels; a run.json with a larger image_size is damaged."""
TYPES = {
    **dict.fromkeys(("config", "data", "data.splits", "data.decode", "backbone", "backbone.weights", "schedule"), dict),
    **dict.fromkeys(("metrics", "metrics.validation", "metrics.test", "seconds", "versions", "verdict"), dict),
    **dict.fromkeys(("adaptation", "counted_words", "confusion", "measure", "kept"), dict),
    **dict.fromkeys(("kept.phase", "kept.watched", "kept.rule"), str),
    **dict.fromkeys(("kept.epoch", "kept.of_all"), int),
    "kept.value": int | float,
    **dict.fromkeys(("data.labels", "data.made_splits", "schedule.phases", "warnings", "test_accuracy_by_seed"), list),
    **dict.fromkeys(("recipe", "modality", "data.source", "data.fingerprint", "backbone.name", "schedule.name"), str),
    **dict.fromkeys(("seed", "data.split_seed", "data.image_size", "data.max_length", "backbone.parameters"), int),
}
"""What stands where in run.json, where it does."""
PACKAGES = ("graft-zoo", "tensorflow", "keras", "keras-hub", "tokenizers", "numpy", "pillow", "scikit-learn")


def read(folder: Path) -> dict:
    """The content of `folder`/run.json.

    Raises:
        ArtifactError: no such run, a damaged file, or one of a newer Graft.
    """
    path = Path(folder) / "run.json"
    recover(Path(folder))
    if not path.is_file():
        locks.refuse_unfinished(folder)
        raise ArtifactError(f"'{folder}' is no run: it holds no run.json; `graft train ... --out "
            "RUN` makes one")
    content = read_json(path, dict)
    schema = content.get("schema")
    if not isinstance(schema, int):
        raise ArtifactError(f"'{path}' is damaged (no schema): {MEND}")
    if schema > SCHEMA:
        raise ArtifactError(f"'{path}' has schema {schema}, this Graft reads up to {SCHEMA}: "
            "update graft-zoo")
    _check_types(content, path)
    return content


def _check_types(content: Mapping, path: Path) -> None:
    """Refuse a run.json in which something that others rely on has another type."""
    for place, kind in TYPES.items():
        value: object = content
        for name in place.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if not isinstance(value, kind | None) or isinstance(value, bool):
            wanted = getattr(kind, "__name__", str(kind))
            raise ArtifactError(f"'{path}' is damaged (expected '{place}' to be {wanted}): {MEND}")
    with one_line_if_damaged(path):
        data = content.get("data") or {}
        labels = data.get("labels") or []
        if not all(isinstance(label, str) for label in labels):
            raise TypeError("a label is no text")
        for phase in (content.get("schedule") or {}).get("phases") or ():
            if not isinstance(phase, dict):
                raise TypeError("a phase is no object")
        for split, facts in (data.get("splits") or {}).items():
            if not isinstance(facts["examples"], int):
                raise TypeError(f"the examples of the {split} split are no number")
        size = data.get("image_size")
        if size is not None and not 1 <= size <= LARGEST_IMAGE:
            raise ValueError(f"images of {size} pixels")


def environment() -> dict:
    """What a run depends on beside its configuration: versions, machine, time, command."""
    versions = {"python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in PACKAGES}
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "command": command,
        "versions": versions,
        "machine": describe_machine(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def plain(config) -> dict:
    """A Config as JSON can hold it."""
    return {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()}


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
        "schedule": {"name": schedule, "phases": [a | b for a, b in zip(described, result.phases, strict=True)]},
        "kept": {
            "phase": described[kept["phase"]]["name"],
            "epoch": kept["epoch"],
            "of_all": kept["row"] + 1,
            **{name: kept[name] for name in ("watched", "value", "rule", "adapted") if name in kept},
        },
        "seconds": {"train": result.seconds},
    }


def describe_backbone(row: Backbone, spec: str, model: "keras.Model") -> dict:
    """What the model is made of, where its weights came from, and its size with the head."""
    return {
        "name": row.name,
        "parameters": model.count_params(),
        "paper": row.paper,
        "licence": row.licence,
        "weights": weights.describe(row, spec, image_size=model.inputs[0].shape[1]),
    }


def describe_data(
    source: Source,
    pixels: Mapping[str, Images],
    made: Sequence[str],
    split_seed: int,
    fingerprint: str,
    duplicates: int,
) -> dict:
    """The data as it was used: counts by split and label, what was made, skipped or found twice."""
    return {
        "source": source.name,
        "fingerprint": fingerprint,
        "labels": list(source.labels),
        "splits": {
            split: {
                "examples": len(images),
                "per_label": dict(zip(source.labels, images.targets.sum(0).astype(int).tolist(), strict=True)),
            }
            for split, images in pixels.items()
        },
        "made_splits": list(made),
        "split_seed": split_seed,
        "skipped": [message for images in pixels.values() for message in images.skipped],
        **reading.record(source, pixels),
        "duplicates_across_splits": duplicates,
        "image_size": pixels["train"].pixels.shape[1],
        "decode": DECODE,
    }


def with_membership(folder: Path, facts: Mapping, seen: Mapping[str, Images | Texts]) -> dict:
    """`facts` for run.json with what says which examples the model has `seen`, by split; writes
    splits.npz.
    """
    recorded = membership.write(folder, seen, facts.get("config", {}).get("backbone"))
    return {**facts, "data": {**facts["data"], "membership": recorded}}


def summarize(folder: Path) -> None:
    """Print the outcome of a run to stdout: accuracy, verdict, where things are."""
    content = read(folder)
    with one_line_if_damaged(Path(folder) / "run.json"):
        _tell_outcome(Path(folder), content)


def _tell_outcome(folder: Path, content: Mapping) -> None:
    by_seed = content["test_accuracy_by_seed"]
    text = f"test accuracy {content['metrics']['test']['accuracy']:.3f}"
    if len(by_seed) > 1:
        text += f" (seed {content['seed']}; {len(by_seed)} seeds: mean {np.mean(by_seed):.3f}, "
        text += f"{min(by_seed):.3f} to {max(by_seed):.3f})"
    tell(text)
    further = wording.further_text(content["metrics"]["test"], "accuracy")
    if further:
        tell(further)
    if content["verdict"]:
        tell(content["verdict"]["text"])
    tell(f"report: {Path(folder) / 'report.html'}")


def write_classifier(
    folder: Path,
    model: "keras.Model",
    head: Head,
    pixels: Mapping[str, Images],
    history: Sequence[dict],
    facts: dict,
    calibration: Images | None = None,
) -> None:
    """Measure `model` on the validation and test pictures and write all files but the report.

    int8 files are calibrated with `calibration`, pictures of the kind that the model is for and has
    trained on; by default those of the training split. run.json holds `facts` and, beside them,
    "metrics" by split and the "confusion" on the test split.
    """
    model = write_model(folder, model, pixels["validation"])
    outputs = {split: fit.predict(model, pixels[split])[0] for split in SPLITS[1:]}
    targets = {split: pixels[split].targets for split in outputs}
    write_text(folder / "labels.txt", "".join(f"{label}\n" for label in head.labels))
    write_history(folder, history)
    _write_examples(folder, pixels, calibration or pixels["train"])
    _write_mistakes(folder, model, pixels["test"], outputs["test"])
    measured = {
        "metrics": {split: evaluation.evaluate(head, outputs[split], targets[split]) for split in outputs},
        "confusion": {"split": "test", "matrix": evaluation.confusion(outputs["test"], targets["test"])},
    }
    seen = with_membership(folder, facts, {name: pixels[name] for name in pixels if name in (*SPLITS, "unlabelled")})
    content = {"schema": SCHEMA, **seen, **measured, **concerns(facts, measured["metrics"]["test"], [head])}
    write_facts(folder, content)


def write_facts(folder: Path, content: Mapping) -> None:
    """Write run.json; a confusion matrix of many labels goes into confusion.npz beside it, as the
    cells that are not 0.
    """
    confusion = content.get("confusion")
    if confusion and len(confusion["matrix"]) > MOST_IN_JSON:
        matrix = np.asarray(confusion["matrix"], np.int32)
        rows, columns = np.nonzero(matrix)
        save_arrays(folder / CONFUSION, truth=np.int32(rows), predicted=np.int32(columns), count=matrix[rows, columns])
        labels = confusion.get("labels", content["data"]["labels"])
        named = {} if labels == content["data"]["labels"] else {"labels": labels}
        content = {**content, "confusion": {"split": confusion["split"], **named, "file": CONFUSION}}
    write_text(folder / "run.json", json_text(content) + "\n")


def read_confusion(folder: Path, content: Mapping) -> dict | None:
    """`{"split", "labels", "matrix"}` of a run whose run.json holds `content`: counts
    `[truth][prediction]`, int64 `(labels, labels)`; None where it has none.

    Raises:
        ArtifactError: confusion.npz is missing or damaged.
    """
    confusion = content.get("confusion")
    if not confusion:
        return None
    labels = confusion.get("labels", content["data"]["labels"])
    if "matrix" in confusion:
        matrix = np.asarray(confusion["matrix"], np.int64)
    else:
        cells = read_arrays(Path(folder) / CONFUSION)
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        matrix[cells["truth"], cells["predicted"]] = cells["count"]
    return {"split": confusion["split"], "labels": labels, "matrix": matrix}


def write_model(folder: Path, model: "keras.Model", validation: Images | Texts) -> "keras.Model":
    """Write model.keras, open it again and return what was opened: every figure that a run states
    is that of the file.

    Raises:
        CheckFailed: the file answers the `validation` examples otherwise than `model`.
    """
    import keras

    with staged_file(folder / "model.keras") as path:
        model.save(path)
    opened = load_keras(folder / "model.keras")
    pairs = zip(*(keras.tree.flatten(fit.predict(each, validation)[0]) for each in (model, opened)), strict=True)
    for before, after in pairs:
        if not np.allclose(before, after, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise CheckFailed(
                "model.keras answers otherwise than the model that was trained (by up to "
                f"{np.abs(before - after).max():.3g} on {len(validation)} validation examples): "
                "some layer has a state that "
                "Keras does not save; use layers that can be saved"
            )
    return opened


def concerns(facts: Mapping, test: Mapping, heads: Sequence[Head]) -> dict:
    """What went wrong in the trainings of a run, for its run.json, and says it.

    Args:
        facts: what run.json holds already: see `divergence.warnings_of`. The first of the warnings
            are those of its "warnings", which were said before.
        test: the figures on the test split.
        heads: of the model that ships.

    Returns:
        "warnings", sentences; "diverged", whether what ships or is compared exploded; and the
        comparisons, with a word of caution where they rest on a training that did.
    """
    found, diverged = divergence.warnings_of(facts)
    for head in heads:
        figures = test.get("tasks", {head.name: test})[head.name]
        if head.kind == "regression" and figures.get("r2") is not None and figures["r2"] < 0:
            found.append(
                f"'{head.name}' is worse than always answering the mean (R² {figures['r2']:.2f} on "
                "the test split): train "
                "longer, or give more examples"
            )
    for text in found:
        warn(text)
    return {
        **divergence.cautioned(facts),
        "warnings": [*facts.get("warnings", ()), *found],
        "diverged": diverged,
    }


def exit_code(folder: Path) -> int:
    """1 where a training that the run in `folder` ships or compares diverged, else 0."""
    return int((Path(folder) / "run.json").is_file() and bool(read(folder).get("diverged")))


def write_units(folder: Path, units: np.ndarray) -> None:
    """Write test_units.npz: what each test example contributes to the figure of each seed, `(seeds,
    n)`, so that other runs on the same test examples can be compared with this one example by
    example.
    """
    save_arrays(folder / "test_units.npz", units=np.asarray(units, np.float32))


def write_history(folder: Path, rows: Sequence[dict]) -> None:
    """Write history.csv, a row an epoch."""
    write_table(folder / "history.csv", rows)


def _write_examples(folder: Path, pixels: Mapping[str, Images], calibrated: Images, seed: int = 0) -> None:
    """Pictures for the export's checks and, a few of each class, for the report."""
    train, validation = pixels["train"], pixels["validation"]
    rng = np.random.default_rng(seed)
    parity = np.sort(rng.permutation(len(validation))[:PARITY_EXAMPLES])
    calibration = np.sort(rng.permutation(len(calibrated))[:CALIBRATION])
    save_arrays(
        folder / "examples.npz",
        parity_images=validation.pixels[parity],
        parity_labels=validation.classes[parity],
        parity_names=np.array([validation.names[i] for i in parity], dtype=str),
        calibration_images=calibrated.pixels[calibration],
        calibration_names=np.array([calibrated.names[i] for i in calibration], dtype=str),
    )
    classes = range(train.targets.shape[-1])
    shown = np.concatenate([np.flatnonzero(train.classes == c)[:SAMPLES_PER_LABEL] for c in classes])
    save_arrays(folder / "samples.npz", images=train.pixels[shown], labels=train.classes[shown])


def _write_mistakes(folder: Path, model: "keras.Model", test: Images, outputs: np.ndarray) -> None:
    """The most confident mistakes on the test split, each with what the model looked at."""
    worst = evaluation.worst_mistakes(outputs, test.targets, WORST_MISTAKES)
    predicted = outputs[worst].argmax(-1)
    # A backbone that ends in a vector has no places to point at.
    spatial = len(backbone_of(model).outputs[0].shape) == 4
    save_arrays(
        folder / "mistakes.npz",
        images=test.pixels[worst],
        truth=test.classes[worst],
        predicted=predicted,
        probability=outputs[worst].max(-1),
        names=np.array([test.names[i] for i in worst], dtype=str),
        **({"heatmaps": explain.grad_cam(model, np.float32(test.pixels[worst]), predicted)} if spatial else {}),
    )


def save_arrays(target: Path, **arrays: np.ndarray) -> None:
    """Write a compressed NumPy archive, whole or not at all."""
    with staged_file(target) as path:
        np.savez_compressed(path, **arrays)
