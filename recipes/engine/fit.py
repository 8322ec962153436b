"""The fit loop: phases over blocks, compiled once and run for several seeds, resumable after any epoch.

For every phase the frozen blocks run in inference mode, whatever they contain: BatchNormalization uses its statistics,
dropout and stochastic depth are off. Their values come from the prefix cache, or are computed in every step; what lies
behind them trains.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from recipes.engine import pipeline
from recipes.engine.cache import CacheSettings, Mode, PrefixCache
from recipes.engine.checkpoint import Checkpoint, Checkpoints
from recipes.engine.images import Images
from recipes.engine.optimizer import OptimizerSettings, batch_norm_momentum, make_optimizer
from recipes.engine.progress import progress
from recipes.engine.recorder import recorder
from recipes.engine.schedule import Phase
from recipes.engine.store import Store
from zoo.blocks import Block, count_trained, find_blocks, freeze
from zoo.cuts import narrowest_cut, split, with_frozen_prefix
from zoo.errors import ConfigError
from zoo.heads import Head
from zoo.stack import backbone_of

if TYPE_CHECKING:
    import keras

__all__ = ["FitSettings", "Trained", "describe_phases", "predict", "train"]

EVALUATION_BATCH = 64
STEPS_A_CALL = 16
"""Steps that run without returning to Python, at most, unless only the head trains: then it is a whole epoch."""


@dataclass(frozen=True)
class FitSettings:
    """What holds for all phases of a training."""

    batch_size: int = 32
    """Examples a step."""
    augment: tuple[pipeline.Augmentation, ...] = ()
    """Random changes to training pictures; write `--augment` alone for none."""
    views: int = 4
    """With random changes: how many versions of each picture the prefix cache holds."""
    cache: Mode = "auto"
    """Compute what frozen blocks give once: off, memory, disk (read as needed), or auto (whichever is cheaper)."""
    cache_gb: float = 1.0
    """Memory for cached features; `auto` leaves larger ones on the disk."""
    cache_dtype: Literal["float16", "float32"] = "float16"
    """What cached features are stored in."""
    weight_decay: float = 1e-4
    """AdamW's, on kernels only."""
    clip_norm: float | None = None
    """Clip gradients at this global norm."""
    accumulate: int = 1
    """Average the gradients of so many steps before an update."""
    ema: float | None = None
    """Momentum of a moving average of the weights (0.99, say), which takes their place after each epoch."""
    class_weights: bool = False
    """Weight each class by the inverse of its frequency."""
    patience: int = 0
    """Stop a phase after so many epochs without a better validation loss; 0: never. The best epoch is kept either way."""
    mixed_precision: bool = False
    """Compute in 16 bits while training (float16 on a GPU, bfloat16 on a CPU); the saved model is float32."""
    tensorboard: bool = False
    """Write TensorBoard logs into the run directory."""

    def check(self) -> None:
        """Refuse what cannot work. Not done at construction, because tyro puts such errors into a box of its own.

        Raises:
            ConfigError: a value outside its range.
        """
        for option, least in (("batch_size", 1), ("patience", 0)):
            if getattr(self, option) < least:
                text = option.replace("_", " ")
                raise ConfigError(f"the {text} must be at least {least}, not {getattr(self, option)}")
        self.optimizer, self.caching  # noqa: B018  (their own checks)

    @property
    def optimizer(self) -> OptimizerSettings:
        """What the optimizer needs of it."""
        return OptimizerSettings(self.weight_decay, self.clip_norm, self.accumulate, self.ema)

    @property
    def caching(self) -> CacheSettings:
        """What the prefix cache needs of it."""
        return CacheSettings(self.cache, self.views, int(self.cache_gb * 1024**3), self.cache_dtype)


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
    images: Mapping[str, Images],
    seeds: Sequence[int],
    settings: FitSettings,
    *,
    store: Store | None = None,
    folder: Path | None = None,
    name: str = "training",
) -> tuple["keras.Model", list[Trained]]:
    """Train `build()` through `phases` once for each seed; the graph is traced once a phase, not once a seed.

    `images` holds the "train" and "validation" pictures. `build` makes the stacked model, fresh weights included; it is
    called under each seed. Features of frozen blocks are kept in `store`; without one nothing is cached. Checkpoints (and
    TensorBoard's logs) go into `folder`, under `name`; if it holds those of an interrupted training, this one goes on from
    there.

    Returns the model, holding the weights of the last seed, and the results, in the order of `seeds`. The seconds of the
    first seed include tracing, and computing features that were not in the store.

    Raises:
        ConfigError: no seeds; a cache that cannot be had.
        TrainingError: the loss is not a number.
    """
    import keras

    if not seeds:
        raise ConfigError("the number of seeds must be at least 1")
    settings.check()
    images = {name: images[name] for name in ("train", "validation")}
    keras.utils.set_random_seed(seeds[0])
    model = build()
    blocks = find_blocks(backbone_of(model))
    trained = [count_trained(blocks, phase.train) for phase in phases]
    cuts = [None if n == len(blocks) else narrowest_cut(model, blocks[len(blocks) - n - 1].cut) for n in trained]
    cache = None
    if store is not None:
        cache = PrefixCache(store, model, images, settings.augment, settings.caching)
        planned = cache.plan([(phase.epochs * len(seeds), cut) for phase, cut in zip(phases, cuts, strict=True)])
    training = _Training(model, blocks, head, phases, images, settings, folder)
    checkpoints = Checkpoints(folder and folder / "checkpoint" / name)
    results = []
    for index, seed in enumerate(seeds):
        finished = checkpoints.finished(seed)
        if finished is not None:
            facts, weights = finished
            results.append(Trained(seed, weights, **facts))
            continue
        keras.utils.set_random_seed(seed)
        if index:
            model.set_weights(build().get_weights())
        training.seed_dropout(seed)
        state = training.restore(checkpoints.load(seed))
        for number in range(state.phase, len(phases)):
            start = time.perf_counter()
            cached = cache if cache is not None and planned[number] else None
            if cached is not None:
                cached.fill([c for c, p in zip(cuts[number:], planned[number:], strict=True) if p])
            state = training.run_phase(number, trained[number], cuts[number], cached, seed, state, checkpoints, start)
        facts = {
            "history": [{"epoch": i, **row} for i, row in enumerate(state.history, 1)],
            "phases": state.summaries,
            "seconds": state.seconds,
            "validation_loss": state.summaries[-1]["best_validation_loss"],
        }
        results.append(Trained(seed, model.get_weights(), **facts))
        checkpoints.finish(seed, facts, results[-1].weights)
    model.set_weights(results[-1].weights)
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
                **vars(phase),
                "blocks": trained,
                "total_blocks": len(blocks),
                "trainable_parameters": size,
                "total_parameters": model.count_params(),
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


class _Training:
    """One model on its way through the phases."""

    def __init__(self, model, blocks: Sequence[Block], head: Head, phases, images, settings: FitSettings, folder):
        self.model, self.blocks, self.head, self.phases = model, blocks, head, phases
        self.images, self.settings, self.folder = images, settings, folder
        most = max(count_trained(blocks, phase.train) for phase in phases)
        still = {id(v) for block in blocks[: len(blocks) - most] for v in block.weights}
        self.changing = [v for v in model.variables if id(v) not in still]
        self.compiled: dict[tuple[int, bool], _Compiled] = {}

    def seed_dropout(self, seed: int) -> None:
        """Set every random state of the model, so that a seed gives one result however many came before it."""
        states = [v for v in self.model.variables if v.name == "seed_generator_state"]
        for i, state in enumerate(states):
            state.assign(np.array([seed, i], state.dtype))

    def restore(self, state: Checkpoint | None) -> Checkpoint:
        """Set the model to `state`, if there is one."""
        if state is None:
            return Checkpoint()
        for variable, value in zip(self.changing, state.variables, strict=True):
            variable.assign(value)
        return state

    def run_phase(self, number, trained, cut, cache: PrefixCache | None, seed, state: Checkpoint, checkpoints, start):
        """Train one phase from where `state` stands; returns the state after it. `start` is when its clock started."""
        phase = self.phases[number]
        freeze(self.model, self.blocks, trained, phase.batch_norm)
        key = (number, cache is not None)
        if key not in self.compiled:
            self.compiled[key] = _Compiled(self, phase, None if trained == len(self.blocks) else cut, cache is not None)
        data = {name: self.images[name] if cache is None else cache.features(cut, name) for name in self.images}
        changing = {id(v) for v in self.changing}
        own = [i for i, v in enumerate(self.compiled[key].model.weights) if id(v) in changing]

        def save(rows, best, stopping, optimizer):
            checkpoints.save(
                seed,
                Checkpoint(
                    number, len(rows), [v.numpy() for v in self.changing], optimizer, [best[i] for i in own], stopping,
                    rows, state.history, state.summaries, state.seconds + time.perf_counter() - start,
                ),
            )  # fmt: skip

        model = self.compiled[key].model
        best = model.get_weights()
        for i, value in zip(own, state.best, strict=False):
            best[i] = value
        prepared = time.perf_counter() - start
        rows, best_epoch, waited = self.compiled[key].fit(data, seed, state, best, save)
        seconds = time.perf_counter() - start
        training_seconds = sum(row["seconds"] for row in rows)
        examples = len(rows) * self.compiled[key].steps * self.settings.batch_size
        summary = {
            "seconds": seconds,
            "epochs_run": len(rows),
            "best_epoch": best_epoch + 1,
            "cached": cache is not None,
            "preparation_seconds": prepared,
            "images_per_second": examples / training_seconds,
            "input_wait_share": waited / training_seconds,
            **_best(rows[best_epoch]),
        }
        state = Checkpoint(
            number + 1,
            variables=[v.numpy() for v in self.changing],
            history=state.history + [{"phase": phase.name, **row} for row in rows],
            summaries=[*state.summaries, summary],
            seconds=state.seconds + seconds,
        )
        checkpoints.save(seed, state)
        return state


class _Compiled:
    """One phase's graph, compiled once: the suffix alone on cached features, or behind a prefix that never trains."""

    def __init__(self, training: _Training, phase: Phase, cut, cached: bool):
        import keras
        import tensorflow as tf

        self.phase, self.settings, self.folder = phase, training.settings, training.folder
        model = training.model
        if cut is not None:
            model = split(model, cut)[1] if cached else with_frozen_prefix(model, cut)
        self.model = model
        self.steps = self._order(0, len(training.images["train"])).steps
        if phase.batch_norm == "train":
            for layer in model._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
                    layer.momentum = min(layer.momentum, batch_norm_momentum(self.steps * phase.epochs))
        optimizer = make_optimizer(
            model.trainable_weights,
            phase.learning_rate,
            self.steps * phase.epochs,
            self.settings.optimizer,
            blocks=training.blocks,
            layer_decay=phase.layer_decay,
            steps_per_epoch=self.steps,
        )
        self.steps_a_call = _steps_a_call(self.steps, whole_epochs=cached and phase.train == "head")
        model.compile(
            optimizer=optimizer,
            loss=training.head.loss(),
            metrics=training.head.metrics(),
            # XLA made training 6 to 12 times slower on a CPU; on a GPU Keras's own choice stands.
            jit_compile="auto" if tf.config.list_physical_devices("GPU") else False,
            steps_per_execution=self.steps_a_call,
        )
        model.optimizer.build(model.trainable_weights)
        self.fresh = [v.numpy() for v in model.optimizer.variables]

    def _order(self, seed: int, count: int, first: int = 0) -> pipeline.Order:
        return pipeline.Order(count, self.settings.batch_size, seed, self.phase.epochs, first)

    def fit(self, data: Mapping, seed: int, state: Checkpoint, best_weights: list, save: Callable):
        """(a row an epoch, the index of the best one, seconds spent waiting for batches).

        Goes on where `state` stands, whose best weights are `best_weights`; the model holds the best epoch's weights
        afterwards. `save` is called after each epoch.
        """
        import keras
        import tensorflow as tf

        settings, phase = self.settings, self.phase
        for variable, value in zip(self.model.optimizer.variables, state.optimizer or self.fresh, strict=True):
            variable.assign(value)
        if state.stopping.get("stopped") or state.epochs_done == phase.epochs:  # killed just before the next phase
            self.model.set_weights(best_weights)
            return state.rows, state.stopping["best_epoch"], 0.0
        examples = data["train"]
        weights = pipeline.balanced_weights(examples.targets) if settings.class_weights else None
        order = self._order(seed, len(examples), state.epochs_done)
        if isinstance(examples, pipeline.Features):
            batches = pipeline.feature_batches(examples, order, class_weights=weights)
        else:
            batches = pipeline.training_batches(examples, order, augment=settings.augment, class_weights=weights)
        waited = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        best = keras.callbacks.EarlyStopping(
            "val_loss", mode="min", patience=settings.patience or phase.epochs, restore_best_weights=True
        )
        rows = list(state.rows)
        callbacks = [best]
        if settings.tensorboard and self.folder is not None:
            callbacks.append(keras.callbacks.TensorBoard(f"{self.folder}/tensorboard/seed-{seed}/{phase.name}"))
        with progress(f"{phase.name} (seed {seed})", (phase.epochs - state.epochs_done) * self.steps) as advance:
            known = {**state.stopping, "best_weights": best_weights} if state.stopping else {}
            callbacks.append(recorder(rows, best, known, self.steps_a_call, advance, save, phase.name))
            self.model.fit(
                pipeline.timed(batches, waited),
                validation_data=pipeline.evaluation_batches(data["validation"], EVALUATION_BATCH),
                steps_per_epoch=self.steps,
                initial_epoch=state.epochs_done,
                epochs=phase.epochs,
                callbacks=callbacks,
                shuffle=False,  # the batches are shuffled already
                verbose=0,
            )
        return rows, best.best_epoch, float(waited.numpy())


def _steps_a_call(steps: int, whole_epochs: bool) -> int:
    """A divisor of `steps`: Keras would run past the end of an epoch otherwise."""
    if whole_epochs:
        return steps
    return max(n for n in range(1, STEPS_A_CALL + 1) if steps % n == 0)


def _best(row: Mapping[str, float]) -> dict:
    return {
        f"best_validation_{name.removeprefix('val_')}": value for name, value in row.items() if name.startswith("val_")
    }
