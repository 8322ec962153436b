"""What a file of anyone could still do after a first look: see test_guards.py."""

import json
import zipfile

import numpy as np
import pytest

from graft.export.untrusted.checks import check_external_data
from graft.export.untrusted.operators import check_savedmodel
from graft.zoo.backbones import keras_file
from graft.zoo.backbones.own import own_input_shape
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files import keras_archives
from graft.zoo.heads import own_outputs

# ---------------------------------------------------------------------------------------------------------------------
# SavedModels


def written(folder, saved):
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def with_a_saver(function, called, saver, objects):
    """A SavedModel whose saver calls `function`, a tf.function of one text, as the function
    `called`.
    """
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

    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
    )
    return tf.identity(prefix)


def saves_elsewhere(prefix):
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix="/tmp/never", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)]
    )
    return tf.identity(prefix)


def merges(prefix):
    import tensorflow as tf

    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=[prefix], destination_prefix="/tmp/never")
    return tf.identity(prefix)


def restores(prefix):
    import tensorflow as tf

    read = tf.raw_ops.RestoreV2(
        prefix=prefix, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    )
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
def test_what_opening_calls_only_reads_the_variables(
    body, called, saver, objects, passes, tmp_path
):
    import tensorflow as tf

    function = tf.function(body, input_signature=[tf.TensorSpec((), tf.string)])
    folder = written(tmp_path / "m", with_a_saver(function, called, saver, objects))
    if passes:
        check_savedmodel(folder)
        return
    with pytest.raises(
        ArtifactError, match="can do more than compute.*(SaveV2|RestoreV2|MergeV2Checkpoints)"
    ):
        check_savedmodel(folder)


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
        check_savedmodel(written(tmp_path / "m", saved))


@pytest.mark.parametrize(
    "operator",
    [
        "GenerateVocabRemapping",
        "DecodeProtoV2",
        "EncodeProto",
        "LoadAndRemapMatrix",
        "CopyHost",
        "DTensorAllReduce",
        "ReadFile",
        "WriteFile",
    ],
)
def test_an_operator_that_takes_the_name_of_a_file_or_machine_is_refused(operator, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    saved.meta_graphs.add().graph_def.node.add(name="x", op=operator)
    with pytest.raises(ArtifactError, match=rf"{operator} \(1\): refused"):
        check_savedmodel(written(tmp_path / "m", saved))


def test_operators_that_take_other_text_pass(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    of_texts = (
        "WordpieceTokenizeWithOffsets",
        "StringSplitV2",
        "HashTableV2",
        "AsString",
    )  # the first looks in a table
    for name in ("Einsum", "Conv2D", "DecodeJpeg", "ParseExampleV2", *of_texts):
        saved.meta_graphs.add().graph_def.node.add(name="x", op=name)
    check_savedmodel(written(tmp_path / "m", saved))


# ---------------------------------------------------------------------------------------------------------------------
# ONNX


def elsewhere():
    """A tensor that is kept in another file."""
    import onnx

    tensor = onnx.TensorProto(
        name="far", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL
    )
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
        model.functions.add().node.append(
            helper.make_node("Constant", [], ["x"], value=elsewhere())
        )
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


@pytest.mark.parametrize(
    "where", ["values", "indices", "attribute", "attributes", "branch", "function", "training"]
)
def test_weights_of_onnx_are_in_the_file_wherever_they_hide(where, tmp_path):
    (tmp_path / "m.onnx").write_bytes(hidden(where).SerializeToString())
    with pytest.raises(
        ArtifactError, match=r"keeps the weights 'far' in another file \('secret'\): refused"
    ):
        check_external_data(tmp_path / "m.onnx")


# ---------------------------------------------------------------------------------------------------------------------
# Keras files


def keras_config(path, layers, **members):
    """A .keras file with this list of layers and no weights."""
    config = {
        "module": "keras",
        "class_name": "Sequential",
        "registered_name": None,
        "config": {"name": "s", "layers": layers},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": "x"}))
        archive.writestr("config.json", json.dumps(config))
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return path


def layer(kind, shape=None, **settings):
    built = {} if shape is None else {"build_config": {"input_shape": shape}}
    config = {"name": kind.lower(), **settings}
    return {
        "module": "keras.layers",
        "class_name": kind,
        "registered_name": None,
        "config": config,
        **built,
    }


@pytest.mark.parametrize(
    "layers",
    [
        [layer("Dense", [None, 8000], units=8000)] * 2,
        [layer("Dense", units=60_000_000)],
        [layer("EinsumDense", [None, 1000], equation="ab,bc->ac", output_shape=10**9)],
        [
            layer(
                "EinsumDense",
                [None, 7, 1000],
                equation="...b,bcd->...cd",
                output_shape=[7, 1000, 1000],
            )
        ],
        [layer("MultiHeadAttention", num_heads=100_000, key_dim=100_000)],
        [layer("DepthwiseConv2D", kernel_size=[1000, 1000], depth_multiplier=10_000)],
        [
            layer(
                "SeparableConv1D",
                [None, 9, 1000],
                kernel_size=1000,
                depth_multiplier=1000,
                filters=1,
            )
        ],
        [layer("Embedding", [None, 1], input_dim=10**6, output_dim=1000)],
        [layer("Bidirectional", layer=layer("LSTM", [None, 5, 10**5], units=10**5))],
        [layer("Dense", [None, 8000], units=8e9)],
    ],
)
def test_layers_are_no_larger_together_than_the_weights(layers, tmp_path):
    with pytest.raises(
        ArtifactError, match=r"is damaged: its layer '\w+' would have [\d,]+ weights.*holds 0"
    ):
        keras_archives.check_keras_archive(keras_config(tmp_path / "a.keras", layers))


@pytest.mark.parametrize(
    "layers",
    [
        [layer("Embedding", [None, 100_000], input_dim=30_000, output_dim=768)],
        [layer("Conv2D", [None, 7, 7, 2048], filters=2048, kernel_size=[3, 3], groups=32)] * 20,
        [layer("BertBackbone", vocabulary_size=30_000, hidden_dim=768, intermediate_dim=3072)],
        [layer("Dense", [None, 1000], units=1000)] * 50,
        [layer("MultiHeadAttention", num_heads=12, key_dim=64)],
        [layer("Rescaling", scale=1e300, offset=True)],
    ],
)
def test_layers_of_the_size_of_models_pass(layers, tmp_path):
    keras_archives.check_keras_archive(keras_config(tmp_path / "a.keras", layers))


def test_no_more_weights_are_built_than_the_file_can_mean(tmp_path, monkeypatch):
    """Where the file leaves away how large the input of each layer is."""
    import keras

    monkeypatch.setattr(keras_archives, "MIN_WEIGHTS_ALLOWED", 20_000)
    model = keras.Sequential(
        [keras.Input((100,)), *[keras.layers.Dense(100, name=f"d{i}") for i in range(9)]]
    )
    layers = [entry | {"build_config": None} for entry in model.get_config()["layers"]]
    path = keras_config(tmp_path / "a.keras", layers)
    before = keras.Layer.add_weight
    with pytest.raises(
        ArtifactError,
        match=r"with its layer 'd\d' it would have 2\d,\d00 weights, far more than it holds",
    ):
        keras_file.load_keras_model(path)
    assert keras.Layer.add_weight is before


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            layer("StringLookup", vocabulary="/etc/passwd"),
            r"names a file .*'/etc/passwd', the vocabulary of its StringL",
        ),
        (
            layer("TextVectorization", vocabulary="words.txt"),
            r"names a file outside of itself \('words.txt'",
        ),
        (
            layer("SentencePieceTokenizer", proto="/etc/passwd"),
            r"outside of itself \('/etc/passwd', the proto of its",
        ),
        (
            layer("TFSMLayer", filepath="/m"),
            r"names a file outside of itself \('/m', the filepath of its TFSMLayer",
        ),
        (
            layer("TimeDistributed", layer=layer("StringLookup", vocabulary="x")),
            r"outside of itself \('x'",
        ),
        (
            layer("Lambda", function={"class_name": "__lambda__", "config": {}}),
            r"holds Python code \(a Lambda layer\)",
        ),
        (layer("TorchModuleWrapper", module={}), "holds a module of PyTorch"),
    ],
)
def test_what_a_keras_file_reaches_for_is_named(entry, told, tmp_path):
    with pytest.raises(ArtifactError, match=told + ".*: refused"):
        keras_file.load_keras_model(keras_config(tmp_path / "a.keras", [entry]))


def test_a_word_in_the_name_of_a_layer_is_no_lambda_layer(tmp_path):
    broken = layer("Dense", units=-1) | {"config": {"name": "unsafe_Lambda_safe_mode", "units": -1}}
    with pytest.raises(ArtifactError, match="cannot be loaded: "):
        keras_file.load_keras_model(keras_config(tmp_path / "a.keras", [broken]))


def own_model(path, side, end):
    import keras

    image = keras.Input((side, side, 3))
    keras.Model(image, end(keras, image)).save(path)
    return path


def test_no_picture_is_made_that_fills_the_memory(tmp_path):
    path = own_model(
        tmp_path / "m.keras", 60_000, lambda k, x: k.layers.GlobalMaxPooling2D()(x) * 1.0
    )
    with pytest.raises(
        ConfigError,
        match=r"one image is \(60000, 60000, 3\), which has more than 33,554,432 numbers",
    ):
        own_outputs.load_own_model(path, own_outputs.Meaning(labels=("a", "b", "c")))
    with pytest.raises(ConfigError, match="more than 33,554,432 numbers"):
        own_input_shape(path)


def test_a_model_that_fills_the_memory_is_refused_in_a_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise np._core._exceptions._ArrayMemoryError((8, 9), np.dtype("float32"))

    path = own_model(tmp_path / "m.keras", 8, lambda k, x: k.layers.GlobalMaxPooling2D()(x) * 1.0)
    monkeypatch.setattr("keras.Model.__call__", full)
    with pytest.raises(
        ConfigError, match=r"m.keras' cannot answer an image of \(8, 8, 3\): Unable to allocate"
    ):
        own_outputs.load_own_model(path, own_outputs.Meaning(labels=("a", "b", "c")))
