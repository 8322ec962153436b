"""The loss of masks."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from graft.zoo.heads.masks.mask_scores import IGNORED

__all__ = ["MaskLoss"]

Tensor = Any
"""A tensor of the backend, or of a graph that is being built."""


@keras.saving.register_keras_serializable(package="graft")
class MaskLoss(keras.losses.Loss):
    """The cross-entropy of the pixels of an image, plus `dice` times 1 - Dice, the mean over the
    classes that are in its truth (Milletari et al. 2016, arXiv:1606.04797).

    `y_true`: classes `(batch, height, width, 1)`, 255 where a pixel does not count. `y_pred`:
    logits `(batch, h, w, classes)`, which are enlarged to the size of the truth. Of an image
    without any pixel that counts the loss is 0.
    """

    def __init__(
        self,
        dice: float = 1.0,
        class_weights: Sequence[float] | None = None,
        name: str = "mask_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.dice = dice
        self.class_weights = None if class_weights is None else tuple(class_weights)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each image, `(batch,)`."""
        labels = ops.cast(y_true[..., 0], "int32")
        logits = ops.image.resize(ops.cast(y_pred, "float32"), labels.shape[1:3], "bilinear")
        counts = ops.cast(labels != IGNORED, "float32")
        labels = ops.where(labels == IGNORED, 0, labels)
        logs = ops.log_softmax(logits, -1)
        truth = ops.one_hot(labels, logits.shape[-1]) * counts[..., None]
        if self.class_weights is None:
            weights = counts
        else:
            weights = (
                ops.take(ops.convert_to_tensor(self.class_weights, "float32"), labels) * counts
            )
        entropy = -ops.sum(truth * logs, -1)
        loss = ops.sum(entropy * weights, (1, 2)) / ops.maximum(ops.sum(weights, (1, 2)), 1e-6)
        if not self.dice:
            return loss
        guess = ops.exp(logs) * counts[..., None]
        there = ops.sum(truth, (1, 2))
        overlap = 2.0 * ops.sum(truth * guess, (1, 2)) / (there + ops.sum(guess, (1, 2)) + 1e-6)
        present = ops.cast(there > 0, "float32")
        classes = ops.maximum(ops.sum(present, -1), 1.0)
        return loss + self.dice * ops.sum((1.0 - overlap) * present, -1) / classes

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {**super().get_config(), "dice": self.dice, "class_weights": self.class_weights}
