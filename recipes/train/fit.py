"""The fit loop: phases over blocks, compiled once and run for several seeds, resumable after any
epoch.

For every phase the frozen blocks run in inference mode, whatever they contain: BatchNormalization
uses its statistics, dropout and stochastic depth are off. Their values come from the prefix cache,
or are computed in every step; what lies behind them trains.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed.cache import PrefixCache
from graft.recipes.feed.frozen import Cut
from graft.recipes.feed.views import Views
from graft.recipes.train.budget import Clock
from graft.recipes.train.checkpoint import ANEW, Checkpoint, Checkpoints
from graft.recipes.train.device import mirrored
from graft.recipes.train.phases.parts import PhaseTurn
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import TrainPlan
from graft.recipes.train.training import Training
from graft.recipes.train.validation import (
    Watched,
    exploded,
    forward,
    loss_scale,
    outputs_of,
    predict,
)
from graft.zoo.errors import ConfigError
from graft.zoo.files.guards import one_line_if_damaged
from graft.zoo.files.store import Store
from graft.zoo.graph.adapters import (
    add_lora,
    freeze_all_but,
    lora_layers,
    merged_weights,
    reset_adapters,
)
from graft.zoo.graph.blocks import count_trained, find_blocks, freeze_blocks
from graft.zoo.graph.cuts import narrowest_cut
from graft.zoo.graph.stack import backbone_of
from graft.zoo.graph.state import set_seed, set_weights
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

__all__ = [
    "TrainPlan",
    "Trained",
    "best_of",
    "describe_phases",
    "forward",
    "outputs_of",
    "predict",
    "train",
]

FILLING = 0.4
"""The share of a budget of time that may go into cached features."""


@dataclass
class Trained:
    """One seed's result.

    `history` has a row an epoch; `phases` a summary of each phase; `weights` are those of the whole
    model, after the epoch that was kept: `kept` is `{"phase" (its number), "epoch" (in that phase,
    from 1), "row" (in `history`), "watched" (the name of the validation figure that chose it),
    "mode", "value", "rule" ("best", or "last" where no figure chose it)}`. `charged` are the
    seconds that the features which it found in the cache had cost, `validation_loss` is that of the
    kept epoch, `diverged` the loss at the end of each phase that exploded.
    """

    seed: int
    weights: list[np.ndarray] = field(repr=False)
    history: list[dict]
    phases: list[dict]
    seconds: float
    charged: float
    validation_loss: float
    kept: dict
    diverged: dict[str, float]


def best_of(trained: Sequence[Trained]) -> Trained:
    """The seed whose kept epoch has the best watched validation figure; of equal ones that with the
    lowest loss.
    """
    best = trained[0]
    for result in trained[1:]:
        watched = Watched(result.kept["watched"], result.kept["mode"])
        value, known = result.kept["value"], best.kept["value"]
        lower = Watched("validation loss", "min").better(
            result.validation_loss, best.validation_loss
        )
        if watched.better(value, known) or (value == known and lower):
            best = result
    return best


def train(
    plan: TrainPlan,
    examples: Mapping[str, Examples],
    *,
    name: str = "training",
    store: Store | None = None,
    folder: Path | None = None,
) -> tuple["keras.Model", list[Trained]]:
    """Train the model of `plan` through its phases once for each seed; the graph is traced once a
    phase, not once a seed.

    Args:
        plan: what is trained and how.
        examples: the "train" and "validation" examples, with a method "unlabelled" ones too.
        name: of the training.
        store: keeps features of frozen blocks; without one nothing is cached.
        folder: checkpoints (and TensorBoard's logs) go into it, under `name`; if it holds those of
            an interrupted training, this one goes on from there.

    Returns:
        The model, holding the weights of the last seed, and the results, in the order of the seeds.
        The seconds of the first seed include tracing, and computing features that were not in the
        store.

    Raises:
        ConfigError: no seeds; a cache that cannot be had.
        TrainingError: the loss is not a number, or no epoch has a watched figure that is one.
    """
    if not plan.seeds:
        raise ConfigError("the number of seeds must be at least 1")
    plan.settings.check()
    wanted = ("train", "validation", *(("unlabelled",) if plan.method else ()))
    examples = {name: examples[name] for name in wanted}
    with mirrored(plan.settings.multi_gpu):
        checkpoints = Checkpoints(folder and folder / "checkpoint" / name)
        logs = folder and folder / "tensorboard" / name
        return _train(plan, examples, store, checkpoints, logs)


def _train(
    plan: TrainPlan,
    examples: Mapping[str, Examples],
    store: Store | None,
    checkpoints: Checkpoints,
    logs: Path | None,
) -> tuple["keras.Model", list[Trained]]:
    from graft.recipes.train.joint import hidden_of

    set_seed(plan.seeds[0])
    model = plan.ready.pop() if plan.ready else plan.build()
    initial = model.get_weights()
    checkpoints.check_origin(backbone_of(model).get_weights())
    if any(phase.adapt == "lora" for phase in plan.phases):
        add_lora(backbone_of(model))
    method = None
    if plan.method is not None:
        shape = hidden_of(model).shape[-1], model.outputs[0].shape[-1]
        method = plan.method(*shape)
    training = Training(model, plan, examples, logs, method)
    way = _Way.of(training, store)
    results = []
    for index, seed in enumerate(plan.seeds):
        finished = checkpoints.finished(seed, initial)
        if finished is not None:
            facts, weights = finished
            with one_line_if_damaged(f"seed-{seed}-done.npz", ANEW):
                results.append(Trained(seed, weights, **facts))
            continue
        set_seed(seed)
        if index:
            reset_adapters(model, plan.build().get_weights())
            if plan.method is not None and method is not None:
                method.set_weights(plan.method(*shape).get_weights())
        training.seed_dropout(seed)
        state = way.walk(seed, training.restore(checkpoints.load(seed)), checkpoints)
        training.keep(state)
        facts = {
            "history": [{"epoch": i, **row} for i, row in enumerate(state.history, 1)],
            "phases": state.summaries,
            "seconds": state.seconds,
            "charged": state.charged,
            "validation_loss": state.history[state.kept["row"]]["val_loss"],
            "kept": state.kept,
            "diverged": exploded(state.history, loss_scale(plan.tasks.heads, method)),
        }
        # What stays as it was is one array for all seeds, or thirty models of one frozen encoder
        # fill the memory.
        pairs = zip(initial, merged_weights(model), strict=True)
        weights = [old if np.array_equal(old, new) else new for old, new in pairs]
        results.append(Trained(seed, weights, **facts))
        checkpoints.finish(seed, facts, weights, initial)
    if lora_layers(model):
        model = plan.build()
    set_weights(model, results[-1].weights)
    return model, results


@dataclass(frozen=True)
class _Way:
    """The way of a training through its phases: how many blocks train in each, the cut before them,
    and whether that phase trains on cached features.
    """

    training: Training
    trained: list[int]
    cuts: Sequence[Cut | None]
    cached: list[bool]
    cache: PrefixCache | None

    @classmethod
    def of(cls, training: Training, store: Store | None) -> "_Way":
        plan, model, blocks = training.plan, training.model, training.blocks
        trained = [count_trained(blocks, phase.train) for phase in plan.phases]
        cuts = [
            None if n == len(blocks) else narrowest_cut(model, blocks[len(blocks) - n - 1].cut)
            for n in trained
        ]
        settings = plan.settings
        if store is not None and training.method is not None and training.method.strong:
            if settings.cache != "off" and any(cuts):
                say("prefix cache off: strongly changed versions are drawn anew in every step")
            store = None
        if store is None:
            return cls(training, trained, cuts, [False] * len(cuts), None)
        cache = PrefixCache(store, model, training.examples, settings.augment, settings.caching)
        timed = settings.budget_seconds is not None
        epochs = [None if timed else phase.epochs for phase in plan.phases]
        cached = cache.plan(list(zip(epochs, cuts, strict=True)))
        return cls(training, trained, cuts, cached, cache)

    def walk(self, seed: int, state: Checkpoint, checkpoints: Checkpoints) -> Checkpoint:
        """Train the phases that are left of one seed; returns the state after the last one."""
        budget = self.training.settings.budget_seconds
        clock = Clock(state.seconds, state.charged)
        filling = None if budget is None else FILLING * budget
        views = None if self.cache is None else Views(self.cache, clock, state.views, filling)
        for number in range(state.phase, len(self.cuts)):
            later = zip(self.cuts[number + 1 :], self.cached[number + 1 :], strict=True)
            turn = PhaseTurn(
                number=number,
                trained=self.trained[number],
                cut=self.cuts[number],
                later=[cut for cut, cached in later if cached and cut is not None],
                views=views if self.cached[number] else None,
                seed=seed,
                checkpoints=checkpoints,
                clock=clock,
                start=clock.own,
            )
            state = self.training.run_phase(turn, state)
        return state


def describe_phases(model: "keras.Model", phases: Sequence[Phase]) -> list[dict]:
    """For each phase: its fields, how many blocks train, and the trainable and total parameters.

    `model` is not to be used afterwards: low-rank additions stay in it.
    """
    blocks = find_blocks(backbone_of(model))
    if any(phase.adapt == "lora" for phase in phases):
        add_lora(backbone_of(model))
    rows = []
    for phase in phases:
        trained = count_trained(blocks, phase.train)
        freeze_blocks(model, blocks, trained, phase.batch_norm)
        freeze_all_but(blocks, phase.adapt)
        size = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
        rows.append(
            {
                **vars(phase),
                "blocks": trained,
                "total_blocks": len(blocks),
                "trainable_parameters": size,
                "total_parameters": model.count_params(),
            }
        )
    return rows
