"""The fit loop: phases over blocks, compiled once and run for several seeds, resumable after any
epoch.

For every phase the frozen blocks run in inference mode, whatever they contain: BatchNormalization
uses its statistics, dropout and stochastic depth are off. Their values come from the prefix cache,
or are computed in every step; what lies behind them trains.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.recipes.codecs.images import Images
from graft.recipes.codecs.texts import Texts
from graft.recipes.feed.cache import PrefixCache
from graft.recipes.feed.store import Store
from graft.recipes.feed.views import Views
from graft.recipes.train import divergence
from graft.recipes.train.budget import Clock
from graft.recipes.train.checkpoint import ANEW, Checkpoints
from graft.recipes.train.device import mirrored
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.recipes.train.training import Training
from graft.recipes.train.validation import Watched, forward, outputs_of
from graft.zoo.errors import ConfigError
from graft.zoo.files.guards import one_line_if_damaged
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
from graft.zoo.graph.state import set_weights
from graft.zoo.heads.heads import Head, Tasks
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

    from graft.recipes.train.joint import Method

__all__ = ["Trained", "best_of", "describe_phases", "forward", "outputs_of", "predict", "train"]

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


def best_of(trained: "Sequence[Trained]") -> Trained:
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
    build: Callable[[], "keras.Model"],
    head: Head | Tasks,
    phases: Sequence[Phase],
    images: Mapping[str, Images | Texts],
    seeds: Sequence[int],
    settings: FitSettings,
    *,
    store: Store | None = None,
    folder: Path | None = None,
    name: str = "training",
    method: "Callable[[int, int], Method] | None" = None,
    pairs: bool = False,
    keep: Literal["best", "last"] = "best",
) -> tuple["keras.Model", list[Trained]]:
    """Train `build()` through `phases` once for each seed; the graph is traced once a phase, not
    once a seed.

    `images` holds the "train" and "validation" pictures or sentences. `build` makes the stacked
    model, fresh weights included; it is called under each seed. Features of frozen blocks are kept
    in `store`; without one nothing is cached. Checkpoints (and TensorBoard's logs) go into
    `folder`, under `name`; if it holds those of an interrupted training, this one goes on from
    there. `method` makes, of the width of what the last dense layer receives and the number of
    labels, what the last phase learns from the "unlabelled" ones of `images`. With `pairs` no
    labels are used: the head learns which two versions are of one picture.

    Kept is the epoch, of all phases, with the best watched figure on the whole validation set
    (`validation.Validation`), with a `method` and without; with `keep` "last" the last epoch of the
    last phase, where nothing labelled says which is best.

    Returns the model, holding the weights of the last seed, and the results, in the order of
    `seeds`. The seconds of the first seed include tracing, and computing features that were not in
    the store.

    Raises:
        ConfigError: no seeds; a cache that cannot be had.
        TrainingError: the loss is not a number, or no epoch has a watched figure that is one.
    """
    if not seeds:
        raise ConfigError("the number of seeds must be at least 1")
    settings.check()
    images = {
        name: images[name] for name in ("train", "validation", *(("unlabelled",) if method else ()))
    }
    with mirrored(settings.multi_gpu):
        checkpoints = Checkpoints(folder and folder / "checkpoint" / name)
        logs = folder and folder / "tensorboard" / name
        return _train(
            build,
            head,
            phases,
            images,
            seeds,
            settings,
            store,
            checkpoints,
            logs,
            method,
            pairs,
            keep,
        )


def _train(
    build, head, phases, images, seeds, settings, store, checkpoints, logs, make_method, pairs, keep
):
    import keras

    from graft.recipes.train.joint import hidden_of

    keras.utils.set_random_seed(seeds[0])
    model = build()
    beginning = model.get_weights()
    checkpoints.check_origin(backbone_of(model).get_weights())
    blocks = find_blocks(backbone_of(model))
    if any(phase.adapt == "lora" for phase in phases):
        add_lora(backbone_of(model))
    trained = [count_trained(blocks, phase.train) for phase in phases]
    cuts = [
        None if n == len(blocks) else narrowest_cut(model, blocks[len(blocks) - n - 1].cut)
        for n in trained
    ]
    cache, planned, budget = None, [False] * len(phases), settings.budget_seconds
    method, shape = None, None
    if make_method is not None:
        shape = hidden_of(model).shape[-1], model.outputs[0].shape[-1]
        method = make_method(*shape)
    if store is not None and method is not None and method.strong:
        if settings.cache != "off" and any(cuts):
            say("prefix cache off: strongly changed versions are drawn anew in every step")
    elif store is not None:
        cache = PrefixCache(store, model, images, settings.augment, settings.caching)
        epochs = [phase.epochs if budget is None else None for phase in phases]
        planned = cache.plan(list(zip(epochs, cuts, strict=True)))
    training = Training(model, blocks, head, phases, images, settings, logs, method, pairs, keep)
    results = []
    for index, seed in enumerate(seeds):
        finished = checkpoints.finished(seed, beginning)
        if finished is not None:
            facts, weights = finished
            with one_line_if_damaged(f"seed-{seed}-done.npz", ANEW):
                results.append(Trained(seed, weights, **facts))
            continue
        keras.utils.set_random_seed(seed)
        if index:
            reset_adapters(model, build().get_weights())
            if method is not None:
                method.set_weights(make_method(*shape).get_weights())
        training.seed_dropout(seed)
        state = training.restore(checkpoints.load(seed))
        clock = Clock(state.seconds, state.charged)
        views = Views(cache, clock, state.views, None if budget is None else FILLING * budget)
        for number in range(state.phase, len(phases)):
            start = clock.own
            own = views if planned[number] else None
            if own is not None:
                later = zip(cuts[number + 1 :], planned[number + 1 :], strict=True)
                own.begin(cuts[number], [cut for cut, yes in later if yes])
            state = training.run_phase(
                number, trained[number], cuts[number], own, seed, state, checkpoints, clock, start
            )
        training.keep(state)
        facts = {
            "history": [{"epoch": i, **row} for i, row in enumerate(state.history, 1)],
            "phases": state.summaries,
            "seconds": state.seconds,
            "charged": state.charged,
            "validation_loss": state.history[state.kept["row"]]["val_loss"],
            "kept": state.kept,
            "diverged": divergence.exploded(state.history, divergence.loss_scale(head, method)),
        }
        # What stays as it was is one array for all seeds, or thirty models of one frozen encoder
        # fill the memory.
        pairs_of = zip(beginning, merged_weights(model), strict=True)
        results.append(
            Trained(
                seed, [old if np.array_equal(old, new) else new for old, new in pairs_of], **facts
            )
        )
        checkpoints.finish(seed, facts, results[-1].weights, beginning)
    if lora_layers(model):
        model = build()
    set_weights(model, results[-1].weights)
    return model, results


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


def predict(
    model: "keras.Model", images: Images | Texts, weights: Sequence[list[np.ndarray]] = ()
) -> list:
    """The outputs for all examples, in order, `(n, units)`, once for each list of `weights` (or for
    the model as it is).

    Of an output with a row a token, `(tokens, units)`: those of all sentences, one after the other,
    without padding. Of a model with several outputs, a dict. Faster than `model.predict` on a CPU,
    and traced once.
    """
    call, outputs = forward(model), []
    for values in weights or [model.get_weights()]:
        set_weights(model, values)
        outputs.append(outputs_of(call, images))
    return outputs
