"""How long a file takes and how much memory it needs, measured in a process that does nothing else.

    python -m export.probe FILE THREADS

prints JSON. `measure(FILE)` starts such a process for one thread and one for all of them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graft.export.manifest import cores
from graft.zoo.errors import ArtifactError, GraftError
from graft.zoo.processes import PARENT_VARIABLE, with_parent

__all__ = ["PYTHON", "environment", "latency", "measure", "status_bytes"]

WARM_UP = 10
MOST_RUNS, MOST_SECONDS = 100, 2.0
DYNAMIC_LENGTH = 128
"""For inputs without a fixed size of which the file does not say how long they may be."""
LIMIT_SECONDS = 600


PYTHON = (sys.executable, "-P")
"""Without the folder in which the user works: an `export.py` there would be taken for ours."""


def environment() -> dict[str, str]:
    """For a process in which our rooms are importable as they are here, however this one found
    them, and which ends with this one (see `zoo.processes`).
    """
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        PARENT_VARIABLE: str(os.getpid()),
    }


def measure(path: Path) -> dict:
    """`{"latency_ms": {"one_thread": {"median", "p90", "runs"}, "all_threads": {..., "threads"}},
    "peak_memory_bytes"}`.

    Latency of one example (batch 1) after warming up. Peak memory is what opening the file and
    running it on one thread added to the process, its runtime already loaded.

    Raises:
        ArtifactError: the process failed.
    """
    one, every = _in_a_process(path, 1), _in_a_process(path, 0)
    return {
        "latency_ms": {"one_thread": one["latency_ms"], "all_threads": every["latency_ms"]},
        "peak_memory_bytes": one["peak_memory_bytes"],
    }


def latency(path: Path) -> float:
    """The median milliseconds of one example on one thread, as `measure` has it.

    Raises:
        ArtifactError: the process failed.
    """
    return _in_a_process(path, 1)["latency_ms"]["median"]


def _in_a_process(path: Path, threads: int) -> Mapping:
    try:
        done = subprocess.run(
            [*PYTHON, "-m", "graft.export.probe", str(path), str(threads)],
            capture_output=True,
            text=True,
            env={**environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
            timeout=LIMIT_SECONDS,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"'{path}' could not be timed: one process ran for {LIMIT_SECONDS} s"
        ) from error
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise ArtifactError(
            f"'{path}' could not be timed in a process of its own: {' '.join(last)[:300]}"
        ) from error


def _probe(path: Path, threads: int) -> dict:
    from graft.export.sessions import check_finite, open_artifact, prepare

    prepare(path, threads)
    before = _resident()
    session = open_artifact(path, threads, timed=True, trust=True)  # its caller checked it
    rng = np.random.default_rng(0)
    example = {}
    for name, shape in session.inputs.items():
        shape = (1, *(d or session.preprocessing.get("max_length", DYNAMIC_LENGTH) for d in shape))
        # Ones are ids that every vocabulary has, and a mask that leaves everything.
        example[name] = (
            np.ones(shape, np.int32) if session.integers else np.float32(rng.uniform(0, 255, shape))
        )
    check_finite(session.run(example), path)
    seconds, start = [], time.perf_counter()
    for _ in range(WARM_UP):
        session.run(example)
        if time.perf_counter() - start > MOST_SECONDS:
            break
    start = time.perf_counter()
    while len(seconds) < MOST_RUNS and time.perf_counter() - start < MOST_SECONDS:
        run = time.perf_counter()
        session.run(example)
        seconds.append(time.perf_counter() - run)
    milliseconds = 1e3 * np.array(seconds)
    return {
        "latency_ms": {
            "median": round(float(np.median(milliseconds)), 3),
            "p90": round(float(np.percentile(milliseconds, 90)), 3),
            "runs": len(seconds),
            "threads": threads or cores(),
        },
        "peak_memory_bytes": max(0, _peak() - before),
    }


def _resident() -> int:
    """Bytes of memory in use now; the kernel's record of the peak starts anew from here where it
    can.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return status_bytes("VmRSS")
    except OSError:
        return _peak()


def _peak() -> int:
    try:
        return status_bytes("VmHWM")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def status_bytes(key: str, process: int | str = "self") -> int:
    """What Linux says of the memory of a living process: "VmRSS" is what it holds, "VmHWM" the most
    that it has held.

    Raises:
        OSError: another system, or no such process.
        StopIteration: the process has ended and nobody has asked how.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    try:
        with with_parent():
            print(json.dumps(_probe(Path(sys.argv[1]), int(sys.argv[2]))))
    except GraftError as error:
        sys.exit(str(error))
