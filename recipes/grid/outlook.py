"""What a grid says of itself: before it starts, how many cells there are and how long they take;
when it is done, the command that comes next.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from graft.export.manifest import read_manifest
from graft.recipes.grid import rows
from graft.zoo.terminal import time_shown

__all__ = ["next_command", "outlook"]

UNKNOWN = "how long they take is unknown until the first one is done"


def outlook(
    count: int, left: int, budget: float | None, finished: Sequence[Mapping], workers: int
) -> str:
    """ "12 cells, 4 of them finished already: 8 to go, about 30 min".

    Args:
        count: cells.
        left: those that have to run.
        budget: seconds of training of each cell; None: epochs.
        finished: rows of cells, whose processes say what one takes.
        workers: cells at the same time.
    """
    done = count - left
    text = f"{count} cell{'' if count == 1 else 's'}"
    text += f", {done} of {count} cells are finished already" if done else ""
    if not left:
        return f"{text}: 0 to go"
    return f"{text}: {left} to go, {_estimate(left, budget, finished, workers)}"


def _estimate(left: int, budget: float | None, finished: Sequence[Mapping], workers: int) -> str:
    rounds = -(-left // workers)
    whole = [row["process_seconds"] for row in finished if row.get("process_seconds")]
    if budget is None:
        return f"about {time_shown(rounds * statistics.mean(whole))}" if whole else UNKNOWN
    beside = [
        max(0.0, row["process_seconds"] - row["train_seconds"])
        for row in finished
        if row.get("process_seconds") and row.get("train_seconds")
    ]
    if beside:
        return f"about {time_shown(rounds * (budget + statistics.mean(beside)))}"
    training = time_shown(rounds * budget)
    return (
        f"{training} of training and what each process takes beside, which is unknown until the "
        "first one is done"
    )


def next_command(cells: Path, found: Sequence[Mapping]) -> list[str]:
    """What to do with the best cell by validation: try its file, or export it where no file of its
    backbone passed.
    """
    best = max(filter(rows.has_figures, found), key=lambda row: row["validation"])
    folder = cells / str(best.get("files_of") or best["cell"])
    if best.get("files_of"):
        files = read_manifest(folder / "export")["files"]
        passed = [file["path"] for file in files if file["status"] == "pass"]
        if passed:
            return ["graft", "predict", str(folder / "export" / passed[0]), "INPUT"]
    return ["graft", "export", str(folder)]
