"""Nothing on the disk is trusted: archives, HDF5 files, JSON, graphs and tokenizers of anyone are
refused in one line.
"""

import io
import json
import shutil
import signal
import struct
import sys
import zipfile

import h5py
import numpy as np
import pytest

from graft.export import manifest, preprocessing, sessions
from graft.export.untrusted import trial
from graft.export.untrusted.checks import check_external_data, check_untrusted
from graft.recipes.grid.ledger import read_rows
from graft.recipes.report.run_file import read_run
from graft.recipes.train import checkpoint
from graft.zoo import text
from graft.zoo.backbones import weight_files
from graft.zoo.backbones.encoders import find_encoder, load_tokenizer
from graft.zoo.errors import ArtifactError, ConfigError, WeightsError
from graft.zoo.files import archives, hdf5, keras_archives
from graft.zoo.files.reading import parse_json, path_inside, read_arrays, read_json, read_text
from tests.slow import fuzzing

# ---------------------------------------------------------------------------------------------------------------------
# JSON and text


@pytest.mark.parametrize(
    ("content", "expect", "told"),
    [
        (b"[]", dict, "it holds a list, not an object"),
        (b"null", list, "it holds nothing, not a list"),
        (b"[" * 100_000, list, "nested too deeply"),
        (b'{"a":' * 100_000, dict, "nested too deeply"),
        (b"9" * 5000, int, "digits"),
        (b'{"a": "\\ud800"}', dict, "surrogates not allowed"),
        (b"\xff\xfe{}", dict, "can't decode"),
        (b"", dict, "Expecting value"),
    ],
)
def test_json_of_anyone_is_read_or_refused_in_a_line(content, expect, told, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"a.json' is damaged \(.*{told}.*\): restore it"):
        read_json(tmp_path / "a.json", expect)


def test_text_that_is_far_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.zoo.files.reading.MAX_TEXT_BYTES", 10)
    (tmp_path / "a").write_text("x" * 11)
    with pytest.raises(ArtifactError, match="has 11 bytes, more than such a file can have"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "C:\\x", "\\x", "", "a\0b", None, 7, "link/passwd", "out"],
)
def test_a_name_stays_in_its_folder(name, tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "out").symlink_to("../elsewhere")
    with pytest.raises(ArtifactError, match="which is no file in its folder: refused"):
        path_inside(tmp_path, name, "manifest.json")
    assert path_inside(tmp_path, "model.onnx", "manifest.json") == tmp_path / "model.onnx"


# ---------------------------------------------------------------------------------------------------------------------
# Archives


def archive(path, members=None, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", how) as made:
        for name, content in (members or {"a.npy": npy(np.arange(3))}).items():
            made.writestr(name, content)
    return path


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def declare(path, size, packed=None):
    """Say another size in the directory of the archive, where readers look."""
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    struct.pack_into("<I", content, place + 24, size)
    if packed is not None:
        struct.pack_into("<I", content, place + 20, packed)
    path.write_bytes(content)
    return path


def test_an_archive_that_unpacks_to_far_more_than_it_has_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MIN_UNPACKED_BYTES", 100_000)
    place = archive(tmp_path / "a.npz", {"a.npy": npy(np.zeros(100_000))})
    with pytest.raises(
        ArtifactError, match=r"would unpack to 800,128: refused, more than 20 times"
    ):
        read_arrays(place)
    assert read_arrays(archive(tmp_path / "b.npz", {"a.npy": npy(np.zeros(10_000))}))[
        "a"
    ].shape == (10_000,)
    np.savez(tmp_path / "c.npz", a=np.zeros(100_000))  # stored, it is as large as it says
    assert read_arrays(tmp_path / "c.npz")["a"].shape == (100_000,)


def test_a_member_gives_no_more_than_it_declares(tmp_path):
    place = declare(archive(tmp_path / "a.zip", {"config.json": bytes(10**6)}), 10)
    with zipfile.ZipFile(place) as opened, pytest.raises(zipfile.BadZipFile):
        archives.read_member(opened, "config.json")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda p: archive(p, {"a.npy": b"x", "../b.npy": b"x"}), "names a file outside of itself"),
        (lambda p: archive(p, how=zipfile.ZIP_LZMA), "compressed in an unusual way"),
        (lambda p: declare(archive(p), 10**6, 10**6), "take 1,000,000 bytes"),
        (lambda p: declare(archive(p, how=zipfile.ZIP_STORED), 10**6), "has two sizes"),
        (
            lambda p: archive(p, {"a.npy": npy(np.arange(3)).replace(b"(3,), ", b"(999,),")}),
            "is shorter than its shape",
        ),
        (lambda p: archive(p, {"a.npy": npy(np.array([{}], object))}), "holds Python objects"),
        (lambda p: archive(p, {"a.npy": b"\x93NUMPY"}), "is damaged"),
        (lambda p: p.write_bytes(npy(np.arange(3))), "not a zip file"),
    ],
)
def test_an_archive_of_arrays_is_what_it_says(made, told, tmp_path):
    made(tmp_path / "a.npz")
    with pytest.raises(ArtifactError, match=told):
        read_arrays(tmp_path / "a.npz")


# ---------------------------------------------------------------------------------------------------------------------
# Weights


def external_storage(file, secret):
    file.create_dataset("kernel", (4,), np.uint8, external=[(str(secret), 0, 4)])


def external_link(file, secret):
    file["kernel"] = h5py.ExternalLink(str(secret), "/kernel")


def soft_link(file, secret):
    file["kernel"] = h5py.SoftLink("/elsewhere")


def virtual_dataset(file, secret):
    layout = h5py.VirtualLayout((4,), np.uint8)
    layout[:] = h5py.VirtualSource(str(secret), "kernel", (4,))
    file.create_virtual_dataset("kernel", layout)


def larger_than_it_looks(file, secret):
    file.create_dataset("kernel", (2**31,), np.float32)  # nothing is stored


def in_a_group(link):
    def write(file, secret):
        link(file.create_group("layers/dense/vars"), secret)

    return write


REACHING = [
    external_storage,
    external_link,
    soft_link,
    virtual_dataset,
    larger_than_it_looks,
    in_a_group(external_storage),
]


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret").write_bytes(b"abcd")
    return tmp_path / "secret"


@pytest.mark.parametrize("write", REACHING)
@pytest.mark.parametrize("name", ["a.h5", "a.weights.h5", "a.keras", "packed.keras"])
def test_weights_are_in_their_file(name, write, secret, tmp_path):
    place = tmp_path / "plain.h5"
    with h5py.File(place, "w") as file:
        write(file, secret)
    if name.endswith("keras"):
        members = {
            "config.json": "{}",
            "metadata.json": "{}",
            "model.weights.h5": place.read_bytes(),
        }
        archive(
            tmp_path / name,
            members,
            zipfile.ZIP_DEFLATED if name == "packed.keras" else zipfile.ZIP_STORED,
        )
        with pytest.raises(ArtifactError, match="refused"):
            keras_archives.check_keras_archive(tmp_path / name)
    else:
        place.rename(tmp_path / name)
    with pytest.raises(WeightsError, match="refused"), weight_files.opened_weights(tmp_path / name):
        pass


def test_whole_weights_pass(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.ones((3, 4)), compression="gzip")
        file["again"] = file["layers"]  # a plain link, and a circle
        file["layers/up"] = file
    with weight_files.opened_weights(tmp_path / "a.h5") as file:
        assert hdf5.check_hdf5(file, "a.h5", 1000) == 12
    members = {
        "config.json": '{"class_name": "x"}',
        "model.weights.h5": (tmp_path / "a.h5").read_bytes(),
    }
    keras_archives.check_keras_archive(archive(tmp_path / "a.keras", members, zipfile.ZIP_STORED))


def test_a_keras_file_holds_what_keras_writes(tmp_path):
    archive(tmp_path / "a.keras", {"config.json": "{}", "run.py": "x"})
    with pytest.raises(
        ArtifactError, match=r"no .keras file: it holds 'run.py', which does not belong there"
    ):
        keras_archives.check_keras_archive(tmp_path / "a.keras")


def test_no_layer_is_built_that_is_far_larger_than_the_weights(tmp_path):
    layer = {
        "config": {"name": "huge", "units": 10**9},
        "build_config": {"input_shape": [None, 1000]},
    }
    archive(tmp_path / "a.keras", {"config.json": json.dumps({"config": {"layers": [layer]}})})
    with pytest.raises(
        ArtifactError, match="its layer 'huge' would have 1,000,000,000,000 weights"
    ):
        keras_archives.check_keras_archive(tmp_path / "a.keras")


DENSE = {
    "class_name": "Dense",
    "config": {"name": "d", "units": 8000},
    "build_config": {"input_shape": [None, 8000]},
}
BUILT = {"build_config": {"input_shape": [None, 4, 512]}}
HUGE = {
    "many": [DENSE] * 1000,
    "no build_config": [{"class_name": "Dense", "config": {"name": "d", "units": 60_000_000}}],
    "einsum": [
        {
            "class_name": "EinsumDense",
            "config": {
                "name": "e",
                "output_shape": [None, 90_000, 900],
                "equation": "abc,cde->abde",
            },
        }
        | BUILT
    ],
    "heads": [
        {
            "class_name": "MultiHeadAttention",
            "config": {"name": "m", "num_heads": 4096, "key_dim": 4096},
        }
        | BUILT
    ],
    "depth": [
        {
            "class_name": "DepthwiseConv2D",
            "config": {"name": "c", "depth_multiplier": 10**7, "kernel_size": [3, 3]},
        }
        | BUILT
    ],
}


@pytest.mark.parametrize("layers", HUGE.values(), ids=HUGE)
def test_layers_are_reckoned_together_whatever_makes_them_large(layers, tmp_path):
    """Before, 775 bytes took 3.7 GB: each layer was looked at by itself, and some settings were
    not.
    """
    archive(tmp_path / "a.keras", {"config.json": json.dumps({"config": {"layers": layers}})})
    with pytest.raises(ArtifactError, match="would have .* weights.*, and the file holds 0"):
        keras_archives.check_keras_archive(tmp_path / "a.keras")


def test_models_as_people_build_them_are_not_too_large(tmp_path):
    import keras
    from keras import layers

    image = keras.Input((16, 16, 3))
    x = layers.SeparableConv2D(600, 3)(image)
    x = layers.SeparableConv2D(600, 3)(x)
    x = layers.Reshape((144, 600))(x)
    x = layers.MultiHeadAttention(8, 75)(x, x)
    x = layers.EinsumDense("abc,cd->abd", (None, 300))(x)
    x = layers.LSTM(64)(x)
    keras.Model(image, layers.Dense(3, "softmax")(x)).save(tmp_path / "m.keras")
    keras_archives.check_keras_archive(tmp_path / "m.keras")


def test_a_model_of_pictures_that_fill_the_memory_is_one_line(tmp_path):
    """Before, 644 GiB were asked for."""
    import keras

    from graft.zoo.heads import own_outputs

    image = keras.Input((60_000, 60_000, 3))
    keras.Model(image, keras.ops.mean(image, (1, 2))).save(tmp_path / "m.keras")
    with pytest.raises(ConfigError, match="60000"):
        own_outputs.load_own_model(
            tmp_path / "m.keras", own_outputs.Meaning(labels=("a", "b", "c"))
        )


def test_a_file_that_names_another_one_is_not_said_to_hold_code(tmp_path):
    import keras

    from graft.zoo.backbones import keras_file

    (tmp_path / "words.txt").write_text("a\nb\n")
    layer = keras.layers.StringLookup(vocabulary=["a", "b"], name="Lambda_of_unsafe")
    text = keras.Input((1,), dtype="string")
    keras.Model(text, layer(text)).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    config = json.loads(parts["config.json"])
    for part in keras_archives.json_objects(config):
        if part.get("class_name") == "StringLookup":
            part["config"]["vocabulary"] = "/etc/hostname"
    archive(tmp_path / "n.keras", {**parts, "config.json": json.dumps(config)})
    with pytest.raises(ArtifactError, match="names a file outside of itself") as caught:
        keras_file.load_keras_model(tmp_path / "n.keras")
    assert "Lambda layer" not in str(caught.value)


def test_sparse_weights_in_another_file_are_seen(tmp_path):
    import onnx
    from onnx import TensorProto, helper

    values = TensorProto(name="values", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    values.external_data.add(key="location", value="secret.bin")
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    one = helper.make_tensor_value_info("x", 1, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [one],
        [helper.make_tensor_value_info("y", 1, [1])],
    )
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert onnx.load(tmp_path / "m.onnx", load_external_data=False).graph.sparse_initializer
    with pytest.raises(ArtifactError, match="keeps the weights 'values' in another file"):
        check_external_data(tmp_path / "m.onnx")


# ---------------------------------------------------------------------------------------------------------------------
# What a run and an export say of themselves


ROW = {"format": "onnx", "path": "model.onnx", "status": "pass", "sha256": "0"}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"schema": 3},
        {"schema": "3", "files": []},
        {"schema": 3, "files": None},
        {"schema": 3, "files": {}},
        {"schema": 3, "files": [7]},
        {"schema": 3, "files": [ROW | {"path": "../run.json"}]},
        {"schema": 3, "files": [ROW | {"path": "/etc/passwd"}]},
        {"schema": 3, "files": [ROW | {"path": 7}]},
        {"schema": 3, "files": [ROW | {"size_bytes": "1"}]},
        {"schema": 3, "files": [ROW | {"accuracy": []}]},
        {"schema": 3, "files": [ROW | {"status": None}]},
        {"schema": 3, "files": [ROW], "training_data": []},
        {"schema": 2, "files": [{"format": "onnx"}]},
    ],
)
def test_a_manifest_is_of_its_form(content, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="manifest.json' (is damaged|names)"):
        manifest.read_manifest(tmp_path)


@pytest.mark.parametrize("schema", [1, 2])
@pytest.mark.parametrize(
    "content",
    [
        {"config": []},
        {"data": []},
        {"data": {"labels": "ab"}},
        {"data": {"labels": [1]}},
        {"data": {"splits": {"test": {"examples": "3"}}}},
        {"data": {"image_size": 10**9}},
        {"data": {"image_size": True}},
        {"schedule": {"phases": [7]}},
        {"metrics": {"test": []}},
        {"recipe": 7},
    ],
)
def test_a_run_is_of_its_form(content, schema, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"schema": schema, **content}))
    with pytest.raises(ArtifactError, match="run.json' is damaged"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "change", ["phase", "rows", "history", "kept", "unknown", "forms", "bytes"]
)
def test_a_checkpoint_is_of_its_form(change, tmp_path):
    made = checkpoint.Checkpoints(tmp_path)
    made.save(0, checkpoint.Checkpoint(1, 2, [np.ones(3)], rows=[{"loss": 1.0}]))
    arrays = dict(np.load(tmp_path / "seed-0.npz"))
    facts, forms = json.loads(str(arrays["facts"]))
    if change == "forms":
        forms["variables"] = [["<f4", [10**9]]]
    elif change == "bytes":
        arrays["variables"] = np.append(arrays["variables"], np.uint8(0))
    else:
        facts[change] = ["x"]
    np.savez(tmp_path / "seed-0.npz", **{**arrays, "facts": np.array(json.dumps([facts, forms]))})
    with pytest.raises(ArtifactError, match="train anew with --overwrite"):
        made.load(0)


def test_a_table_of_a_grid_with_too_many_cells_is_refused(tmp_path):
    (tmp_path / "bench.csv").write_text("cell,backbone,schedule,status\na,b,c,done,x,y\n")
    with pytest.raises(ArtifactError, match="is no table of `graft bench`"):
        read_rows(tmp_path / "bench.csv")


# ---------------------------------------------------------------------------------------------------------------------
# How examples go in: preprocessing and tokenizers


P = {"kind": "single_label", "labels": ["a", "b"]}
OF_TEXTS = {"max_length": 8, "words": None, "tokenizer": {"pad_id": 0}}


@pytest.mark.parametrize("field", ["tasks", "outputs"])
@pytest.mark.parametrize(
    ("change", "place"),
    [
        (None, "{field}"),
        ({"q": {}}, "{field}"),
        ({"p": {"kind": "x", "labels": []}}, "{field}.p.kind"),
        ({"p": P | {"labels": ["a"]}}, "{field}.p.labels"),
        ({"p": P | {"kind": "tags"}}, "{field}.p.labels"),
        ({"p": P | {"labels": "ab"}}, "{field}.p.labels"),
    ],
)
def test_what_the_outputs_mean_is_of_its_form(change, place, field):
    """An older Graft called the field "outputs"."""
    outputs, content = {"p": (2,)}, OF_TEXTS | {field: {"p": P}}
    read = preprocessing.read_preprocessing(json.dumps(content), "m.onnx", outputs, texts=True)
    assert read == content | {"tasks": {"p": P}, "modality": "text"}
    text, told = json.dumps(content | {field: change}), place.format(field=field)
    with pytest.raises(ArtifactError, match=f"'m.onnx' is damaged: expected '{told}' to be"):
        preprocessing.read_preprocessing(text, "m.onnx", outputs, texts=True)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_length": "8"}, "max_length"),
        ({"max_length": 10**12}, "max_length"),
        ({"image_size": True}, "image_size"),
        ({"words": 7}, "words"),
        ({"tokenizer": None}, "tokenizer.pad_id"),
        ({"tokenizer": {"pad_id": -1}}, "tokenizer.pad_id"),
    ],
)
def test_preprocessing_is_of_its_form(change, field):
    text = json.dumps(OF_TEXTS | {"tasks": {"p": P}} | change)
    with pytest.raises(ArtifactError, match=f"'m.onnx' is damaged: expected '{field}' to be"):
        preprocessing.read_preprocessing(text, "m.onnx", {"p": (2,)}, texts=True)


def test_the_kind_of_an_only_output_is_a_known_one():
    outputs, known = {"p": (2,)}, json.dumps({"kind": "regression"})
    read = preprocessing.read_preprocessing(known, "m.onnx", outputs, ["a", "b"])
    assert read["tasks"] == {"p": {"kind": "regression", "labels": ["a", "b"]}}
    assert read["modality"] == "image"
    with pytest.raises(ArtifactError, match="'m.onnx' is damaged: expected 'kind' to be"):
        preprocessing.read_preprocessing('{"kind": "x"}', "m.onnx", outputs)


def test_preprocessing_that_lacks_everything_is_refused():
    with pytest.raises(ArtifactError, match="damaged"):
        preprocessing.read_preprocessing("{}", "m.onnx", {"p": (2,)}, texts=True)
    with pytest.raises(ArtifactError, match="it holds a list"):
        preprocessing.read_preprocessing("[]", "m.onnx", {"p": (2,)})


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("model"),
        lambda s: s["model"].update(vocab={}),
        lambda s: s["model"].update(type="X"),
        lambda s: s["model"]["vocab"].update(x=4_000_000_000),
        lambda s: s.update(padding={"strategy": {"Fixed": 10**9}}),
        lambda s: s.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        lambda s: s.clear(),
    ],
)
def test_a_tokenizer_is_one(change):
    whole = load_tokenizer(find_encoder("graft_mini_en"))
    assert text.check_tokenizer(whole.json, whole.pad_id, "m.onnx").size == whole.size
    settings = json.loads(whole.json)
    change(settings)
    with pytest.raises(
        ArtifactError, match=r"the tokenizer.json of 'm.onnx'|m.onnx: tokenizer.json"
    ):
        text.check_tokenizer(json.dumps(settings), whole.pad_id, "m.onnx")


# ---------------------------------------------------------------------------------------------------------------------
# Runtimes


def test_what_ends_its_runtime_ends_no_command(tmp_path, monkeypatch):
    (tmp_path / "a.tflite").write_bytes(b"x" * 100)
    for kind in ("SIGSEGV", "SIGABRT"):
        died = f"import os, signal; os.kill(os.getpid(), signal.{kind})"
        monkeypatch.setattr(trial, "PYTHON_COMMAND", (sys.executable, "-c", died))
        with pytest.raises(
            ArtifactError, match=f"is damaged: its runtime ends with {kind} when it opens it"
        ):
            sessions.open_artifact(tmp_path / "a.tflite")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that ends a process")
def test_what_blocks_its_runtime_blocks_no_command(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"x" * 100)
    slept = "import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(60)"
    monkeypatch.setattr(trial, "PYTHON_COMMAND", (sys.executable, "-c", slept))
    with pytest.raises(
        ArtifactError, match=r"did not open and answer one example within 7 s: .* --trust"
    ):
        sessions.open_artifact(tmp_path / "a.onnx")


@pytest.mark.parametrize("name", ["a.tflite", "a.onnx"])
def test_the_trial_says_what_the_runtime_says(name, tmp_path):
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(
        ArtifactError, match=f"{name}' is damaged, cut short or no .*; export again"
    ):
        sessions.open_artifact(tmp_path / name)


def onnx_model(path, dims=(None, 4), **properties):
    """x -> x * weight, four outputs."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = list(dims)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["image", "weight"], ["p"])],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.ones((1,) if dims else (), np.float32), "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    said = {"labels": json.dumps(["a", "b", "c", "d"]), "preprocessing": "{}", **properties}
    helper.set_model_props(model, said)
    onnx.save_model(model, str(path))
    return model


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"labels": "a,b"}, "damaged"),
        ({"labels": "7"}, "it holds a number, not a list"),
        ({"labels": "[1, 2]"}, "expected a list of names"),
        ({"preprocessing": "["}, "damaged"),
        ({"preprocessing": '{"kind": 7}'}, "expected 'kind'"),
        ({"preprocessing": '{"outputs": []}'}, "expected 'outputs'"),
    ],
)
def test_metadata_of_onnx_are_of_their_form(properties, told, tmp_path):
    onnx_model(tmp_path / "whole.onnx")
    assert sessions.open_artifact(tmp_path / "whole.onnx").predict(
        np.ones((2, 4), np.float32)
    ).shape == (2, 4)
    onnx_model(tmp_path / "m.onnx", **properties)
    with pytest.raises(ArtifactError, match=told):
        sessions.open_artifact(tmp_path / "m.onnx")


@pytest.mark.parametrize("dims", [(), (4,), (None, 100_000, 100_000)])
def test_inputs_are_rows_of_examples_of_a_size_that_can_be(dims, tmp_path):
    onnx_model(tmp_path / "m.onnx", dims)
    with pytest.raises(ArtifactError, match=r"is damaged: its input or output 'image'"):
        sessions.open_artifact(tmp_path / "m.onnx")


def test_weights_of_onnx_are_in_the_file(tmp_path):
    import onnx

    model = onnx_model(tmp_path / "m.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "secret").write_bytes(b"abcd" * 4)
    with pytest.raises(
        ArtifactError, match=r"keeps the weights 'weight' in another file \('secret'\): refused"
    ):
        sessions.open_artifact(tmp_path / "m.onnx")


def test_a_file_that_the_manifest_vouches_for_is_not_tried(tmp_path, monkeypatch):
    onnx_model(tmp_path / "m.onnx")
    row = {
        "format": "onnx",
        "path": "m.onnx",
        "status": "pass",
        "sha256": manifest.sha256(tmp_path / "m.onnx"),
    }
    manifest.write_manifest(tmp_path, {"files": [row]})
    monkeypatch.setattr(trial, "PYTHON_COMMAND", ("false",))
    assert sessions.open_artifact(tmp_path / "m.onnx").labels == ("a", "b", "c", "d")
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="its runtime ends with code 1"):
        sessions.open_artifact(tmp_path / "m.onnx")
    assert sessions.open_artifact(tmp_path / "m.onnx", trust=True).labels == ("a", "b", "c", "d")


# ---------------------------------------------------------------------------------------------------------------------
# SavedModels


def saved_model(folder, body):
    """A SavedModel whose only function does `body`, with what Graft looks for in it."""
    import tensorflow as tf

    module = tf.Module()
    assets = folder.parent / f"{folder.name}-assets"
    assets.mkdir()
    (assets / "labels.txt").write_text("a\nb\nc\n")
    (assets / "preprocessing.json").write_text("{}")
    module.assets = [tf.saved_model.Asset(str(file)) for file in assets.iterdir()]
    module.weight = tf.Variable(tf.ones((3,)))

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="image")])
    def call(image):
        return {"p": body(tf, image) * module.weight}

    tf.saved_model.save(module, str(folder), signatures={"serving_default": call})
    return folder


def reads(tf, image):
    return image + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def writes(tf, image):
    with tf.control_dependencies([tf.io.write_file("/tmp/never", "x")]):
        return tf.identity(image)


def calls_python(tf, image):
    return tf.ensure_shape(tf.py_function(lambda x: x, [image], tf.float32), (None, 3))


def restores(tf, image):
    read = tf.raw_ops.RestoreV2(
        prefix="/x", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0]
    return tf.ensure_shape(image + read, (None, 3))


def lists_files(tf, image):
    return image + tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32)


def prints_to_a_file(tf, image):
    with tf.control_dependencies([tf.print(image, output_stream="file:///tmp/never")]):
        return tf.identity(image)


def in_a_branch(tf, image):
    return tf.cond(tf.reduce_sum(image) > 1e9, lambda: reads(tf, image), lambda: image)


BAD = [reads, writes, calls_python, restores, lists_files, prints_to_a_file, in_a_branch]


@pytest.mark.parametrize("body", BAD)
def test_operators_that_do_more_than_compute_are_refused(body, tmp_path):
    folder = saved_model(tmp_path / "m", body)
    with pytest.raises(
        ArtifactError, match=r"can do more than compute.*: refused; .*--trust opens it all the same"
    ):
        sessions.open_artifact(folder)
    assert sessions.open_artifact(folder, trust=True).labels == ("a", "b", "c")


def test_a_savedmodel_that_computes_is_opened(tmp_path):
    folder = saved_model(
        tmp_path / "m",
        lambda tf, image: tf.nn.softmax(
            tf.cond(tf.reduce_sum(image) > 0, lambda: image, lambda: -image)
        ),
    )
    assert sessions.open_artifact(folder).predict(np.ones((2, 3), np.float32)).shape == (2, 3)


def test_a_savedmodel_that_the_manifest_vouches_for_is_opened(tmp_path):
    folder = saved_model(tmp_path / "m", reads)
    row = {"format": "savedmodel", "path": "m", "status": "pass", "sha256": manifest.sha256(folder)}
    manifest.write_manifest(tmp_path, {"files": [row]})
    assert sessions.open_artifact(folder).labels == ("a", "b", "c")
    (folder / "assets" / "labels.txt").write_text("x\ny\nz\n")
    with pytest.raises(ArtifactError, match="is not the file that was exported"):
        sessions.open_artifact(folder)


def test_only_the_functions_of_the_saver_read_variables(tmp_path):
    """A function with the saver's name that something else calls too is no part of it."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder = saved_model(tmp_path / "m", restores)
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0]
    for function in graph.graph_def.library.function:
        if "call" in function.signature.name:
            old, new = function.signature.name, "__inference__traced_restore_999"
    content = (folder / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(content)
    for function in graph.meta_graphs[0].graph_def.library.function:
        if function.signature.name == old:
            function.signature.name = new
        for node in function.node_def:
            for value in node.attr.values():
                if value.func.name == old:
                    value.func.name = new
    (folder / "saved_model.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(ArtifactError, match="RestoreV2"):
        sessions.open_artifact(folder)


@pytest.mark.parametrize("how", ["saves", "both", "a name of its own"])
def test_what_reads_the_variables_does_nothing_else(how, tmp_path):
    """Before, a "restore" that held SaveV2 overwrote any file as soon as the model was opened."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder = saved_model(tmp_path / "m", lambda tf, image: image)
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (graph,) = saved.meta_graphs
    nodes = {node.name: node for node in graph.graph_def.node}
    restore, save = (
        nodes[graph.saver_def.restore_op_name],
        nodes[graph.saver_def.save_tensor_name.split(":")[0]],
    )
    named = {function.signature.name: function for function in graph.graph_def.library.function}
    reads_back = named[restore.attr["f"].func.name]
    if how == "saves":
        function = graph.graph_def.library.function.add()
        function.CopyFrom(named[save.attr["f"].func.name])
        function.signature.name = "__inference__traced_save_777"
        restore.attr["f"].func.name = function.signature.name
    elif how == "both":
        graph.saver_def.save_tensor_name = f"{graph.saver_def.restore_op_name}:0"
    else:
        next(node for node in reads_back.node_def if node.op == "RestoreV2").input[0] = (
            "constant:output:0"
        )
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ArtifactError, match="SaveV2|RestoreV2"):
        check_untrusted(folder, trust=False)


@pytest.mark.parametrize("how", ["link", "second graph", "asset", "cut"])
def test_a_savedmodel_is_one_folder_with_one_graph(how, tmp_path):
    folder = saved_model(tmp_path / "m", lambda tf, image: image)
    if how == "link":
        (folder / "assets" / "passwd.txt").symlink_to("/etc/passwd")
    elif how == "second graph":
        shutil.copy(folder / "saved_model.pb", folder / "saved_model.cpb")
    elif how == "cut":
        content = (folder / "saved_model.pb").read_bytes()
        (folder / "saved_model.pb").write_bytes(content[: len(content) // 2])
    else:
        from tensorflow.core.protobuf import saved_model_pb2

        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        saved.meta_graphs[0].asset_file_def[0].filename = "../../x"
        (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(ArtifactError, match="refused|damaged"):
        sessions.open_artifact(folder)


# ---------------------------------------------------------------------------------------------------------------------
# A few of the mutated files of tests/slow/test_fuzz.py, each time


@pytest.mark.parametrize("kind", ["tokenizer", "h5", "images"])
def test_a_few_mutated_files(kind, tmp_path):
    import random

    from PIL import Image

    base = tmp_path / "base.png"
    if kind == "tokenizer":
        base = tmp_path / "tokenizer.json"
        base.write_text(load_tokenizer(find_encoder("graft_mini_en")).json, encoding="utf-8")
    elif kind == "h5":
        base = tmp_path / "a.h5"
        with h5py.File(base, "w") as file:
            file.create_dataset("layers/dense/vars/0", data=np.ones((30, 4)), compression="gzip")
    else:
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(base)
    mutate, opener = fuzzing.KINDS[kind]
    for number in range(40):
        place = tmp_path / f"{number}{base.suffix}"
        place.write_bytes(mutate(base.read_bytes(), random.Random(number)))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            fuzzing._refusable(lambda place=place: opener(place, tmp_path))


def test_parse_json_takes_several_types():
    assert parse_json("[1]", "x", (dict, list)) == [1]
    with pytest.raises(ArtifactError, match="not an object or a list"):
        parse_json("1", "x", (dict, list))
    assert issubclass(ConfigError, ValueError)
