"""The callbacks of the fit loop: one moves the bar, keeps a row an epoch, saves, and stops where
the loss is not a number; one keeps the best epoch's weights.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.train.budget import Clock
from graft.recipes.train.optimizer import rate_of
from graft.recipes.train.schedule import Phase
from graft.recipes.train.validation import Watched
from graft.zoo.errors import TrainingError

if TYPE_CHECKING:
    import keras

__all__ = ["keep_best", "recorder"]


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

        def on_train_begin(self, logs=None):
            if not self.begun:
                super().on_train_begin(logs)
                for name in ("best", "best_epoch", "wait", "best_weights"):
                    if name in known:
                        setattr(self, name, known[name])
            self.begun = True

        def _is_improvement(self, monitor_value, reference_value):
            return watched.better(monitor_value, None if always else reference_value)

        def on_train_end(self, logs=None):
            """Keras's own would put the best weights back between two calls."""

    return KeepBest("val_watched", mode=watched.mode, patience=patience, restore_best_weights=True)


def recorder(
    rows: list[dict],
    best: "keras.callbacks.EarlyStopping",
    glances: list[Mapping[str, float]],
    clock: Clock,
    moved: Callable[[], None],
    advance: Callable[..., None],
    save: Callable[..., None],
    phase: Phase,
) -> "keras.callbacks.Callback":
    """A callback that appends to `rows` and calls `save(rows, best weights, what early stopping
    knows)`.

    Each call of the compiled step is told to `moved`, each epoch to `advance`; `glances` are saved
    with what early stopping knows. It stands behind `best` in the list of callbacks.

    Raises (in `fit`):
        TrainingError: the loss is not a number.
    """
    import keras

    class Recorder(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start, self.epoch = time.perf_counter(), epoch

        def on_train_batch_end(self, batch, logs: Mapping[str, float] | None = None):
            loss = float((logs or {}).get("loss", 0.0))
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} in phase '{phase.name}', epoch {self.epoch + 1}, by step "
                    f"{batch + 1}, with a peak "
                    f"learning rate of {phase.learning_rate:.1e}: try a --learning-rate a tenth of "
                    "it, or --clip-norm 1"
                    + (f"; the checkpoint of epoch {self.epoch} is kept" if self.epoch else "")
                )
            moved()

        def on_epoch_end(self, epoch, logs: Mapping[str, float] | None = None):
            values = {name: float(value) for name, value in (logs or {}).items()}
            seconds = time.perf_counter() - self.start
            rows.append(
                {
                    "seconds": seconds,
                    "elapsed": clock.used,
                    "learning_rate": rate_of(self.model.optimizer),
                    **values,
                }
            )
            figures = (f"{name.removeprefix('val_')} {v:.3f}" for name, v in _shown(values))
            advance(0, f"epoch {epoch + 1}: validation {', '.join(figures)}")
            stopping = {
                "best": None if best.best is None else float(best.best),
                "best_epoch": int(best.best_epoch),
                "wait": int(best.wait),
                "stopped": bool(self.model.stop_training),
                "glances": list(glances),
            }
            save(list(rows), best.best_weights, stopping)

    return Recorder()


def _shown(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """What the note of an epoch says of the validation set."""
    return [
        (name, value)
        for name, value in values.items()
        if name.startswith("val_") and name != "val_watched"
    ]
