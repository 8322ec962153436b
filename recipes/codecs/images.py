"""Every picture is decoded once, into one uint8 array a split. No TensorFlow here."""

import errno
import functools
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from graft.recipes.data import reading
from graft.recipes.data.membership import empty_traces, trace, warn_of_alike
from graft.recipes.data.sources import Example, Source
from graft.recipes.feed.store import hash_of
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.files.guards import is_disk_full
from graft.zoo.terminal import progress, say, warn
from graft.zoo.vision import decode_image

__all__ = ["Images", "decode_examples", "decode_pictures", "decode_splits", "take"]

NO_FALLOCATE = (errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that cannot reserve space."""
IN_MEMORY_BYTES = 2 * 1024**3
"""A larger split goes into a memory-mapped temporary file, which the operating system deletes with
the process.
"""


@dataclass(frozen=True)
class Images:
    """The pictures of one split.

    Attributes:
        pixels: uint8 `(n, image_size, image_size, 3)`, RGB.
        targets: float32 one-hot rows `(n, labels)`, zeros for a picture without a label; of several
            tasks such rows by their names, NaN where an answer is not known.
        names: what to call each picture.
        skipped: one message for each file that could not be read.
        traces: by which each picture is known again, whatever it is called, by kind; see
            `membership.py`.
    """

    pixels: np.ndarray
    targets: np.ndarray | Mapping[str, np.ndarray]
    names: tuple[str, ...]
    skipped: tuple[str, ...]
    traces: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pixels)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all pixels, in their order."""
        return hash_of(self.pixels)

    @property
    def classes(self) -> np.ndarray:
        """The index of each picture's label, `(n,)`."""
        return self.targets.argmax(-1)


def decode_examples(
    examples: Sequence[Example],
    labels: Sequence[str],
    image_size: int,
    *,
    skip_bad: bool = False,
    title: str = "decode",
) -> Images:
    """Decode all `examples` at `image_size`, in parallel, with a progress bar.

    Raises:
        DataError: an unreadable picture (the first is named, the others counted), unless
            `skip_bad`; a label that is not in `labels`; or nothing left.
    """
    index = {label: i for i, label in enumerate(labels)}
    strangers = sorted({example.label for example in examples} - {*index, ""})
    if strangers:
        raise DataError(
            f"the label '{strangers[0]}' is not one of the model's {len(labels)}: "
            f"{', '.join(labels)}"
        )
    targets = np.zeros((len(examples), len(labels)), np.float32)
    for row, example in zip(targets, examples, strict=True):
        if example.label:
            row[index[example.label]] = 1.0
    return decode_pictures(examples, targets, image_size, skip_bad=skip_bad, title=title)


def decode_pictures(
    examples: Sequence,
    targets: np.ndarray | Mapping[str, np.ndarray],
    image_size: int,
    *,
    skip_bad: bool = False,
    title: str = "decode",
) -> Images:
    """The same where the targets are known; of `examples` only `image`, `name` and `digest` are
    looked at.
    """
    pixels, traces = (
        _allocate((len(examples), image_size, image_size, 3)),
        empty_traces(len(examples)),
    )
    bad: dict[int, str] = {}

    def one(i: int) -> None:
        try:
            decoded = decode_image(examples[i].image, image_size)
        except DataError as error:
            bad[i] = str(error)
            return
        pixels[i] = decoded
        trace(traces, i, examples[i].digest, decoded)

    with ThreadPoolExecutor(os.cpu_count()) as pool, progress(title, len(examples)) as advance:
        for _ in pool.map(one, range(len(examples))):
            advance()
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(f"{bad[min(bad)]}{more}: mend or remove it, or pass --skip-bad")
    good = [i for i in range(len(examples)) if i not in bad]
    if not good:
        raise DataError(f"none of the {len(examples)} pictures for '{title}' can be read")
    if bad:
        warn(
            f"{title}: {len(bad)} of {len(examples)} pictures cannot be read and are left out, the "
            f"first: {bad[min(bad)]}"
        )
    by_name = (
        {name: rows[good] for name, rows in targets.items()}
        if isinstance(targets, Mapping)
        else targets[good]
    )
    for to, i in enumerate(
        good if bad else ()
    ):  # in its place: an array of rows would be held in memory as a whole
        pixels[to] = pixels[i]
    return Images(
        pixels[: len(good)],
        by_name,
        tuple(examples[i].name for i in good),
        tuple(bad[i] for i in sorted(bad)),
        {kind: rows[good] for kind, rows in traces.items()},
    )


def take(images: Images, rows: np.ndarray) -> Images:
    """Those of `images` whose numbers are `rows`; what is too large for memory goes into a file
    again.

    The targets are one array.
    """
    if len(rows) == len(images) and (np.diff(rows) == 1).all():
        return images
    pixels = _allocate((len(rows), *images.pixels.shape[1:]))
    for to, i in enumerate(rows):
        pixels[to] = images.pixels[i]
    traces = {kind: part[rows] for kind, part in images.traces.items()}
    return Images(
        pixels, images.targets[rows], tuple(images.names[i] for i in rows), images.skipped, traces
    )


def decode_splits(source: Source, image_size: int, *, skip_bad: bool = False) -> dict[str, Images]:
    """The pictures of every split of `source`, and a line that says how many; see
    `decode_examples`. Warns of those that look the same in two splits.
    """
    decoded = {
        split: decode_examples(
            examples, source.labels, image_size, skip_bad=skip_bad, title=f"decode {split}"
        )
        for split, examples in source.splits.items()
    }
    say(reading.summary(source, decoded, "image"))
    warn_of_alike(decoded)
    return decoded


def _allocate(shape: tuple[int, ...]) -> np.ndarray:
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
            f"no space left in '{place}' for {size / 1e9:.1f} GB of decoded pictures: free some, "
            "set TMPDIR to a "
            "folder of another disk, or give a smaller --image-size"
        ) from error


def _reserve(file: BinaryIO, size: int) -> None:
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
