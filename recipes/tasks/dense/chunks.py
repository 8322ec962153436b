"""What tasks of images share whose answers are large."""

from collections.abc import Iterator, Mapping

import numpy as np

__all__ = ["chunks", "never_found", "number"]

CHUNK = 16
"""Images that are worked on at a time."""


def chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Stretches of rows."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def number(value: float) -> float | None:
    """As JSON has it: None for one that cannot be said."""
    return None if np.isnan(value) else float(value)


def never_found(per_class: Mapping[str, Mapping], counted: str) -> str | None:
    """What is to be said where labels are there, by their figure `counted`, and never found."""
    lost = [label for label, row in per_class.items() if row[counted] and not row["recall"]]
    if not lost:
        return None
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    return (
        f"'{lost[0]}'{more} is never found in the test split: give more images that show it, or "
        "train longer"
    )
