"""Who writes what: a lease on each place that a command writes.

On one machine `flock` decides, which the system gives back however a process ends. A shared disk
may not know it, so a lease also says who holds it, and is touched while it is held: what was not
touched for `STALE_SECONDS` has been left. Machines are told apart by the identity of their boot,
not by their name: containers of one machine share it, and `flock`.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files import flock
from graft.zoo.files.holders import Holder, may_be_alive, open_lease_file, read_holder, this_process
from graft.zoo.files.marks import sweep_unmarked

__all__ = [
    "Lease",
    "find_holder",
    "hold_lease",
    "refuse_held",
    "refuse_lost_lease",
    "refuse_unfinished",
]

BEAT_SECONDS = 10.0
LEASE_ATTEMPTS = 5
ATTEMPT_SECONDS = 0.05
"""How often a lease that somebody has, or that does not say whose it is, is looked at again: it may
be just made, or only looked at.
"""
_held_here: "dict[Lease, Path]" = {}
"""The leases that `hold_lease` has given out in this process, and the places that they are for,
where the links lead.
"""
WAIT_HINT = "wait, or give another --out"


class Lease:
    """The right to write one place, of one process at a time; `file` is made where it is held, and
    removed after.
    """

    def __init__(self, file: Path) -> None:
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
        for look in range(LEASE_ATTEMPTS):
            if look:
                time.sleep(ATTEMPT_SECONDS)
            descriptor, made = self._open()
            free = flock.try_lock(descriptor)
            if free is False or not flock.is_same_file(descriptor, self.file):
                holder = read_holder(self.file) or holder
                os.close(descriptor)  # somebody has it, or has just removed the file
                continue
            holder = read_holder(self.file)
            if holder is None and not made and look < LEASE_ATTEMPTS - 1:
                # Of a machine whose locks this one does not see, it may be just made.
                os.close(descriptor)
                continue
            if holder is not None and may_be_alive(holder, self.file, known=free):
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
        if descriptor is None or not flock.is_same_file(descriptor, self.file):
            return True
        return read_holder(self.file) != self._ours

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
        parent = flock.resolve_links(self.file.parent)
        while True:
            missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            self._made = missing or self._made
            try:
                with contextlib.suppress(FileExistsError):
                    return os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
                return open_lease_file(self.file, os.O_RDWR), False
            except FileNotFoundError:
                continue  # whoever held it has just removed it, perhaps with its folder
            except PermissionError:
                if not os.path.lexists(self.file):
                    raise
                # It is another user's, who was killed.
                return open_lease_file(self.file, os.O_RDONLY), False

    def _begin(self, descriptor: int) -> None:
        # On a full disk those who work on this machine know all the same.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(this_process()).encode())
        self._descriptor, self._ours = descriptor, read_holder(self.file)
        self._released.clear()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                if not self.lost():  # another one's is left to go stale
                    os.utime(self.file)


@contextlib.contextmanager
def hold_lease(place: Path, hint: str = WAIT_HINT) -> Iterator[Lease]:
    """Hold the right to write a place while the block runs.

    Args:
        place: a file or a folder, which need not exist.
        hint: what the user can do where somebody else holds it.

    Raises:
        ConfigError: somebody else holds it; names who. Or no lease is where its lease would be.
    """
    lease = Lease(_lease_file(place))
    sweep_unmarked(lease.file.parent)
    holder = lease.take()
    if holder is not None:
        raise _held(place, holder, hint)
    _held_here[lease] = flock.resolve_links(place)
    try:
        yield lease
    finally:
        del _held_here[lease]
        lease.release()


def refuse_lost_lease(target: Path) -> None:
    """Refuse to put anything at `target` that belongs to a place of which this process has lost the
    lease: what is there, and what is being made beside it, is another one's.

    Raises:
        ConfigError: so it is; names the place.
    """
    for lease, place in list(_held_here.items()):
        if not _belongs(flock.resolve_links(target), place) or not lease.lost():
            continue
        if lease.file.exists():
            raise ConfigError(
                f"'{place}' is being written by another machine, because this process stood still"
            )
        raise ConfigError(
            f"another machine has written '{place}' meanwhile, because this process stood still, "
            f"or somebody removed '{lease.file}': '{place}' is as it was left"
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


def find_holder(place: Path) -> Holder | None:
    """Who holds the right to write `place`; None if nobody does. Takes nothing."""
    file = _lease_file(place)
    try:
        descriptor = open_lease_file(file, os.O_RDONLY)
    except (OSError, ConfigError):
        return None
    try:
        free, holder = flock.try_lock(descriptor, shared=True), read_holder(file)
        held = holder is not None and (free is False or may_be_alive(holder, file, known=free))
        return holder if held else None
    finally:
        os.close(descriptor)


def refuse_held(place: Path, hint: str = WAIT_HINT) -> None:
    """Refuse early what `hold_lease` would refuse.

    Raises:
        ConfigError: somebody holds `place`; names who, and ends with `hint`. Or no lease is where
            its lease would be.
    """
    holder = find_holder(place)
    if holder is not None:
        raise _held(place, holder, hint)
    with contextlib.suppress(OSError):
        os.close(open_lease_file(_lease_file(place), os.O_RDONLY))


def refuse_unfinished(place: Path) -> None:
    """Say of a `place` that lacks something that another process makes it just now, if one does.

    Raises:
        ArtifactError: so it is; names who.
    """
    holder = find_holder(place)
    if holder is not None and (holder.process, holder.boot) != (os.getpid(), flock.machine_id()):
        raise ArtifactError(f"'{place}' is being written by {holder}: wait for it")


def _held(place: Path, holder: Holder, hint: str) -> ConfigError:
    return ConfigError(f"'{place}' is being written by {holder}: {hint}")


def _lease_file(place: Path) -> Path:
    place = flock.resolve_links(place)  # one place, whatever links lead to it
    return place.with_name(f".{place.name}.lock") if place.name else place / ".lock"
