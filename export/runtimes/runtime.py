"""An opened file as all runtimes give it; and what is checked of it, whatever its format."""

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from graft.zoo.backbones.own import MAX_VALUES_PER_EXAMPLE
from graft.zoo.errors import ArtifactError
from graft.zoo.quiet import load_tensorflow

__all__ = [
    "Arrays",
    "Runtime",
    "Shapes",
    "check_shapes",
    "load_runtime",
    "named_errors",
    "one_by_one",
    "one_line",
]

Arrays = Mapping[str, np.ndarray]
"""Name of an input or output -> its batch."""
Shapes = Mapping[str, tuple[int | None, ...]]
"""Name of an input or output -> its shape without batch; None is a free dimension."""
Given = TypeVar("Given")


@dataclass(frozen=True)
class Runtime:
    """An opened file.

    Attributes:
        inputs: name -> shape without batch, such as `{"image": (160, 160, 3)}`.
        outputs: name -> shape without batch.
        attached: the text files that the file holds, by name: labels.txt, preprocessing.json,
            tokenizer.json.
        integers: whether the inputs are whole numbers, token ids; else they are float32.
        run: name -> batch to name -> float32 batch, by name. A file of 8 bits is given and gives
            real values all the same.
    """

    inputs: Shapes
    outputs: Shapes
    attached: Mapping[str, str]
    integers: bool
    run: Callable[[Arrays], dict[str, np.ndarray]]


def check_shapes(runtime: Runtime, path: Path) -> None:
    """Refuse a file whose inputs or outputs are no rows of examples, or so large that one example
    fills the memory.

    Raises:
        ArtifactError: names the input or output.
    """
    if not runtime.inputs or not runtime.outputs:
        raise ArtifactError(f"'{path}' is damaged: it has no input or no output; export again")
    for name, shape in [*runtime.inputs.items(), *runtime.outputs.items()]:
        is_row = shape or name not in runtime.inputs  # how many boxes there are is one number
        if not is_row or any(side is not None and side < 1 for side in shape):
            raise ArtifactError(
                f"'{path}' is damaged: its input or output '{name}' is not of the form (examples, "
                f"...), but {shape} for each; export again"
            )
        if math.prod(side or 1 for side in shape) > MAX_VALUES_PER_EXAMPLE:
            raise ArtifactError(
                f"'{path}' is damaged: its input or output '{name}' would have {shape} values for "
                "each example; export again"
            )


def load_runtime(path: Path, threads: int = 1) -> None:
    """Load the runtime that `path` needs, so that opening it costs what the file costs.

    Args:
        path: an artifact; its name says which runtime it needs.
        threads: how many TensorFlow takes, 0 for all. Where it runs already, they stay as they are.
    """
    if Path(path).suffix == ".tflite":
        import ai_edge_litert.interpreter  # noqa: F401
    elif Path(path).suffix == ".onnx":
        import onnxruntime  # noqa: F401
    else:
        load_tensorflow()
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)


def one_by_one(
    run: Callable[[Arrays], dict[str, np.ndarray]],
) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """`run` of a file that takes one example at a time, for batches of any size."""

    def of_each(given: Arrays) -> dict[str, np.ndarray]:
        count = len(next(iter(given.values())))
        rows = [run({name: v[i : i + 1] for name, v in given.items()}) for i in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return of_each


def named_errors(
    run: Callable[[Given], dict[str, np.ndarray]], path: Path
) -> Callable[[Given], dict[str, np.ndarray]]:
    """`run`, whose errors name the file: one can be opened and still hold what its runtime cannot
    run.
    """

    def guarded(given: Given) -> dict[str, np.ndarray]:
        try:
            return run(given)
        except Exception as error:  # each runtime has classes of its own
            raise ArtifactError(
                f"'{path}' cannot be run: {one_line(error)}; export again"
            ) from error

    return guarded


def one_line(error: Exception) -> str:
    """What an error says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
