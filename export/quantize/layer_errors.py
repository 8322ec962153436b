"""What each layer loses when it alone is made smaller."""

from collections.abc import Callable, Sequence

import numpy as np

from graft.export.quantize.quantizer import Quantizer
from graft.zoo.errors import ArtifactError, ExportError

__all__ = ["LAYER_ERROR_EXAMPLES", "measure_layer_errors", "mixed_file_maker"]

LAYER_ERROR_EXAMPLES = 16
"""How many calibration examples the outputs are compared on."""
MAX_MEASUREMENTS = 150
"""Beyond so many layers neighbours are measured together."""


def mixed_file_maker(quantizer: Quantizer, precision: str) -> Callable[..., bytes]:
    """What makes the file of a precision in which single layers can stay in float32."""
    return {"float16": quantizer.float16, "int8": quantizer.int8}[precision]


def measure_layer_errors(
    layers: Sequence[str],
    make: Callable[[Sequence[str]], bytes],
    run: Callable[[bytes], np.ndarray],
    reference: np.ndarray,
) -> list[tuple[str, float]]:
    """What making each layer alone smaller does to the outputs.

    Of more than 150 layers, neighbours share a measurement.

    Args:
        layers: all layers by name, in order.
        make: gives the file in which only some layers are smaller.
        run: gives a file's outputs for some calibration examples.
        reference: those of the float32 file, of the same shape.

    Returns:
        (layer, error), the largest first: the root of the mean squared difference.
    """
    size = -(-len(layers) // MAX_MEASUREMENTS)
    measured: list[tuple[str, float]] = []
    for start in range(0, len(layers), size):
        group = layers[start : start + size]
        try:
            difference = run(make(group)) - reference
        except (ExportError, ArtifactError):
            continue  # this layer cannot be made smaller by itself; the others are still told
        measured += [(layer, float(np.sqrt(np.mean(np.square(difference))))) for layer in group]
    return sorted(measured, key=lambda item: -item[1])
