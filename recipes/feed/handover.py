"""What is handed to another process through a shared folder: the frozen graph and stretches of
examples, whole or not at all, and used only where they are what was handed over.
"""

import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.codecs.examples import Examples
from graft.recipes.codecs.stored_pixels import StoredPixels
from graft.zoo.contents import Packed
from graft.zoo.errors import ArtifactError
from graft.zoo.files.staging import staged_file
from graft.zoo.fits import Fit, ImageShape

__all__ = ["HowDecoded", "digest_of", "read_examples", "write_examples"]


@dataclass(frozen=True)
class HowDecoded:
    """How stored pixels were decoded: all that reading them asks for."""

    shape: ImageShape
    memory_bytes: int
    key: str
    fit: Fit


def digest_of(file: Path) -> str:
    """A hash of the content of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_examples(examples: Examples, file: Path) -> str:
    """Write examples for another process; returns the hash of the file.

    Pixels that lie in the store stay there: only where they lie is written.
    """
    content = io.BytesIO()
    pickler = pickle.Pickler(content, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = {StoredPixels: _reduced}
    pickler.dump(examples)
    with staged_file(file) as part:
        part.write_bytes(content.getbuffer())
    return digest_of(file)


def read_examples(file: Path, digest: str) -> Examples:
    """The examples in `file`, which has the hash `digest`: it is believed as far as the one who
    says so.

    Raises:
        ArtifactError: it is another file.
    """
    content = file.read_bytes()
    if hashlib.blake2b(content, digest_size=16).hexdigest() != digest:
        raise ArtifactError(f"'{file}' is not what was handed over")
    return pickle.loads(content)


def _reduced(pixels: StoredPixels) -> tuple[Callable, tuple[Any, ...]]:
    """Stored pixels, with the shards that they lie in and no other."""
    used, numbers = np.unique(pixels.rows[:, 0], return_inverse=True)
    rows = np.stack([numbers.reshape(-1), pixels.rows[:, 1]], -1).astype(pixels.rows.dtype)
    decoded = pixels.decoded
    return StoredPixels, (
        [pixels.shards[i].absolute() for i in used],
        rows,
        pixels.hashes,
        [_absolute(file) for file in pixels.files],
        pixels.digests,
        HowDecoded(decoded.shape, decoded.memory_bytes, decoded.key, decoded.fit),
    )


def _absolute(image: Path | Packed) -> Path | Packed:
    """The same from another working directory; readers hold absolute paths."""
    if isinstance(image, Packed):
        return replace(image, file=image.file.absolute())
    return image.absolute()
