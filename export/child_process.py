"""Processes of our own: how they are started, and how much memory they hold."""

import os
import sys
from pathlib import Path

from graft.zoo.processes import PARENT_VARIABLE

__all__ = ["PYTHON_COMMAND", "child_environment", "process_memory"]

PYTHON_COMMAND = (sys.executable, "-P")
"""Without the folder in which the user works: an `export.py` there would be taken for ours."""


def child_environment() -> dict[str, str]:
    """The environment of a process that imports our rooms as this one does, and that ends with this
    one (see `zoo.processes`).
    """
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        PARENT_VARIABLE: str(os.getpid()),
    }


def process_memory(key: str, process: int | str = "self") -> int:
    """Bytes of memory of a living process, as Linux counts them.

    Args:
        key: "VmRSS" for what the process holds now, "VmHWM" for the most that it has held.
        process: its id, or "self".

    Raises:
        OSError: another system, or no such process.
        StopIteration: the process has ended and nobody has asked how.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
