"""Folders, tables and built-in names become the same plain records; every defect is one line that
names the place.
"""

import json
import os
import socket

import numpy as np
import pytest
from PIL import Image

from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.data import concerns, splits
from graft.recipes.data.records import Example, Source
from graft.recipes.data.sources import load, load_unlabelled
from graft.recipes.tasks.cells import Column
from graft.recipes.tasks.columns import load_task_table, tasks_of_table
from graft.recipes.tasks.labels import SingleLabelTask
from graft.zoo import vision
from graft.zoo.errors import ConfigError, DataError, UnknownName
from graft.zoo.heads import heads


def write_image(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(path)


def fill(root, counts, shade=0):
    for label, count in counts.items():
        for i in range(count):
            shade += 1
            write_image(root / label / f"{i}.png", shade)


def encoded(examples, labels, skip_bad=False) -> Images:
    """The images of 8 x 8 pixels, with one of the labels to learn."""
    task = SingleLabelTask(heads.single_label(labels, name="label"))
    return ImageCodec(8, skip_bad).encode(examples, [task])


def classes(images: Images) -> list[int]:
    """The number of each image's label."""
    return images.targets["label"].argmax(-1).tolist()


def test_class_folders(tmp_path):
    fill(tmp_path, {"b": 3, "a": 2})
    write_image(tmp_path / "a" / "deeper" / "x.JPG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    source = load(str(tmp_path))
    assert source.labels == ("a", "b")
    assert [example.name for example in source.splits["train"]] == [
        "a/0.png",
        "a/1.png",
        "a/deeper/x.JPG",
        "b/0.png",
        "b/1.png",
        "b/2.png",
    ]


def test_a_name_that_is_no_utf8_can_be_written_down(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    os.rename(tmp_path / "a" / "0.png", os.fsencode(tmp_path / "a") + b"/caf\xe9.png")
    names = [example.name for example in load(str(tmp_path)).splits["train"]]
    assert "a/caf?.png" in names
    assert splits.fingerprint(load(str(tmp_path)))


def test_split_folders_go_by_label_name_not_by_position(tmp_path):
    fill(tmp_path / "train", {"ant": 2, "bee": 2, "cat": 2})
    fill(tmp_path / "val", {"bee": 1, "cat": 1}, 50)
    fill(tmp_path / "test", {"cat": 1}, 99)
    source = load(str(tmp_path))
    assert source.labels == ("ant", "bee", "cat")
    assert classes(encoded(source.splits["test"], source.labels)) == [2]
    assert classes(encoded(source.splits["validation"], source.labels)) == [1, 2]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_tables(tmp_path, suffix):
    fill(tmp_path / "images", {"a": 2, "b": 2})
    rows = [
        (f"images/{label}/{i}.png", label, split)
        for label in "ab"
        for i, split in ((0, ""), (1, "train"))
    ]
    rows.append(("images/a/0.png", "a", "val"))
    table = tmp_path / f"data.{suffix}"
    if suffix == "jsonl":
        table.write_text(
            "\n".join(
                json.dumps(dict(zip(("path", "label", "split"), r, strict=True))) for r in rows
            )
        )
    else:
        mark = "," if suffix == "csv" else "\t"
        # As spreadsheets save it: with a byte order mark.
        text = "\n".join(mark.join(r) for r in [("path", "label", "split"), *rows])
        table.write_text(text, encoding="utf-8-sig")
    source = load(str(table))
    assert {split: len(examples) for split, examples in source.splits.items()} == {
        "train": 4,
        "validation": 1,
    }


def test_images_without_labels_are_those_of_the_train_split(tmp_path):
    def names(spec):
        return [example.name for example in load_unlabelled(str(spec)).splits["train"]]

    for name in (
        "a/loose.png",
        "a/deep/er.png",
        "b/train/x/1.png",
        "b/test/x/2.png",
        "c/train/1.png",
        "c/bus/2.png",
        "d/test/1.png",
    ):
        write_image(tmp_path / name)
    assert names(tmp_path / "a") == ["deep/er.png", "loose.png"]
    assert names(tmp_path / "b") == ["train/x/1.png"]
    assert names(tmp_path / "c") == ["bus/2.png", "train/1.png"]  # vehicles
    for table, rows in (
        ("e.csv", "a/loose.png,train\nnowhere.png,test\n"),
        ("f.csv", "a/loose.png,test\n"),
    ):
        (tmp_path / table).write_text(f"path,split\n{rows}")
    assert names(tmp_path / "e.csv") == ["a/loose.png"]
    for spec in ("d", "f.csv"):
        with pytest.raises(
            DataError,
            match=f"'.*{spec}' has no train split to learn from, only test: name the folder",
        ):
            names(tmp_path / spec)


def test_other_column_names(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "t.csv").write_text("file,kind\na/0.png,x\na/1.png,x\nb/0.png,y\nb/1.png,y\n")
    assert load(str(tmp_path / "t.csv"), path_column="file", label_column="kind").labels == (
        "x",
        "y",
    )


def test_digits_are_built_in():
    source = load("digits")
    assert source.labels == tuple("0123456789")
    assert len(source.splits["train"]) == 1797


def bad_table(text):
    def make(root):
        fill(root, {"a": 2, "b": 2})
        (root / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return root / "t.csv"

    return make


def folder_with(counts, *empty):
    def make(root):
        fill(root / "d", counts)
        for name in empty:
            (root / "d" / name).mkdir(parents=True)
        (root / "d").mkdir(exist_ok=True)
        return root / "d"

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "there is no file or folder"),
        (folder_with({}), "holds no class folders"),
        (folder_with({"a": 2}, "b"), "class folder .*b' holds no images"),
        (folder_with({"a": 2}), "holds one class only"),
        (folder_with({"a": 2, "b": 1}), "class 'b' .* has one image"),
        (
            folder_with({"train/a": 2, "train/b": 2, "test/c": 1}),
            "class 'c' .* has no image to train on",
        ),
        (folder_with({"test/a": 2, "test/b": 2}), "no train split"),
        (
            folder_with({"train/a": 2, "train/b": 2, "stray/a": 2}),
            "mixes split folders with 'stray'",
        ),
        (
            folder_with({"val/a": 2, "validation/b": 2, "train/a": 2}),
            "two folders for the split 'validation'",
        ),
        (bad_table("path,kind\na/0.png,x\n"), "no column 'label': it has path, kind"),
        (bad_table("file,label\na/0.png,x\n"), "no column 'path'"),
        (bad_table("path,label\na/0.png,x\na/1.png,\n"), "line 3: the column 'label' is empty"),
        (bad_table("path,label\na/0.png,x\na/9.png,x\n"), "line 3: there is no file .*9.png"),
        (bad_table("path,label,split\na/0.png,x,elsewhere\n"), "line 2: split 'elsewhere'"),
        (bad_table(b"path,label\na/0.png,caf\xe9\n"), "not UTF-8"),
        (bad_table("path,label\n"), "holds no images"),
    ],
)
def test_bad_sources_are_one_line(tmp_path, make, message):
    with pytest.raises(DataError, match=message) as caught:
        load(str(make(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_quote_that_nobody_closes_and_half_a_character(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text('path,label\na.png,"x\n' + "b.png,y\n" * 50)
    monkeypatch.setattr("graft.recipes.data.tables.delimited.LONGEST_CELL", 100)
    with pytest.raises(DataError, match="is a quote opened there or before that nobody closes"):
        load(str(tmp_path / "t.csv"))
    (tmp_path / "t.jsonl").write_text('{"path": "a.png", "label": "\\ud83d"}\n')
    with pytest.raises(DataError, match="line 1: half a character"):
        load(str(tmp_path / "t.jsonl"))


def test_bad_json_line(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"path": "x"')
    with pytest.raises(DataError, match="line 1: not JSON"):
        load(str(tmp_path / "t.jsonl"))
    (tmp_path / "t.jsonl").write_text("[1]")
    with pytest.raises(DataError, match="line 1: expected a JSON object"):
        load(str(tmp_path / "t.jsonl"))


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "data.xlsx").write_text("")
    with pytest.raises(DataError, match="expected a folder, a .csv"):
        load(str(tmp_path / "data.xlsx"))


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'digits'"):
        load("digit")


def of(labels: dict[str, int], split="train") -> Source:
    rng = np.random.default_rng(0)
    examples = tuple(
        Example(rng.integers(0, 256, (4, 4, 3), np.uint8), label, f"{label}{i}")
        for label, n in labels.items()
        for i in range(n)
    )
    return Source("made", tuple(sorted(labels)), {split: examples})


def test_missing_splits_are_stratified_and_repeatable():
    source = of({"a": 40, "b": 20})
    full, made = splits.complete(source, 3)
    assert made == ("test", "validation")
    per_label = {
        s: {x: sum(e.label == x for e in full.splits[s]) for x in "ab"} for s in full.splits
    }
    assert per_label == {
        "train": {"a": 28, "b": 14},
        "validation": {"a": 6, "b": 3},
        "test": {"a": 6, "b": 3},
    }
    names = [{e.name for e in full.splits[s]} for s in full.splits]
    assert len(set.union(*names)) == 60
    shuffled = Source("made", source.labels, {"train": source.splits["train"][::-1]})
    again = splits.complete(shuffled, 3)[0]
    assert [{e.name for e in again.splits[s]} for s in again.splits] == names
    other = splits.complete(source, 4)[0]
    assert {e.name for e in other.splits["test"]} != names[2]


def test_the_same_image_is_never_in_two_splits_that_are_made():
    source = of({"a": 30, "b": 30})
    twice = [Example(e.image, e.label, f"copy of {e.name}") for e in source.splits["train"]]
    full, _ = splits.complete(
        Source("made", source.labels, {"train": (*source.splits["train"], *twice)}), 0
    )
    assert concerns.duplicates_across(full) == []
    assert {name: len(part) for name, part in full.splits.items()} == {
        "train": 88,
        "validation": 16,
        "test": 16,
    }


def test_splits_are_made_of_training_data_only():
    with pytest.raises(
        DataError, match="has no train split from which to make the missing validation split"
    ):
        splits.complete(of({"a": 9}, "test"), 0)


def test_existing_splits_stay():
    source = Source(
        "made", ("a", "b"), {**of({"a": 9, "b": 9}).splits, **of({"a": 2}, "test").splits}
    )
    full, made = splits.complete(source, 0)
    assert made == ("validation",)
    assert full.splits["test"] == source.splits["test"]


def test_too_few_to_split():
    with pytest.raises(DataError, match="class 'b' .* has 3 different examples, too few"):
        splits.complete(of({"a": 9, "b": 3}), 0)


def test_take_per_label():
    source = splits.take_per_label(of({"a": 9, "b": 5}), 4, 0)
    assert sorted(e.label for e in source.splits["train"]) == ["a"] * 4 + ["b"] * 4
    with pytest.raises(ConfigError, match="--per-class needs one label an example"):
        splits.take_per_label(of({"": 9}), 4, 0)
    for count in (1, 6):
        with pytest.raises(ConfigError, match="expected 2 to"):
            splits.take_per_label(of({"a": 9, "b": 5}), count, 0)


def test_duplicates_across_splits_are_counted_and_warned_of(tmp_path, capsys):
    fill(tmp_path / "train", {"a": 2, "b": 2})
    fill(tmp_path / "test", {"a": 1, "b": 1}, 0)  # the shade starts anew: a/0 again; b/0 equals a/1
    fill(tmp_path / "validation", {"a": 1}, 90)
    source = load(str(tmp_path))
    assert concerns.duplicates_across(source) == [
        ("test/a/0.png", "train/a/0.png"),
        ("test/b/0.png", "train/a/1.png"),
    ]
    assert concerns.warn_of_concerns(source, "", "mobilenet_v2", 0) == 2
    warned = " ".join(capsys.readouterr().err.split())
    assert (
        "'test/a/0.png' has the same content as 'train/a/0.png' of another split (and 1 more)"
        in warned
    )
    assert "the validation split has no example of 'b'" in warned


@pytest.mark.parametrize("name", ["run", "run/model.keras"])
def test_a_backbone_that_has_seen_what_is_held_out_is_warned_of(tmp_path, capsys, name):
    source, made = splits.complete(of({"a": 9, "b": 9}), 3)
    seen = {"fingerprint": splits.fingerprint(source), "made_splits": list(made), "split_seed": 3}

    def warned(**others) -> str:
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "run.json").write_text(json.dumps({"data": {**seen, **others}}))
        concerns.warn_of_concerns(source, seen["fingerprint"], str(tmp_path / name), 0)
        return capsys.readouterr().err

    assert "split by --split-seed 3: it has seen some of what --split-seed 0 holds out" in warned()
    for harmless in ({"split_seed": 0}, {"made_splits": []}, {"fingerprint": "of other data"}):
        assert warned(**harmless) == ""


def test_the_fingerprint_follows_content_and_label_but_not_order():
    source = of({"a": 4, "b": 4})
    reference = splits.fingerprint(source)
    assert (
        splits.fingerprint(Source("x", source.labels, {"train": source.splits["train"][::-1]}))
        == reference
    )
    assert splits.fingerprint(splits.complete(source, 1)[0]) == reference
    first, *rest = source.splits["train"]
    for changed in (
        Example(first.image + 1, "a", first.name),
        Example(first.image, "b", first.name),
    ):
        assert (
            splits.fingerprint(Source("x", source.labels, {"train": (changed, *rest)})) != reference
        )


def test_evaluation_gets_the_same_test_split_or_is_refused():
    source = of({"a": 20, "b": 20})
    full, made = splits.complete(source, 7)
    record = {"split_seed": 7, "made_splits": list(made), "fingerprint": splits.fingerprint(source)}
    assert splits.reuse(source, "test", record) == full.splits["test"]
    assert splits.reuse(source, "train", record) == full.splits["train"]
    with pytest.raises(DataError, match="not the data that this model was trained on"):
        splits.reuse(of({"a": 20, "b": 21}), "test", record)
    with pytest.raises(DataError, match="no test split of its own"):
        splits.reuse(source, "test", None)
    own = of({"a": 3}, "test")
    assert splits.reuse(own, "test", None) == own.splits["test"]


def test_bad_images_stop_or_are_skipped_and_counted(tmp_path):
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "1.png").write_bytes(b"")
    (tmp_path / "b" / "2.png").write_bytes(b"nonsense")
    source = load(str(tmp_path))
    with pytest.raises(
        DataError, match="a/1.png' is not a readable image .* \\(and 1 more\\): mend or remove it"
    ):
        encoded(source.splits["train"], source.labels)
    images = encoded(source.splits["train"], source.labels, skip_bad=True)
    assert len(images) == 4
    assert len(images.skipped) == 2
    assert images.names == ("a/0.png", "a/2.png", "b/0.png", "b/1.png")
    assert classes(images) == [0, 0, 1, 1]
    with pytest.raises(DataError, match="the label 'b' is not one of the model's 2: a, c"):
        encoded(source.splits["train"], ("a", "c"))
    only_bad = [
        example for example in source.splits["train"] if example.name in ("a/1.png", "b/2.png")
    ]
    with pytest.raises(DataError, match="none of the 2 images"):
        encoded(only_bad, source.labels, skip_bad=True)


@pytest.fixture
def odd_folder(tmp_path):
    """Two class folders of images, and in one of them all that has the name of an image and is
    none.
    """
    fill(tmp_path, {"a": 4, "b": 4})
    odd = tmp_path / "a"
    os.mkfifo(odd / "pipe.png")
    (odd / "folder.png").mkdir()
    (odd / "link.png").symlink_to("nowhere.png")
    (odd / "device.png").symlink_to("/dev/zero")
    (odd / "bomb.png").write_bytes(b"P6 99999999 1 255\n")
    made = socket.socket(socket.AF_UNIX)
    made.bind(os.path.relpath(odd / "socket.png"))  # a whole path may be too long for one
    yield tmp_path
    made.close()


ODD = {
    "pipe.png": "it is a pipe",
    "folder.png": "it is a folder",
    "link.png": "it is a link to a file that is not there",
    "device.png": "it is a device",
    "bomb.png": "is too large to be decoded: 99,999,999 x 1 pixels",
    "socket.png": "it is a socket",
}


def test_what_has_the_name_of_a_image_and_is_none_is_one_bad_image(odd_folder):
    source = load(str(odd_folder))
    examples = source.splits["train"]
    assert len(examples) == 8 + len(ODD)
    assert len({example.digest for example in examples}) == len(examples)
    images = encoded(examples, source.labels, skip_bad=True)
    assert len(images) == 8
    for name, cause in ODD.items():
        assert any(name in message and cause in message for message in images.skipped), (
            name,
            images.skipped,
        )
    with pytest.raises(
        DataError, match=rf"\(and {len(ODD) - 1} more\): mend or remove it, or pass --skip-bad"
    ):
        encoded(examples, source.labels)


def test_a_table_may_name_them_too(odd_folder):
    names = ["a/0.png", "a/1.png", "b/0.png", "b/1.png", *(f"a/{name}" for name in ODD)]
    table = odd_folder / "t.csv"
    table.write_text("path,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    source = load(str(table))
    assert len(encoded(source.splits["train"], source.labels, skip_bad=True)) == 4
    table.write_text("path,kind,grey:\n" + "".join(f"{name},{name[0]},1\n" for name in names))
    asked = (Column("kind", "kind", "single_label"), Column("grey", "grey:", "regression"))
    source = load_task_table(str(table), asked)
    tasks = tasks_of_table(source, asked)
    images = ImageCodec(8, skip_bad=True).encode(source.splits["train"], tasks)
    assert [len(part) for part in (images, *images.targets.values())] == [4, 4, 4]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "the memory does not suffice"),
        (PermissionError(13, "no"), "permission denied"),
    ],
)
def test_what_cannot_be_read_now_is_one_bad_image(tmp_path, monkeypatch, error, cause):
    fill(tmp_path, {"a": 3, "b": 3})
    source = load(str(tmp_path))
    known = vision._open_whatever_its_size

    def opened(file):
        if file.name == "1.png":
            raise error
        return known(file)

    monkeypatch.setattr(vision, "_open_whatever_its_size", opened)
    images = encoded(source.splits["train"], source.labels, skip_bad=True)
    assert len(images) == 4
    assert all(cause in message for message in images.skipped)
    with pytest.raises(DataError, match=cause):
        encoded(source.splits["train"], source.labels)


def test_a_folder_of_images_may_be_called_after_them(tmp_path):
    fill(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a").rename(tmp_path / "x.png")
    (tmp_path / "a").mkdir()
    (tmp_path / "x.png").rename(tmp_path / "a" / "x.png")
    names = sorted(example.name for example in load(str(tmp_path)).splits["train"])
    assert names == ["a/x.png/0.png", "a/x.png/1.png", "b/0.png", "b/1.png"]
