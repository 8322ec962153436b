"""Libraries write notes to stderr that no user of Graft can act on; this keeps them out of the
way.
"""

import contextlib
import functools
import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from graft.zoo.terminal import say

__all__ = ["load_tensorflow", "native_silence", "python_silence"]


@contextlib.contextmanager
def native_silence() -> Iterator[None]:
    """Discard what native code writes to stderr inside the block; Python's exceptions pass as ever.

    Set GRAFT_VERBOSE=1 to see it all.
    """
    if os.environ.get("GRAFT_VERBOSE"):
        yield
        return
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def load_tensorflow() -> None:
    """Import TensorFlow (4 to 13 seconds, so it says that it does) without its notes about CPU
    features and missing GPU drivers.
    """
    if "tensorflow" not in sys.modules:
        say("loading TensorFlow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if os.environ.get("GRAFT_VERBOSE") else "3")
    with native_silence():
        import tensorflow as tf
    if not os.environ.get("GRAFT_VERBOSE"):
        tf.get_logger().setLevel("ERROR")
    _set_aside_what_is_loaded()


@functools.cache
def _set_aside_what_is_loaded() -> None:
    """The half million objects of TensorFlow and Keras stay as long as the process: Python need not
    look at each of them again and again for garbage, which takes a fifth of the start of a run.
    """
    import keras  # noqa: F401

    gc.freeze()


@contextlib.contextmanager
def python_silence() -> Iterator[None]:
    """Discard what Python code prints, draws (progress bars) or logs below an error inside the
    block.

    Set GRAFT_VERBOSE=1 to see it all.
    """
    if os.environ.get("GRAFT_VERBOSE"):
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
                yield
    finally:
        logging.disable(before)
