"""Parquet, Arrow, Feather and tar files, the Hub's and TensorFlow Datasets' own files: what is read
of them, where images lie, and what is refused.
"""

import io
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import feather

from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.codecs.pixels import decode_all
from graft.recipes.data import sentences, sources
from graft.recipes.data.containers import arrow_files
from graft.recipes.data.containers.hub import hub_parts
from graft.recipes.data.folders import known_files
from graft.recipes.data.folders.known_files import KnownFiles
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import reading_order
from graft.recipes.data.tables import text_files
from graft.recipes.data.tables.rows import read_rows
from graft.recipes.tasks.columns import load_task_table, parse_columns
from graft.zoo.contents import Packed, content_digest, digest_of
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.files.store import Store
from graft.zoo.vision import decode_image


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (shade, 7, 7)).save(file, "PNG")
    return file.getvalue()


CONTENTS = [png(10 * i) for i in range(8)]
LABELS = ["cat", "dog"] * 4
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
}


def image_table(contents=CONTENTS, labels=(0, 1) * 4, features=FEATURES):
    """As `datasets` writes images and classes."""
    images = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": list(labels)})
    noted = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": noted})


def write_stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def write_file(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


WRITERS = {
    "x.parquet": lambda table, path: pq.write_table(table, path, row_group_size=3),
    "whole.parquet": lambda table, path: pq.write_table(table, path, write_statistics=False),
    "x.feather": feather.write_feather,
    "x.arrow": write_file,
    "stream.arrow": write_stream,
}


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            content = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pairs(end="cls", count=8, start=0):
    for i in range(start, start + count):
        label = LABELS[i % 8]
        yield f"a/{i:04}.png", CONTENTS[i % 8]
        yield f"a/{i:04}.{end}", json.dumps({"label": label}) if end == "json" else f"{label}\n"


@pytest.mark.parametrize("name", WRITERS)
def test_images_inside_of_arrow_files(tmp_path, name):
    WRITERS[name](image_table(), tmp_path / name)
    source = sources.load(str(tmp_path / name))
    assert source.labels == ("cat", "dog")
    records = source.splits["train"]
    assert [record.label for record in records] == LABELS
    assert all(isinstance(record.image, Packed) for record in records)
    assert [record.image.read() for record in records] == CONTENTS
    assert [record.image.read() for record in reversed(records)] == CONTENTS[::-1]
    assert [record.digest for record in records] == [digest_of(content) for content in CONTENTS]
    assert len({record.name for record in records}) == 8
    assert decode_image(records[3].image, 4).tolist() == decode_image(CONTENTS[3], 4).tolist()


@pytest.mark.parametrize("name", WRITERS)
def test_plain_bytes_and_paths_are_images_too(tmp_path, name):
    plain = pa.table({"path": pa.array(CONTENTS, pa.binary()), "label": LABELS})
    WRITERS[name](plain, tmp_path / name)
    images = [r.image for r in sources.load(str(tmp_path / name)).splits["train"]]
    assert [image.read() for image in images] == CONTENTS
    for i, content in enumerate(CONTENTS):
        (tmp_path / f"{i}.png").write_bytes(content)
    cells = [{"bytes": None, "path": f"{i}.png"} for i in range(8)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    WRITERS[name](pa.table({"image": pa.array(cells, kind), "label": LABELS}), tmp_path / name)
    images = [r.image for r in sources.load(str(tmp_path / name)).splits["train"]]
    assert images == [tmp_path / f"{i}.png" for i in range(8)]
    WRITERS[name](
        pa.table({"path": [f"{i}.png" for i in range(8)], "label": list(range(8))}), tmp_path / name
    )
    source = sources.load(str(tmp_path / name), to_train=False)
    assert source.labels == tuple(map(str, range(8)))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 39), min_size=1, max_size=60), st.integers(1, 40), st.integers(1, 9))
def test_rows_are_read_in_any_order(tmp_path, monkeypatch, order, group, stretch):
    monkeypatch.setattr(arrow_files, "MOST_ROWS", stretch)
    arrow_files._opened.cache_clear()
    contents = [b"%03d" % i for i in range(40)]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": pa.array(contents, pa.binary())}), path, row_group_size=group)
    reader = arrow_files.ImageColumn(path, "image")
    assert [reader.read(row, 0) for row in order] == [contents[row] for row in order]


def test_a_record_holds_no_bytes_and_a_group_of_rows_is_not_read_whole(tmp_path):
    import gc
    import tracemalloc

    rng = np.random.default_rng(0)
    contents = [rng.bytes(2**20) for _ in range(48)]
    # Small pages: what a page holds is held at once, and pyarrow writes 1,024 rows into one.
    pq.write_table(
        image_table(contents, [0, 1] * 24),
        tmp_path / "x.parquet",
        use_dictionary=False,
        write_batch_size=4,
    )
    write_tar(tmp_path / "x.tar", [(f"{i}.png", c) for i, c in enumerate(contents)])
    del contents
    gc.collect()
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    tracemalloc.start()
    found = sources.load_unlabelled(str(tmp_path / "x.parquet")).splits["train"]
    found += sources.load_unlabelled(str(tmp_path / "x.tar")).splits["train"]
    assert tracemalloc.get_traced_memory()[1] < 2**20
    for record in found:
        content_digest(record.image)
        most = max(most, pool.bytes_allocated() - before)
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    assert most < 44 * 2**20, "four stretches of 8 MB and the one that is read"


@pytest.mark.parametrize("kind", ["parquet", "arrow", "tar"])
def test_more_files_than_a_process_may_open(tmp_path, kind):
    import resource

    for i in range(150):
        path = tmp_path / f"x-{i:04}.{kind}"
        if kind == "tar":
            write_tar(path, [(f"{i}.png", CONTENTS[i % 8])])
        else:
            write = write_file if kind == "arrow" else pq.write_table
            write(image_table([CONTENTS[i % 8]], [0]), path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, limits[1]))
    try:
        found = sources.load_unlabelled(str(tmp_path)).splits["train"]
        assert [r.image.read() for r in found] == [CONTENTS[i % 8] for i in range(150)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_threads_may_read_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    contents = [b"%04d" % i for i in range(500)]
    table = pa.table({"path": pa.array(contents, pa.binary())})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=60)
    found = sources.load_unlabelled(str(tmp_path / "x.parquet")).splits["train"]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda record: record.image.read(), found)) == contents


def test_the_layout_of_the_hub(tmp_path):
    data = tmp_path / "photos/data"
    data.mkdir(parents=True)
    for i in range(2):
        pq.write_table(image_table(), data / f"train-0000{i}-of-00002.parquet")
    pq.write_table(image_table(labels=[1, -1] * 4), data / "test-00000-of-00001.parquet")
    (tmp_path / "photos/README.md").write_text("about")
    for spec in (tmp_path / "photos", data):
        source = sources.load(str(spec))
        assert {split: len(part) for split, part in source.splits.items()} == {
            "train": 16,
            "test": 4,
        }
        names = [record.name for part in source.splits.values() for record in part]
        assert len(set(names)) == 20
        assert ("without a label", 4) in [(part.reason, part.count) for part in source.left_out]
    source = sources.load(str(data / "train-*.parquet"))
    assert {s: len(p) for s, p in source.splits.items()} == {"train": 16}


def test_a_tar_beside_class_folders_is_none_of_the_data(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(2):
            (tmp_path / label / f"{i}.png").write_bytes(CONTENTS[i])
    write_tar(tmp_path / "backup.tar", pairs())
    source = sources.load(str(tmp_path))
    assert source.labels == ("a", "b")
    assert [part.reason for part in source.left_out] == [".tar"]


def test_texts_of_arrow_files(tmp_path):
    tags = {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"}
    table = pa.table(
        {
            "id": [b"1", b"2"],
            "tokens": [["to", "Rome"], ["hello"]],
            "ner_tags": [[0, 1], [0]],
            "topics": [["a", "b"], []],
        }
    ).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": {"ner_tags": tags}}})}
    )
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    columns = sentences.Columns("tokens", "topics", "ner_tags")
    found = sentences.load(
        str(path), need=("label", "tags"), columns=columns, several=True, to_train=False
    ).splits["train"]
    assert [(s.words, s.tags, s.labels, s.name) for s in found] == [
        (("to", "Rome"), ("O", "B-X"), ("a", "b"), "row 0"),
        (("hello",), ("O",), (), "row 1"),
    ]


def test_only_what_is_asked_for_is_kept(tmp_path):
    pq.write_table(
        pa.table({"text": ["a"], "label": ["x"], "other": ["y"]}), tmp_path / "x.parquet"
    )
    (row,) = read_rows(tmp_path / "x.parquet", ("text", "label"))
    assert dict(row) == {"text": "a", "label": "x"}


@pytest.mark.parametrize("end", ["cls", "txt", "json"])
def test_tar_shards(tmp_path, end):
    shards = [write_tar(tmp_path / f"train-{i:04}.tar", pairs(end, start=8 * i)) for i in range(2)]
    write_tar(tmp_path / "val-0000.tar", pairs(end))
    for spec in (tmp_path, tmp_path / "train-{0000..0001}.tar", shards[0]):
        source = sources.load(str(spec))
        assert source.labels == ("cat", "dog")
        records = source.splits["train"]
        assert [r.image.read() for r in records] == CONTENTS * (len(records) // 8)
        assert [r.label for r in records] == LABELS * (len(records) // 8)
    assert {s: len(p) for s, p in sources.load(str(tmp_path)).splits.items()} == {
        "train": 16,
        "validation": 8,
    }


def test_texts_of_tar_shards(tmp_path):
    members = [("0.txt", "good"), ("0.cls", "1"), ("1.json", '{"text": "bad", "label": 0}')]
    path = write_tar(tmp_path / "x.tar", members)
    found = sentences.load(str(path), need=("label",), to_train=False).splits["train"]
    assert [(s.text, s.label) for s in found] == [("good", "1"), ("bad", "0")]


def test_several_tasks_in_a_tar(tmp_path):
    members = []
    for i in range(8):
        members += [
            (f"{i}.png", CONTENTS[i]),
            (f"{i}.json", json.dumps({"kind": LABELS[i], "price": i / 2})),
        ]
    path = write_tar(tmp_path / "x.tar", members)
    columns = parse_columns(["kind", "price:regression"])
    found = load_task_table(str(path), columns, to_train=False).splits["train"]
    assert [(record.cells, record.image.read()) for record in found] == [
        ((LABELS[i], str(i / 2)), CONTENTS[i]) for i in range(8)
    ]


@pytest.mark.parametrize("name", ["x.parquet", "x.tar"])
def test_images_of_containers_are_decoded_once(tmp_path, name):
    def write(contents):
        if name == "x.tar":
            write_tar(tmp_path / name, [(f"{i}.png", c) for i, c in enumerate(contents)])
        else:
            pq.write_table(image_table(contents), tmp_path / name, row_group_size=3)
        return sources.load_unlabelled(str(tmp_path / name)).splits["train"]

    def decoded(records, trusted=True):
        known = KnownFiles(tmp_path / "store", trusted)
        return DecodedImages(Store(tmp_path / "store"), 4, known).find(records, "decode")

    expected = [decode_image(content, 4).tolist() for content in CONTENTS]
    records = write(CONTENTS)
    shuffled = [records[i] for i in (5, 2, 7, 0, 1, 3, 6, 4)]
    assert reading_order(shuffled, range(8)) == [3, 4, 1, 5, 7, 0, 6, 2]
    assert decoded(shuffled).pixels[[3, 4, 1, 5, 7, 0, 6, 2]].tolist() == expected
    pixels, _, bad = decode_all(shuffled, 4, "stretch", "decode")
    assert not bad
    assert pixels[[3, 4, 1, 5, 7, 0, 6, 2]].tolist() == expected
    found = decoded(records)
    assert found.pixels[:].tolist() == expected
    assert found.pixels._decode_anew(2).tolist() == expected[2]
    again = decoded(write(CONTENTS[::-1]))  # another content in the same place
    assert again.pixels[:].tolist() == expected[::-1]
    damaged = decoded(write([*CONTENTS[:7], b"no image"]))
    assert list(damaged.bad) == [7]
    assert f"{tmp_path / name}, " in damaged.bad[7]
    assert "known image format" in damaged.bad[7]


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def parquet(tmp_path, table):
    pq.write_table(table, tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


BAD_IMAGES = {
    "a cut Parquet file": (
        lambda p: cut(parquet(p, image_table())),
        r"x.parquet' is no whole Parquet file .*cut off",
    ),
    "a cut Arrow file": (
        lambda p: write_file(image_table(), p / "x.arrow") or cut(p / "x.arrow", 0.1),
        r"x.arrow' is no whole Arrow or Feather file",
    ),
    "no Parquet at all": (
        lambda p: (p / "x.parquet").write_text("a,b\n") and p / "x.parquet",
        r"x.parquet' is no whole Parquet file",
    ),
    "no such label column": (
        lambda p: parquet(p, image_table().rename_columns(["image", "kind"])),
        r"x.parquet', row 0, has no column 'label': it has path, kind: --label-column",
    ),
    "no column of images": (
        lambda p: parquet(p, pa.table({"picture": ["a.png"], "label": ["a"]})),
        r"has no column 'path': it has picture, label: --path-column picture",
    ),
    "a number without a class": (
        lambda p: parquet(p, image_table(labels=[0, 2] * 4)),
        r"row 1: the column 'label' holds 2, but the file has names for 2 classes",
    ),
    "an empty cell": (
        lambda p: parquet(p, image_table([None, *CONTENTS[1:]], features={})),
        r"there is no file .*0.png'",
    ),
    "a split that is none": (
        lambda p: parquet(p, image_table().append_column("split", [["what"] * 8])),
        r"row 0: split 'what'; expected train",
    ),
    "an image without a label": (
        lambda p: write_tar(p / "x.tar", [*pairs(), ("a/9.png", CONTENTS[0])]),
        r"x.tar', key 'a/9': there is no label for it: expected 9.cls, 9.txt or 9.json",
    ),
    "a label without an image": (
        lambda p: write_tar(p / "x.tar", [*pairs(), ("a/9.cls", "cat")]),
        r"x.tar', key 'a/9': there is a label, but no image",
    ),
    "a tar that is cut in a file": (
        lambda p: cut(write_tar(p / "x.tar", pairs()), 0.05),
        r"x.tar' is no whole tar file",
    ),
    "a tar that is cut between files": (
        lambda p: (
            (path := write_tar(p / "x.tar", pairs())).write_bytes(path.read_bytes()[: 4 * 1024])
            and path
        ),
        r"x.tar' is no whole tar file",
    ),
    "two files of one name": (
        lambda p: write_tar(p / "x.tar", [*pairs(), *pairs()]),
        r"holds 'a/0000.png' twice",
    ),
    "a label that is no JSON": (
        lambda p: write_tar(p / "x.tar", [("0.png", CONTENTS[0]), ("0.json", "{")]),
        r"key '0': its .json is not JSON",
    ),
    "a label that is no text": (
        lambda p: write_tar(p / "x.tar", [("0.png", CONTENTS[0]), ("0.cls", b"\xff")]),
        r"key '0': its .cls is not UTF-8",
    ),
    "a shard that is missing": (
        lambda p: write_tar(p / "x-0.tar", pairs()) and p / "x-{0..1}.tar",
        r"there is no file '.*x-1.tar', which '.*' stands for",
    ),
    "numbers the wrong way round": (lambda p: p / "x-{3..1}.tar", r"stands for 0 files"),
    "a pattern of nothing": (lambda p: p / "*.tar", r"there is no file '.*\*.tar'"),
    "splits by halves": (
        lambda p: (
            write_tar(p / "train-0.tar", pairs()) and write_tar(p / "more.tar", pairs()) and p
        ),
        r"holds 'train-0.tar', whose name says a split, and 'more.tar'",
    ),
    "another split in the rows": (
        lambda p: (
            pq.write_table(
                image_table().append_column("split", [["test"] * 8]), p / "train-0.parquet"
            )
            or p
        ),
        r"row 0: the column 'split' says test, the name of the file train",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_that_are_refused(tmp_path, name):
    make, message = BAD_IMAGES[name]
    with pytest.raises(DataError, match=message) as caught:
        sources.load(str(make(tmp_path)))
    assert "\n" not in str(caught.value)


def test_texts_that_are_refused(tmp_path):
    path = parquet(tmp_path, pa.table({"review": ["a"], "label": ["x"]}))
    with pytest.raises(DataError, match="has no column 'text': .* --text-column review"):
        sentences.load(str(path), need=("label",))
    tar = write_tar(tmp_path / "x.tar", [("0.txt", "a")])
    with pytest.raises(DataError, match="key '0': there is no label for it: expected 0.json"):
        sentences.load(str(tar), need=("label",))


def test_the_command_says_it_in_a_line(tmp_path, capsys):
    from graft.__main__ import main

    path = cut(parquet(tmp_path, image_table()))
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", "image-classification", "--data", str(path), "--out", str(out)])
    first, line = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("reading ")
    assert ended.value.code == 2
    assert "is no whole Parquet file" in line
    assert not out.exists()


def test_pyarrow_is_absent(tmp_path, monkeypatch):
    path = parquet(tmp_path, image_table())
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        arrow_files.open_arrow(path)


def test_datasets_is_absent(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'graft-zoo\[hf\]'"):
        sources.load("hf:mnist")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`datasets`, offline, with a cache of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_data_sets_of_the_hub(hub):
    (hub / "x/data").mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(image_table(), hub / f"x/data/{split}-00000-of-00001.parquet")
    source = sources.load(f"hf:{hub / 'x'}")
    assert {split: len(part) for split, part in source.splits.items()} == {
        "train": 8,
        "validation": 8,
    }
    assert [record.label for record in source.splits["train"]] == LABELS
    assert [record.image.read() for record in source.splits["train"]] == CONTENTS


def test_images_in_folders_by_the_hub(hub):
    for i, label in enumerate(LABELS):
        place = hub / "x" / label / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENTS[i])
    source = sources.load(f"hf:{hub / 'x'}")
    assert source.labels == ("cat", "dog")
    found = {decode_image(r.image, 4).tobytes() for r in source.splits["train"]}
    assert found == {decode_image(content, 4).tobytes() for content in CONTENTS}


def test_texts_of_the_hub(hub):
    (hub / "x").mkdir()
    (hub / "x/train.csv").write_text("text,label\ngood,1\nfine,1\nbad,0\nawful,0\n")
    found = sentences.load(f"hf:{hub / 'x'}", need=("label",)).splits["train"]
    assert [(s.text, s.label) for s in found][:2] == [("good", "1"), ("fine", "1")]


def test_the_hub_cannot_be_reached(hub):
    with pytest.raises(ConfigError, match=r"'hf:no/such' cannot be had .*without a network"):
        hub_parts("hf:no/such", Tally())


class Stub:
    """What is used of `datasets`, and what it was asked for."""

    def __init__(self, known):
        self.known, self.asked = known, []

    def load_dataset(self, name, config):
        self.asked.append((name, config))
        if (name, config) not in self.known:
            raise FileNotFoundError(name)
        return {}


@pytest.mark.parametrize(
    ("spec", "known"),
    [
        ("hf:mnist", ("mnist", None)),
        ("hf:org/mnist", ("org/mnist", None)),
        ("hf:glue/sst2", ("glue", "sst2")),
        ("hf:org/glue/sst2", ("org/glue", "sst2")),
    ],
)
def test_names_and_configurations_of_the_hub(monkeypatch, spec, known):
    stub = Stub([known])
    monkeypatch.setitem(__import__("sys").modules, "datasets", stub)
    hub_parts(spec, Tally())
    assert stub.asked[-1] == known


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.text(alphabet='a,"\r\n\u2028\u00e9\ufeff\x0c', max_size=40),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.integers(1, 9),
)
def test_lines_are_those_of_the_whole_text(tmp_path, monkeypatch, text, encoding, stretch):
    """Reading line by line gives what reading the whole file gives, wherever a stretch ends."""
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode(encoding))
    whole = text_files.with_line_feeds(text_files.read_text(path))
    monkeypatch.setattr(text_files, "READ_BYTES", 4 * stretch)
    assert "".join(text_files.iterate_lines(path)) == whole
    lines = list(text_files.iterate_lines(path))
    assert all("\n" not in line[:-1] and line for line in lines)
    assert all(line.endswith("\n") for line in lines[:-1])


@pytest.mark.parametrize("stretch", [4, 5, 7, 2**20])
def test_a_byte_that_is_no_text_is_named(tmp_path, monkeypatch, stretch):
    monkeypatch.setattr(text_files, "READ_BYTES", stretch)
    path = tmp_path / "x.csv"
    path.write_bytes("text\n\u00e9\u00e9".encode() + b"\xff rest\n")
    with pytest.raises(DataError, match="line 2, column 5: byte 0xff is not UTF-8"):
        list(text_files.iterate_lines(path))
    path.write_bytes("text\n\u00e9".encode()[:-1])
    with pytest.raises(DataError, match="line 2, column 1: byte 0xc3 is not UTF-8"):
        list(text_files.iterate_lines(path))


def test_a_table_is_not_held_in_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "x.csv"
    line = f"some text,label,{'unused ' * 1000}\n"
    path.write_text("text,label,other\n" + line * 3000)  # 21 MB
    tracemalloc.start()
    found = sentences.load(str(path), need=("label",), to_train=False)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.splits["train"]) == 3000
    assert most < 8e6


def test_two_images_of_a_row_are_two(tmp_path):
    """What is known of the one column is not said of the other."""
    kind = pa.binary()
    table = {"left": pa.array(CONTENTS, kind), "right": pa.array(CONTENTS[::-1], kind)}
    pq.write_table(pa.table({**table, "label": LABELS}), tmp_path / "x.parquet")
    os.utime(tmp_path / "x.parquet", (1, 1))
    known = KnownFiles(tmp_path / "store")
    found = {}
    for column in ("left", "right"):
        source = sources.load(str(tmp_path / "x.parquet"), path_column=column)
        records = source.splits["train"]
        known.know(records, "read")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(known_files, "RACY_SECONDS", -60)
            known.save()
        found[column] = [record.digest for record in records]
        assert found[column] == [digest_of(record.image.read()) for record in records]
        assert None not in KnownFiles(tmp_path / "store").digests([r.image for r in records])
    assert found["left"] == found["right"][::-1]
