"""How a process of ours ends: when it is asked to, by a signal, and when the one that started it
has gone.

A child: Linux kills it at once, whatever it is in the middle of: what it has finished is kept, and
whoever starts anew finds nobody at work. Elsewhere it looks for itself.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["PARENT_VARIABLE", "Ended", "asked_to_end", "ended_by_signals", "telling", "with_parent"]

PARENT_VARIABLE = "GRAFT_PARENT"
"""The variable by which a process tells those that it starts which one it is."""
PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.5
GRACE_SECONDS = 60.0
"""How long a process has to keep what it has made."""


class Ended(KeyboardInterrupt):
    """Somebody asked the process to end, by a signal.

    Attributes:
        signal: which one; SIGINT is Ctrl-C.
    """

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


_asked: list[Ended] = []
"""The signal that the process has had; a list because an interrupt that is raised while TensorFlow
calls Python comes out of it as some other error (a SystemError, a TypeError)."""


def asked_to_end(error: BaseException) -> KeyboardInterrupt | None:
    """The interrupt that `error` is, or that came out of a library as `error`; None: no one asked
    the process to end.
    """
    if isinstance(error, KeyboardInterrupt):
        return error
    return _asked[0] if _asked else None


@contextlib.contextmanager
def telling(told: str) -> Iterator[None]:
    """Where the process is asked to end while the block runs, have `told` said with it."""
    try:
        yield
    except BaseException as error:
        ended = asked_to_end(error)
        if ended is not None:
            ended.add_note(told)
        raise


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """While the block runs, Ctrl-C and signals that ask the process to end raise `Ended`, whatever
    the code in between makes of it.

    Raises:
        Ended: there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_IGN)  # one is enough
        ended = Ended(number)
        _asked[:] = [*_asked, ended][:1]
        raise ended

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    ours = [number for number in numbers if before[number] in defaults]  # nohup has one ignored
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    except Exception as error:
        ended = asked_to_end(error)
        if ended is None:
            raise
        raise ended from error
    finally:
        _asked.clear()
        for number in ours:
            signal.signal(number, before[number])


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
