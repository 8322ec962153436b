"""Task weights that let all tasks learn at the same pace. Imported where it is used: it needs Keras
at once.
"""

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from graft.zoo.graph.cuts import find_cuts, nodes_of, split_at
from graft.zoo.heads.head import Heads

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["GradNorm", "shared_by_all"]

RESTORE = 1.5
"""How strongly a task that lags behind is pulled forward, the paper's alpha; 0: all gradients are
of one size.
"""
RATE = 0.025
"""Of the weights."""
LEAST = 0.01
SMALL = 1e-12


class GradNorm(keras.Model):
    """`model`, whose tasks' losses count by weights that change in every step (Chen et al. 2018,
    arXiv:1711.02257).

    The size of each task's gradient is taken at the last tensor that all tasks share, not at the
    weights that made it: they may be frozen. The weights sum to the number of tasks; they begin
    with those of `group`.

    Attributes:
        balance: what it learns beside the weights of `model`. Each phase begins with it anew, as
            with the optimizer: other weights begin to train, and the paper's first losses are those
            with which they do. It resumes with it.
    """

    def __init__(self, model: keras.Model, group: Heads):
        super().__init__(name=model.name)
        self.inner, self.names = model, [head.name for head in group.heads]
        shared = shared_by_all(model)
        # Where nothing but the inputs is shared, as behind cached features, they are what the
        # gradients are taken at.
        self.before: keras.Model | None = None
        self.after = model
        if shared:
            self.before, self.after = split_at(model, shared)
        self.losses_of = [head.loss() for head in group.heads]
        start = ops.convert_to_tensor(group.weights or (1.0,) * len(self.names), "float32")
        start = start * len(self.names) / ops.sum(start)
        self.task_weights = self.add_weight(
            shape=(len(self.names),),
            initializer=lambda shape, dtype: start,
            trainable=False,
            name="task_weights",
        )
        self.first = self.add_weight(
            shape=(len(self.names),), initializer="zeros", trainable=False, name="first_losses"
        )
        self.balance = [self.task_weights, self.first]

    def _slope(self, sizes: "tf.Tensor", losses: "tf.Tensor", answered: "tf.Tensor") -> "tf.Tensor":
        """The derivative of the sum of |G - G wanted| by the weights, those wanted held fixed;
        sizes in units of their mean.

        `sizes`: of the tasks' gradients G; `answered`: what a row of the batch counts on average,
        more where there are more answers than usual. Both loss and gradient are divided by it, for
        what the answers of this step say is of one size however many they are; a task without any
        has no pace in this step.
        """
        import tensorflow as tf

        here = tf.cast(answered > 0, "float32")

        def mean(values: "tf.Tensor") -> "tf.Tensor":
            return tf.reduce_sum(here * values) / (tf.reduce_sum(here) + SMALL)

        now, sizes = (values / tf.maximum(answered, SMALL) for values in (losses, sizes))
        self.first.assign(tf.where(self.first > 0, self.first, here * now))
        pace = now / (self.first + SMALL)
        weighted = self.task_weights * sizes
        wanted = mean(weighted) * (pace / (mean(pace) + SMALL)) ** RESTORE
        return here * tf.sign(weighted - wanted) * sizes / (mean(sizes) + SMALL)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs by task."""
        return self.inner(inputs, training=training)

    def train_step(self, data: Any) -> dict:
        """A step of the model, and one of the weights."""
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        known = sample_weight or {}
        with tf.GradientTape(persistent=True) as tape:
            shared = x if self.before is None else self.before(x, training=True)
            tape.watch(shared)  # nothing that trains may lie before it
            outputs = self.after(shared, training=True)
            losses = [
                loss(y[name], outputs[name], sample_weight=known.get(name))
                for name, loss in zip(self.names, self.losses_of, strict=True)
            ]
            total = sum(self.task_weights[i] * loss for i, loss in enumerate(losses))
        variables = self.trainable_weights
        self.optimizer.apply(tape.gradient(total, [v.value for v in variables]), variables)
        at = keras.tree.flatten(shared)
        sizes = tf.stack([tf.linalg.global_norm(tape.gradient(loss, at)) for loss in losses])
        del tape
        answered = tf.stack(
            [tf.reduce_mean(known[name]) if name in known else 1.0 for name in self.names]
        )
        slope = self._slope(sizes, tf.stack(losses), answered)
        moved = tf.maximum(self.task_weights - RATE * slope, LEAST)
        self.task_weights.assign(moved * len(self.names) / tf.reduce_sum(moved))
        self._loss_tracker.update_state(total)
        return self.compute_metrics(x, y, outputs, sample_weight=sample_weight)


def shared_by_all(model: keras.Model) -> tuple:
    """The last cut of one tensor from which every output is computed; empty where they share
    nothing but the inputs.
    """
    reached = [
        {id(t) for node in nodes_of([output]) for t in node.output_tensors}
        for output in model.outputs
    ]
    common = set.intersection(*reached)
    return next((cut for cut in reversed(find_cuts(model)) if id(cut[0]) in common), ())
