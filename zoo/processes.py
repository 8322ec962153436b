"""A process that another one of ours started ends with it, however that one ended."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

__all__ = ["PARENT", "with_parent"]

PARENT = "GRAFT_PARENT"
"""The variable by which a process tells those that it starts which one it is."""
LOOK_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""How long a process has to keep what it has made."""


@contextlib.contextmanager
def with_parent() -> Iterator[None]:
    """While the block runs, end this process (as SIGTERM does) when the one that started it has gone; nothing where no
    process of ours has started it."""
    told = os.environ.pop(PARENT, "")  # those that this one starts have another parent
    if not told.isdigit():
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_watch, args=(int(told), ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _watch(parent: int, ended: threading.Event) -> None:
    while os.getppid() == parent:
        if ended.wait(LOOK_SECONDS):
            return
    os.kill(os.getpid(), signal.SIGTERM)
    if not ended.wait(GRACE_SECONDS):
        os._exit(128 + signal.SIGTERM)
