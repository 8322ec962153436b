"""Archives and HDF5 files come from anyone: what they say of themselves is checked before a library
believes it.

A zip archive may unpack to a thousand times its size; an HDF5 file may name another file of the
machine, whose bytes then become weights. Nothing is unpacked and no array is read here but what is
needed to see that.
"""

import contextlib
import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.errors import ArtifactError

if TYPE_CHECKING:
    import h5py

__all__ = [
    "check_archive",
    "check_arrays",
    "check_hdf5",
    "check_keras",
    "limit_bytes",
    "opened_archive",
    "opened_member",
    "read_member",
]

SMALL_BYTES = 256 * 1024**2
"""What a file of any size may unpack to."""
MOST_TIMES = 20
"""Times its own size that a larger one may unpack to; weights and pictures reach 3."""
MOST_MEMBERS = 100_000
STRETCH_BYTES = 1024**2

OF_KERAS = re.compile(r"(config|metadata)\.json|model\.weights\.(h5|npz)|assets/.*")
"""The members that Keras writes into a .keras file."""

OWN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
"""The numbers of the HDF5 filters that come with the library; for another one it would look for a
plugin to load.
"""

MOST_UNSTORED = 2**26
"""Numbers that the weights of all layers may have together, however few the file holds; else 8
times as many as those.
"""


def limit_bytes(size: int) -> int:
    """What a file of `size` bytes may unpack to."""
    return max(SMALL_BYTES, MOST_TIMES * size)


@contextlib.contextmanager
def opened_archive(path: Path, known: "re.Pattern | None" = None) -> Iterator[zipfile.ZipFile]:
    """Open the zip archive `path`, of which `check_archive` has nothing to say.

    Raises:
        ArtifactError: as `check_archive`.
        zipfile.BadZipFile, and others: it is damaged; see `zoo.files.one_line_if_damaged`.
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path, Path(path).stat().st_size, known)
        yield archive


def check_archive(
    archive: zipfile.ZipFile, where: object, size: int, known: "re.Pattern | None" = None
) -> None:
    """Refuse an archive of `size` bytes that unpacks to far more than it can hold, or holds what it
    should not.

    `known` are the names that its members can have; None: any within it.

    Raises:
        ArtifactError: a member lies outside, is unknown, there twice, encrypted, or compressed in a
            rare way; or all of them together are larger than `limit_bytes`, or the stored ones than
            the archive.
    """
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
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
    if unpacked > limit_bytes(size):
        raise ArtifactError(
            f"'{where}' has {size:,} bytes and would unpack to {unpacked:,}: refused, more than "
            f"{MOST_TIMES} times; do not "
            "unpack it"
        )


def _check_member(
    member: zipfile.ZipInfo, where: object, seen: Collection[str], known: "re.Pattern | None"
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


def _check_content(archive: zipfile.ZipFile) -> None:
    """Read all members a stretch at a time: their checksums fit, and whoever reads them whole gets
    no more than they declare.

    Raises:
        zipfile.BadZipFile, and others: so it is not.
    """
    for member in archive.infolist():
        with archive.open(member) as content:
            while content.read(STRETCH_BYTES):
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
    with _Stretch(path, member) if stored else io.BytesIO(read_member(archive, name)) as content:
        yield content


class _Stretch(io.RawIOBase):
    """A stored member of an archive as a file that seeks at no cost; that of `zipfile` reads again
    from the beginning.
    """

    def __init__(self, path: Path, member: zipfile.ZipInfo):
        self._file = Path(path).open("rb")  # noqa: SIM115  (closed with this file)
        self._file.seek(member.header_offset + 26)
        name, extra = struct.unpack("<HH", self._file.read(4))
        self._start, self._size, self._place = (
            member.header_offset + 30 + name + extra,
            member.file_size,
            0,
        )

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

    def readinto(self, buffer) -> int:
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


# ---------------------------------------------------------------------------------------------------------------------
# HDF5 and Keras


def check_hdf5(file: "h5py.File", where: object, size: int) -> int:
    """Refuse an HDF5 file of `size` bytes that reaches outside of itself or is larger than it
    looks; returns how many numbers its arrays have.

    Raises:
        ArtifactError: a link that is no plain one, an array that is kept elsewhere or put together
            from others, one that needs a plugin, or arrays that are larger together than
            `limit_bytes`.
    """
    import h5py

    numbers = total = 0
    groups, seen = [file], {_address(file)}
    while groups:
        group = groups.pop()
        for name in group:
            kind = type(group.get(name, getlink=True))
            if kind is not h5py.HardLink:
                raise ArtifactError(
                    f"'{where}': '{_place(group, name)}' is a link ({kind.__name__}) to another "
                    "place or file: refused, "
                    "because weights must be in the file itself"
                )
            item = group[name]
            if _address(item) in seen:
                continue
            seen.add(_address(item))
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_dataset(item, where)
                numbers += math.prod(item.shape or ())
                total += max(item.nbytes, math.prod(item.chunks or (0,)) * item.dtype.itemsize)
        if total > limit_bytes(size):
            raise ArtifactError(
                f"'{where}' has {size:,} bytes, and its arrays say that they have {total:,}: "
                "refused, more than "
                f"{MOST_TIMES} times"
            )
    return numbers


def _check_dataset(item: "h5py.Dataset", where: object) -> None:
    import h5py

    if item.external:
        raise ArtifactError(
            f"'{where}': the array '{item.name}' is kept in another file "
            f"('{item.external[0][0]}'): refused, because "
            "weights must be in the file itself"
        )
    if item.is_virtual:
        raise ArtifactError(
            f"'{where}': the array '{item.name}' is put together from other files (a virtual "
            "dataset): refused, because "
            "weights must be in the file itself"
        )
    settings = item.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if not filters <= OWN_FILTERS:
        raise ArtifactError(
            f"'{where}': the array '{item.name}' needs a plugin to be read: refused; save it again"
        )
    if item.dtype.hasobject and h5py.check_string_dtype(item.dtype) is None:
        raise ArtifactError(f"'{where}': '{item.name}' holds no numbers: refused")


def _address(item) -> tuple[int, int]:
    import h5py

    information = h5py.h5o.get_info(item.id)
    return information.fileno, information.addr


def _place(group, name: str) -> str:
    return f"{(group.name or '').rstrip('/')}/{name}"


def check_keras(path: Path) -> int:
    """Refuse a .keras file that holds, unpacks to, links to or builds more than a model; nothing of
    it is built.

    Returns:
        How many numbers the weights of its layers may have together: see `MOST_UNSTORED`.

    Raises:
        ArtifactError: as `check_archive` and `check_hdf5`, or its layers are far larger than the
            weights that are there, run code, or name other files.
        zipfile.BadZipFile, and others: it is damaged; see `zoo.files.one_line_if_damaged`.
    """
    import h5py

    with opened_archive(path, OF_KERAS) as archive:
        _check_content(archive)
        names = archive.namelist()
        numbers = 0
        if "model.weights.h5" in names:
            with (
                opened_member(archive, path, "model.weights.h5") as content,
                h5py.File(content, "r") as file,
            ):
                numbers = check_hdf5(file, path, archive.getinfo("model.weights.h5").file_size)
        if "model.weights.npz" in names:
            with zipfile.ZipFile(io.BytesIO(read_member(archive, "model.weights.npz"))) as inner:
                check_archive(inner, path, archive.getinfo("model.weights.npz").file_size)
                _check_content(inner)
                check_arrays(inner, path)
                numbers = sum(m.file_size for m in inner.infolist())
        config = json.loads(read_member(archive, "config.json"))
    _check_reach(config, path)
    _check_layers(config, path, numbers)
    return max(MOST_UNSTORED, 8 * numbers)


CODE = {
    "__lambda__": "Python code (a Lambda layer), which would run when it is loaded",
    "TorchModuleWrapper": "a module of PyTorch, which can run code when it is loaded",
}
"""Objects of a Keras file that are code."""

NAMES_OF_FILES = ("vocabulary", "merges", "proto", "filepath")
"""Settings of layers that can be the name of a file, which the layer would open."""
LONGEST_NAME = 2048
"""A longer text is the content itself."""


def _check_reach(config: object, where: object) -> None:
    """Refuse a layer that is code, or that names a file outside of the archive."""
    for layer in _mappings(config):
        what, settings = layer.get("class_name"), layer.get("config")
        if isinstance(what, str) and what in CODE:
            raise ArtifactError(
                f"'{where}' holds {CODE[what]}: refused; replace the layer by a registered one"
            )
        for name in (
            NAMES_OF_FILES if isinstance(what, str) and isinstance(settings, Mapping) else ()
        ):
            if isinstance(settings.get(name), str) and len(settings[name]) <= LONGEST_NAME:
                raise ArtifactError(
                    f"'{where}' names a file outside of itself ('{settings[name][:100]}', the "
                    f"{name} of its {what} "
                    f"'{settings.get('name')}'): refused; build the layer from what that file "
                    "holds, and save it again"
                )


def _check_layers(config: object, where: object, numbers: int) -> None:
    """Refuse layers that would be far larger together than all weights: Keras builds them before it
    looks for them.
    """
    total = 0
    for layer in _mappings(config):
        settings, built = layer.get("config"), layer.get("build_config")
        if not isinstance(settings, Mapping):
            continue
        shape = built.get("input_shape") if isinstance(built, Mapping) else None
        needed = _fewest_weights(settings, shape if isinstance(shape, list) else [])
        total += needed
        if total > max(MOST_UNSTORED, 8 * numbers):
            with_others = "" if needed == total else f" and those before it, together {total:,}"
            raise ArtifactError(
                f"'{where}' is damaged: its layer '{settings.get('name')}' would have {needed:,} "
                f"weights{with_others}, and "
                f"the file holds {numbers:,}"
            )


def _fewest_weights(settings: Mapping, shape: list) -> int:
    """How many weights a layer with these settings has at least, on an input of `shape`; a size
    that is not known is 1.
    """

    def size(*names: str) -> int:
        return max((_size(settings.get(name)) for name in names), default=0)

    last = _size(shape[-1]) if shape else 1
    last = last or 1
    kernel = settings.get("kernel_size")
    window = math.prod(
        _size(side) or 1 for side in (kernel if isinstance(kernel, list) else [kernel])
    )
    inputs = max(1, last // (size("groups") or 1)) * window
    rows, width = (
        size("vocabulary_size", "input_dim"),
        size("output_dim", "hidden_dim", "embedding_dim"),
    )
    bias = settings.get("use_bias") is not False
    return max(
        size("units") * max(last, 1 + bias),
        size("filters") * inputs,
        size("depth_multiplier") * window * last if kernel is not None else 0,
        (rows or 1) * width,
        rows,
        size("num_heads", "num_query_heads")
        * (size("key_dim", "head_dim", "value_dim") or 1)
        * last
        if size("key_dim", "head_dim")
        else 0,
        size("intermediate_dim") * (width or last),
        size("sequence_length", "max_sequence_length") * width,
        _einsum_weights(settings, shape),
    )


def _einsum_weights(settings: Mapping, shape: list) -> int:
    """How many weights the kernel of an einsum has at least: its letters are sides of the input or
    of the output.
    """
    equation, output = settings.get("equation"), settings.get("output_shape")
    parts = (
        re.fullmatch(r"([\w.]+),(\w+)->([\w.]+)", equation.replace(" ", ""))
        if isinstance(equation, str)
        else None
    )
    if parts is None:
        return 0
    sides: dict[str, int] = {}
    for letters, known in (
        (parts[1], shape),
        (parts[3], output if isinstance(output, list) else [output]),
    ):
        # From the right: the batch is not in the shape of the output, and an ellipsis stands before
        # the letters.
        sides |= {
            c: _size(n) or 1
            for c, n in zip(reversed(letters), reversed(known), strict=False)
            if c != "."
        }
    return math.prod(sides.get(letter, 1) for letter in parts[2])


def _size(value: object) -> int:
    """A setting as a size; 0 where it is none."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if real and value > 0 else 0


def _mappings(value: object) -> Iterator[Mapping]:
    """All objects in a JSON value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
