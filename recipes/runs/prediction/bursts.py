"""Inputs of somebody who may take his time, in bursts: what has come is answered before more comes,
and what comes quickly is answered together.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["as_they_come"]

BURST_WAIT_SECONDS = 0.05
"""So long a burst waits in all for what is still to come: a person, or a program that works on
each, is answered after that; a list of files that another program prints is one burst.
"""
MOST_WAITING = 256
"""Inputs that are read ahead."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """There are no more; `error` is what ended them."""

    error: BaseException | None


def as_they_come(items: Iterable[Item]) -> Iterator[Iterator[Item]]:
    """Bursts of `items`, each to be read to its end before the next one, in their order.

    They are read in a thread, at most `MOST_WAITING` ahead; it is left alone where it waits for
    somebody when nobody reads on.

    Raises:
        BaseException: what `items` raised, behind all that came before it.
    """
    came: queue.Queue[Item | _End] = queue.Queue(MOST_WAITING)
    left, end = threading.Event(), None
    threading.Thread(target=_read, args=(items, came, left), daemon=True).start()

    def burst(item: Item | _End) -> Iterator[Item]:
        nonlocal end
        patience = BURST_WAIT_SECONDS
        while not isinstance(item, _End):
            yield item
            start = time.monotonic()
            try:
                item = came.get(timeout=max(0.0, patience))
            except queue.Empty:
                return
            patience -= time.monotonic() - start
        end = item

    try:
        while end is None:
            yield burst(came.get())
        if end.error is not None:
            raise end.error
    finally:
        left.set()
        while not came.empty():  # the reader may wait for room
            came.get_nowait()


def _read(items: Iterable[Item], came: "queue.Queue[Item | _End]", left: threading.Event) -> None:
    error = None
    try:
        for item in items:
            came.put(item)
            if left.is_set():
                return
    except BaseException as found:  # who reads them hears of it
        error = found
    came.put(_End(error))
