"""The callback that ends a phase when its share of a budget of time is over."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.train.budget import MARKS, Clock
from graft.recipes.train.optimizer import batch_norm_momentum
from graft.recipes.train.phases.forecast import Forecast

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["PhaseTime", "TimedState", "deadline"]

SHORTLY = 1 / 12
"""Share of the budget: an epoch that ended so shortly before a mark serves as the look at it."""
Logs = Mapping[str, float] | None


@dataclass(frozen=True)
class PhaseTime:
    """The time that a phase has.

    Attributes:
        clock: of the training.
        begin: what the clock shows when the phase begins, in seconds.
        end: what it shows when the phase ends.
        budget: the seconds of the whole training.
        most_epochs: after so many it ends in any case; None: after any number.
        forecast: what its parts will take.
    """

    clock: Clock
    begin: float
    end: float
    budget: float
    most_epochs: int | None
    forecast: Forecast

    def left(self, now: float) -> float:
        """Seconds for training: until the phase has to be measured and saved."""
        return self.end - now - self.forecast.ending

    def share(self, now: float) -> float:
        """How much of its time for training has passed, 0 to 1."""
        whole = max(1e-3, self.end - self.begin - self.forecast.ending)
        return min(1.0, max(0.0, (now - self.begin) / whole))


@dataclass(frozen=True)
class TimedState:
    """What follows the time that has passed, because the steps are not known before.

    Attributes:
        share: how much of the phase has passed, 0 to 1; the learning rate follows it.
        momentum: of BatchNormalization, by the steps that the phase will have had.
    """

    share: "tf.Variable"
    momentum: "tf.Variable"

    @classmethod
    def fresh(cls, steps: int) -> "TimedState":
        """That of a phase at its beginning, whose epochs have `steps` steps."""
        import tensorflow as tf

        return cls(tf.Variable(0.0), tf.Variable(batch_norm_momentum(steps)))


def deadline(
    time: PhaseTime,
    state: TimedState,
    look: Callable[[], Mapping[str, float]],
    glances: list[Mapping[str, float]],
) -> "keras.callbacks.Callback":
    """A callback that ends a phase before its time is up: with the last step, and the last epoch,
    that ends in time.

    Args:
        time: that the phase has.
        state: is set after each call of the compiled step.
        look: gives the figures of the validation set.
        glances: gets the accuracy that `look` sees at `MARKS`.

    Returns:
        The callback, for one or several calls of `fit`; its `epoch_over` is to be called when an
        epoch was measured and saved.
    """
    import keras

    clock, forecast = time.clock, time.forecast
    budget, most = time.budget, time.most_epochs

    class Deadline(keras.callbacks.Callback):
        steps, epochs = 0, 0
        start: float | None = None
        before = 0.0

        def on_train_begin(self, logs: Logs = None) -> None:
            self.before = clock.used
            if self.start is None:  # a phase may be several calls of `fit`
                self.start = self.seen = self.before
            self._tell(self.before)

        def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
            self.epochs, self.before = epoch, clock.used

        def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
            now = clock.used
            forecast.called(now - self.before)
            self.before = now
            self.steps += int(self.model.steps_per_execution)
            self._tell(now)
            if time.left(now) < forecast.call:
                self.model.stop_training = True
            elif time.left(now) >= forecast.ending + forecast.call and any(
                self.seen < mark * budget - SHORTLY * budget and mark * budget <= now
                for mark in MARKS
            ):
                right = [value for name, value in look().items() if name.endswith("accuracy")]
                if right:
                    glances.append({"elapsed": now, "accuracy": float(np.mean(right))})
                self.seen, self.before = now, clock.used

        def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
            self.seen = clock.used
            done = most is not None and epoch + 1 >= most
            if done or time.left(self.seen) < forecast.call:
                self.model.stop_training = True

        def epoch_over(self, epoch: int, logs: Logs = None) -> None:
            """Note how long it took to measure and save the epoch."""
            forecast.ended(clock.used - self.before)

        def _tell(self, now: float) -> None:
            epochs = 0.0 if most is None else self.epochs / most
            state.share.assign(min(1.0, max(time.share(now), epochs)))
            if self.steps and self.start is not None:
                passed = max(now - self.start, 1e-3)
                times = max(1.0, (passed + time.left(now)) / passed)
                state.momentum.assign(batch_norm_momentum(self.steps * times))

    return Deadline()
