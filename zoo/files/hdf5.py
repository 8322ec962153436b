"""HDF5 files come from anyone: one may name another file of the machine, whose bytes then become
weights, or need a plugin. Both are refused before an array is read.
"""

import math
from typing import TYPE_CHECKING

from graft.zoo.errors import ArtifactError
from graft.zoo.files.archives import MAX_EXPANSION, max_unpacked_bytes

if TYPE_CHECKING:
    import h5py

__all__ = ["check_hdf5"]

BUILT_IN_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
"""The numbers of the HDF5 filters that come with the library; for another one it would look for a
plugin to load.
"""


def check_hdf5(file: "h5py.File", where: object, size: int) -> int:
    """Refuse an HDF5 file that reaches outside of itself or is larger than it looks.

    Args:
        file: open.
        where: what a message calls it.
        size: of the file, in bytes.

    Returns:
        How many numbers its arrays have.

    Raises:
        ArtifactError: a link that is no plain one, an array that is kept elsewhere or put together
            from others, one that needs a plugin, or arrays that are larger together than
            `max_unpacked_bytes`.
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
                    "place or file: refused, because weights must be in the file itself"
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
        if total > max_unpacked_bytes(size):
            raise ArtifactError(
                f"'{where}' has {size:,} bytes, and its arrays say that they have {total:,}: "
                f"refused, more than {MAX_EXPANSION} times"
            )
    return numbers


def _check_dataset(item: "h5py.Dataset", where: object) -> None:
    import h5py

    if item.external:
        raise ArtifactError(
            f"'{where}': the array '{item.name}' is kept in another file "
            f"('{item.external[0][0]}'): refused, because weights must be in the file itself"
        )
    if item.is_virtual:
        raise ArtifactError(
            f"'{where}': the array '{item.name}' is put together from other files (a virtual "
            "dataset): refused, because weights must be in the file itself"
        )
    settings = item.id.get_create_plist()
    filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if not filters <= BUILT_IN_FILTERS:
        raise ArtifactError(
            f"'{where}': the array '{item.name}' needs a plugin to be read: refused; save it again"
        )
    if item.dtype.hasobject and h5py.check_string_dtype(item.dtype) is None:
        raise ArtifactError(f"'{where}': '{item.name}' holds no numbers: refused")


def _address(item: "h5py.Group | h5py.Dataset") -> tuple[int, int]:
    """What an object has for itself alone, under whatever names."""
    import h5py

    information = h5py.h5o.get_info(item.id)
    return information.fileno, information.addr


def _place(group: "h5py.Group", name: str) -> str:
    return f"{(group.name or '').rstrip('/')}/{name}"
