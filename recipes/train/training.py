"""One model on its way through its phases: what is compiled, fed, trained and saved for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.train.budget import bound
from graft.recipes.train.checkpoint import Checkpoint
from graft.recipes.train.phase import CompiledPhase
from graft.recipes.train.phase_batches import label_weights
from graft.recipes.train.phases.parts import PhaseParts, PhaseRun, PhaseTurn
from graft.recipes.train.phases.summary import PhaseFacts, skipped_summary
from graft.recipes.train.phases.time_left import TimeLeft
from graft.recipes.train.settings import TrainPlan
from graft.recipes.train.validation import Validation, Watched
from graft.zoo.errors import ArtifactError, TrainingError
from graft.zoo.graph.adapters import freeze_all_but
from graft.zoo.graph.blocks import count_trained, find_blocks, freeze_blocks
from graft.zoo.graph.stack import backbone_of
from graft.zoo.terminal import say, warn

if TYPE_CHECKING:
    import keras

    from graft.recipes.train.joint import Method

__all__ = ["Training"]


class Training:
    """One model on its way through the phases of a plan. With `method`, the last one learns from
    unlabelled examples too.
    """

    def __init__(
        self,
        model: "keras.Model",
        plan: TrainPlan,
        examples: Mapping[str, Examples],
        logs: Path | None,
        method: "Method | None" = None,
    ):
        self.model, self.plan, self.examples, self.logs = model, plan, examples, logs
        self.blocks, self.settings, self.phases = (
            find_blocks(backbone_of(model)),
            plan.settings,
            plan.phases,
        )
        most = max(count_trained(self.blocks, phase.train) for phase in plan.phases)
        frozen = {id(v) for block in self.blocks[: len(self.blocks) - most] for v in block.weights}
        self.method = method
        self.changing = [v for v in model.variables if id(v) not in frozen]
        self.changing += method.variables if method else []
        self.validation = None
        self.watched = Watched("validation loss", "min")
        if not plan.pairs:
            weights = label_weights(plan, examples["train"])
            self.validation = Validation(plan.tasks, examples["validation"].targets, weights)
            self.watched = self.validation.watched
        self.compiled: dict[tuple[int, bool], CompiledPhase] = {}
        self.sweeps: dict[int, dict] = {}
        # What a method or the last epoch is for comes last.
        special = method is not None or plan.keep == "last"
        self.time = TimeLeft(
            plan.settings.budget_seconds, len(plan.phases) - 1 if special else None
        )

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

    def run_phase(self, turn: PhaseTurn, state: Checkpoint) -> Checkpoint:
        """Train one phase from where `state` stands; returns the state after it. A phase for which
        a budget of time has no time left is not begun.

        Raises:
            ConfigError: that is the first one.
        """
        number, views, clock = turn.number, turn.views, turn.clock
        phase = self.phases[number]
        ready = self._key(turn) in self.compiled
        if not state.epochs_done and self.time.is_over(turn, state.summaries, ready):
            return self._skipped(turn, state)
        passing = 0.0
        if views is not None and turn.cut is not None:
            passing = views.passing
            views.begin(turn.cut, turn.later)
            what = "what the frozen blocks give"
            # A training that goes on in the middle of a phase has paid for it already.
            if not state.epochs_done and self.time.is_too_long(turn, what, views.first_seconds()):
                return self._skipped(turn, state)
            views.fill_first()
        freeze_blocks(self.model, self.blocks, turn.trained, phase.batch_norm)
        freeze_all_but(self.blocks, phase.adapt)
        compiled = self._compiled(turn)
        data = {
            name: examples if views is None else views.cache.features(turn.cut, name)
            for name, examples in self.examples.items()
        }
        changing = {id(v) for v in self.changing}
        own = [i for i, v in enumerate(compiled.model.weights) if id(v) in changing]
        if self.settings.find_lr and number not in self.sweeps:
            self.sweeps[number] = compiled.find_rate(data, turn.seed)

        def save(rows: list[dict], best: list[np.ndarray], stopping: dict) -> None:
            now = Checkpoint(
                phase=number,
                epochs_done=len(rows),
                variables=[v.numpy() for v in self.changing],
                optimizer=[np.asarray(v) for v in compiled.variables],
                best=[best[i] for i in own],
                stopping=stopping,
                rows=rows,
                history=state.history,
                summaries=state.summaries,
                seconds=clock.own,
                charged=clock.charged,
                began=state.began,
                views=views.taken if views is not None else state.views,
                kept=state.kept,
                kept_variables=state.kept_variables,
            )
            turn.checkpoints.save(turn.seed, now)

        best = compiled.model.get_weights()
        for i, value in zip(own, state.best, strict=False):
            best[i] = value
        limits, budget = None, self.settings.budget_seconds
        if state.began is None:
            state.began = clock.used
        if budget is not None:
            limits = bound(
                [p.epochs for p in self.phases[number:]], state.began, budget, first=number == 0
            )
            needed = compiled.foresee(data, clock).least
            passed = 0.0 if views is None else views.passing - passing
            self.time.noted(clock.own - turn.start - passed)
            what = f"what precedes phase '{phase.name}', its tracing, one step and one validation"
            if not state.epochs_done and self.time.is_too_long(turn, what, needed):
                return self._skipped(turn, state)
        prepared = clock.own - turn.start
        passing = 0.0 if views is None else views.passing
        rows, best_epoch, waited, glances = compiled.fit(
            PhaseRun(data, views, turn.seed, state, best, save, clock, limits)
        )
        prepared += views.passing - passing if views is not None else 0.0
        facts = PhaseFacts(
            seconds=clock.own - turn.start,
            prepared=prepared,
            waited=waited,
            examples=len(rows) * compiled.steps * self.settings.batch_size,
            glances=glances,
            sweep=self.sweeps.get(number),
            watched=self.watched.name,
        )
        summary = facts.summary(rows, best_epoch) | self._used(turn, state)
        say(f"{phase.name}: {facts.told(rows)}")
        return self._next(turn, state, rows, summary)

    def _skipped(self, turn: PhaseTurn, state: Checkpoint) -> Checkpoint:
        """The state after a phase that is not begun; says so."""
        name, budget = self.phases[turn.number].name, self.settings.budget_seconds or 0.0
        why = f"the --budget of {budget:g} s has no time for phase '{name}': it is not begun"
        warn(why)
        summary = skipped_summary(turn.clock.own - turn.start, why) | self._used(turn, state)
        return self._next(turn, state, [], summary)

    def _used(self, turn: PhaseTurn, state: Checkpoint) -> dict:
        """What a phase took from the cache."""
        views, before = turn.views, state.summaries
        return {
            "cached": views is not None,
            "views": views.taken if views is not None else None,
            # Not `state.charged`: a checkpoint in the middle of a phase holds what the phase was
            # charged before it.
            "cached_seconds": turn.clock.charged - sum(s["cached_seconds"] for s in before),
        }

    def _next(
        self, turn: PhaseTurn, state: Checkpoint, rows: Sequence[Mapping], summary: dict
    ) -> Checkpoint:
        """The state between a phase, whose `rows` and `summary` these are, and the next; saved."""
        name, variables = self.phases[turn.number].name, [v.numpy() for v in self.changing]
        kept = state.kept
        if rows:
            kept = self._kept(state, turn.number, summary["best_epoch"] - 1, rows)
        own = [{"phase": name, **row} for row in rows]
        for row in own:
            del row["val_watched"]
        after = Checkpoint(
            turn.number + 1,
            kept=kept,
            kept_variables=state.kept_variables if kept is state.kept else variables,
            variables=variables,
            history=state.history + own,
            summaries=[*state.summaries, summary],
            seconds=turn.clock.own,
            charged=turn.clock.charged,
            views=turn.views.taken if turn.views is not None else state.views,
        )
        turn.checkpoints.save(turn.seed, after)
        return after

    @staticmethod
    def _key(turn: PhaseTurn) -> tuple[int, bool]:
        return turn.number, turn.views is not None

    def _compiled(self, turn: PhaseTurn) -> CompiledPhase:
        """The phase of a turn, compiled when it is needed first."""
        key = self._key(turn)
        if key not in self.compiled:
            parts = PhaseParts(
                model=self.model,
                blocks=self.blocks,
                cut=turn.cut,
                cached=turn.views is not None,
                method=self.method,
                train=self.examples["train"],
                validation=self.validation,
                watched=self.watched,
                logs=self.logs,
            )
            self.compiled[key] = CompiledPhase(self.plan, turn.number, parts)
        return self.compiled[key]

    def _kept(self, state: Checkpoint, number: int, epoch: int, rows: Sequence[Mapping]) -> dict:
        """Which epoch of all phases so far is the best, now that phase `number` has ended, whose
        best `epoch` is; `state` is that of before. Empty: no epoch so far has a watched figure that
        is a number.
        """
        value = rows[epoch]["val_watched"]
        last = self.plan.keep == "last" and number == len(self.phases) - 1
        if self.watched.better(value, None if last or not state.kept else state.kept["value"]):
            row = len(state.history) + epoch
            watched = {
                "watched": self.watched.name,
                "mode": self.watched.mode,
                "rule": self.plan.keep,
            }
            return {"phase": number, "epoch": epoch + 1, "row": row, "value": value, **watched}
        return state.kept
