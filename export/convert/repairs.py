"""Repairs of a frozen TensorFlow graph, so that tf2onnx writes files that run, and run fast.

Each function changes a GraphDef in place, wherever it finds its pattern, whatever the architecture.
"""

from graft.zoo.errors import ExportError

__all__ = [
    "LOOPS",
    "dense_as_convolution",
    "fourier_as_product",
    "give_scalars_a_shape",
    "inline",
    "keep_dimensions",
    "replace_erfc",
]

LOOPS = ("While", "StatelessWhile")
"""What recurrent layers are made of."""

ELEMENTWISE = ("Add", "AddV2", "Mul", "Sub", "Maximum", "Minimum", "RealDiv")


def inline(definition, keep: list[str]):
    """Inline every function call (Keras's grouped convolution is one), keeping the tensors `keep`.

    The mark that a call must be compiled by XLA is what keeps TensorFlow from doing so. Of a
    spectrogram, what depends on no input (windows, filters) is computed: ONNX lacks some of the
    operators that make it.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.grappler import tf_optimizer

    spectrogram = any(node.op == "RFFT" for node in definition.node)
    loops = any(node.op in LOOPS for node in definition.node)
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
    """Scalar constants that are combined with tensors get shape [1]: tf2onnx's transpose optimizer
    needs a shape.
    """
    import tensorflow as tf

    graph = _imported(definition)
    users: dict[str, list] = {}
    for node in definition.node:
        for name in node.input:
            users.setdefault(name.split(":")[0].lstrip("^"), []).append(node)

    def elementwise(node) -> bool:
        # An operation of scalars alone has a scalar result, which must stay one.
        rank = (
            graph.get_operation_by_name(node.name).outputs[0].shape.rank
            if node.op in ELEMENTWISE
            else None
        )
        return bool(rank)

    for node in [node for node in definition.node if node.op == "Const"]:
        tensor = node.attr["value"].tensor
        scalar = (
            not tensor.tensor_shape.dim and node.attr["dtype"].type == tf.float32.as_datatype_enum
        )
        if scalar and users.get(node.name) and all(map(elementwise, users[node.name])):
            value = tf.make_ndarray(tensor).reshape(1)
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def dense_as_convolution(definition) -> None:
    """A Dense layer over feature maps (n, h, w, c) becomes a 1 x 1 convolution (ConvNeXt).

    In ONNX convolutions want channels first and a matrix product wants them last: two
    transpositions for each block.
    """
    import tensorflow as tf

    nodes = {node.name: node for node in definition.node}
    for node in [
        node
        for node in definition.node
        if node.op == "Reshape" and node.name.endswith("/Tensordot")
    ]:
        part = lambda name, of=node.name: nodes.get(f"{of}/{name}")  # noqa: E731
        product, moved = part("MatMul"), part("transpose")
        axes = [part(name) for name in ("free", "axes")]
        if None in (product, moved, *axes) or any(axis.op != "Const" for axis in axes):
            continue
        if [tf.make_ndarray(axis.attr["value"].tensor).tolist() for axis in axes] != [
            [0, 1, 2],
            [3],
        ]:
            continue
        weight = product.input[1]
        kind = node.attr["T"].type
        kernel, shape = definition.node.add(), definition.node.add()
        # (c, units) -> (1, 1, c, units); Tensordot has made the weight a matrix already.
        shape.CopyFrom(
            _constant(
                f"{node.name}/kernel_shape", _kernel_shape(nodes, weight), tf.int32.as_datatype_enum
            )
        )
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
    """A mean over height and width that is shaped back to (n, 1, 1, c) keeps its dimensions
    (squeeze-and-excite).
    """
    import tensorflow as tf

    nodes = {node.name: node for node in definition.node}
    for node in [node for node in definition.node if node.op == "Reshape"]:
        mean, shape = (nodes.get(name.split(":")[0]) for name in node.input[:2])
        if (
            mean is None
            or mean.op != "Mean"
            or shape is None
            or shape.op != "Pack"
            or len(shape.input) != 4
        ):
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


def fourier_as_product(definition) -> None:
    """RFFT, which ONNX lacks, becomes two matrix products where only its real and imaginary parts
    or its absolute value are used (spectrograms). The matrices have frame x (frame / 2 + 1) values
    each: 1 MB for frames of 512 samples.
    """
    import numpy as np
    import tensorflow as tf

    transforms = [node for node in definition.node if node.op == "RFFT"]
    if not transforms:
        return
    nodes = {node.name: node for node in definition.node}
    graph = _imported(definition)
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
            constant.CopyFrom(
                _constant(f"{node.name}/{name}/matrix", matrix, tf.float32.as_datatype_enum)
            )
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


def _absolute(definition, user, parts) -> None:
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


def _imported(definition):
    """A TensorFlow graph of `definition`, in which every tensor has its inferred shape."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    return graph


def _used(definition, name: str) -> bool:
    return any(
        name in (i.split(":")[0].lstrip("^") for i in node.input) for node in definition.node
    )


def _kernel_shape(nodes, weight: str) -> list[int]:
    """The shape of a 1 x 1 kernel with the weights of the matrix `weight`, whose constant stands
    behind identities.
    """
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
