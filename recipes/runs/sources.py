"""Labelled data for a model that is there: records with the answers that its tasks ask for."""

from collections.abc import Callable, Mapping
from typing import Any

from graft.recipes.data import sentences, sources
from graft.recipes.data.records import Columns, Source
from graft.recipes.tasks import columns
from graft.recipes.tasks.group import Tasks

__all__ = ["load_labelled"]


def load_labelled(data: str, modality: str, tasks: Tasks, options: Mapping[str, Any]) -> Source:
    """The records of `data` by split; nothing is trained on them.

    Args:
        data: as for `graft train`.
        modality: of the model.
        tasks: of the model.
        options: what the columns of a table are called: "path_column", "text_column", ...

    Raises:
        DataError, UnknownName, ConfigError: `data` cannot be used.
    """
    return LOADERS[modality](data, tasks, options)


def _images(data: str, tasks: Tasks, options: Mapping[str, Any]) -> Source:
    path_column = options.get("path_column", "path")
    if len(tasks) > 1 or tasks.first.column:
        asked = columns.columns_of(tasks.describe())
        return columns.load_task_table(data, asked, path_column=path_column, to_train=False)
    label_column = options.get("label_column", "label")
    return sources.load(data, path_column=path_column, label_column=label_column, to_train=False)


def _texts(data: str, tasks: Tasks, options: Mapping[str, Any]) -> Source:
    names = (options.get(f"{name}_column", name) for name in ("text", "label", "tags"))
    answers = {task.answer for task in tasks}
    need = [name for name in ("label", "tags") if any(a.startswith(name) for a in answers)]
    several = "labels" in answers
    return sentences.load(data, need=need, columns=Columns(*names), several=several, to_train=False)


LOADERS: dict[str, Callable[[str, Tasks, Mapping[str, Any]], Source]] = {
    "image": _images,
    "text": _texts,
}
"""By modality."""
