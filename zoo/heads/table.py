"""The kinds of answers, by name: a row each. Another package adds a row of its own as an entry point.

    [options.entry_points]
    graft.tasks =
        ordinal = ordinal_package.task:Ordinal

names a class of `recipes/tasks` (its attribute `kind` is the `Kind` of this table), and is found by
every process that has the package installed.
"""

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from graft.zoo.errors import UnknownName
from graft.zoo.heads.embedding import EMBEDDING
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.multi_label import MULTI_LABEL
from graft.zoo.heads.regression import REGRESSION
from graft.zoo.heads.single_label import SINGLE_LABEL
from graft.zoo.heads.tags import TAGS

__all__ = ["GROUP", "KINDS", "find_kind", "installed_tasks", "kind_names"]

KINDS: tuple[Kind, ...] = (SINGLE_LABEL, MULTI_LABEL, TAGS, EMBEDDING, REGRESSION)
GROUP = "graft.tasks"


@cache
def installed_tasks() -> Mapping[str, Any]:
    """The tasks of other packages, by name: classes of `recipes/tasks`."""
    return {entry.name: entry.load() for entry in metadata.entry_points(group=GROUP)}


def kind_names() -> tuple[str, ...]:
    """All names, our own first."""
    return (*(kind.name for kind in KINDS), *installed_tasks())


def find_kind(name: str) -> Kind:
    """The kind of this name.

    Raises:
        UnknownName: there is none.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    if name in installed_tasks():
        return installed_tasks()[name].kind
    raise UnknownName("kind of answer", name, kind_names())
