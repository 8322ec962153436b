"""Room for the pixels of a split, in memory or in a temporary file."""

import errno
import math
import os
import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from graft.zoo.errors import ConfigError
from graft.zoo.files.guards import is_disk_full

__all__ = ["IN_MEMORY_BYTES", "allocate_pixels"]

NO_FALLOCATE = (errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that cannot reserve space."""
IN_MEMORY_BYTES = 2 * 1024**3
"""A larger split goes into a memory-mapped temporary file, which the operating system deletes with
the process.
"""


def allocate_pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Room for uint8 pixels: in memory, or where they are many in a temporary file.

    Raises:
        ConfigError: the disk is full.
    """
    size = math.prod(shape)
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, np.uint8)
    place = Path(tempfile.gettempdir())
    try:
        with tempfile.NamedTemporaryFile(prefix="graft-pixels-", dir=place) as file:
            _reserve(file, size)
            return np.memmap(file.name, np.uint8, "r+", shape=shape)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise ConfigError(
            f"no space left in '{place}' for {size / 1e9:.1f} GB of decoded images: free some, "
            "set TMPDIR to a "
            "folder of another disk, or give a smaller --image-size"
        ) from error


def _reserve(file: IO[bytes], size: int) -> None:
    """Make sure that `file` can hold `size` bytes: who writes to a mapped page that the disk has no
    room for is killed.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in NO_FALLOCATE:
                raise
    block = bytes(1024**2)
    for start in range(0, size, len(block)):
        file.write(block[: size - start])
    file.flush()
