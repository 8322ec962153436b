"""Marks on folders that are being made: a folder that nobody locks any more was left by a process
that was killed.
"""

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from graft.zoo.files import flock
from graft.zoo.files.holders import STALE_SECONDS

__all__ = ["is_abandoned", "marked_folder", "sweep_unmarked"]

ABANDONED_SECONDS = 24 * 3600.0
"""A folder of another machine, in which nothing was written for so long, has been left."""
UNMARKED_PREFIX = ".new-"
"""Before the name of a folder that is not marked yet, and empty."""
UNMARKED_NAME = re.compile(re.escape(UNMARKED_PREFIX) + r"[a-z0-9_]{8}")


@contextlib.contextmanager
def marked_folder(prefix: str, parent: Path) -> Iterator[Path]:
    """Make a folder that is marked as being written while the block runs; see `is_abandoned`.

    Args:
        prefix: how its name begins; eight random characters follow.
        parent: where it is made.

    Yields:
        The folder, which is empty. It may be renamed meanwhile, and is removed in the end.
    """
    folder = Path(tempfile.mkdtemp(prefix=UNMARKED_PREFIX, dir=parent))
    descriptor = None
    try:
        with contextlib.suppress(OSError):  # Windows opens no folders
            descriptor = os.open(folder, os.O_RDONLY)
            flock.try_lock(descriptor)
        # Only now by its name, under which others look for what was left: they would take it before
        # it is marked.
        named = Path(parent, prefix + folder.name.removeprefix(UNMARKED_PREFIX))
        os.rename(folder, named)
        folder = named
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep_unmarked(parent: Path) -> None:
    """Remove from `parent` the folders that a process was about to mark when it was killed.

    See `marked_folder`. They are empty: what holds anything is somebody's.
    """
    try:
        names = [entry.name for entry in os.scandir(parent) if UNMARKED_NAME.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):  # not empty, no folder, or gone
            descriptor = _opened_folder(parent / name)
            try:
                age = flock.disk_time(parent) - os.fstat(descriptor).st_mtime
                # A younger one may be just made.
                if flock.try_lock(descriptor) is not False and age > STALE_SECONDS:
                    os.rmdir(parent / name)
            finally:
                os.close(descriptor)


def is_abandoned(folder: Path, machine: str) -> bool:
    """Whether nobody writes into a folder any more; true also where there is no such folder.

    Args:
        folder: what `marked_folder` has made.
        machine: the `machine_id` of the process that made it.
    """
    try:
        descriptor = _opened_folder(folder)
    except OSError:
        return not os.path.lexists(folder)
    try:
        free = flock.try_lock(descriptor)
        if free is False:
            return False
        if free and machine == flock.machine_id():
            return True
        changed = [path.lstat().st_mtime for path in (folder, *folder.rglob("*"))]
        return time.time() - max(changed) > ABANDONED_SECONDS
    except OSError:  # it goes away while we look
        return False
    finally:
        os.close(descriptor)


def _opened_folder(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | flock.SAFE_OPEN_FLAGS | getattr(os, "O_DIRECTORY", 0))
