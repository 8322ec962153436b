"""A training that kills its own process (SIGKILL) at a chosen place: `python -m tests.killed PLACE
COUNT OPTIONS...`.

PLACE: "checkpoint" (half of the COUNT-th checkpoint is written), "cache" (within the COUNT-th write
    of features), "step"
(after the COUNT-th call of the training step), "results" (before the run's files are written),
"report" (before it is).
"""

import os
import signal
import sys


def main(place: str, count: int, options: list[str]) -> None:
    """Arm the trap and run `graft train image-classification OPTIONS`."""
    import keras
    import numpy as np

    from graft.recipes.commands import train
    from graft.recipes.feed import work
    from graft.recipes.report import report
    from graft.recipes.runs import writing

    calls = 0

    def trap(function, before=None):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == count:
                if before:
                    before(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapped

    def half(path, *_):
        path.write_bytes(b"PK\x03\x04 half a checkpoint")

    if place == "checkpoint":
        np.savez = trap(np.savez, half)
    elif place == "cache":
        work._narrow = trap(work._narrow)
    elif place == "step":
        keras.callbacks.CallbackList.on_train_batch_end = trap(
            keras.callbacks.CallbackList.on_train_batch_end
        )
    elif place == "report":
        report.write = trap(report.write)
    else:
        writing.write_run = trap(writing.write_run)
    train.command(["image-classification", *options])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
