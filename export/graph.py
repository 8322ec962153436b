"""A Keras model as TensorFlow sees it: a traced function in inference mode, and one frozen, cleaned graph.

All converters start here, so what one family of architectures needs is mended once, for all.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ExportError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["FrozenGraph", "as_float32", "freeze", "output_tensors", "trace"]

MIXED = re.compile("mixed_(float16|bfloat16)")


@dataclass(frozen=True)
class FrozenGraph:
    """A graph definition whose weights are constants; names of inputs and outputs -> names of tensors ("image:0")."""

    definition: "tf.compat.v1.GraphDef"
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def as_float32(model: "keras.Model") -> "keras.Model":
    """`model`, or the same model with float32 arithmetic where it was trained in mixed precision."""
    import keras

    if not any(MIXED.search(layer.dtype_policy.name) for layer in model._flatten_layers()):
        return model
    config = json.dumps(keras.saving.serialize_keras_object(model))
    rebuilt = keras.saving.deserialize_keras_object(json.loads(MIXED.sub("float32", config)))
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def output_tensors(model: "keras.Model", outputs) -> dict:
    """Name -> tensor for what calling `model` returned: a dict's keys, or the name of the single output's layer."""
    if isinstance(outputs, dict):
        return dict(outputs)
    if isinstance(outputs, (list, tuple)):
        return dict(zip(model.output_names, outputs, strict=True))
    return {model.output_names[0]: outputs}


def trace(model: "keras.Model", batch: int | None = None) -> "tf.types.experimental.ConcreteFunction":
    """A concrete function of `model` in inference mode: inputs and outputs by name; `batch` None leaves it dynamic.

    Traced here, and not by `model.export`, because that leaves random augmentation layers on.
    """
    import tensorflow as tf

    model = as_float32(model)
    signature = {t.name: tf.TensorSpec((batch, *t.shape[1:]), t.dtype, name=t.name) for t in model.inputs}

    @tf.function(input_signature=[signature], jit_compile=False)
    def call(inputs):
        values = [inputs[t.name] for t in model.inputs]
        outputs = model(values if len(values) > 1 else values[0], training=False)
        return {name: tf.identity(t, name=name) for name, t in output_tensors(model, outputs).items()}

    return call.get_concrete_function()


def freeze(model: "keras.Model") -> FrozenGraph:
    """The frozen graph of `model`, dynamic batch, with these repairs for tf2onnx:

    - weights are constants: tf2onnx takes captured constants of a function for inputs;
    - compiled function calls (Keras's grouped convolution) are inlined;
    - Erfc, which ONNX lacks, is 1 - Erf;
    - scalar constants of elementwise operations have shape [1], where tf2onnx's transpose optimizer needs a shape.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = trace(model)
    names = [t.name for t in model.inputs]
    frozen = convert_variables_to_constants_v2(concrete)
    # Flattening sorts the names of a dict, for inputs and outputs alike.
    inputs = dict(zip(sorted(names), (t.name for t in frozen.inputs), strict=True))
    outputs = dict(zip(sorted(concrete.structured_outputs), (t.name for t in frozen.outputs), strict=True))
    definition = _inline(frozen.graph.as_graph_def(), [*inputs.values(), *outputs.values()])
    _replace_erfc(definition)
    _give_scalars_a_shape(definition)
    return FrozenGraph(definition, inputs, outputs)


def _inline(definition, keep: list[str]):
    """Inline every function call; the mark that a call must be compiled by XLA is what keeps TensorFlow from it."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    if not definition.library.function:
        return definition
    for holder in (*definition.node, *definition.library.function):
        for mark in ("_XlaMustCompile", "_noinline"):
            holder.attr.pop(mark, None)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
        meta = tf.compat.v1.train.export_meta_graph(graph_def=graph.as_graph_def(), graph=graph)
    fetches = meta_graph_pb2.CollectionDef()
    fetches.node_list.value.extend(keep)
    meta.collection_def["train_op"].CopyFrom(fetches)
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.min_graph_nodes = -1
    config.graph_options.rewrite_options.optimizers.append("function")
    inlined = tf_optimizer.OptimizeGraph(config, meta)
    calls = [node.name for node in inlined.node if node.op.endswith("PartitionedCall")]
    if calls:
        raise ExportError(f"TensorFlow did not inline the function call '{calls[0]}', so the graph cannot be converted")
    del inlined.library.function[:]
    return inlined


def _replace_erfc(definition) -> None:
    for node in [node for node in definition.node if node.op == "Erfc"]:
        erf, one = definition.node.add(), definition.node.add()
        erf.CopyFrom(node)
        erf.name, erf.op = f"{node.name}/erf", "Erf"
        one.CopyFrom(_constant(f"{node.name}/one", 1.0, node.attr["T"].type))
        node.op = "Sub"
        node.input[:] = [one.name, erf.name]


def _give_scalars_a_shape(definition) -> None:
    import tensorflow as tf

    constants = {node.name: node for node in definition.node if node.op == "Const"}
    users: dict[str, list] = {}
    for node in definition.node:
        for name in node.input:
            users.setdefault(name.split(":")[0].lstrip("^"), []).append(node)
    ranked: Callable = lambda node: node.op in ("Add", "AddV2", "Mul", "Sub", "Maximum", "Minimum", "RealDiv")  # noqa: E731
    for name, node in constants.items():
        tensor = node.attr["value"].tensor
        scalar = not tensor.tensor_shape.dim and node.attr["dtype"].type == tf.float32.as_datatype_enum
        if scalar and users.get(name) and all(map(ranked, users[name])):
            # An operation of scalars alone has a scalar result, which must stay one.
            others = [i.split(":")[0] for user in users[name] for i in user.input if i.split(":")[0] != name]
            if not any(
                other in constants and not constants[other].attr["value"].tensor.tensor_shape.dim for other in others
            ):
                value = tf.make_ndarray(tensor).reshape(1)
                node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def _constant(name: str, value: float, kind: int):
    import tensorflow as tf

    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = kind
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype=kind, shape=(1,)))
    return node
