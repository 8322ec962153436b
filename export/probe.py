"""How long a file takes and how much memory it needs, measured in a process that does nothing else.

    python -m graft.export.probe FILE SIZE THREADS...

waits for a line from stdin and prints JSON. SIZE is what a .keras file that takes images of any
size is given; of others "". `measure_file(FILE)` starts such processes.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export.child_process import PYTHON_COMMAND, child_environment, process_memory
from graft.export.manifest import available_cores
from graft.zoo.errors import ArtifactError, GraftError
from graft.zoo.fits import ImageShape, ImageSize
from graft.zoo.heads.own_outputs import Meaning
from graft.zoo.processes import with_parent

if TYPE_CHECKING:
    from graft.export.sessions import Session

__all__ = ["measure_file", "measure_latency"]

WARM_UP_RUNS = 10
MAX_TIMED_RUNS, MAX_TIMED_SECONDS = 100, 2.0
DEFAULT_LENGTH = 128
"""For inputs without a fixed size of which the file does not say how long they may be."""
PROBE_TIMEOUT_SECONDS = 600
TOLD_THREADS = (".tflite", ".onnx")
"""Files whose runtime is told how many threads it may take each time that it opens one."""


def measure_file(path: Path, image_size: ImageSize | None = None) -> dict:
    """Latency and peak memory of a file; `image_size` is of the images of a .keras file that takes
    any.

    Latency is that of one example (batch 1) after warming up. Peak memory is what opening the file
    and running it on one thread added to the process, its runtime already loaded.

    Returns:
        `{"latency_ms": {"one_thread": {"median", "p90", "runs", "threads"}, "all_threads": {...}},
        "peak_memory_bytes"}`, latencies in milliseconds.

    Raises:
        ArtifactError: the process failed.
    """
    # How many threads TensorFlow takes is settled once in a process; the others are told each time.
    calls = ([1, 0],) if path.suffix in TOLD_THREADS else ([1], [0])
    with contextlib.ExitStack() as stack:
        # All load their runtime at the same time, and are timed one after the other.
        processes = [stack.enter_context(_started(path, call, image_size)) for call in calls]
        one, every = [facts for process in processes for facts in _timed_by(process, path)]
    return {
        "latency_ms": {"one_thread": one["latency_ms"], "all_threads": every["latency_ms"]},
        "peak_memory_bytes": one["peak_memory_bytes"],
    }


def measure_latency(path: Path) -> float:
    """The median milliseconds of one example on one thread, as `measure_file` has it.

    Raises:
        ArtifactError: the process failed.
    """
    with _started(path, [1]) as process:
        return _timed_by(process, path)[0]["latency_ms"]["median"]


@contextlib.contextmanager
def _started(
    path: Path, threads: Sequence[int], image_size: ImageSize | None = None
) -> "Iterator[subprocess.Popen[str]]":
    """Yield a process that loads what opens the file, and waits; it does not outlive the block."""
    size = "" if image_size is None else str(ImageShape.of(image_size))
    process = subprocess.Popen(
        [*PYTHON_COMMAND, "-m", "graft.export.probe", str(path), size, *map(str, threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**child_environment(), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with process:  # closes its pipes, waits for it
            pass


def _timed_by(process: "subprocess.Popen[str]", path: Path) -> Sequence[Mapping]:
    """What `_probe` finds in a process that waits, for each number of threads it was given."""
    try:
        found, said = process.communicate("go\n", PROBE_TIMEOUT_SECONDS)
        if process.returncode:
            raise ValueError(said.strip())
        return json.loads(found.splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"'{path}' could not be timed: one process ran for {PROBE_TIMEOUT_SECONDS} s"
        ) from error
    except (OSError, ValueError, IndexError) as error:
        last = str(error).splitlines()[-1:]
        raise ArtifactError(
            f"'{path}' could not be timed in a process of its own: {' '.join(last)[:300]}"
        ) from error


def _probe(path: Path, size: str, threads: int) -> dict:
    """Open the file in this process, run one example again and again."""
    from graft.export.sessions import check_finite, open_artifact

    before = _resident_memory()
    meaning = Meaning(image_size=size) if size else None
    # Its caller checked the file.
    session = open_artifact(path, threads, meaning, timed=True, trust=True)
    example = _example_of(session)
    check_finite(session.run(example), path)
    milliseconds = 1e3 * np.array(_timed(lambda: session.run(example)))
    return {
        "latency_ms": {
            "median": round(float(np.median(milliseconds)), 3),
            "p90": round(float(np.percentile(milliseconds, 90)), 3),
            "runs": len(milliseconds),
            "threads": threads or available_cores(),
        },
        "peak_memory_bytes": max(0, _peak_memory() - before),
    }


def _example_of(session: "Session") -> dict[str, np.ndarray]:
    """A batch of one: random pixels, or ids that every vocabulary has."""
    length = session.preprocessing.get("max_length", DEFAULT_LENGTH)
    rng = np.random.default_rng(0)
    example = {}
    for name, shape in session.inputs.items():
        sides = (1, *(side or length for side in shape))
        # Ones are such ids, and a mask that leaves everything.
        example[name] = (
            np.ones(sides, np.int32)
            if session.integers
            else rng.uniform(0, 255, sides).astype(np.float32)
        )
    return example


def _timed(run: Callable[[], object]) -> list[float]:
    """The seconds of each run, after warming up."""
    start = time.perf_counter()
    for _ in range(WARM_UP_RUNS):
        run()
        if time.perf_counter() - start > MAX_TIMED_SECONDS:
            break
    seconds: list[float] = []
    start = time.perf_counter()
    while len(seconds) < MAX_TIMED_RUNS and time.perf_counter() - start < MAX_TIMED_SECONDS:
        before = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - before)
    return seconds


def _resident_memory() -> int:
    """Bytes of memory in use now. Where the kernel can, its record of the peak starts anew here."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return process_memory("VmRSS")
    except OSError:
        return _peak_memory()


def _peak_memory() -> int:
    try:
        return process_memory("VmHWM")
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


if __name__ == "__main__":
    from graft.export.runtimes.runtime import load_runtime

    try:
        with with_parent():
            file, size, *counts = sys.argv[1:]
            load_runtime(Path(file), int(counts[0]))
            sys.stdin.readline()  # until it is its turn
            print(json.dumps([_probe(Path(file), size, int(count)) for count in counts]))
    except GraftError as error:
        sys.exit(str(error))
