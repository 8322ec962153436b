"""The custom Keras objects of Graft; what a saved model can hold is registered, so that it loads in
safe mode elsewhere.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

__all__ = [
    "GradientReversal",
    "InferenceOnly",
    "ScaledHuber",
    "SupervisedContrastive",
    "TaskWeights",
    "TokenAccuracy",
]


Tensor = Any
"""A tensor of the backend, or of a graph that is being built."""


class InferenceOnly(keras.layers.Layer):
    """Runs a model in inference mode, whatever mode the model around it runs in.

    `model(x, training=False)` in a functional graph is not enough: Keras 3.15 passes the outer
    `training=True` of `fit` on to the layers inside. Used while training only, so it is not
    registered for saving.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name=f"{model.name}_frozen")
        self.model = model

    def call(self, inputs: Tensor) -> Tensor:
        """The outputs of the model, with `training=False`."""
        return self.model(inputs, training=False)

    def compute_output_spec(self, inputs: Tensor) -> Tensor:
        """The shapes and types of the model's outputs."""
        return self.model.compute_output_spec(inputs)


@keras.saving.register_keras_serializable(package="graft")
class GradientReversal(keras.layers.Layer):
    """Hands its inputs on; their gradient comes back times `-strength`.

    Ganin and Lempitsky 2015, arXiv:1409.7495.
    """

    def call(self, inputs: Tensor, strength: Tensor | float = 1.0) -> Tensor:
        """The inputs."""
        return ops.stop_gradient((1.0 + strength) * inputs) - strength * inputs


@keras.saving.register_keras_serializable(package="graft")
class SupervisedContrastive(keras.losses.Loss):
    """Supervised contrastive loss over a batch (Khosla et al. 2020, arXiv:2004.11362, equation 2).

    `y_true`: one-hot `(batch, classes)`; `y_pred`: vectors of length 1 `(batch, dimension)`. An
    example without a partner of its class in the batch contributes 0.
    """

    def __init__(
        self, temperature: float = 0.1, name: str = "supervised_contrastive", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.temperature = temperature

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each example, `(batch,)`."""
        others = 1.0 - ops.eye(ops.shape(y_pred)[0], dtype=y_pred.dtype)
        y_true = ops.cast(y_true, y_pred.dtype)
        partners = ops.matmul(y_true, ops.transpose(y_true)) * others
        similarity = ops.matmul(y_pred, ops.transpose(y_pred)) / self.temperature
        # -1e9 takes an example out of its own denominator; it is finite, so 0 * (-1e9) below stays
        # a number.
        log_probability = ops.log_softmax(similarity - 1e9 * (1.0 - others), axis=-1) * others
        count = ops.sum(partners, axis=-1)
        return -ops.sum(partners * log_probability, axis=-1) / ops.maximum(count, 1.0)

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="graft")
class TaskWeights(keras.layers.Layer):
    """Hands the outputs of several tasks on, and holds a learned log variance s for each.

    Kendall et al. 2018, arXiv:1705.07115, equation 10. The loss L of a task counts
    exp(-s) L + s / 2: a task that is hard to learn counts less, and may not call itself infinitely
    uncertain.
    """

    def __init__(self, tasks: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tasks = tasks
        self.log_variances = self.add_weight(
            shape=(tasks,), initializer="zeros", name="log_variances"
        )

    def call(self, outputs: Tensor) -> Tensor:
        """The same outputs."""
        return outputs

    def weighted(
        self, loss: keras.losses.Loss, task: int, each: bool
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """`loss` as the task with this number counts it.

        Args:
            loss: of the task.
            task: its number, from 0.
            each: whether the loss is one of each example, or the mean over a batch.

        Returns:
            A function of targets and outputs.
        """
        unweighted = loss.call if each else loss

        def weighted_loss(y_true: Tensor, y_pred: Tensor) -> Tensor:
            variance = self.log_variances[task]
            return ops.exp(-variance) * unweighted(y_true, y_pred) + variance / 2

        return weighted_loss

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {**super().get_config(), "tasks": self.tasks}


@keras.saving.register_keras_serializable(package="graft")
class ScaledHuber(keras.losses.Loss):
    """The Huber loss (Huber 1964) of values in units of `scale`, so that it does not depend on what
    they are measured in.
    """

    def __init__(self, scale: float = 1.0, name: str = "scaled_huber", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.scale = scale

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each example, `(batch,)`."""
        return keras.losses.huber(y_true / self.scale, y_pred / self.scale)

    def get_config(self) -> dict[str, Any]:
        """As Keras: what the object is made from again."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="graft")
class TokenAccuracy(keras.metrics.Mean):
    """The share of tokens with a target (>= 0) whose largest output is that target."""

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """`y_true` `(batch, length)`, `y_pred` `(batch, length, labels)`."""
        right = ops.equal(ops.argmax(y_pred, axis=-1), ops.cast(y_true, "int64"))
        return super().update_state(ops.cast(right, "float32"), ops.cast(y_true >= 0, "float32"))
