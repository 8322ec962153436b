"""Export on a tiny model that has what breaks converters: grouped convolution, exact GELU,
hard-swish, scalars.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from graft.export import manifest, sessions
from graft.export.convert.graph import as_float32, freeze_graph, trace_model
from graft.export.convert.onnx import convert_to_onnx, write_onnx
from graft.export.convert.tflite import convert_to_tflite
from graft.export.export import Examples, ExportSettings, Subject, export_model
from graft.export.manifest import Description
from graft.export.parity import parity
from graft.recipes.codecs.images import Images
from graft.recipes.runs.session import OpenedModel
from graft.zoo.backbones.keras_file import load_keras_model
from graft.zoo.errors import ArtifactError, CheckFailed, ConfigError, ExportError, UnknownName
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from graft.zoo.heads.regression import REGRESSION
from graft.zoo.heads.single_label import SINGLE_LABEL
from graft.zoo.heads.table import find_kind

LABELS = ("ant", "bee", "crêpe")
PREPROCESSING = {"resize": "stretch to a square"}


def difficult_backbone():
    """A few hundred weights, one of each kind of trouble."""
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(keras.ops.take(inputs, [2, 1, 0], axis=-1))
    x = layers.RandomFlip("horizontal")(
        x
    )  # a user's own model may have it inside; it must not ship
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("hard_swish")(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    x = layers.Multiply()([x, gate])
    y = layers.Conv2D(8, 3, padding="same", groups=8)(
        x
    )  # runs as a compiled function inside TensorFlow's graph
    y = layers.LayerNormalization(epsilon=1e-6)(y)
    y = layers.Dense(8)(layers.Activation("gelu")(layers.Dense(16)(y)))
    return keras.Model(inputs, layers.Add()([x, y]), name="difficult")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    made = stack(difficult_backbone(), [heads.single_label(LABELS, dropout=0.3)])
    for layer in made.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0  # one pass sets the statistics to those of real inputs
    made(pixels(), training=True)
    return made


def pixels(count=64, seed=0):
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 3))
    return np.float32(coarse.repeat(4, 1).repeat(4, 2))


MEASURED = {
    "latency_ms": {"one_thread": {"median": 1.0, "p90": 1.0, "runs": 1, "threads": 1}},
    "peak_memory_bytes": 1,
}
DESCRIPTION = Description("difficult", list(LABELS), PREPROCESSING, (0, 255))
TASKS = {"probabilities": {"kind": "single_label", "labels": list(LABELS)}}


def subject(examples, description=DESCRIPTION, kinds=None, **more):
    """Examples of a model that chooses one label."""
    return Subject(description, kinds or {"probabilities": SINGLE_LABEL}, examples, **more)


@pytest.fixture(scope="module")
def quick():
    """Without the processes in which files are timed; test_probe.py starts them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.export.probe.measure_file", lambda path: MEASURED)
        yield


@pytest.fixture(scope="module")
def exported(model, quick, tmp_path_factory):
    """(folder, manifest, the rows as they were reported)"""
    folder = tmp_path_factory.mktemp("export") / "out"
    rows = []
    content = export_model(
        model,
        folder,
        subject(Examples(pixels()), training_data={"fingerprint": "abc"}),
        report=rows.append,
    )
    return folder, content, rows


FILES = {"savedmodel": "savedmodel", "tflite": "model.tflite", "onnx": "model.onnx"}


def test_all_formats_pass(model, exported):
    folder, content, rows = exported
    assert rows == content["files"] == manifest.read_manifest(folder)["files"]
    assert [row["format"] for row in rows] == list(FILES)
    reference = model(pixels(), training=False).numpy()
    assert reference.std(0).min() > 1e-3, "outputs that vary, or the comparison says nothing"
    for row in rows:
        assert row["passed"]
        assert row["parity"]["max_abs_diff"] <= 1e-4
        assert row["parity"]["agreement"] == 1
        assert row["parity"]["compared"] >= 60
        assert row["sha256"] == manifest.sha256(folder / row["path"])
    assert content["training_data"] == {"fingerprint": "abc"}
    assert content["preprocessing"] == {**PREPROCESSING, "tasks": TASKS}
    assert content["tasks"] == TASKS
    assert content["inputs"] == [{"name": "image", "shape": [None, 16, 16, 3], "dtype": "float32"}]
    assert content["outputs"][0]["name"] == "probabilities"
    assert (folder / "labels.txt").read_text(encoding="utf-8").split() == list(LABELS)


@pytest.mark.parametrize("kind", FILES)
def test_files_answer_by_name_for_any_batch_and_always_the_same(model, exported, kind):
    session = sessions.open_artifact(exported[0] / FILES[kind])
    assert session.format == kind
    assert session.labels == LABELS
    assert session.input_shape == (16, 16, 3)
    assert session.outputs == ("probabilities",)
    for count in (1, 3):
        first, second = (session.predict(pixels(count, seed=5)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, model(pixels(count, seed=5), training=False), atol=1e-4)
    with pytest.raises(ConfigError, match="has shape"):
        session.predict(np.zeros((1, 8, 8, 3), "float32"))
    with pytest.raises(ConfigError, match="has the inputs"):
        session.predict({"picture": pixels(1)})


def test_onnx_is_what_it_says(exported):
    import onnx

    content = onnx.load(exported[0] / "model.onnx")
    assert [entry.version for entry in content.opset_import if entry.domain in ("", "ai.onnx")] == [
        18
    ]
    assert [value.name for value in content.graph.input] == ["image"]
    assert [value.name for value in content.graph.output] == ["probabilities"]
    assert content.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    properties = {entry.key: entry.value for entry in content.metadata_props}
    assert json.loads(properties["labels"]) == list(LABELS)
    assert json.loads(properties["preprocessing"]) == {**PREPROCESSING, "tasks": TASKS}
    assert not {node.op_type for node in content.graph.node} & {
        "Random",
        "RandomUniform",
        "Bernoulli",
    }


def test_tflite_is_what_it_says(exported):
    from ai_edge_litert.interpreter import Interpreter

    path = exported[0] / "model.tflite"
    interpreter = Interpreter(model_path=str(path))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
    }
    operators = {detail["op_name"] for detail in interpreter._get_ops_details()}
    assert not [name for name in operators if name.startswith("Flex") or name == "CUSTOM"]
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split() == list(LABELS)


def test_savedmodel_holds_each_variable_once(model, exported):
    import tensorflow as tf

    folder = exported[0] / "savedmodel"
    stored = tf.train.list_variables(str(folder / "variables" / "variables"))
    sizes = [int(np.prod(shape)) for name, shape in stored if "CHECKPOINTABLE" not in name]
    assert sum(sizes) == sum(int(np.prod(v.shape)) for v in model.variables)
    assert (folder / "assets" / "labels.txt").read_text(encoding="utf-8").split() == list(LABELS)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_small_files_open_without_tensorflow(exported, kind):
    code = (
        "import sys, numpy as np\nfrom graft.export.sessions import open_artifact\n"
        f"print(open_artifact({str(exported[0] / FILES[kind])!r}).predict(np.zeros((2, 16, 16, 3), "
        "'float32')).shape)\n"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["(2, 3)", "[]"]


def test_a_keras_file_is_an_artifact_too(model, tmp_path):
    model.save(tmp_path / "m.keras")
    with pytest.raises(ArtifactError, match=r"labels of .* are missing: expected .*labels\.txt"):
        sessions.open_artifact(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("ant\nbee\n")
    with pytest.raises(ArtifactError, match="has 2 labels, but 3 outputs"):
        sessions.open_artifact(tmp_path / "m.keras")
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat\n")
    session = sessions.open_artifact(tmp_path / "m.keras")
    np.testing.assert_allclose(
        session.predict(pixels(4)), model(pixels(4), training=False), atol=1e-6
    )


def test_mixed_precision_is_exported_in_float32(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = stack(difficult_backbone(), [heads.single_label(LABELS)])
    finally:
        keras.config.set_dtype_policy(before)
    plain = as_float32(mixed)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    for a, b in zip(mixed.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    write_onnx(convert_to_onnx(mixed), tmp_path / "m.onnx", DESCRIPTION)
    outputs = sessions.open_artifact(tmp_path / "m.onnx").predict(pixels(4))
    np.testing.assert_allclose(outputs, plain(pixels(4), training=False), atol=1e-4)
    assert as_float32(plain) is plain


def test_several_outputs_keep_their_names():
    made = stack(
        difficult_backbone(),
        [heads.single_label(LABELS, name="kind"), heads.regression(["age"], name="age")],
    )
    assert set(trace_model(made).structured_outputs) == {"kind", "age"}


def test_labels_belong_to_the_output_that_they_name():
    outputs = {
        "kind": {"labels": ["a", "b"], "kind": "single_label"},
        "age": {"labels": ["age"], "kind": "regression"},
    }
    described = Description("m", ["a", "b"], {"tasks": outputs})
    assert described.labels_of("kind") == ["a", "b"]
    assert described.labels_of("age") == []
    assert Description("m", ["a", "b"], {}).labels_of("probabilities") == ["a", "b"]


def test_what_a_run_states_may_differ_by_near_ties_alone(quick, tmp_path):
    """Before, one answer that another machine had rounded otherwise refused the whole export."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="image")
    made = stack(keras.Model(inputs, layers.Conv2D(4, 3)(inputs)), [heads.single_label(["a", "b"])])
    dense = next(layer for layer in reversed(made.layers) if isinstance(layer, layers.Dense))
    description, settings = Description("m", ["a", "b"], {}, (0, 255)), ExportSettings(("onnx",))
    truth = np.eye(2, dtype=np.float32)[made.predict(pixels(30), verbose=0).argmax(-1)]
    off = subject(Examples(pixels(30), truth, stated={"probabilities": 1 - 1 / 30}), description)
    with pytest.raises(
        CheckFailed, match=r"states a validation accuracy of 96.7 % .* reaches 100.0 %"
    ):
        export_model(made, tmp_path / "a", off, settings)
    for value in dense.weights:
        value.assign(np.zeros(value.shape))  # all of its answers are ties
    (row,) = export_model(made, tmp_path / "b", off, settings)["files"]
    assert row["passed"]


def test_a_manifest_is_json_whatever_a_file_answers(tmp_path):
    assert manifest.write_manifest(tmp_path, {"files": [{"value": float("nan")}]})["files"] == [
        {"value": None}
    ]
    manifest.write_manifest(
        tmp_path, {"files": [{"parity": {"max_abs_diff": float("nan")}, "shape": (1, 2)}]}
    )
    written = (tmp_path / "manifest.json").read_text()
    assert json.loads(written, parse_constant=pytest.fail)["files"][0] == {
        "parity": {"max_abs_diff": None},
        "shape": [1, 2],
    }


def test_a_task_without_answers_is_measured_by_the_others(quick, tmp_path):
    inputs = keras.Input((16, 16, 3), name="image")
    made = stack(
        keras.Model(inputs, layers.Conv2D(4, 3)(inputs)),
        [
            heads.single_label(["a", "b"], name="kind"),
            heads.regression(["age"], name="age"),
        ],
    )
    told = {"kind": np.full((4, 2), np.nan, np.float32), "age": np.float32([[1], [2], [3], [4]])}
    outputs = {
        "kind": {"labels": ["a", "b"], "kind": "single_label"},
        "age": {"labels": ["age"], "kind": "regression"},
    }
    description = Description("m", ["a", "b"], {"tasks": outputs}, (0, 255))
    kinds = {"kind": SINGLE_LABEL, "age": REGRESSION}
    asked, settings = (
        subject(Examples(pixels(4), told), description, kinds),
        ExportSettings(("onnx",)),
    )
    (row,) = export_model(made, tmp_path / "a", asked, settings)["files"]
    assert list(row["accuracy_of_outputs"]) == ["age"]
    assert row["passed"]
    told["age"][:] = np.nan
    with pytest.raises(ConfigError, match="none of the examples has an answer"):
        export_model(made, tmp_path / "b", asked, settings)
    assert not (tmp_path / "b").exists()


def test_a_format_that_fails_is_a_row_and_the_others_go_on(model, quick, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ExportError("no operator for this")

    monkeypatch.setattr("graft.export.convert.tflite.save_as_savedmodel", fail)
    content = export_model(
        model,
        tmp_path / "out",
        subject(Examples(pixels(4))),
        ExportSettings(("tflite", "onnx"), ("float16",)),
    )
    assert [row["passed"] for row in content["files"]] == [False, True, True]
    assert content["files"][0]["error"] == "no operator for this"


def test_a_wrong_file_fails_its_check_and_stays(model, quick, tmp_path, monkeypatch):
    # The same graph, other weights.
    monkeypatch.setattr(
        "graft.export.convert.onnx.freeze_graph",
        lambda model: freeze_graph(keras.models.clone_model(model)),
    )
    (row,) = export_model(
        model,
        tmp_path / "out",
        subject(Examples(pixels(16))),
        ExportSettings(("onnx",)),
    )["files"]
    assert not row["passed"]
    assert row["parity"]["max_abs_diff"] > 1e-3
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_what_tflite_lacks_is_refused_by_name():
    inputs = keras.Input((16,), name="signal")
    real, imaginary = keras.ops.fft((inputs, inputs))
    made = keras.Model(inputs, layers.Dense(2, name="probabilities")(real + imaginary))
    with pytest.raises(ExportError, match="TFLite has no built-in operator for .*FFT"):
        convert_to_tflite(made)


def test_requests_that_make_no_sense(model, tmp_path):
    def export(examples=2, **options):
        asked = subject(Examples(pixels(examples)))
        export_model(model, tmp_path / "out", asked, ExportSettings(**options))

    with pytest.raises(UnknownName, match="Did you mean 'tflite'"):
        export(formats=("tflit",))
    with pytest.raises(UnknownName, match="Did you mean 'int8'"):
        export(precisions=("int9",))
    with pytest.raises(ConfigError, match="at least one example"):
        export(examples=0)
    with pytest.raises(ConfigError, match="int8 needs examples to calibrate with"):
        export(precisions=("int8-full",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["tflite", "onnx", "keras"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_files_cut_short_are_one_line(model, exported, tmp_path, kind, share):
    path = tmp_path / f"m.{kind}"
    if kind == "keras":
        model.save(path)
    else:
        shutil.copy(exported[0] / FILES[kind], path)
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=f"m.{kind}") as caught:
        sessions.open_artifact(path)
    assert "\n" not in str(caught.value)


def test_a_keras_file_with_code_in_it_is_refused(tmp_path):
    inputs = keras.Input((2,))
    keras.Model(inputs, layers.Lambda(lambda x: x)(inputs)).save(tmp_path / "m.keras")
    with pytest.raises(ArtifactError, match="holds Python code .* refused"):
        load_keras_model(tmp_path / "m.keras")


def test_other_things_are_no_artifacts(tmp_path):
    with pytest.raises(ArtifactError, match="there is no artifact"):
        sessions.open_artifact(tmp_path / "no.onnx")
    with pytest.raises(ArtifactError, match="the folder .* is no artifact"):
        sessions.open_artifact(tmp_path)
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(ArtifactError, match="is no artifact: expected a run"):
        sessions.open_artifact(tmp_path / "a.pth")
    (tmp_path / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="damaged"):
        sessions.open_artifact(tmp_path)


def test_manifests_of_another_time(exported, tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no manifest\.json"):
        manifest.read_manifest(tmp_path)
    content = json.loads((exported[0] / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content | {"schema": 99}))
    with pytest.raises(ArtifactError, match="schema 99"):
        manifest.read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        manifest.read_manifest(tmp_path)


def probabilities(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_parity_finds_what_it_should():
    logits = np.random.default_rng(0).normal(size=(32, 5))
    good = probabilities(logits)
    assert parity(good, good).passed
    assert parity(good, probabilities(logits + 1e-6)).passed
    off = parity(good, probabilities(logits * 1.01))
    assert not off.passed
    assert off.agreement == 1
    shuffled = parity(good, good[:, [1, 0, 2, 3, 4]])
    assert shuffled.agreement < 1
    assert not shuffled.passed
    assert not parity(good, good * np.nan).passed


def test_parity_is_not_blind_to_a_constant_model():
    """Outputs that hardly vary agree to 1e-4 whatever happens; their logits do not."""
    logits = np.random.default_rng(0).normal(size=(32, 5)) * 1e-4
    result = parity(probabilities(logits), probabilities(logits[::-1]))
    assert result.max_abs_diff <= 1e-4
    assert not result.passed


def test_ties_do_not_count():
    reference = np.array([[0.5, 0.5], [0.9, 0.1]])
    result = parity(reference, reference + np.array([[-1e-6, 1e-6], [0, 0]]))
    assert (result.compared, result.agreement) == (1, 1.0)
    assert result.passed


@pytest.mark.parametrize("kind", ["multi_label", "regression", "embedding"])
def test_parity_of_other_heads(kind):
    values = np.random.default_rng(0).uniform(0.05, 0.95, (32, 4))
    assert parity(values, values + 1e-7, find_kind(kind)).passed
    assert not parity(values, values + 0.01, find_kind(kind)).passed


def test_examples_are_measured_in_batches(exported):
    session = sessions.open_artifact(exported[0] / "model.onnx")
    opened, values = OpenedModel.of(session), np.uint8(pixels(40))
    answers = session.predict(np.float32(values))
    targets = {"probabilities": np.eye(3, dtype="float32")[answers.argmax(-1)]}
    outputs = opened.outputs(Images(values, targets, tuple(map(str, range(40)))))
    np.testing.assert_allclose(outputs["probabilities"], answers, atol=1e-6)
    assert opened.tasks.figures(outputs, targets)["tasks"]["probabilities"]["accuracy"] == 1


def runs_in_onnx(made, *values):
    """The largest difference between Keras and the ONNX model in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(convert_to_onnx(made))
    given = {t.name: value for t, value in zip(made.inputs, values, strict=True)}
    reference = made(values if len(values) > 1 else values[0], training=False)
    return float(np.abs(session.run(None, given)[0] - reference).max())


@pytest.mark.parametrize("frame", [256, 200])
def test_spectrograms_become_matrix_products(frame):
    signal = np.random.default_rng(0).normal(size=(2, 2000)).astype("float32")
    inputs = keras.Input((2000,), name="signal")
    real, imaginary = keras.ops.stft(inputs, frame, 100, 256)
    assert runs_in_onnx(keras.Model(inputs, keras.ops.sqrt(real**2 + imaginary**2)), signal) < 1e-4
    mel = layers.MelSpectrogram(
        fft_length=256, sequence_stride=100, sampling_rate=8000, num_mel_bins=20
    )(inputs)
    assert runs_in_onnx(keras.Model(inputs, mel), signal) < 1e-3  # decibels, to 100


def test_the_absolute_value_of_a_transform():
    import tensorflow as tf

    from graft.export.convert import repairs

    with tf.Graph().as_default() as graph:
        signal = tf.compat.v1.placeholder(tf.float32, (None, 30), name="signal")
        tf.identity(tf.abs(tf.signal.rfft(signal, [32])), name="out")
    definition = graph.as_graph_def()
    values = np.random.default_rng(0).normal(size=(3, 30)).astype("float32")
    repairs.fourier_as_product(definition)
    assert not any(node.op in ("RFFT", "ComplexAbs") for node in definition.node)
    with tf.compat.v1.Session(graph=repairs.import_graph(definition)) as session:
        np.testing.assert_allclose(
            session.run("out:0", {"signal:0": values}), np.abs(np.fft.rfft(values, 32)), atol=1e-4
        )


def test_dense_over_feature_maps_and_squeeze_excite_need_no_transposition():
    import onnx

    x = inputs = keras.Input((16, 16, 3), name="image")
    for _ in range(3):
        y = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(8, 1)(x))
        y = layers.Activation("gelu")(layers.Dense(16)(layers.LayerNormalization()(y)))
        gate = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(y))
        x = y * layers.Conv2D(16, 1, activation="hard_sigmoid")(
            layers.Activation("hard_swish")(gate)
        )
    made = keras.Model(inputs, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(x)))
    nodes = [node.op_type for node in onnx.load_from_string(convert_to_onnx(made)).graph.node]
    assert nodes.count("Transpose") <= 2
    assert (
        nodes.count("HardSwish")
        == nodes.count("HardSigmoid")
        == nodes.count("GlobalAveragePool")
        == 3
    )
    assert "Reshape" not in nodes
    assert "Clip" not in nodes
    assert runs_in_onnx(made, pixels(4)) < 1e-4


def test_zeros_around_negative_values_stay_the_maximum():
    """onnxruntime would draw the padding into the pooling, where it counts as minus infinity."""
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.MaxPooling2D(3, 2)(
        layers.ZeroPadding2D(1)(layers.Conv2D(2, 1, use_bias=False)(inputs))
    )
    made = keras.Model(inputs, layers.Flatten(name="out")(x))
    made.layers[1].kernel.assign(-np.eye(2)[None, None])
    values = np.random.default_rng(0).uniform(1, 9, (2, 8, 8, 2)).astype("float32")
    assert made(values).numpy().max() == 0
    assert runs_in_onnx(made, values) < 1e-5
