"""What the file of a lease says: the process that holds it, and whether that may still be alive."""

import errno
import json
import os
import platform
import stat
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from graft.zoo.errors import ConfigError
from graft.zoo.files import flock

__all__ = ["Holder", "may_be_alive", "open_lease_file", "read_holder", "this_process"]

STALE_SECONDS = 60.0
"""A lease of another machine that was not touched for so long has been left."""
LEASE_START = b'{"process"'
"""Of what a lease says."""
MAX_LEASE_BYTES = 64 * 1024
"""What is read of a lease."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: the process, its machine, since when (local time), and what was asked of
    it.
    """

    process: int
    host: str
    boot: str
    since: float
    command: str

    def __str__(self) -> str:
        if not self.process:
            return "another process"
        since = datetime.fromtimestamp(self.since)
        when = since.strftime(
            "%H:%M" if since.date() == datetime.now().date() else "%Y-%m-%d %H:%M"
        )
        return f"process {self.process} on {self.host} since {when}"


def open_lease_file(file: Path, flags: int) -> int:
    """A descriptor of the lease `file`, which is there.

    Raises:
        ConfigError: it is no lease: a link, a pipe, a folder, or a file that says something else.
    """
    try:
        descriptor = os.open(file, flags | flock.SAFE_OPEN_FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENXIO, errno.EOPNOTSUPP):
            raise _no_lease(file) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or not _is_lease(_content(descriptor)):
            raise _no_lease(file)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _no_lease(file: Path) -> ConfigError:
    return ConfigError(
        f"'{file}' is in the way: Graft makes a lease of that name, and this is none: move it away"
    )


def _is_lease(content: bytes) -> bool:
    """Whether `content` is that of a lease, which may have been cut short: nothing, or zeros, or
    its beginning.
    """
    content = content.rstrip(b"\0")
    return content.startswith(LEASE_START) or LEASE_START.startswith(content)


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, MAX_LEASE_BYTES)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return content


def this_process() -> dict[str, object]:
    """What a lease of this process says: the fields of `Holder`."""
    command = (
        " ".join([Path(sys.argv[0]).name.replace("__main__.py", "graft"), *sys.argv[1:2]])
        or "python"
    )
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "boot": flock.machine_id(),
        "since": time.time(),
        "command": command,
    }


def read_holder(file: Path) -> Holder | None:
    """Who the lease `file` says that holds it; None where it says nothing that can be read."""
    try:
        descriptor = open_lease_file(file, os.O_RDONLY)
        try:
            told = json.loads(_content(descriptor))
        finally:
            os.close(descriptor)
        holder = Holder(**{name: told[name] for name in Holder.__dataclass_fields__})
        datetime.fromtimestamp(holder.since)
        return holder
    except (ConfigError, OSError, OverflowError, ValueError, KeyError, TypeError, RecursionError):
        return None


def may_be_alive(holder: Holder, file: Path, known: bool | None) -> bool:
    """Whether `holder` may still be at work, where `flock` says that nobody is (`known`) or cannot
    say (None).
    """
    if holder.boot == flock.machine_id() and known:
        return False
    try:
        return abs(flock.disk_time(file.parent) - file.stat().st_mtime) < STALE_SECONDS
    except OSError:
        return False
