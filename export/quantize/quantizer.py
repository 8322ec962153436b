"""What makes smaller files of one format, and what the quantizers of all formats share."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from graft.zoo.errors import ConfigError, ExportError

__all__ = [
    "NO_CALIBRATION",
    "Quantizer",
    "as_model_input",
    "calibration_examples",
    "named_failures",
]

NO_CALIBRATION = (
    "int8 needs examples to calibrate with: give --data, the data the model was trained on"
)


class Quantizer(Protocol):
    """What makes smaller files of one format from a float32 one.

    Attributes:
        layers: its layers by name, in order.
        weighted: those of them that have weights.
    """

    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def weighted(self) -> Sequence[str]: ...
    def float16(self, layers: Collection[str] | None = None) -> bytes: ...
    def dynamic(self) -> bytes: ...
    def int8(self, layers: Collection[str] | None = None, full: bool = False) -> bytes: ...


@contextlib.contextmanager
def named_failures(library: str) -> Iterator[None]:
    """Turn whatever a quantizing library raises into an ExportError, so that the other files are
    written all the same.
    """
    try:
        yield
    except Exception as error:  # they raise what their passes do
        raise ExportError(
            f"{library} failed to quantize ({type(error).__name__}): {str(error)[:300]}"
        ) from error


def calibration_examples(
    calibration: Mapping[str, np.ndarray] | None,
) -> list[dict[str, np.ndarray]]:
    """The examples of a batch by name, each a batch of one, as both libraries want them; numbers
    with a point are float32.

    Raises:
        ConfigError: there are none.
    """
    if calibration is None:
        raise ConfigError(NO_CALIBRATION)
    count = len(next(iter(calibration.values())))
    return [
        {name: as_model_input(value[i : i + 1]) for name, value in calibration.items()}
        for i in range(count)
    ]


def as_model_input(values: np.ndarray) -> np.ndarray:
    """Token ids as they are, everything else as float32: pixels are kept as bytes."""
    return values if values.dtype == np.int32 else values.astype(np.float32)
