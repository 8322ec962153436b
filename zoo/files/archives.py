"""Zip archives come from anyone: what they say of themselves is checked before a library
believes it.

An archive may unpack to a thousand times its size, or reach outside of its folder. Nothing is
unpacked and no array is read here but what is needed to see that.
"""

import contextlib
import io
import math
import re
import struct
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.errors import ArtifactError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "check_archive",
    "check_arrays",
    "check_content",
    "max_unpacked_bytes",
    "opened_archive",
    "opened_member",
    "read_member",
]

MIN_UNPACKED_BYTES = 256 * 1024**2
"""What a file of any size may unpack to."""
MAX_EXPANSION = 20
"""Times its own size that a larger one may unpack to; weights and images reach 3."""
MAX_MEMBERS = 100_000
READ_BYTES = 1024**2


def max_unpacked_bytes(size: int) -> int:
    """What a file of `size` bytes may unpack to."""
    return max(MIN_UNPACKED_BYTES, MAX_EXPANSION * size)


@contextlib.contextmanager
def opened_archive(path: Path, known: "re.Pattern[str] | None" = None) -> Iterator[zipfile.ZipFile]:
    """Open the zip archive `path`, in which `check_archive` finds nothing to refuse.

    Raises:
        ArtifactError: as `check_archive`.
        zipfile.BadZipFile, and others: it is damaged; see `one_line_if_damaged`.
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path, Path(path).stat().st_size, known)
        yield archive


def check_archive(
    archive: zipfile.ZipFile, where: object, size: int, known: "re.Pattern[str] | None" = None
) -> None:
    """Refuse an archive of `size` bytes that unpacks to far more than it can hold, or holds what it
    should not.

    `known` are the names that its members can have; None: any within it.

    Raises:
        ArtifactError: a member lies outside, is unknown, there twice, encrypted, or compressed in a
            rare way; or all of them together are larger than `max_unpacked_bytes`, or the stored
            ones than the archive.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ArtifactError(f"'{where}' holds {len(members):,} files: refused; do not unpack it")
    seen: set[str] = set()
    for member in members:
        _check_member(member, where, seen, known)
        seen.add(member.filename)
    stored, unpacked = sum(m.compress_size for m in members), sum(m.file_size for m in members)
    if stored > size:
        raise ArtifactError(
            f"'{where}' is damaged: its members take {stored:,} bytes, the file has {size:,}"
        )
    if unpacked > max_unpacked_bytes(size):
        raise ArtifactError(
            f"'{where}' has {size:,} bytes and would unpack to {unpacked:,}: refused, more than "
            f"{MAX_EXPANSION} times; do not unpack it"
        )


def _check_member(
    member: zipfile.ZipInfo, where: object, seen: Collection[str], known: "re.Pattern[str] | None"
) -> None:
    name = member.filename
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts):
        raise ArtifactError(
            f"'{where}' names a file outside of itself ('{name}'): refused; do not unpack it"
        )
    if known is not None and not known.fullmatch(name):
        kind = PurePosixPath(str(where)).suffix
        raise ArtifactError(
            f"'{where}' is damaged or no {kind} file: it holds '{name}', which does not belong "
            "there"
        )
    if name in seen:
        raise ArtifactError(f"'{where}' holds '{name}' twice: refused")
    if member.flag_bits & 1:
        raise ArtifactError(f"'{where}' is encrypted: unpack and save it again")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArtifactError(
            f"'{where}': '{name}' is compressed in an unusual way: refused; save it again"
        )
    if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
        raise ArtifactError(f"'{where}' is damaged: '{name}' has two sizes")


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member of an archive that was checked, never more than it declares.

    Raises:
        KeyError: there is none. zipfile.BadZipFile, and others: it is damaged.
    """
    size = archive.getinfo(name).file_size
    with archive.open(name) as member:
        # Reading "all" would unpack whatever is there; reading one byte more compares the checksum.
        content = member.read(size) if size else b""
        if len(content) != size or member.read(1):
            raise zipfile.BadZipFile(f"'{name}' is not as long as it says")
    return content


def check_content(archive: zipfile.ZipFile) -> None:
    """Read all members a stretch at a time: their checksums fit, and whoever reads them whole gets
    no more than they declare.

    Raises:
        zipfile.BadZipFile, and others: so it is not.
    """
    for member in archive.infolist():
        with archive.open(member) as content:
            while content.read(READ_BYTES):
                pass
            if member.file_size == 0 and member.compress_size > 2:
                raise zipfile.BadZipFile(f"'{member.filename}' is not as long as it says")


@contextlib.contextmanager
def opened_member(archive: zipfile.ZipFile, path: Path, name: str) -> Iterator[io.IOBase]:
    """A member of `archive`, which lies at `path` and was checked, as a file that can be read in
    any order.
    """
    member = archive.getinfo(name)
    stored = member.compress_type == zipfile.ZIP_STORED
    with (
        _StoredMember(path, member) if stored else io.BytesIO(read_member(archive, name)) as content
    ):
        yield content


class _StoredMember(io.RawIOBase):
    """A stored member of an archive as a file that seeks at no cost; that of `zipfile` reads again
    from the beginning.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115  (closed with this file)
        self._file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", self._file.read(4))
        self._start = member.header_offset + 30 + name + extra
        self._size = member.file_size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(
            0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        )
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._file.seek(self._start + self._place)
        count = self._file.readinto(memoryview(buffer)[: max(0, self._size - self._place)])
        self._place += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def check_arrays(archive: zipfile.ZipFile, where: object) -> None:
    """Refuse a NumPy archive in which an array says that it is longer than its member, or holds
    Python objects.

    Raises:
        ArtifactError: so it is. ValueError: an array is damaged.
    """
    for member in archive.infolist():
        with archive.open(member) as content:
            version = np.lib.format.read_magic(content)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(content)
        if dtype.hasobject:
            raise ArtifactError(
                f"'{where}' holds Python objects ('{member.filename}'), which run code: refused"
            )
        if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize > member.file_size:
            raise ArtifactError(
                f"'{where}' is damaged: '{member.filename}' is shorter than its shape {shape}"
            )
