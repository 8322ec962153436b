"""The bytes of an image, and a hash of them, wherever they lie: a file, or a place inside one."""

import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

__all__ = [
    "Packed",
    "PackedReader",
    "check_plain_file",
    "content_digest",
    "digest_halves",
    "digest_of",
    "file_of",
    "read_content",
]


class PackedReader(Protocol):
    """Reads what lies inside of a file; several threads may ask it."""

    def read(self, place: int, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Packed:
    """The content of an image that lies inside a larger file. It holds no bytes.

    Attributes:
        file: the larger file, a Parquet file or a tar.
        name: what the image is called in it.
        place: the number of its row, or the byte at which it begins.
        size: how many bytes it has; 0 where only reading it tells.
        reader: of the file, shared by all that lie in it.
        column: of the row, where a row may hold several images.
    """

    file: Path
    name: str
    place: int
    size: int
    reader: PackedReader = field(compare=False, repr=False)
    column: str = ""

    def __str__(self) -> str:
        return f"{self.file}, {self.name}"

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: they cannot be read; says why.
        """
        return self.reader.read(self.place, self.size)


def file_of(image: Path | Packed) -> Path:
    """The file on the disk that holds an image."""
    return image.file if isinstance(image, Packed) else image


def content_digest(image: Path | Packed | np.ndarray) -> str:
    """A hash of the bytes of an image, or of pixels: 32 hexadecimal digits.

    An image that cannot be read has a digest of its path, so that whoever decodes it can say what
    is wrong with it.
    """
    if isinstance(image, np.ndarray):
        return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    try:
        if isinstance(image, Packed):
            return digest_of(image.read())
        check_plain_file(image)
        with image.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return digest_of(b"unreadable\0" + str(image).encode(errors="surrogateescape"))


def digest_of(content: bytes) -> str:
    """The `content_digest` of an image whose file holds `content`."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_halves(digest: str | None) -> tuple[int, int]:
    """A digest as two numbers of 64 bits; zeros where there is none."""
    return (int(digest[:16], 16), int(digest[16:], 16)) if digest else (0, 0)


def read_content(image: Path | Packed) -> bytes:
    """The bytes of an image; an OSError says that they cannot be read, or that its path is none of
    a plain file.
    """
    if isinstance(image, Packed):
        return image.read()
    check_plain_file(image)
    return image.read_bytes()


def check_plain_file(path: str | Path) -> None:
    """Refuse what is no file before it is opened: a pipe would never end, a device may do anything.

    Raises:
        OSError: names what it is.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISREG(mode):
        return
    kinds = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    kind = next((kind for kind, holds in kinds.items() if holds(mode)), "device")
    raise OSError(f"it is a {kind}")
