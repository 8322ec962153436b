"""What the parts of a phase will take, from what the same parts took before; so that a training for
a given time begins nothing that ends too late.

Before the first step nothing is known of a phase but its validation: a few batches of it are run
before anything trains. From then on a part takes what it took the last times, without the tracing
that comes once.
"""

import statistics
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graft.recipes.feed.clock import Clock

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Forecast", "Look", "Trial"]

TRIED = 3
"""Batches of the validation set that say what all of them will take."""
REMEMBERED = 9
"""Calls of the compiled step whose median says what the next one will take."""
STEP = 3.0
"""What a training step costs, in passes forward over as many examples: the backward pass takes
about two of them.
"""
TRACE = 12.0
"""What tracing a training step costs, in traces of the pass forward: measured 12 to 20
where blocks train (benchmarks/results/budgets.md), and the least of it: a phase that is refused
would hardly fit.
"""


@dataclass(frozen=True)
class Trial:
    """What a few validation batches took.

    Attributes:
        tracing: seconds until the first one was there, beyond what a batch takes.
        batch: seconds of one of them.
        whole: seconds of all, by what one takes.
    """

    tracing: float
    batch: float
    whole: float


@dataclass(frozen=True)
class Look:
    """The figures of the validation set with the weights of now.

    Attributes:
        batches: of the validation examples, in order.
        examples: how many there are.
        batch_size: of a batch; the last one may be smaller.
        outputs: what is computed of some batches.
        figures: what the outputs of all of them are worth.
    """

    batches: "tf.data.Dataset"
    examples: int
    batch_size: int
    outputs: Callable[[Iterable], Any]
    figures: Callable[[Any], dict[str, float]]

    def __call__(self) -> dict[str, float]:
        """The figures: "val_loss", "val_watched" and others."""
        return self.figures(self.outputs(self.batches))

    def tried(self, clock: Clock) -> Trial:
        """Run a few batches, which traces what runs them, for batches of every size."""
        count, last = -(-self.examples // self.batch_size), self.examples % self.batch_size
        first, tried = self.batches.take(1), min(TRIED, count)
        begin = clock.own
        self.outputs(first)
        traced = clock.own
        if last and count > 1:  # a size that was not seen before is traced anew
            self.outputs(first.map(lambda *inputs: _shortened(inputs, last)))
        ready = clock.own
        self.outputs(self.batches.take(tried))
        batch = (clock.own - ready) / tried
        return Trial(max(0.0, traced - begin - batch), batch, batch * count)


def _shortened(inputs: tuple, size: int) -> Any:
    """The first examples of a batch."""
    import keras

    (given,) = inputs if len(inputs) == 1 else (inputs,)
    return keras.tree.map_structure(lambda tensor: tensor[:size], given)


@dataclass
class Forecast:
    """What a call of the compiled step, its tracing, and the end of an epoch will take, in seconds.

    Attributes:
        call: of a call, as long as none was measured.
        tracing: what the first call takes beside; 0 once it was made.
        ending: of the end of an epoch: validation, and writing the checkpoint.
    """

    call: float = 0.0
    tracing: float = 0.0
    ending: float = 0.0
    _calls: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED), repr=False)
    _traced: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, trial: Trial, examples: float) -> "Forecast":
        """A first one, by a `trial` of the validation set; a call of the compiled step sees so many
        times the `examples` of a validation batch.
        """
        return cls(STEP * trial.batch * examples, TRACE * trial.tracing, trial.whole)

    @property
    def least(self) -> float:
        """What is needed to begin: one call, its tracing and one end of an epoch."""
        return self.tracing + self.call + self.ending

    def called(self, seconds: float) -> None:
        """A call of the compiled step took so long."""
        if not self._traced:  # and how much of it was tracing is known after the next one
            self._traced, self.tracing = True, 0.0
            self.call = min(self.call, seconds)
            return
        self._calls.append(seconds)
        self.call = statistics.median(self._calls)

    def ended(self, seconds: float) -> None:
        """The end of an epoch took so long."""
        self.ending = seconds
