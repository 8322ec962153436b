"""What the numbers of an output mean, and how they are judged: a class for each kind of answer.

numpy alone, so that a `.tflite` or `.onnx` file is judged by the same code as the Keras model that
it was made from. A kind is a row of `zoo/heads/table.py`; nothing outside of `zoo/heads`,
`recipes/tasks` and `recipes/codecs` asks which one it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from graft.zoo.heads.scores import Score, share

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["MARGIN", "SIGMOID_ROUNDING", "Kind", "Scorer", "by_file_output"]

Scorer = Callable[[np.ndarray], Score]
"""Answers `(n, units)` -> what they score."""

MARGIN = 1e-3
"""Answers are compared where the reference's best two outputs differ by more than this; a tie has
no right answer.
"""
TINY = 1e-30
SIGMOID_ROUNDING = 2.5e-7
"""Probabilities of a sigmoid that differ by less are the same, rounded to float32: the logit of one
near 0 or 1 that a runtime computes as 0.5 plus something may differ by much all the same.
"""


class Kind:
    """One kind of answer: rows `(n, units)`, a row an example unless `by_position`.

    Attributes:
        name: in the JSON files.
        figure: the figure that answers are judged by, in words.
        key: the same in JSON.
        agreement: what is said of answers where no labels are known: Keras's own are taken for
            true.
        in_percent: whether the figure is a share, which is written in percent.
        bounded: whether every number lies between 0 and 1.
        rounding: numbers that differ by less have the same logit, but for how they were computed.
        named: whether each unit is called by a label.
        confident: whether the largest number of a row says how sure the answer is.
        by_position: whether an output has a row a position (a token).
        alone: whether files take one example at a time, of which they say a list.
        vision_task: what MediaPipe does with a file that has to say more for it than what its
            outputs are called: "segmenter" or "detector".
    """

    name: ClassVar[str]
    figure: ClassVar[str]
    key: ClassVar[str]
    agreement: ClassVar[str] = "agreement with Keras"
    in_percent: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    rounding: ClassVar[float] = 0.0
    named: ClassVar[bool] = True
    confident: ClassVar[bool] = False
    by_position: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    vision_task: ClassVar[Literal["", "segmenter", "detector"]] = ""

    # From the graph that trains to files. Most kinds train what a file gives. Masks train small
    # maps, boxes a candidate a cell: `ship` is the last stretch of the graph of a file, and
    # `shipped` the same in numpy, by which files are judged. `size` is (height, width) of the
    # images that the model takes.

    def file_outputs(self, name: str) -> tuple[str, ...]:
        """What the outputs of a file are called that hold the answers of output `name`."""
        return (name,)

    def ship(self, name: str, values: "tf.Tensor", size: tuple[int, int]) -> "dict[str, tf.Tensor]":
        """What a file of any format gives of what the graph that trains gives, by `file_outputs`.

        Args:
            name: of the output.
            values: `(batch, ...)`.
            size: of the images.
        """
        return {name: values}

    def float_layers(self, name: str) -> tuple[str, ...]:
        """The layers that stay float32 in files of 8 bits, by their names: what lies behind the
        logits of places, whose steps would be pixels.
        """
        return ()

    def shipped(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The same as rows `(n, ...)`, as `gathered` has them, by numpy."""
        return values

    def gathered(
        self, name: str, outputs: Mapping[str, np.ndarray], size: tuple[int, int]
    ) -> np.ndarray:
        """The rows in what a file gave."""
        return outputs[name]

    def compared(self, reference: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows `(n, ...)` of two models as the numbers that have to be alike, `(m, units)` each."""
        return reference, outputs

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """What `outputs` score against `targets`, both in the form that the head of this kind
        uses.
        """
        raise NotImplementedError

    def score_against(self, reference: np.ndarray, margin: float) -> Scorer:
        """The same where no labels are known and the answers of a `reference` are taken for true.

        Args:
            reference: answers `(n, units)`.
            margin: answers do not count that a change of the outputs by this much may turn.
        """
        clear = self.clear(reference, margin) if margin else np.ones(len(reference), bool)
        return lambda values: share(
            self.agreement, "accuracy", np.where(clear, self.same(reference, values), np.nan)
        )

    def scorer_of_rows(
        self, labels: Sequence[str], mask: np.ndarray, truth: np.ndarray | None, rows: np.ndarray
    ) -> Scorer | None:
        """What judges rows of positions, where an example is a sequence of them; None: rows are
        examples.

        Args:
            labels: what the units are called.
            mask: `(n, length)`, 1 where a position counts.
            truth: int32 `(n, length)`, -1 where a position has no answer; None: not known.
            rows: the reference's answers `(positions, units)`, without padding.
        """
        return None

    def clear(self, reference: np.ndarray, margin: float) -> np.ndarray:
        """Which answers are clear, bool `(n,)`: no other one is within `margin`."""
        return np.ones(len(reference), bool)

    def same(self, reference: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Which answers are the same, bool `(n,)`."""
        return np.ones(len(reference), bool)

    def near_ties(self, reference: np.ndarray) -> int:
        """How many of the answers rounding may turn."""
        return int((~self.clear(reference, MARGIN)).sum())

    def can_be_said(self, before: Score, after: Score) -> bool:
        """Whether the labels tell what is right, for two sets of answers to the same examples."""
        return bool((~np.isnan(before.units) & ~np.isnan(after.units)).all())

    def logits(self, values: np.ndarray) -> np.ndarray:
        """What the numbers were before they were squashed, up to a constant that does not
        matter.
        """
        return values

    def spread(self, logits: np.ndarray) -> np.ndarray | float:
        """What a difference of logits is measured in: their standard deviation, of values and
        vectors that of each unit.

        A unit of small numbers beside one of large ones must not hide; of a unit that is nearly
        constant a hundredth of its size counts, because float32 rounds that.
        """
        if self.bounded:
            return max(float(logits.std()), TINY)
        return np.maximum(np.maximum(logits.std(0), np.abs(logits).max(0) / 100), TINY)

    def fault_of_labels(self, labels: Sequence[str]) -> str | None:
        """What the labels of an output are expected to be, where they are something else."""
        return None

    def register_layers(self) -> None:
        """Register the Keras classes that only models of this kind hold (Graft's own lie in
        `zoo/graph/layers.py`); called before a .keras file is opened.
        """


def by_file_output(kinds: Mapping[str, Kind]) -> dict[str, Kind]:
    """The kinds of a model's outputs, by what the outputs of its files are called."""
    return {file: kind for name, kind in kinds.items() for file in kind.file_outputs(name)}
