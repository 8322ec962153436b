"""The real command line, on terminals of all kinds and with names of all kinds."""

import csv
import json
import os

import numpy as np
import pytest

from tests.integration.conftest import here

NAME = "\x1b[31m[red]é你\t=1.png"
SHOWN = r"\x1b[31m[red]é你\t=1.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A .onnx file of pictures whose labels are no plain text: the mean of each colour."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["chw"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["scaled"]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 8, 8, 3])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 3])],
    )
    graph.node.insert(0, helper.make_node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]))
    graph.node.append(helper.make_node("Softmax", ["scaled"], ["p"]))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    properties = {
        "labels": json.dumps(["[/red]\x1b[2J", "=green", "blue\u202e"]),
        "preprocessing": "{}",
    }
    helper.set_model_props(made, properties)
    file = tmp_path_factory.mktemp("terminal") / "model.onnx"
    onnx.save_model(made, str(file))
    return file


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("[bold]")
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 1] = 200
    Image.fromarray(pixels).save(folder / NAME)
    (folder / "bad\n\x1b]0;x.png").write_bytes(b"x")
    return folder


def test_names_and_labels_are_shown_in_any_encoding(graft, model, photos, tmp_path):
    done = graft("predict", model, photos, "--out", tmp_path / "a.csv", PYTHONIOENCODING="utf-8")
    assert done.returncode == 1
    assert done.stdout == (
        f"{photos / SHOWN}\t=green 1.000\t[/red]\\x1b[2J 0.000\tblue\\u202e 0.000\n"
    )
    assert r"bad\n\x1b]0;x.png' is not a readable image" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["label"] == "'=green"
    for encoding in ("ascii", "cp1252"):
        done = graft("predict", model, photos, "--json", "--skip-bad", PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert [os.path.basename(row["input"]) for row in json.loads(done.stdout)] == [NAME]
        assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_may_be_of_any_width(graft, model):
    done = graft("measure", model, COLUMNS="3", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "model.onnx" in done.stdout
    for columns in ("0", "2", "99999999"):
        done = graft("predict", "--help", COLUMNS=columns, PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines())) <= 1000


def test_the_line_of_an_error_is_one_line(graft):
    done = graft("evaluate", "no\nsuch\x1b[31m", "--data", "x", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith(r"graft evaluate: there is no artifact 'no\nsuch\x1b[31m'")
    assert len(done.stderr.splitlines()) == 1
    assert graft("a\x1b").stderr.startswith(r"graft a\x1b: no command is called")


def test_a_savedmodel_that_reads_files_needs_trust(photos, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    (tmp_path / "preprocessing.json").write_text("{}")
    module.assets = [
        tf.saved_model.Asset(str(tmp_path / name)) for name in ("labels.txt", "preprocessing.json")
    ]

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="image")])
    def call(image):
        length = tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32)
        return {"p": tf.nn.softmax(tf.reduce_mean(image, (1, 2)) + length)}

    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": call})
    done = here("predict", tmp_path / "m", photos / NAME)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ReadFile (1): refused" in done.stderr
    assert done.stderr.count("\n") == 1
    assert here("predict", tmp_path / "m", photos / NAME, "--trust").returncode == 0
