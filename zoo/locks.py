"""Who writes what: leases on places that a command writes, and marks on folders that are being made.

On one machine `flock` decides, which the system gives back however a process ends. A shared disk may not know it, so a
lease also says who holds it, and is touched while it is held: what was not touched for STALE_SECONDS has been left. Machines
are told apart by the identity of their boot, not by their name: containers of one machine share it, and `flock`.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from zoo.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: the record alone decides
    fcntl = None

__all__ = ["Holder", "Lease", "abandoned", "hold", "machine", "marked"]

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A lease of another machine that was not touched for so long has been left."""
LEFT_SECONDS = 24 * 3600.0
"""A folder of another machine, in which nothing was written for so long, has been left."""
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: the process, its machine, since when (local time), and what was asked of it."""

    process: int
    host: str
    boot: str
    since: float
    command: str

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since)
        when = since.strftime("%H:%M" if since.date() == datetime.now().date() else "%Y-%m-%d %H:%M")
        return f"process {self.process} on {self.host} since {when} ({self.command})"


@cache
def machine() -> str:
    """Eight hexadecimal digits that this machine has until it is booted again, in all of its containers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        boot = platform.node()
    return hashlib.blake2b(boot.strip().encode(), digest_size=4).hexdigest()


class Lease:
    """The right to write one place, of one process at a time; `file` is made where it is held, and removed after."""

    def __init__(self, file: Path):
        self.file = Path(file)
        self._descriptor: int | None = None
        self._released = threading.Event()

    def take(self) -> Holder | None:
        """Take the lease; None where it is ours now, else who holds it."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666)
            free = _lock(descriptor)
            if free is not False and not _same(descriptor, self.file):
                os.close(descriptor)  # whoever held it has just removed the file
                continue
            holder = _holder(self.file)
            if free is False or (holder is not None and _lives(holder, self.file, known=free)):
                os.close(descriptor)
                return holder or Holder(0, "another machine", "", time.time(), "graft")
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_ourselves()).encode())
            self._descriptor = descriptor
            self._released.clear()
            threading.Thread(target=self._beat, daemon=True).start()
            return None

    def release(self) -> None:
        """Give the lease back."""
        self._released.set()
        if self._descriptor is not None:
            self.file.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.file)


@contextlib.contextmanager
def hold(place: Path, mend: str = "wait for it, or give another --out") -> Iterator[None]:
    """Hold the right to write `place` (a file or a folder, which need not exist) while the block runs.

    Raises:
        ConfigError: somebody else holds it; names who, and says how to `mend` it.
    """
    place = Path(place).absolute()
    lease = Lease(place.with_name(f".{place.name}.lock"))
    holder = lease.take()
    if holder is not None:
        raise ConfigError(f"'{place.name}' in '{place.parent}' is being written by {holder}: {mend}")
    try:
        yield
    finally:
        lease.release()


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Mark `folder` as being written while the block runs; see `abandoned`. It may be renamed meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield
        return
    _lock(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def abandoned(folder: Path, of: str) -> bool:
    """Whether nobody writes into `folder` any more, which a process of the machine `of` (see `machine`) has made; so it is
    where there is no such folder (any more)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return not folder.exists()
    try:
        free = _lock(descriptor)
        if free is False:
            return False
        if free and of == machine():
            return True
        changed = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
        return time.time() - max(changed) > LEFT_SECONDS
    except OSError:  # it goes away while we look
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether `descriptor` is locked now, by us (True) or by another one (False); None: the file system cannot tell."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in BUSY else None
    return True


def _same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False


def _ourselves() -> dict:
    command = " ".join([Path(sys.argv[0]).name.replace("__main__.py", "graft"), *sys.argv[1:2]]) or "python"
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "boot": machine(),
        "since": time.time(),
        "command": command,
    }


def _holder(file: Path) -> Holder | None:
    """Who the lease `file` says that holds it; None where it says nothing that can be read."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        holder = Holder(**{name: told[name] for name in Holder.__dataclass_fields__})
        datetime.fromtimestamp(holder.since)
        return holder
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return None


def _lives(holder: Holder, file: Path, known: bool | None) -> bool:
    """Whether `holder` may still be at work, where `flock` says that nobody is (`known`) or cannot say (None)."""
    if holder.boot == machine() and known:
        return False
    try:
        return time.time() - file.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False
