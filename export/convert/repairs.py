"""Repairs of a frozen TensorFlow graph, so that tf2onnx writes files that run, and run fast.

Each function changes a GraphDef in place, wherever it finds its pattern, whatever the architecture.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from graft.zoo.errors import ExportError

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.compat.v1 import GraphDef, NodeDef

__all__ = [
    "LOOP_OPERATORS",
    "dense_as_convolution",
    "fourier_as_product",
    "give_scalars_a_shape",
    "import_graph",
    "inline_calls",
    "keep_dimensions",
    "replace_erfc",
]

LOOP_OPERATORS = ("While", "StatelessWhile")
"""What recurrent layers are made of."""

ELEMENTWISE_OPERATORS = ("Add", "AddV2", "Mul", "Sub", "Maximum", "Minimum", "RealDiv")


def inline_calls(definition: "GraphDef", keep: Iterable[str]) -> "GraphDef":
    """Inline every function call (Keras's grouped convolution is one), keeping the tensors `keep`.

    The mark that a call must be compiled by XLA is what keeps TensorFlow from doing so. Of a
    spectrogram, what depends on no input (windows, filters) is computed: ONNX lacks some of the
    operators that make it.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    spectrogram = any(node.op == "RFFT" for node in definition.node)
    loops = any(node.op in LOOP_OPERATORS for node in definition.node)
    called = any(node.op.endswith("PartitionedCall") for node in definition.node)
    if not spectrogram and not (called if loops else definition.library.function):
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
    config.graph_options.rewrite_options.optimizers.extend(
        ["function", *(["constfold"] if spectrogram else [])]
    )
    inlined = tf_optimizer.OptimizeGraph(config, meta)
    calls = [node.name for node in inlined.node if node.op.endswith("PartitionedCall")]
    if calls:
        raise ExportError(
            f"TensorFlow did not inline the function call '{calls[0]}', so the graph cannot be "
            "converted"
        )
    if not loops:  # whose bodies are functions
        del inlined.library.function[:]
    return inlined


def replace_erfc(definition: "GraphDef") -> None:
    """Erfc, which ONNX lacks, becomes 1 - Erf."""
    for node in [node for node in definition.node if node.op == "Erfc"]:
        erf, one = definition.node.add(), definition.node.add()
        erf.CopyFrom(node)
        erf.name, erf.op = f"{node.name}/erf", "Erf"
        one.CopyFrom(_constant(f"{node.name}/one", 1.0, node.attr["T"].type))
        node.op = "Sub"
        node.input[:] = [one.name, erf.name]


def give_scalars_a_shape(definition: "GraphDef") -> None:
    """Scalar constants that are combined with tensors get shape [1]: tf2onnx's transpose optimizer
    needs a shape.
    """
    import tensorflow as tf

    graph = import_graph(definition)
    users: dict[str, list[NodeDef]] = {}
    for node in definition.node:
        for name in node.input:
            users.setdefault(_node_name(name), []).append(node)

    def elementwise(node: "NodeDef") -> bool:
        # An operation of scalars alone has a scalar result, which must stay one.
        if node.op not in ELEMENTWISE_OPERATORS:
            return False
        return bool(graph.get_operation_by_name(node.name).outputs[0].shape.rank)

    for node in [node for node in definition.node if node.op == "Const"]:
        tensor = node.attr["value"].tensor
        scalar = (
            not tensor.tensor_shape.dim and node.attr["dtype"].type == tf.float32.as_datatype_enum
        )
        if scalar and users.get(node.name) and all(map(elementwise, users[node.name])):
            tensor.CopyFrom(tf.make_tensor_proto(tf.make_ndarray(tensor).reshape(1)))


def dense_as_convolution(definition: "GraphDef") -> None:
    """A Dense layer over feature maps (n, h, w, c) becomes a 1 x 1 convolution (ConvNeXt).

    In ONNX convolutions want channels first and a matrix product wants them last: two
    transpositions for each block.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in definition.node}
    ends = [n for n in definition.node if n.op == "Reshape" and n.name.endswith("/Tensordot")]
    for node in ends:
        product, moved, free, axes = (
            nodes.get(f"{node.name}/{part}") for part in ("MatMul", "transpose", "free", "axes")
        )
        if product is None or moved is None:
            continue
        if _constant_value(free) != [0, 1, 2] or _constant_value(axes) != [3]:
            continue
        weight = product.input[1]
        kind = node.attr["T"].type
        kernel, shape = definition.node.add(), definition.node.add()
        # (c, units) -> (1, 1, c, units); Tensordot has made the weight a matrix already.
        sides = _kernel_shape(nodes, weight)
        shape.CopyFrom(_constant(f"{node.name}/kernel_shape", sides, tf.int32.as_datatype_enum))
        kernel.name, kernel.op = f"{node.name}/kernel", "Reshape"
        kernel.input[:] = [weight, shape.name]
        kernel.attr["T"].type = kind
        kernel.attr["Tshape"].type = tf.int32.as_datatype_enum
        node.op = "Conv2D"
        node.input[:] = [moved.input[0], kernel.name]
        node.attr.clear()
        node.attr["T"].type = kind
        node.attr["strides"].list.i.extend([1, 1, 1, 1])
        node.attr["dilations"].list.i.extend([1, 1, 1, 1])
        node.attr["padding"].s = b"SAME"
        node.attr["data_format"].s = b"NHWC"


def keep_dimensions(definition: "GraphDef") -> None:
    """A mean over height and width that is shaped back to (n, 1, 1, c) keeps its dimensions
    (squeeze-and-excite).
    """
    nodes = {node.name: node for node in definition.node}
    for node in [node for node in definition.node if node.op == "Reshape"]:
        mean, shape = (nodes.get(name.split(":")[0]) for name in node.input[:2])
        if mean is None or mean.op != "Mean" or shape is None or shape.op != "Pack":
            continue
        if len(shape.input) != 4 or _constant_value(nodes.get(mean.input[1])) != [1, 2]:
            continue
        if all(_constant_value(nodes.get(side)) == 1 for side in shape.input[1:3]):
            name = node.name
            node.CopyFrom(mean)
            node.name = name
            node.attr["keep_dims"].b = True


def fourier_as_product(definition: "GraphDef") -> None:
    """RFFT, which ONNX lacks, becomes two matrix products where only its real and imaginary parts
    or its absolute value are used (spectrograms). The matrices have frame x (frame / 2 + 1) values
    each: 1 MB for frames of 512 samples.
    """
    import tensorflow as tf

    transforms = [node for node in definition.node if node.op == "RFFT"]
    if not transforms:
        return
    nodes = {node.name: node for node in definition.node}
    graph = import_graph(definition)
    for node in transforms:
        users = [
            user
            for user in definition.node
            if node.name in (name.split(":")[0] for name in user.input)
        ]
        length = int(tf.make_ndarray(nodes[node.input[1]].attr["value"].tensor).item())
        frame = graph.get_operation_by_name(node.name).inputs[0].shape[-1]
        if frame is None or any(user.op not in ("Real", "Imag", "ComplexAbs") for user in users):
            continue
        # A frame that is shorter than the transform is padded with zeros, a longer one cut: rows
        # that are not needed.
        angles = 2 * np.pi * np.outer(np.arange(length), np.arange(length // 2 + 1)) / length
        parts = {}
        for name, wave in (("Real", np.cos(angles)), ("Imag", -np.sin(angles))):
            matrix = np.zeros((frame, length // 2 + 1), np.float32)
            matrix[:length] = wave[:frame]
            constant, product = definition.node.add(), definition.node.add()
            kind = tf.float32.as_datatype_enum
            constant.CopyFrom(_constant(f"{node.name}/{name}/matrix", matrix, kind))
            product.name, product.op = f"{node.name}/{name}", "BatchMatMulV2"
            product.input[:] = [node.input[0], constant.name]
            product.attr["T"].type = tf.float32.as_datatype_enum
            parts[name] = product.name
        for user in users:
            if user.op == "ComplexAbs":
                _absolute(definition, user, parts)
            else:
                source = parts[user.op]
                user.attr.clear()
                user.attr["T"].type = tf.float32.as_datatype_enum
                user.op = "Identity"
                user.input[:] = [source]
    remaining = [
        node for node in definition.node if node not in transforms or _used(definition, node.name)
    ]
    del definition.node[:]
    definition.node.extend(remaining)


def _absolute(definition: "GraphDef", user: "NodeDef", parts: Mapping[str, str]) -> None:
    """Turn `user`, which takes the absolute value of a complex number, into the root of a sum of
    squares.
    """
    import tensorflow as tf

    def add(name: str, op: str, *inputs: str) -> str:
        node = definition.node.add()
        node.name, node.op = f"{user.name}/{name}", op
        node.input[:] = inputs
        node.attr["T"].type = tf.float32.as_datatype_enum
        return node.name

    squares = [add(f"{name}/square", "Square", part) for name, part in parts.items()]
    total = add("sum", "AddV2", *squares)
    user.attr.clear()
    user.attr["T"].type = tf.float32.as_datatype_enum
    user.op = "Sqrt"
    user.input[:] = [total]


def import_graph(definition: "GraphDef") -> "tf.Graph":
    """A TensorFlow graph of `definition`, in which every tensor has its inferred shape."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    return graph


def _node_name(tensor: str) -> str:
    """The node whose output an input of another node is, or which it waits for."""
    return tensor.split(":")[0].lstrip("^")


def _used(definition: "GraphDef", name: str) -> bool:
    return any(name in map(_node_name, node.input) for node in definition.node)


def _constant_value(node: "NodeDef | None") -> object:
    """The value of a constant as numbers and lists; None of any other node."""
    import tensorflow as tf

    if node is None or node.op != "Const":
        return None
    return tf.make_ndarray(node.attr["value"].tensor).tolist()


def _kernel_shape(nodes: "Mapping[str, NodeDef]", weight: str) -> list[int]:
    """The shape of a 1 x 1 kernel with the weights of the matrix `weight`, whose constant stands
    behind identities.
    """
    node = nodes[weight.split(":")[0]]
    while node.op == "Identity":
        node = nodes[node.input[0].split(":")[0]]
    dimensions = [d.size for d in node.attr["value"].tensor.tensor_shape.dim]
    return [1, 1, *dimensions]


def _constant(name: str, value: float | list[int] | np.ndarray, kind: int) -> "NodeDef":
    import tensorflow as tf

    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = kind
    shape = np.shape(value) or (1,)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype=kind, shape=shape))
    return node
