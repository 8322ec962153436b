"""The pixels of a split, in memory or in a temporary file."""

import collections
import errno
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from graft.recipes.codecs.stored_pixels import StoredPixels
from graft.recipes.data.records import reading_order
from graft.recipes.data.traces import empty_traces, trace
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.files.guards import is_disk_full
from graft.zoo.fits import Fit, ImageShape, ImageSize
from graft.zoo.terminal import progress
from graft.zoo.vision import decode_image

__all__ = ["IN_MEMORY_BYTES", "allocate_pixels", "decode_all", "map_in_order", "take_pixels"]

NO_FALLOCATE = (errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that cannot reserve space."""
IN_MEMORY_BYTES = 2 * 1024**3
"""A larger split goes into a memory-mapped temporary file, which the operating system deletes with
the process.
"""
AT_A_TIME, AHEAD = 8, 8
"""Images that a thread takes at a time, and how often so many are being decoded or wait for being
written, by thread.
"""

Item = TypeVar("Item")
Result = TypeVar("Result")


def allocate_pixels(shape: tuple[int, ...], most: int | None = None) -> np.ndarray:
    """Room for uint8 pixels: in memory, or where they are more than `most` bytes (by default
    `IN_MEMORY_BYTES`) in a temporary file.

    Raises:
        ConfigError: the disk is full.
    """
    size = math.prod(shape)
    if size <= (IN_MEMORY_BYTES if most is None else most):
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


def decode_all(
    records: Sequence[Any], image_size: ImageSize, fit: Fit, title: str, most: int | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[int, str]]:
    """Decode the `image` of all records, in parallel, with a progress bar called `title`; `most`
    bytes of pixels stay in memory, as `allocate_pixels` has it.

    Returns:
        (pixels and traces of those that can be read, what is wrong with the others by number).
    """
    shape = ImageShape.of(image_size)
    pixels = allocate_pixels((len(records), *shape), most)
    traces, bad = empty_traces(len(records)), {}

    def one(i: int) -> None:
        try:
            decoded = decode_image(records[i].image, shape, fit)
        except DataError as error:
            bad[i] = str(error)
            return
        pixels[i] = decoded
        trace(traces, i, records[i].digest, decoded)

    with progress(title, len(records)) as advance:
        for _ in map_in_order(one, reading_order(records, range(len(records)))):
            advance()
    good = [i for i in range(len(records)) if i not in bad]
    for to, i in enumerate(good if bad else ()):
        pixels[to] = pixels[i]  # in its place: an array of rows would be held in memory whole
    return pixels[: len(good)], {kind: rows[good] for kind, rows in traces.items()}, bad


def take_pixels(
    pixels: np.ndarray | StoredPixels, rows: Sequence[int] | np.ndarray
) -> np.ndarray | StoredPixels:
    """Some pixels, in this order; what is too large for memory goes into a file again."""
    if isinstance(pixels, StoredPixels):
        return pixels.take(rows)
    most = 0 if isinstance(pixels, np.memmap) else None  # they were too many for memory
    taken = allocate_pixels((len(rows), *pixels.shape[1:]), most)
    for to, i in enumerate(rows):
        taken[to] = pixels[i]
    return taken


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = AHEAD
) -> Iterator[Result]:
    """`map` over `items` in threads, in their order, never far ahead of who asks: `ahead` times
    `AT_A_TIME` items by thread. A thread takes a few of them at a time: handing over one by one
    costs a tenth of decoding.
    """

    def several(chosen: Sequence[Item]) -> list[Result]:
        return [function(item) for item in chosen]

    workers = os.cpu_count() or 1
    pending: collections.deque[Future[list[Result]]] = collections.deque()
    rest = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        try:
            while chosen := list(itertools.islice(rest, AT_A_TIME)):
                pending.append(pool.submit(several, chosen))
                if len(pending) >= workers * ahead:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
