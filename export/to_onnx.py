"""Keras -> ONNX: one file for servers and browsers."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from export.graph import freeze
from zoo.errors import ExportError
from zoo.files import staged_file

if TYPE_CHECKING:
    import keras

__all__ = ["OPSET", "write"]

OPSET = 18
"""The highest that tf2onnx 1.17 writes."""


def write(model: "keras.Model", target: Path, *, labels: Sequence[str], preprocessing: Mapping) -> None:
    """Write the file `target`: opset 18, inputs and outputs by name, dynamic batch.

    The model's metadata hold `labels` and `preprocessing` as JSON.

    Raises:
        ExportError: an operation has no counterpart in ONNX, or the result is not a valid graph.
    """
    import onnx
    from onnx import checker, helper

    graph = freeze(model)
    content = _convert(graph)
    _name(content, graph)
    helper.set_model_props(
        content,
        {
            "labels": json.dumps(list(labels), ensure_ascii=False),
            "preprocessing": json.dumps(dict(preprocessing), ensure_ascii=False),
            "producer": f"graft-zoo {version('graft-zoo')}",
        },
    )
    try:
        checker.check_model(content, full_check=True)
    except (checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the ONNX graph of '{model.name}' is not valid: {error}") from error
    with staged_file(target) as path:
        onnx.save_model(content, str(path))


def _convert(graph):
    import tf2onnx

    with _quiet():
        try:
            content, _ = tf2onnx.convert.from_graph_def(
                graph.definition,
                input_names=list(graph.inputs.values()),
                output_names=list(graph.outputs.values()),
                opset=OPSET,
            )
        except Exception as error:  # tf2onnx raises whatever its handlers do
            raise ExportError(f"tf2onnx failed ({type(error).__name__}): {error}") from error
    strangers = sorted({node.op_type for node in content.graph.node if node.domain not in ("", "ai.onnx")})
    if strangers:
        raise ExportError(f"ONNX has no operator for {', '.join(strangers)}")
    return content


def _name(content, graph) -> None:
    """Give inputs and outputs their own names ("image", not "image:0") and the batch dimension a name."""
    renamed = {tensor: name for name, tensor in (*graph.inputs.items(), *graph.outputs.items())}
    for node in content.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in (*content.graph.input, *content.graph.output):
        value.name = renamed[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "batch"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """tf2onnx reports every pass of its optimizer."""
    logger = logging.getLogger("tf2onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
