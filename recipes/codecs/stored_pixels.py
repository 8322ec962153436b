"""The pixels of images as they lie in shards on the disk; see `decoded.py`."""

import contextlib
import functools
import math
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graft.recipes.data.traces import pixels_hash
from graft.zoo.contents import Packed, digest_halves, digest_of, read_content
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.files.memory import note_read
from graft.zoo.files.store import Store
from graft.zoo.fits import Fit, ImageShape
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import warn
from graft.zoo.vision import decode_image

__all__ = ["ShardWriter", "StoredPixels", "forget"]

OPEN_SHARDS = 256
"""Files that are kept open; a process may open about a thousand."""


class _Decoded(Protocol):
    """How images were decoded."""

    fit: Fit
    memory_bytes: int

    @property
    def shape(self) -> ImageShape: ...
    @property
    def key(self) -> str: ...


class StoredPixels:
    """The pixels of images as they lie in shards, `(n, height, width, channels)`,
    read as they are needed.

    Args:
        shards: folders of shards.
        rows: for each image the number of its shard and its row in it, `(n, 2)`.
        hashes: of the pixels, uint64 `(n,)`.
        files: that the images came from, of the same order.
        digests: of these files, uint64 `(n, 2)`.
        decoded: how they were decoded.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        shards: Sequence[Path],
        rows: np.ndarray,
        hashes: np.ndarray,
        files: Sequence[Path | Packed],
        digests: np.ndarray,
        decoded: _Decoded,
    ):
        self.shards, self.rows, self.hashes = tuple(shards), rows, hashes
        self.files, self.digests, self.decoded = files, digests, decoded
        self._checked = np.zeros(len(rows), bool)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As an array has it."""
        return len(self), *self.decoded.shape

    @property
    def row_bytes(self) -> int:
        """The size of one image."""
        return math.prod(self.decoded.shape)

    @property
    def fits_memory(self) -> bool:
        """Whether they may be held in memory all at once."""
        return len(self) * self.row_bytes <= self.decoded.memory_bytes

    @property
    def digest(self) -> str:
        """A hash of all of them, in their order; nothing is read."""
        return hash_of(self.decoded.key, self.digests)

    def take(self, rows: Sequence[int] | np.ndarray) -> "StoredPixels":
        """Some of them, in this order; nothing is read."""
        rows = np.asarray(rows, int)
        files = [self.files[i] for i in rows]
        return StoredPixels(
            self.shards,
            self.rows[rows],
            self.hashes[rows],
            files,
            self.digests[rows],
            self.decoded,
        )

    def __getitem__(self, key: Any) -> np.ndarray:
        """The pixels of one image, of a slice or of an array of numbers."""
        chosen = np.arange(len(self))[key]
        found = self.read(np.atleast_1d(chosen))
        return found if np.ndim(chosen) else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.read(np.arange(len(self))).astype(dtype or np.uint8, copy=False)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pixels of some images, uint8 `(len(rows), height, width, channels)`. Several
        threads may.
        """
        found = np.empty((len(rows), *self.decoded.shape), np.uint8)
        for pixels, i in zip(found, rows.tolist(), strict=True):
            number, at = self.rows[i].tolist()
            shard = self.shards[number]
            try:
                intact = _read_row(shard, pixels, at * self.row_bytes)
            except OSError:  # the disk, or too many open files: nothing is wrong with the shard
                pixels[:] = self._decode_anew(i)
                continue
            if intact and not self._checked[i]:
                intact = pixels_hash(pixels) == self.hashes[i]
                self._checked[i] = intact
            if not intact:
                forget(shard)
                pixels[:] = self._decode_anew(i)
        note_read(found.nbytes)
        return found

    def _decode_anew(self, row: int) -> np.ndarray:
        """What a shard should hold that is damaged or cannot be read.

        Raises:
            DataError: the file is not what it was when the run began.
        """
        file = self.files[row]
        with contextlib.suppress(OSError):  # who decodes it says what is wrong
            content = read_content(file)
            if digest_halves(digest_of(content)) != tuple(self.digests[row].tolist()):
                raise DataError(f"'{file}' was changed while it was in use: start again")
            return decode_image(file, self.decoded.shape, self.decoded.fit, content)
        return decode_image(file, self.decoded.shape, self.decoded.fit)


_OPENING = threading.Lock()
_FORGOTTEN: set[Path] = set()


@functools.lru_cache(OPEN_SHARDS)
def _opened(shard: Path) -> Any:
    """A file that stays open: a shard that is evicted meanwhile can still be read."""
    return (shard / "pixels.bin").open("rb")


def _read_row(shard: Path, row: np.ndarray, offset: int) -> bool:
    """Fill `row` from the shard; whether it is there and there was enough.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with _OPENING:
            file = _opened(shard)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return os.preadv(file.fileno(), [row.reshape(-1).data], offset) == row.nbytes


def forget(shard: Path) -> None:
    """Remove a damaged shard, with one line however often it is asked for."""
    with _OPENING:
        if shard in _FORGOTTEN:
            return
        _FORGOTTEN.add(shard)
        _opened.cache_clear()
    warn(f"decoded images in '{shard}' are damaged: they are decoded anew")
    with contextlib.suppress(OSError):
        shutil.rmtree(shard)


def _remember(shard: Path) -> None:
    """A shard is there again."""
    with _OPENING:
        _FORGOTTEN.discard(shard)


class ShardWriter:
    """Collects decoded images and writes a shard whenever there are enough for one, while others
    are being decoded: one shard is written, one is collected.

    Args:
        store: where to.
        key: a hash of how they were decoded.
        most: images of a shard.
    """

    def __init__(self, store: Store, key: str, most: int):
        self.store, self.key, self.most = store, key, most
        self.pixels: list[np.ndarray] = []
        self.rows: list[np.ndarray] = []
        self.pool = ThreadPoolExecutor(1)
        self.writing: Future[None] | None = None

    def add(self, pixels: np.ndarray, row: np.ndarray) -> None:
        """One more image."""
        self.pixels.append(pixels)
        self.rows.append(row)
        if len(self.pixels) >= self.most:
            self._begin()

    def close(self) -> None:
        """Write what is left."""
        with self.pool:
            if self.pixels:
                self._begin()
            self._wait()

    def _begin(self) -> None:
        self._wait()
        rows, pixels = np.stack(self.rows), self.pixels
        self.pixels, self.rows = [], []
        self.writing = self.pool.submit(self._write, rows, pixels)

    def _wait(self) -> None:
        """Until the shard before is written; raises what went wrong with it."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def _write(self, rows: np.ndarray, pixels: Sequence[np.ndarray]) -> None:
        store = self.store
        name = f"decoded-{self.key}-{hash_of(rows['digest'])}"
        try:
            with store.add(name) as (folder, facts):
                with (folder / "pixels.bin").open("wb") as file:
                    for one in pixels:
                        file.write(one.data)
                np.save(folder / "rows.npy", rows)
                facts["rows"] = hash_of(rows.view(np.uint8))
            _remember(store.folder / name)
        except OSError as error:
            raise ConfigError(
                f"decoded images cannot be kept in '{store.folder}' ({error.strerror or error}): "
                "let it be written, or pass --cache off"
            ) from error
