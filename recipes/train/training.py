"""One model on its way through its phases: what is compiled, fed, trained and saved for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.recipes.codecs.images import Images
from graft.recipes.codecs.texts import Texts
from graft.recipes.feed import pipeline
from graft.recipes.feed.gather import Features, has_gaps
from graft.recipes.feed.views import Views
from graft.recipes.train.budget import HEAD_PASSES, Clock, bound, deadline
from graft.recipes.train.checkpoint import Checkpoint
from graft.recipes.train.device import xla_pays
from graft.recipes.train.lr_finder import find_rate
from graft.recipes.train.optimizer import batch_norm_momentum, flush, group_size, make_optimizer
from graft.recipes.train.recorder import keep_best, recorder
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.recipes.train.validation import (
    EVALUATION_BATCH,
    Validation,
    Watched,
    forward,
    outputs_of,
)
from graft.zoo.errors import ArtifactError, TrainingError
from graft.zoo.graph.adapters import freeze_all_but
from graft.zoo.graph.blocks import Block, count_trained, freeze_blocks
from graft.zoo.graph.cuts import split_at, with_frozen_prefix
from graft.zoo.graph.state import set_weights
from graft.zoo.heads.heads import Head, Tasks, compile_arguments
from graft.zoo.terminal import progress, say

if TYPE_CHECKING:
    from graft.recipes.train.joint import Method

__all__ = ["Training"]

CHUNK_BYTES = 1024**2
"""What a disk reads in one stretch, where features are too large for memory."""
VALIDATION_SEED = 0
"""Of the random changes to validation pictures, where pairs of them are compared: the same in every
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


class Training:
    """One model on its way through the phases. With `method`, the last one learns from unlabelled
    examples too; with `pairs` a batch holds two versions of each picture, and nothing else is known
    of them.
    """

    def __init__(
        self,
        model,
        blocks: Sequence[Block],
        head: Head | Tasks,
        phases,
        images,
        settings: FitSettings,
        logs: Path | None,
        method: "Method | None" = None,
        pairs: bool = False,
        keep: Literal["best", "last"] = "best",
    ):
        self.model, self.blocks, self.head, self.phases = model, blocks, head, phases
        self.images, self.settings, self.logs = images, settings, logs
        most = max(count_trained(blocks, phase.train) for phase in phases)
        still = {id(v) for block in blocks[: len(blocks) - most] for v in block.weights}
        self.changing = [v for v in model.variables if id(v) not in still] + (
            method.variables if method else []
        )
        self.method, self.pairs, self.keep_which = method, pairs, keep
        weights = (
            pipeline.balanced_weights(images["train"].targets) if settings.class_weights else None
        )
        self.validation = None if pairs else Validation(head, images["validation"], weights)
        self.watched = Watched("validation loss", "min") if pairs else self.validation.watched
        self.compiled: dict[tuple[int, bool], _Phase] = {}
        self.sweeps: dict[int, dict] = {}

    def seed_dropout(self, seed: int) -> None:
        """Set every random state of the model, so that a seed gives one result however many came
        before it.
        """
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for i, state in enumerate(states):
            state.assign(np.array([seed, i], state.dtype))

    def restore(self, state: Checkpoint | None) -> Checkpoint:
        """Set the model to `state`, if there is one.

        Raises:
            ArtifactError: it is that of another model or schedule.
        """
        if state is None:
            return Checkpoint()
        shapes = [tuple(variable.shape) for variable in self.changing]
        held = [
            [value.shape for value in values]
            for values in (state.variables, state.kept_variables)
            if values
        ]
        if any(found != shapes for found in held) or not 0 <= state.phase <= len(self.phases):
            raise ArtifactError(
                "the checkpoint is damaged, or of another model: train anew with --overwrite"
            )
        for variable, value in zip(self.changing, state.variables, strict=True):
            variable.assign(value)
        return state

    def keep(self, state: Checkpoint) -> None:
        """Set the model to the best epoch of all phases, now that they are over.

        Raises:
            TrainingError: the watched figure of none of them is a number.
        """
        if not state.kept:
            raise TrainingError(
                f"nothing to keep: the {self.watched.name} is no number in any of the "
                f"{len(state.history)} epochs; train "
                "anew (--overwrite) with a --learning-rate a tenth of it, or --clip-norm 1"
            )
        for variable, value in zip(self.changing, state.kept_variables, strict=True):
            variable.assign(value)
        kept = state.kept
        if kept["phase"] < len(self.phases) - 1:
            name, value = self.phases[kept["phase"]].name, kept["value"]
            say(
                f"kept: epoch {kept['epoch']} of phase '{name}' ({self.watched.name} {value:.4g}), "
                "no later one is better"
            )

    def run_phase(
        self,
        number,
        trained,
        cut,
        views: Views | None,
        seed,
        state: Checkpoint,
        checkpoints,
        clock: Clock,
        start,
    ):
        """Train one phase from where `state` stands; returns the state after it. `start` is what
        the clock showed when it began.
        """
        phase = self.phases[number]
        freeze_blocks(self.model, self.blocks, trained, phase.batch_norm)
        freeze_all_but(self.blocks, phase.adapt)
        key = (number, views is not None)
        if key not in self.compiled:
            method = self.method if phase is self.phases[-1] else None
            self.compiled[key] = _Phase(self, number, cut, views is not None, method)
        compiled = self.compiled[key]
        data = {
            name: self.images[name] if views is None else views.cache.features(cut, name)
            for name in self.images
        }
        changing = {id(v) for v in self.changing}
        own = [i for i, v in enumerate(compiled.model.weights) if id(v) in changing]
        if self.settings.find_lr and number not in self.sweeps:
            self.sweeps[number] = compiled.find_rate(data, seed)

        def save(rows, best, stopping):
            optimizer = [np.asarray(v) for v in compiled.variables]
            checkpoints.save(
                seed,
                Checkpoint(
                    number,
                    len(rows),
                    [v.numpy() for v in self.changing],
                    optimizer,
                    [best[i] for i in own],
                    stopping,
                    rows,
                    state.history,
                    state.summaries,
                    clock.own,
                    clock.charged,
                    state.began,
                    views.taken if views is not None else state.views,
                    state.kept,
                    state.kept_variables,
                ),
            )

        best = compiled.model.get_weights()
        for i, value in zip(own, state.best, strict=False):
            best[i] = value
        prepared = clock.own - start
        passing = views.passing if views is not None else 0.0
        limits, budget = None, self.settings.budget_seconds
        if state.began is None:
            state.began = clock.used
        if budget is not None:
            limits = bound(
                [p.epochs for p in self.phases[number:]], state.began, budget, first=number == 0
            )
        rows, best_epoch, waited, glances = compiled.fit(
            data, views, seed, state, best, save, clock, limits
        )
        prepared += views.passing - passing if views is not None else 0.0
        seconds = clock.own - start
        training_seconds = sum(row["seconds"] for row in rows)
        examples = len(rows) * compiled.steps * self.settings.batch_size
        summary = {
            "seconds": seconds,
            "epochs_run": len(rows),
            "best_epoch": best_epoch + 1,
            "cached": views is not None,
            "views": views.taken if views is not None else None,
            # Not `state.charged`: a checkpoint in the middle of a phase holds what the phase was
            # charged before it.
            "cached_seconds": clock.charged
            - sum(summary["cached_seconds"] for summary in state.summaries),
            "glances": glances,
            "preparation_seconds": prepared,
            "images_per_second": examples / training_seconds,
            "input_wait_share": waited / training_seconds,
            "rate_finder": self.sweeps.get(number),
            "watched": self.watched.name,
            **_best(rows[best_epoch]),
        }
        say(
            f"{phase.name}: {seconds:.0f} s, of which {prepared:.0f} s to prepare; "
            f"{summary['images_per_second']:,.0f} "
            f"examples/s, {summary['input_wait_share']:.0%} of the time waiting for them"
        )
        variables = [v.numpy() for v in self.changing]
        kept = self._kept(state, number, best_epoch, rows)
        rows = [
            {name: value for name, value in row.items() if name != "val_watched"} for row in rows
        ]
        state = Checkpoint(
            number + 1,
            kept=kept,
            kept_variables=state.kept_variables if kept is state.kept else variables,
            variables=variables,
            history=state.history + [{"phase": phase.name, **row} for row in rows],
            summaries=[*state.summaries, summary],
            seconds=clock.own,
            charged=clock.charged,
            views=views.taken if views is not None else state.views,
        )
        checkpoints.save(seed, state)
        return state

    def _kept(self, state: Checkpoint, number: int, epoch: int, rows: Sequence[Mapping]) -> dict:
        """Which epoch of all phases so far is the best, now that phase `number` has ended, whose
        best `epoch` is; `state` is that of before. Empty: no epoch so far has a watched figure that
        is a number.
        """
        value = rows[epoch]["val_watched"]
        last = self.keep_which == "last" and number == len(self.phases) - 1
        if self.watched.better(value, None if last or not state.kept else state.kept["value"]):
            row = len(state.history) + epoch
            watched = {
                "watched": self.watched.name,
                "mode": self.watched.mode,
                "rule": self.keep_which,
            }
            return {"phase": number, "epoch": epoch + 1, "row": row, "value": value, **watched}
        return state.kept


class _Phase:
    """One phase's graph, compiled once: the suffix alone on cached features, or behind a prefix
    that never trains.
    """

    def __init__(self, training: Training, number: int, cut, cached: bool, method: "Method | None"):
        import keras
        import tensorflow as tf

        from graft.recipes.train.gradnorm import GradNorm
        from graft.recipes.train.joint import Joint

        phase: Phase = training.phases[number]
        self.pairs, self.validation, self.watched = (
            training.pairs,
            training.validation,
            training.watched,
        )
        self.keep_last = training.keep_which == "last" and number == len(training.phases) - 1
        self.phase, self.cut, self.settings, self.logs = (
            phase,
            cut,
            training.settings,
            training.logs,
        )
        self.head, self.blocks = training.head, training.blocks
        model = training.model
        if cut is not None:
            model = split_at(model, cut)[1] if cached else with_frozen_prefix(model, cut)
        self.method, self.model = method, model
        self.forward = forward(model)
        if method is not None:
            self.model = model = Joint(model, method, self._progress)
        if isinstance(self.head, Tasks) and self.head.balanced:
            self.model = model = GradNorm(model, self.head)
        timed = self.settings.budget_seconds is not None
        self.epochs = ENDLESS if timed else phase.epochs
        self.share = tf.Variable(0.0) if timed else None
        self.steps = self._order(0, training.images["train"]).steps
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
            blocks=self.blocks,
            layer_decay=phase.layer_decay,
            steps_per_epoch=self.counted,
            share=self.share,
        )
        model.compile(
            optimizer=optimizer,
            **compile_arguments(self.head, model),
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

    def _progress(self):
        """How much of the phase has passed, 0 to 1, as a tensor."""
        import keras

        if self.share is not None:
            return self.share
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        # Not `iterations`: those are updates, of which there are fewer where gradients are
        # accumulated.
        return keras.ops.cast(optimizer._iterations, "float32") / (self.counted * self.phase.epochs)

    def _order(
        self, seed: int, examples: Images | Texts | Features, first: int = 0
    ) -> pipeline.Order:
        texts = pipeline.texts_of(examples)
        if texts is not None:
            lengths = texts.ids.lengths
            return pipeline.Order(
                len(texts), self.settings.batch_size, seed, self.epochs, first, lengths=lengths
            )
        chunk, window = 1, 0
        if isinstance(examples, Features) and not examples.in_memory:
            row_bytes = sum(views[0].row_bytes for views in examples.tensors)
            chunk = max(1, CHUNK_BYTES // row_bytes)
            # What the operating system keeps of a window is its own affair; half the budget leaves
            # room for both.
            window = max(1, self.settings.caching.budget_bytes // 2 // (chunk * row_bytes))
        return pipeline.Order(
            len(examples),
            self.settings.batch_size,
            seed,
            self.epochs,
            first,
            chunk=chunk,
            window=window,
        )

    def _batches(self, data: Mapping, seed: int, first: int = 0):
        """(inputs, targets[, weights]) from epoch `first` on."""
        examples = data["train"]
        if self.pairs:
            return pipeline.paired_batches(
                examples, self._order(seed, examples, first), self.settings.augment
            )
        weights = (
            pipeline.balanced_weights(examples.targets) if self.settings.class_weights else None
        )
        order, augment = self._order(seed, examples, first), self.settings.augment
        if isinstance(examples, Features):
            labelled = pipeline.feature_batches(examples, order, class_weights=weights)
        else:
            labelled = pipeline.training_batches(
                examples, order, augment=augment, class_weights=weights
            )
        if has_gaps(examples.targets):
            labelled = pipeline.known_only(labelled)
        if self.method is None:
            return labelled
        others = self._order(seed + APART, data["unlabelled"])
        begun, skip = divmod(first * self.steps, others.steps)
        others = replace(others, epochs=ENDLESS, first=begun, skip=skip)
        return pipeline.joint_batches(
            labelled, data["unlabelled"], others, augment, self.method.strong
        )

    def _look(self, examples) -> Callable[[], dict[str, float]]:
        """What gives the figures of the validation `examples` with the weights of now."""
        if not self.pairs:
            batches = pipeline.evaluation_batches(examples, EVALUATION_BATCH)
            return lambda: self.validation.figures(outputs_of(self.forward, examples, batches))
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

    def find_rate(self, data: Mapping, seed: int) -> dict:
        """Sweep over rates, then compile anew; see `lr_finder.find_rate`."""
        losses = compile_arguments(self.head, self.model)["loss"]
        found = find_rate(
            self.model,
            self._batches(data, seed),
            losses,
            self.settings.weight_decay,
            self.phase.name,
        )
        self._compile()
        return found

    def fit(
        self,
        data: Mapping,
        views: Views | None,
        seed: int,
        state: Checkpoint,
        best_weights: list,
        save: Callable,
        clock: Clock,
        limits,
    ):
        """(a row an epoch, the index of the best one, seconds spent waiting for batches, figures of
        looks in between).

        Goes on where `state` stands, whose best weights are `best_weights`; the model holds the
        best epoch's weights afterwards, or where the last one is kept those of the last. With
        `views` it trains on those of the examples of `data`. `save` is called after each epoch.
        With `limits` (when the phase begins and ends on the `clock`) it trains until then.
        """
        import keras
        import tensorflow as tf

        settings, phase = self.settings, self.phase
        glances = list(state.stopping.get("glances", ()))
        for variable, value in zip(self.variables, state.optimizer or self.fresh, strict=True):
            variable.assign(value)
        if (
            state.stopping.get("stopped") or state.epochs_done == self.epochs
        ):  # killed just before the next phase
            set_weights(self.model, best_weights)
            return state.rows, state.stopping["best_epoch"], 0.0, glances
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        known = {**state.stopping, "best_weights": best_weights} if state.stopping else {}
        best = keep_best(
            self.watched, settings.patience or self.epochs, known, always=self.keep_last
        )
        look = self._look(data["validation"])

        def watch(epoch, logs):
            flush(self.model.optimizer)
            logs |= look()

        rows = list(state.rows)
        # Callbacks are called in this order and share their logs.
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=watch), best]
        if settings.tensorboard and self.logs is not None:
            callbacks.append(keras.callbacks.TensorBoard(self.logs / f"seed-{seed}" / phase.name))
        length = (phase.epochs - state.epochs_done) * self.steps
        if limits is not None:
            length = max(1, round(limits[1] - clock.used))  # a bar of seconds
            callbacks.append(self._deadline(clock, limits, look, glances))
        with progress(f"{phase.name} (seed {seed})", length) as advance:
            moved = _mover(advance, self.steps_a_call, None if limits is None else clock)
            callbacks.append(recorder(rows, best, glances, clock, moved, advance, save, phase))
            stretches = [(state.epochs_done, self.epochs, data)]
            if views is not None:
                stretches = views.stretches(self.cut, state.epochs_done, self.epochs)
            for first, end, examples in stretches:
                self.model.fit(
                    pipeline.timed(self._batches(examples, seed, first), waited),
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

    def _deadline(self, clock: Clock, limits: tuple[float, float], look: Callable, glances: list):
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


def _best(row: Mapping[str, float]) -> dict:
    """The validation figures of an epoch for run.json, which has no word for what is no number but
    null.
    """
    return {
        f"best_validation_{name.removeprefix('val_')}": value if np.isfinite(value) else None
        for name, value in row.items()
        if name.startswith("val_")
    }
