"""A task: one kind of answer that is asked of each example, whole: what is learned, how it is
measured, what is said of it. numpy and scikit-learn; a head's Keras side lies in `zoo/heads`.

A new kind of answer is a file of this room with a subclass of `Task`, its `Kind` and head in
`zoo/heads`, and a row in `table.py` (or an entry point of the group `graft.tasks` in another
package).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.targets import Moves, Target, known_rows
from graft.recipes.data.records import Answer, Record
from graft.recipes.tasks.cells import Cell, Column
from graft.zoo.errors import DataError
from graft.zoo.heads import scores
from graft.zoo.heads.head import Head
from graft.zoo.heads.kind import Kind
from graft.zoo.heads.scores import Score

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """One kind of answer.

    Attributes:
        head: what stands on the backbone for it.
        answer: which of the answers of a record it learns.
        weight: what its loss counts beside those of other tasks.
        names: what targets are about where the units of the head have no labels.
        column: of a table with a column for each task; "" for other data.
        kind: what the numbers mean.
        moves: what targets are that move with the image: maps of its size, or boxes in it.
        need: what of a scene is its answer, "boxes" or "mask"; "" where records are no scenes.
        chooses: whether an answer is one of the labels.
        counts_words: whether counted words can learn it, of texts.
        from_one_label: whether a record with one label has its answer.
        least_labels: how many labels a column has to have; 0: answers are no labels.
        in_columns: whether it can be a column of a table.
        meaning: what an output is, in words, for the model card.
        watched: what the best epoch is chosen by, a key of `epoch_figures`; "loss" because it also
            sees how sure a model is.
        watched_instead: by what where that cannot be said of the validation set.
    """

    head: Head
    answer: str = "label"
    weight: float = 1.0
    names: tuple[str, ...] = ()
    column: str = ""

    kind: ClassVar[Kind]
    moves: ClassVar[Moves] = ""
    need: ClassVar[Literal["", "boxes", "mask"]] = ""
    chooses: ClassVar[bool] = False
    counts_words: ClassVar[bool] = False
    from_one_label: ClassVar[bool] = True
    least_labels: ClassVar[int] = 0
    in_columns: ClassVar[bool] = False
    meaning: ClassVar[str]
    watched: ClassVar[str] = "loss"
    watched_instead: ClassVar[str] = "loss"

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "Task":
        """The task of an artifact, for its names, labels and figures.

        Args:
            name: of the output.
            facts: what preprocessing.json says of it.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Of the output in every exported file."""
        return self.head.name

    @property
    def labels(self) -> tuple[str, ...]:
        """What targets are about, in order."""
        return self.head.labels or self.names

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """What a report counts examples by."""
        return self.labels

    @property
    def measure(self) -> dict:
        """`{"name", "key"}` of the figure that it is judged by."""
        return {"name": self.kind.figure, "key": self.kind.key}

    def describe(self) -> dict:
        """What preprocessing.json says of it; see `described`."""
        facts = {"kind": self.kind.name, "labels": list(self.head.labels), "answer": self.answer}
        return facts | ({"column": self.column} if self.column else {})

    @staticmethod
    def where(name: str, facts: Mapping, answer: str) -> dict:
        """Where the answers to a task of an artifact are found, as arguments."""
        column = facts.get("column", "")
        return {"answer": facts.get("answer", name if column else answer), "column": column}

    # What is read from a table with a column for each task

    @classmethod
    def read_cell(cls, cell: Cell) -> tuple[str, Answer | None]:
        """(the text of a cell, the answer in it; None: not known). Raises DataError."""
        raise NotImplementedError

    @classmethod
    def of_column(cls, column: Column, answers: Mapping[str, Sequence[Answer]]) -> "Task":
        """The task of a column of which the splits have these `answers`. Raises DataError."""
        raise NotImplementedError

    # What is learned

    def targets(self, records: Sequence[Record], given: Any = None) -> Target:
        """What is to be learned of each record.

        Args:
            records: with answers.
            given: what a codec knows of how they go in: of images the `ImageShape`; of texts in
                words for each the word that every piece begins, -1 if none.

        Returns:
            Rows of floats `(n, units)`; NaN where the answer is not known.

        Raises:
            DataError: an answer that the task does not know; names the record.
        """
        rows = np.full((len(records), len(self.labels)), np.nan, np.float32)
        index = {label: i for i, label in enumerate(self.labels)}
        for row, record in zip(rows, records, strict=True):
            answer = record.answers.get(self.answer)
            if answer is not None:
                row[:] = self._row(answer, index, record)
        return rows

    def _row(self, answer: Answer, index: Mapping[str, int], record: Record) -> np.ndarray:
        """The target of one record: 1 for each label that holds, else 0."""
        row = np.zeros(len(index), np.float32)
        for label in answer:
            if label not in index:
                raise DataError(
                    f"{record.name}: the label '{label}' is not one of the model's {len(index)}: "
                    f"{', '.join(index)}"
                )
            row[index[label]] = 1.0
        return row

    def holds(self, target: Target) -> np.ndarray:
        """Whether each example has each of the shown labels, bool `(n, labels)`."""
        return np.nan_to_num(target) > 0

    def label_counts(self, target: Target) -> dict[str, int]:
        """How many examples each of the shown labels has."""
        return dict(zip(self.shown_labels, self.holds(target).sum(0).tolist(), strict=True))

    def answered(self, target: Target) -> int:
        """How many examples have an answer."""
        return int(known_rows(target).sum())

    # How it is measured

    def answers(self, values: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """What is measured of what the graph that trains gives; `size` is that of its input."""
        return values

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """The same of the rows that a file gives."""
        return rows

    def truth(self, target: Target) -> np.ndarray | None:
        """Targets as `answers` has them, where these have places in an image; None: they do not."""
        return None

    def drawn(self, pixels: np.ndarray, answer: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """One of these, which is about an image of `size`, drawn on an image of any size."""
        return pixels

    def score(self, outputs: np.ndarray, target: Target) -> Score:
        """What answers score by the figure that it is judged by."""
        return self.kind.score(outputs, target)

    def figures(self, outputs: np.ndarray, target: Target) -> dict:
        """All figures, with "examples" and "per_class", of the examples whose answer is known.
        Raises DataError where none is.
        """
        known = known_rows(target)
        if not known.any():
            raise DataError(
                f"none of {len(known)} examples has an answer to task '{self.name}': it cannot be "
                "measured"
            )
        return self._figures(*self._known(outputs, target))

    def _figures(self, outputs: np.ndarray, target: Target) -> dict:
        return {
            "examples": len(target),
            **self._of_head(outputs, target),
            "per_class": self.per_label(outputs, target),
        }

    def _of_head(self, outputs: np.ndarray, target: Target) -> Mapping[str, float | None]:
        """The figures that the head itself can say."""
        assert self.head.score is not None, f"'{self.name}' is not measured against targets"
        return self.head.score(outputs, target)

    def per_label(self, outputs: np.ndarray, target: Target) -> dict:
        """Label -> its precision, recall, F1 and examples; empty where answers are no labels."""
        return {}

    def unit_scores(self, outputs: np.ndarray, target: Target) -> np.ndarray:
        """What each example with an answer adds to the figure, `(n,)`; their mean is about it."""
        return scores.unit_scores(self.score(*self._known(outputs, target)))

    def _known(self, outputs: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
        known = known_rows(target)
        return (outputs, target) if known.all() else (outputs[known], target[known])

    def confusion(self, outputs: np.ndarray, target: Target) -> list[list[int]] | None:
        """Counts `[truth][prediction]`; None where answers are not one label of several."""
        return None

    def stated(self, figures: Mapping) -> float | None:
        """The figure that it is judged by, among all figures."""
        return figures[self.kind.key]

    def export_scorer(self, target: Target) -> Any:
        """What judges a file on these examples; None: the kind and the targets alone say it."""
        return None

    # How a training is watched

    def watch(self, target: Target) -> str:
        """What the best epoch is chosen by on a validation set."""
        if self.head.score is None:  # vectors to be met: their loss is all there is to say
            return "loss"
        return self.watched if self._can_watch(target) else self.watched_instead

    def _can_watch(self, target: Target) -> bool:
        return True

    def epoch_figures(
        self, outputs: np.ndarray, target: Target, class_weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """The loss in its own units over the whole validation set, and other figures; NaN for one
        that cannot be said. Without any known answer the loss is 0.
        """
        outputs, target = self._known(outputs, target)
        if not len(target):
            return {self.watched: np.nan, self.kind.key: np.nan, "loss": 0.0}
        weights = None if class_weights is None else target @ class_weights
        losses = self._losses(outputs, target)
        found = {"loss": float(np.average(losses, weights=weights))}
        return found if self.head.score is None else found | self._others(outputs, target)

    def _losses(self, outputs: np.ndarray, target: Target) -> np.ndarray:
        """That of each example, `(n,)`."""
        return np.asarray(self.head.loss().call(np.float32(target), np.float32(outputs)))

    def _others(self, outputs: np.ndarray, target: Target) -> dict[str, float]:
        made = self.score(outputs, target)
        return {made.key: made.value}

    # What is said

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """What it says of one example, as JSON has it. Raises CheckFailed: they are no answer."""
        raise NotImplementedError

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The same for the terminal; of many labels the first `top`."""
        raise NotImplementedError

    def columns(self, said: Mapping) -> dict[str, Any]:
        """The same as columns of a table."""
        return dict(said)

    def concern(self, figures: Mapping) -> str | None:
        """What is wrong with figures of the test split, in a sentence."""
        return None

    def section(self, outputs: np.ndarray, target: Target) -> Mapping | None:
        """What the report shows of the test split that only this task has, as JSON has it:
        `{"title", "text", "columns", "rows"}`, rows of texts and numbers; None: nothing.
        """
        return self._section(*self._known(outputs, target)) if self.answered(target) else None

    def _section(self, outputs: np.ndarray, target: Target) -> Mapping | None:
        """The same of examples whose answer is known."""
        return None
