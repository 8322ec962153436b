"""Keras -> ONNX: one file for servers and browsers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from graft.export.convert.graph import FrozenGraph, freeze_graph
from graft.export.convert.onnx_rewrites import rewrite_onnx
from graft.export.manifest import Description
from graft.zoo.errors import ExportError
from graft.zoo.files.staging import staged_file
from graft.zoo.quiet import python_silence

if TYPE_CHECKING:
    import keras
    import onnx

__all__ = ["OPSET", "convert_to_onnx", "write_onnx"]

OPSET = 18
"""The highest that tf2onnx 1.17 writes."""


def write_onnx(content: bytes, target: Path, description: Description) -> None:
    """Write `content`, an ONNX model, as the file `target`; its metadata hold the `description`,
    lists as JSON.
    """
    import onnx
    from onnx import helper

    model = onnx.load_from_string(content)
    model.producer_name, model.graph.name = description.producer, description.name
    properties = {
        "labels": json.dumps(description.labels, ensure_ascii=False),
        "preprocessing": json.dumps(description.preprocessing, ensure_ascii=False),
        "input_range": json.dumps(description.input_range),
        "producer": description.producer,
    }
    if description.tokenizer is not None:
        properties["tokenizer"] = description.tokenizer.json
    helper.set_model_props(model, properties)
    with staged_file(target) as path:
        onnx.save_model(model, str(path))


def convert_to_onnx(model: "keras.Model") -> bytes:
    """`model` as a float32 ONNX model: opset 18, inputs and outputs by name, dynamic batch and
    length.

    Raises:
        ExportError: an operation has no counterpart in ONNX, or the result is not a valid graph.
    """
    from onnx import checker, shape_inference

    graph = freeze_graph(model)
    content = rewrite_onnx(_run_tf2onnx(graph))
    _rename_tensors(content, graph, fixed=model.inputs[0].shape[0] is not None)
    try:
        checker.check_model(content, full_check=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX graph of '{model.name}' is not valid: {error}") from error
    return content.SerializeToString()


def _run_tf2onnx(graph: FrozenGraph) -> "onnx.ModelProto":
    import tf2onnx

    with python_silence():
        try:
            content, _ = tf2onnx.convert.from_graph_def(
                graph.definition,
                input_names=list(graph.inputs.values()),
                output_names=list(graph.outputs.values()),
                opset=OPSET,
            )
        except Exception as error:  # tf2onnx raises whatever its handlers do
            raise ExportError(f"tf2onnx failed ({type(error).__name__}): {error}") from error
    strangers = sorted(
        {node.op_type for node in content.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if strangers:
        raise ExportError(f"ONNX has no operator for {', '.join(strangers)}")
    return content


def _rename_tensors(content: "onnx.ModelProto", graph: FrozenGraph, fixed: bool) -> None:
    """Give inputs and outputs their own names ("image", not "image:0") and the batch dimension a
    name, unless its size is `fixed`.
    """
    renamed = {tensor: name for name, tensor in (*graph.inputs.items(), *graph.outputs.items())}
    for node in content.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for node in content.graph.node:
        # Reports speak of nodes by name; these are the layers' own.
        node.name = node.output[0].removesuffix(":0")
    for value in (*content.graph.input, *content.graph.output):
        value.name = renamed[value.name]
        for place, dimension in enumerate(value.type.tensor_type.shape.dim):
            if (place == 0 and not fixed) or not dimension.dim_value:
                dimension.dim_param = "length" if place else "batch"
