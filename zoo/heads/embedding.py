"""A vector of length 1 for each input: near means alike."""

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.heads.head import Head, check_options, dense
from graft.zoo.heads.kind import Kind, Scorer
from graft.zoo.heads.neighbours import alike_among_nearest, shared_nearest
from graft.zoo.heads.scores import Score, share

if TYPE_CHECKING:
    import keras

__all__ = ["EMBEDDING", "Embedding", "embedding", "recall"]


class Embedding(Kind):
    """Rows of vectors."""

    name: ClassVar[str] = "embedding"
    figure: ClassVar[str] = "recall at 1"
    key: ClassVar[str] = "recall_at_1"
    agreement: ClassVar[str] = "same nearest neighbour as Keras"
    bounded: ClassVar[bool] = False
    named: ClassVar[bool] = False

    def score(self, outputs: np.ndarray, targets: np.ndarray) -> Score:
        """How often the nearest other vector is of the same class."""
        return recall(outputs, targets, 1)

    def score_against(self, reference: np.ndarray, margin: float) -> Scorer:
        """How often the nearest other vector is the same one."""
        return lambda values: share(self.agreement, self.key, shared_nearest(values, reference))

    def near_ties(self, reference: np.ndarray) -> int:
        """Two: as many as one changed neighbour concerns. It cannot be told from the vectors."""
        return 2


EMBEDDING = Embedding()


def recall(vectors: np.ndarray, targets: np.ndarray, count: int) -> Score:
    """How often one of the `count` nearest other vectors is of the same class; who is alone in a
    class does not ask.

    Ties are broken by chance (`zoo.heads.neighbours.alike_among_nearest`), so an example may be
    right in part.
    """
    classes = targets.argmax(-1)
    asking = np.flatnonzero(np.bincount(classes)[classes] > 1)
    right = np.full(len(classes), np.nan)
    right[asking] = alike_among_nearest(vectors, classes, count, asking)
    return share(f"recall at {count}", f"recall_at_{count}", right)


def embedding(
    dimension: int,
    *,
    name: str = "embedding",
    temperature: float = 0.1,
    dropout: float = 0.0,
    hidden: int = 0,
) -> Head:
    """A vector of length 1 for each input, `(batch, dimension)`: near means alike.

    With `hidden` units there is a layer of so many before it.

    Targets are one-hot rows; the loss is supervised contrastive (Khosla et al. 2020,
    arXiv:2004.11362), so a batch needs at least two examples of some class. `score` is the share of
    examples whose nearest other example is of the same class (recall at 1), among those that are
    not alone in theirs.

    Raises:
        ConfigError: `dimension` below 1, `temperature` not positive, or `dropout` outside [0, 1).
    """
    check_options((), 0, dropout=dropout)
    if dimension < 1:
        raise ConfigError(f"an embedding needs a dimension of at least 1, not {dimension}")
    if not 0 < temperature < math.inf:
        raise ConfigError(
            f"the temperature of a contrastive loss must be a number above 0, not {temperature}"
        )

    def attach(features: "keras.KerasTensor") -> "keras.KerasTensor":
        import keras

        vector = dense(features, dimension, name, dropout, hidden)
        return keras.layers.UnitNormalization(dtype="float32", name=name)(vector)

    def loss() -> "keras.Loss":
        from graft.zoo.graph.layers import SupervisedContrastive

        return SupervisedContrastive(temperature=temperature)

    def score(outputs: np.ndarray, targets: np.ndarray) -> dict[str, float | None]:
        value = EMBEDDING.score(outputs, targets).value
        return {EMBEDDING.key: None if math.isnan(value) else value}

    return Head(name, EMBEDDING, (), attach, loss, list, score)
