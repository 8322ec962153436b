"""A pass that is cut into stretches sees each batch once, whole and in its order; what is handed to
another process arrives as it was.
"""

import dataclasses
import pickle
import shutil
import socket
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.codecs.images import Images
from graft.recipes.codecs.stored_pixels import StoredPixels
from graft.recipes.data import sources
from graft.recipes.data.folders.known_files import KnownFiles
from graft.recipes.data.records import Example
from graft.recipes.feed import cluster, node_work
from graft.recipes.feed.entries import BATCH, CacheSettings
from graft.recipes.feed.handover import read_examples, write_examples
from graft.recipes.feed.stretches import MOST_BATCHES, stretches
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.files.rows import Rows
from graft.zoo.files.store import Store
from tests.tiny import pictures


@given(st.integers(0, 10_000_000))
def test_stretches_cover_all_batches_once_and_whole(count):
    found = stretches(count)
    assert [stretch.number for stretch in found] == list(range(len(found)))
    place = 0
    for stretch in found:
        assert stretch.first == place < stretch.end
        assert stretch.first == stretch.first_batch * BATCH, "each begins with a whole batch"
        assert stretch.end % BATCH == 0 or stretch.end == count, "and ends with one"
        assert 0 < len(stretch) <= MOST_BATCHES * BATCH
        place = stretch.end
    assert place == count
    names = [stretch.name for stretch in found]
    assert sorted(names) == names == list(dict.fromkeys(names))


@given(st.data())
def test_a_stretch_of_rows_is_those_rows(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("rows") / "0.bin"
    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    file.write_bytes(values.tobytes())
    rows, own = Rows(file, 20, (3,), "float32"), values
    for _ in range(data.draw(st.integers(1, 3))):  # of a stretch again
        first = data.draw(st.integers(0, rows.count))
        end = data.draw(st.integers(first, rows.count))
        rows, own = rows.stretch(first, end), own[first:end]
    assert rows.load().tolist() == own.tolist()
    order = np.arange(len(own))[::-1]
    if len(own):
        assert rows.reader()(order).tolist() == own[order].tolist()
    assert rows.size_bytes == own.nbytes


def decoded_images(folder, photo_folder) -> Images:
    decoded = DecodedImages(Store(folder), 16, KnownFiles(folder, trusted=True))
    files = sorted(photo_folder.rglob("*.png"))
    found = decoded.find([Example(file, "", file.name) for file in files], "decode")
    return Images(found.pixels, {}, tuple(file.name for file in files))


def test_stored_pixels_are_handed_over_by_where_they_lie(tmp_path, photo_folder):
    images = decoded_images(tmp_path / "store", photo_folder).take(np.arange(7, 31))
    file = tmp_path / "some.examples"
    digest = write_examples(images, file)
    assert file.stat().st_size < 24 * 16 * 16 * 3, "no pixels go along"
    found = read_examples(file, digest)
    assert isinstance(found.pixels, StoredPixels)
    assert (np.asarray(found.pixels) == np.asarray(images.pixels)).all()
    assert (found.digest, found.names) == (images.digest, images.names)


def test_a_damaged_shard_is_decoded_anew_by_another_process_too(tmp_path, photo_folder):
    decoded = DecodedImages(Store(tmp_path / "store"), 16, KnownFiles(None), fit="crop")
    files = sorted(photo_folder.rglob("*.png"))[:5]
    found = decoded.find([Example(file, "", file.name) for file in files], "decode")
    images = Images(found.pixels, {}, tuple(file.name for file in files))
    expected = np.array(images.pixels)
    other = read_examples(*handed(images, tmp_path))
    for shard in found.pixels.shards:
        (shard / "pixels.bin").write_bytes(bytes(len(expected) * 16 * 16 * 3))
    assert (np.asarray(other.pixels) == expected).all()


def test_images_inside_of_other_files_are_handed_over(tmp_path, photo_folder, monkeypatch):
    files = sorted(photo_folder.rglob("*.png"))[:4]
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for i, file in enumerate(files):
            archive.add(file, f"{i}.png")
    monkeypatch.chdir(tmp_path)
    records = sources.load_unlabelled("x.tar").splits["train"]
    found = DecodedImages(Store(tmp_path / "store"), 16, KnownFiles(None)).find(records, "decode")
    images = Images(found.pixels, {}, tuple(record.name for record in records))
    expected = np.array(images.pixels)
    other = read_examples(*handed(images, tmp_path))
    for shard in found.pixels.shards:
        shutil.rmtree(shard)
    monkeypatch.chdir(tmp_path / "store")
    assert (np.asarray(other.pixels) == expected).all()


def test_only_the_shards_that_are_needed_are_named(tmp_path, photo_folder, monkeypatch):
    monkeypatch.setattr("graft.recipes.codecs.decoded.SHARD_BYTES", 10 * 16 * 16 * 3)
    images = decoded_images(tmp_path / "store", photo_folder)
    assert len(images.pixels.shards) == 6
    part = images.take(np.arange(5))
    found = read_examples(*handed(part, tmp_path))
    assert len(found.pixels.shards) == len(np.unique(part.pixels.rows[:, 0])) < 6
    assert (np.asarray(found.pixels) == np.asarray(images.pixels)[:5]).all()


def handed(examples, folder):
    file = folder / "handed.examples"
    return file, write_examples(examples, file)


def test_what_is_not_what_was_handed_over_is_refused_unread(tmp_path):
    file, digest = handed(pictures(5), tmp_path)
    assert (read_examples(file, digest).pixels == pictures(5).pixels).all()

    class Harm:
        def __reduce__(self):
            return pytest.fail, ("it was read",)

    file.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ArtifactError, match="is not what was handed over"):
        read_examples(file, digest)


def test_a_node_with_other_libraries_says_so(tmp_path):
    wanted = {**node_work.versions(), "tensorflow": "1.0"}
    order = node_work.Order(tmp_path, stretches(5)[0], 0, None, None, "", 0.0, wanted)
    answer = node_work.compute_stretch(order)
    assert answer.outcome == "refused"
    assert "tensorflow is " in answer.text
    assert "and 1.0 here" in answer.text
    answer = node_work.compute_stretch(dataclasses.replace(order, versions=node_work.versions()))
    assert answer.outcome == "refused"
    assert "000000.examples" in answer.text, "the folder is not there"


def test_parts_that_nobody_goes_on_with_are_removed_after_a_week(tmp_path):
    import os
    import time

    old, young = tmp_path / ".pass-old", tmp_path / ".pass-young"
    for folder, days in ((old, 8), (young, 6)):
        folder.mkdir()
        os.utime(folder, (time.time() - days * 24 * 3600,) * 2)
    Store(tmp_path)
    assert [old.exists(), young.exists()] == [False, True]


def test_more_parts_than_a_store_keeps_of_entries(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.zoo.files.store.LIMIT_BYTES", 10)
    for number in range(3):
        with Store(tmp_path, limit_bytes=float("inf")).add(f"{number}") as (folder, _):
            (folder / "0.bin").write_bytes(bytes(100))
    assert all(Store(tmp_path).find(f"{number}") for number in range(3))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid:6379", "127.0.0.1:99999"])
def test_an_address_at_which_nobody_listens(address):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at '{address}'"):
        FitSettings(ray=address).check()


def test_an_address_at_which_something_listens(monkeypatch):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        FitSettings(ray=f"127.0.0.1:{server.getsockname()[1]}").check()


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--ray needs the package ray: pip install .*\[ray\]"):
        FitSettings(ray="auto").check()


def test_a_cluster_has_nothing_to_fill_without_a_cache():
    with pytest.raises(ConfigError, match="--ray fills the prefix cache, which --cache off"):
        CacheSettings(mode="off", ray="auto")
