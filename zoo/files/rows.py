"""Rows of numbers in a plain file, read as they are needed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.zoo.files.memory import note_read

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Rows of one shape in a plain binary file, `(count, *shape)` from row `first` on; also as a
    growing file while it is written.
    """

    path: Path
    count: int
    shape: tuple[int, ...]
    dtype: str
    first: int = 0

    @property
    def row_bytes(self) -> int:
        """The size of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.count * self.row_bytes

    def load(self) -> np.ndarray:
        """All rows, in memory."""
        items = self.size_bytes // np.dtype(self.dtype).itemsize
        offset = self.first * self.row_bytes
        rows = np.fromfile(self.path, self.dtype, items, offset=offset)
        return rows.reshape((self.count, *self.shape))

    def stretch(self, first: int, end: int) -> "Rows":
        """Those from `first` up to `end`, wherever a process works that reads them."""
        place, count = self.path.absolute(), end - first
        return Rows(place, count, self.shape, self.dtype, self.first + first)

    def reader(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function: indices `(n,)` -> rows `(n, *shape)`, which reads only those rows and keeps
        nothing in memory.

        Plain reads, not a memory map: mapped pages would count as the process's memory.
        """
        file = self.path.open("rb")  # stays open: an evicted entry can still be read
        size, before = self.row_bytes, self.first

        def read(indices: np.ndarray) -> np.ndarray:
            rows = np.empty((len(indices), *self.shape), self.dtype)
            flat = rows.reshape(len(indices), -1).view(np.uint8)
            for row, index in enumerate(indices):
                place = (before + int(index)) * size
                os.preadv(file.fileno(), [memoryview(flat[row])], place)
            note_read(rows.nbytes)
            return rows

        return read
