"""Parquet, Arrow and Feather files, read a stretch of rows at a time."""

import bisect
import functools
import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.zoo.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARROW", "ArrowFile", "ImageColumn", "ParquetFile", "open_arrow"]

ARROW = (".parquet", ".arrow", ".feather")
BATCH_BYTES = 8 * 1024**2
"""About what a stretch of rows of a Parquet file takes."""
MOST_ROWS = 8192
"""Of a stretch."""
OPEN_FILES = 4
KEPT = 4
"""Stretches that stay in memory: threads ask for neighbours, not quite in their order."""
FEATHER_V1 = b"FEA1"


@dataclass(frozen=True)
class ImageColumn:
    """The images in a column of a file: a `PackedReader`. Of many such files only a few are open at
    once.
    """

    path: Path
    column: str

    def read(self, place: int, size: int) -> bytes:
        """The bytes of the image in row `place`."""
        status = self.path.stat()
        return _opened(self.path, self.column, (status.st_mtime_ns, status.st_size)).read(place)


class _Cells:
    """The cells of an open file, read by row; several threads may ask.

    Rows are best asked for in their order; whoever goes back reads the row group from its beginning
    again.
    """

    def __init__(self, file: "ParquetFile | ArrowFile", column: str):
        self._file, self._column = file, column
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, pa.Array]] = deque(maxlen=KEPT)
        self._ahead: Iterator[tuple[int, pa.Array]] = iter(())
        self._group = self._next = -1

    def read(self, row: int) -> bytes:
        """The bytes of the image in a row."""
        import pyarrow as pa

        try:
            with self._lock:
                found = self._cell(row)
        except (pa.lib.ArrowException, StopIteration) as error:
            raise OSError(f"the file is damaged: {error}") from error
        found = found.get("bytes") if isinstance(found, dict) else found
        if found is None:
            raise OSError("the cell holds no image")
        return found

    def _cell(self, row: int) -> Any:
        for first, cells in self._kept:
            if first <= row < first + len(cells):
                return cells[row - first].as_py()
        group = bisect.bisect_right(self._file.starts, row) - 1
        if group != self._group or row < self._next:
            self._group, self._next = group, self._file.starts[group]
            self._ahead = self._file.stretches(group, self._column)
        while row >= self._next:
            first, cells = next(self._ahead)
            self._next = first + len(cells)
            self._kept.append((first, cells))
        return cells[row - first].as_py()


class ParquetFile:
    """A Parquet file.

    Attributes:
        path: the file.
        schema: of its columns.
        starts: the number of the first row of each row group.
    """

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self.path = path
        # Without buffering ahead: it would hold whole row groups.
        self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1024**2)
        self.schema: pa.Schema = self._file.schema_arrow
        counts = [self._meta.row_group(i).num_rows for i in range(self._meta.num_row_groups)]
        self.starts = [0, *itertools.accumulate(counts)][: len(counts)]

    @property
    def _meta(self) -> Any:
        return self._file.metadata

    def batches(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """All rows, with some of the columns."""
        for group in range(len(self.starts)):
            rows = self._rows(group, columns)
            yield from self._file.iter_batches(rows, [group], list(columns))

    def stretches(self, group: int, column: str) -> "Iterator[tuple[int, pa.Array]]":
        """(number of the first row, cells) of the stretches of a row group."""
        first = self.starts[group]
        rows = self._rows(group, [column])
        for batch in self._file.iter_batches(rows, [group], [column]):
            yield first, batch.column(0)
            first += len(batch)

    def is_filled(self, column: str) -> bool:
        """Whether each row is known, without reading it, to have bytes in a column of images."""
        for group in range(len(self.starts)):
            for chunk in self._chunks(group, [column]):
                if chunk.path_in_schema in (column, f"{column}.bytes"):
                    statistics = chunk.statistics
                    if statistics is None or statistics.null_count != 0:
                        return False
        return True

    def _chunks(self, group: int, columns: Sequence[str]) -> Iterator[Any]:
        meta = self._meta.row_group(group)
        for i in range(meta.num_columns):
            chunk = meta.column(i)
            if any(chunk.path_in_schema.split(".")[0] == name.split(".")[0] for name in columns):
                yield chunk

    def _rows(self, group: int, columns: Sequence[str]) -> int:
        size = sum(chunk.total_uncompressed_size for chunk in self._chunks(group, columns))
        each = max(1, size // max(1, self._meta.row_group(group).num_rows))
        return max(1, min(MOST_ROWS, BATCH_BYTES // each))


class ArrowFile:
    """An Arrow or Feather file, or a stream of Arrow as Hugging Face's `datasets` keeps it.

    Memory-mapped: of what is not compressed only the rows that are looked at are read. Its
    attributes are those of `ParquetFile`; its record batches are what row groups are there.
    """

    def __init__(self, path: Path):
        import pyarrow as pa

        self.path = path
        self._source = pa.memory_map(str(path))
        try:
            self._file = pa.ipc.open_file(self._source)
            counts = [
                self._file.get_batch(i).num_rows for i in range(self._file.num_record_batches)
            ]
            self._stream: list[pa.RecordBatch] = []
        except pa.lib.ArrowInvalid:
            self._source.seek(0)
            stream = pa.ipc.open_stream(self._source)
            self._file, self._stream = stream, list(stream)
            counts = [batch.num_rows for batch in self._stream]
        self.schema: pa.Schema = self._file.schema
        self.starts = [0, *itertools.accumulate(counts)][: len(counts)]

    def batches(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """See `ParquetFile`."""
        for group in range(len(self.starts)):
            batch = self._batch(group).select(list(columns))
            for first in range(0, max(1, len(batch)), MOST_ROWS):
                yield batch.slice(first, MOST_ROWS)

    def stretches(self, group: int, column: str) -> "Iterator[tuple[int, pa.Array]]":
        """See `ParquetFile`."""
        yield self.starts[group], self._batch(group).column(column)

    def is_filled(self, column: str) -> bool:
        """No: looking costs nothing."""
        return False

    def _batch(self, group: int) -> "pa.RecordBatch":
        return self._stream[group] if self._stream else self._file.get_batch(group)


@functools.lru_cache(OPEN_FILES)
def _opened(path: Path, column: str, status: tuple[int, int]) -> _Cells:
    """A file that stays open, as long as its `status` on the disk is this one."""
    try:
        return _Cells(open_arrow(path), column)
    except DataError as error:  # what it was when its rows were read, it is no longer
        raise OSError(str(error)) from error


def open_arrow(path: Path) -> ParquetFile | ArrowFile:
    """Open a Parquet, Arrow or Feather file.

    Raises:
        DataError: it is damaged, cut off, or no such file.
        ConfigError: the package is absent.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError(
            f"'{path}' is read with pyarrow, which is not installed: pip install pyarrow"
        ) from error
    is_parquet = path.suffix.lower() == ".parquet"
    kind = "Parquet" if is_parquet else "Arrow or Feather"
    try:
        with path.open("rb") as file:
            if file.read(len(FEATHER_V1)) == FEATHER_V1:
                raise DataError(f"'{path}' is a Feather file of version 1: save it again")
        return ParquetFile(path) if is_parquet else ArrowFile(path)
    except (pa.lib.ArrowException, OSError) as error:
        raise DataError(
            f"'{path}' is no whole {kind} file ({error}): it may be cut off; fetch or write it "
            "again"
        ) from error
