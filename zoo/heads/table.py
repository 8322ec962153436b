"""The kinds of answers, by name: a row each. Another package adds a row of its own as an entry
point.

    [options.entry_points]
    graft.tasks =
        ordinal = ordinal_package:OrdinalTask

names a class of `recipes/tasks` (its attribute `kind` is the `Kind` of this table), and is found by
every process that has the package installed. `tests/ordinal_package` is such a package.
"""

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from graft.zoo.errors import ConfigError, UnknownName
from graft.zoo.heads.dense.box_kind import BOXES
from graft.zoo.heads.embedding import EMBEDDING
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.masks.masks import MASKS
from graft.zoo.heads.multi_label import MULTI_LABEL
from graft.zoo.heads.regression import REGRESSION
from graft.zoo.heads.single_label import SINGLE_LABEL
from graft.zoo.heads.tags import TAGS

__all__ = [
    "GROUP",
    "KINDS",
    "all_kinds",
    "find_kind",
    "in_percent",
    "installed_tasks",
    "kind_names",
]

KINDS: tuple[Kind, ...] = (SINGLE_LABEL, MULTI_LABEL, TAGS, EMBEDDING, REGRESSION, MASKS, BOXES)
GROUP = "graft.tasks"


@cache
def installed_tasks() -> Mapping[str, Any]:
    """The tasks of other packages, by the name of their kind: classes of `recipes/tasks`.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    found = {}
    for entry in metadata.entry_points(group=GROUP):
        try:
            task = entry.load()
            found[task.kind.name] = task
        except Exception as error:  # whatever the code of another package raises
            raise ConfigError(
                f"the task '{entry.name}' of the package '{entry.dist and entry.dist.name}' cannot "
                f"be loaded ({type(error).__name__}: {error}): update or uninstall that package"
            ) from error
    return found


def all_kinds() -> tuple[Kind, ...]:
    """Our own, and those of other packages."""
    return (*KINDS, *(task.kind for task in installed_tasks().values()))


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


def in_percent(key: str) -> bool:
    """Whether the figure of this key in JSON is a share, which is written in percent."""
    return next((kind.in_percent for kind in all_kinds() if kind.key == key), True)
