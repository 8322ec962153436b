"""Who writes what: leases on places that a command writes, and marks on folders that are being
made.

On one machine `flock` decides, which the system gives back however a process ends. A shared disk
may not know it, so a lease also says who holds it, and is touched while it is held: what was not
touched for STALE_SECONDS has been left. Machines are told apart by the identity of their boot, not
by their name: containers of one machine share it, and `flock`.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from graft.zoo.errors import ArtifactError, ConfigError

try:
    import fcntl
except ImportError:  # Windows: the record alone decides
    fcntl = None

__all__ = [
    "Holder",
    "Lease",
    "abandoned",
    "hold",
    "holder_of",
    "machine",
    "marked",
    "refuse_held",
    "refuse_lost",
    "refuse_unfinished",
    "resolved",
    "sweep_new",
]

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""A lease of another machine that was not touched for so long has been left."""
LEFT_SECONDS = 24 * 3600.0
"""A folder of another machine, in which nothing was written for so long, has been left."""
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
LOOKS, LOOK_SECONDS = 5, 0.05
"""How often a lease that somebody has, or that does not say whose it is, is looked at again: it may
be just made, or only looked at.
"""
SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""How to open what others may have put there: through no link, and without waiting for the other
end of a pipe.
"""
_held_here: "dict[Lease, Path]" = {}
"""The leases that `hold` has given out in this process, and the places that they are for, where the
links lead.
"""
BEGINNING = b'{"process"'
"""Of what a lease says."""
MOST_BYTES = 64 * 1024
"""What is read of a lease."""
MEND = "wait, or give another --out"
NEW = ".new-"
"""Before the name of a folder that is not marked yet, and empty."""
NEW_NAME = re.compile(re.escape(NEW) + r"[a-z0-9_]{8}")


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


@cache
def machine() -> str:
    """Eight hexadecimal digits that this machine has until it is booted again, in all of its
    containers.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        boot = platform.node()
    return hashlib.blake2b(boot.strip().encode(), digest_size=4).hexdigest()


class Lease:
    """The right to write one place, of one process at a time; `file` is made where it is held, and
    removed after.
    """

    def __init__(self, file: Path):
        self.file = Path(file)
        self._descriptor: int | None = None
        self._ours: Holder | None = None
        self._made: list[Path] = []
        self._released = threading.Event()

    def take(self) -> Holder | None:
        """Take the lease; None where it is ours now, else who holds it.

        Raises:
            ConfigError: what is there is no lease; it is left as it is.
        """
        holder = None
        for look in range(LOOKS):
            if look:
                time.sleep(LOOK_SECONDS)
            descriptor, made = self._open()
            free = _lock(descriptor)
            if free is False or not _same(descriptor, self.file):
                holder = _holder(self.file) or holder
                os.close(descriptor)  # somebody has it, or has just removed the file
                continue
            holder = _holder(self.file)
            if holder is None and not made and look < LOOKS - 1:
                os.close(
                    descriptor
                )  # of a machine whose locks this one does not see, it may be just made
                continue
            if holder is not None and _lives(holder, self.file, known=free):
                os.close(descriptor)
                return holder
            self._begin(descriptor)
            return None
        return holder or Holder(0, "", "", time.time(), "")  # a full disk holds no record

    def lost(self) -> bool:
        """Whether another machine has taken the lease meanwhile, because this process stood still
        for STALE_SECONDS; it may have given it back since, and the file be gone.
        """
        descriptor = self._descriptor  # another thread may give the lease back meanwhile
        if descriptor is None or not _same(descriptor, self.file):
            return True
        return _holder(self.file) != self._ours

    def release(self) -> None:
        """Give the lease back."""
        self._released.set()
        if self._descriptor is None:
            return
        if not self.lost():
            self.file.unlink(missing_ok=True)
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)
        # Of a command that came to nothing no folder stays that was made for its lease.
        for folder in self._made:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _open(self) -> tuple[int, bool]:
        """(the open lease file, whether it was made now)."""
        parent = resolved(self.file.parent)
        while True:
            missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            self._made = missing or self._made
            try:
                with contextlib.suppress(FileExistsError):
                    return os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
                return _opened(self.file, os.O_RDWR), False
            except (
                FileNotFoundError
            ):  # whoever held it has just removed it, perhaps with its folder
                continue
            except PermissionError:
                if not os.path.lexists(self.file):
                    raise
                return _opened(self.file, os.O_RDONLY), False  # another user's, who was killed

    def _begin(self, descriptor: int) -> None:
        with contextlib.suppress(
            OSError
        ):  # a full disk: who works on this machine knows all the same
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_ourselves()).encode())
        self._descriptor, self._ours = descriptor, _holder(self.file)
        self._released.clear()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                if not self.lost():  # another one's is left to go stale
                    os.utime(self.file)


@contextlib.contextmanager
def hold(place: Path, mend: str = MEND) -> Iterator[Lease]:
    """Hold the right to write `place` (a file or a folder, which need not exist) while the block
    runs.

    Raises:
        ConfigError: somebody else holds it; names who, and says how to `mend` it. Or no lease is
            where its lease would be.
    """
    lease = Lease(_lease_file(place))
    sweep_new(lease.file.parent)
    holder = lease.take()
    if holder is not None:
        raise _held(place, holder, mend)
    _held_here[lease] = resolved(place)
    try:
        yield lease
    finally:
        del _held_here[lease]
        lease.release()


def refuse_lost(target: Path) -> None:
    """Refuse to put anything at `target` that belongs to a place of which this process has lost the
    lease: what is there, and what is being made beside it, is another one's.

    Raises:
        ConfigError: so it is; names the place.
    """
    for lease, place in list(_held_here.items()):
        if not _belongs(resolved(target), place) or not lease.lost():
            continue
        if lease.file.exists():
            raise ConfigError(
                f"'{place}' is being written by another machine, because this process stood still"
            )
        raise ConfigError(
            f"another machine has written '{place}' meanwhile, because this process stood still, "
            "or somebody removed "
            f"'{lease.file}': '{place}' is as it was left"
        )


def _belongs(target: Path, place: Path) -> bool:
    """Whether `target` is `place`, or in it, or in one of the hidden folders beside it in which it
    is made.
    """
    if target == place or place in target.parents:
        return True
    if place.parent not in target.parents:
        return False
    return target.relative_to(place.parent).parts[0].startswith(f".{place.name}.")


def holder_of(place: Path) -> Holder | None:
    """Who holds the right to write `place`; None if nobody does. Takes nothing."""
    file = _lease_file(place)
    try:
        descriptor = _opened(file, os.O_RDONLY)
    except (OSError, ConfigError):
        return None
    try:
        free, holder = _lock(descriptor, shared=True), _holder(file)
        held = holder is not None and (free is False or _lives(holder, file, known=free))
        return holder if held else None
    finally:
        os.close(descriptor)


def refuse_held(place: Path, mend: str = MEND) -> None:
    """Refuse early what `hold` would refuse.

    Raises:
        ConfigError: somebody holds `place`; names who, and says how to `mend` it. Or no lease is
            where its lease would be.
    """
    holder = holder_of(place)
    if holder is not None:
        raise _held(place, holder, mend)
    with contextlib.suppress(OSError):
        os.close(_opened(_lease_file(place), os.O_RDONLY))


def refuse_unfinished(place: Path) -> None:
    """Say of a `place` that lacks something that another process makes it just now, if one does.

    Raises:
        ArtifactError: so it is; names who.
    """
    holder = holder_of(place)
    if holder is not None and (holder.process, holder.boot) != (os.getpid(), machine()):
        raise ArtifactError(f"'{place}' is being written by {holder}: wait for it")


def _held(place: Path, holder: Holder, mend: str) -> ConfigError:
    return ConfigError(f"'{place}' is being written by {holder}: {mend}")


def resolved(place: Path) -> Path:
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


def _lease_file(place: Path) -> Path:
    place = resolved(place)  # one place, whatever links lead to it
    return place.with_name(f".{place.name}.lock") if place.name else place / ".lock"


@contextlib.contextmanager
def marked(prefix: str, parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent`, called `prefix` and some random characters, that is marked
    as being written while the block runs; see `abandoned`. It may be renamed meanwhile, and is
    removed in the end.
    """
    folder = Path(tempfile.mkdtemp(prefix=NEW, dir=parent))
    descriptor = None
    try:
        with contextlib.suppress(OSError):  # Windows opens no folders
            descriptor = os.open(folder, os.O_RDONLY)
            _lock(descriptor)
        # Only now by its name, under which others look for what was left: they would take it before
        # it is marked.
        named = Path(parent, prefix + folder.name.removeprefix(NEW))
        os.rename(folder, named)
        folder = named
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep_new(parent: Path) -> None:
    """Remove from `parent` the folders that a process was about to mark (see `marked`) when it was
    killed. They are empty: what holds anything is somebody's.
    """
    try:
        names = [entry.name for entry in os.scandir(parent) if NEW_NAME.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):  # not empty, no folder, or gone
            descriptor = _opened_folder(parent / name)
            try:
                age = _now(parent) - os.fstat(descriptor).st_mtime
                if _lock(descriptor) is not False and age > STALE_SECONDS:  # or it may be just made
                    os.rmdir(parent / name)
            finally:
                os.close(descriptor)


def abandoned(folder: Path, of: str) -> bool:
    """Whether nobody writes into `folder` any more, which a process of the machine `of` (see
    `machine`) has made; so it is where there is no such folder (any more).
    """
    try:
        descriptor = _opened_folder(folder)
    except OSError:
        return not os.path.lexists(folder)
    try:
        free = _lock(descriptor)
        if free is False:
            return False
        if free and of == machine():
            return True
        changed = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
        return time.time() - max(changed) > LEFT_SECONDS
    except OSError:  # it goes away while we look
        return False
    finally:
        os.close(descriptor)


def _opened(file: Path, flags: int) -> int:
    """A descriptor of the lease `file`, which is there.

    Raises:
        ConfigError: it is no lease: a link, a pipe, a folder, or a file that says something else.
    """
    try:
        descriptor = os.open(file, flags | SAFELY)
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
    return content.startswith(BEGINNING) or BEGINNING.startswith(content)


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    content = os.read(descriptor, MOST_BYTES)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return content


def _opened_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | SAFELY | getattr(os, "O_DIRECTORY", 0))


def _lock(descriptor: int, shared: bool = False) -> bool | None:
    """Whether `descriptor` is locked now, by us (True) or by another one (False); None: the file
    system cannot tell.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in BUSY else None
    return True


def _same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.lstat())
    except OSError:
        return False


def _ourselves() -> dict:
    command = (
        " ".join([Path(sys.argv[0]).name.replace("__main__.py", "graft"), *sys.argv[1:2]])
        or "python"
    )
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
        descriptor = _opened(file, os.O_RDONLY)
        try:
            told = json.loads(_content(descriptor))
        finally:
            os.close(descriptor)
        holder = Holder(**{name: told[name] for name in Holder.__dataclass_fields__})
        datetime.fromtimestamp(holder.since)
        return holder
    except (ConfigError, OSError, OverflowError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _lives(holder: Holder, file: Path, known: bool | None) -> bool:
    """Whether `holder` may still be at work, where `flock` says that nobody is (`known`) or cannot
    say (None).
    """
    if holder.boot == machine() and known:
        return False
    try:
        return abs(_now(file.parent) - file.stat().st_mtime) < STALE_SECONDS
    except OSError:
        return False


def _now(folder: Path) -> float:
    """The time by the clock of the disk that `folder` is on: those of two machines may differ."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
