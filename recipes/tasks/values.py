"""Real numbers: the task of regression."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.targets import Target
from graft.recipes.data.records import Answer, Record
from graft.recipes.tasks.cells import Cell, Column, is_no_number, one_value
from graft.recipes.tasks.task import Task
from graft.zoo.errors import DataError
from graft.zoo.heads import heads
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.regression import REGRESSION

__all__ = ["RegressionTask"]

LARGEST = 1e30
"""A value, at most: losses and sums of errors are float32, which ends at 3.4e38."""


@dataclass(frozen=True)
class RegressionTask(Task):
    """A value for each target."""

    kind: ClassVar[Kind] = REGRESSION
    meaning: ClassVar[str] = "a number"
    in_columns: ClassVar[bool] = True
    from_one_label: ClassVar[bool] = False

    @classmethod
    def read_cell(cls, cell: Cell) -> tuple[str, Answer | None]:
        """A number."""
        if is_no_number(cell):
            return "", None
        text = one_value(cell)
        if not text:
            return text, None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{cell.where}: '{text}' of task '{cell.task}' is no number: correct it, or leave "
                "the "
                "cell empty"
            )
        if abs(value) > LARGEST:
            raise DataError(
                f"{cell.where}: '{text}' of task '{cell.task}' is too large: values go up to "
                f"{LARGEST:.0e}, write them in a larger unit"
            )
        return text, value

    @classmethod
    def of_column(cls, column: Column, answers: Mapping[str, Sequence[Answer]]) -> "RegressionTask":
        """With the mean and the spread of the training values."""
        values = np.array(answers["train"], np.float32).astype(float)  # as they are learned
        head = heads.regression(
            [column.name],
            name=column.name,
            dropout=column.dropout,
            centre=float(values.mean()),
            scale=float(values.std()) or 1.0,
        )
        return cls(head, column.name, column.weight, column=column.column)

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "RegressionTask":
        """The task of an artifact."""
        return cls(heads.regression(facts["labels"], name=name), **cls.where(name, facts, name))

    def _row(self, answer: Answer, index: Mapping[str, int], record: Record) -> np.ndarray:
        return np.full(1, answer, np.float32)

    def holds(self, target: Target) -> np.ndarray:
        """Whether a value is known, of whatever sign."""
        return ~np.isnan(target)

    def _others(self, outputs: np.ndarray, target: Target) -> dict[str, float]:
        error = float(np.mean(np.abs(outputs - target)))
        return {"mean_absolute_error": error, **super()._others(outputs, target)}

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The value, or several by name."""
        if len(row) == 1:
            return {"value": float(row[0])}
        return {"values": dict(zip(self.labels, map(float, row), strict=True))}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The same."""
        if "value" in said:
            return [f"{said['value']:.4g}"]
        return [f"{name} {value:.4g}" for name, value in said["values"].items()]

    def columns(self, said: Mapping) -> dict[str, Any]:
        """A column a value."""
        values = said.get("values", {})
        return {f"value_{name}": value for name, value in values.items()} or dict(said)

    def concern(self, figures: Mapping) -> str | None:
        """A model that is worse than the mean."""
        if figures.get("r2") is None or figures["r2"] >= 0:
            return None
        return (
            f"'{self.name}' is worse than always answering the mean (R² {figures['r2']:.2f} on the "
            "test "
            "split): train longer, or give more examples"
        )
