"""What `graft predict` is asked about: one bad input is named, and takes no other one away."""

import errno
import os
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.recipes.codecs import pixels
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.commands import predict
from graft.recipes.runs.prediction.bursts import MOST_WAITING, as_they_come
from graft.recipes.runs.prediction.image_files import image_files
from graft.recipes.runs.prediction.inputs import AHEAD, read_items
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


@pytest.fixture
def many(tmp_path):
    """Forty images, of which every third is none; of the others the first pixel is the number."""
    for number in range(40):
        path = tmp_path / f"{number:02d}.png"
        if number % 3:
            Image.new("RGB", (8, 8), (number,) * 3).save(path)
        else:
            path.write_bytes(b"nothing")
    return tmp_path


def asked(*inputs):
    """The bursts of images."""
    return read_items(ImageCodec(8), [*map(str, inputs)], column="text", words=False)


@pytest.mark.parametrize("through_stdin", [False, True])
def test_images_that_are_decoded_at_once_keep_their_order(many, through_stdin, stdin, monkeypatch):
    """Also where the first of them take longest; what is bad is named in its place."""
    decode, rng = ImageCodec.item, np.random.default_rng(0)
    waits = dict(zip(sorted(many.iterdir()), rng.random(40) / 100, strict=True))
    threads = set()

    def slow(codec, file):
        threads.add(threading.current_thread())
        time.sleep(waits[file])
        return decode(codec, file)

    monkeypatch.setattr(ImageCodec, "item", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    stdin("\n".join(map(str, sorted(many.iterdir()))).encode())
    found = [item for burst in asked("-" if through_stdin else many) for item in burst]
    assert len(found) == 40
    for number, item in enumerate(found):
        if number % 3:
            assert item.name.endswith(f"{number:02d}.png")
            assert item.content.pixels[0, 0, 0] == number
        else:
            assert f"{number:02d}.png' is not a readable image" in item.why
    assert len(threads) > 1


def test_who_takes_his_time_is_answered_before_he_goes_on(many, monkeypatch):
    """Before, nothing was answered until 32 lines had come, or the last one."""
    answered, names = threading.Event(), []

    def lines():
        yield f"{many / '01.png'}\n{many / '02.png'}\n".encode()
        for number in ("03", "04"):
            assert answered.wait(20), "no answer as long as more may come"
            answered.clear()
            yield f"{many / number}.png\n".encode()

    split = (line for part in lines() for line in part.splitlines(keepends=True))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=split))
    for burst in asked("-"):
        names.append([getattr(item, "name", "bad")[-6:] for item in burst])
        answered.set()
    assert [name for burst in names for name in burst] == ["01.png", "02.png", "bad", "04.png"]
    assert len(names) >= 3


def test_who_is_quick_is_answered_at_once_and_who_is_steady_soon():
    assert len([burst for burst in map(list, as_they_come(range(1000))) if burst]) < 20

    def steady():
        for number in range(30):
            time.sleep(0.02)
            yield number

    bursts = [list(burst) for burst in as_they_come(steady())]
    assert [number for burst in bursts for number in burst] == list(range(30))
    assert max(map(len, bursts)) < 15


def test_what_ends_a_producer_is_said_behind_what_came_before():
    def failing():
        yield 1
        raise OSError("the disk has gone")

    bursts = as_they_come(failing())
    assert list(next(bursts)) == [1]
    with pytest.raises(OSError, match="the disk has gone"):
        list(map(list, bursts))


def test_inputs_are_read_and_decoded_a_window_ahead(many, monkeypatch):
    """However many there are."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    window = 2 * AHEAD * pixels.AT_A_TIME
    taken, begun, given = [], [], 0
    decode = ImageCodec.item
    monkeypatch.setattr(ImageCodec, "item", lambda *asked: begun.append(1) or decode(*asked))
    (burst,) = asked(*[many / "01.png"] * 500)
    for given, _ in enumerate(burst, 1):
        if given % 100 == 0:
            time.sleep(0.1)
            assert 0 <= len(begun) - given <= window
    assert given == 500

    bursts = as_they_come(taken.append(i) or i for i in range(10 * MOST_WAITING))
    assert next(next(bursts)) == 0
    time.sleep(0.2)
    assert len(taken) <= MOST_WAITING + 3
    bursts.close()
    time.sleep(0.2)
    assert len(taken) <= MOST_WAITING + 3, "who has gone is read for no longer"
