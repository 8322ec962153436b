"""Memory that is free again is given back to the system."""

import ctypes
import functools
import sys
import threading
from collections.abc import Callable

__all__ = ["note_read"]

EVERY_BYTES = 256 * 1024**2
"""After so many bytes were read; looking for what is free takes a few milliseconds."""

_LOCK = threading.Lock()
_read = 0


def note_read(size: int) -> None:
    """Say that `size` bytes were read into arrays that are soon free again.

    The C library of Linux keeps what threads have freed for them: a process that reads batch after
    batch in many threads grows by gigabytes, of which it uses nothing.
    """
    global _read
    with _LOCK:
        _read += size
        due = _read >= EVERY_BYTES
        if due:
            _read = 0
    if due:
        _trim()()


@functools.cache
def _trim() -> Callable[[], object]:
    """What gives back; nothing where the C library is another one."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return (lambda: trim(0)) if trim is not None else (lambda: None)
