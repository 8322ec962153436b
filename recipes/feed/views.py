"""The views of cached training images that one training takes: a new one for each epoch, until
all are there.

So a training begins after one pass over its images, not after all; as many epochs as there are
views cost no more than they would without a cache; and what a killed training had computed is not
lost. Afterwards every step draws from all. A training for a given time goes over all views so far
before it takes the next: an epoch on them costs little beside a pass.
"""

from collections.abc import Callable, Iterator, Sequence

from graft.recipes.feed.cache import PrefixCache
from graft.recipes.feed.clock import Clock
from graft.recipes.feed.features import Features
from graft.recipes.feed.frozen import Cut

__all__ = ["Views"]


class Views:
    """The views that a training has taken so far, `taken`; what it finds in the `cache` is charged
    to its `clock`.

    With `seconds` no more views are taken than can be computed in that time. `passing` counts the
    seconds that passes took here.
    """

    def __init__(self, cache: PrefixCache, clock: Clock, taken: int, seconds: float | None):
        self.cache, self.clock, self.taken, self.seconds = cache, clock, taken, seconds
        self.passing = 0.0
        self._cuts: Sequence[Cut] = ()

    def begin(self, cut: Cut, later: Sequence[Cut]) -> None:
        """Begin the phase at `cut`, and what `later` ones need.

        Those that train less than this one have to wait: the weights of their frozen blocks are not
        what they will be.
        """
        self._cuts = self.cache.begin(cut, later)

    def first_seconds(self) -> float:
        """What `fill_first` will take or charge, about."""
        return self.cache.expected_seconds(self._cuts, charged=self.taken == 0)

    def fill_first(self) -> None:
        """Have the validation examples and the first view for the phase that has begun."""
        spared = self._fill(0)
        if self.taken == 0:  # one that goes on has paid for it already
            self.clock.charged += spared

    def stretches(
        self,
        cut: Cut,
        first: int,
        epochs: int,
        fits: Callable[[float], bool] = lambda seconds: True,
    ) -> Iterator[tuple[int, int, dict[str, Features]]]:
        """Yield (an epoch, the one where it ends, what it sees of each split at `cut`) from epoch
        `first` on. No view is taken whose pass takes longer than what `fits` into the phase.
        """
        if self.cache.views["train"] == 1:
            self.taken = 1
        while first < epochs and self._another(fits):
            if self.taken:
                self.clock.charged += self._fill(self.taken)
            self.taken += 1
            seen = (self.taken - 1,) if self.seconds is None else range(self.taken)
            end = min(first + len(seen), epochs)
            yield first, end, self._features(cut, seen)
            first = end
        if first < epochs:
            yield first, epochs, self._features(cut, range(self.taken))

    def _features(self, cut: Cut, views: Sequence[int]) -> dict[str, Features]:
        return {
            name: self.cache.features(cut, name, views if count > 1 else (0,))
            for name, count in self.cache.views.items()
        }

    def _fill(self, view: int) -> float:
        began = self.clock.own
        spared = self.cache.fill(self._cuts, view)
        self.passing += self.clock.own - began
        return spared

    def _another(self, fits: Callable[[float], bool]) -> bool:
        """Whether there is one more view to take, and time for it: as much as those before took."""
        if self.seconds is None or self.taken == 0:
            return self.taken < self.cache.views["train"]
        spent = sum(self.cache.seconds(self._cuts, view) for view in range(self.taken))
        return (
            self.taken < self.cache.views["train"]
            and spent * (self.taken + 1) / self.taken <= self.seconds
            and fits(spent / self.taken)
        )
