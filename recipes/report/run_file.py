"""run.json and confusion.npz of a run, read again: checked, and of an older schema brought to this
one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graft.zoo.errors import ArtifactError
from graft.zoo.files.guards import RESTORE_HINT, one_line_if_damaged
from graft.zoo.files.leases import refuse_unfinished
from graft.zoo.files.reading import check_schema, read_arrays, read_json
from graft.zoo.files.staging import recover_replaced
from graft.zoo.fits import is_image_size

__all__ = ["CONFUSION", "SCHEMA", "figures_by_task", "read_confusion", "read_run", "task_figures"]

SCHEMA = 2
"""1: one task on images has no "tasks", several have them in "metrics" alone."""
CONFUSION = "confusion.npz"
TYPES = {
    **dict.fromkeys(
        (
            "config",
            "data",
            "data.splits",
            "data.decode",
            "backbone",
            "backbone.weights",
            "schedule",
        ),
        dict,
    ),
    **dict.fromkeys(
        ("metrics", "metrics.validation", "metrics.test", "seconds", "versions", "verdict"), dict
    ),
    **dict.fromkeys(("adaptation", "counted_words", "confusion", "measure", "kept"), dict),
    **dict.fromkeys(("kept.phase", "kept.watched", "kept.rule"), str),
    **dict.fromkeys(("kept.epoch", "kept.of_all"), int),
    "kept.value": int | float,
    "data.image_size": int | list,
    **dict.fromkeys(
        (
            *("data.labels", "data.made_splits", "schedule.phases", "warnings", "sections"),
            "test_accuracy_by_seed",
        ),
        list,
    ),
    **dict.fromkeys(
        ("recipe", "modality", "data.source", "data.fingerprint", "backbone.name", "schedule.name"),
        str,
    ),
    **dict.fromkeys(
        ("seed", "data.split_seed", "data.max_length", "backbone.parameters"),
        int,
    ),
}
"""What stands where in run.json, where it does."""


def read_run(folder: Path) -> dict:
    """The content of `folder`/run.json.

    Raises:
        ArtifactError: no such run, a damaged file, or one of a newer Graft.
    """
    path = Path(folder) / "run.json"
    recover_replaced(Path(folder))
    if not path.is_file():
        refuse_unfinished(folder)
        raise ArtifactError(
            f"'{folder}' is no run: it holds no run.json; `graft train ... --out RUN` makes one"
        )
    content = read_json(path, dict)
    schema = check_schema(content, path, SCHEMA)
    _check_types(content, path)
    with one_line_if_damaged(path):
        return content if schema == SCHEMA else _upgraded(Path(folder), content)


def _check_types(content: Mapping, path: Path) -> None:
    """Refuse a run.json in which something that others rely on has another type."""
    for place, kind in TYPES.items():
        value: object = content
        for name in place.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if not isinstance(value, kind | None) or isinstance(value, bool):
            wanted = getattr(kind, "__name__", str(kind))
            raise ArtifactError(
                f"'{path}' is damaged (expected '{place}' to be {wanted}): {RESTORE_HINT}"
            )
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
        if size is not None and not is_image_size(size):
            raise ValueError(f"images of {size} pixels")


def _upgraded(folder: Path, content: dict) -> dict:
    """What an older Graft wrote, as this one writes it: "tasks" say what each output means, and
    figures stand under their names, of one task at the top level too.
    """
    described = {}
    if (folder / "preprocessing.json").is_file():
        described = read_json(folder / "preprocessing.json", dict).get("outputs", {})
    elif content.get("metrics"):
        labels = content["data"]["labels"]
        described = {"probabilities": {"kind": "single_label", "labels": labels}}
    judged = content.get("measure", {}).get("heads") or [{"name": "accuracy", "key": "accuracy"}]
    tasks = {
        name: {**facts, "figure": measure}
        for (name, facts), measure in zip(described.items(), judged, strict=False)
    }

    def by_task(figures: Mapping | None) -> Mapping | None:
        if not figures or "tasks" in figures or not tasks:
            return figures
        return {**figures, "tasks": {next(iter(tasks)): dict(figures)}}

    metrics = {split: by_task(figures) for split, figures in content.get("metrics", {}).items()}
    by_seed = content.get("test_by_seed")
    if by_seed is None and "test_accuracy_by_seed" in content:
        by_seed = [{"accuracy": value} for value in content["test_accuracy_by_seed"]]
    seeds = {} if by_seed is None else {"test_by_seed": [by_task(figures) for figures in by_seed]}
    return {
        **content,
        "schema": SCHEMA,
        "modality": content.get("modality", "image"),
        "tasks": tasks,
        "metrics": metrics,
        **seeds,
    }


def task_figures(figures: Mapping[str, Any]) -> Mapping[str, Mapping]:
    """The figures of each task of a split, by what a page calls it: "" where there is one."""
    return figures_by_task(figures["tasks"])


def figures_by_task(tasks: Mapping[str, Any]) -> Mapping[str, Any]:
    """What there is for each task, by what a page calls it: "" where there is one."""
    return dict(tasks) if len(tasks) > 1 else dict(zip([""], tasks.values(), strict=False))


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
