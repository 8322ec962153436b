"""Labelled data for a model that is there: records with the answers that its tasks ask for."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graft.recipes.codecs.examples import Examples
from graft.recipes.data import sentences, sources
from graft.recipes.data.records import Columns, Source
from graft.recipes.data.scenes import places
from graft.recipes.tasks import columns
from graft.recipes.tasks.group import Tasks
from graft.zoo.terminal import say

__all__ = ["LabelledData", "load_labelled"]


@dataclass
class LabelledData:
    """Labelled data for one model after the other: what they ask for alike, as all files of an
    export do, is read and encoded once. Only the last is kept, as it may be large.

    Attributes:
        data: as for `graft train`.
        options: what the columns of a table are called; see `load_labelled`.
    """

    data: str
    options: Mapping[str, Any]
    _source: tuple[Any, Source] | None = field(default=None, init=False, repr=False)
    _examples: "tuple[_Encoding, Examples] | None" = field(default=None, init=False, repr=False)

    def load(self, modality: str, tasks: Tasks) -> Source:
        """The records for a model of this modality with these tasks, by split; see
        `load_labelled`.
        """
        asked = (modality, _asked_of(tasks))
        if self._source is None or self._source[0] != asked:
            self._source = None
            say(f"reading '{self.data}'")
            self._source = asked, load_labelled(self.data, modality, tasks, self.options)
        return self._source[1]

    def encode(self, codec: Any, records: Sequence[Any], tasks: Tasks) -> Examples:
        """What `codec` makes of records that `load` gave, for `tasks`."""
        asked = _Encoding(codec, records, _asked_of(tasks))
        if self._examples is None or not self._examples[0].is_same(asked):
            self._examples = None  # two would fill the memory
            self._examples = asked, codec.encode(records, tasks, "decode")
        return self._examples[1]


@dataclass(frozen=True)
class _Encoding:
    """What encoded examples depend on."""

    codec: Any
    records: Sequence[Any]
    asked: Any

    def is_same(self, other: "_Encoding") -> bool:
        """Whether it gives the same. Records are not compared but recognised: they may hold
        arrays.
        """
        return (
            (self.codec, self.asked) == (other.codec, other.asked)
            and len(self.records) == len(other.records)
            and all(map(operator.is_, self.records, other.records))
        )


def _asked_of(tasks: Tasks) -> Any:
    """What tasks ask of records: heads hold functions, which are never equal."""
    return tasks.describe(), [(type(task), task.names) for task in tasks]


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
    if tasks.first.need:
        return places.load(data, need=tasks.first.need)
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
