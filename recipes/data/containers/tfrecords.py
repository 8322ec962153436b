"""TFRecord files, in which TensorFlow Datasets keeps its examples, read by the number of a record.

A record is 8 bytes of its length, 4 of a checksum, its content and 4 of a checksum; its content is
a `tf.train.Example`.
"""

import os
import struct
from pathlib import Path

import numpy as np

__all__ = ["TfRecords"]

HEADER, FOOTER = 12, 4


class TfRecords:
    """The images in one feature of the records of a file: a `PackedReader`.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, feature: str):
        self.path, self._feature = path, feature
        self._starts = _starts(path)

    def read(self, place: int, size: int) -> bytes:
        """The bytes of the image in record `place`; see `PackedReader`."""
        from tensorflow.core.example import example_pb2

        if place >= len(self._starts):
            raise OSError(f"there is no record {place}")
        start = int(self._starts[place])
        with self.path.open("rb") as file:  # there may be more than a process may keep open
            head = os.pread(file.fileno(), 8, start)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            content = os.pread(file.fileno(), length, start + HEADER)
        if len(content) != length or not length:
            raise OSError("the file that it lies in is cut off")
        found = example_pb2.Example.FromString(content).features.feature
        values = list(found[self._feature].bytes_list.value) if self._feature in found else []
        if len(values) != 1:
            raise OSError(f"record {place} holds no image")
        return bytes(values[0])


def _starts(path: Path) -> np.ndarray:
    """The byte at which each record begins."""
    found, at, end = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at + HEADER <= end:
            found.append(at)
            file.seek(at)
            at += HEADER + struct.unpack("<Q", file.read(8))[0] + FOOTER
    return np.array(found, np.int64)
