"""Quantization of a float32 .onnx by onnxruntime: float16, and static int8 in QDQ form."""

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from zoo.errors import ConfigError, NotApplicable
from zoo.quiet import python_silence

__all__ = ["ONNXQuantizer"]

WEIGHTED = ("Conv", "MatMul", "Gemm")


class ONNXQuantizer:
    """Makes smaller files from the float32 model `content`; `calibration` is a batch of real inputs by name."""

    def __init__(self, content: bytes, calibration: Mapping[str, np.ndarray] | None = None):
        import onnx

        self.content, self.calibration = content, calibration
        nodes = onnx.load_from_string(content).graph.node
        self.layers = tuple(node.name for node in nodes)
        """The nodes, in order, by name."""
        self.weighted = tuple(node.name for node in nodes if node.op_type in WEIGHTED)
        """Those of them that have weights."""
        self._convolutions = any(node.op_type == "Conv" for node in nodes)
        self._folder = tempfile.TemporaryDirectory()

    def float16(self) -> bytes:
        """Weights and arithmetic of 16 bits, inputs and outputs of 32."""
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with python_silence():
            model = convert_float_to_float16(onnx.load_from_string(self.content), keep_io_types=True)
        return model.SerializeToString()

    def dynamic(self) -> bytes:
        """Weights of 8 bits, activations quantized as they come.

        Raises:
            NotApplicable: the model has convolutions, whose dynamic form takes many times as long in onnxruntime.
        """
        if self._convolutions:
            raise NotApplicable("dynamic quantization of convolutions is many times slower than float32 in onnxruntime")
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        target = Path(self._folder.name) / "dynamic.onnx"
        with python_silence():
            quantize_dynamic(onnx.load_from_string(self.content), target, per_channel=True, weight_type=QuantType.QInt8)
        return target.read_bytes()

    def int8(self, layers: Collection[str] | None = None, full: bool = False) -> bytes:
        """Weights (for each channel) and activations of 8 bits in `layers` (default: all), float32 elsewhere.

        Raises:
            NotApplicable: `full`, because QDQ files have inputs and outputs of float32, which accelerators take as they are.
        """
        if full:
            raise NotApplicable(
                "an ONNX file of the QDQ form has float32 inputs and outputs: int8 is what accelerators take"
            )
        if self.calibration is None:
            raise ConfigError("int8 needs examples to calibrate with: give --data, the data the model was trained on")
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        target = Path(self._folder.name) / "int8.onnx"
        with python_silence():
            quantize_static(
                onnx.load_from_string(self.content),
                target,
                _Examples(self.calibration),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=None if layers is None else list(layers),
                extra_options={"CalibMaxIntermediateOutputs": 64},
                calibration_cache_path=Path(self._folder.name) / "ranges.json",  # one pass over the examples for all
            )
        return target.read_bytes()


class _Examples:
    """What onnxruntime calls a calibration data reader: one example at a time, then None."""

    def __init__(self, examples: Mapping[str, np.ndarray]):
        count = len(next(iter(examples.values())))
        self._steps = iter(
            [{name: np.float32(value[i : i + 1]) for name, value in examples.items()} for i in range(count)]
        )

    def get_next(self):
        return next(self._steps, None)
