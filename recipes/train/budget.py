"""Training for a given time instead of a given number of epochs.

Nothing is begun that will not end in time, by what the same took before (`phases/forecast.py`): no
step, no epoch, no view of the cached features, no phase. A last epoch is cut where its time is up.

The clock counts what a training took, and what the cached features that it found cost whoever
computed them, so that runs are compared at equal cost in whatever order they came. The rate falls
with the time that is left, not with the steps, as budgeted training has it (Li et al. 2020,
arXiv:1905.04753).
"""

import math
import re
from collections.abc import Sequence

from graft.recipes.feed.clock import Clock
from graft.zoo.errors import ConfigError

__all__ = ["HEAD_PASSES", "MARKS", "Clock", "bound", "bytes_of", "seconds_of", "too_short"]

UNITS = {"s": 1, "m": 60, "h": 3600}
BYTES = {"M": 2, "G": 3, "T": 4}
MARKS = (1 / 6, 1 / 3, 2 / 3)
"""Shares of the budget at which the validation data are looked at, where no epoch ended shortly
before.
"""
SHORTEST = 1e-3
HEAD_PASSES = 5
"""How many times a schedule's epochs a head may train at most. On cached features an epoch takes a
tenth of a second, and what more than a hundred of them do to a head is overfitting; the time is
left to the phases behind it.
"""


def seconds_of(text: str) -> float:
    """ "90s", "3m" or "1.5h" in seconds.

    Raises:
        ConfigError: it is something else, or nothing is left of it.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if not found or float(found[1]) == 0:
        raise ConfigError(f"--budget is a time above 0 like 90s, 3m or 1h, not '{text}'")
    return float(found[1]) * UNITS[found[2]]


def bytes_of(text: str) -> int:
    """ "500MB" or "1.5GB" in bytes; a bare number is of GB.

    Raises:
        ConfigError: it is something else, or nothing is left of it.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([MGT])i?B)?", text.strip())
    if not found or float(found[1]) == 0:
        raise ConfigError(f"--memory is a size above 0 like 500MB or 2GB, not '{text}'")
    return int(float(found[1]) * 1024 ** BYTES[found[2] or "G"])


def too_short(budget: float, what: str, seconds: float) -> ConfigError:
    """The error of a budget within which no step can be made, because `what` takes so long."""
    return ConfigError(
        f"the --budget of {budget:g} s is over before the first step: {what} takes about "
        f"{seconds:.0f} s; give {max(1, math.ceil(2 * seconds))}s or more"
    )


def bound(epochs: Sequence[int], begin: float, budget: float, first: bool) -> tuple[float, float]:
    """When the phase that begins at `begin` on the clock ends: it gets of the time that is left
    what its epochs are of those of all phases that are to come, `epochs`, its own first.

    Raises:
        ConfigError: nothing is left for the `first` phase.
    """
    if begin >= budget and first:
        raise too_short(budget, "what the frozen blocks give", begin)
    return begin, max(begin + SHORTEST, begin + (budget - begin) * epochs[0] / sum(epochs))
