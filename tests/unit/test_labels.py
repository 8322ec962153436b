"""Files of labels, as editors of all kinds write them."""

import codecs

import pytest

from graft.zoo.errors import DataError
from graft.zoo.labels import parse_labels, read_labels

LABELS = ("K\u00e4fer", "Biene", "Ma\u00df")
TEXT = "\n".join(LABELS) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.encode("utf-32-le"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", " \t\n").encode() + b"\n\n",
    ],
)
def test_any_unicode_is_read(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)
    found = read_labels(tmp_path / "labels.txt")
    assert found.labels == LABELS
    assert not found.notes


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_latin_is_read_and_said(tmp_path, encoding):
    (tmp_path / "labels.txt").write_bytes(TEXT.encode(encoding))
    found = read_labels(tmp_path / "labels.txt")
    assert found.labels == LABELS
    assert "is not UTF-8" in found.notes[0]


def test_empty_lines_are_left_out_and_counted(tmp_path):
    (tmp_path / "labels.txt").write_text("ant\n\nbee\n \ncat\n\n")
    found = read_labels(tmp_path / "labels.txt")
    assert found.labels == ("ant", "bee", "cat")
    assert "2 empty lines left out, the first is line 2" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ant\nbee\nant\n", r"has the label 'ant' twice \(lines 1 and 3\)"),
        ("ant\n\nant \n", r"twice \(lines 1 and 3\)"),
        ("", "holds no labels"),
        ("\n\n", "holds no labels"),
        ("ant\u2028bee\n", "cannot stand on a line"),
        ("ant\x1b[31m\n", "cannot stand on a line"),
    ],
)
def test_files_that_name_no_outputs_are_refused(tmp_path, content, message):
    (tmp_path / "labels.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labels.txt")


def test_labels_of_an_option(tmp_path):
    assert parse_labels("ant, bee,cat").labels == ("ant", "bee", "cat")
    (tmp_path / "names").write_text("ant\nbee\n")
    assert parse_labels(str(tmp_path / "names")).labels == ("ant", "bee")
    for given, message in (
        ("no.txt", "there is no file"),
        ("a,,b", "label 2 is empty"),
        ("a,b,a", "twice"),
        (".", "cannot be read"),
    ):
        with pytest.raises(DataError, match=message):
            parse_labels(given)
