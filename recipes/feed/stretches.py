"""A pass is cut into stretches of whole batches, which several machines may compute."""

from dataclasses import dataclass

from graft.recipes.feed.entries import BATCH

__all__ = ["Stretch", "stretches"]

STRETCHES = 128
"""How many there are to be, so that the nodes of a cluster have about as much to do each."""
MOST_BATCHES = 16
"""Of one stretch: what is lost with a node is computed again."""


@dataclass(frozen=True)
class Stretch:
    """Some batches of a pass.

    Attributes:
        number: of the stretch.
        first_batch: its first batch.
        first, end: the examples from `first` on, up to but without `end`.
    """

    number: int
    first_batch: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def name(self) -> str:
        """What its part is called."""
        return f"{self.number:06d}"


def stretches(count: int) -> list[Stretch]:
    """Cut a pass over `count` examples into stretches of whole batches, in their order.

    They depend on the number of examples alone, whatever the cluster is, so that what another one
    computed is found again.
    """
    batches = -(-count // BATCH)
    each = min(max(1, batches // STRETCHES), MOST_BATCHES)
    firsts = range(0, batches, each)
    return [
        Stretch(number, first, first * BATCH, min((first + each) * BATCH, count))
        for number, first in enumerate(firsts)
    ]
