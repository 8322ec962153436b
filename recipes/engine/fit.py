"""The fit loop: phases over blocks, compiled once and run for several seeds.

For every phase the frozen blocks are called with `training=False` as one prefix, whatever they contain: BatchNormalization
uses its statistics, dropout and stochastic depth are off. The rest is the suffix, which trains.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recipes.engine import pipeline
from recipes.engine.images import Images
from recipes.engine.progress import progress
from recipes.engine.schedule import Phase
from zoo.blocks import Block, count_trained, find_blocks, freeze
from zoo.cuts import with_frozen_prefix
from zoo.errors import ConfigError
from zoo.heads import Head
from zoo.stack import backbone_of

if TYPE_CHECKING:
    import keras

__all__ = [
    "FitSettings",
    "Trained",
    "batch_norm_momentum",
    "describe_phases",
    "make_optimizer",
    "precision",
    "predict",
    "train",
]

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class FitSettings:
    """What holds for all phases. `patience` 0: no early stopping, but the best epoch of a phase is kept all the same."""

    batch_size: int = 32
    augment: tuple[pipeline.Augmentation, ...] = ()
    weight_decay: float = 0.0
    class_weights: bool = False
    patience: int = 0
    tensorboard: str | None = None

    def __post_init__(self):
        for option, least in (("batch_size", 1), ("weight_decay", 0), ("patience", 0)):
            if getattr(self, option) < least:
                text = option.replace("_", " ")
                raise ConfigError(f"the {text} must be at least {least}, not {getattr(self, option)}")


@dataclass
class Trained:
    """One seed's result.

    `history` has a row an epoch; `phases` a summary of each phase; `weights` are those of the whole model.
    """

    seed: int
    weights: list[np.ndarray] = field(repr=False)
    history: list[dict]
    phases: list[dict]
    seconds: float
    validation_loss: float


def train(
    build: Callable[[], "keras.Model"],
    head: Head,
    phases: Sequence[Phase],
    pixels: Mapping[str, Images],
    seeds: Sequence[int],
    settings: FitSettings,
) -> tuple["keras.Model", list[Trained]]:
    """Train `build()` through `phases` once for each seed; the graph is traced once a phase, not once a seed.

    `pixels` holds the "train" and "validation" pictures.

    `build` makes the stacked model, fresh weights included; it is called under each seed. Returns the model, holding the
    weights of the last seed, and the results, in the order of `seeds`. The seconds of the first seed include tracing.

    Raises:
        ConfigError: no seeds.
    """
    import keras

    if not seeds:
        raise ConfigError("the number of seeds must be at least 1")
    keras.utils.set_random_seed(seeds[0])
    model = build()
    blocks = find_blocks(backbone_of(model))
    compiled = [None] * len(phases)
    results = []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        if results:
            model.set_weights(build().get_weights())
        _seed_dropout(model, seed)
        history, summaries, start = [], [], time.perf_counter()
        for index, phase in enumerate(phases):
            freeze(model, blocks, count_trained(blocks, phase.train), phase.batch_norm)
            if compiled[index] is None:
                compiled[index] = _Compiled(model, blocks, head, phase, len(pixels["train"]), settings)
            before = time.perf_counter()
            rows, best = compiled[index].fit(phase, pixels["train"], pixels["validation"], seed, settings)
            history += [{"phase": phase.name, **row} for row in rows]
            seconds = time.perf_counter() - before
            summaries.append({"seconds": seconds, "epochs_run": len(rows), "best_epoch": best + 1, **_best(rows[best])})
        results.append(
            Trained(
                seed,
                model.get_weights(),
                [{"epoch": i, **row} for i, row in enumerate(history, 1)],
                summaries,
                time.perf_counter() - start,
                summaries[-1]["best_validation_loss"],
            )
        )
    return model, results


def describe_phases(model: "keras.Model", phases: Sequence[Phase]) -> list[dict]:
    """For each phase: its fields, how many blocks train, and the trainable and total parameters."""
    blocks = find_blocks(backbone_of(model))
    rows = []
    for phase in phases:
        trained = count_trained(blocks, phase.train)
        freeze(model, blocks, trained, phase.batch_norm)
        size = sum(int(np.prod(v.shape)) for v in model.trainable_weights)
        rows.append(
            {
                "name": phase.name,
                "train": phase.train,
                "blocks": trained,
                "total_blocks": len(blocks),
                "trainable_parameters": size,
                "total_parameters": model.count_params(),
                "epochs": phase.epochs,
                "learning_rate": phase.learning_rate,
                "batch_norm": phase.batch_norm,
            }
        )
    return rows


def predict(model: "keras.Model", images: Images, weights: Sequence[list[np.ndarray]] = ()) -> list[np.ndarray]:
    """The outputs for all pictures, in order, `(n, units)`, once for each list of `weights` (or for the model as it is).

    Faster than `model.predict` on a CPU, and traced once.
    """
    import tensorflow as tf

    call = tf.function(lambda pixels: model(pixels, training=False), reduce_retracing=True)
    batches = pipeline.evaluation_batches(images, EVALUATION_BATCH)
    outputs = []
    for values in weights or [model.get_weights()]:
        model.set_weights(values)
        outputs.append(np.concatenate([call(pixels).numpy() for pixels, _ in batches]))
    return outputs


def make_optimizer(variables: Sequence, peak: float, steps: int, weight_decay: float) -> "keras.optimizers.Optimizer":
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) for `steps` steps over `variables`.

    The rate rises to `peak` over the first tenth of the steps and falls to zero along a cosine (arXiv:1608.03983). Biases,
    scales and offsets do not decay: nothing draws them to zero (He et al. 2019, arXiv:1812.01187).
    """
    import keras

    warm_up = max(1, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        peak / 10, max(1, steps - warm_up), warmup_target=peak, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
    return optimizer


def batch_norm_momentum(steps: int) -> float:
    """The momentum at which moving statistics follow a training of `steps` steps, 0.5 to 0.9.

    Some backbones come with 0.999, which suits ImageNet's half a million steps. After the few hundred of a small data set
    the statistics would still be those of the random start, and inference would be a guess: with 72 steps and 0.9 a network
    that had learned its training data to 45 % was at chance on validation data, with 0.7 it was at 43 %.
    """
    return min(0.9, max(0.5, 1 - 40 / steps))


@contextlib.contextmanager
def precision(mixed: bool) -> Iterator[None]:
    """Layers made inside compute in 16 bits if `mixed`: float16 on a GPU, bfloat16 on a CPU; weights stay float32."""
    import keras
    import tensorflow as tf

    before = keras.config.dtype_policy()
    if mixed:
        keras.config.set_dtype_policy("mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _Compiled:
    """One phase's graph, compiled once: `prefix` without training behaviour, then `suffix`."""

    def __init__(self, model, blocks: Sequence[Block], head: Head, phase: Phase, examples: int, settings: FitSettings):
        import keras
        import tensorflow as tf

        trained = count_trained(blocks, phase.train)
        if trained < len(blocks):
            self.model = with_frozen_prefix(model, blocks[len(blocks) - trained - 1].cut)
        else:
            self.model = model
        steps = max(1, examples // settings.batch_size) * phase.epochs
        if phase.batch_norm == "train":
            for layer in self.model._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                    layer.momentum = min(layer.momentum, batch_norm_momentum(steps))
        optimizer = make_optimizer(self.model.trainable_weights, phase.learning_rate, steps, settings.weight_decay)
        self.model.compile(
            optimizer=optimizer,
            loss=head.loss(),
            metrics=head.metrics(),
            # XLA made training 6 to 12 times slower on a CPU; on a GPU Keras's own choice stands.
            jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
        )
        self.model.optimizer.build(self.model.trainable_weights)
        self.fresh = [v.numpy() for v in self.model.optimizer.variables]

    def fit(self, phase: Phase, train_images: Images, validation_images: Images, seed: int, settings: FitSettings):
        """(a row an epoch, the index of the best one); the model holds the best epoch's weights afterwards."""
        import keras

        for variable, value in zip(self.model.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        weights = pipeline.balanced_weights(train_images) if settings.class_weights else None
        batches = pipeline.training_batches(
            train_images, settings.batch_size, seed, augment=settings.augment, class_weights=weights
        )
        best = keras.callbacks.EarlyStopping(
            "val_loss", mode="min", patience=settings.patience or phase.epochs, restore_best_weights=True
        )
        rows: list[dict] = []
        callbacks = [best, keras.callbacks.TerminateOnNaN()]
        if settings.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(f"{settings.tensorboard}/seed-{seed}/{phase.name}"))
        with progress(f"{phase.name} (seed {seed})", phase.epochs * len(batches)) as advance:
            callbacks.append(_recorder(rows, advance))
            self.model.fit(
                batches,
                validation_data=pipeline.evaluation_batches(validation_images, EVALUATION_BATCH),
                epochs=phase.epochs,
                callbacks=callbacks,
                shuffle=False,  # the batches are shuffled already
                verbose=0,
            )
        return rows, best.best_epoch


def _recorder(rows: list[dict], advance: Callable[..., None]):
    """A callback that moves the bar and keeps one row an epoch."""
    import keras

    class Recorder(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            advance()

        def on_epoch_end(self, epoch, logs: Mapping[str, float] | None = None):
            rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            values = {name: float(value) for name, value in (logs or {}).items()}
            rows.append({"seconds": time.perf_counter() - self.start, "learning_rate": rate, **values})
            figures = (f"{name.removeprefix('val_')} {v:.3f}" for name, v in values.items() if name.startswith("val_"))
            advance(0, f"epoch {epoch + 1}: validation {', '.join(figures)}")

    return Recorder()


def _seed_dropout(model, seed: int) -> None:
    """Set every random state inside the model, so that a seed gives one result however many came before it."""
    states = [v for v in model.variables if v.name == "seed_generator_state"]
    for i, state in enumerate(states):
        state.assign(np.array([seed, i], state.dtype))


def _best(row: Mapping[str, float]) -> dict:
    return {
        f"best_validation_{name.removeprefix('val_')}": value for name, value in row.items() if name.startswith("val_")
    }
