"""Tables of measurements that grow: a row says when, where and with which versions it was made."""

import csv
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

__all__ = ["add_row"]


def add_row(out: Path, row: Mapping, digits: int = 3, python: bool = False) -> dict:
    """Add `row` to the table `out`, which is made where it is not there; what was written.

    Args:
        out: the table, .csv.
        row: column -> value.
        digits: of a number that is no whole one.
        python: whether the machine is named with its Python, as in tables that began so.
    """
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("tensorflow", "keras", "graft-zoo"))
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    machine += f", Python {platform.python_version()}" if python else ""
    written = {k: f"{v:.{digits}g}" if isinstance(v, float) else v for k, v in row.items()}
    written |= {"date": time.strftime("%Y-%m-%d"), "machine": machine, "versions": versions}
    new = not out.exists()
    with out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, written, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(written)
    return written
