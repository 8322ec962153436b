"""Files that are known are not read, images that were decoded are not decoded, and whatever is
wrong on the disk is noticed.
"""

import errno
import os
import shutil
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.recipes.codecs import decoded as decoding_room
from graft.recipes.codecs import pixels, stored_pixels
from graft.recipes.codecs.decoded import DecodedImages
from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.data.folders import known_files
from graft.recipes.data.folders.known_files import KnownFiles, network_file_system
from graft.recipes.data.records import Example
from graft.zoo.contents import content_digest
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.files import store
from graft.zoo.files.store import Store
from tests.conftest import shapes_image

OLD = time.time() - 1000


@pytest.fixture
def photos(tmp_path):
    """Twelve images that were written long ago, as records; called anew, as another process would
    make them.
    """
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for i in range(12):
        path = tmp_path / "photos" / f"{i:02d}.png"
        Image.fromarray(shapes_image(i % 3, i)).save(path)
        os.utime(path, (OLD, OLD))

    def records():
        files = sorted((tmp_path / "photos").iterdir())
        return [Example(file, "abc"[i % 3], file.name) for i, file in enumerate(files)]

    return records


@pytest.fixture
def old_changes(monkeypatch):
    """The time of a change cannot be set: here it is that of the modification."""
    described = known_files._described

    def as_modified(path, found):
        key, size, modified, _, inode = described(path, found)
        return key, size, modified, modified, inode

    monkeypatch.setattr(known_files, "_described", as_modified)


def know(folder, records):
    known = KnownFiles(folder)
    known.know(records, "read")
    known.save()


def decoded(folder, size=8, **more):
    return DecodedImages(Store(folder), size, KnownFiles(folder), **more)


@pytest.fixture
def count(monkeypatch):
    """How many files were read and decoded."""
    counted = {"read": 0, "decoded": 0}
    read, decode = decoding_room.read_content, decoding_room.decode_image
    lock = threading.Lock()

    def counting(name, function):
        def call(*arguments):
            with lock:
                counted[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(decoding_room, "read_content", counting("read", read))
    monkeypatch.setattr(decoding_room, "decode_image", counting("decoded", decode))
    monkeypatch.setattr(stored_pixels, "decode_image", counting("decoded", decode))
    return counted


def test_pixels_are_those_of_decoding_alone(tmp_path, photos):
    kept = ImageCodec(8, decoded=decoded(tmp_path / "store")).encode(photos(), ())
    plain = ImageCodec(8).encode(photos(), ())
    np.testing.assert_array_equal(kept.pixels[:], plain.pixels)
    np.testing.assert_array_equal(np.asarray(kept.pixels), plain.pixels)
    np.testing.assert_array_equal(kept.pixels[3], plain.pixels[3])
    assert kept.pixels.shape == plain.pixels.shape
    assert kept.names == plain.names
    for kind, rows in plain.traces().items():
        np.testing.assert_array_equal(kept.traces()[kind], rows)


def test_nothing_is_read_or_decoded_twice(tmp_path, photos, count, old_changes):
    first = decoded(tmp_path / "store").find(photos(), "decode")
    assert count == {"read": 12, "decoded": 12}
    records = photos()
    again = decoded(tmp_path / "store").find(records, "decode")
    assert count == {"read": 12, "decoded": 12}
    np.testing.assert_array_equal(again.pixels[:], first.pixels[:])
    assert [record.digest for record in records] == [content_digest(r.image) for r in photos()]


def test_another_size_is_decoded_anew_and_nothing_hashed(tmp_path, photos, count, old_changes):
    decoded(tmp_path / "store").find(photos(), "decode")
    decoded(tmp_path / "store", size=16).find(photos(), "decode")
    assert count["decoded"] == 24


def test_a_file_that_was_just_written_is_read_again(tmp_path, photos, count):
    """Its time of change is now: it may change again and seem the same."""
    decoded(tmp_path / "store").find(photos(), "decode")
    decoded(tmp_path / "store").find(photos(), "decode")
    assert count == {"read": 24, "decoded": 12}


def test_a_file_that_changed_after_it_was_indexed_is_noticed(tmp_path, photos, old_changes):
    from PIL import Image

    decoded(tmp_path / "store").find(photos(), "decode")
    changed = photos()[4].image
    Image.fromarray(shapes_image(2, 99)).save(changed)
    os.utime(changed, (OLD + 1, OLD + 1))
    found = decoded(tmp_path / "store").find(photos(), "decode")
    np.testing.assert_array_equal(found.pixels[:], ImageCodec(8).encode(photos(), ()).pixels)


def test_all_is_read_where_data_are_to_be_verified(tmp_path, photos, count, old_changes):
    decoded(tmp_path / "store").find(photos(), "decode")
    known = KnownFiles(tmp_path / "store", trusted=False)
    DecodedImages(Store(tmp_path / "store"), 8, known).find(photos(), "decode")
    assert count == {"read": 24, "decoded": 12}


def test_the_same_content_under_another_name_is_decoded_once(tmp_path, photos, count):
    decoded(tmp_path / "store").find(photos(), "decode")
    here = photos()[0].image
    moved = here.rename(here.with_name("elsewhere.png"))
    found = decoded(tmp_path / "store").find([Example(moved, "a", "moved")], "decode")
    assert count["decoded"] == 12
    assert len(found.pixels) == 1


@pytest.mark.parametrize("seed", range(3))
def test_some_of_them_in_any_order(tmp_path, photos, seed):
    images = ImageCodec(8, decoded=decoded(tmp_path / "store")).encode(photos(), ())
    rows = np.random.default_rng(seed).permutation(12)[:7]
    taken = images.take(rows)
    np.testing.assert_array_equal(taken.pixels[:], images.pixels[:][rows])
    np.testing.assert_array_equal(taken.take([2, 0]).pixels[:], images.pixels[:][rows[[2, 0]]])
    assert taken.digest != images.digest
    assert images.take(range(12)).digest == images.digest


def test_stretches_share_what_is_stored(tmp_path, photos):
    images = ImageCodec(8, decoded=decoded(tmp_path / "store")).encode(photos(), ())
    np.testing.assert_array_equal(images.stretch(slice(2, 5)).pixels[:], images.pixels[:][2:5])


def test_batches_are_those_of_memory(tmp_path, photos):
    kept = ImageCodec(8, decoded=decoded(tmp_path / "store")).encode(photos(), ())
    plain = ImageCodec(8).encode(photos(), ())
    for images in (kept, plain):
        read = images.input_reader()(np.array([5, 1, 11]))
        assert read.dtype == "float32"
        np.testing.assert_array_equal(read, plain.pixels[[5, 1, 11]])


def test_shards_are_written_as_they_fill(tmp_path, photos, monkeypatch):
    """What was decoded before a training was interrupted is kept."""
    monkeypatch.setattr(decoding_room, "SHARD_BYTES", 5 * 8 * 8 * 3)
    monkeypatch.setattr(pixels, "AT_A_TIME", 1)
    store = tmp_path / "store"
    decode = decoding_room.decode_image

    def interrupted(path, *arguments):
        if path.name == "11.png":
            raise KeyboardInterrupt
        return decode(path, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding_room, "decode_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoded(store).find(photos(), "decode")
    assert len(list(store.glob("decoded-*"))) >= 2
    found = decoded(store).find(photos(), "decode")
    np.testing.assert_array_equal(found.pixels[:], ImageCodec(8).encode(photos(), ()).pixels)


@pytest.mark.parametrize("damage", ["flip", "cut", "rows", "gone", "entry"])
def test_a_damaged_shard_is_one_line_and_decoded_anew(
    tmp_path, photos, capsys, damage, old_changes
):
    store = tmp_path / "store"
    decoded(store).find(photos(), "decode")
    (shard,) = store.glob("decoded-*")
    pixels, rows = shard / "pixels.bin", shard / "rows.npy"
    if damage == "flip":
        content = bytearray(pixels.read_bytes())
        content[700] ^= 4
        pixels.write_bytes(content)
    elif damage == "cut":
        pixels.write_bytes(pixels.read_bytes()[:1000])
    elif damage == "rows":
        content = bytearray(rows.read_bytes())
        content[-3] ^= 4
        rows.write_bytes(content)
    elif damage == "gone":
        pixels.unlink()
    else:
        (shard / "entry.json").write_text("{")
    stored_pixels._opened.cache_clear()
    capsys.readouterr()
    truth = ImageCodec(8).encode(photos(), ()).pixels
    for _ in range(2):  # the second time all is whole again
        found = decoded(store).find(photos(), "decode")
        np.testing.assert_array_equal(found.pixels[:], truth)
    said = capsys.readouterr().err
    assert said.count(" damaged: ") == 1, said


def test_what_is_damaged_while_it_is_read_is_decoded_from_its_file(tmp_path, photos, capsys):
    store = tmp_path / "store"
    found = decoded(store).find(photos(), "decode")
    (shard,) = store.glob("decoded-*")
    (shard / "pixels.bin").write_bytes(b"x" * 100)
    stored_pixels._opened.cache_clear()
    capsys.readouterr()
    np.testing.assert_array_equal(found.pixels[:], ImageCodec(8).encode(photos(), ()).pixels)
    assert capsys.readouterr().err.count(" damaged: ") == 1
    assert not shard.exists()


def test_bad_images_are_counted_or_refused(tmp_path, photos):
    (tmp_path / "photos" / "03.png").write_bytes(b"none")
    (tmp_path / "photos" / "05.png").write_bytes(b"")
    codec = ImageCodec(8, skip_bad=True, decoded=decoded(tmp_path / "store"))
    images = codec.encode(photos(), ())
    assert len(images) == 10
    assert len(images.skipped) == 2
    assert images.names == ImageCodec(8, skip_bad=True).encode(photos(), ()).names
    with pytest.raises(DataError, match=r"03\.png.*\(and 1 more\)"):
        ImageCodec(8, decoded=decoded(tmp_path / "store")).encode(photos(), ())


def test_what_is_larger_than_memory_is_read_by_stretches(tmp_path, photos):
    row = 8 * 8 * 3
    for memory, expected in ((12 * row, None), (12 * row - 1, row)):
        codec = ImageCodec(8, decoded=decoded(tmp_path / "store", memory_bytes=memory))
        assert codec.encode(photos(), ()).row_bytes == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_not_be_written_is_one_line(tmp_path, photos):
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match=r"--cache off"):
        decoded(tmp_path / "store").find(photos(), "decode")


@pytest.mark.parametrize("code", [30, 28])  # read-only, full
def test_a_disk_that_cannot_be_written_is_one_line(tmp_path, photos, monkeypatch, code):
    def refuse(*arguments, **more):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(decoding_room.np, "save", refuse)
    with pytest.raises(ConfigError, match=r"store.*--cache off"):
        decoded(tmp_path / "store").find(photos(), "decode")
    assert not list((tmp_path / "store").glob("decoded-*"))


def test_two_processes_decode_once(tmp_path, photos, count):
    """The second one waits for the first, and finds what it wants."""
    both = [threading.Thread(target=lambda: decoded(tmp_path / "s").find(photos(), "d"))] * 1
    both += [threading.Thread(target=lambda: decoded(tmp_path / "s").find(photos(), "d"))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert count["decoded"] == 12


# --------------------------------------------------------------------------------------------------
# The index


def test_a_damaged_index_is_as_if_there_were_none(tmp_path, photos, old_changes):
    known = KnownFiles(tmp_path / "store")
    known.know(photos(), "read")
    assert not (tmp_path / "store").exists()
    known.save()
    (part,) = (tmp_path / "store" / "files").iterdir()
    assert None not in KnownFiles(tmp_path / "store").digests([r.image for r in photos()])
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    assert set(KnownFiles(tmp_path / "store").digests([r.image for r in photos()])) == {None}


def test_many_parts_become_one(tmp_path, photos, old_changes):
    for record in photos():
        know(tmp_path / "store", [Example(record.image, "", "")])
    assert len(list((tmp_path / "store" / "files").iterdir())) < known_files.MOST_PARTS + 1
    assert None not in KnownFiles(tmp_path / "store").digests([r.image for r in photos()])


@pytest.mark.parametrize("change", ["size", "modified", "inode"])
def test_what_tells_that_a_file_is_another(tmp_path, photos, old_changes, change):
    records = photos()
    know(tmp_path / "store", records)
    path = records[0].image
    if change == "size":
        path.write_bytes(path.read_bytes() + b"x")
        os.utime(path, (OLD, OLD))
    elif change == "modified":
        os.utime(path, (OLD, OLD + 1e-6))
    else:
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        os.utime(other, (OLD, OLD))
        other.replace(path)
    digests = KnownFiles(tmp_path / "store").digests([r.image for r in photos()])
    assert digests[0] is None
    assert None not in digests[1:]


def test_clocks_apart_do_not_matter(tmp_path, photos, old_changes, monkeypatch):
    """What is young is told by the clock of the disk, not by that of this machine."""
    monkeypatch.setattr(time, "time", lambda: OLD - 5000)
    know(tmp_path / "store", photos())
    assert None not in KnownFiles(tmp_path / "store").digests([r.image for r in photos()])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("server:/data {0} nfs4 rw 0 0", "nfs4"),
        ("server {0} fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("/dev/sda1 {0} ext4 rw 0 0", None),
        ("server:/data /elsewhere nfs4 rw 0 0", None),
    ],
)
def test_network_folders_are_known(tmp_path, line, expected):
    place = tmp_path / "a folder"
    place.mkdir()
    mounts = tmp_path / "mounts"
    point = str(place).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\n{line.format(point)}\n")
    assert network_file_system(place / "photos", mounts) == expected


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=12))
def test_digests_survive_the_index(tmp_path_factory, contents):
    """Whatever is in files, the index says of each what reading it says."""
    folder = tmp_path_factory.mktemp("index")
    paths = []
    for i, content in enumerate(contents):
        paths.append(folder / str(i))
        paths[-1].write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_files, "RACY_SECONDS", -1000)
        know(folder / "store", [Example(path, "", "") for path in paths])
    found = KnownFiles(folder / "store").digests(paths)
    assert found == [content_digest(path) for path in paths]


def test_made_images_are_known_by_their_pixels():
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    assert Images(pixels, {}, ("a", "b")).digest != Images(pixels + 1, {}, ("a", "b")).digest


def test_nothing_is_asked_of_an_index_that_knows_files(photos, tmp_path, old_changes):
    known = KnownFiles(tmp_path / "store")
    records = photos()
    known.know(records, "read")
    known.save()
    assert known.digests([]) == []
    known.tell(records)  # all have told theirs


def test_a_file_is_one_whether_its_path_is_relative_or_not(photos, tmp_path, monkeypatch):
    absolute = [record.image for record in photos()]
    monkeypatch.chdir(tmp_path)
    relative = [path.relative_to(tmp_path) for path in absolute]
    odd = [tmp_path / "photos" / ".." / "photos" / path.name for path in absolute]
    found = [
        [known_files._described_now(path) for path in paths] for paths in (absolute, relative, odd)
    ]
    assert found[0] == found[1] == found[2]
    monkeypatch.chdir(tmp_path / "photos")
    assert known_files._described_now(type(absolute[0])(absolute[0].name)) == found[0][0]
    assert known_files._described_now(tmp_path / "none.png") == known_files.NOT_THERE


def test_shards_that_were_removed_meanwhile_are_made_anew(tmp_path, photos, monkeypatch):
    """Another process makes room: no image may take the place of another."""
    expected = ImageCodec(8).encode(photos(), ()).pixels
    images = decoded(tmp_path / "store")
    images.find(photos()[:6], "decode")
    remove_shards(tmp_path / "store")
    np.testing.assert_array_equal(images.find(photos(), "decode").pixels[:], expected)
    remove_shards(tmp_path / "store")
    images.find(photos()[:6], "decode")
    alone = images.store.alone

    def emptied(keys):
        remove_shards(tmp_path / "store")
        return alone(keys)

    monkeypatch.setattr(images.store, "alone", emptied)
    np.testing.assert_array_equal(images.find(photos(), "decode").pixels[:], expected)


def remove_shards(store):
    for shard in store.glob("decoded-*"):
        shutil.rmtree(shard)


def test_shards_that_vanish_at_the_last_moment_are_an_error(tmp_path, photos, monkeypatch):
    images = decoded(tmp_path / "store")
    images.find(photos(), "decode")
    monkeypatch.setattr(
        images, "_obtain", lambda records, title: images.known.know(records, "") or {}
    )
    images._rows = images._rows[:3]
    with pytest.raises(ConfigError, match="the same command decodes them again"):
        images.find(photos(), "decode")


def test_a_shard_that_cannot_be_read_now_stays(tmp_path, photos, monkeypatch):
    found = decoded(tmp_path / "store").find(photos(), "decode")
    expected = ImageCodec(8).encode(photos(), ()).pixels

    def full(shard):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(stored_pixels, "_opened", full)
    np.testing.assert_array_equal(found.pixels[:], expected)
    assert found.pixels.shards[0].exists()


def test_a_file_that_changed_is_not_taken_for_what_it_was(tmp_path, photos):
    from PIL import Image

    found = decoded(tmp_path / "store").find(photos(), "decode")
    remove_shards(tmp_path / "store")
    stored_pixels._opened.cache_clear()
    Image.fromarray(shapes_image(2, 99)).save(photos()[4].image)
    with pytest.raises(DataError, match="was changed while it was in use: start again"):
        found.pixels[4]


def test_files_on_another_machine_are_read_in_every_run(tmp_path, photos, monkeypatch, capsys):
    store = tmp_path / "store"
    remote = lambda path: "nfs4" if path.name == "photos" else None  # noqa: E731
    monkeypatch.setattr(known_files, "network_file_system", remote)
    monkeypatch.setattr(known_files, "RACY_SECONDS", -60)
    known = KnownFiles(store)
    known.know(photos(), "read")
    known.save()
    assert set(known.digests([record.image for record in photos()])) == {None}
    assert capsys.readouterr().err.count("lies on another machine (nfs4)") == 1


def test_what_is_to_be_verified_is_never_believed(tmp_path, photos, old_changes):
    known = KnownFiles(tmp_path / "store", trusted=False)
    known.know(photos(), "read")
    known.save()
    assert set(known.digests([record.image for record in photos()])) == {None}
    assert None not in KnownFiles(tmp_path / "store").digests([r.image for r in photos()])


def test_what_a_process_uses_of_a_folder_it_does_not_remove(tmp_path, monkeypatch):
    for room in "ab":
        first, second = (store.store_beside(tmp_path / room / "run") for _ in range(2))
        assert first is not None
        assert second is not None
        for name, kept in (("one", first), ("two", second), ("three", second)):
            monkeypatch.setattr(store, "LIMIT_BYTES", 10)
            with kept.add(name) as (folder, _):
                (folder / "0.bin").write_bytes(bytes(100))
        assert None not in [first.find(name) for name in ("one", "two", "three")]
    other = store.Store(tmp_path / "a" / ".graft-cache", limit_bytes=10)
    with other.add("four") as (folder, _):
        (folder / "0.bin").write_bytes(bytes(100))
    assert [first.folder.parent.name, other.find("one")] == ["b", None]


def test_what_is_decoded_each_time_keeps_to_the_memory_too(photos):
    images = ImageCodec(8, memory_bytes=12 * 8 * 8 * 3 * 6).encode(photos(), ())
    assert not isinstance(images.pixels, np.memmap)
    images = ImageCodec(8, memory_bytes=12 * 8 * 8 * 3 * 5).encode(photos(), ())
    assert isinstance(images.pixels, np.memmap)
    assert isinstance(images.take([3, 1]).pixels, np.memmap)
    np.testing.assert_array_equal(images.pixels, ImageCodec(8).encode(photos(), ()).pixels)
