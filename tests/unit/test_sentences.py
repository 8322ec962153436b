"""Sources of sentences, and the one line that each kind of bad input gets."""

import re

import pytest

from graft.recipes.data import concerns, sentences, splits
from graft.recipes.data.sentences import Columns, load
from graft.zoo.errors import DataError, GraftError, UnknownName

GOOD = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def test_tables_of_all_kinds_hold_the_same(write):
    rows = [("one, two", "a"), ('a "quoted" word', "b"), ("line\u0085end", "a"), ("ünï", "b")]
    as_csv = "text,label\n" + "".join(
        '"{}",{}\n'.format(t.replace('"', '""'), label) for t, label in rows
    )
    as_tsv = "text\tlabel\n" + "".join(
        '"{}"\t{}\n'.format(t.replace('"', '""'), label) for t, label in rows
    )
    import json

    as_jsonl = "".join(json.dumps({"text": t, "label": label}) + "\n" for t, label in rows)
    for name, content in (("x.csv", as_csv), ("x.tsv", as_tsv), ("x.jsonl", as_jsonl)):
        source = load(write(name, content), need=("label",))
        assert [(s.text, s.label) for s in source.splits["train"]] == rows
        assert source.labels == ("a", "b")


def test_columns_and_splits_have_names(write):
    path = write(
        "x.csv",
        "review,stars,split\ngood,5,train\nbad,1,train\nfine,5,train\nawful,1,train\nok,5,dev\n",
    )
    source = load(path, need=("label",), columns=Columns("review", "stars"))
    assert {name: len(part) for name, part in source.splits.items()} == {
        "train": 4,
        "validation": 1,
    }


def test_several_labels_in_a_cell_and_none(write):
    path = write("x.csv", 'text,label\none,a;b\ntwo,\nthree,b\nfour,"b; c"\n')
    source = load(path, need=("label",), several=True)
    assert source.labels == ("a", "b", "c")
    assert [s.labels for s in source.splits["train"]] == [("a", "b"), (), ("b",), ("b", "c")]


def test_conll_and_folders(write, tmp_path):
    content = "-DOCSTART- O\n\nAnna\tB-per\nruns\tO\n \t\nin O\nOslo B-place\n"
    write("data/train.conll", content)
    write("data/dev.conll", content)
    source = load(str(tmp_path / "data"), need=("tags",))
    assert [s.words for s in source.splits["validation"]] == [("Anna", "runs"), ("in", "Oslo")]
    assert sentences.tag_names(source) == ("O", "B-per", "B-place")


def test_intents_and_slots_in_three_files(write, tmp_path):
    for split in ("train", "dev", "test"):
        for name, lines in (
            ("seq.in", "play jazz\nstop it\n" * 2),
            ("seq.out", "O B-genre\nO O\n" * 2),
            ("label", "x\ny\n" * 2),
        ):
            write(f"snips/{split}/{name}", lines)
    source = load(str(tmp_path / "snips"), need=("label", "tags"))
    assert source.labels == ("x", "y")
    assert len(source.splits["test"]) == 4
    write("snips/dev/label", "x\n")
    with pytest.raises(DataError, match="different numbers of lines: seq.in 4, seq.out 4, label 1"):
        load(str(tmp_path / "snips"), need=("label", "tags"))


CASES = {
    "empty text": ("x.csv", GOOD + ",a\n", "line 42: the column 'text' is empty"),
    "only whitespace": ("x.csv", GOOD + "   ,a\n", "line 42: the column 'text' is empty"),
    "NaN": (
        "x.csv",
        GOOD + "hello,NaN\n",
        "line 42: 'NaN' in the column 'label' cannot be told from a missing value",
    ),
    "NaN in JSON": (
        "x.jsonl",
        '{"text": NaN, "label": "a"}\n',
        "line 1: the column 'text' is empty",
    ),
    "null in JSON": (
        "x.jsonl",
        '{"text": "x", "label": null}\n',
        "line 1: the column 'label' is empty",
    ),
    "no JSON": ("x.jsonl", "{text}\n", "line 1: not JSON"),
    "two delimiters": (
        "x.csv",
        GOOD.replace(",", ";|"),
        "line 1: the cells seem to be separated by semicolons or bars",
    ),
    "another encoding": (
        "x.csv",
        GOOD.encode() + "caf\xe9,a\n".encode("latin-1"),
        "line 42, column 4: byte 0xe9",
    ),
    "too many cells": ("x.csv", GOOD + "one, two,a\n", "line 42: 3 cells, the header has 2"),
    "no such column": (
        "x.csv",
        "review,label\nx,a\n",
        "has no column 'text': it has review, label",
    ),
    "one class": ("x.csv", "text,label\nx,a\ny,a\n", "holds one class only (a)"),
    "label in test only": (
        "x.csv",
        "text,label,split\n" + "x,a,train\ny,b,train\n" * 3 + "z,c,test\n",
        "the label 'c' of",
    ),
    "one label like several": ("x.csv", "text,label\n" + "x,a;b\ny,c\n" * 3, "the label 'a;b' of"),
    "unknown split": ("x.csv", "text,label,split\nx,a,trian\n", "split 'trian'; expected train"),
    "nothing": ("x.csv", "text,label\n", "holds no sentences"),
    "another kind of file": ("x.pdf", "text", "is no data source: expected one of .csv"),
}


@pytest.mark.parametrize(("name", "content", "said"), CASES.values(), ids=CASES)
def test_bad_tables_get_one_line(write, name, content, said):
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        load(write(name, content), need=("label",))
    assert "\n" not in str(caught.value)


TAGGED = {
    "I without B": ("x.conll", "Oslo I-place\n", "line 1: 'I-place' of 'Oslo' stands behind 'O'"),
    "I behind another type": (
        "x.conll",
        "a O\nAnna B-per\nOslo I-place\n",
        "line 3: 'I-place' of 'Oslo' stands behind 'B-per'",
    ),
    "no IOB2 at all": ("x.conll", "Oslo place\n", "line 1: the tag 'place' of 'Oslo' is not IOB2"),
    "one column": (
        "x.conll",
        "a O\nOslo\n",
        "line 2: 'Oslo' is one column, expected a word and its tag",
    ),
    "different lengths": ("x.csv", "text,tags\na b,O O\na b,O\n", "line 3: 2 words but 1 tags"),
    "tag in test only": (
        "x.csv",
        "text,tags,split\na b,O O,train\na b,O B-x,test\n",
        "the tag 'B-x', which occurs in test only",
    ),
    "no tags": ("x.csv", "text,label\na,b\n", "has no column 'tags'"),
}


@pytest.mark.parametrize(("name", "content", "said"), TAGGED.values(), ids=TAGGED)
def test_bad_tags_get_one_line(write, name, content, said):
    with pytest.raises(DataError, match=re.escape(said)):
        load(write(name, content), need=("tags",))


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        load(str(tmp_path / "none.csv"), need=("label",))
    with pytest.raises(UnknownName, match="Did you mean 'commands'"):
        load("comands", need=("label",))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no sentences: expected train.csv"):
        load(str(tmp_path / "empty"), need=("label",))


def test_missing_splits_are_made_by_label_and_found_again(write):
    path = write("x.csv", GOOD)
    source, made = splits.complete(load(path, need=("label",)), 0)
    assert set(made) == {"test", "validation"}
    assert {s.label for s in source.splits["test"]} == {"a", "b"}
    again, _ = splits.complete(load(path, need=("label",)), 0)
    assert again.splits == source.splits
    facts = {"made_splits": list(made), "split_seed": 0, "fingerprint": splits.fingerprint(source)}
    assert splits.reuse(load(path, need=("label",)), "test", facts) == source.splits["test"]
    changed = write("y.csv", GOOD.replace("text 7,", "text seven,"))
    with pytest.raises(GraftError, match="the content differs"):
        splits.reuse(load(changed, need=("label",)), "test", facts)


def test_commands_are_what_their_card_says():
    source = load("commands", need=("label", "tags"))
    everything = [s for part in source.splits.values() for s in part]
    assert {name: len(part) for name, part in source.splits.items()} == {
        "train": 288,
        "validation": 96,
        "test": 96,
    }
    assert len(source.labels) == 8
    assert len({tag[2:] for tag in sentences.tag_names(source)} - {""}) == 15
    assert len({s.text for s in everything}) == 480
    forms = [
        " ".join(
            w if t == "O" else t[2:] for w, t in zip(s.words, s.tags, strict=True) if t[0] != "I"
        )
        for s in everything
    ]
    assert len(set(forms)) == 480, "two sentences are the same but for their slots"
    assert concerns.duplicates_across(source) == []
