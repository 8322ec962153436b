"""What a file holds: its operators, its inputs and outputs, the version of its format. Read from
the file, not run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

__all__ = ["describe_file"]

ONNX_DOMAINS = ("ai.onnx", "")
"""What the domain of ONNX's own operators is called."""
MOVING_OPERATORS = ("Placeholder", "Identity", "NoOp", "Const", "ReadVariableOp")
"""Those of TensorFlow that compute nothing."""


def describe_file(path: Path) -> dict:
    """What an exported file holds.

    Returns:
        `{"operators": {name: count}, "flex", "custom", "format_version", "inputs", "outputs"}`.
        "flex" and "custom" list operators that a runtime has only with an addition (TensorFlow's
        Flex delegate, a custom kernel). "inputs" and "outputs" are lists of `{"name", "shape",
        "dtype"}`, of a quantized tensor also "quantization"; None in a shape is a free dimension.
    """
    path = Path(path)
    if path.is_dir():
        return _describe_savedmodel(path)
    return {".tflite": _describe_tflite, ".onnx": _describe_onnx}[path.suffix](path)


def _describe_tflite(path: Path) -> dict:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    def names_of(kind: type) -> dict[int, str]:
        named = vars(kind).items()
        return {value: name for name, value in named if not name.startswith("_")}

    operators, types = names_of(schema.BuiltinOperator), names_of(schema.TensorType)
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]
    names = [
        code.customCode.decode()
        if code.customCode
        else operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]
    counted = Counter(names[operator.opcodeIndex] for operator in graph.operators)
    strangers = sorted(
        {code.customCode.decode() for code in model.operatorCodes if code.customCode}
    )
    signature = {
        i.tensorIndex: i.name.decode() for d in model.signatureDefs for i in (*d.inputs, *d.outputs)
    }

    def tensors(indices: Iterable[int]) -> list[dict]:
        rows = []
        for index in indices:
            tensor = graph.tensors[index]
            row = {
                "name": signature[index],
                "shape": list(map(int, tensor.shape)),
                "dtype": types[tensor.type].lower(),
            }
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                row["quantization"] = {
                    "scale": float(tensor.quantization.scale[0]),
                    "zero_point": int(tensor.quantization.zeroPoint[0]),
                }
            rows.append(row)
        return rows

    return {
        "operators": dict(counted.most_common()),
        "flex": [name for name in strangers if name.startswith("Flex")],
        "custom": [name for name in strangers if not name.startswith("Flex")],
        "format_version": f"schema {model.version}",
        "inputs": tensors(graph.inputs),
        "outputs": tensors(graph.outputs),
    }


def _describe_onnx(path: Path) -> dict:
    import onnx

    model = onnx.load(path, load_external_data=False)
    nodes = model.graph.node
    opsets = [entry.version for entry in model.opset_import if entry.domain in ONNX_DOMAINS]
    strangers = {
        f"{node.domain}.{node.op_type}" for node in nodes if node.domain not in ONNX_DOMAINS
    }

    def tensors(values: "Iterable[onnx.ValueInfoProto]") -> list[dict]:
        kinds = [(value.name, value.type.tensor_type) for value in values]
        return [
            {
                "name": name,
                "shape": [side.dim_value or None for side in kind.shape.dim],
                "dtype": onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
            }
            for name, kind in kinds
        ]

    return {
        "operators": dict(Counter(node.op_type for node in nodes).most_common()),
        "flex": [],
        "custom": sorted(strangers),
        "format_version": ", ".join(f"opset {version}" for version in opsets),
        "inputs": tensors(model.graph.input),
        "outputs": tensors(model.graph.output),
    }


def _describe_savedmodel(path: Path) -> dict:
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.dtypes import as_dtype

    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0]
    signature = graph.signature_def["serving_default"]
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    # The outputs come from one call of the traced function; the graph holds others, to save and to
    # restore.
    calls = {value.name.split(":")[0] for value in signature.outputs.values()}
    called = {node.attr["f"].func.name for node in graph.graph_def.node if node.name in calls}
    counted = sum((_count_operators(functions, name) for name in called), Counter())

    def tensors(values: "Mapping[str, TensorInfo]") -> list[dict]:
        return [
            {
                "name": name,
                "shape": [
                    None if side.size == -1 else side.size for side in value.tensor_shape.dim
                ],
                "dtype": as_dtype(value.dtype).name,
            }
            for name, value in sorted(values.items())
        ]

    return {
        "operators": dict(counted.most_common()),
        "flex": [],
        "custom": [],
        "format_version": f"schema {saved.saved_model_schema_version}",
        "inputs": tensors(signature.inputs),
        "outputs": tensors(signature.outputs),
    }


def _count_operators(functions: "Mapping[str, FunctionDef]", name: str) -> Counter:
    """The operators of a function and of those it calls, without what only moves values."""
    counted: Counter = Counter()
    for node in functions[name].node_def:
        inner = node.attr["f"].func.name if "f" in node.attr else ""
        if inner in functions:
            counted += _count_operators(functions, inner)
        elif node.op not in MOVING_OPERATORS:
            counted[node.op] += 1
    return counted
