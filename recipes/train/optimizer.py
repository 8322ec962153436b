"""The optimizer of a phase: AdamW with warm-up, cosine, selective decay, and a rate for each block;
Keras's own means.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import Block

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = [
    "LearningRate",
    "OptimizerSettings",
    "batch_norm_momentum",
    "flush",
    "group_size",
    "make_optimizer",
    "precision",
    "rate_of",
]


SHARES = 1000
"""Steps of a schedule that follows a share, 0 to 1."""


@dataclass(frozen=True)
class OptimizerSettings:
    """What does not change between the phases of a training.

    Attributes:
        weight_decay: of kernels; biases, scales and offsets do not decay.
        clip_norm: the largest global norm of a gradient; None: not clipped. With a layer decay the
            norm is each block's own.
        accumulate: steps whose gradients are averaged into one update.
        ema: momentum of an exponential moving average of the weights, in [0, 1), less where an
            epoch is short; at the end of each epoch the average takes the place of the weights.
            None: no average.
    """

    weight_decay: float = 0.0
    clip_norm: float | None = None
    accumulate: int = 1
    ema: float | None = None

    def __post_init__(self) -> None:
        if self.weight_decay < 0:
            raise ConfigError(f"the weight decay must be at least 0, not {self.weight_decay}")
        if self.accumulate < 1:
            raise ConfigError(f"the steps to accumulate must be at least 1, not {self.accumulate}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ConfigError(f"the norm to clip at must be above 0, not {self.clip_norm}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(
                f"the momentum of the moving average must be in [0, 1), not {self.ema}"
            )


@dataclass(frozen=True)
class LearningRate:
    """How the learning rate goes: it rises to the peak over the first tenth of the steps and falls
    to zero along a cosine (arXiv:1608.03983).

    Attributes:
        peak: the highest rate.
        steps: of the phase.
        steps_per_epoch: when a moving average takes the place of the weights. They bound its
            momentum: an average that reaches back further than a tenth of an epoch would take most
            of the epoch's training back.
        share: a variable that goes from 0 to 1, which the rate follows instead of the steps.
    """

    peak: float
    steps: int
    steps_per_epoch: int = 1
    share: "tf.Variable | None" = None

    def schedule(self, scale: float) -> "keras.optimizers.schedules.LearningRateSchedule":
        """The schedule with `scale` times the peak."""
        import keras

        # Keras looks the rate up by steps, not by updates, also where gradients are accumulated.
        steps = self.steps if self.share is None else SHARES
        warm_up = max(1, steps // 10)
        rate = keras.optimizers.schedules.CosineDecay(
            scale * self.peak / 10,
            max(1, steps - warm_up),
            warmup_target=scale * self.peak,
            warmup_steps=warm_up,
        )
        return rate if self.share is None else _following(self.share, rate)


def make_optimizer(
    variables: Sequence,
    rate: LearningRate,
    settings: OptimizerSettings,
    *,
    blocks: Sequence[Block] = (),
    layer_decay: float = 1.0,
) -> "keras.optimizers.Optimizer":
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) over `variables`.

    Biases, scales and offsets do not decay: nothing draws them to zero (He et al. 2019,
    arXiv:1812.01187). With a `layer_decay` below 1 the n-th of `blocks` from the top learns at
    `peak * layer_decay ** n`, and what is in no block at `peak` (Clark et al. 2020,
    arXiv:2003.10555).
    """
    import keras

    from graft.recipes.train.phases.adamw import PackedAdamW

    updates_per_epoch = max(1, rate.steps_per_epoch // settings.accumulate)
    momentum = min(settings.ema or 0.0, max(0.0, 1 - 10 / updates_per_epoch))

    def adamw(scale: float) -> keras.optimizers.Optimizer:
        optimizer = PackedAdamW(
            rate.schedule(scale),
            weight_decay=settings.weight_decay,
            global_clipnorm=settings.clip_norm,
            gradient_accumulation_steps=settings.accumulate if settings.accumulate > 1 else None,
            use_ema=settings.ema is not None,
            ema_momentum=momentum,
            ema_overwrite_frequency=None if settings.ema is None else updates_per_epoch,
        )
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in variables if len(v.shape) < 2 or v.name == "bias"]
        )
        return optimizer

    if layer_decay == 1:
        return adamw(1.0)
    depth = {id(v): n for n, block in enumerate(reversed(blocks), 1) for v in block.weights}
    used = {0} | {depth.get(id(v), 0) for v in variables}
    optimizers = {n: adamw(layer_decay**n) for n in sorted(used)}
    return keras.optimizers.MultiOptimizer(lambda variable: optimizers[depth.get(id(variable), 0)])


def group_size(accumulate: int, steps: int) -> int:
    """Steps whose gradients make one update, where an epoch has so many: at least one update an
    epoch.
    """
    return min(accumulate, steps)


def flush(optimizer: "keras.optimizers.Optimizer") -> None:
    """Make an update of the gradients that are left at the end of an epoch, fewer than a whole
    group: their mean counts.

    The step counter goes on to where the group would have ended, so that the next one begins anew.
    Without accumulation, or where nothing is left, nothing happens.
    """
    import keras

    parts = getattr(optimizer, "optimizers", None) or [optimizer]
    for part in parts:
        size = part.gradient_accumulation_steps
        left = int(part._iterations) % size if size else 0
        if not left:
            continue
        gradients = [
            keras.ops.convert_to_tensor(sum_) / left for sum_ in part._accumulated_gradients
        ]
        part.gradient_accumulation_steps = None
        try:
            part.apply(gradients)
        finally:
            part.gradient_accumulation_steps = size
        part._backend_reset_gradient_accumulators()
        part._iterations.assign(part._iterations + (size - left - 1))
    if optimizer is not parts[0]:
        optimizer._iterations.assign(parts[0]._iterations)


def _following(
    share: "tf.Variable", schedule: "keras.optimizers.schedules.LearningRateSchedule"
) -> "keras.optimizers.schedules.LearningRateSchedule":
    """`schedule`, which is `SHARES` steps long, at `share` of its length whatever the step."""
    import keras

    class Following(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: "tf.Tensor") -> "tf.Tensor":
            return schedule(share * SHARES)

        def get_config(self) -> dict:
            raise NotImplementedError("an optimizer that follows a clock is not saved")

    return Following()


def rate_of(optimizer: "keras.optimizers.Optimizer") -> float:
    """The present rate of what learns fastest."""
    import keras

    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
    parts = getattr(optimizer, "optimizers", None) or [optimizer]
    return max(float(keras.ops.convert_to_numpy(part.learning_rate)) for part in parts)


def batch_norm_momentum(steps: float) -> float:
    """The momentum at which moving statistics follow a training of `steps` steps, 0.5 to 0.9.

    Some backbones come with 0.999, which suits ImageNet's half a million steps. After the few
    hundred of a small data set the statistics would still be those of the random start, and
    inference would be a guess: with 72 steps and 0.9 a network that had learned its training data
    to 45 % was at chance on validation data, with 0.7 it was at 43 %.
    """
    return min(0.9, max(0.5, 1 - 40 / steps))


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Layers made inside compute in bfloat16 if `mixed`; weights stay float32.

    Not in float16: its small range asks for loss scaling, which a model cut into a frozen and a
    training part would not get.
    """
    import keras

    before = keras.config.dtype_policy()
    if mixed:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
