"""Smaller files from a float32 .onnx: 16-bit weights, and by onnxruntime dynamic and static int8
(in QDQ form).
"""

import copy
import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.export.quantize.quantizer import calibration_examples, named_failures
from graft.zoo.errors import NotApplicable
from graft.zoo.quiet import python_silence

if TYPE_CHECKING:
    import onnx
    from onnxruntime.quantization.calibrate import TensorsData

__all__ = ["ONNXQuantizer"]

WEIGHTED_OPERATORS = ("Conv", "MatMul", "Gemm")
SEVEN_BIT_WEIGHTS = True
"""Weights take 7 of their 8 bits. On x86 without VNNI onnxruntime adds two products of 8 bits in
16, which overflow in silence: a file that was measured on one machine would answer otherwise on
another. (A product of 64 values was off by 5.5 where its spread is 7.5, and with 7 bits by less
than 0.4: tests/unit/test_quantize.py on a CPU with AVX2 alone.)
"""
MIN_QUANTIZED_VALUES = 64
"""Weights with fewer values stay as they are, and so do those of one dimension: offsets, scales."""


class ONNXQuantizer:
    """Makes smaller files from the float32 model `content`; `calibration` is a batch of real inputs
    by name. Nodes with one of `float_layers` in their names stay float32 where others become
    integers.
    """

    def __init__(
        self,
        content: bytes,
        calibration: Mapping[str, np.ndarray] | None = None,
        float_layers: Sequence[str] = (),
    ) -> None:
        import onnx

        self.content, self.calibration = content, calibration
        nodes = onnx.load_from_string(content).graph.node
        self.layers = tuple(node.name for node in nodes)
        """The nodes, in order, by name."""
        self.integer = tuple(
            name for name in self.layers if not any(part in name for part in float_layers)
        )
        """Those of them that may become integers."""
        self.weighted = tuple(node.name for node in nodes if node.op_type in WEIGHTED_OPERATORS)
        """Those of them that have weights."""
        self._convolutions = any(node.op_type == "Conv" for node in nodes)
        self._folder = tempfile.TemporaryDirectory()

    def float16(self, layers: Collection[str] | None = None) -> bytes:
        """Weights of 16 bits in `layers` (default: all), made 32 when the file is opened: the
        arithmetic is that of float32.

        With arithmetic of 16 bits (onnxruntime's own conversion) the CPU casts before and after
        every node, which took 1.3 times as long as float32, and some probabilities of
        EfficientNetB0 were off by 0.026.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        model = onnx.load_from_string(self.content)
        casts = []
        chosen = set(self.layers if layers is None else layers)
        read = {name for node in model.graph.node if node.name in chosen for name in node.input}
        for weight in model.graph.initializer:
            if (
                weight.name not in read
                or weight.data_type != TensorProto.FLOAT
                or len(weight.dims) < 2
            ):
                continue
            values = numpy_helper.to_array(weight)
            if (
                values.size < MIN_QUANTIZED_VALUES
                or np.abs(values).max() > np.finfo(np.float16).max
            ):
                continue
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/float16"))
            casts.append(
                helper.make_node(
                    "Cast", [weight.name], [name], f"{name}/cast", to=TensorProto.FLOAT
                )
            )
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return model.SerializeToString()

    def dynamic(self) -> bytes:
        """Weights of 8 bits, activations quantized as they come.

        Raises:
            NotApplicable: the model has convolutions, whose dynamic form takes many times as long
                in onnxruntime.
        """
        if self._convolutions:
            raise NotApplicable(
                "dynamic quantization of convolutions is many times slower than float32 in "
                "onnxruntime"
            )
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        target = Path(self._folder.name) / "dynamic.onnx"
        with python_silence(), named_failures("onnxruntime"):
            model = _gemm_as_matmul(onnx.load_from_string(self.content))
            quantize_dynamic(
                model,
                target,
                per_channel=True,
                reduce_range=SEVEN_BIT_WEIGHTS,
                weight_type=QuantType.QInt8,
            )
        return target.read_bytes()

    def int8(self, layers: Collection[str] | None = None, full: bool = False) -> bytes:
        """Weights (for each channel) and activations of 8 bits in `layers` (default: all), float32
        elsewhere.

        Raises:
            NotApplicable: `full`, because QDQ files have inputs and outputs of float32, which
                accelerators take as they are.
        """
        if full:
            raise NotApplicable(
                "an ONNX file of the QDQ form has float32 inputs and outputs: int8 is what "
                "accelerators take"
            )
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        if layers is not None or len(self.integer) < len(self.layers):
            layers = [layer for layer in self.integer if layers is None or layer in layers]
        model, ranges = copy.deepcopy(self._calibrated)  # both are changed in place
        with python_silence(), named_failures("onnxruntime"):
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=SEVEN_BIT_WEIGHTS,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=ranges,
                nodes_to_quantize=list(layers or ()),
                nodes_to_exclude=[],
                op_types_to_quantize=list({*QLinearOpsRegistry, *QDQRegistry}),
                extra_options={},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
            return quantizer.model.model.SerializeToString()

    @cached_property
    def _calibrated(self) -> "tuple[onnx.ModelProto, TensorsData]":
        """The model with the shapes of its tensors, and their ranges over the examples: once for
        all files, each of which takes less time than this.
        """
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.calibrate import load_tensors_data
        from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

        examples = _CalibrationReader(calibration_examples(self.calibration))
        ranges = Path(self._folder.name) / "ranges.json"
        with python_silence(), named_failures("onnxruntime"):
            quantize_static(
                onnx.load_from_string(self.content),  # it is moved to a file that is removed
                Path(self._folder.name) / "int8.onnx",
                examples,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=ranges,
            )
            model = save_and_reload_model_with_shape_infer(onnx.load_from_string(self.content))
            return model, load_tensors_data(ranges)


def _gemm_as_matmul(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """`model` with each Gemm as a product, and a sum if it has an offset.

    onnxruntime's dynamic quantization knows no Gemm, and the projections of a BERT's attention
    would stay float32.
    """
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        offset = list(node.input[2:3])
        plain = settings.get("alpha", 1.0) == 1.0 and not settings.get("transA")
        plain = plain and (not offset or settings.get("beta", 1.0) == 1.0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in weights:
            nodes.append(node)
            continue
        factor = node.input[1]
        if settings.get("transB"):
            factor = f"{node.input[1]}/transposed"
            if factor not in weights:
                turned = numpy_helper.from_array(
                    numpy_helper.to_array(weights[node.input[1]]).T.copy(), factor
                )
                model.graph.initializer.append(turned)
                weights[factor] = turned
        product = f"{node.name}/product" if offset else node.output[0]
        nodes.append(
            helper.make_node("MatMul", [node.input[0], factor], [product], f"{node.name}/product")
        )
        if offset:
            nodes.append(helper.make_node("Add", [product, *offset], list(node.output), node.name))
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    return model


class _CalibrationReader:
    """What onnxruntime calls a calibration data reader: one example at a time, then None."""

    def __init__(self, examples: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._steps = iter(examples)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._steps, None)
