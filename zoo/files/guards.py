"""Turns what any library raises over a damaged file or a full disk into an error of one line."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from graft.zoo.errors import ArtifactError, DiskFull, GraftError

__all__ = ["is_disk_full", "one_line_if_damaged", "one_line_if_full"]

RESTORE_HINT = "restore it, or make it anew"
NOTHING_LEFT_HINT = "nothing was left behind; free some space or give --out on another disk"


@contextlib.contextmanager
def one_line_if_damaged(where: object, hint: str = RESTORE_HINT) -> Iterator[None]:
    """Turn whatever the block stumbles over in the file `where` into an ArtifactError of one line,
    which ends with `hint`.

    For a block that reads or uses what a file says, and does nothing else: damaged content shows in
    any exception.
    """
    try:
        yield
    except GraftError:
        raise
    except FileNotFoundError as error:
        raise ArtifactError(f"'{where}' is missing: {hint}") from error
    except Exception as error:
        raise ArtifactError(f"'{where}' is damaged ({_reason(error)}): {hint}") from error


def _reason(error: Exception) -> str:
    """What an exception says of a file, in words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it says that it is larger than the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"it lacks {str(error)[:200]}"
    return str(error)[:200] or type(error).__name__


@contextlib.contextmanager
def one_line_if_full(target: Path, hint: str = NOTHING_LEFT_HINT) -> Iterator[None]:
    """Turn whatever says that the disk is full into a DiskFull error of one line, which ends with
    `hint`: that of the outermost block, which alone knows what is left.
    """
    try:
        yield
    except DiskFull as error:
        raise DiskFull(error.place, hint) from error
    except Exception as error:
        if isinstance(error, GraftError) or not is_disk_full(error):
            raise
        raise DiskFull(target, hint) from error


def is_disk_full(error: Exception) -> bool:
    """Whether `error` says that the disk is full.

    Libraries with native writers (TensorFlow, HDF5, ONNX) raise errors of their own, with the
    system's words in them.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
