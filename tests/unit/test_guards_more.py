"""What a file of anyone could still do after a first look: see test_guards.py."""

import json
import zipfile

import numpy as np
import pytest

from export import operators, runtimes
from zoo import archives, keras_file
from zoo.errors import ArtifactError, ConfigError

# ---------------------------------------------------------------------------------------------------------------------
# SavedModels


def written(folder, saved):
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def with_a_saver(function, called, saver, objects):
    """A SavedModel whose saver calls `function`, a tf.function of one text, as the function `called`."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    graph = saved.meta_graphs.add()
    copy = graph.graph_def.library.function.add()
    copy.CopyFrom(function.get_concrete_function().function_def)
    copy.signature.name = called
    node = graph.graph_def.node.add(name="place", op="Placeholder")
    node.attr["dtype"].type = 7
    node = graph.graph_def.node.add(name="all", op="StatefulPartitionedCall", input=["place"])
    node.attr["f"].func.name = called
    graph.saver_def.filename_tensor_name = "place:0"
    graph.saver_def.save_tensor_name = "all:0" if saver == "save" else "place:0"
    graph.saver_def.restore_op_name = "all" if saver == "restore" else "place"
    if objects:
        graph.object_graph_def.nodes.add()
    return saved


def saves(prefix):
    import tensorflow as tf

    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
    return tf.identity(prefix)


def saves_elsewhere(prefix):
    import tensorflow as tf

    tf.raw_ops.SaveV2(prefix="/tmp/never", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
    return tf.identity(prefix)


def merges(prefix):
    import tensorflow as tf

    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[prefix], destination_prefix="/tmp/never")
    return tf.identity(prefix)


def restores(prefix):
    import tensorflow as tf

    read = tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])
    return tf.strings.join([prefix, tf.strings.as_string(read[0])])


def restores_elsewhere(prefix):
    return restores("/etc/passwd")


SAVE, RESTORE = "__inference__traced_save_1", "__inference__traced_restore_1"


@pytest.mark.parametrize(
    ("body", "called", "saver", "objects", "passes"),
    [
        (saves, SAVE, "save", True, True),
        (restores, RESTORE, "restore", True, True),
        (saves_elsewhere, SAVE, "restore", False, False),
        (saves_elsewhere, SAVE, "restore", True, False),
        (saves_elsewhere, RESTORE, "restore", True, False),
        (saves, RESTORE, "restore", True, False),
        (saves, SAVE, "save", False, False),
        (merges, SAVE, "restore", True, False),
        (merges, RESTORE, "restore", False, False),
        (restores_elsewhere, RESTORE, "restore", True, False),
        (restores, RESTORE, "restore", False, False),
        (restores, SAVE, "save", True, False),
    ],
)
def test_what_opening_calls_only_reads_the_variables(body, called, saver, objects, passes, tmp_path):
    import tensorflow as tf

    function = tf.function(body, input_signature=[tf.TensorSpec((), tf.string)])
    folder = written(tmp_path / "m", with_a_saver(function, called, saver, objects))
    if passes:
        operators.check_savedmodel(folder)
        return
    with pytest.raises(ArtifactError, match="can do more than compute.*(SaveV2|RestoreV2|MergeV2Checkpoints)"):
        operators.check_savedmodel(folder)


@pytest.mark.parametrize("where", ["graphs", "object", "gradient", "swapped"])
def test_the_functions_of_the_saver_have_no_other_use(where, tmp_path):
    import tensorflow as tf

    function = tf.function(saves, input_signature=[tf.TensorSpec((), tf.string)])
    saved = with_a_saver(function, SAVE, "save", True)
    graph = saved.meta_graphs[0]
    if where == "graphs":
        saved.meta_graphs.add()
    elif where == "object":
        graph.object_graph_def.nodes.add().function.concrete_functions.append(SAVE)
    elif where == "gradient":
        graph.graph_def.library.gradient.add(function_name="f", gradient_func=SAVE)
    else:
        graph.graph_def.library.function[0].attr["api_implements"].s = b"x"
    with pytest.raises(ArtifactError, match="SaveV2"):
        operators.check_savedmodel(written(tmp_path / "m", saved))


@pytest.mark.parametrize(
    "operator",
    ["GenerateVocabRemapping", "DecodeProtoV2", "EncodeProto", "CopyHost", "DTensorAllReduce", "ReadFile", "WriteFile"],
)
def test_an_operator_that_takes_the_name_of_a_file_or_machine_is_refused(operator, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.meta_graphs.add().graph_def.node.add(name="x", op=operator)
    with pytest.raises(ArtifactError, match=rf"{operator} \(1\): refused"):
        operators.check_savedmodel(written(tmp_path / "m", saved))


def test_operators_that_take_other_text_pass(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    for name in ("Einsum", "Conv2D", "StringSplitV2", "DecodeJpeg", "HashTableV2", "ParseExampleV2", "AsString"):
        saved.meta_graphs.add().graph_def.node.add(name="x", op=name)
    operators.check_savedmodel(written(tmp_path / "m", saved))


# ---------------------------------------------------------------------------------------------------------------------
# ONNX


def elsewhere():
    """A tensor that is kept in another file."""
    import onnx

    tensor = onnx.TensorProto(name="far", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    return tensor


def hidden(where):
    """An ONNX model with `elsewhere()` in one of the places that it can be in."""
    import onnx
    from onnx import helper

    model = helper.make_model(helper.make_graph([], "g", [], []))
    graph = model.graph
    sparse = onnx.SparseTensorProto(dims=[4])
    sparse.values.name = "here"
    if where == "branch":
        inner = helper.make_graph([], "inner", [], [])
        inner.sparse_initializer.add().values.CopyFrom(elsewhere())
        graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=inner))
    elif where == "function":
        model.functions.add().node.append(helper.make_node("Constant", [], ["x"], value=elsewhere()))
    elif where == "training":
        model.training_info.add().initialization.initializer.append(elsewhere())
    elif where in ("values", "indices"):
        getattr(sparse, where).CopyFrom(elsewhere())
        graph.sparse_initializer.append(sparse)
    else:
        sparse.values.CopyFrom(elsewhere())
        node = graph.node.add(op_type="Constant", output=["x"])
        attribute = node.attribute.add(name="value")
        if where == "attribute":
            attribute.sparse_tensor.CopyFrom(sparse)
        else:
            attribute.sparse_tensors.append(sparse)
    return model


@pytest.mark.parametrize("where", ["values", "indices", "attribute", "attributes", "branch", "function", "training"])
def test_weights_of_onnx_are_in_the_file_wherever_they_hide(where, tmp_path):
    (tmp_path / "m.onnx").write_bytes(hidden(where).SerializeToString())
    with pytest.raises(ArtifactError, match=r"keeps the weights 'far' in another file \('secret'\): refused"):
        runtimes.check_external_data(tmp_path / "m.onnx")
