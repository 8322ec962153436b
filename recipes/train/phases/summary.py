"""What came of a phase, for run.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["PhaseFacts", "skipped_summary"]


@dataclass(frozen=True)
class PhaseFacts:
    """What is known of a phase beside the rows of its epochs.

    Attributes:
        seconds: that it took.
        prepared: seconds of them before the first step, and in passes through the frozen blocks.
        waited: seconds of them in which a step waited for its examples.
        examples: that it has seen, each as often as it was seen.
        glances: figures of looks at the validation set between two epochs.
        sweep: what the learning-rate finder found; None: it was not asked.
        watched: the name of the validation figure that chose the best epoch.
    """

    seconds: float
    prepared: float
    waited: float
    examples: int
    glances: Sequence[Mapping[str, float]]
    sweep: Mapping | None
    watched: str

    def speed(self, rows: Sequence[Mapping]) -> dict:
        """Examples a second, and the share of the time in which they were waited for."""
        training = sum(row["seconds"] for row in rows)
        return {
            "images_per_second": self.examples / training,
            "input_wait_share": self.waited / training,
        }

    def summary(self, rows: Sequence[Mapping], best: int) -> dict:
        """For run.json, of the `rows` of its epochs, of which that with the index `best` is."""
        return {
            "seconds": self.seconds,
            "epochs_run": len(rows),
            "best_epoch": best + 1,
            "glances": list(self.glances),
            "preparation_seconds": self.prepared,
            **self.speed(rows),
            "rate_finder": self.sweep,
            "watched": self.watched,
            **_best_figures(rows[best]),
        }

    def told(self, rows: Sequence[Mapping]) -> str:
        """In a line."""
        speed = self.speed(rows)
        return (
            f"{self.seconds:.0f} s, of which {self.prepared:.0f} s to prepare; "
            f"{speed['images_per_second']:,.0f} examples/s, {speed['input_wait_share']:.0%} of the "
            "time waiting for them"
        )


def skipped_summary(seconds: float, why: str) -> dict:
    """Of a phase that was not begun: it took some `seconds` to find out, and `why`."""
    return {
        "seconds": seconds,
        "epochs_run": 0,
        "glances": [],
        "preparation_seconds": seconds,
        "skipped": why,
    }


def _best_figures(row: Mapping[str, float]) -> dict:
    """The validation figures of an epoch for run.json, which has no word for what is no number but
    null.
    """
    return {
        f"best_validation_{name.removeprefix('val_')}": value if np.isfinite(value) else None
        for name, value in row.items()
        if name.startswith("val_")
    }
