"""Training for a given time instead of a given number of epochs.

The clock counts what a training took, and what the cached features that it found cost whoever
computed them, so that runs are compared at equal cost in whatever order they came. The rate falls
with the time that is left, not with the steps, as budgeted training has it (Li et al. 2020,
arXiv:1905.04753).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.feed.clock import Clock
from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["HEAD_PASSES", "MARKS", "Clock", "bound", "deadline", "seconds_of"]

UNITS = {"s": 1, "m": 60, "h": 3600}
MARKS = (1 / 6, 1 / 3, 2 / 3)
"""Shares of the budget at which the validation data are looked at, where no epoch ended shortly
before.
"""
SHORTLY = 1 / 12
SHORTEST = 1e-3
HEAD_PASSES = 5
"""How many times a schedule's epochs a head may train at most. On cached features an epoch takes a
tenth of a second, and what more than a hundred of them do to a head is overfitting; the time is
left to the phases behind it.
"""


def seconds_of(text: str) -> float:
    """ "90s", "3m" or "1.5h" in seconds.

    Raises:
        ConfigError: it is something else, or nothing is left of it.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if not found or float(found[1]) == 0:
        raise ConfigError(f"--budget is a time above 0 like 90s, 3m or 1h, not '{text}'")
    return float(found[1]) * UNITS[found[2]]


def bound(epochs: Sequence[int], begin: float, budget: float, first: bool) -> tuple[float, float]:
    """When the phase that begins at `begin` on the clock ends: it gets of the time that is left
    what its epochs are of those of all phases that are to come, `epochs`, its own first.

    Raises:
        ConfigError: nothing is left for the `first` phase. A later one has at least one step.
    """
    if begin >= budget and first:
        raise ConfigError(
            f"the --budget of {budget:g} s was over before the first step: what the frozen blocks "
            f"give took {begin:.0f} s; "
            f"give {2 * begin:.0f}s or more"
        )
    return begin, max(begin + SHORTEST, begin + (budget - begin) * epochs[0] / sum(epochs))


def deadline(
    clock: Clock,
    bound: tuple[float, float],
    budget: float,
    most: int | None,
    share: "tf.Variable",
    momentum: Callable[[float], None],
    look: Callable[[], Mapping[str, float]],
    glances: list[Mapping[str, float]],
) -> "keras.callbacks.Callback":
    """A callback that ends a phase when its time is up, or after `most` epochs, and tells the
    optimizer by `share` how much of that has passed.

    `momentum` is told the steps that the phase will have had, as far as they can be foreseen.
    `glances` gets the figures that `look` sees on the validation set at `MARKS`.
    """
    import keras

    begin, end = bound

    class Deadline(keras.callbacks.Callback):
        steps, epochs, start = 0, 0, None

        def on_train_begin(self, logs=None):
            if self.start is None:  # a phase may be several calls of `fit`
                self.start = self.seen = clock.used
            self._tell(clock.used)

        def on_epoch_begin(self, epoch, logs=None):
            self.epochs = epoch

        def on_train_batch_end(self, batch, logs=None):
            now = clock.used
            self.steps += int(self.model.steps_per_execution)
            self._tell(now)
            if now >= end:
                self.model.stop_training = True
            elif any(
                self.seen < mark * budget - SHORTLY * budget and mark * budget <= now
                for mark in MARKS
            ):
                seen = {name.removeprefix("val_"): float(value) for name, value in look().items()}
                known = {name: value for name, value in seen.items() if np.isfinite(value)}
                glances.append({"elapsed": now, **known})
                self.seen = now

        def on_epoch_end(self, epoch, logs=None):
            self.seen = clock.used
            if most is not None and epoch + 1 >= most:
                self.model.stop_training = True

        def _tell(self, now: float) -> None:
            passed = max((now - begin) / (end - begin), 0.0 if most is None else self.epochs / most)
            share.assign(min(1.0, max(0.0, passed)))
            if self.steps:
                momentum(self.steps * max(1.0, (end - self.start) / max(now - self.start, 1e-3)))

    return Deadline()
