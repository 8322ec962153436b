"""Rows, files and answers that were once taken for something else than what stands there."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.recipes.data import concerns, sentences, sources, splits
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import Example, Source
from graft.recipes.data.tables.cells import read_label
from graft.recipes.data.tables.columns import TableRow
from graft.recipes.data.traces import alike
from graft.recipes.tasks.columns import load_task_table, parse_columns
from graft.zoo import vision
from graft.zoo.errors import DataError


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def write_image(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 7, 7)).save(path)


def whole(source) -> Source:
    return Source(source.name, source.labels, {"validation": (), "test": (), **source.splits})


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("later", ['another "quoted" one', '"quoted" for good', 'it was "fine"'])
def test_quotes_that_are_none_of_the_table_swallow_no_rows(write, delimiter, later):
    """Before, four rows became one text, and three labels were gone without a word."""
    rows = [
        ("text", "label"),
        ('"hello there I say', "pos"),
        ("fine", "neg"),
        ("bad film", "neg"),
        (later, "pos"),
    ]
    path = write(
        "t.tsv" if delimiter == "\t" else "t.csv",
        "".join(delimiter.join(row) + "\n" for row in rows),
    )
    with pytest.raises(DataError, match=r"line \d"):
        sentences.load(str(path), need=("label",))


def test_tabs_and_lines_in_one_cell_are_rows_that_went_into_it(write):
    path = write("t.tsv", 'text\tlabel\n"a\tx\nb\tx\nc"\ty\nd\ty\n')
    with pytest.raises(DataError, match="a cell in quotes goes over lines and tabs"):
        sentences.load(str(path), need=("label",))


def test_quotes_of_the_table_are_read(write):
    path = write("t.csv", 'text,label\n"a, b\nand ""c""",x\n"d",x\n"e ""f""",y\ng,y\n')
    texts = [s.text for s in sentences.load(str(path), need=("label",)).splits["train"]]
    assert texts == ['a, b\nand "c"', "d", 'e "f"', "g"]


def test_a_folder_is_listed_for_the_first_missing_file_alone(write, tmp_path, monkeypatch):
    """Before, for each of them: 4,000 rows took more than a minute."""
    write_image(tmp_path / "a/0.png")
    listed, iterdir = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    with pytest.raises(
        DataError, match=r"line 2: .*: is '0.png' meant\? \(and 99 more rows without a file\)"
    ):
        sources.load(str(write("t.csv", "path,label\n" + "a/0,x\n" * 100)))
    assert listed == [tmp_path / "a"]


def test_unlabelled_images_are_those_of_train_however_deep_it_lies(tmp_path):
    for i, name in enumerate(("train/cat/0", "train/dog/1", "test/cat/2", "test/dog/3")):
        write_image(tmp_path / f"wrap/dataset/{name}.png", i)
    found = sources.load_unlabelled(str(tmp_path / "wrap")).splits["train"]
    assert [example.name for example in found] == [
        "dataset/train/cat/0.png",
        "dataset/train/dog/1.png",
    ]


def test_a_row_does_not_contradict_the_name_of_its_file(write, tmp_path):
    rows = "text,label,split\n" + "".join(f"text {i},{'ab'[i % 2]},{{}}\n" for i in range(6))
    write("t/train.csv", rows.format("", "", "train", "train", "", "test"))
    with pytest.raises(
        DataError,
        match="train.csv', line 7: the column 'split' says test, the name of the file train",
    ):
        sentences.load(str(tmp_path / "t"), need=("label",))
    write("t/train.csv", rows.format(*["train"] * 6))
    write("t/test.csv", rows.format("", "test", "test", "", "", ""))
    source = sentences.load(str(tmp_path / "t"), need=("label",))
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 6, "test": 6}


def test_labels_that_may_be_missing_are_named_in_every_kind_of_task(write, tmp_path, capsys):
    for i in range(3):
        write_image(tmp_path / f"{i}.png", i)
    table = write("t.csv", "path,kind,marks\n0.png,NA,u;None\n1.png,a,u\n2.png,NA,v\n")
    load_task_table(str(table), parse_columns(["kind", "marks:multi_label"]), to_train=False)
    warned = " ".join(capsys.readouterr().err.split())
    assert "the label 'NA' is read as a class" in warned
    assert "the label 'None' is read as a class" in warned
    tally = Tally()
    read_label(TableRow(table, 2, {"label": "good; null"}), "label", several=True, tally=tally)
    tally.warn("t.csv", 1)
    assert "the label 'null'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("kinds", "one", "other"),
    [
        ("marks:multi_label", "x;y", "y; x"),
        ("price:regression", "1", "1.0"),
        ("price:regression", "1e3", "1000"),
    ],
)
def test_answers_that_say_the_same_are_no_contradiction(write, tmp_path, capsys, kinds, one, other):
    write_image(tmp_path / "0.png")
    name = kinds.split(":")[0]
    table = write("t.csv", f"path,kind,{name}\n0.png,a,{one}\n0.png,a,{other}\n")
    source = load_task_table(str(table), parse_columns(["kind", kinds]), to_train=False)
    concerns.warn_of_concerns(whole(source), "", "mobilenet_v2", 0)
    assert "another label" not in capsys.readouterr().err


def test_twins_among_the_labels_of_every_task_are_named(write, tmp_path, capsys):
    for i in range(2):
        write_image(tmp_path / f"{i}.png", i)
    table = write("t.csv", "path,kind,marks,price\n0.png,a,HUND;cat,1\n1.png,b,hund,1.0\n")
    kinds = parse_columns(["kind", "marks:multi_label", "price:regression"])
    concerns.warn_of_concerns(
        whole(load_task_table(str(table), kinds, to_train=False)), "", "mobilenet_v2", 0
    )
    warned = " ".join(capsys.readouterr().err.split())
    assert "the labels 'HUND' (1) and 'hund' (1) of 'marks' differ only in case" in warned
    assert "'1.0'" not in warned


def test_a_grey_image_of_16_bits_is_the_same_in_every_format(tmp_path):
    """Before, a PGM was as bright as its brightest pixel made it."""
    values = np.linspace(0, 400, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    (tmp_path / "a.pgm").write_bytes(b"P5\n8 8\n65535\n" + values.astype(">u2").tobytes())
    decoded = [vision.decode_image(tmp_path / name, 8) for name in ("a.png", "a.pgm")]
    np.testing.assert_array_equal(*decoded)
    assert decoded[0].max() <= 2


@pytest.mark.parametrize("text", [["a", None, "b"], [None], ["", ""]])
def test_a_list_of_words_has_no_empty_one(write, text):
    row = {"text": text, "label": "x", "tags": ["O"] * len(text)}
    path = write("t.jsonl", json.dumps(row) + "\n")
    for need in (("label",), ("tags",)):
        with pytest.raises(
            DataError, match="line 1: the list in the column 'text' has an empty part"
        ):
            sentences.load(str(path), need=need)


@pytest.mark.parametrize("seed", range(6))
def test_one_content_under_two_labels_stays_in_one_split(seed):
    """Before, each label drew by itself: one file stood in train and in test with 4 of 6 seeds."""
    pixels = [np.full((2, 2, 3), i, np.uint8) for i in range(24)]
    examples = [
        Example(pixels[i % 12], "ab"[i // 12], f"{'ab'[i // 12]}/{i % 12}") for i in range(24)
    ]
    extra = [Example(np.full((2, 2, 3), 50 + i, np.uint8), "b", f"b/x{i}") for i in range(12)]
    made, _ = splits.complete(Source("made", ("a", "b"), {"train": (*examples, *extra)}), seed)
    assert concerns.duplicates_across(made) == []


def test_plain_images_look_like_nothing_and_are_left_out_first():
    rng = np.random.default_rng(0)
    looks = np.uint8(rng.integers(0, 255, (40, 32)))
    looks[:, 16:] = 7
    plain = np.zeros((30, 32), np.uint8)
    mixed = np.concatenate([plain[:10], looks[:20], plain[10:]])
    assert alike(mixed, looks) == [(10 + i, i) for i in range(20)]
    assert alike(looks, mixed) == [(i, 10 + i) for i in range(20)]
    assert alike(plain, looks) == []


def test_a_name_that_is_too_long_is_one_bad_image(tmp_path):
    with pytest.raises(DataError, match="File name too long"):
        vision.decode_image(tmp_path / ("x" * 300 + ".png"), 8)
