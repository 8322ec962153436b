"""The examples that an export needs: validation examples to measure the files on, training examples
to calibrate int8.

A run keeps a few of both, so that it can be exported after its data has moved; while the data is
where it was, the files are measured on the whole validation split. Test examples take no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graft.export.judge import Examples as ExportExamples
from graft.recipes.codecs.examples import Examples
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.codecs.targets import Target
from graft.recipes.data import splits
from graft.recipes.data.membership import Membership, find_membership
from graft.recipes.data.records import Record, Source
from graft.recipes.runs.sources import load_labelled
from graft.recipes.tasks.group import Tasks
from graft.zoo.errors import ConfigError, DataError, UnknownName
from graft.zoo.files.reading import read_arrays
from graft.zoo.terminal import warn

__all__ = ["CALIBRATION", "from_run", "from_source", "made_up"]

CALIBRATION = 200
"""Training examples that int8 is calibrated with."""

MAX_MEASURED = 2000
"""Of a larger validation split so many, drawn by seed 0: their 95 % interval is narrower than 2
points.
"""

MADE_UP = 16


def from_run(
    folder: Path, content: Mapping, data: str | None, codec: Any, tasks: Tasks
) -> tuple[ExportExamples, ExportExamples]:
    """(for measuring, for calibration) of the run in `folder`.

    Measured is on the validation split of `data`, by default the source that the run was trained
    on; where that has gone, on the examples that the run kept, with a warning.

    Args:
        folder: of the run.
        content: of its run.json.
        data: where the data lies now; None: where it was.
        codec, tasks: of the run.

    Raises:
        DataError, UnknownName: `data` was given and cannot be used.
        ArtifactError: what the run keeps cannot be read.
    """
    facts = content["data"]
    kept = read_arrays(Path(folder) / "examples.npz")
    names = kept["calibration_names"].tolist() if "calibration_names" in kept else None
    origin = facts.get("calibration", {"split": "train", "source": facts["source"]})
    calibration = ExportExamples(
        codec.inputs_of(_named(kept, "calibration_")), None, {**origin, "names": names}
    )
    try:
        source = load_labelled(data or facts["source"], codec.modality, tasks, content["config"])
        seen = find_membership(folder, facts)
        chosen = splits.reuse(source, "validation", facts, seen)
        found = codec.encode(_some(chosen), tasks, "decode validation")
        if seen is not None:
            seen.refuse_decoded(found, "validation")
    except (DataError, ConfigError, UnknownName) as error:
        if data is not None:
            raise
        return _kept(facts, kept, codec, tasks, error), calibration
    measured = _measured(codec, found, tasks, source.name, len(chosen))
    return replace(measured, stated=_stated(content, source, tasks, len(found))), calibration


def from_source(
    codec: ImageCodec, source: Source, tasks: Tasks, seen: Membership | None = None
) -> tuple[ExportExamples, ExportExamples]:
    """(for measuring, for calibration) from the validation and training split of `source`, made by
    seed 0 if missing; without `tasks` the inputs alone.

    Raises:
        DataError: the source has labels that the model does not know, or holds validation examples
            that it was trained on, as `seen` says.
    """
    source, _ = splits.complete(source, 0)
    chosen = source.splits["validation"]
    if seen is not None:
        seen.refuse(chosen, "validation")
    found = codec.encode(_some(chosen), tasks, "decode validation")
    if seen is not None:
        seen.refuse_decoded(found, "validation")
    train = source.splits["train"]
    order = np.sort(np.random.default_rng(0).permutation(len(train))[:CALIBRATION])
    own = codec.encode([train[i] for i in order], (), "decode train")
    facts = {"split": "train", "source": source.name, "names": list(own.names)}
    measured = _measured(codec, found, tasks, source.name, len(chosen))
    return measured, ExportExamples(codec.all_inputs(own), None, facts)


def made_up(shape: Sequence[int]) -> ExportExamples:
    """Smooth random images `(n, *shape)`: enough to see whether a float32 file computes what Keras
    computes.
    """
    height, width, channels = shape
    coarse = np.random.default_rng(0).uniform(0, 255, (MADE_UP, 8, 8, channels))
    rows, columns = (np.linspace(0, 7, side) for side in (height, width))
    images = np.float32(_interpolated(_interpolated(coarse, rows, 1), columns, 2))
    origin = "random images, because no --data was given"
    return ExportExamples(images, None, {"split": None, "source": origin})


def _interpolated(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    low = np.minimum(places.astype(int), values.shape[axis] - 2)
    weight = (places - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return values.take(low, axis) * (1 - weight) + values.take(low + 1, axis) * weight


def _some(chosen: Sequence[Record]) -> Sequence[Record]:
    """At most `MAX_MEASURED` of them."""
    if len(chosen) <= MAX_MEASURED:
        return chosen
    order = np.sort(np.random.default_rng(0).permutation(len(chosen))[:MAX_MEASURED])
    return [chosen[i] for i in order]


def _measured(
    codec: Any, found: Examples, tasks: Tasks | Sequence, source: str, of: int
) -> ExportExamples:
    """The examples of a split for an export."""
    scorers = {task.name: task.export_scorer(found.targets[task.name]) for task in tasks}
    return ExportExamples(
        codec.all_inputs(found),
        codec.target_arrays(found, np.arange(len(found))) or None,
        {"split": "validation", "source": source, "of": of},
        codec.originals(found),
        {name: scorer for name, scorer in scorers.items() if scorer is not None},
    )


def _kept(
    facts: Mapping, kept: Mapping[str, np.ndarray], codec: Any, tasks: Tasks, error: Exception
) -> ExportExamples:
    """The validation examples that a run keeps."""
    inputs = codec.inputs_of(_named(kept, "parity_"))
    count = len(kept["parity_names"])
    warn(
        f"the files are measured on the {count} validation {codec.noun}s that the run keeps, not "
        "on "
        f"all: {error}"
    )
    targets = {
        task.name: codec.widened(_kept_target(kept, task.name, facts), task.kind.by_position)
        for task in tasks
    }
    of = facts["splits"]["validation"]["examples"]
    return ExportExamples(
        inputs, targets, {"split": "validation", "source": "kept by the run", "of": of}
    )


def _kept_target(kept: Mapping[str, np.ndarray], name: str, facts: Mapping) -> Target:
    """The targets of a task among the arrays of a run; older ones have no name of the task, or of
    one task on images the numbers of labels.
    """
    for key in (f"parity_target_{name}", "parity_target_"):
        if key in kept:
            return kept[key]
    return np.eye(len(facts["labels"]), dtype=np.float32)[kept["parity_labels"]]


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        key.removeprefix(prefix): rows for key, rows in arrays.items() if key.startswith(prefix)
    }


def _stated(
    content: Mapping, source: Source, tasks: Tasks, examples: int
) -> dict[str, float | None] | None:
    """The figure that run.json states of each output on the validation split, so that an export can
    repeat it. None where it was measured on others than these `examples`: a part of them, or other
    data.
    """
    measured = content["metrics"]["validation"]
    if examples != measured["examples"] or not splits.same_data(
        source, content["data"]["fingerprint"]
    ):
        return None
    # Of one task the figures at the top are those that people and programs read.
    of_tasks = measured["tasks"] if len(tasks) > 1 else {tasks.first.name: measured}
    return {task.name: of_tasks[task.name].get(task.kind.key) for task in tasks}
