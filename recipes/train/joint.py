"""One model that learns from labelled examples and, in the same step, from others without labels.

Imported where it is used: it needs Keras at once, as `zoo.graph.layers` does.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
from keras import ops

from graft.zoo.graph.nodes import nodes_of

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Joint", "Method", "Part", "hidden_of"]


class Part(NamedTuple):
    """What the model makes of the examples of one kind in a batch of `b`.

    Attributes:
        features: what the last dense layer receives, `(b, width)`.
        outputs: probabilities, `(b, labels)`.
    """

    features: "tf.Tensor"
    outputs: "tf.Tensor"


class Method(keras.layers.Layer):
    """What is to be learned from examples without labels; it may have weights of its own, which
    train and are not kept.

    Attributes:
        strong: whether it also wants a strongly changed version of each unlabelled example.
        strength: what its loss counts beside that of the labelled examples.
    """

    strong = False
    strength = 1.0

    def loss(
        self, labelled: Part, unlabelled: Part, strong: Part | None, progress: "tf.Tensor"
    ) -> "tf.Tensor":
        """A scalar to be added to the loss of the labelled examples; `progress` goes from 0 to 1 in
        the course of the training.
        """
        raise NotImplementedError


class Joint(keras.Model):
    """`model` with `method` beside its own loss.

    In training it is fed {"labelled", "unlabelled"[, "strong"]}, which go through it together, and
    the targets of the labelled ones; otherwise it is `model`. `progress` gives a tensor that goes
    from 0 to 1.
    """

    def __init__(self, model: keras.Model, method: Method, progress: Callable):
        super().__init__(name=model.name)
        self.inner = model
        self.both = keras.Model(model._inputs_struct, [hidden_of(model), model.output])
        self.method, self.progress = method, progress

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs, or for several kinds of examples a `Part` of each."""
        if not (isinstance(inputs, dict) and "labelled" in inputs):
            return self.inner(inputs, training=training)
        kinds = [kind for kind in ("labelled", "unlabelled", "strong") if kind in inputs]
        parts = [inputs[kind] for kind in kinds]
        sizes = [ops.shape(keras.tree.flatten(part)[0])[0] for part in parts]
        together = keras.tree.map_structure(lambda *tensors: ops.concatenate(tensors), *parts)
        found, start = {}, 0
        features, outputs = self.both(together, training=training)
        features = ops.cast(features, "float32")  # which they are not under mixed precision
        for kind, size in zip(kinds, sizes, strict=True):
            found[kind] = Part(features[start : start + size], outputs[start : start + size])
            start = start + size
        return found

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> "tf.Tensor":
        """That of the head, and in training the method's."""
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        own = super().compute_loss(x, y, y_pred["labelled"].outputs, sample_weight, training)
        labelled, unlabelled, strong = (
            y_pred.get(kind) for kind in ("labelled", "unlabelled", "strong")
        )
        return own + self.method.loss(labelled, unlabelled, strong, self.progress())

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        """Those of the labelled examples."""
        outputs = y_pred["labelled"].outputs if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, outputs, sample_weight)


def hidden_of(model: keras.Model) -> keras.KerasTensor:
    """What the last dense layer of a model with one head receives, `(batch, width)`."""
    # Not the layer's own `input`: it stands in every graph that was made of parts of this one.
    dense = [
        node for node in nodes_of(model.outputs) if isinstance(node.operation, keras.layers.Dense)
    ]
    return dense[-1].input_tensors[0]
