"""The learning-rate finder: one short sweep of rising rates before a phase (Smith 2017,
arXiv:1506.01186).
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.terminal import progress, say

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["STEPS", "find_rate", "suggest"]

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
PLATEAU = 20
"""Steps whose rates are too low to change the loss."""
DIVERGED = 4
"""The sweep ends where the smoothed loss is this many times its lowest value."""


def find_rate(
    model: "keras.Model",
    batches: "tf.data.Dataset",
    loss: "keras.losses.Loss",
    weight_decay: float,
    title: str,
) -> dict:
    """Train `model` on at most STEPS `batches` while AdamW's rate rises from 1e-6 to 1, then put
    everything back.

    Returns `{"rates", "losses" (smoothed), "suggested" (None if the loss never fell)}`. What was
    compiled into `model` is lost.
    """
    import keras

    before = [v.numpy() for v in model.variables]
    rate = keras.optimizers.schedules.ExponentialDecay(LOWEST, STEPS, HIGHEST / LOWEST)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=weight_decay),
        loss=loss,
        jit_compile=False,
    )
    rates = LOWEST * (HIGHEST / LOWEST) ** (np.arange(STEPS) / STEPS)
    means: list[float] = []

    class Sweep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
            means.append(float((logs or {})["loss"]))
            advance()
            losses = _smooth(means)
            if not np.isfinite(means[-1]) or losses[-1] > DIVERGED * min(losses):
                self.model.stop_training = True

    with progress(f"rates ({title})", STEPS) as advance:
        model.fit(
            batches.repeat().take(STEPS), epochs=1, callbacks=[Sweep()], verbose=0, shuffle=False
        )
    for variable, value in zip(model.variables, before, strict=True):
        variable.assign(value)
    losses = _smooth(means)
    suggested = suggest(rates[: len(losses)], losses)
    text = (
        "the loss never fell: look at the data"
        if suggested is None
        else f"suggested peak {suggested:.1e}"
    )
    say(f"learning rates for '{title}': {text}")
    kept = np.isfinite(losses)
    return {
        "rates": rates[: len(losses)][kept].tolist(),
        "losses": losses[kept].tolist(),
        "suggested": suggested,
    }


def suggest(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """The rate by which half of the fall, from the plateau at low rates to the minimum, has
    happened.

    The steepest point, which is often taken, is that of the noise in a short sweep. None if the
    loss falls by less than a twentieth.
    """
    finite = np.isfinite(losses)
    rates, losses = rates[finite], losses[finite]
    if len(losses) < PLATEAU:
        return None
    plateau, lowest = float(np.median(losses[:PLATEAU])), float(losses.min())
    if plateau - lowest < 0.05 * abs(plateau):
        return None
    return float(rates[np.argmax(losses <= (plateau + lowest) / 2)])


def _smooth(means: Sequence[float], momentum: float = 0.9) -> np.ndarray:
    """Each step's loss, from the running means that Keras reports, under a moving average without
    its bias.
    """
    counts = np.arange(1, len(means) + 1)
    own = np.diff(np.asarray(means) * counts, prepend=0.0)
    average, smoothed = 0.0, []
    for count, value in zip(counts, own, strict=True):
        average = momentum * average + (1 - momentum) * value
        smoothed.append(average / (1 - momentum**count))
    return np.array(smoothed)
