"""Vectors that are near where meanings are alike: the task of an embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.targets import Target
from graft.recipes.tasks.task import Task
from graft.zoo.heads import heads
from graft.zoo.heads.embedding import EMBEDDING, recall
from graft.zoo.heads.kind import Kind

__all__ = ["NEAREST", "EmbeddingTask"]

NEAREST = 5
"""Retrieval counts the nearest one, and the nearest so many."""


@dataclass(frozen=True)
class EmbeddingTask(Task):
    """A vector; its `names` are the classes that it is trained and measured by.

    A contrastive loss depends on who stands in a batch: the figure is watched.
    """

    kind: ClassVar[Kind] = EMBEDDING
    meaning: ClassVar[str] = "a vector of length 1"
    watched: ClassVar[str] = EMBEDDING.key

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "EmbeddingTask":
        """The task of an artifact."""
        return cls(heads.embedding(1, name=name), **cls.where(name, facts, "label"))

    def _figures(self, outputs: np.ndarray, target: Target) -> dict:
        """Each example asks for others of its label; those without one do not ask."""
        found: dict[str, Any] = {}
        for count in (1, NEAREST):
            made = recall(outputs, target, count)
            asking = int((~np.isnan(np.asarray(made.right, float))).sum())
            found[made.key] = made.value if asking else None
        return {"examples": len(target), **found, "queries": asking, "per_class": {}}

    def _can_watch(self, target: Target) -> bool:
        return bool((np.nan_to_num(target).sum(0) > 1).any())

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The vector."""
        return {"embedding": [float(value) for value in row]}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The vector."""
        return [" ".join(f"{value:.4f}" for value in said["embedding"])]

    def columns(self, said: Mapping) -> dict[str, Any]:
        """A column a number."""
        return {f"embedding_{place}": value for place, value in enumerate(said["embedding"])}
