"""Repairs of a frozen TensorFlow graph, so that tf2onnx writes files that run, and run fast.

Each function changes a GraphDef in place, wherever it finds its pattern, whatever the architecture.
"""

from collections.abc import Callable

from zoo.errors import ExportError

__all__ = ["dense_as_convolution", "give_scalars_a_shape", "inline", "keep_dimensions", "replace_erfc"]


def inline(definition, keep: list[str]):
    """Inline every function call (Keras's grouped convolution is one), keeping the tensors `keep`.

    The mark that a call must be compiled by XLA is what keeps TensorFlow from doing so.
    """
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


def replace_erfc(definition) -> None:
    """Erfc, which ONNX lacks, becomes 1 - Erf."""
    for node in [node for node in definition.node if node.op == "Erfc"]:
        erf, one = definition.node.add(), definition.node.add()
        erf.CopyFrom(node)
        erf.name, erf.op = f"{node.name}/erf", "Erf"
        one.CopyFrom(_constant(f"{node.name}/one", 1.0, node.attr["T"].type))
        node.op = "Sub"
        node.input[:] = [one.name, erf.name]


def give_scalars_a_shape(definition) -> None:
    """Scalar constants of elementwise operations get shape [1]: tf2onnx's transpose optimizer needs a shape."""
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


def dense_as_convolution(definition) -> None:
    """A Dense layer over feature maps (n, h, w, c) becomes a 1 x 1 convolution (ConvNeXt).

    In ONNX convolutions want channels first and a matrix product wants them last: two transpositions for each block.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in definition.node}
    for node in [node for node in definition.node if node.op == "Reshape" and node.name.endswith("/Tensordot")]:
        part = lambda name, of=node.name: nodes.get(f"{of}/{name}")  # noqa: E731
        product, moved = part("MatMul"), part("transpose")
        axes = [part(name) for name in ("free", "axes")]
        if None in (product, moved, *axes) or any(axis.op != "Const" for axis in axes):
            continue
        if [tf.make_ndarray(axis.attr["value"].tensor).tolist() for axis in axes] != [[0, 1, 2], [3]]:
            continue
        weight = product.input[1]
        kind = node.attr["T"].type
        kernel, shape = definition.node.add(), definition.node.add()
        # (c, units) -> (1, 1, c, units); Tensordot has made the weight a matrix already.
        shape.CopyFrom(_constant(f"{node.name}/kernel_shape", _kernel_shape(nodes, weight), tf.int32.as_datatype_enum))
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


def keep_dimensions(definition) -> None:
    """A mean over height and width that is shaped back to (n, 1, 1, c) keeps its dimensions (squeeze-and-excite)."""
    import tensorflow as tf

    nodes = {node.name: node for node in definition.node}
    for node in [node for node in definition.node if node.op == "Reshape"]:
        mean, shape = (nodes.get(name.split(":")[0]) for name in node.input[:2])
        if mean is None or mean.op != "Mean" or shape is None or shape.op != "Pack" or len(shape.input) != 4:
            continue
        axes, sides = nodes.get(mean.input[1]), [nodes.get(name) for name in shape.input[1:3]]
        if any(constant is None or constant.op != "Const" for constant in (axes, *sides)):
            continue
        value = lambda constant: tf.make_ndarray(constant.attr["value"].tensor).tolist()  # noqa: E731
        if value(axes) == [1, 2] and [value(side) for side in sides] == [1, 1]:
            name = node.name
            node.CopyFrom(mean)
            node.name = name
            node.attr["keep_dims"].b = True


def _kernel_shape(nodes, weight: str) -> list[int]:
    """The shape of a 1 x 1 kernel with the weights of the matrix `weight`, whose constant stands behind identities."""
    node = nodes[weight.split(":")[0]]
    while node.op == "Identity":
        node = nodes[node.input[0].split(":")[0]]
    dimensions = [d.size for d in node.attr["value"].tensor.tensor_shape.dim]
    return [1, 1, *dimensions]


def _constant(name: str, value, kind: int):
    import numpy as np
    import tensorflow as tf

    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = kind
    shape = np.shape(value) or (1,)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype=kind, shape=shape))
    return node
