"""The cells of the feature maps that boxes are read from. numpy alone.

A map of stride s divides the image into cells of s x s pixels, the last ones of a row or column may
lie partly outside. Cells are counted row by row, map after map.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from graft.zoo.errors import ConfigError

__all__ = ["Cells", "cells_of", "check_strides", "map_sizes"]


class Cells(NamedTuple):
    """All cells of all maps.

    Attributes:
        centres: float32 `(cells, 2)`, x and y in pixels of the image.
        strides: float32 `(cells,)`, in pixels.
    """

    centres: np.ndarray
    strides: np.ndarray


def map_sizes(image_size: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Rows and columns of the map of each stride.

    Args:
        image_size: height and width of the model's image, in pixels.
        strides: of the maps.
    """
    height, width = image_size
    return [(-(-height // stride), -(-width // stride)) for stride in strides]


def cells_of(image_size: tuple[int, int], strides: Sequence[int]) -> Cells:
    """The cells of all maps, in the order of the `strides`.

    Args:
        image_size: height and width of the model's image, in pixels.
        strides: of the maps.
    """
    centres, sizes = [], []
    for stride, (rows, columns) in zip(strides, map_sizes(image_size, strides), strict=True):
        y, x = np.indices((rows, columns), np.float32)
        centres.append((np.stack([x, y], -1).reshape(-1, 2) + np.float32(0.5)) * stride)
        sizes.append(np.full(rows * columns, stride, np.float32))
    return Cells(np.concatenate(centres), np.concatenate(sizes))


def check_strides(strides: Sequence[int]) -> None:
    """Refuse strides that a pyramid cannot be built from.

    Raises:
        ConfigError: none, or one is no multiple of the one before it.
    """
    if not strides or any(high <= low or high % low for low, high in pairwise(strides)):
        raise ConfigError(
            "the strides that boxes are read from must rise, each a multiple of the one before, as "
            f"(8, 16, 32): got {tuple(strides)}"
        )
