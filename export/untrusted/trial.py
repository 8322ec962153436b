"""A file that nobody vouches for is opened in a process of its own first: LiteRT and onnxruntime
trust what a file says of itself, and a damaged one can end, block or fill the process that opens
it.

    python -m graft.export.untrusted.trial FILE

opens FILE, runs one example and ends with 0; or prints what is wrong and ends with 3.
"""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from graft.export.child_process import PYTHON_COMMAND, child_environment
from graft.export.runtimes.runtime import Runtime
from graft.zoo.errors import ArtifactError, GraftError

__all__ = ["check_in_own_process", "run_example"]

START_SECONDS = 60
"""For a process to start and load a runtime."""
MIN_TRIAL_SECONDS, FILE_BYTES_PER_SECOND = 7, 10_000_000
MIN_MEMORY_BYTES, MEMORY_PER_FILE_BYTE = 3 * 512 * 1024**2, 8
"""Memory of the process: what the runtimes take, and what a file may."""
EXIT_REFUSED = 3
EXAMPLE_LENGTH = 8
"""Of inputs without a fixed size."""


def check_in_own_process(path: Path) -> None:
    """Open the .tflite or .onnx file `path` and run one example, in a process whose time and memory
    are limited.

    Raises:
        ArtifactError: it cannot be opened or run, ends the process, takes too long or too much
            memory.
    """
    limit = _time_limit(path)
    too_long = (
        f"'{path}' did not open and answer one example within {limit} s: damaged, or very large; "
        "--trust opens it all the same"
    )
    try:
        done = subprocess.run(
            [*PYTHON_COMMAND, "-m", "graft.export.untrusted.trial", str(path)],
            capture_output=True,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            timeout=START_SECONDS + limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(too_long) from error
    if done.returncode == 0:
        return
    if done.returncode == EXIT_REFUSED:
        raise ArtifactError(done.stdout.decode("utf-8", "replace"))
    if done.returncode == -getattr(signal, "SIGALRM", 0):
        raise ArtifactError(too_long)
    how = f"code {done.returncode}"
    with contextlib.suppress(ValueError):
        how = signal.Signals(-done.returncode).name
    raise ArtifactError(
        f"'{path}' is damaged: its runtime ends with {how} when it opens it; export again"
    )


def _time_limit(path: Path) -> int:
    """Seconds that opening and one example may take."""
    return MIN_TRIAL_SECONDS + Path(path).stat().st_size // FILE_BYTES_PER_SECOND


def run_example(runtime: Runtime) -> None:
    """Run one example of ones, which are ids that every vocabulary has."""
    kind = np.int32 if runtime.integers else np.float32
    runtime.run(
        {
            name: np.ones((1, *(side or EXAMPLE_LENGTH for side in shape)), kind)
            for name, shape in runtime.inputs.items()
        }
    )


def _limit_this_process(path: Path) -> None:
    """Let the system end this process where it takes too long, and refuse it memory beyond
    measure.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):  # another system
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = MIN_MEMORY_BYTES + MEMORY_PER_FILE_BYTE * path.stat().st_size
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _time_limit(path))


def _try_file(path: Path) -> int:
    """The exit code of this process, once its file is opened and has answered."""
    from graft.export.runtimes.onnx import open_onnx
    from graft.export.runtimes.runtime import check_shapes, load_runtime
    from graft.export.runtimes.tflite import open_tflite

    load_runtime(path)
    _limit_this_process(path)
    try:
        runtime = (open_tflite if path.suffix == ".tflite" else open_onnx)(path)
        check_shapes(runtime, path)
        run_example(runtime)
    except GraftError as error:
        sys.stdout.buffer.write(str(error).encode("utf-8", "replace"))
        return EXIT_REFUSED
    except MemoryError:
        sys.stdout.write(
            f"'{path}' is damaged: it takes more memory than such a file can need; export again"
        )
        return EXIT_REFUSED
    return 0


if __name__ == "__main__":
    from graft.zoo.processes import with_parent

    with with_parent():
        sys.exit(_try_file(Path(sys.argv[1])))
