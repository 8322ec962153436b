"""Locks of the operating system, safe ways to open what others may have put there, and the clock
of a disk.
"""

import contextlib
import errno
import hashlib
import os
import platform
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from graft.zoo.errors import ConfigError

with contextlib.suppress(ImportError):  # Windows has none: the record of a lease alone decides
    import fcntl

__all__ = ["disk_time", "is_same_file", "machine_id", "resolve_links", "try_lock"]

BUSY_ERRORS = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
SAFE_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""How to open what others may have put there: through no link, and without waiting for the other
end of a pipe.
"""


@cache
def machine_id() -> str:
    """Eight hexadecimal digits that this machine has until it is booted again, in all of its
    containers.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        boot = platform.node()
    return hashlib.blake2b(boot.strip().encode(), digest_size=4).hexdigest()


def resolve_links(place: Path) -> Path:
    """Where the links lead that `place` is or is in; nothing need be there.

    Raises:
        ConfigError: they lead nowhere but to each other.
    """
    try:
        return Path(place).resolve()
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            f"'{place}' is a link that leads to itself: remove it, or give another --out"
        ) from error


def try_lock(descriptor: int, shared: bool = False) -> bool | None:
    """Whether `descriptor` is locked now, by us (True) or by another one (False); None: the file
    system cannot tell.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in BUSY_ERRORS else None
    return True


def is_same_file(descriptor: int, file: Path) -> bool:
    """Whether the open `descriptor` is that of `file`, links not followed."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.lstat())
    except OSError:
        return False


def disk_time(folder: Path) -> float:
    """The time by the clock of the disk that `folder` is on: those of two machines may differ."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
