"""Whether a phase is begun: not where a budget of time has too little left for it."""

from collections.abc import Sequence

from graft.recipes.train.budget import too_short
from graft.recipes.train.phases.parts import PhaseTurn

__all__ = ["TimeLeft"]


class TimeLeft:
    """What a `budget` of so many seconds has left; None: there is no budget, and time for all.

    The phase with the number `wanted` has at least one step, however late it is.
    """

    def __init__(self, budget: float | None, wanted: int | None = None):
        self.budget, self.wanted = budget, wanted
        self.preparing = 0.0

    def noted(self, seconds: float) -> None:
        """To make a phase ready, without its passes, took so long."""
        self.preparing = max(self.preparing, seconds)

    def is_over(self, turn: PhaseTurn, before: Sequence[dict], ready: bool) -> bool:
        """Whether a phase need not be looked at: the last one `before` it was skipped, and this one
        costs no less; or there is no time to make it ready, where it is not.
        """
        if before and "skipped" in before[-1] and turn.number != self.wanted:
            return True
        return self.is_too_long(turn, "the time before it", 0.0 if ready else self.preparing)

    def is_too_long(self, turn: PhaseTurn, what: str, seconds: float) -> bool:
        """Whether fewer than so many seconds are left, which `what` takes.

        Raises:
            ConfigError: in the first phase.
        """
        used = turn.clock.used
        if self.budget is None or used + seconds <= self.budget:
            return False
        if turn.number == 0:
            raise too_short(self.budget, what, used + seconds)
        return turn.number != self.wanted
