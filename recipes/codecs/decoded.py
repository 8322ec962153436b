"""Images that were decoded once are never decoded again: shards of pixels in the store.

A shard holds about 64 MB of pixels of one size, decoded in one way, in the order in which they were
asked for; beside them what each image is known by. It is found by the digest of the content of a
file, whatever the file is called and whoever asks: another run, a cell of a grid, another machine.

pixels.bin   uint8 `(n, height, width, channels)`
rows.npy     of each the digest of its file, a hash of its pixels and how it looks: `ROW`

A row is compared with its hash when it is first read. What is damaged is decoded anew.
"""

import functools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.codecs.pixels import map_in_order
from graft.recipes.codecs.stored_pixels import ShardWriter, StoredPixels, forget
from graft.recipes.data.folders.known_files import KnownFiles
from graft.recipes.data.records import known_digest, note_digest, reading_order
from graft.recipes.data.traces import LOOK, empty_traces, trace
from graft.zoo.contents import (
    Packed,
    content_digest,
    digest_halves,
    digest_of,
    file_of,
    read_content,
)
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.files.store import Store
from graft.zoo.fits import STRETCH, Fit, ImageShape, ImageSize
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import progress
from graft.zoo.vision import decode_image, describe_decoding

__all__ = ["DecodedImages", "Found"]

SHARD_BYTES = 64 * 1024**2
MEMORY_BYTES = 1024**3
FORMAT = 1
"""Of a shard."""
ROW = np.dtype([("digest", "<u8", 2), ("pixels", "<u8"), ("look", "u1", LOOK)])
READ_WHOLE_BYTES = 256 * 1024**2
"""A larger file is read twice, once for its digest, rather than held in memory."""


@dataclass(frozen=True)
class Found:
    """What is known of images that were asked for.

    Attributes:
        pixels: of those that could be decoded.
        traces: by which they are known again; see `recipes/data/traces.py`.
        bad: number of an image -> what is wrong with it.
    """

    pixels: StoredPixels
    traces: Mapping[str, np.ndarray]
    bad: Mapping[int, str]


@dataclass
class DecodedImages:
    """The images in `store`, decoded to one size, in one way.

    Attributes:
        image_size: of the images, as `ImageShape.of` takes it.
        known: says which content a file has.
        memory_bytes: what may be held in memory at once.
    """

    store: Store
    image_size: ImageSize
    known: KnownFiles
    memory_bytes: int = MEMORY_BYTES
    fit: Fit = STRETCH
    _shards: list[Path] = field(default_factory=list)
    _rows: np.ndarray = field(default_factory=lambda: np.zeros(0, ROW))
    _places: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int32))

    def __post_init__(self) -> None:
        self._look()

    @property
    def shape(self) -> ImageShape:
        """That of each image."""
        return ImageShape.of(self.image_size)

    @functools.cached_property
    def key(self) -> str:
        """A hash of all that pixels depend on beside the content of their file."""
        packages = [metadata.version("pillow"), *_decoders()]
        return hash_of(FORMAT, self.shape.size, describe_decoding(self.fit, self.shape), packages)

    def find(self, records: Sequence[Any], title: str) -> Found:
        """The pixels of `records`, whose images lie on the disk; those that are not there yet are
        decoded, with a progress bar called `title`.

        Sets the digest of each record.

        Raises:
            ConfigError: the store cannot be written, or somebody empties it meanwhile.
        """
        if not all(shard.exists() for shard in self._shards):
            self._look()  # somebody made room
        bad = self._obtain(records, title)
        good = [i for i in range(len(records)) if i not in bad]
        places = self._where([records[i].digest for i in good])
        if (places < 0).any():
            raise ConfigError(
                f"decoded images in '{self.store.folder}' were removed while they were looked for: "
                "the same command decodes them again"
            )
        rows = self._rows[places]
        pixels = StoredPixels(
            self._shards,
            self._places[places],
            rows["pixels"],
            [records[i].image for i in good],
            rows["digest"],
            self,
        )
        traces = {
            "contents": rows["digest"][:, 0],
            "pixels": rows["pixels"],
            "looks": rows["look"],
        }
        return Found(pixels, traces, bad)

    def _obtain(self, records: Sequence[Any], title: str) -> dict[int, str]:
        """Read what is not known and decode what is not there; says what is wrong with which."""
        self.known.tell(records)
        digests = [known_digest(record) for record in records]
        missing = np.flatnonzero(self._where(digests) < 0).tolist()
        if not missing:
            self.known.save()
            return {}
        names = sorted(str(records[i].image) for i in missing)
        with self.store.alone([f"decoding-{hash_of(self.key, names)}"]):
            self._look()  # another process may have been at it, or have made room
            missing = np.flatnonzero(self._where(digests) < 0).tolist()
            return self._decode(records, reading_order(records, missing), title)

    def _decode(self, records: Sequence[Any], missing: Sequence[int], title: str) -> dict[int, str]:
        most = max(1, SHARD_BYTES // math.prod(self.shape))
        bad, seen, writer = {}, set(), ShardWriter(self.store, self.key, most)
        results = map_in_order(lambda i: self._one(records[i]), missing)
        try:
            with progress(title, len(missing)) as advance:
                for i, read in zip(missing, results, strict=True):
                    note_digest(records[i], read.digest)
                    if read.error:
                        bad[i] = read.error
                    elif read.before is not None:
                        self.known.note(records[i].image, read.before, read.digest)
                    if read.pixels is not None and read.row is not None and read.digest not in seen:
                        seen.add(read.digest)
                        writer.add(read.pixels, read.row)
                    advance()
        finally:
            try:
                writer.close()
            finally:
                self._look()
            self.known.save()
        return bad

    def _one(self, record: Any) -> "_Read":
        path, content, before = record.image, None, None
        try:
            before = os.stat(file_of(path))
            if isinstance(path, Packed) or before.st_size <= READ_WHOLE_BYTES:
                content = read_content(path)
        except OSError:
            before = None
        digest = content_digest(path) if content is None else digest_of(content)
        try:
            there = self._where([digest])[0] >= 0
            if there:
                return _Read(digest, before=before)
            pixels = decode_image(path, self.shape, self.fit, content)
        except DataError as error:
            return _Read(digest, error=str(error))
        return _Read(digest, pixels, _row(digest, pixels), before=before)

    def _where(self, digests: Sequence[str | None]) -> np.ndarray:
        """The row of each digest among all rows; -1: it is not there."""
        known = self._rows["digest"][:, 0]
        asked = np.array([digest_halves(digest) for digest in digests], np.uint64).reshape(-1, 2)
        if not len(known):
            return np.full(len(asked), -1)
        places = np.minimum(np.searchsorted(known, asked[:, 0]), len(known) - 1)
        same = (self._rows["digest"][places] == asked).all(-1)
        same &= np.array([digest is not None for digest in digests], bool)
        return np.where(same, places, -1)

    def _look(self) -> None:
        """Find the shards that are there."""
        self._shards, rows, places = [], [], []
        for folder in sorted(self.store.folder.glob(f"decoded-{self.key}-*")):
            found = self.store.find(folder.name)
            if found is None:
                continue
            try:
                own = np.load(folder / "rows.npy", allow_pickle=False)
                if own.dtype != ROW or hash_of(own.view(np.uint8)) != found[1]["rows"]:
                    raise ValueError("another content")
            except Exception:
                forget(folder)
                continue
            places.append(np.stack([np.full(len(own), len(self._shards)), np.arange(len(own))], -1))
            self._shards.append(folder)
            rows.append(own)
        if not rows:
            rows, places = [np.zeros(0, ROW)], [np.zeros((0, 2), np.int32)]
        everything, where = np.concatenate(rows), np.concatenate(places).astype(np.int32)
        order = np.argsort(everything["digest"][:, 0], kind="stable")
        self._rows, self._places = everything[order], where[order]


@dataclass(frozen=True)
class _Read:
    """One file that was read.

    Attributes:
        digest: of its content.
        pixels, row: None: they are there already, or it could not be decoded.
        error: what is wrong with it.
        before: what the disk said of it; None: it is not to be believed.
    """

    digest: str
    pixels: np.ndarray | None = None
    row: np.ndarray | None = None
    error: str = ""
    before: os.stat_result | None = None


def _row(digest: str, pixels: np.ndarray) -> np.ndarray:
    traces = empty_traces(1)
    trace(traces, 0, digest, pixels)
    return np.array((digest_halves(digest), traces["pixels"][0], traces["looks"][0]), ROW)


def _decoders() -> list[str]:
    """The versions of the libraries by which Pillow decodes."""
    from PIL import features

    names = ("jpg", "libjpeg_turbo", "webp", "avif", "jpg_2000", "libtiff", "zlib")
    return [f"{name} {features.version(name)}" for name in names]
