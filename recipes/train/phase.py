"""One phase of a training: its graph, compiled once, its batches, its optimizer, its callbacks."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed import pipeline
from graft.recipes.train.budget import HEAD_PASSES, Clock
from graft.recipes.train.callbacks.deadline import PhaseTime, TimedState, deadline
from graft.recipes.train.callbacks.recorder import EpochLog, ProgressBar, keep_best, recorder
from graft.recipes.train.device import xla_pays
from graft.recipes.train.lr_finder import find_rate
from graft.recipes.train.optimizer import (
    LearningRate,
    batch_norm_momentum,
    flush,
    group_size,
    make_optimizer,
)
from graft.recipes.train.phase_batches import ENDLESS, PhaseBatches, steps_a_call
from graft.recipes.train.phases.forecast import Forecast, Look
from graft.recipes.train.phases.parts import PhaseParts, PhaseRun
from graft.recipes.train.settings import TrainPlan
from graft.recipes.train.validation import (
    EVALUATION_BATCH,
    evaluate_pairs,
    forward,
    outputs_of,
)
from graft.zoo.graph.cuts import split_at, with_frozen_prefix
from graft.zoo.graph.state import set_weights
from graft.zoo.heads.head import compile_arguments
from graft.zoo.terminal import progress, say

__all__ = ["CompiledPhase"]


class CompiledPhase:
    """One phase's graph, compiled once: the suffix alone on cached features, or behind a prefix
    that never trains.
    """

    def __init__(self, plan: TrainPlan, number: int, parts: PhaseParts):
        import keras

        from graft.recipes.train.gradnorm import GradNorm
        from graft.recipes.train.joint import Joint

        self.plan, self.parts, self.settings = plan, parts, plan.settings
        self.phase = phase = plan.phases[number]
        is_last = number == len(plan.phases) - 1
        self.keep_last = plan.keep == "last" and is_last
        self.method = parts.method if is_last else None
        model, cut, cached = parts.model, parts.cut, parts.cached
        if cut is not None:
            model = split_at(model, cut)[1] if cached else with_frozen_prefix(model, cut)
        self.model = model
        self.forward = forward(model)
        if self.method is not None:
            self.model = model = Joint(model, self.method, self._progress)
        if plan.tasks.balanced:
            self.model = model = GradNorm(model, plan.tasks.heads)
        timed = self.settings.budget_seconds is not None
        self.epochs = ENDLESS if timed else phase.epochs
        self.batches = PhaseBatches(plan, self.method, self.epochs)
        self.steps = self.batches.order(0, parts.train).steps
        self.forecast: Forecast | None = None
        # How many steps a budget of time allows is seen on the way: rate and momentum follow it.
        self.timed = TimedState.fresh(self.steps) if timed else None
        if phase.batch_norm == "train":
            known = batch_norm_momentum(self.steps * phase.epochs)
            for layer in model._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                    if self.timed is not None:
                        layer.momentum = self.timed.momentum
                    else:
                        layer.momentum = min(layer.momentum, known)
        # Keras cannot run several steps in one call where a batch is shared between devices; and
        # what has to end in time looks at the clock after each one that takes long.
        whole = cached and phase.train == "head"
        one = self.settings.multi_gpu or (timed and not cached)
        self.steps_a_call = 1 if one else steps_a_call(self.steps, whole_epochs=whole)
        # As many steps an epoch as its groups of accumulated gradients would have if the last one
        # were whole: `flush`.
        self.group = group_size(self.settings.accumulate, self.steps)
        self.counted = -(-self.steps // self.group) * self.group
        if self.settings.accumulate > self.steps:
            say(
                f"{phase.name}: --accumulate {self.settings.accumulate} is more than the "
                f"{self.steps} steps of an epoch: one update an epoch"
            )
        self._compile()

    def _compile(self) -> None:
        model, phase = self.model, self.phase
        share = None if self.timed is None else self.timed.share
        steps = self.counted * phase.epochs
        optimizer = make_optimizer(
            model.trainable_weights,
            LearningRate(phase.learning_rate, steps, self.counted, share),
            replace(self.settings.optimizer, accumulate=self.group),
            blocks=self.parts.blocks,
            layer_decay=phase.layer_decay,
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

        if self.timed is not None:
            return self.timed.share
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        # Not `iterations`: those are updates, of which there are fewer where gradients are
        # accumulated.
        return keras.ops.cast(optimizer._iterations, "float32") / (self.counted * self.phase.epochs)

    def _look(self, examples: Examples) -> Look:
        """What gives the figures of the validation `examples` with the weights of now."""
        validation, count = self.parts.validation, len(examples)
        if validation is not None:
            batches = pipeline.input_batches(examples, EVALUATION_BATCH)
            outputs = functools.partial(outputs_of, self.forward, examples)
            return Look(batches, count, EVALUATION_BATCH, outputs, validation.figures)
        size = min(self.settings.batch_size, count)
        pairs, figures = self.batches.validation_pairs(examples), lambda found: found
        evaluate = functools.partial(evaluate_pairs, self.model)
        return Look(pairs, count // size * size, size, evaluate, figures)

    def foresee(self, data: Mapping[str, Examples], clock: Clock) -> Forecast:
        """What the parts of the phase will take. Before the first seed nothing is known of them: a
        few validation batches are run.
        """
        if self.forecast is None:
            look = self._look(data["validation"])
            size = self.steps_a_call * self.settings.batch_size
            self.forecast = Forecast.of(look.tried(clock), size / look.batch_size)
        return self.forecast

    def find_rate(self, data: Mapping[str, Examples], seed: int) -> dict:
        """Sweep over rates, then compile anew; see `lr_finder.find_rate`."""
        losses = compile_arguments(self.plan.tasks.heads, self.model)["loss"]
        found = find_rate(
            self.model,
            self.batches.training(data, seed),
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
        log = EpochLog(list(state.rows), list(state.stopping.get("glances", ())))
        for variable, value in zip(self.variables, state.optimizer or self.fresh, strict=True):
            variable.assign(value)
        # It was killed just before the next phase.
        if state.stopping.get("stopped") or state.epochs_done == self.epochs:
            set_weights(self.model, run.best_weights)
            return state.rows, state.stopping["best_epoch"], 0.0, log.glances
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        known = {**state.stopping, "best_weights": run.best_weights} if state.stopping else {}
        best = keep_best(
            self.parts.watched, settings.patience or self.epochs, known, always=self.keep_last
        )
        look = self._look(run.data["validation"])

        def watch(epoch: int, logs: dict) -> None:
            flush(self.model.optimizer)
            logs |= look()

        # Callbacks are called in this order and share their logs.
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=watch), best]
        if settings.tensorboard and self.parts.logs is not None:
            callbacks.append(
                keras.callbacks.TensorBoard(self.parts.logs / f"seed-{run.seed}" / phase.name)
            )
        length, ends = (phase.epochs - state.epochs_done) * self.steps, None
        if limits is not None and self.timed is not None:
            length = max(1, round(limits[1] - clock.used))  # a bar of seconds
            most = HEAD_PASSES * phase.epochs if phase.train == "head" else None
            forecast = self.foresee(run.data, clock)
            time = PhaseTime(clock, *limits, settings.budget_seconds or 0.0, most, forecast)
            ends = deadline(time, self.timed, look, log.glances)
            callbacks.append(ends)
        with progress(f"{phase.name} (seed {run.seed})", length) as advance:
            bar = ProgressBar(advance, self.steps_a_call, None if limits is None else clock)
            callbacks.append(recorder(phase, log, best, clock, bar, run.save))
            if ends is not None:
                callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=ends.epoch_over))
            for first, end, examples in self._stretches(run):
                self.model.fit(
                    pipeline.timed(self.batches.training(examples, run.seed, first), waited),
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
        return log.rows, best.best_epoch, float(waited.numpy()), log.glances

    def _stretches(self, run: PhaseRun) -> Iterable[tuple[int, int, Mapping[str, Examples]]]:
        """(an epoch, the one where it ends, what it sees of each split) of the epochs to come."""
        done = run.state.epochs_done
        if run.views is None or self.parts.cut is None:
            return [(done, self.epochs, run.data)]
        return run.views.stretches(self.parts.cut, done, self.epochs, self._fits(run))

    def _fits(self, run: PhaseRun) -> Callable[[float], bool]:
        """Whether so many seconds, and an epoch behind them, fit into what the phase has left."""
        limits, forecast = run.limits, self.forecast
        if limits is None or forecast is None:
            return lambda seconds: True
        return lambda seconds: run.clock.used + seconds + forecast.least <= limits[1]
