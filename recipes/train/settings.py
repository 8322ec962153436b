"""What holds for a whole training: the options of the fit loop that every recipe shares."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from graft.recipes.codecs.augmentation import MIXERS, Augmentation
from graft.recipes.feed import cluster
from graft.recipes.feed.entries import CacheSettings, Mode
from graft.recipes.tasks.group import Tasks
from graft.recipes.train.budget import bytes_of, seconds_of
from graft.recipes.train.optimizer import OptimizerSettings
from graft.recipes.train.schedule import Phase
from graft.zoo.errors import ConfigError

if TYPE_CHECKING:
    import keras

    from graft.recipes.train.joint import Method

__all__ = ["FitSettings", "Keep", "TrainPlan", "check_numbers", "check_seeds"]

LARGEST_SEED = 2**32 - 1
"""NumPy's."""


@dataclass(frozen=True)
class FitSettings:
    """What holds for all phases of a training."""

    batch_size: int = 32
    """Examples a step."""
    augment: tuple[Augmentation, ...] = ()
    """Random changes to training images; `--augment` alone is none."""
    views: int = 8
    """With random changes: how many versions of each image the prefix cache holds."""
    cache: Mode = "auto"
    """Compute what frozen blocks give once: off, memory, disk (read as needed), or auto (whichever
    is cheaper).
    """
    memory: Annotated[str, tyro.conf.arg(aliases=("--cache-gb",))] = "1GB"
    """What images or features may take in memory at once (500MB, 4GB); what is larger is read from
    the disk as it is needed.
    """
    cache_dtype: Literal["float16", "float32"] = "float16"
    """What cached features are stored in."""
    ray: str | None = None
    """Compute them on the nodes of the Ray cluster at this address (local, auto, host:port), which
    see the same folders; needs the extra `ray`.
    """
    weight_decay: float = 1e-4
    """AdamW's, on kernels only."""
    clip_norm: float | None = None
    """Clip gradients at this global norm."""
    accumulate: int = 1
    """Average the gradients of so many steps before an update."""
    ema: float | None = None
    """Momentum of a moving average of the weights (0.99, say), which takes their place after each
    epoch.
    """
    class_weights: bool = False
    """Weight each class by the inverse of its frequency."""
    budget: str | None = None
    """Train for so long instead of so many epochs: 90s, 3m, 1h. The phases share it, and rates fall
    with the time left.
    """
    patience: int = 0
    """Stop a phase after so many epochs without a better value of the validation figure by which
    the best epoch is kept; 0: never. Not for domain adaptation, where no validation labels are the
    target's: there the last epoch is kept.
    """
    mixed_precision: bool = False
    """Compute in bfloat16 while training, which newer GPUs and CPUs are quick at; the saved model
    is float32.
    """
    multi_gpu: bool = False
    """Share each batch between all GPUs of this machine."""
    find_lr: bool = False
    """Before each phase, sweep over learning rates: the report shows the curves and what they
    suggest.
    """
    tensorboard: bool = False
    """Write TensorBoard logs into the run directory."""

    def check(self, epochs: int | None = None) -> None:
        """Refuse what cannot work, beside the `epochs` that were asked for. Not done at
        construction, because tyro puts such errors into a box of its own.

        Raises:
            ConfigError: a value outside its range; epochs and a budget of time.
        """
        check_numbers(self)
        if epochs is not None and self.budget_seconds is not None:
            raise ConfigError(
                "--epochs and --budget both say how long to train: choose one of them"
            )
        if self.ema is not None and self.accumulate > 1:
            raise ConfigError(
                "--ema averages after each epoch, --accumulate does not end its updates there: "
                "choose one"
            )
        if self.multi_gpu and self.accumulate > 1:
            raise ConfigError(
                "--accumulate is not made for --multi-gpu yet: choose a larger --batch-size, which "
                "is shared"
            )
        for option, least in (("batch_size", 1), ("patience", 0)):
            if getattr(self, option) < least:
                text = option.replace("_", " ")
                raise ConfigError(
                    f"the {text} must be at least {least}, not {getattr(self, option)}"
                )
        if self.ray is not None:
            cluster.refuse_unknown(self.ray)
        self.optimizer, self.caching, self.budget_seconds  # noqa: B018  (their own checks)

    def check_several_tasks(self) -> None:
        """Refuse what several tasks cannot be trained with.

        Raises:
            ConfigError: names the option.
        """
        mixer = next((name for name in self.augment if name in MIXERS), None)
        if mixer is not None:
            raise ConfigError(
                f"--augment {mixer} mixes the answers of two images, which several tasks cannot: "
                "leave it out"
            )
        if self.class_weights:
            raise ConfigError(
                "--class-weights is for one task: leave it away, or give a task more weight"
            )
        self.refuse("mixed_precision", "several tasks")

    def check_tasks(self, tasks: Tasks) -> None:
        """Refuse what these tasks cannot be trained with.

        Raises:
            ConfigError: names the option.
        """
        if self.class_weights and not (len(tasks) == 1 and tasks.first.chooses):
            raise ConfigError(
                "--class-weights is for one label an example: leave it away for values, tags, "
                "vectors and several labels"
            )

    def refuse(self, option: str, where: str) -> None:
        """Refuse a flag that a training of this kind would not look at.

        Raises:
            ConfigError: it is set; names it.
        """
        if getattr(self, option):
            raise ConfigError(
                f"--{option.replace('_', '-')} is not made for {where} yet: leave it away"
            )

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else seconds_of(self.budget)

    @property
    def memory_bytes(self) -> int:
        """The memory for images or features."""
        return bytes_of(self.memory)

    @property
    def optimizer(self) -> OptimizerSettings:
        """What the optimizer needs of it."""
        return OptimizerSettings(self.weight_decay, self.clip_norm, self.accumulate, self.ema)

    @property
    def caching(self) -> CacheSettings:
        """What the prefix cache needs of it."""
        return CacheSettings(self.cache, self.views, self.memory_bytes, self.cache_dtype, self.ray)


Keep = Literal["best", "last"]


@dataclass(frozen=True)
class TrainPlan:
    """What is trained and how: what stays the same through phases and seeds.

    Attributes:
        build: makes the stacked model, fresh weights included; it is called under each seed.
        tasks: of the model, in the order of its heads.
        phases: of the schedule.
        seeds: one training each.
        settings: of the fit loop.
        method: makes, of the width of what the last dense layer receives and the number of labels,
            what the last phase learns from unlabelled examples; None: nothing.
        pairs: no labels are used: the head learns which two versions are of one image.
        keep: the epoch that is kept: of all phases the one with the best watched figure on the
            whole validation set, or where nothing labelled says which is best the "last" of the
            last phase.
        ready: at most one model that `build` made under the first seed, before anything else was
            drawn; who trains first takes it out instead of building it once more.
    """

    build: "Callable[[], keras.Model]"
    tasks: Tasks
    phases: Sequence[Phase]
    seeds: Sequence[int]
    settings: FitSettings
    method: "Callable[[int, int], Method] | None" = None
    pairs: bool = False
    keep: Keep = "best"
    ready: "list[keras.Model]" = field(default_factory=list, repr=False)


def check_numbers(config: Any) -> None:
    """Refuse NaN and infinity in any option of a Config or of the settings inside it: every
    comparison with NaN is false, so no other check would notice.

    Raises:
        ConfigError: names the option.
    """
    for option in dataclasses.fields(config):
        value = getattr(config, option.name)
        if dataclasses.is_dataclass(value):
            check_numbers(value)
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"--{option.name.replace('_', '-')} is a number, not {number}")


def check_seeds(seed: int, split_seed: int = 0, seeds: int = 1) -> None:
    """Refuse seeds that no random generator takes, and a training with none.

    Raises:
        ConfigError: names the option.
    """
    if seeds < 1:
        raise ConfigError(f"--seeds is a number of trainings, 1 or more, not {seeds}")
    for option, first, last in (
        ("seed", seed, seed + seeds - 1),
        ("split-seed", split_seed, split_seed),
    ):
        if first < 0 or last > LARGEST_SEED:
            raise ConfigError(
                f"--{option} is a whole number from 0 to {LARGEST_SEED - seeds + 1}, not {first}"
            )
