"""`graft predict` on many inputs, and the whole command line on models of one's own."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from graft.zoo import vision
from tests.conftest import WORDS
from tests.tiny import HEAD, pictures

pytestmark = pytest.mark.usefixtures("quick_probe")


@pytest.fixture
def shots(photo_folder, tmp_path):
    """Two good pictures with a bad one between them."""
    folder = tmp_path / "shots"
    folder.mkdir()
    shutil.copy(photo_folder / "left" / "00.png", folder / "a.png")
    (folder / "b.png").write_bytes(b"nothing")
    shutil.copy(photo_folder / "right" / "00.png", folder / "c.png")
    return folder


def test_one_bad_picture_does_not_take_the_others_away(call, artifacts, shots):
    """Before, there was no output at all."""
    code, out, lines = call("predict", artifacts["onnx"], shots)
    assert code == 1
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(shots / "a.png"),
        str(shots / "c.png"),
    ]
    assert "b.png' is not a readable image" in lines[0]
    assert "1 of 3 could not be read" in lines[1]
    code, out, lines = call(
        "predict", artifacts["onnx"], shots, shots / "no.png", "--skip-bad", "--json"
    )
    assert code == 0
    assert [row["input"] for row in json.loads(out)] == [str(shots / "a.png"), str(shots / "c.png")]
    assert [("b.png" in line, "no.png" in line) for line in lines] == [(True, False), (False, True)]
    code, out, _ = call("predict", artifacts["onnx"], shots / "b.png", shots / "no.png", "--json")
    assert (code, json.loads(out)) == (2, [])


def test_patterns_and_lists(call, artifacts, shots, stdin):
    code, out, lines = call("predict", artifacts["onnx"], f"{shots}/[ac].png", f"{shots}/x*.png")
    assert (code, len(out.splitlines())) == (1, 2)
    assert "nothing fits the pattern" in lines[0]
    stdin(f"{shots}/a.png\r\n\n{shots}/c.png".encode())
    code, out, _ = call("predict", artifacts["onnx"], "-")
    assert (code, len(out.splitlines())) == (0, 2)
    odd = shots / "a[1].png"
    shutil.copy(shots / "a.png", odd)
    assert call("predict", artifacts["onnx"], odd)[1].startswith(f"{odd}\t")
    (shots / "empty").mkdir()
    assert "holds no images" in call("predict", artifacts["onnx"], shots / "empty")[2][0]
    assert call("predict", artifacts["onnx"])[0] == 2


def test_results_come_as_they_are_made(call, artifacts, shots, monkeypatch):
    monkeypatch.setattr("graft.recipes.commands.predict.BATCH", 1)
    monkeypatch.setattr("graft.recipes.codecs.pixels.AT_A_TIME", 1)
    decoded = vision.decode_image

    def stop_at_the_last(file, size, fit):
        if file.name == "c.png":
            raise KeyboardInterrupt
        return decoded(file, size, fit)

    monkeypatch.setattr("graft.recipes.codecs.images.decode_image", stop_at_the_last)
    code, out, _ = call("predict", artifacts["onnx"], shots, "--json")
    assert code == 130
    assert [row["input"] for row in json.loads(out)] == [str(shots / "a.png")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_one_after_the_other_is_answered_and_ends_it(artifacts, shots, number):
    """Before, the first answer came with the 32nd question; and a process whose thread waits for
    stdin has to end all the same.
    """
    command = [sys.executable, "-m", "graft", "predict", str(artifacts["tflite"]), "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, **pipes, text=True, env=environment) as process:
        timer = threading.Timer(120, process.kill)
        timer.start()
        for name in ("a.png", "c.png", "a.png"):
            process.stdin.write(f"{shots / name}\n")
            process.stdin.flush()
            assert process.stdout.readline().startswith(f"{shots / name}\t")
        process.send_signal(number)
        assert process.wait() == 128 + number
        assert process.stdout.read() == ""
        assert "Fatal" not in process.stderr.read()
        timer.cancel()


def test_answers_go_into_tables(call, artifacts, shots, tmp_path):
    odd = shots / 'd,"e".png'
    shutil.copy(shots / "a.png", odd)
    table = tmp_path / "answers.csv"
    code, out, _ = call(
        "predict", artifacts["onnx"], shots / "a.png", odd, "--out", table, "--json"
    )
    assert code == 0
    rows = list(csv.DictReader(table.open(newline="")))
    assert list(rows[0]) == [
        "input",
        "label",
        "probability",
        "score_left",
        "score_right",
        "score_top",
    ]
    for row, answer in zip(rows, json.loads(out), strict=True):
        assert (row["input"], row["label"]) == (answer["input"], answer["label"])
        assert float(row["probability"]) == answer["probability"]
    lines = tmp_path / "answers.jsonl"
    assert (
        call("predict", artifacts["onnx"], shots / "a.png", shots / "b.png", "--out", lines)[0] == 1
    )
    assert json.loads(lines.read_text())["scores"].keys() == {"left", "right", "top"}
    assert "exists already" in call("predict", artifacts["onnx"], shots, "--out", table)[2][0]
    assert (
        "is no table"
        in call("predict", artifacts["onnx"], shots, "--out", tmp_path / "a.txt")[2][0]
    )
    assert (
        "is a folder"
        in call("predict", artifacts["onnx"], shots, "--out", _made(tmp_path / "f.csv"))[2][0]
    )
    assert (
        call("predict", artifacts["onnx"], shots / "a.png", "--out", table, "--overwrite")[0] == 0
    )
    assert len(table.read_text().splitlines()) == 2


def _made(folder):
    folder.mkdir()
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# Texts


@pytest.fixture(scope="module")
def mail(tiny_encoder, made_once):
    """A run that tags things with an @ or a $ in them, and was trained to 16 tokens."""
    from graft.recipes.token_classification import Config, main

    def make(folder):
        with (folder / "mail.conll").open("w") as file:
            for i in range(60):
                thing = (
                    (f"{WORDS[i % 9]}@{WORDS[i % 7]}.com", "B-EMAIL")
                    if i % 2
                    else (f"${i}.50", "B-MONEY")
                )
                tagged = (("the", "O"), thing, ("runs", "O"))
                file.writelines(f"{word} {tag}\n" for word, tag in tagged)
                file.write("\n")
        main(
            Config(
                data=str(folder / "mail.conll"),
                out=folder / "run",
                backbone=str(tiny_encoder),
                epochs=1,
                max_length=16,
                schedule="feature_extraction",
            )
        )

    return made_once("mail", make) / "run"


def test_words_of_a_text_are_those_of_the_training_file(call, mail):
    """Before, bob@post.com was five words."""
    assert json.loads((mail / "preprocessing.json").read_text())["words"] == "punctuation"
    (row,) = json.loads(call("predict", mail, "the red@box.com, runs", "--json")[1])
    assert row["words"] == ["the", "red@box.com", ",", "runs"]
    (row,) = json.loads(call("predict", mail, "the  red@box.com, runs", "--json", "--words")[1])
    assert row["words"] == ["the", "red@box.com,", "runs"]
    (row,) = json.loads(
        call("predict", mail, '["the", "New York", "red@box.com,"]', "--json", "--words")[1]
    )
    assert (row["input"], row["words"]) == (
        "the New York red@box.com,",
        ["the", "New York", "red@box.com,"],
    )
    assert all(row["input"][e["start"] : e["end"]] == e["text"] for e in row["entities"])


def test_artifacts_of_before_are_read_as_before(call, mail, tmp_path):
    shutil.copytree(mail, tmp_path / "run")
    described = json.loads((mail / "preprocessing.json").read_text())
    (tmp_path / "run" / "preprocessing.json").write_text(json.dumps(described | {"words": True}))
    (row,) = json.loads(call("predict", tmp_path / "run", "a red@box.com", "--json")[1])
    assert row["words"] == ["a", "red", "@box.com"]


def test_what_lies_behind_the_longest_text_is_said(call, mail, stdin):
    stdin(("the red box " * 20 + "\nthe red box\n").encode())
    code, out, lines = call("predict", mail, "-", "--json")
    assert code == 0
    assert [row.get("truncated", False) for row in json.loads(out)] == [True, False]
    assert "1 of 2 texts are longer than the 16 tokens" in lines[0]


def test_lines_of_stdin_end_at_newlines_alone(call, mail, stdin):
    stdin("\ufeffthe red\u2028box\r\nthe\x85box\nthe\x0cbox\rthe ball\n\n".encode() + b"\xff\n")
    code, out, lines = call("predict", mail, "-", "--json")
    assert code == 1
    assert [row["input"] for row in json.loads(out)] == [
        "the red\u2028box",
        "the\x85box",
        "the\x0cbox\rthe ball",
    ]
    assert "line 4 of stdin is empty" in lines[0]
    assert "line 5 of stdin, byte 1: 0xff is not UTF-8" in lines[1]


def test_files_of_texts_are_read(call, mail, tmp_path, monkeypatch):
    """Before, the name of the file was labelled."""
    table = tmp_path / "reviews.csv"
    table.write_text('said,text\nx,"the red, box"\nx,\nx,a ball\n')
    code, out, lines = call("predict", mail, table, "--json")
    assert (code, [row["input"] for row in json.loads(out)]) == (1, ["the red, box", "a ball"])
    assert "line 3" in lines[0]
    assert [
        r["input"]
        for r in json.loads(call("predict", mail, table, "--json", "--text-column", "said")[1])
    ] == ["x"] * 3
    code, _, (line,) = call("predict", mail, table, "--text-column", "tweet")
    assert code == 2
    assert "has no column 'tweet'" in line
    assert "--text-column" in line
    (tmp_path / "lines.txt").write_bytes(b"the red\r\na ball\n")
    assert [
        r["input"] for r in json.loads(call("predict", mail, tmp_path / "lines.txt", "--json")[1])
    ] == [
        "the red",
        "a ball",
    ]
    (tmp_path / "words.jsonl").write_text('{"text": ["a", "red@box.com,", "New York"]}\n')
    (row,) = json.loads(call("predict", mail, tmp_path / "words.jsonl", "--json")[1])
    assert (row["input"], row["words"]) == (
        "a red@box.com, New York",
        ["a", "red@box.com,", "New York"],
    )
    answers = tmp_path / "answers.csv"
    assert call("predict", mail, "the red box", "the red box " * 20, "--out", answers)[0] == 0
    assert [row["truncated"] for row in csv.DictReader(answers.open())] == ["False", "True"]
    for name, message in (("no.csv", "there is no file"), (str(tmp_path), "is a folder")):
        code, _, (line,) = call("predict", mail, name)
        assert code == 2
        assert message in line
    (tmp_path / "red").write_text("x")
    (tmp_path / "a.pdf").write_text("x")
    monkeypatch.chdir(tmp_path)
    code, out, (line,) = call("predict", mail, "red")
    assert (code, out.split("\t")[0]) == (0, "red")
    assert "is also the name of a file here: taken for a text" in line
    assert "is a '.pdf' file: expected texts" in call("predict", mail, "a.pdf")[2][0]
    assert call("predict", mail, "please read no.csv")[0] == 0


def test_words_are_for_models_that_tag(call, artifacts, shots):
    assert (
        "--words is for models that tag words"
        in call("predict", artifacts["onnx"], shots, "--words")[2][0]
    )


# ---------------------------------------------------------------------------------------------------------------------
# Models of one's own


@pytest.fixture
def own(tmp_path):
    """Saves a Sequential model that tells left, right and top, or left and right with one unit: a
    ridge regression on pixels from 0 to 1. It takes 0 to 255, or, where it is not `scaled`, 0 to 1,
    and is blind to what lies above.
    """

    def make(units, activation, *, scaled=True):
        data = pictures(120)
        classes = data.targets[HEAD.name].argmax(-1)
        chosen = classes < max(2, units)
        x = data.pixels[chosen].reshape(sum(chosen), -1) / 255
        y = np.eye(3)[classes[chosen]] if units > 1 else classes[chosen, None] - 0.5
        centre = x.mean(0)
        x = x - centre
        weights = 20 * x.T @ np.linalg.solve(x @ x.T + np.eye(len(x)), y - y.mean(0))
        first = layers.Rescaling(1 / 255) if scaled else layers.ReLU(max_value=1.0)
        last = layers.Dense(units, activation)
        model = keras.Sequential([keras.Input((16, 16, 3)), first, layers.Flatten(), last])
        last.set_weights([weights, -centre @ weights])
        model.save(tmp_path / "m.keras")
        return tmp_path / "m.keras"

    return make


def test_logits_end_as_probabilities_in_every_file(call, own, photo_folder, tmp_path):
    """Before, they were values, and "accuracy 100.0 %" was how near the files' values were to
    Keras's.
    """
    path = own(3, None)
    said = ("--labels", "left,right,top", "--outputs", "logits")
    code, out, _ = call(
        "export",
        path,
        "--data",
        photo_folder,
        "--formats",
        "onnx",
        "--out",
        tmp_path / "out",
        *said,
    )
    assert code == 0
    assert "validation accuracy 100.0 %" in out
    assert "warning" not in out
    picture = photo_folder / "top" / "03.png"
    rows = [
        json.loads(call("predict", file, picture, "--json", *options)[1])[0]
        for file, options in ((path, said), (tmp_path / "out" / "model.onnx", ()))
    ]
    assert [row["label"] for row in rows] == ["top", "top"]
    assert rows[0]["scores"] == pytest.approx(rows[1]["scores"], abs=1e-5)
    assert sum(rows[0]["scores"].values()) == pytest.approx(1)
    found = json.loads(call("evaluate", path, "--data", photo_folder, "--json", *said)[1])
    assert found["accuracy"] == 1.0
    assert found["examples"] == 60
    (row,) = json.loads(call("measure", path, "--data", photo_folder, "--json", *said)[1])
    assert (row["accuracy"], row["error"]) == (1.0, None)
    for verb in (("predict", path, picture), ("evaluate", path, "--data", photo_folder)):
        code, _, (line,) = call(*verb, "--labels", "left,right,top")
        assert code == 2
        assert "--outputs logits" in line


def test_one_unit_is_measured_with_two_folders(call, own, photo_folder, tmp_path):
    data = tmp_path / "two"
    for name in ("left", "right"):
        shutil.copytree(photo_folder / name, data / name)
    path = own(1, "sigmoid")
    for labels in ("left,right", "right"):
        found = json.loads(call("evaluate", path, "--data", data, "--json", "--labels", labels)[1])
        assert found["accuracy"] == 1.0
        assert set(found["per_class"]) == {"left", "right"}
        given = ("--data", data, "--labels", labels, "--formats", "onnx", "--overwrite")
        assert call("export", path, *given)[0] == 0
        (row,) = json.loads(
            call("predict", tmp_path / "export" / "model.onnx", data / "left" / "01.png", "--json")[
                1
            ]
        )
        assert row["label"] == "left"
        assert row["probability"] > 0.5
    code, _, (*_, line) = call("evaluate", path, "--data", photo_folder, "--labels", "right")
    assert code == 2
    assert "both names have to be known" in line


def test_pixels_from_0_to_1_are_asked_about_and_made_in_the_file(call, own, photo_folder, tmp_path):
    """Before, it was exported at chance, and passed."""
    given = ("--data", photo_folder, "--labels", "left,right,top")
    path, of_export = own(3, "softmax", scaled=False), ("--formats", "onnx", "--overwrite")
    for verb, *options in (("export", *of_export), ("evaluate",)):
        code, _, lines = call(verb, path, *given, *options)
        assert code == 0
        assert (
            "does it expect pixels from 0 to 255? with --input-range 0..1 it is right on 100.0%"
            in lines[-1]
        )
    code, out, lines = call("export", path, *given, *of_export, "--input-range", "0..1")
    assert (code, lines) == (0, [])
    assert "validation accuracy 100.0 %" in out
    file, picture = tmp_path / "export" / "model.onnx", photo_folder / "left" / "01.png"
    (row,) = json.loads(call("predict", file, picture, "--json")[1])
    assert row["label"] == "left"
    code, _, (line,) = call("predict", file, picture, "--input-range", "0..1")
    assert code == 2
    assert "are for a .keras file of your own" in line


def test_labels_in_the_encoding_of_an_editor(call, own, photo_folder, tmp_path):
    path = own(3, "softmax")
    (tmp_path / "labels.txt").write_bytes("links\r\nrechts\r\nk\u00f6pfe\r\n".encode("utf-16"))
    code, out, lines = call("predict", path, photo_folder / "top" / "00.png")
    assert (code, out.split("\t")[1][:5], lines) == (0, "k\u00f6pfe", [])
    (tmp_path / "labels.txt").write_bytes("links\nrechts\nk\u00f6pfe\n".encode("latin-1"))
    code, out, lines = call("predict", path, photo_folder / "top" / "00.png")
    assert (code, out.split("\t")[1][:5]) == (0, "k\u00f6pfe")
    assert "is not UTF-8" in lines[0]
    (tmp_path / "labels.txt").write_text("a\na\nb\n")
    code, _, (line,) = call("predict", path, photo_folder / "top" / "00.png")
    assert code == 2
    assert "has the label 'a' twice" in line


def test_files_of_other_programs_are_named(call, tmp_path, photo_folder):
    (tmp_path / "m.h5").write_bytes(b"x")
    (tmp_path / "m.pth").write_bytes(b"x")
    for name, message in (("m.h5", "save it as .keras first"), ("m.pth", "is a file of PyTorch")):
        for verb in (("predict", tmp_path / name, "x.png"), ("export", tmp_path / name)):
            code, _, (line,) = call(*verb)
            assert code == 2
            assert message in line
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png")
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2, "softmax")])
    model.export(tmp_path / "saved", verbose=False)
    code, _, (line,) = call("predict", tmp_path / "saved", tmp_path / "p.png")
    assert code == 2
    assert "was not exported by Graft" in line
    assert "graft export MODEL.keras" in line
    assert "is a finished file" in call("export", tmp_path / "saved")[2][0]
