"""What a phase is fed: its examples in the order of a seed, in batches, endlessly where the clock
ends it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed import pipeline
from graft.recipes.train.settings import TrainPlan

if TYPE_CHECKING:
    import tensorflow as tf

    from graft.recipes.train.joint import Method

__all__ = ["ENDLESS", "PhaseBatches", "label_weights", "steps_a_call"]

CHUNK_BYTES = 1024**2
"""What a disk reads in one stretch, where features are too large for memory."""
LEAST_CHUNKS = 64
"""Stretches that a window mixes, at least: data that are sorted by class, as folders are, would
come class after class.
"""
ENDLESS = 1_000_000
"""Epochs of a phase that the clock ends."""
SEEDS_APART = 1_000_003
"""Between the seed of the labelled examples' order and that of the others'."""
STEPS_A_CALL = 16
"""Steps that run without returning to Python, at most, unless only the head trains: then it is a
whole epoch.
"""
VALIDATION_SEED = 0
"""Of the random changes to validation images, where pairs of them are compared: the same in every
epoch and run.
"""


def label_weights(plan: TrainPlan, examples: Examples) -> np.ndarray | None:
    """What an example of each label counts, `(labels,)`, where classes are weighted."""
    if not plan.settings.class_weights:
        return None
    return pipeline.balanced_weights(np.asarray(examples.targets[plan.tasks.first.name]))


@dataclass(frozen=True)
class PhaseBatches:
    """The batches of one phase.

    Attributes:
        plan: of the training.
        method: what the phase learns from unlabelled examples; None: nothing.
        epochs: of the phase; `ENDLESS` where the clock ends it.
    """

    plan: TrainPlan
    method: "Method | None"
    epochs: int

    def order(self, seed: int, examples: Examples, first: int = 0) -> pipeline.Order:
        """The order in which a seed sees the examples, from epoch `first` on."""
        chunk, window = 1, 0
        if examples.row_bytes is not None:
            # What the operating system keeps of a window is its own affair; half the budget leaves
            # room for both.
            budget = self.plan.settings.caching.budget_bytes // 2
            chunk = max(1, min(CHUNK_BYTES, budget // LEAST_CHUNKS) // examples.row_bytes)
            window = max(1, budget // (chunk * examples.row_bytes))
        positions = examples.positions
        if positions is not None:  # in the order of their length, whatever a disk would like
            chunk, window = 1, 0
        return pipeline.Order(
            len(examples),
            self.plan.settings.batch_size,
            seed,
            self.epochs,
            first,
            chunk=chunk,
            window=window,
            lengths=None if positions is None else positions.lengths,
        )

    def training(
        self, data: Mapping[str, Examples], seed: int, first: int = 0
    ) -> "tf.data.Dataset":
        """(inputs, targets[, weights]) from epoch `first` on, shuffled by the seed."""
        examples, augment = data["train"], self.plan.settings.augment
        order = self.order(seed, examples, first)
        if self.plan.pairs:
            return pipeline.paired_batches(examples, order, augment)
        weights = label_weights(self.plan, examples)
        labelled = pipeline.training_batches(
            examples, order, augment=augment, class_weights=weights
        )
        if self.method is None:
            return labelled
        others = self.order(seed + SEEDS_APART, data["unlabelled"])
        begun, skip = divmod(first * order.steps, others.steps)
        others = replace(others, epochs=ENDLESS, first=begun, skip=skip)
        return pipeline.joint_batches(
            labelled, data["unlabelled"], others, augment, self.method.strong
        )

    def validation_pairs(self, examples: Examples) -> "tf.data.Dataset":
        """Pairs of versions of the validation examples, the same ones each time."""
        settings = self.plan.settings
        order = pipeline.Order(len(examples), settings.batch_size, VALIDATION_SEED)
        return pipeline.paired_batches(examples, order, settings.augment)


def steps_a_call(steps: int, whole_epochs: bool) -> int:
    """How many steps run in one call: a divisor of `steps`, the steps of an epoch, because Keras
    would run past its end otherwise.
    """
    if whole_epochs:
        return steps
    return max(n for n in range(1, STEPS_A_CALL + 1) if steps % n == 0)
