"""Every error that Graft raises on purpose.

    GraftError
    ├── ConfigError    (ValueError)    an option or a combination of options that cannot work
    │   └── DiskFull                   no space left where something was to be written
    ├── UnknownName    (LookupError)   a backbone, a schedule, ... that does not exist
    ├── DataError      (ValueError)    the user's data: a folder, a row, an image
    ├── WeightsError   (OSError)       weights that cannot be had or do not fit
    ├── ArtifactError  (OSError)       a run or an exported file that cannot be opened
    ├── ExportError    (RuntimeError)  a model that cannot be written in the requested format
    │   └── NotApplicable              a precision that makes no sense for a format or a model
    ├── TrainingError  (ArithmeticError)  a loss or a watched figure that is not a number
    └── CheckFailed    (RuntimeError)  what was made or given ran, and failed a check

Each message is one line: what, where, what was expected, what to do. The command line prints it
without a traceback and exits with code 2; with 1 after a failed check, and after a training that
came to nothing.
"""

import difflib
from collections.abc import Iterable

from graft.zoo.shown import one_line

__all__ = [
    "ArtifactError",
    "CheckFailed",
    "ConfigError",
    "DataError",
    "DiskFull",
    "ExportError",
    "GraftError",
    "NotApplicable",
    "TrainingError",
    "UnknownName",
    "WeightsError",
]


class GraftError(Exception):
    """The root of the tree: `except GraftError` catches whatever Graft raises on purpose."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # A library's multi-line message may be part of ours, and names of anything; the reader gets
        # one line.
        super().__init__(one_line(message))


class ConfigError(GraftError, ValueError):
    """An option, or a combination of options, that cannot work."""


class DiskFull(ConfigError):  # noqa: N818
    """No space is left on the disk that `place` is on; `hint` says what is kept and what to do."""

    def __init__(self, place: object, hint: str) -> None:
        super().__init__(f"no space left on the disk while writing '{place}': {hint}")
        self.place = place


# Some names read as what they are (`except UnknownName`), without `Error` at their end.
class UnknownName(GraftError, LookupError):  # noqa: N818
    """A name that is not in a catalogue.

    Args:
        kind: the noun, such as "backbone".
        name: what was asked for.
        known: all valid names.
        see: where they are listed; None: in the message.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], see: str | None = None) -> None:
        known = sorted(map(str, known))
        lowered = {candidate.lower(): candidate for candidate in known}
        near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
        hint = f" Did you mean '{lowered[near[0]]}'?" if near else ""
        listing = see or ("Known: " + ", ".join(known[:20]) + (", ..." if len(known) > 20 else ""))
        super().__init__(f"no {kind} is called '{name}'.{hint} {listing}")
        self.kind, self.name, self.nearest = kind, name, lowered[near[0]] if near else None


class DataError(GraftError, ValueError):
    """Something is wrong with the user's data; the message names the file, the row or the class."""


class WeightsError(GraftError, OSError):
    """Weights that cannot be had (no network, no file) or do not fit the architecture."""


class ArtifactError(GraftError, OSError):
    """A run folder or an exported file that cannot be opened."""


class ExportError(GraftError, RuntimeError):
    """A model that cannot be written, or written faithfully, in the requested format."""


class NotApplicable(ExportError):  # noqa: N818
    """A precision that makes no sense for this format or model: nothing failed, there is nothing to
    write.
    """


class CheckFailed(GraftError, RuntimeError):  # noqa: N818
    """A model or a file that ran, and did not pass a check: its answers are no numbers, or not
    those it is said to give.
    """

    exit_code = 1


class TrainingError(GraftError, ArithmeticError):
    """A training that cannot go on, because its loss is not a number, or that has no epoch to
    keep.
    """

    exit_code = 1
