"""What `graft predict` is asked about: one bad input is named, and takes no other one away."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.recipes.commands import predict
from graft.recipes.runs.prediction.image_files import image_files
from graft.recipes.runs.prediction.stdin import BadInput
from graft.recipes.runs.prediction.texts import texts

TOO_LONG = "x" * 300 + ".png"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def read(*inputs: str, column: str = "text") -> tuple[list[str], list[str]]:
    """(texts, what is bad)."""
    found = list(texts(inputs, column, words=False))
    return (
        [text.text for text in found if not isinstance(text, BadInput)],
        [text.why for text in found if isinstance(text, BadInput)],
    )


def named(*inputs: str) -> tuple[list[str], list[str]]:
    """(names of files, what is bad)."""
    found = list(image_files(inputs))
    return (
        [file.name for file in found if not isinstance(file, BadInput)],
        [file.why for file in found if isinstance(file, BadInput)],
    )


def test_a_name_that_no_file_can_have_takes_no_image_away(tmp_path, stdin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ok.png").touch()
    stdin(f"ok.png\n{TOO_LONG}\nok.png\n".encode())
    files, (why,) = named("-")
    assert files == ["ok.png", "ok.png"]
    assert TOO_LONG in why
    assert os.strerror(errno.ENAMETOOLONG) in why
    files, bad = named("ok.png", "a\0/*.png", "ok.png")
    assert (files, len(bad)) == (["ok.png"] * 2, 1)
    assert named(f"[{'op' * 200}]k.png") == (["ok.png"], []), "a pattern may be longer than a name"


def test_a_closed_folder_takes_no_image_away(tmp_path, monkeypatch):
    for name in ("closed/a.png", "open/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    closed, scandir, stat = str(tmp_path / "closed"), os.scandir, os.stat

    def refuse(path):
        if str(path).startswith(closed):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "scandir", lambda path=".": refuse(path) or scandir(path))
    files, (why,) = named(str(tmp_path))
    assert files == ["b.png"]
    assert f"'{closed}' cannot be read: Permission denied" in why
    monkeypatch.setattr(os, "stat", lambda path, **settings: refuse(path) or stat(path, **settings))
    files, bad = named(f"{closed}/a.png", str(tmp_path / "open"))
    assert (files, len(bad)) == (["b.png"], 1)
    table = f"{closed}/a.csv"
    good, (why,) = read("a text", table, "another")
    assert good == ["a text", "another"]
    assert f"'{table}' cannot be read: Permission denied" in why


class _Session:
    """Says of each image the same."""

    integers, input_shape, preprocessing = False, (8, 8, 3), {"modality": "image"}
    tasks = {"probabilities": {"kind": "single_label", "labels": ["a", "b"]}}

    def predict(self, images):
        return np.tile(np.float32([0.25, 0.75]), (len(images), 1))


def test_the_command_answers_the_good_images(tmp_path, monkeypatch, capsys):
    from graft.export import sessions

    monkeypatch.setattr(sessions, "open_artifact", lambda *_, **__: _Session())
    good, out = str(tmp_path / "good.png"), tmp_path / "out.csv"
    Image.new("RGB", (8, 8)).save(good)
    assert predict.command(["model.onnx", good, TOO_LONG, good, "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "File name too long" in said.err
    assert "1 of 3 could not be read" in said.err
    before = out.read_text()
    assert len(before.splitlines()) == 3
    assert predict.command(["model.onnx", good, TOO_LONG, "--skip-bad"]) == 0
    assert predict.command(["model.onnx", TOO_LONG, "--out", str(out), "--overwrite"]) == 2
    assert out.read_text() == before, "no answer is no reason to replace the table of before"


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("short.csv", "text,n\none,1\ntwo,2\nthree\n", "line 4: 1 cells, the header has 2"),
        ("open.csv", 'text,n\none,1\ntwo,2\n"three,3\nfour,4\n', "that nobody closes"),
        ("bad.jsonl", '{"text": "one"}\n{"text": "two"}\n{"text"\n', "line 3: not JSON"),
    ],
)
def test_a_broken_row_takes_no_row_before_it_away(write, name, content, why):
    good, (bad,) = read("zero", write(name, content), "last")
    assert good == ["zero", "one", "two", "last"]
    assert why in bad


@pytest.mark.parametrize(
    "name", ["no.csv", "a.pdf", "utf16.csv", "latin.txt", "empty.csv", "other.csv"]
)
def test_a_bad_file_takes_no_other_text_away(write, tmp_path, name):
    write("a.pdf", "x")
    write("utf16.csv", "text\none\n".encode("utf-16-le"))
    write("latin.txt", b"gr\xfcn\n")
    write("empty.csv", "")
    write("other.csv", "said\none\ntwo\n")
    good, bad = read("zero", str(tmp_path / name), "last")
    assert (good, len(bad)) == (["zero", "last"], 1)


def test_rows_of_json_lines_that_lack_the_column_take_no_others_away(write):
    good, bad = read(write("a.jsonl", '{"id": 1}\n{"text": "one"}\n{"id": 2}\n{"text": "two"}\n'))
    assert good == ["one", "two"]
    assert ["line 1" in bad[0], "line 3" in bad[1]] == [True, True]


def test_tables_are_read_by_the_rules_of_training(write, capsys):
    good, (why,) = read(write("twice.csv", "text,text\none,two\n"))
    assert good == []
    assert "two columns are called 'text'" in why
    path = write("a.csv", "Text;n\none;1\n;\ntwo;2\n")
    assert read(path) == (["one", "two"], [])
    told = " ".join(capsys.readouterr().err.split())
    assert "the column 'Text' is taken for 'text'" in told
    assert "separated by semicolons" in told
    assert "1 of 3 found" in told
    assert "1 blank rows (line 3)" in told
    assert read(write("b.jsonl", '{"Text": "one"}\n')) == (["one"], [])
    assert "--text-column said" in read(write("c.csv", "said,sayd\none,1\n"), column="sai")[1][0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_stdin_with_a_byte_order_mark_is_read_by_it(stdin, encoding):
    stdin("grün\r\nzwei \u0a0a\u2028drei\n".encode(encoding))
    assert read("-") == (["grün", "zwei \u0a0a\u2028drei"], [])


def test_stdin_that_is_no_text_is_refused(stdin):
    stdin("one\ntwo\n".encode("utf-16-le"))
    good, bad = read("-")
    assert good == []
    assert "line 1 of stdin holds zero bytes" in bad[0]
    stdin("one\ntwo\n".encode("utf-16")[:-1])
    good, (why,) = read("zero", "-")
    assert good == ["zero"]
    assert "stdin is no whole UTF-16 text" in why


def test_carriage_returns_end_lines_where_nothing_else_does(write, stdin):
    assert read(write("old.txt", "one\rtwo\r")) == (["one", "two"], [])
    assert read(write("new.txt", "one\rtwo\r\nthree")) == (["one\rtwo", "three"], [])
    stdin(b"one\rtwo\r")
    assert read("-") == (["one", "two"], [])
    stdin(b"one\rtwo\r\nthree")
    assert read("-") == (["one\rtwo", "three"], [])
    stdin(b"")
    assert read("-") == ([], [])
