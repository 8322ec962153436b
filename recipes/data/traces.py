"""What is kept of an example to know it again: hashes of its content, and how it looks.

Of images the pixels as the model gets them are kept too, and a look that a photo keeps when it is
saved again; of texts the words without their case.
"""

import hashlib
import re
from collections.abc import Mapping

import numpy as np

from graft.zoo.image_modes import as_pillow

__all__ = [
    "LOOK",
    "alike",
    "empty_traces",
    "look_of",
    "pixel_traces",
    "pixels_hash",
    "short_digest",
    "trace",
    "words_digest",
]

LOOK = 32
"""Bytes of the look of an image."""
THUMBNAIL, GRID = 9, 4
"""The sides of the two grey thumbnails by which images are compared."""
LEAST_STEP = 2
"""Levels between two neighbours of a thumbnail that count as brighter; saving a JPEG again moves
them by less.
"""
FEWEST_STEPS = 16
"""An image with fewer of them (a blank page) has no look of its own."""
STEPS_APART, LEVELS_APART = 8, 4
"""What two images that look the same may differ by at most, of 128 steps and of the 16 levels of
the grid. Measured on 1,500 photos saved again at JPEG quality 50 or scaled to a half: all are
found; among the photos themselves, digits and CIFAR-10: none.
"""
COMPARED = 2**20
"""Pairs that are compared at a time."""


def empty_traces(count: int) -> dict[str, np.ndarray]:
    """Room for the traces of `count` images: what a run keeps of each to know it again."""
    return {
        "contents": np.zeros(count, np.uint64),
        "pixels": np.zeros(count, np.uint64),
        "looks": np.zeros((count, LOOK), np.uint8),
    }


def trace(traces: Mapping[str, np.ndarray], row: int, digest: str, pixels: np.ndarray) -> None:
    """Fill the `row` of an image in `traces`, given the digest of its content and its decoded
    pixels.
    """
    traces["contents"][row] = short_digest(digest)
    traces["pixels"][row] = pixels_hash(pixels)
    traces["looks"][row] = look_of(pixels)


def pixel_traces(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Those of images that were made, not read, of their pixels `(n, h, w, channels)`."""
    return {
        "contents": np.array(
            [pixels_hash(np.ascontiguousarray(rows)) for rows in pixels], np.uint64
        )
    }


def pixels_hash(pixels: np.ndarray) -> int:
    """8 bytes of a hash of the pixels of an image."""
    return _hash8(pixels.data)


def words_digest(text: str) -> int:
    """A hash of the words of a text, whatever their case and what stands between them; 0 if it has
    none.
    """
    words = re.findall(r"\w+", text.casefold())
    return _hash8(" ".join(words).encode("utf-8", "surrogatepass")) if words else 0


def short_digest(digest: str) -> int:
    """The first 8 bytes of a hexadecimal digest as a number."""
    return int(digest[:16], 16)


def _hash8(content: bytes | memoryview) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def look_of(pixels: np.ndarray) -> np.ndarray:
    """How an image looks, of its pixels `(h, w, channels)`: uint8 `(32,)`.

    The first 16 bytes are a difference hash: of a thumbnail of 9 x 9 grey levels, which ones are
    brighter than their left and than their upper neighbour. The others are the grey levels of one
    of 4 x 4. All zeros for an image that is too plain.
    """
    from PIL import Image

    grey = as_pillow(pixels).convert("L")
    small, grid = (
        np.asarray(grey.resize((side, side), Image.Resampling.BOX), np.int16)
        for side in (THUMBNAIL, GRID)
    )
    across, down = small[:-1, 1:] - small[:-1, :-1], small[1:, :-1] - small[:-1, :-1]
    brighter = np.stack([across, down]) > LEAST_STEP
    if brighter.sum() < FEWEST_STEPS:
        return np.zeros(LOOK, np.uint8)
    return np.concatenate([np.packbits(brighter), np.uint8(grid.ravel())])


def alike(ones: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """(number in `ones`, number of the first such in `others`) for all of `ones` that look the same
    as some of `others`.
    """
    if ones.dtype != np.uint8:  # of texts: the same words
        first = {look: i for i, look in reversed(list(enumerate(others.tolist())))}
        return [(i, first[look]) for i, look in enumerate(ones.tolist()) if look and look in first]
    # What is too plain to have a look is like nothing.
    rows, other_rows = (np.flatnonzero(images[:, :16].any(-1)) for images in (ones, others))
    pairs = _images_alike(ones[rows], others[other_rows]) if len(rows) and len(other_rows) else []
    return [(int(rows[i]), int(other_rows[j])) for i, j in pairs]


def _images_alike(ones: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """The same of images that have a look, at least one each."""
    found: list[tuple[int, int]] = []
    # Images that look the same are about as bright: both sorted by that, only a stretch of the
    # others has to be compared.
    brightness, other = (rows[:, 16:].mean(-1) for rows in (ones, others))
    order, sorted_others = np.argsort(brightness, kind="stable"), np.argsort(other, kind="stable")
    levels = other[sorted_others]
    start = 0
    while start < len(order):
        low = np.searchsorted(levels, brightness[order[start]] - LEVELS_APART)
        chosen = order[start : start + max(1, COMPARED // len(levels))]
        high = np.searchsorted(levels, brightness[chosen[-1]] + LEVELS_APART, side="right")
        stretch = np.sort(sorted_others[low:high])
        same = _same(ones[chosen], others[stretch])
        hits = np.flatnonzero(same.any(-1)) if len(stretch) else ()
        found += [(int(chosen[i]), int(stretch[same[i].argmax()])) for i in hits]
        start += len(chosen)
    return sorted(found)


def _same(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which pairs look the same, `(ones, others)`."""
    steps, other_steps = (
        np.ascontiguousarray(rows[:, :16]).view(np.uint64) for rows in (ones, others)
    )
    apart = np.zeros((len(ones), len(others)), np.uint8)
    for word in range(steps.shape[1]):
        apart += np.bitwise_count(steps[:, None, word] ^ other_steps[None, :, word])
    # An image with few steps may differ in few of them only.
    count = np.bitwise_count(steps).sum(-1, dtype=int)
    same = (apart <= np.minimum(STEPS_APART, count // 6)[:, None]) & (count > 0)[:, None]
    i, j = np.nonzero(same)
    same[i, j] = (
        np.abs(ones[i, 16:].astype(np.int16) - others[j, 16:]).max(-1, initial=0) <= LEVELS_APART
    )
    return same
