"""The clock of a training: what passed, and what its cached features had cost."""

import time

__all__ = ["Clock"]


class Clock:
    """Seconds of one training.

    Attributes:
        charged: what the features that it found in the cache had cost.
    """

    def __init__(self, own: float = 0.0, charged: float = 0.0):
        self._start, self.charged = time.perf_counter() - own, charged

    @property
    def own(self) -> float:
        """What passed, also before an interruption."""
        return time.perf_counter() - self._start

    @property
    def used(self) -> float:
        """What counts: `own` and `charged`."""
        return self.own + self.charged
