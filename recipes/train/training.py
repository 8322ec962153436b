"""One model on its way through its phases: what is compiled, fed, trained and saved for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed.frozen import Cut
from graft.recipes.feed.views import Views
from graft.recipes.train.budget import Clock, bound
from graft.recipes.train.checkpoint import Checkpoint, Checkpoints
from graft.recipes.train.phase import CompiledPhase, PhaseParts, PhaseRun
from graft.recipes.train.phase_batches import label_weights
from graft.recipes.train.settings import TrainPlan
from graft.recipes.train.validation import Validation, Watched
from graft.zoo.errors import ArtifactError, TrainingError
from graft.zoo.graph.adapters import freeze_all_but
from graft.zoo.graph.blocks import count_trained, find_blocks, freeze_blocks
from graft.zoo.graph.stack import backbone_of
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

    from graft.recipes.train.joint import Method

__all__ = ["PhaseTurn", "Training"]


@dataclass(frozen=True)
class PhaseTurn:
    """One seed's turn at one phase.

    Attributes:
        number: of the phase.
        trained: how many blocks train.
        cut: before what trains; None where nothing is frozen.
        views: of cached examples; None: it trains from the inputs.
        checkpoints: where states are saved.
        start: what the clock showed when it began.
    """

    number: int
    trained: int
    cut: Cut | None
    views: Views | None
    seed: int
    checkpoints: Checkpoints
    clock: Clock
    start: float


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
        """Train one phase from where `state` stands; returns the state after it."""
        number, views, clock = turn.number, turn.views, turn.clock
        phase = self.phases[number]
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
        prepared = clock.own - turn.start
        passing = views.passing if views is not None else 0.0
        limits, budget = None, self.settings.budget_seconds
        if state.began is None:
            state.began = clock.used
        if budget is not None:
            limits = bound(
                [p.epochs for p in self.phases[number:]], state.began, budget, first=number == 0
            )
        rows, best_epoch, waited, glances = compiled.fit(
            PhaseRun(data, views, turn.seed, state, best, save, clock, limits)
        )
        prepared += views.passing - passing if views is not None else 0.0
        seconds = clock.own - turn.start
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
        turn.checkpoints.save(turn.seed, state)
        return state

    def _compiled(self, turn: PhaseTurn) -> CompiledPhase:
        """The phase of a turn, compiled when it is needed first."""
        key = (turn.number, turn.views is not None)
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


def _best(row: Mapping[str, float]) -> dict:
    """The validation figures of an epoch for run.json, which has no word for what is no number but
    null.
    """
    return {
        f"best_validation_{name.removeprefix('val_')}": value if np.isfinite(value) else None
        for name, value in row.items()
        if name.startswith("val_")
    }
