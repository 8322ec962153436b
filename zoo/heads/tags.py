"""One tag for each token of a text; what is judged are whole entities."""

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.zoo.heads.columns import Ratio
from graft.zoo.heads.head import Head, check_options, dense
from graft.zoo.heads.kind import Scorer
from graft.zoo.heads.scores import Score
from graft.zoo.heads.single_label import SingleLabel
from graft.zoo.heads.spans import spans

if TYPE_CHECKING:
    import keras

__all__ = ["TAGS", "Tags", "entity_f1", "tags"]


class Tags(SingleLabel):
    """Rows of probabilities, one a token."""

    name: ClassVar[str] = "tags"
    figure: ClassVar[str] = "entity F1"
    key: ClassVar[str] = "f1"
    agreement: ClassVar[str] = "tags as by Keras"
    confident: ClassVar[bool] = False
    by_position: ClassVar[bool] = True

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """The share of tokens with the right tag. Entities need the words: see `entity_f1`.

        Args:
            outputs: `(n, length, labels)`, or `(tokens, labels)` where each counts for itself.
            targets: int32 `(n, length)` or `(tokens,)`, -1 where a token has no tag.
        """
        named = (targets >= 0).reshape(len(targets), -1)
        right = (outputs.argmax(-1) == targets).reshape(len(targets), -1) & named
        columns = [Ratio.of(right.sum(-1), named.sum(-1))]
        return Score("accuracy", "accuracy", len(targets), columns)

    def score_against(self, reference: np.ndarray, margin: float) -> Scorer:
        """The share of tokens with the reference's tag."""
        known = np.where(np.isfinite(reference).all(-1), reference.argmax(-1), -1)
        return lambda values: self.score(values, known)

    def scorer_of_rows(
        self, labels: Sequence[str], mask: np.ndarray, truth: np.ndarray | None, rows: np.ndarray
    ) -> Scorer | None:
        """Entity F1 of rows of tokens, those of all sentences without padding."""
        ends = np.cumsum((mask > 0).sum(-1))[:-1]
        units = rows.shape[-1]
        names = list(labels) if len(labels) == units else [f"B-{i}" for i in range(units)]
        wanted = rows.argmax(-1) if truth is None else truth[mask > 0]
        true = [[names[tag] for tag in part if tag >= 0] for part in np.split(wanted, ends)]

        def score(values: np.ndarray) -> Score:
            best = np.where(wanted >= 0, values.argmax(-1), -1)
            said = [[names[tag] for tag in part if tag >= 0] for part in np.split(best, ends)]
            return entity_f1(true, said)

        return score

    def fault_of_labels(self, labels: Sequence[str]) -> str | None:
        """Tags are IOB2."""
        known = all(label == "O" or label[:2] in ("B-", "I-") for label in labels)
        return None if known else "O, B-NAME and I-NAME"


TAGS = Tags()


def entity_f1(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Score:
    """F1 of the entities in IOB2 tags, over all sentences together; a sentence is one example.

    Where no entity is to be found it cannot be said, whatever was found: what is measured then does
    not depend on the answers. `instead` there is the share of words with the right tag.
    """
    counts = np.zeros((len(truth), 4))
    for row, true, guess in zip(counts, truth, predicted, strict=True):
        known, found = spans(true), spans(guess)
        row[:] = len(known & found), len(known), len(found), sum(map(operator.eq, true, guess))
    hits, wanted, given, right = counts.T
    words = Ratio.of(right, [len(sentence) for sentence in truth])
    return Score(
        TAGS.figure,
        TAGS.key,
        len(truth),
        [Ratio.of(2 * hits, wanted + given, wanted)],
        instead=Score("accuracy", "accuracy", len(truth), [words]),
    )


def tags(labels: Sequence[str], *, name: str = "tags", dropout: float = 0.0) -> Head:
    """One of `labels` for each token: softmax probabilities `(batch, length, len(labels))`.

    Targets are int32 `(batch, length)`, -1 where a token has none (special tokens, later pieces of
    a word, padding). `score` takes rows of tokens, `(tokens, labels)` and `(tokens,)`; what counts
    for spans is `zoo.heads.spans`.

    Raises:
        ConfigError: fewer than two labels, or `dropout` outside [0, 1).
    """
    check_options(labels, 2, dropout=dropout)

    def attach(features: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        logits = dense(features, len(labels), name, dropout)
        return keras.layers.Activation("softmax", dtype="float32", name=name)(logits)

    def loss() -> "keras.Loss":
        import keras

        return keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)

    def metrics() -> list["keras.Metric"]:
        from graft.zoo.graph.layers import TokenAccuracy

        return [TokenAccuracy(name="accuracy")]

    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
        named = targets >= 0
        right = outputs[named].argmax(-1) == targets[named]
        chosen = outputs[named, targets[named]]
        return {
            "accuracy": float(right.mean()),
            "loss": float(-np.log(np.maximum(chosen, 1e-7)).mean()),
        }

    return Head(name, TAGS, tuple(labels), attach, loss, metrics, score, reads=("positions",))
