"""A file that nobody vouches for is opened in a process of its own first: LiteRT and onnxruntime
trust what a file says of itself, and a damaged one can end, block or fill the process that opens
it.

    python -m export.trial FILE

opens FILE, runs one example and ends with 0; or prints what is wrong and ends with 3.
"""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from graft.export.probe import PYTHON, environment
from graft.zoo.errors import ArtifactError, GraftError

__all__ = ["check_in_a_process", "run_example"]

START_SECONDS = 60
"""For a process to start and load a runtime."""
LEAST_SECONDS, BYTES_A_SECOND = 7, 10_000_000
LEAST_BYTES, TIMES_THE_FILE = 3 * 512 * 1024**2, 8
"""Memory of the process: what the runtimes take, and what a file may."""
REFUSED = 3
LENGTH = 8
"""Of inputs without a fixed size."""
TRUST = "--trust opens it all the same"


def check_in_a_process(path: Path) -> None:
    """Open the .tflite or .onnx file `path` and run one example, in a process whose time and memory
    are limited.

    Raises:
        ArtifactError: it cannot be opened or run, ends the process, takes too long or too much
            memory.
    """
    limit = _seconds(path)
    try:
        done = subprocess.run(
            [*PYTHON, "-m", "graft.export.trial", str(path)],
            capture_output=True,
            env=environment(),
            stdin=subprocess.DEVNULL,
            timeout=START_SECONDS + limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(_too_long(path, limit)) from error
    if done.returncode == 0:
        return
    if done.returncode == REFUSED:
        raise ArtifactError(done.stdout.decode("utf-8", "replace"))
    if done.returncode == -getattr(signal, "SIGALRM", 0):
        raise ArtifactError(_too_long(path, limit))
    raise ArtifactError(
        f"'{path}' is damaged: its runtime {_ended(done.returncode)} when it opens it; export again"
    )


def _too_long(path: Path, limit: int) -> str:
    return (
        f"'{path}' did not open and answer one example within {limit} s: damaged, or very large; "
        f"{TRUST}"
    )


def _ended(code: int) -> str:
    with contextlib.suppress(ValueError):
        return f"ends with {signal.Signals(-code).name}"
    return f"ends with code {code}"


def _seconds(path: Path) -> int:
    return LEAST_SECONDS + Path(path).stat().st_size // BYTES_A_SECOND


def run_example(runtime) -> None:
    """Run one example of ones, which are ids that every vocabulary has."""
    shapes = {
        name: (1, *(side or LENGTH for side in shape)) for name, shape in runtime.inputs.items()
    }
    runtime.run(
        {
            name: np.ones(shape, np.int32 if runtime.integers else np.float32)
            for name, shape in shapes.items()
        }
    )


def _limit(path: Path) -> None:
    """Let the system end this process where it takes too long, and refuse it memory beyond
    measure.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):  # another system
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = LEAST_BYTES + TIMES_THE_FILE * path.stat().st_size
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _seconds(path))


def _main(path: Path) -> int:
    from graft.export.runtimes import open_onnx, open_tflite
    from graft.export.sessions import check_shapes, prepare

    prepare(path)
    _limit(path)
    try:
        runtime = (open_tflite if path.suffix == ".tflite" else open_onnx)(path)
        check_shapes(runtime, path)
        run_example(runtime)
    except GraftError as error:
        sys.stdout.buffer.write(str(error).encode("utf-8", "replace"))
        return REFUSED
    except MemoryError:
        sys.stdout.write(
            f"'{path}' is damaged: it takes more memory than such a file can need; export again"
        )
        return REFUSED
    return 0


if __name__ == "__main__":
    from graft.zoo.processes import with_parent

    with with_parent():
        sys.exit(_main(Path(sys.argv[1])))
