"""What a file holds: its operators, its inputs and outputs, the version of its format. Read from
the file, not run.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

__all__ = ["describe"]


def describe(path: Path) -> dict:
    """`{"operators": {name: count}, "flex", "custom", "format_version", "inputs", "outputs"}` of an
    exported file.

    "flex" and "custom" list operators that a runtime has only with an addition (TensorFlow's Flex
    delegate, a custom kernel). "inputs" and "outputs" are lists of `{"name", "shape", "dtype"}`;
    None in a shape is a free dimension.
    """
    path = Path(path)
    if path.is_dir():
        return _savedmodel(path)
    return {".tflite": _tflite, ".onnx": _onnx}[path.suffix](path)


def _tflite(path: Path) -> dict:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if not name.startswith("_")
    }
    types = {
        value: name.lower()
        for name, value in vars(schema.TensorType).items()
        if not name.startswith("_")
    }
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    graph = model.subgraphs[0]

    def name(code) -> str:
        if code.customCode:
            return code.customCode.decode()
        return names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    counted = Counter(
        name(model.operatorCodes[operator.opcodeIndex]) for operator in graph.operators
    )
    strangers = sorted(
        {code.customCode.decode() for code in model.operatorCodes if code.customCode}
    )
    signature = {
        i.tensorIndex: i.name.decode() for d in model.signatureDefs for i in (*d.inputs, *d.outputs)
    }

    def tensors(indices) -> list[dict]:
        rows = []
        for index in indices:
            tensor = graph.tensors[index]
            row = {
                "name": signature[index],
                "shape": list(map(int, tensor.shape)),
                "dtype": types[tensor.type],
            }
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                zero = int(tensor.quantization.zeroPoint[0])
                row["quantization"] = {
                    "scale": float(tensor.quantization.scale[0]),
                    "zero_point": zero,
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


def _onnx(path: Path) -> dict:
    import onnx

    model = onnx.load(path, load_external_data=False)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    known = ("ai.onnx", "")

    def tensors(values) -> list[dict]:
        return [
            {
                "name": value.name,
                "shape": [d.dim_value or None for d in value.type.tensor_type.shape.dim],
                "dtype": onnx.helper.tensor_dtype_to_np_dtype(
                    value.type.tensor_type.elem_type
                ).name,
            }
            for value in values
        ]

    return {
        "operators": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        "flex": [],
        "custom": sorted(
            {
                f"{node.domain}.{node.op_type}"
                for node in model.graph.node
                if node.domain not in known
            }
        ),
        "format_version": ", ".join(
            f"opset {version}" for domain, version in opsets.items() if domain == "ai.onnx"
        ),
        "inputs": tensors(model.graph.input),
        "outputs": tensors(model.graph.output),
    }


def _savedmodel(path: Path) -> dict:
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
    counted = sum((_count(functions, name) for name in called), Counter())

    def tensors(values: Mapping) -> list[dict]:
        return [
            {
                "name": name,
                "shape": [None if d.size == -1 else d.size for d in value.tensor_shape.dim],
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


def _count(functions: Mapping, name: str) -> Counter:
    """The operators of a function and of those it calls, without what only moves values."""
    moves = ("Placeholder", "Identity", "NoOp", "Const", "ReadVariableOp")
    counted: Counter = Counter()
    for node in functions[name].node_def:
        inner = node.attr["f"].func.name if "f" in node.attr else None
        if inner in functions:
            counted += _count(functions, inner)
        elif node.op not in moves:
            counted[node.op] += 1
    return counted
