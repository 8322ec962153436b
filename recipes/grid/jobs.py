"""Processes of a grid: here, several at once, or on the nodes of a Ray cluster. Nothing here knows
what they compute.
"""

import contextlib
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.export.child_process import child_environment, process_memory
from graft.recipes.feed.cluster import connect
from graft.zoo.files import flock

__all__ = ["Job", "Outcome", "cause_of", "end", "run", "run_all"]

THREADS = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OPENBLAS_NUM_THREADS",
)
"""The variables by which libraries are told how many they may use."""
LOOK_SECONDS = 0.1
"""How often a process is looked at."""
GRACE_SECONDS = 60.0
"""How long a process that was asked to end may take to keep what it has made."""


@dataclass(frozen=True)
class Job:
    """A command and the file that keeps what it says."""

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        code: 0: well; above: its exit code; below: the number of the signal that killed it,
            negative.
        cause: one line that says why, if it did not end well.
        seconds: how long it took.
        peak_memory_bytes: the most memory that it held.
        machine: where it ran.
    """

    code: int
    cause: str
    seconds: float
    peak_memory_bytes: int
    machine: str


def run(
    job: Job, threads: int | None = None, stopped: Callable[[], bool] = lambda: False
) -> Outcome:
    """Run one job on this machine, with at most so many `threads`; its output goes to the log.

    It is asked to end as soon as `stopped` says so.
    """
    import platform

    flock.resolve_links(job.log.parent).mkdir(parents=True, exist_ok=True)
    limits = {} if threads is None else dict.fromkeys(THREADS, str(threads))
    start = time.perf_counter()
    environment = {**child_environment(), **limits}
    with job.log.open("wb") as log:
        process = subprocess.Popen(
            job.command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        try:
            peak, ended, told = 0, 0, math.inf
            while not ended:
                with contextlib.suppress(
                    OSError, StopIteration
                ):  # it has ended, or the system does not say
                    peak = max(peak, process_memory("VmHWM", process.pid))
                time.sleep(LOOK_SECONDS)
                if told == math.inf and stopped():
                    os.kill(
                        process.pid, signal.SIGTERM
                    )  # `process` itself would ask how it ended, which wait4 has to
                    told = time.perf_counter()
                if time.perf_counter() - told > GRACE_SECONDS:
                    os.kill(process.pid, signal.SIGKILL)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        except BaseException:
            end(process)
            raise
    process.returncode = code = os.waitstatus_to_exitcode(status)
    # What the system adds up for a child also holds what its parent had at the fork: only where
    # nothing else is known.
    peak = peak or usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Outcome(
        code, cause_of(code, job.log), time.perf_counter() - start, peak, platform.node()
    )


def end(process: subprocess.Popen) -> None:
    """Ask `process` to end, and see to it that it does."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:  # it does not listen
        process.kill()
        process.wait()
    except BaseException:  # who waits is asked to end once more
        process.kill()
        raise


def run_all(
    jobs: Sequence[Job], workers: int = 1, ray: str | None = None
) -> Iterator[tuple[Job, Outcome]]:
    """Run all jobs, `workers` at a time, and yield each as it ends; with `ray` on the nodes of the
    cluster of that address ("auto": the one that runs on this machine), which have to see the same
    files.

    Raises:
        ConfigError: no cluster at that address, or Ray is not installed.
    """
    if ray is not None:
        yield from _on_ray(jobs, ray)
    elif workers == 1:
        for job in jobs:
            yield job, run(job)
    else:
        yield from _several(jobs, workers)


def _several(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Outcome]]:
    threads = max(1, (os.cpu_count() or 1) // workers)
    left, done, stop = list(reversed(jobs)), queue.Queue(), threading.Event()

    def work() -> None:
        while left and not stop.is_set():
            with contextlib.suppress(IndexError):  # another one took the last job
                job = left.pop()
                try:
                    done.put((job, run(job, threads, stop.is_set)))
                except (
                    Exception
                ) as error:  # whatever it is, the others go on, and who waits is told
                    done.put((job, Outcome(1, f"it could not be run: {error}", 0.0, 0, "")))

    crew = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in crew:
        thread.start()
    try:
        for _ in jobs:
            yield done.get()
    finally:
        stop.set()  # whoever waits no longer, for an error or a signal, leaves no training behind
        for thread in crew:
            thread.join()


def _on_ray(jobs: Sequence[Job], address: str) -> Iterator[tuple[Job, Outcome]]:
    connect(address)
    import ray

    task = ray.remote(num_cpus=1, max_retries=0)(run)
    waiting = {
        task.remote(job, 1): job for job in jobs
    }  # a thread for each of the node's cores, as Ray counts them
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        job = waiting.pop(ready)
        try:
            yield job, ray.get(ready)
        except Exception as error:  # a node that went away, a worker that was killed
            yield (
                job,
                Outcome(
                    1, f"its Ray worker died: {' '.join(str(error).split())[:300]}", 0.0, 0, ""
                ),
            )


def cause_of(code: int, log: Path) -> str:
    """One line that says why a process ended with `code`, from the last words in its `log`; "" if
    it ended well.
    """
    if code == 0:
        return ""
    if code < 0:
        name = signal.Signals(-code).name
        why = (
            ": most likely the machine ran out of memory; use fewer --workers"
            if name == "SIGKILL"
            else ""
        )
        return f"killed by {name}{why}"
    lines = [
        line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("graft ")]
    last = (ours or list(filter(None, lines)) or ["it said nothing"])[-1]
    return f"exit code {code}: {last}"
