"""What is learned from examples without labels: each method is a loss at one place of the graph,
where the last dense layer receives its features. Imported where it is used: it needs Keras at once,
as `zoo.graph.layers` does.

The losses are those of the papers; where one differs, its docstring says so. The weight of every
loss but FixMatch's grows with `ramp` (DANN's schedule, which the others' papers do not have),
discriminators have 256 units a layer (CDAN's paper: 1024), and a step sees as many unlabelled
examples as labelled ones (FixMatch's paper: seven times as many).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from graft.recipes.train.joint import Method, Part
from graft.zoo.graph.layers import GradientReversal

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "Cdan",
    "Coral",
    "Dann",
    "FixMatch",
    "Mmd",
    "PseudoLabel",
    "covariance",
    "discrepancy",
    "entropy",
    "ramp",
]

HIDDEN = 256
"""Units in each of the two layers of a discriminator."""
MOST = 4096
"""Products of features and probabilities that a discriminator is fed; of more, random sums."""
SMALL = 1e-7


def ramp(progress: "tf.Tensor") -> "tf.Tensor":
    """0 to 1 as the training passes, steep at first (Ganin et al. 2016, section 5.2)."""
    return 2.0 / (1.0 + ops.exp(-10.0 * progress)) - 1.0


class Dann(Method):
    """A discriminator learns to tell the domains apart, and the features, whose gradient is
    reversed, to prevent it.

    Ganin et al. 2016, arXiv:1505.07818.
    """

    def __init__(self, width: int, labels: int, strength: float = 1.0):
        super().__init__()
        self.strength, self.reversal = strength, GradientReversal()
        self.discriminator = keras.Sequential(
            [
                keras.layers.Dense(HIDDEN, "relu"),
                keras.layers.Dense(HIDDEN, "relu"),
                keras.layers.Dense(1),
            ]
        )
        self.discriminator.build((None, self.inputs_of(width, labels)))
        self.built = True

    def inputs_of(self, width: int, labels: int) -> int:
        """How many numbers the discriminator sees of an example."""
        return width

    def seen(self, part: Part) -> "tf.Tensor":
        """What the discriminator sees of the examples, `(b, inputs)`."""
        return part.features

    def weights_of(self, part: Part) -> "tf.Tensor":
        """What each example counts, `(b, 1)`, 1 on average."""
        return ops.ones_like(part.outputs[:, :1])

    def loss(
        self, labelled: Part, unlabelled: Part, strong: Part | None, progress: "tf.Tensor"
    ) -> "tf.Tensor":
        """Of the discriminator; the features get its negative, growing with `progress`."""
        total = 0.0
        for part, truth in ((labelled, 1.0), (unlabelled, 0.0)):
            logits = self.discriminator(
                self.reversal(self.seen(part), strength=self.strength * ramp(progress))
            )
            each = ops.binary_crossentropy(ops.full_like(logits, truth), logits, from_logits=True)
            total = total + ops.mean(self.weights_of(part) * each) / 2
        return total


class Cdan(Dann):
    """The same, but the discriminator sees features and predictions together, and sure predictions
    count more (CDAN+E).

    Long et al. 2018, arXiv:1705.10667.
    """

    def __init__(self, width: int, labels: int, strength: float = 1.0):
        self.projections = None
        super().__init__(width, labels, strength)
        if width * labels > MOST:  # the paper's randomized multilinear map
            draw = np.random.default_rng(0).standard_normal
            self.projections = [
                ops.convert_to_tensor(np.float32(draw((n, MOST)))) for n in (width, labels)
            ]

    def inputs_of(self, width: int, labels: int) -> int:
        """Products of features and probabilities, at most 4,096."""
        return min(width * labels, MOST)

    def seen(self, part: Part) -> "tf.Tensor":
        """Products of features and probabilities."""
        outputs = ops.stop_gradient(part.outputs)
        if self.projections is not None:
            features, chances = (
                ops.matmul(x, p)
                for x, p in zip((part.features, outputs), self.projections, strict=True)
            )
            return features * chances / MOST**0.5
        products = outputs[:, :, None] * part.features[:, None, :]
        return ops.reshape(products, (-1, products.shape[1] * products.shape[2]))

    def weights_of(self, part: Part) -> "tf.Tensor":
        """1 + exp(-entropy), 1 on average."""
        weights = 1.0 + ops.exp(-entropy(ops.stop_gradient(part.outputs)))
        return (weights / ops.mean(weights))[:, None]


class Coral(Method):
    """The covariances of the features are drawn together (Sun and Saenko 2016,
    arXiv:1607.01719).
    """

    def __init__(self, width: int, labels: int, strength: float = 1.0):
        super().__init__()
        self.strength, self.built = strength, True

    def loss(
        self, labelled: Part, unlabelled: Part, strong: Part | None, progress: "tf.Tensor"
    ) -> "tf.Tensor":
        """The squared distance of the covariances, in units of those of the labelled features.

        The paper divides by four times the squared width and then has to find a factor for each
        network; in these units features of any width and scale weigh the same.
        """
        first, second = covariance(labelled.features), covariance(unlabelled.features)
        # With a gradient: as a constant it would pay to make all features smaller, step after step,
        # until none is left.
        scale = ops.sum(first**2) + ops.sum(second**2) + SMALL
        return self.strength * ramp(progress) * ops.sum((first - second) ** 2) / scale


class Mmd(Method):
    """The maximum mean discrepancy of features and of predictions under Gaussian kernels of several
    widths (DAN).

    Long et al. 2015, arXiv:1502.02791; the sum over all pairs instead of the linear-time estimate.
    """

    WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Of the kernels, in units of the mean squared distance."""

    def __init__(self, width: int, labels: int, strength: float = 1.0):
        super().__init__()
        self.strength, self.built = strength, True

    def loss(
        self, labelled: Part, unlabelled: Part, strong: Part | None, progress: "tf.Tensor"
    ) -> "tf.Tensor":
        """Of the features and of the outputs."""
        found = discrepancy(labelled.features, unlabelled.features, self.WIDTHS)
        found = found + discrepancy(labelled.outputs, unlabelled.outputs, self.WIDTHS)
        return self.strength * ramp(progress) * found


class PseudoLabel(Method):
    """What the model is sure of becomes a label (Lee 2013, who takes every one; the threshold is a
    choice of ours).

    Probabilities are first divided by how often the model has lately predicted each label and
    multiplied by how often it has predicted it for labelled examples, so that one easy label does
    not take over (distribution alignment, Berthelot et al. 2020, arXiv:1911.09785, who count the
    labels themselves): it is assumed that the labels are about as frequent in either domain.
    """

    MEMORY = 0.99
    """Of the running means."""

    def __init__(self, width: int, labels: int, strength: float = 1.0, threshold: float = 0.9):
        super().__init__()
        self.strength, self.threshold = strength, threshold
        even = keras.initializers.Constant(1.0 / labels)
        self.predicted, self.given = (
            self.add_weight(shape=(labels,), initializer=even, trainable=False, name=name)
            for name in ("predicted", "given")
        )
        self.built = True

    def loss(
        self, labelled: Part, unlabelled: Part, strong: Part | None, progress: "tf.Tensor"
    ) -> "tf.Tensor":
        """Cross-entropy of `strong` (or of the same outputs) against the labels that the model is
        sure of.
        """
        outputs = ops.stop_gradient(unlabelled.outputs)
        for mean, part in (
            (self.predicted, outputs),
            (self.given, ops.stop_gradient(labelled.outputs)),
        ):
            mean.assign(self.MEMORY * mean + (1.0 - self.MEMORY) * ops.mean(part, 0))
        aligned = outputs * self.given / (self.predicted + SMALL)
        aligned = aligned / ops.sum(aligned, -1, keepdims=True)
        sure = ops.cast(ops.max(aligned, -1) >= self.threshold, "float32")
        labels = ops.one_hot(ops.argmax(aligned, -1), aligned.shape[-1])
        learner = unlabelled if strong is None else strong
        each = ops.categorical_crossentropy(labels, learner.outputs)
        return self.strength * self.share(progress) * ops.mean(sure * each)

    def share(self, progress: "tf.Tensor") -> "tf.Tensor | float":
        """What the loss counts: little at first, when the model's labels are wrong more often."""
        return ramp(progress)


class FixMatch(PseudoLabel):
    """The label that a slightly changed image is sure of is learned from a strongly changed
    version of it.

    Sohn et al. 2020, arXiv:2001.07685; the strong version is RandAugment's on top of the slight
    changes, without Cutout. Labels are aligned as in `PseudoLabel`, which its paper does not do by
    default.
    """

    strong = True

    def __init__(self, width: int, labels: int, strength: float = 1.0, threshold: float = 0.95):
        super().__init__(width, labels, strength, threshold)

    def share(self, progress: "tf.Tensor") -> "tf.Tensor | float":
        """From the beginning: few are sure then."""
        return 1.0


def entropy(outputs: "tf.Tensor") -> "tf.Tensor":
    """Of each row of probabilities, in nats: `(b,)`."""
    return -ops.sum(outputs * ops.log(outputs + SMALL), -1)


def covariance(features: "tf.Tensor") -> "tf.Tensor":
    """`(width, width)` of the rows `(b, width)`."""
    centred = features - ops.mean(features, 0, keepdims=True)
    return ops.matmul(ops.transpose(centred), centred) / (
        ops.cast(ops.shape(features)[0], "float32") - 1.0
    )


def discrepancy(first: "tf.Tensor", second: "tf.Tensor", widths: Sequence[float]) -> "tf.Tensor":
    """The squared maximum mean discrepancy between the rows of two batches, without the pairs of a
    row with itself.
    """
    rows = ops.concatenate([first, second])
    squares = ops.sum(rows**2, -1)
    distances = ops.maximum(
        squares[:, None] + squares[None] - 2.0 * ops.matmul(rows, ops.transpose(rows)), 0.0
    )
    mean = ops.stop_gradient(ops.mean(distances)) + SMALL
    kernel = sum(ops.exp(-distances / (mean * width)) for width in widths) / len(widths)
    n, m = (ops.cast(ops.shape(part)[0], "float32") for part in (first, second))
    side = ops.cast(ops.arange(ops.shape(rows)[0]) < ops.shape(first)[0], "float32")
    others = 1.0 - ops.eye(ops.shape(rows)[0])
    rest = 1.0 - side
    within = side[:, None] * side[None] / (n * (n - 1.0))
    within = within + rest[:, None] * rest[None] / (m * (m - 1.0))
    across = side[:, None] * rest[None] + rest[:, None] * side[None]
    return ops.sum(kernel * (within * others - across / (n * m)))
