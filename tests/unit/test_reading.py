"""What a person would reasonably mean is read; what is not read is counted; what cannot be right is
one line.
"""

import gzip
import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from graft.recipes.codecs.images import ImageCodec
from graft.recipes.data import concerns, labels, reading, sentences, sources, splits
from graft.recipes.data.containers import tfds
from graft.recipes.data.folders.image_files import image_suffixes
from graft.recipes.data.reading import LeftOut, Tally
from graft.recipes.data.records import Example, Source
from graft.recipes.data.tables.columns import TableRow
from graft.recipes.data.tables.text_files import split_lines, split_words
from graft.recipes.tasks.cells import Cell
from graft.recipes.tasks.columns import load_task_table, parse_columns, tasks_of_table
from graft.recipes.tasks.labels import MultiLabelTask
from graft.zoo.errors import ConfigError, DataError, GraftError


@pytest.fixture
def fill(tmp_path):
    """Images of different content: `fill("d/red/0.jpg", ...)`; returns the folder of the test."""
    count = iter(range(1, 10_000))

    def fill(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = next(count)
            Image.new("RGB", (4, 4), (shade % 256, shade // 256, 7)).save(path, "PNG")
        return tmp_path

    return fill


def classes(prefix="d/", names=("blue", "red"), count=2):
    return [f"{prefix}{label}/{i}.png" for label in names for i in range(count)]


def load(path, **settings) -> Source:
    return sources.load(str(path), **settings)


def names(source, split="train") -> list[str]:
    return [example.name for example in source.splits[split]]


def left(source) -> dict[str, int]:
    return {part.reason: part.count for part in source.left_out}


def warnings_of(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


# Folders


def test_every_ending_that_can_be_opened_is_read(fill):
    endings = ["jfif", "JPE", "avif", "Webp", "TIFF", "gif", "BMP", "ppm", "apng"]
    root = fill(*classes(), *(f"d/red/x{i}.{ending}" for i, ending in enumerate(endings)))
    source = load(root / "d")
    assert len(source.splits["train"]) == 4 + len(endings)
    assert source.left_out == ()


def test_what_pillow_cannot_open_here_is_counted(fill, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda name: name != "avif")
    image_suffixes.cache_clear()
    try:
        source = load(fill(*classes(), "d/red/x.avif") / "d")
    finally:
        image_suffixes.cache_clear()
    assert source.left_out == (LeftOut(".avif", 1, "red/x.avif"),)


def test_what_is_left_out_is_counted_by_reason_and_warned_of_once(fill, capsys):
    root = fill(
        *classes(),
        "d/red/a.heic",
        "d/red/b.HEIC",
        "d/blue/c.svg",
        "d/loose.png",
        "d/red/._x.jpg",
        "d/Thumbs.db",
    )
    (root / "d/red/README").write_text("x")
    source = load(root / "d")
    assert left(source) == {
        ".heic": 2,
        ".svg": 1,
        "outside of class folders": 1,
        "hidden": 1,
        "without an ending": 1,
    }
    warned = warnings_of(capsys)
    assert warned.count("warning:") == 1
    assert "5 of 9 found in" in warned
    assert "2 .heic (red/a.heic)" in warned


def test_hidden_folders_and_those_of_systems_are_never_read(fill, capsys):
    hidden = [
        ".Trash-1000/0.png",
        ".ipynb_checkpoints/1-checkpoint.png",
        "__MACOSX/2.png",
        "@eaDir/x/3.png",
        "._4.png",
    ]
    root = fill(
        *classes(),
        *(f"d/red/{name}" for name in hidden),
        "d/__MACOSX/red/5.png",
        "d/.cache/red/6.png",
    )
    source = load(root / "d")
    assert names(source) == ["blue/0.png", "blue/1.png", "red/0.png", "red/1.png"]
    assert left(source) == {"hidden": 7}
    assert warnings_of(capsys) == ""  # nobody meant them
    assert len(sources.load_unlabelled(str(root / "d")).splits["train"]) == 4


def test_linked_folders_are_read_and_circles_end(fill):
    root = fill(*classes(), "more/9.png", "deep/8.png")
    (root / "d/blue/more").symlink_to(root / "more")
    (root / "d/blue/again").symlink_to(root / "more")
    (root / "more/deep").symlink_to(root / "deep")
    (root / "d/blue/up").symlink_to(root / "d")
    (root / "d/self").symlink_to(root / "d")
    (root / "deep/back").symlink_to(root / "d/blue")
    (root / "d/green").symlink_to(root / "deep")
    (root / "deep/7.png").write_bytes(b"another")
    source = load(root / "d")
    assert [name for name in names(source) if name.startswith("blue")] == [
        "blue/0.png",
        "blue/1.png",
        "blue/again/9.png",
        "blue/again/deep/7.png",
        "blue/again/deep/8.png",
    ]
    assert source.labels == ("blue", "green", "red")
    assert left(source)["linked folders that hold themselves"] >= 2
    assert left(source)["linked folders that are read already"] >= 1


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("train_data", "test_data"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Train", "Testing Images"),
        ("train2017", "test2017"),
        ("TrainSet", "TestSet"),
        ("flowers_train", "flowers_test"),
        ("images/train", "images/test"),
        ("train/images", "test/images"),
    ],
)
def test_folders_called_like_splits_are_splits(fill, train, test):
    source = load(fill(*classes(f"d/{train}/"), *classes(f"d/{test}/")) / "d")
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 4, "test": 4}
    assert source.labels == ("blue", "red")


def test_a_folder_that_means_nothing_is_passed_through(fill):
    root = fill(*classes("d/images/"), *classes("e/train/", ("a", "b")))
    (root / "d/annotations").mkdir()
    (root / "d/annotations/0.xml").write_text("<x/>")
    source = load(root / "d")
    assert source.labels == ("blue", "red")
    assert left(source) == {".xml": 1}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            [*classes("d/part1/"), *classes("d/part2/")],
            "'part1' and 'part2' in .* hold the same folders .'blue', 'red'.",
        ),
        (
            [*classes("d/cat/", ("train", "test")), *classes("d/dog/", ("train", "test"))],
            "splits stand above classes",
        ),
        (
            [*classes("d/train/"), "d/test/0.png", "d/test/1.png"],
            "the test folder .* holds 2 images directly",
        ),
        (["d/0.png", "d/1.png", "d/2.png"], "holds 3 images directly, and no class folders"),
        (
            classes("d/flowers/"),
            "holds one class only .'flowers'.: .* if 'blue' and 'red' in it are the classes, give",
        ),
        (
            ["d/train/0.png", "d/test/1.png"],
            "the test folder .* holds 1 image directly, and no class folders",
        ),
        ([*classes("d/train/"), "d/holdout/blue/0.png"], "mixes split folders with 'holdout'"),
        ([*classes("d/", ("cat", "dog")), "d/test/1.png"], "mixes split folders with 'cat'"),
        (
            [*classes(), "d/green/0.heic"],
            "green' holds no images .there are 1 .heic .green/0.heic..",
        ),
        (
            classes("d/", ("HUND", "hund"), 1),
            "'HUND' .* has one image to train on .or is 'hund' meant. .*case",
        ),
    ],
)
def test_folders_that_cannot_be_right_are_one_line(fill, made, message):
    with pytest.raises(DataError, match=message) as caught:
        load(fill(*made) / "d")
    assert "\n" not in str(caught.value)


def test_stray_images_in_a_split_are_counted_and_a_train_is_a_vehicle(fill, capsys):
    source = load(fill(*classes("d/train/"), *classes("d/test/"), "d/test/stray.png") / "d")
    assert left(source) == {"outside of class folders": 1}
    assert load(fill(*classes("e/", ("bus", "train"))) / "e").labels == ("bus", "train")
    assert "is read as a class" in warnings_of(capsys)


def test_unlabelled_images_are_counted_too(fill, capsys):
    root = fill("d/0.png", "d/x/1.png", "d/x/.cache/2.png", "d/x/3.heic")
    source = sources.load_unlabelled(str(root / "d"))
    assert names(source) == ["0.png", "x/1.png"]
    assert left(source) == {".heic": 1, "hidden": 1}
    assert "1 of 3 found in" in warnings_of(capsys)
    with pytest.raises(DataError, match="holds no images to adapt to: .* 1 .heic"):
        sources.load_unlabelled(str(fill("e/0.heic") / "e"))


# Tables


@pytest.fixture
def write(tmp_path, fill):
    """A file of this content beside a/0.png, a/1.png, b/0.png and b/1.png."""
    fill(*classes("", ("a", "b")))

    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


ROWS = "path,label\na/0.png,x\na/1.png,x\nb/0.png,y\nb/1.png,y\n"
READ = {
    "semicolons": (ROWS.replace(",", ";"), "separated by semicolons, not by commas"),
    "tabs": (ROWS.replace(",", "\t"), "separated by tabs"),
    "Excel's first line": ("sep=;\r\n" + ROWS.replace(",", ";").replace("\n", "\r\n"), ""),
    "UTF-16": (ROWS.encode("utf-16"), ""),
    "UTF-32": (ROWS.encode("utf-32"), ""),
    "carriage returns alone": (ROWS.replace("\n", "\r"), ""),
    "backslashes": (ROWS.replace("/", "\\"), "backslashes in paths are read as slashes, 4 times"),
    "percent signs": (ROWS.replace("/", "%2F"), "percent signs"),
    "blanks around names": (ROWS.replace("path,label", " path , label "), ""),
    "blanks and quotes": (
        ROWS.replace(",", ', "')
        .replace("x\n", 'x"\n')
        .replace("y\n", 'y"\n')
        .replace("l\n", 'l"\n'),
        "",
    ),
    "capitals": (ROWS.replace("path,label", "Path,LABEL"), "the column 'Path' is taken for 'path'"),
    "blank rows": (ROWS + "\n,\n", "1 of 5 found in"),
    "some without a split": (
        ROWS.replace("\n", ",train\n")
        .replace("label,train", "label,split")
        .replace("b/1.png,y,train", "b/1.png,y,"),
        "rows that name no split are taken for training: 1 of",
    ),
    "another column of splits": (
        ROWS.replace("\n", ",train\n").replace("label,train", "label,subset"),
        "rename 'subset' if it is meant to",
    ),
    "NA": (ROWS.replace(",x", ",NA"), "the label 'NA' is read as a class"),
}


@pytest.mark.parametrize(("content", "said"), READ.values(), ids=READ)
def test_tables_as_people_save_them_are_read(write, capsys, content, said):
    source = load(write("t.csv", content))
    assert names(source) == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    warned = warnings_of(capsys)
    assert said in warned
    assert bool(said) == ("warning:" in warned)


REFUSED = {
    "short": (ROWS + "a/0.png\n", "line 6: 1 cells, the header has 2"),
    "long": (
        ROWS + "a/0.png,x,y\n",
        "line 6: 3 cells, the header has 2: a cell with commas in it needs quotes",
    ),
    "short with splits": ("path,label,split\na/0.png,x\n", "line 2: 2 cells, the header has 3"),
    "filename": (
        ROWS.replace("path", "filename"),
        "no column 'path': .*: --path-column filename says",
    ),
    "image": (ROWS.replace("path", "image_path"), "--path-column image_path"),
    "class": (ROWS.replace("label", "class"), "no column 'label': .*: --label-column class"),
    "category": (ROWS.replace("label", "Category"), "--label-column Category"),
    "a comment": ("# of May\n" + ROWS, "has no column 'path': it has # of May"),
    "no header": (
        ROWS.split("\n", 1)[1],
        "no column 'path': .*line 1 of a table names its columns",
    ),
    "twice": (ROWS.replace("path,label", "label,label"), "two columns are called 'label'"),
    "a folder": (ROWS.replace("b/1.png", "b"), "line 5: .*/b' is a folder"),
    "missing": (
        ROWS.replace(".png", ".gif"),
        "line 2: there is no file .*a/0.gif.* .and 3 more rows without a file",
    ),
    "without the ending": (
        ROWS.replace("b/1.png", "b/1"),
        "line 5: there is no file .*: is '1.png' meant",
    ),
    "the web": (ROWS.replace("b/1.png", "https://x.org/1.png"), "is an address of the web"),
    "zero bytes": (ROWS.encode("utf-16-le"), "zero bytes, as UTF-16 without a byte order mark"),
    "compressed": (gzip.compress(ROWS.encode()), "is compressed: unpack it first"),
    "a workbook": (b"PK\x03\x04rest", "a workbook of Excel"),
    "a quote": (
        ROWS + 'a/0.png,"x\nb/0.png,y\n',
        "line 6: is a quote opened there or before that nobody closes",
    ),
    "nan": (
        ROWS.replace(",x", ",nan"),
        "line 2: 'nan' in the column 'label' cannot be told from a missing value",
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_tables_that_cannot_be_right_are_one_line(write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        load(write("t.csv", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.zip", "t.xlsx", "t.json"])
def test_other_forms_are_told_what_to_do(write, name):
    for read in (load, lambda path: sentences.load(str(path), need=("label",))):
        with pytest.raises(DataError, match="is no data source: .*; (unpack|save|write)"):
            read(write(name, "x"))


def test_a_path_in_the_other_form_of_unicode(fill, capsys):
    composed, apart = (unicodedata.normalize(form, "käse/0.png") for form in ("NFC", "NFD"))
    root = fill(apart, "b/0.png", "b/1.png", "a/1.png")
    (root / "t.csv").write_text(ROWS.replace("a/0.png", composed))
    assert names(load(root / "t.csv"))[0] == apart
    assert "Unicode's other form" in warnings_of(capsys)


def jsonl(rows) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0, 1), ("0", "1")),
        ((False, True), ("False", "True")),
        ((["red"], ["blue"]), ("blue", "red")),
        (("nan", "None"), ("None", "nan")),
        ((10, 9), ("9", "10")),
        ((1.5, 0), ("0", "1.5")),
    ],
)
def test_labels_in_json_lines_are_what_they_are(write, given, expected):
    files = ("a/0.png", "a/1.png", "b/0.png", "b/1.png")
    rows = [{"path": file, "text": file, "label": given[i // 2]} for i, file in enumerate(files)]
    path = write("t.jsonl", jsonl(rows))
    assert load(path).labels == expected
    for several in (False, True):
        source = sentences.load(str(path), need=("label",), several=several)
        assert source.labels == expected
        assert all(sentence.label for sentence in source.splits["train"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"label": ["x", "y"]},
            "line 1: the column 'label' holds a list of 2, expected one value; .*--multi-label",
        ),
        ({"label": {"name": "x"}}, "line 1: the column 'label' holds a JSON object"),
        ({"label": [["x"]]}, "line 1: the column 'label' holds a list in a list"),
        ({"label": []}, "line 1: the column 'label' is empty"),
        ({"label": [None]}, "line 1: the column 'label' is empty"),
        ({"label": None}, "line 1: the column 'label' is empty"),
        ({"label": float("nan")}, r"line 1: the column 'label' is empty \(NaN\)"),
        ({"kind": "x"}, "line 1, has no column 'label': it has path, text, kind"),
    ],
)
def test_labels_in_json_lines_that_cannot_be_right(write, row, message):
    path = write("t.jsonl", jsonl([{"path": "a/0.png", "text": "x", **row}]))
    for read in (load, lambda path: sentences.load(str(path), need=("label",))):
        with pytest.raises(DataError, match=message):
            read(path)


def test_json_of_other_forms_is_told_apart(write):
    for content, message in (
        ('[{"path": "a"}]', "of an array, write each element on a line"),
        ('{\n"path": "a"}', "one whole object on each line"),
        ('{"path": "a", "path": "b"}', "the key 'path' stands twice"),
        ("[" * 100_000, "line 1: not JSON"),
    ):
        with pytest.raises(DataError, match=message):
            load(write("t.jsonl", content))


def test_several_labels_and_none_in_json_lines(write):
    rows = [
        {"text": "x", "label": label}
        for label in (["a", "b"], [], None, "", ["b"], "a;b;a", 0, float("nan"))
    ]
    source = sentences.load(str(write("t.jsonl", jsonl(rows))), need=("label",), several=True)
    assert [s.labels for s in source.splits["train"]] == [
        ("a", "b"),
        (),
        (),
        (),
        ("b",),
        ("a", "b"),
        ("0",),
        (),
    ]
    with pytest.raises(DataError, match="the label 'a;b' holds ';'"):
        sentences.load(
            str(write("u.jsonl", jsonl([{"text": "x", "label": ["a;b"]}]))),
            need=("label",),
            several=True,
        )


def test_tasks_read_cells_by_the_same_rules(write, capsys):
    kinds = parse_columns(["kind", "marks:multi_label", "price:regression"])
    rows = [
        {"path": "a/0.png", "kind": 0, "marks": ["u", "v"], "price": "1.5"},
        {"path": "a/1.png", "kind": ["10"], "marks": [], "price": 2},
        {"path": "b/0.png", "kind": False, "marks": "v", "price": None},
        {"path": "b/1.png", "kind": 9, "marks": None, "price": float("nan")},
    ]
    source = load_task_table(str(write("t.jsonl", jsonl(rows))), kinds, to_train=False)
    assert [e.cells for e in source.splits["train"]] == [
        ("0", "u;v", "1.5"),
        ("10", "", "2"),
        ("False", "v", ""),
        ("9", "", ""),
    ]
    header = "path,kind,marks,price,split\n"
    for content, message in (
        (header + "a/0.png,dog\n", "line 2: 2 cells, the header has 5"),
        ("path,kind,marks\na/0.png,x,y\n", "has no column 'price': .*: --tasks price=COLUMN"),
        (
            header + "a/0.png,x,y,much,\n",
            "line 2, column 'price': 'much' of task 'price' is no number",
        ),
        (header + "a/9.png,x,y,1,\na/8.png,x,y,1,\n", "line 2: there is no file .*.and 1 more"),
    ):
        with pytest.raises(DataError, match=message):
            load_task_table(str(write("t.csv", content)), kinds)
    with pytest.raises(
        DataError,
        match="a list of 2, expected one answer to task 'kind': --tasks kind=kind:multi_label",
    ):
        load_task_table(str(write("t.jsonl", jsonl([{**rows[0], "kind": ["a", "b"]}]))), kinds)
    capsys.readouterr()
    table = "Path;Kind;marks;price\na\\0.png;nan;v;nan\n;;;\na/1.png;x;;\n"
    source = load_task_table(str(write("t.csv", table)), kinds, to_train=False)
    assert [e.cells for e in source.splits["train"]] == [("", "v", ""), ("x", "", "")]
    assert left(source) == {"blank rows": 1}
    warned = warnings_of(capsys)
    for said in (
        "semicolons",
        "backslashes",
        "'nan' in the column 'kind'",
        "'Path' is taken for 'path'",
        "1 blank rows",
    ):
        assert said in warned


# Lines and words


def test_only_line_feeds_end_a_line():
    assert split_lines("a\u2028b\nc\x85d\x0ce\r\n\n f\x0bg\x1ch") == [
        "a\u2028b",
        "c\x85d\x0ce",
        "",
        " f\x0bg\x1ch",
    ]
    assert split_lines("a\rb\r") == ["a", "b"]
    assert split_lines("") == []
    assert split_lines("\n") == [""]
    assert split_lines("a\rb\nc") == ["a\rb", "c"]


def test_where_a_line_has_tabs_they_separate(write):
    content = (
        "see O\nNew York\tB-LOC\n10\u00a0000\tX\tB-NUM \n\u00a0\tO\nin   O\nO\u2028slo B-LOC\n"
    )
    (sentence,) = sentences.load(str(write("t.conll", content)), need=("tags",)).splits["train"]
    assert sentence.words == ("see", "New York", "10\u00a0000", "\u00a0", "in", "O\u2028slo")
    assert sentence.tags == ("O", "B-LOC", "B-NUM", "O", "O", "B-LOC")
    with pytest.raises(DataError, match="line 1: there is no word before the tag 'O'"):
        sentences.load(str(write("t.conll", "\tO\n")), need=("tags",))
    rows = "text\ttags\n10\u00a0000 euros\tB-NUM O\n"
    (sentence,) = sentences.load(str(write("t.tsv", rows)), need=("tags",)).splits["train"]
    assert sentence.words == ("10\u00a0000", "euros")
    assert split_words("New York\tnow ") == ["New York", "now"]


def test_folders_of_texts_name_what_is_not_read(write, tmp_path, capsys):
    table = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(8))
    for name in ("x_train.csv", "x_test.csv", "notes.csv", "README.md", ".DS_Store"):
        (tmp_path / "t").mkdir(exist_ok=True)
        write(f"t/{name}", table)
    source = sentences.load(str(tmp_path / "t"), need=("label",))
    assert {split: len(part) for split, part in source.splits.items()} == {"train": 8, "test": 8}
    assert left(source) == {".csv": 1, ".md": 1}
    assert "notes.csv" in warnings_of(capsys)
    (tmp_path / "u").mkdir()
    write("u/all.csv", table)
    with pytest.raises(DataError, match="to read 'all.csv' alone, give its path"):
        sentences.load(str(tmp_path / "u"), need=("label",))


# Labels


def test_integers_sort_as_numbers_everywhere(write):
    assert labels.sort_labels(["10", "9", "-1", "9"]) == ["-1", "9", "10"]
    assert labels.sort_labels(["10", "9", "a"]) == ["10", "9", "a"]
    table = "text,label\n" + "".join(
        f"text {i},{label}\n" for label in (10, 9, 100) for i in range(2)
    )
    assert sentences.load(str(write("t.csv", table)), need=("label",)).labels == ("9", "10", "100")
    kinds = parse_columns(["kind", "marks:multi_label"])
    table = "path,kind,marks\n" + "".join(f"a/{i}.png,{i + 9},{i + 9};100\n" for i in (0, 1))
    tasks = tasks_of_table(load_task_table(str(write("t.csv", table)), kinds), kinds)
    assert [task.labels for task in tasks] == [("9", "10"), ("9", "10", "100")]


def of(labels, same=()) -> Source:
    pixels = [np.full((2, 2, 3), i, np.uint8) for i in range(len(labels))]
    for i, j in same:
        pixels[i] = pixels[j]
    made = tuple(
        Example(p, label, f"{i}.png")
        for i, (p, label) in enumerate(zip(pixels, labels, strict=True))
    )
    return Source(
        "made",
        tuple(sorted(set(labels))),
        {"train": made, "validation": made[:0], "test": made[:0]},
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["HUND", "HUND", "hund", "cat"],
            "the labels 'HUND' (2) and 'hund' (1) differ only in case",
        ),
        (["k\u00e4se", "ka\u0308se"], "differ only in Unicode form (NFC and NFD)"),
        (["hot dog", "hot  dog"], "differ only in blanks"),
        (["a", "A", "b", "B"], "(and 1 more such groups)"),
    ],
)
def test_labels_that_may_be_meant_to_be_one_are_warned_of(capsys, given, said):
    concerns.warn_of_concerns(of(given), "", "mobilenet_v2", 0)
    assert said in warnings_of(capsys)


def test_the_same_content_under_two_labels_is_warned_of(capsys):
    concerns.warn_of_concerns(of("abab", [(1, 0), (3, 2)]), "", "mobilenet_v2", 0)
    warned = warnings_of(capsys)
    assert (
        "'1.png' (b) has the same content as '0.png' (a) but another label (and 1 more): correct"
        in warned
    )
    concerns.warn_of_concerns(of("aabb", [(1, 0)]), "", "mobilenet_v2", 0)
    warned = warnings_of(capsys)
    assert "'1.png' repeats '0.png' in the same split" in warned
    assert "another label" not in warned


def test_the_same_text_with_other_tags_and_the_same_image_with_more_answers(write, capsys):
    table = "text,tags\na b,O B-x\na b,O O\nc d,B-x B-X\n"
    source = sentences.load(str(write("t.csv", table)), need=("tags",))
    full = Source("t", (), {"train": source.splits["train"], "validation": (), "test": ()})
    concerns.warn_of_concerns(full, "", "small_bert", 0)
    warned = warnings_of(capsys)
    assert "'line 3' (O, O) has the same content as 'line 2' (O, B-x) but another label" in warned
    assert "the labels 'X' (1) and 'x' (2) of tags differ only in case" in warned
    kinds = parse_columns(["kind", "colour"])
    source = load_task_table(
        str(write("t.csv", "path,kind,colour\na/0.png,x,\na/0.png,,y\n")), kinds, to_train=False
    )
    concerns.warn_of_concerns(
        Source("t", (), {**source.splits, "validation": (), "test": ()}), "", "mobilenet_v2", 0
    )
    assert "another label" not in warnings_of(capsys)


# What is kept of it


def test_the_record_and_the_line_add_up(fill):
    root = fill(*classes(count=10), "d/red/a.heic")
    (root / "d/red/9.png").write_bytes(b"no image")
    source, _ = splits.complete(load(root / "d"), 0)
    source = splits.take(source, 4, None, 0)
    codec = ImageCodec(8, skip_bad=True)
    images = {split: codec.encode(records, ()) for split, records in source.splits.items()}
    record = reading.record(source, images)
    assert record["found"] == 21
    assert record["used"] + sum(part["count"] for part in record["left_out"]) == 21
    reasons = {part["reason"]: part["count"] for part in record["left_out"]}
    assert reasons[".heic"] == 1
    assert reasons["not drawn by --per-class 4"] == 4
    said = reading.summary(source, images, codec.noun)
    assert f"{record['used']} images, 2 classes: " in said
    assert f"; {21 - record['used']} left out: 4 not drawn by --per-class 4, 1 .heic" in said


def test_complete_splits_stay_where_they_were(write):
    """Labels sort as numbers in a model; the splits of an older run were drawn in the order of
    characters.
    """
    examples = tuple(
        Example(np.full((1, 1, 3), i, np.uint8), str(label), f"{label}-{i}")
        for i, label in enumerate([2, 10] * 10)
    )
    drawn = [
        splits.complete(Source("x", order, {"train": examples}), 0)[0].splits
        for order in (("2", "10"), ("10", "2"))
    ]
    assert drawn[0] == drawn[1]


class Feature:
    """What `tfds` knows of a label."""

    def int2str(self, number):
        return ("neg", "pos")[number]


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        (object(), b"pos", "pos"),
        (object(), np.bytes_(b"pos"), "pos"),
        (object(), "caf\u00e9".encode(), "caf\u00e9"),
        (object(), b"", None),
        (object(), np.int64(3), "3"),
        (object(), np.array([b"pos"], object), "pos"),
        (Feature(), np.int64(1), "pos"),
        (Feature(), np.array([0]), "neg"),
        (Feature(), np.int64(-1), None),
    ],
)
def test_labels_of_tfds_are_decoded(feature, value, expected):
    assert tfds.label_name("x", feature, value) == expected


@pytest.mark.parametrize("value", [np.array([1, 2]), {"a": 1}])
def test_several_labels_of_tfds_are_refused(value):
    with pytest.raises(ConfigError, match="a label of the data set 'x' is .*, expected one"):
        tfds.label_name("x", Feature(), value)


def test_several_labels_of_a_cell_stand_between_semicolons(tmp_path):
    cell = Cell(TableRow(tmp_path / "t.csv", 2, {"marks": "a; b;"}), "marks", "marks", Tally())
    assert MultiLabelTask.read_cell(cell) == ("a; b;", ("a", "b"))


def test_errors_are_ours(write, tmp_path):
    """Hostile cells: whatever a table names, it is one line."""
    for name in (
        "a\0b",
        "x" * 5000,
        "../" * 50,
        "~nobody/x.png",
        "file://",
        "a/0.png/x",
        "%00",
        "\u202e.png",
    ):
        with pytest.raises(GraftError):
            load(write("t.jsonl", jsonl([{"path": name, "label": "x"}])))
    shutil.rmtree(tmp_path / "a")
