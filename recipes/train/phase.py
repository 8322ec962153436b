"""One phase of a training: its graph, compiled once, its batches, its optimizer, its callbacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed import pipeline
from graft.recipes.feed.frozen import Cut
from graft.recipes.feed.views import Views
from graft.recipes.train.budget import HEAD_PASSES, Clock, deadline
from graft.recipes.train.checkpoint import Checkpoint
from graft.recipes.train.device import xla_pays
from graft.recipes.train.lr_finder import find_rate
from graft.recipes.train.optimizer import batch_norm_momentum, flush, group_size, make_optimizer
from graft.recipes.train.recorder import keep_best, recorder
from graft.recipes.train.settings import TrainPlan
from graft.recipes.train.validation import (
    EVALUATION_BATCH,
    Validation,
    Watched,
    forward,
    outputs_of,
)
from graft.zoo.graph.blocks import Block
from graft.zoo.graph.cuts import split_at, with_frozen_prefix
from graft.zoo.graph.state import set_weights
from graft.zoo.heads.head import compile_arguments
from graft.zoo.terminal import progress, say

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from graft.recipes.train.joint import Method

__all__ = ["CompiledPhase", "PhaseParts", "PhaseRun", "label_weights"]

CHUNK_BYTES = 1024**2
"""What a disk reads in one stretch, where features are too large for memory."""
VALIDATION_SEED = 0
"""Of the random changes to validation images, where pairs of them are compared: the same in every
epoch and run.
"""
ENDLESS = 1_000_000
"""Epochs of a phase that the clock ends."""
APART = 1_000_003
"""Between the seed of the labelled examples' order and that of the others'."""
STEPS_A_CALL = 16
"""Steps that run without returning to Python, at most, unless only the head trains: then it is a
whole epoch.
"""


@dataclass(frozen=True)
class PhaseParts:
    """What a phase is compiled of.

    Attributes:
        model: the whole one.
        blocks: of its backbone.
        cut: before what trains; None where nothing is frozen.
        cached: whether what lies before the cut comes from the cache.
        method: what the last phase learns from unlabelled examples; None: nothing.
        train: the training examples.
        validation: what measures the validation examples; None for pairs.
        watched: what the best epoch is chosen by.
        logs: the folder of TensorBoard's logs; None: none are written.
    """

    model: "keras.Model"
    blocks: Sequence[Block]
    cut: Cut | None
    cached: bool
    method: "Method | None"
    train: Examples
    validation: Validation | None
    watched: Watched
    logs: Path | None


@dataclass(frozen=True)
class PhaseRun:
    """One seed on its way through one phase.

    Attributes:
        data: the examples, or features of them, by split_at.
        views: of cached examples, a new one in each of the first epochs; None: there is one.
        state: where it stands; it goes on from there.
        best_weights: those of the best epoch of the phase so far.
        save: is called after each epoch with (rows, best weights, what early stopping knows).
        clock: of the training.
        limits: when the phase begins and ends on the clock; None: it trains for so many epochs.
    """

    data: Mapping[str, Examples]
    views: Views | None
    seed: int
    state: Checkpoint
    best_weights: list[np.ndarray]
    save: Callable[..., None]
    clock: Clock
    limits: tuple[float, float] | None


def label_weights(plan: TrainPlan, examples: Examples) -> np.ndarray | None:
    """What an example of each label counts, `(labels,)`, where classes are weighted."""
    if not plan.settings.class_weights:
        return None
    return pipeline.balanced_weights(examples.targets[plan.tasks.first.name])


class CompiledPhase:
    """One phase's graph, compiled once: the suffix alone on cached features, or behind a prefix
    that never trains.
    """

    def __init__(self, plan: TrainPlan, number: int, parts: PhaseParts):
        import keras
        import tensorflow as tf

        from graft.recipes.train.gradnorm import GradNorm
        from graft.recipes.train.joint import Joint

        self.plan, self.parts, self.settings = plan, parts, plan.settings
        self.phase = phase = plan.phases[number]
        is_last = number == len(plan.phases) - 1
        self.keep_last = plan.keep == "last" and is_last
        self.method = parts.method if is_last else None
        model, cached = parts.model, parts.cached
        if parts.cut is not None:
            model = (
                split_at(model, parts.cut)[1] if cached else with_frozen_prefix(model, parts.cut)
            )
        self.model = model
        self.forward = forward(model)
        if self.method is not None:
            self.model = model = Joint(model, self.method, self._progress)
        if plan.tasks.balanced:
            self.model = model = GradNorm(model, plan.tasks.heads)
        timed = self.settings.budget_seconds is not None
        self.epochs = ENDLESS if timed else phase.epochs
        self.share = tf.Variable(0.0) if timed else None
        self.steps = self._order(0, parts.train).steps
        # How many steps a budget of time allows is seen on the way: the momentum is a variable
        # then.
        self.momentum = tf.Variable(batch_norm_momentum(self.steps)) if timed else None
        if phase.batch_norm == "train":
            known = batch_norm_momentum(self.steps * phase.epochs)
            for layer in model._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                    layer.momentum = self.momentum if timed else min(layer.momentum, known)
        # Keras cannot run several steps in one call where a batch is shared between devices; and
        # what has to end in time looks at the clock after each one that takes long.
        whole = cached and phase.train == "head"
        one = self.settings.multi_gpu or (timed and not cached)
        self.steps_a_call = 1 if one else _steps_a_call(self.steps, whole_epochs=whole)
        # As many steps an epoch as its groups of accumulated gradients would have if the last one
        # were whole: `flush`.
        self.group = group_size(self.settings.accumulate, self.steps)
        self.counted = -(-self.steps // self.group) * self.group
        if self.settings.accumulate > self.steps:
            say(
                f"{phase.name}: --accumulate {self.settings.accumulate} is more than the "
                f"{self.steps} steps of an epoch: "
                "one update an epoch"
            )
        self._compile()

    def _compile(self) -> None:
        model, phase = self.model, self.phase
        optimizer = make_optimizer(
            model.trainable_weights,
            phase.learning_rate,
            self.counted * phase.epochs,
            replace(self.settings.optimizer, accumulate=self.group),
            blocks=self.parts.blocks,
            layer_decay=phase.layer_decay,
            steps_per_epoch=self.counted,
            share=self.share,
        )
        model.compile(
            optimizer=optimizer,
            **compile_arguments(self.plan.tasks.heads, model),
            jit_compile=xla_pays(),
            steps_per_execution=self.steps_a_call,
        )
        model.optimizer.build(model.trainable_weights)
        self.fresh = [v.numpy() for v in self.variables]

    @property
    def variables(self) -> list:
        """What begins anew with each seed and is no weight of the model: the optimizer's, and what
        balances tasks.
        """
        return [*self.model.optimizer.variables, *getattr(self.model, "balance", ())]

    def _progress(self) -> Any:
        """How much of the phase has passed, 0 to 1, as a tensor."""
        import keras

        if self.share is not None:
            return self.share
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        # Not `iterations`: those are updates, of which there are fewer where gradients are
        # accumulated.
        return keras.ops.cast(optimizer._iterations, "float32") / (self.counted * self.phase.epochs)

    def _order(self, seed: int, examples: Examples, first: int = 0) -> pipeline.Order:
        chunk, window = 1, 0
        if examples.row_bytes is not None:
            chunk = max(1, CHUNK_BYTES // examples.row_bytes)
            # What the operating system keeps of a window is its own affair; half the budget leaves
            # room for both.
            budget = self.settings.caching.budget_bytes // 2
            window = max(1, budget // (chunk * examples.row_bytes))
        positions = examples.positions
        if positions is not None:  # in the order of their length, whatever a disk would like
            chunk, window = 1, 0
        return pipeline.Order(
            len(examples),
            self.settings.batch_size,
            seed,
            self.epochs,
            first,
            chunk=chunk,
            window=window,
            lengths=None if positions is None else positions.lengths,
        )

    def _batches(
        self, data: Mapping[str, Examples], seed: int, first: int = 0
    ) -> "tf.data.Dataset":
        """(inputs, targets[, weights]) from epoch `first` on."""
        examples, augment = data["train"], self.settings.augment
        order = self._order(seed, examples, first)
        if self.plan.pairs:
            return pipeline.paired_batches(examples, order, augment)
        weights = label_weights(self.plan, examples)
        labelled = pipeline.training_batches(
            examples, order, augment=augment, class_weights=weights
        )
        if self.method is None:
            return labelled
        others = self._order(seed + APART, data["unlabelled"])
        begun, skip = divmod(first * self.steps, others.steps)
        others = replace(others, epochs=ENDLESS, first=begun, skip=skip)
        return pipeline.joint_batches(
            labelled, data["unlabelled"], others, augment, self.method.strong
        )

    def _look(self, examples: Examples) -> Callable[[], dict[str, float]]:
        """What gives the figures of the validation `examples` with the weights of now."""
        if not self.plan.pairs:
            batches = pipeline.input_batches(examples, EVALUATION_BATCH)
            return lambda: self.parts.validation.figures(
                outputs_of(self.forward, examples, batches)
            )
        order = pipeline.Order(len(examples), self.settings.batch_size, VALIDATION_SEED)
        batches = pipeline.paired_batches(examples, order, self.settings.augment)

        def look() -> dict[str, float]:
            meanwhile = [variable.numpy() for variable in self.model.metrics_variables]
            figures = self.model.evaluate(batches, verbose=0, return_dict=True)
            for variable, value in zip(self.model.metrics_variables, meanwhile, strict=True):
                variable.assign(value)  # the epoch's own figures go on from where they were
            return {
                **{f"val_{name}": value for name, value in figures.items()},
                "val_watched": figures["loss"],
            }

        return look

    def find_rate(self, data: Mapping[str, Examples], seed: int) -> dict:
        """Sweep over rates, then compile anew; see `lr_finder.find_rate`."""
        losses = compile_arguments(self.plan.tasks.heads, self.model)["loss"]
        found = find_rate(
            self.model,
            self._batches(data, seed),
            losses,
            self.settings.weight_decay,
            self.phase.name,
        )
        self._compile()
        return found

    def fit(self, run: PhaseRun) -> tuple[list[dict], int, float, list]:
        """(a row an epoch, the index of the best one, seconds spent waiting for batches, figures of
        looks in between).

        The model holds the best epoch's weights afterwards, or where the last one is kept those of
        the last.
        """
        import keras
        import tensorflow as tf

        settings, phase = self.settings, self.phase
        state, clock, limits = run.state, run.clock, run.limits
        glances = list(state.stopping.get("glances", ()))
        for variable, value in zip(self.variables, state.optimizer or self.fresh, strict=True):
            variable.assign(value)
        if (
            state.stopping.get("stopped") or state.epochs_done == self.epochs
        ):  # killed just before the next phase
            set_weights(self.model, run.best_weights)
            return state.rows, state.stopping["best_epoch"], 0.0, glances
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        known = {**state.stopping, "best_weights": run.best_weights} if state.stopping else {}
        best = keep_best(
            self.parts.watched, settings.patience or self.epochs, known, always=self.keep_last
        )
        look = self._look(run.data["validation"])

        def watch(epoch: int, logs: dict) -> None:
            flush(self.model.optimizer)
            logs |= look()

        rows = list(state.rows)
        # Callbacks are called in this order and share their logs.
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=watch), best]
        if settings.tensorboard and self.parts.logs is not None:
            callbacks.append(
                keras.callbacks.TensorBoard(self.parts.logs / f"seed-{run.seed}" / phase.name)
            )
        length = (phase.epochs - state.epochs_done) * self.steps
        if limits is not None:
            length = max(1, round(limits[1] - clock.used))  # a bar of seconds
            callbacks.append(self._deadline(clock, limits, look, glances))
        with progress(f"{phase.name} (seed {run.seed})", length) as advance:
            moved = _mover(advance, self.steps_a_call, None if limits is None else clock)
            callbacks.append(recorder(rows, best, glances, clock, moved, advance, run.save, phase))
            stretches = [(state.epochs_done, self.epochs, run.data)]
            if run.views is not None:
                stretches = run.views.stretches(self.parts.cut, state.epochs_done, self.epochs)
            for first, end, examples in stretches:
                self.model.fit(
                    pipeline.timed(self._batches(examples, run.seed, first), waited),
                    steps_per_epoch=self.steps,
                    initial_epoch=first,
                    epochs=end,
                    callbacks=callbacks,
                    shuffle=False,  # the batches are shuffled already
                    verbose=0,
                )
                if self.model.stop_training:
                    break
        set_weights(self.model, best.best_weights)
        return rows, best.best_epoch, float(waited.numpy()), glances

    def _deadline(
        self, clock: Clock, limits: tuple[float, float], look: Callable, glances: list
    ) -> "keras.callbacks.Callback":
        def follow(steps: float) -> None:
            self.momentum.assign(batch_norm_momentum(steps))

        most = HEAD_PASSES * self.phase.epochs if self.phase.train == "head" else None
        budget = self.settings.budget_seconds
        return deadline(clock, limits, budget, most, self.share, follow, look, glances)


def _mover(advance: Callable, steps: int, clock: Clock | None) -> Callable[[], None]:
    """Moves the bar by the steps of a call, or with a `clock` by the seconds that have passed since
    it last did.
    """
    if clock is None:
        return lambda: advance(steps)
    seen = [clock.used]

    def move() -> None:
        now = clock.used
        advance(now - seen[0])
        seen[0] = now

    return move


def _steps_a_call(steps: int, whole_epochs: bool) -> int:
    """A divisor of `steps`: Keras would run past the end of an epoch otherwise."""
    if whole_epochs:
        return steps
    return max(n for n in range(1, STEPS_A_CALL + 1) if steps % n == 0)
