"""What a phase is compiled of, and one seed on its way through it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed.clock import Clock
from graft.recipes.feed.frozen import Cut
from graft.recipes.feed.views import Views
from graft.recipes.train.checkpoint import Checkpoint, Checkpoints
from graft.recipes.train.validation import Validation, Watched
from graft.zoo.graph.blocks import Block

if TYPE_CHECKING:
    import keras

    from graft.recipes.train.joint import Method

__all__ = ["PhaseParts", "PhaseRun", "PhaseTurn"]


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


@dataclass(frozen=True)
class PhaseTurn:
    """One seed's turn at one phase.

    Attributes:
        number: of the phase.
        trained: how many blocks train.
        cut: before what trains; None where nothing is frozen.
        later: the cuts of later phases that train on cached features.
        views: of cached examples; None: it trains from the inputs.
        checkpoints: where states are saved.
        start: what the clock showed when it began.
    """

    number: int
    trained: int
    cut: Cut | None
    later: Sequence[Cut]
    views: Views | None
    seed: int
    checkpoints: Checkpoints
    clock: Clock
    start: float
