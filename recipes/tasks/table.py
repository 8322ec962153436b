"""The tasks, by the name of their kind: a row each. Another package adds its own as an entry point
of the group `graft.tasks`; see `zoo/heads/table.py`.
"""

from collections.abc import Mapping, Sequence

from graft.recipes.tasks.dense.boxes import BoxTask
from graft.recipes.tasks.dense.masks import MaskTask
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.labels import MultiLabelTask, SingleLabelTask
from graft.recipes.tasks.tagging import TaggingTask
from graft.recipes.tasks.task import Task
from graft.recipes.tasks.values import RegressionTask
from graft.recipes.tasks.vectors import EmbeddingTask
from graft.zoo.errors import UnknownName
from graft.zoo.heads.head import Head, Heads
from graft.zoo.heads.table import installed_tasks, kind_names

__all__ = ["TASKS", "column_kinds", "find_task", "tasks_for", "tasks_of"]

TASKS: tuple[type[Task], ...] = (
    SingleLabelTask,
    MultiLabelTask,
    TaggingTask,
    EmbeddingTask,
    RegressionTask,
    MaskTask,
    BoxTask,
)


def find_task(kind: str) -> type[Task]:
    """The class of tasks of a kind of answer.

    Raises:
        UnknownName: there is none.
    """
    for task in TASKS:
        if task.kind.name == kind:
            return task
    if kind in installed_tasks():
        return installed_tasks()[kind]
    raise UnknownName("kind of answer", kind, kind_names())


def column_kinds() -> tuple[str, ...]:
    """The kinds that can be columns of a table."""
    classes = (*TASKS, *installed_tasks().values())
    return tuple(task.kind.name for task in classes if task.in_columns)


def tasks_of(described: Mapping[str, Mapping]) -> Tasks:
    """The tasks of an artifact; `described` is what its preprocessing.json says of each output."""
    return Tasks(
        tuple(find_task(facts["kind"]).described(name, facts) for name, facts in described.items())
    )


def tasks_for(heads: Heads | Head | Sequence[Head], names: Sequence[str] = ()) -> Tasks:
    """The tasks that heads are for, as they are made without more being said.

    Args:
        heads: one or several.
        names: the classes that vectors are trained by.
    """
    group = Heads.of(heads)
    weights = group.weights or (1.0,) * len(group.heads)
    tasks = tuple(
        find_task(head.kind.name)(head, weight=weight, names=() if head.labels else tuple(names))
        for head, weight in zip(group.heads, weights, strict=True)
    )
    return Tasks(tasks, group.weights is None, group.balanced)
