"""One label of several, or any number of them: what the tasks of these kinds share, and each
itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.targets import Target
from graft.recipes.data.labels import sort_labels
from graft.recipes.data.records import Answer
from graft.recipes.data.tables.cells import note_if_missing, read_label
from graft.recipes.tasks.cells import Cell, Column, is_no_label, one_value
from graft.recipes.tasks.task import Task
from graft.zoo.errors import CheckFailed
from graft.zoo.heads import heads
from graft.zoo.heads.head import Head
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.multi_label import MULTI_LABEL
from graft.zoo.heads.single_label import SINGLE_LABEL

__all__ = ["MultiLabelTask", "SingleLabelTask", "binary_figures", "check_probabilities"]

ROUNDING = 0.02
"""How far beyond 0 and 1 a probability of a file of 8 bits may lie."""


def check_probabilities(row: np.ndarray) -> None:
    """Refuse numbers that are no probabilities.

    Raises:
        CheckFailed: one lies beyond 0 and 1.
    """
    if row.min() < -ROUNDING or row.max() > 1 + ROUNDING:
        raise CheckFailed(
            f"the model answers {float(row[np.abs(row).argmax()]):.3g} where a probability is "
            "expected: "
            "export it again from its .keras file, with --outputs logits if these are scores "
            "behind no "
            "softmax, or --outputs values"
        )


def _scores(labels: Sequence[str], row: np.ndarray) -> dict[str, float]:
    return dict(zip(labels, map(float, row), strict=True))


def _highest(scores: Mapping[str, float], top: int) -> list[str]:
    best = sorted(scores.items(), key=lambda item: -item[1])[:top]
    return [f"{label} {probability:.3f}" for label, probability in best]


class _LabelsTask(Task):
    """What says how likely each label is."""

    counts_words: ClassVar[bool] = True
    in_columns: ClassVar[bool] = True
    least_labels: ClassVar[int] = 1
    head_of: ClassVar[Callable[..., Head]]
    asked: ClassVar[str]
    """Which of the answers of a record it learns where nobody says so."""

    @classmethod
    def of_column(cls, column: Column, answers: Mapping[str, Sequence[Answer]]) -> Self:
        """Of the labels that occur."""
        labels = sort_labels(
            label for split in answers.values() for each in split for label in each
        )
        head = cls.head_of(labels, name=column.name, dropout=column.dropout)
        return cls(head, column.name, column.weight, column=column.column)

    @classmethod
    def described(cls, name: str, facts: Mapping) -> Self:
        """The task of an artifact."""
        return cls(cls.head_of(facts["labels"], name=name), **cls.where(name, facts, cls.asked))

    def columns(self, said: Mapping) -> dict[str, Any]:
        """A column a label, behind the answer."""
        answer = {
            key: ";".join(value) if isinstance(value, list) else value
            for key, value in said.items()
            if key != "scores"
        }
        return answer | {f"score_{label}": value for label, value in said["scores"].items()}


@dataclass(frozen=True)
class SingleLabelTask(_LabelsTask):
    """Exactly one label holds."""

    kind: ClassVar[Kind] = SINGLE_LABEL
    head_of: ClassVar[Callable[..., Head]] = staticmethod(heads.single_label)
    asked: ClassVar[str] = "label"
    chooses: ClassVar[bool] = True
    least_labels: ClassVar[int] = 2
    meaning: ClassVar[str] = "a probability for each label"

    @classmethod
    def read_cell(cls, cell: Cell) -> tuple[str, Answer | None]:
        """One label."""
        if is_no_label(cell):
            return "", None
        learned = f"--tasks {cell.task}={cell.column}:multi_label learns several labels"
        text = one_value(cell, f": {learned}")
        note_if_missing(cell.row, [text], cell.tally)
        label = text.strip()
        return text, (label,) if label else None

    def _figures(self, outputs: np.ndarray, target: Target) -> dict:
        """Beside those of the head: balanced accuracy and macro F1, and of two labels those of
        `binary_figures`.

        A label that does not occur has recall 0 and examples 0; it counts neither for the balanced
        accuracy nor, unless it was predicted, for the macro F1.
        """
        from sklearn.metrics import precision_recall_fscore_support

        truth, predicted = target.argmax(-1), outputs.argmax(-1)
        columns = precision_recall_fscore_support(
            truth, predicted, labels=range(len(self.labels)), zero_division=0.0
        )
        per_class = {
            label: {"precision": float(p), "recall": float(r), "f1": float(f), "examples": int(n)}
            for label, p, r, f, n in zip(self.labels, *columns, strict=True)
        }
        _, recall, f1, occurs = columns
        concerned = (occurs > 0) | (np.bincount(predicted, minlength=len(occurs)) > 0)
        return {
            "examples": len(target),
            **self._of_head(outputs, target),
            "balanced_accuracy": float(recall[occurs > 0].mean()),
            "macro_f1": float(f1[concerned].mean()),
            **(binary_figures(self.labels, outputs, target) if len(self.labels) == 2 else {}),
            "per_class": per_class,
        }

    def confusion(self, outputs: np.ndarray, target: Target) -> list[list[int]] | None:
        """Counts `[truth][prediction]`."""
        from sklearn.metrics import confusion_matrix

        outputs, target = self._known(outputs, target)
        truth, predicted = target.argmax(-1), outputs.argmax(-1)
        return confusion_matrix(truth, predicted, labels=range(target.shape[-1])).tolist()

    def _losses(self, outputs: np.ndarray, target: Target) -> np.ndarray:
        """As the head's figures have it: without smoothing, and not cut off at 16."""
        rows = outputs / np.sum(outputs, -1, keepdims=True, dtype=np.float64)
        return -np.log(np.maximum((rows * target).sum(-1), np.finfo(float).eps))

    def _others(self, outputs: np.ndarray, target: Target) -> dict[str, float]:
        return {"accuracy": float(np.mean(outputs.argmax(-1) == target.argmax(-1)))}

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The likeliest label, and how likely each is."""
        check_probabilities(row)
        best = int(row.argmax())
        scores = _scores(self.labels, row)
        return {"label": self.labels[best], "probability": float(row[best]), "scores": scores}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The likeliest labels."""
        return _highest(said["scores"], top)


@dataclass(frozen=True)
class MultiLabelTask(_LabelsTask):
    """Any number of labels hold."""

    kind: ClassVar[Kind] = MULTI_LABEL
    head_of: ClassVar[Callable[..., Head]] = staticmethod(heads.multi_label)
    asked: ClassVar[str] = "labels"
    from_one_label: ClassVar[bool] = False
    meaning: ClassVar[str] = "an independent probability for each label"

    @classmethod
    def read_cell(cls, cell: Cell) -> tuple[str, Answer | None]:
        """Labels with ";" between them."""
        if is_no_label(cell):
            return "", None
        text = read_label(cell.row, cell.column, several=True, tally=cell.tally)
        labels = tuple(part.strip() for part in text.split(";") if part.strip())
        return text, labels if text else None

    def per_label(self, outputs: np.ndarray, target: Target) -> dict:
        """Of each label at 0.5."""
        from sklearn.metrics import precision_recall_fscore_support

        found = {}
        for label, truth, said in zip(self.labels, target.T >= 0.5, outputs.T >= 0.5, strict=True):
            p, r, f, _ = precision_recall_fscore_support(
                truth, said, average="binary", zero_division=0.0
            )
            found[label] = {
                "precision": float(p),
                "recall": float(r),
                "f1": float(f),
                "examples": int(truth.sum()),
            }
        return found

    def _others(self, outputs: np.ndarray, target: Target) -> dict[str, float]:
        right = float(np.mean((outputs >= 0.5) == (target >= 0.5)))
        return {"binary_accuracy": right, **super()._others(outputs, target)}

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The labels that hold, and how likely each is."""
        check_probabilities(row)
        hold = [label for label, p in zip(self.labels, row, strict=True) if p >= 0.5]
        return {"labels": hold, "scores": _scores(self.labels, row)}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The labels that hold, and the likeliest."""
        return [", ".join(said["labels"]) or "(none)", *_highest(said["scores"], top)]


def binary_figures(labels: Sequence[str], outputs: np.ndarray, targets: np.ndarray) -> dict:
    """`{"positive_class", "auc", "average_precision", "sensitivity", "specificity"}` of two labels.

    The second of `labels` is the positive one; None where a class that a figure is about does not
    occur. `outputs` and `targets` are `(n, 2)`.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive, found, chance = targets.argmax(-1) == 1, outputs.argmax(-1) == 1, outputs[:, 1]
    both, any_positive = positive.any() and not positive.all(), positive.any()
    return {
        "positive_class": labels[1],
        "auc": float(roc_auc_score(positive, chance)) if both else None,
        "average_precision": float(average_precision_score(positive, chance))
        if any_positive
        else None,
        "sensitivity": float(found[positive].mean()) if any_positive else None,
        "specificity": float(1 - found[~positive].mean()) if not positive.all() else None,
    }
