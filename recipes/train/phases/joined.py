"""Many arrays as one, because an archive takes long over each array that it holds."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["forms_of", "join_arrays", "part_arrays"]


def join_arrays(values: Sequence[np.ndarray]) -> np.ndarray:
    """The bytes of all `values`, one behind the other."""
    parts = [np.ascontiguousarray(value).reshape(-1).view(np.uint8) for value in values]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def forms_of(values: Sequence[np.ndarray]) -> list[tuple[str, tuple[int, ...]]]:
    """The type and the shape of each of the `values`: what `part_arrays` takes."""
    return [(value.dtype.str, value.shape) for value in values]


def part_arrays(joined: np.ndarray, forms: Sequence[tuple[str, Sequence[int]]]) -> list[np.ndarray]:
    """What `join_arrays` joined, of the types and shapes that `forms_of` told.

    Raises:
        ValueError: the bytes are more or fewer than those of such arrays.
    """
    parts, start = [], 0
    for name, shape in forms:
        kind = np.dtype(name)
        end = start + math.prod(shape) * kind.itemsize
        parts.append(joined[start:end].view(kind).reshape(shape).copy())
        start = end
    if start != len(joined):
        raise ValueError(f"it has {len(joined)} bytes of arrays that take {start}")
    return parts
