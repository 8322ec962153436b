"""What tasks of images share whose answers are large."""

from collections.abc import Iterator

import numpy as np

__all__ = ["chunks", "number"]

CHUNK = 16
"""Images that are worked on at a time."""


def chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Stretches of rows."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def number(value: float) -> float | None:
    """As JSON has it: None for one that cannot be said."""
    return None if np.isnan(value) else float(value)
