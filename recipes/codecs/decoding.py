"""Where the images of a run are decoded, once for all runs of one folder."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.data.folders.known_files import KnownFiles, network_file_system
from graft.recipes.data.records import Source
from graft.zoo.contents import Packed
from graft.zoo.files.store import store_beside
from graft.zoo.fits import Fit, ImageSize
from graft.zoo.terminal import say

__all__ = ["decoded_beside", "know", "known_beside"]


class _Settings(Protocol):
    """The part of the settings of a training."""

    @property
    def cache(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...


class _Config(Protocol):
    """The part of a recipe's Config that says where images are decoded."""

    @property
    def out(self) -> Path: ...
    @property
    def fit(self) -> _Settings: ...
    @property
    def verify_data(self) -> bool: ...
    @property
    def image_fit(self) -> Fit: ...


@functools.lru_cache(8)
def known_beside(folder: Path, verify: bool) -> KnownFiles:
    """What is known of files in the store `folder`; nothing is believed where all are to be read
    again.
    """
    kind = network_file_system(folder)
    if kind and not verify:
        say(f"'{folder}' lies on another machine ({kind}): every file of the data is read again")
    return KnownFiles(folder, trusted=not (verify or kind))


@functools.lru_cache(8)
def _decoded(
    folder: Path, mode: str, image_size: ImageSize, image_fit: Fit, memory: int, verify: bool
) -> DecodedImages | None:
    store = store_beside(folder / "run", mode)
    if store is None:
        return None
    return DecodedImages(store, image_size, known_beside(store.folder, verify), memory, image_fit)


def decoded_beside(config: _Config, image_size: ImageSize) -> DecodedImages | None:
    """The decoded images that all runs beside the run of `config` share; None where nothing is to
    be kept.
    """
    place, fit = Path(config.out).absolute().parent, config.fit
    how = (image_size, config.image_fit, fit.memory_bytes, config.verify_data)
    return _decoded(place, fit.cache, *how)


def know(config: _Config, *sources: Source) -> None:
    """Find out what content the files of the sources have, those that are known without reading.

    Nothing is written before the run begins: whoever decodes the files keeps what is known.
    """
    records = _of_files(sources)
    store = store_beside(Path(config.out).absolute(), config.fit.cache) if records else None
    if store is not None:
        known_beside(store.folder, config.verify_data).know(records, "read")


def _of_files(sources: Sequence[Source]) -> list[Any]:
    """All records whose content lies on the disk; none where some are something else."""
    records = [record for source in sources for part in source.splits.values() for record in part]
    there = all(isinstance(getattr(record, "image", None), Path | Packed) for record in records)
    return records if there else []
