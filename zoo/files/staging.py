"""Files and folders appear whole or not at all: everything is written beside its place and
renamed into it. What a killed process left is finished or removed by the next one.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files import flock, leases, marks
from graft.zoo.files.guards import NOTHING_LEFT_HINT, one_line_if_full

__all__ = [
    "recover_replaced",
    "refuse_existing",
    "remove_path",
    "replace_folder",
    "settle_replacement",
    "staged_file",
    "staged_folder",
    "sweep_unfinished",
    "unchanged_folder",
]

REPLACED_SUFFIX = ".old"
"""Behind the name of a folder in the making: what it replaces, while it does so."""


@contextlib.contextmanager
def staged_file(target: Path, hint: str = NOTHING_LEFT_HINT) -> Iterator[Path]:
    """Write a file whole or not at all.

    Args:
        target: the file; where it is a link it stays one, and what it leads to is replaced.
        hint: what the user can do when the disk is full.

    Yields:
        A path beside `target`. On success it replaces `target`, on any failure it is removed. It
        keeps the suffix of `target`, because several libraries choose the format by it.

    Raises:
        DiskFull: no space is left.
        ConfigError: this process has lost the lease of `target`.
    """
    target = flock.resolve_links(Path(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_unfinished(target)
    with _part(target) as folder, one_line_if_full(target, hint):
        yield folder / target.name
        leases.refuse_lost_lease(target)
        os.replace(folder / target.name, target)


@contextlib.contextmanager
def staged_folder(
    target: Path, overwrite: bool = False, hint: str = "--overwrite replaces it"
) -> Iterator[Path]:
    """Make a folder whole or not at all.

    Args:
        target: the folder; where it is a link it stays one, and what it leads to is replaced.
        overwrite: whether an existing `target` is replaced. It stays untouched until the new one
            is complete.
        hint: what the user can do where `target` exists and `overwrite` is false.

    Yields:
        An empty folder beside `target`. On success it becomes `target`, on any failure it is
        removed.

    Raises:
        ConfigError: `target` exists and `overwrite` is false, or this process has lost its lease.
        DiskFull: no space is left.
    """
    refuse_existing(Path(target), overwrite, hint)
    target = flock.resolve_links(target)
    sweep_unfinished(target)
    refuse_existing(target, overwrite, hint)  # what was swept may have taken its place
    target.parent.mkdir(parents=True, exist_ok=True)
    with _part(target) as folder, one_line_if_full(target):
        folder.chmod(0o755)
        yield folder
        replace_folder(folder, target)


@contextlib.contextmanager
def _part(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `target`, which is removed in the end."""
    with marks.marked_folder(f".{target.name}.{flock.machine_id()}-", target.parent) as folder:
        yield folder


def sweep_unfinished(target: Path) -> None:
    """Mend what a process left that was killed while it wrote `target`: what was complete takes its
    place, what was to be replaced goes back where nothing did, the rest is removed.
    """
    target = flock.resolve_links(target)
    marks.sweep_unmarked(target.parent)
    pattern = re.compile(re.escape(f".{target.name}.") + r"([0-9a-f]{8})-[a-z0-9_]{8}")
    try:
        names = [
            entry.name
            for entry in os.scandir(target.parent)
            if entry.name.startswith(f".{target.name}.")
        ]
    except OSError:
        return
    for name in {name.removesuffix(REPLACED_SUFFIX) for name in names}:
        match, part = pattern.fullmatch(name), target.with_name(name)
        if match and marks.is_abandoned(part, match[1]):
            settle_replacement(part, target)
            remove_path(part)


def settle_replacement(folder: Path, target: Path) -> None:
    """Finish a `replace_folder` that was cut short."""
    old, target = folder.with_name(folder.name + REPLACED_SUFFIX), flock.resolve_links(target)
    if not os.path.lexists(old):
        return
    if not target.exists():
        os.replace(folder if folder.exists() else old, target)
    remove_path(old)
    remove_path(folder)


def recover_replaced(target: Path) -> None:
    """Bring `target` back where it is missing because a process was killed while it replaced it:
    see `settle_replacement`.
    """
    if target.exists() or not target.name:
        return
    target = flock.resolve_links(target)
    run = target.with_name(f".{target.name}.part")  # see recipes/runs/workspace.py
    with contextlib.suppress(OSError):  # of a disk that cannot be written to
        found = [
            old
            for old in target.parent.iterdir()
            if old.name.startswith(f".{target.name}.") and old.suffix == REPLACED_SUFFIX
        ]
        if found:
            with leases.hold_lease(target, "wait for it"):
                settle_replacement(run, target)
                sweep_unfinished(target)


@contextlib.contextmanager
def unchanged_folder(folder: Path) -> Iterator[None]:
    """Make sure that what the block reads from `folder` is of one folder.

    Raises:
        ArtifactError: another process has replaced it meanwhile.
    """
    before = _identity(folder)
    damage: Exception | None = None
    try:
        yield
    except Exception as error:  # what was found missing or damaged may be a mixture of two
        damage = error
    if before is not None and _identity(folder) != before:
        raise ArtifactError(
            f"another process replaced '{folder}' while it was read: give the command again"
        ) from damage
    if damage is not None:
        raise damage


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove_path(path: Path) -> None:
    """Remove what is at `path`, if anything is: a folder with all it holds, a file, or a link but
    not what it leads to.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def refuse_existing(target: Path, overwrite: bool, hint: str = "--overwrite replaces it") -> None:
    """Refuse what would be overwritten.

    Raises:
        ConfigError: `target` exists and `overwrite` is false; `hint` says what the user can do.
    """
    if target.exists() and not overwrite:
        raise ConfigError(f"'{target}' exists already: {hint}, or give another --out")


def replace_folder(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, in the place of what may be there.

    `settle_replacement` finishes it after a kill. Where `target` is a link it stays one, and what
    it leads to is replaced.

    Raises:
        ConfigError: this process has lost the lease of `target`.
    """
    leases.refuse_lost_lease(target)
    old, target = folder.with_name(folder.name + REPLACED_SUFFIX), flock.resolve_links(target)
    remove_path(old)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(folder, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    remove_path(old)
