"""The callbacks of the fit loop: one moves the bar, keeps a row an epoch, saves, and stops where
the loss is not a number; one keeps the best epoch's weights.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.train.budget import Clock
from graft.recipes.train.optimizer import rate_of
from graft.recipes.train.schedule import Phase
from graft.recipes.train.validation import Watched
from graft.zoo.errors import TrainingError

if TYPE_CHECKING:
    import keras

__all__ = ["EpochLog", "ProgressBar", "keep_best", "recorder"]

Logs = Mapping[str, float] | None


def keep_best(
    watched: Watched, patience: int, known: Mapping, always: bool = False
) -> "keras.callbacks.EarlyStopping":
    """Early stopping on "val_watched" for a phase that consists of several calls of `fit`.

    It begins with the first of them, from what it `known` when the training was interrupted, and
    its `best_weights` are put back by who called. With `always` every epoch whose figure is a
    number is better than the ones before: the last one of them is kept.
    """
    import keras

    class KeepBest(keras.callbacks.EarlyStopping):
        begun = False

        def on_train_begin(self, logs: Logs = None) -> None:
            if not self.begun:
                super().on_train_begin(logs)
                for name in ("best", "best_epoch", "wait", "best_weights"):
                    if name in known:
                        setattr(self, name, known[name])
            self.begun = True

        def _is_improvement(self, monitor_value: float, reference_value: float | None) -> bool:
            return watched.better(monitor_value, None if always else reference_value)

        def on_train_end(self, logs: Logs = None) -> None:
            """Keras's own would put the best weights back between two calls."""

    return KeepBest("val_watched", mode=watched.mode, patience=patience, restore_best_weights=True)


@dataclass(frozen=True)
class EpochLog:
    """What is noted of a phase on its way.

    Attributes:
        rows: one an epoch.
        glances: figures of the validation set in the middle of an epoch.
    """

    rows: list[dict] = field(default_factory=list)
    glances: list[Mapping[str, float]] = field(default_factory=list)


class ProgressBar:
    """The bar of a phase: moved by steps, or with a `clock` by the seconds that have passed.

    Args:
        advance: moves the bar, and says a note beside it.
        steps: of one call of the compiled step.
        clock: of a training that ends in time; None: it ends after so many epochs.
    """

    def __init__(self, advance: Callable[..., None], steps: int, clock: Clock | None):
        self.advance, self.steps, self.clock = advance, steps, clock
        self.seen = 0.0 if clock is None else clock.used

    def move(self) -> None:
        """Note that a call of the compiled step has ended."""
        if self.clock is None:
            self.advance(self.steps)
            return
        now = self.clock.used
        self.advance(now - self.seen)
        self.seen = now

    def say(self, text: str) -> None:
        """Write a note beside the bar."""
        self.advance(0, text)


def recorder(
    phase: Phase,
    log: EpochLog,
    best: "keras.callbacks.EarlyStopping",
    clock: Clock,
    bar: ProgressBar,
    save: Callable[..., None],
) -> "keras.callbacks.Callback":
    """A callback that appends to the rows of `log`, saves and moves the bar.

    Args:
        phase: that is trained.
        log: gets a row after each epoch.
        best: early stopping, which stands before this callback in the list.
        clock: of the training.
        bar: moved at each call of the compiled step.
        save: is called after each epoch with (rows, best weights, what early stopping knows, the
            glances of `log` among it).

    Raises (in `fit`):
        TrainingError: the loss is not a number.
    """
    import keras

    class Recorder(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
            self.start, self.epoch = time.perf_counter(), epoch

        def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
            loss = float((logs or {}).get("loss", 0.0))
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} in phase '{phase.name}', epoch {self.epoch + 1}, by step "
                    f"{batch + 1}, with a peak learning rate of {phase.learning_rate:.1e}: try a "
                    "--learning-rate a tenth of it, or --clip-norm 1"
                    + (f"; the checkpoint of epoch {self.epoch} is kept" if self.epoch else "")
                )
            bar.move()

        def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
            values = {name: float(value) for name, value in (logs or {}).items()}
            seconds = time.perf_counter() - self.start
            log.rows.append(
                {
                    "seconds": seconds,
                    "elapsed": clock.used,
                    "learning_rate": rate_of(self.model.optimizer),
                    **values,
                }
            )
            figures = (f"{name.removeprefix('val_')} {v:.3f}" for name, v in _shown(values))
            bar.say(f"epoch {epoch + 1}: validation {', '.join(figures)}")
            stopping = {
                "best": None if best.best is None else float(best.best),
                "best_epoch": int(best.best_epoch),
                "wait": int(best.wait),
                "stopped": bool(self.model.stop_training),
                "glances": list(log.glances),
            }
            save(list(log.rows), best.best_weights, stopping)

    return Recorder()


def _shown(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """What the note of an epoch says of the validation set."""
    return [
        (name, value)
        for name, value in values.items()
        if name.startswith("val_") and name != "val_watched"
    ]
