"""A Keras model as TensorFlow sees it: a traced function in inference mode, and one frozen, cleaned
graph.

All converters start here, so what one family of architectures needs is mended once, for all.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graft.export.convert import repairs
from graft.zoo.graph.state import set_weights

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = [
    "FrozenGraph",
    "as_float32",
    "freeze_graph",
    "in_half_precision",
    "named_inputs",
    "output_tensors",
    "trace_model",
]

HALF_PRECISION = re.compile('"(mixed_)?b?float16"')


@dataclass(frozen=True)
class FrozenGraph:
    """A graph definition whose weights are constants; names of inputs and outputs -> names of
    tensors ("image:0").
    """

    definition: "tf.compat.v1.GraphDef"
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def as_float32(model: "keras.Model") -> "keras.Model":
    """`model`, or the same model with float32 arithmetic where it computes in half precision."""
    import keras

    if not in_half_precision(model):
        return model
    config = json.dumps(keras.saving.serialize_keras_object(model))
    rebuilt = keras.saving.deserialize_keras_object(
        json.loads(HALF_PRECISION.sub('"float32"', config))
    )
    set_weights(rebuilt, model.get_weights())
    return rebuilt


def in_half_precision(model: "keras.Model") -> bool:
    """Whether some layer of `model` computes in float16 or bfloat16."""
    return any(
        "float16" in layer.compute_dtype for layer in model._flatten_layers() if layer.compute_dtype
    )


def output_tensors(model: "keras.Model", outputs: Any) -> dict[str, Any]:
    """Name -> tensor, for what calling `model` returned: a dict's keys, or the name of the single
    output's layer.
    """
    if isinstance(outputs, dict):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return dict(zip(model.output_names, outputs, strict=True))
    return {model.output_names[0]: outputs}


def named_inputs(model: "keras.Model", given: Mapping[str, Any]) -> Any:
    """What to call `model` with: tensors by name, in the structure that it was built with."""
    import keras

    if isinstance(model._inputs_struct, dict):
        return {t.name: given[t.name] for t in model.inputs}
    return keras.tree.pack_sequence_as(model._inputs_struct, [given[t.name] for t in model.inputs])


def trace_model(
    model: "keras.Model", batch: int | None = None, length: int | None = None
) -> "tf.types.experimental.ConcreteFunction":
    """A concrete function of `model` in inference mode: inputs and outputs by name.

    Traced here, and not by `model.export`, because that leaves random augmentation layers on.

    Args:
        model: may compute in half precision; the function computes in float32.
        batch: its size, where the model leaves it open; None leaves it dynamic.
        length: of the other dimensions without a size; None leaves them dynamic.
    """
    import tensorflow as tf

    model = as_float32(model)
    signature = {
        t.name: tf.TensorSpec(
            (
                t.shape[0] or batch,
                *(length if d is None else d for d in t.shape[1:]),
            ),
            t.dtype,
            name=t.name,
        )
        for t in model.inputs
    }

    @tf.function(input_signature=[signature], jit_compile=False)
    def call(inputs: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        outputs = model(named_inputs(model, inputs), training=False)
        return {
            name: tf.identity(t, name=name) for name, t in output_tensors(model, outputs).items()
        }

    return call.get_concrete_function()


def freeze_graph(model: "keras.Model") -> FrozenGraph:
    """The frozen graph of `model`, dynamic batch, mended for tf2onnx (export/convert/repairs.py):
    weights are constants, because tf2onnx takes captured constants of a function for inputs.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = trace_model(model)
    names = [t.name for t in model.inputs]
    # As a loop a recurrent layer becomes one node of ONNX, which has no operators for what a loop
    # is lowered to.
    loops = any(
        operation.type in repairs.LOOP_OPERATORS for operation in concrete.graph.get_operations()
    )
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=not loops)
    # Flattening sorts the names of a dict, for inputs and outputs alike.
    inputs = dict(zip(sorted(names), (t.name for t in frozen.inputs), strict=True))
    outputs = dict(
        zip(sorted(concrete.structured_outputs), (t.name for t in frozen.outputs), strict=True)
    )
    definition = repairs.inline_calls(
        frozen.graph.as_graph_def(), [*inputs.values(), *outputs.values()]
    )
    for repair in (
        repairs.fourier_as_product,
        repairs.replace_erfc,
        repairs.dense_as_convolution,
        repairs.keep_dimensions,
        repairs.give_scalars_a_shape,
    ):
        repair(definition)
    return FrozenGraph(definition, inputs, outputs)
