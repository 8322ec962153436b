"""A process that another one of ours started ends with it, however that one ended.

Linux kills it at once, whatever it is in the middle of: what it has finished is kept, and whoever
starts anew finds nobody at work. Elsewhere it looks for itself.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator

__all__ = ["PARENT_VARIABLE", "with_parent"]

PARENT_VARIABLE = "GRAFT_PARENT"
"""The variable by which a process tells those that it starts which one it is."""
PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""How long a process has to keep what it has made."""


@contextlib.contextmanager
def with_parent() -> Iterator[None]:
    """While the block runs, end this process when the one that started it has gone; nothing where
    no process of ours has started it.
    """
    told = os.environ.pop(PARENT_VARIABLE, "")  # those that this one starts have another parent
    if not told.isdigit():
        yield
        return
    _be_killed_with_parent()
    ended = threading.Event()
    threading.Thread(target=_watch, args=(int(told), ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _be_killed_with_parent() -> None:
    """Ask Linux for it; a parent that has gone already is noticed by `_watch`."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _watch(parent: int, ended: threading.Event) -> None:
    """End the process as SIGTERM does, or without asking where it does not listen, once `parent`
    has gone.
    """
    while os.getppid() == parent:
        if ended.wait(LOOK_SECONDS):
            return
    os.kill(os.getpid(), signal.SIGTERM)
    if not ended.wait(GRACE_SECONDS):
        os._exit(128 + signal.SIGTERM)
