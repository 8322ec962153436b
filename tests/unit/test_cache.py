"""Training on cached features is the same training; a key never finds what it should not."""

import contextlib
import dataclasses
import errno
import json
import os
from importlib import metadata

import keras
import numpy as np
import pytest
import tyro
from keras import layers

from graft.recipes.codecs.images import Images
from graft.recipes.feed.cache import KEPT_FREE, CacheSettings, PrefixCache
from graft.recipes.feed.pipeline import Order
from graft.recipes.image_classification import Config
from graft.recipes.train.fit import train
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError
from graft.zoo.files import flock
from graft.zoo.files.rows import Rows
from graft.zoo.files.store import Store
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.cuts import narrowest_cut
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.hashing import hash_of
from graft.zoo.heads.heads import Heads
from tests.tiny import (
    GREY,
    HEAD,
    PLACE,
    builder,
    normalization,
    pictures,
    plan_of,
    squeeze_excite,
    tasked,
)


@pytest.fixture(scope="module")
def data():
    return {"train": pictures(40), "validation": pictures(12, 1)}


def cuts_of(model, trained):
    blocks = find_blocks(backbone_of(model))
    return [narrowest_cut(model, blocks[len(blocks) - n - 1].cut) for n in trained]


def filled(model, data, store, cuts, augment=(), **settings):
    cache = PrefixCache(
        store, model, data, augment, CacheSettings(**{"dtype": "float32", **settings})
    )
    for view in range(cache.views["train"]):
        cache.fill(cuts, view)
    return cache


def test_features_are_what_the_frozen_blocks_give(data, tmp_path):
    model = builder(normalization)()
    cuts = cuts_of(model, (0, 2))
    assert cuts[0][0].shape == (None, 8), "the head trains on pooled features"
    cache = filled(model, data, Store(tmp_path), cuts)
    for cut in cuts:
        features = cache.features(cut, "validation")
        expected = keras.Model(model.input, cut[0])(
            np.float32(data["validation"].pixels), training=False
        )
        np.testing.assert_allclose(features.tensors[0][0].load(), np.asarray(expected), atol=1e-5)


def test_what_was_found_is_told_by_what_it_had_cost(data, tmp_path):
    """A pass that has to be made anyway would have filled the higher cuts too: they have spared
    nothing.
    """
    model = builder(normalization)()
    head, _, low = cuts_of(model, (0, 1, 2))

    def spared(folder, *cuts):
        return PrefixCache(Store(folder), model, data, (), CacheSettings()).fill(cuts)

    assert spared(tmp_path / "a", head) == 0
    assert spared(tmp_path / "a", head) > 0
    assert spared(tmp_path / "a", head, low) == 0  # from the pixels again
    assert spared(tmp_path / "b", low) == 0
    cost = spared(tmp_path / "b", low)
    assert spared(tmp_path / "b", head, low) == cost  # from the lower one
    assert spared(tmp_path / "b", head, low) > cost


def test_a_higher_cut_is_computed_from_a_lower_one(data, tmp_path, monkeypatch):
    model = builder(normalization)()
    head, _, low = cuts_of(model, (0, 1, 2))
    filled(model, data, Store(tmp_path), [low])
    monkeypatch.setattr(Images, "input_reader", None)  # pixels cannot be read any more
    cache = filled(model, data, Store(tmp_path), [head, low])
    features = cache.features(head, "train")
    expected = keras.Model(model.input, head[0])(np.float32(data["train"].pixels), training=False)
    np.testing.assert_allclose(features.tensors[0][0].load(), np.asarray(expected), atol=1e-5)


def test_a_changed_key_finds_nothing(data, tmp_path):
    build = builder(normalization)
    model, store = build(), Store(tmp_path)

    def key(model=model, data=data, augment=(), view=0, **settings):
        (cut,) = cuts_of(model, (settings.pop("trained", 1),))
        cache = PrefixCache(store, model, data, augment, CacheSettings(**settings))
        return cache.key(cut, "train", view)

    first = key()
    assert key(build()) == first, "the same weights in a model of another name"
    assert key(data={**data, "validation": pictures(9, 5)}) == first
    moved = build()
    moved.layers[2].kernel.assign(moved.layers[2].kernel + 1e-6)
    late = build()
    dense = late.get_layer("probabilities_dense")
    dense.kernel.assign(dense.kernel + 1)
    assert key(late) == first, "what lies behind the cut does not matter"
    changed = [
        key(moved),
        key(builder(squeeze_excite)()),
        key(data={"train": pictures(40, 3)}),
        key(
            data={"train": dataclasses.replace(data["train"], pixels=data["train"].pixels[:, ::-1])}
        ),
        key(augment=("flip",)),
        key(augment=("flip",), view=1),
        key(augment=("crop",)),
        key(dtype="float32"),
        key(trained=2),
    ]
    assert len({first, *changed}) == 1 + len(changed)


def test_views_are_augmented_and_repeat(data, tmp_path):
    model = builder(normalization)()
    cuts = cuts_of(model, (2,))
    rows = [
        filled(model, data, Store(tmp_path / str(i)), cuts, ("crop",), views=3).features(
            cuts[0], "train", range(3)
        )
        for i in (0, 1)
    ]
    first, second = (np.array([view.load() for view in features.tensors[0]]) for features in rows)
    np.testing.assert_array_equal(first, second)
    assert first.shape[:2] == (3, 40)
    views = first.reshape(3, 40, -1)
    plain = (
        filled(model, data, Store(tmp_path / "plain"), cuts)
        .features(cuts[0], "train")
        .tensors[0][0]
        .load()
    )
    for a, b in ((views[0], views[1]), (views[1], views[2]), (views[0], plain.reshape(40, -1))):
        assert np.abs(a - b).max(-1).min() > 1e-3, "every image differs from view to view"


def test_a_truncated_file_is_noticed_and_made_anew(data, tmp_path, capsys):
    model = builder(normalization)()
    cuts = cuts_of(model, (1,))
    features = filled(model, data, Store(tmp_path), cuts).features(cuts[0], "train")
    expected = features.tensors[0][0].load()
    with features.tensors[0][0].path.open("r+b") as file:
        file.truncate(100)
    again = filled(model, data, Store(tmp_path), cuts).features(cuts[0], "train")
    assert "is damaged: it is made anew" in " ".join(capsys.readouterr().err.split())
    np.testing.assert_array_equal(again.tensors[0][0].load(), expected)


def test_a_zeroed_file_is_noticed_at_first_use_and_made_anew(data, tmp_path, capsys):
    model = builder(normalization)()
    cuts = cuts_of(model, (1,))
    features = filled(model, data, Store(tmp_path), cuts).features(cuts[0], "train")
    file = features.tensors[0][0]
    expected = file.load()
    file.path.write_bytes(bytes(file.size_bytes))
    again = filled(model, data, Store(tmp_path), cuts).features(cuts[0], "train")
    assert "is damaged: it is made anew" in " ".join(capsys.readouterr().err.split())
    np.testing.assert_array_equal(again.tensors[0][0].load(), expected)


@pytest.mark.parametrize("part", ["facts", "sizes", "hashes", "hash"])
def test_a_description_that_was_edited_is_noticed(tmp_path, capsys, part):
    with Store(tmp_path).add("key") as (folder, facts):
        (folder / "0.bin").write_bytes(b"content")
        facts["tensors"] = [[7, [1], "uint8"]]
    file = tmp_path / "key" / "entry.json"
    entry = json.loads(file.read_text())
    assert Store(tmp_path).find("key", verify=True)[1] == entry["facts"]
    entry[part] = {
        "facts": {"tensors": [[3, [1], "uint8"]]},
        "sizes": {},
        "hashes": {},
        "hash": "0",
    }[part]
    file.write_text(json.dumps(entry))
    assert Store(tmp_path).find("key") is None
    assert "is damaged: it is made anew" in " ".join(capsys.readouterr().err.split())


def test_entries_of_an_older_graft_are_removed_and_it_is_said_how_much(tmp_path, capsys):
    old = tmp_path / "abc"
    old.mkdir()
    (old / "0.bin").write_bytes(bytes(30_000_000))
    (old / "entry.json").write_text(json.dumps({"sizes": {"0.bin": 30_000_000}, "facts": {}}))
    with Store(tmp_path / "other").add("new") as (folder, _):
        (folder / "0.bin").write_bytes(b"content")
    os.replace(tmp_path / "other" / "new", tmp_path / "new")
    Store(tmp_path)
    assert "0.03 GB that an older Graft kept" in " ".join(capsys.readouterr().err.split())
    assert not old.exists()
    assert Store(tmp_path).find("new", verify=True)
    assert capsys.readouterr().err == ""


def test_parameters_of_the_augmentation_and_versions_change_the_key(data, tmp_path, monkeypatch):
    model, store = builder(normalization)(), Store(tmp_path)
    (cut,) = cuts_of(model, (1,))

    def key(name="train"):
        cache = PrefixCache(store, model, data, ("crop", "randaugment"), CacheSettings())
        return cache.key(cut, name, 0)

    first, validation = key(), key("validation")
    assert key() == first, "layers that are built again have other names"
    crop = keras.layers.RandomZoom
    with monkeypatch.context() as patch:
        patch.setattr(keras.layers, "RandomZoom", lambda *_, **kwargs: crop((-0.5, 0.0), **kwargs))
        assert key() != first
        assert key("validation") == validation
    known = metadata.version
    monkeypatch.setattr(
        "graft.recipes.feed.entries.metadata.version",
        lambda name: "9" if name == "graft-zoo" else known(name),
    )
    assert key() != first


def late(heads=(HEAD,), two=False):
    """A function that builds a model whose upper blocks read the image again; with `two` each
    needs the two below it.
    """

    def conv(x, **options):
        return layers.Conv2D(8, 3, padding="same", activation="relu", **options)(x)

    def backbone():
        inputs = keras.Input((16, 16, 3), name="image")
        before = x = conv(layers.Rescaling(1 / 255)(inputs))
        for place in range(5):
            if place == 3:
                raw = layers.Rescaling(1 / 127.5, -1)(layers.AveragePooling2D(1)(inputs))
                x = layers.Concatenate()([x, raw])
            before, x = x, layers.Add()([conv(x), conv(before)]) if two else conv(x)
        return keras.Model(inputs, x, name="late")

    keras.utils.set_random_seed(5)
    weights = backbone().get_weights()

    def build():
        made = backbone()
        made.set_weights(weights)
        return stack(made, heads)

    return build


@pytest.mark.parametrize("case", ["plain", "two tensors, on the disk", "tasks, memory-mapped"])
def test_a_trained_part_that_reads_the_image_again_learns_the_same_from_the_cache(
    case, data, tmp_path
):
    heads, images = (HEAD,), data
    if "tasks" in case:
        heads = Heads((PLACE, GREY), (1.0, 0.5))
        images = {"train": tasked(40, gaps=0.3), "validation": tasked(12, 1)}
    if "memory-mapped" in case:
        mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=images["train"].pixels.shape)
        mapped[:] = images["train"].pixels
        images["train"] = dataclasses.replace(images["train"], pixels=mapped)
    build = late(heads, "two" in case)
    blocks = find_blocks(backbone_of(build()))
    assert len(blocks[-4].cut) == (2 if "two" in case else 1)
    phases = (Phase("upper", 3, 3, 0.01),)

    def run(mode):
        settings = FitSettings(batch_size=8, cache=mode, cache_dtype="float32")
        plan = plan_of(build, heads, phases, [1], settings)
        _, (result,) = train(plan, images, store=Store(tmp_path / "store"))
        return result

    cached, plain = run("disk" if "disk" in case else "memory"), run("off")
    assert cached.phases[0]["cached"]
    assert not plain.phases[0]["cached"]
    for a, b in zip(cached.weights, plain.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_the_image_that_is_read_again_is_that_of_the_view(data, tmp_path):
    model = late()()
    blocks = find_blocks(backbone_of(model))
    cuts = [blocks[0].cut, blocks[1].cut]
    cache = filled(model, data, Store(tmp_path), cuts[:1], ("crop",), views=2)
    filled(
        model, data, Store(tmp_path), cuts, ("crop",), views=2
    )  # the higher one from the lower one
    for cut in cuts:
        features = cache.features(cut, "train", (0, 1))
        found, pixels = (np.stack([view.load() for view in views]) for views in features.tensors)
        assert np.abs(pixels[0] - pixels[1]).max() > 10
        assert np.abs(pixels[0] - data["train"].pixels).max() > 10
        below = keras.Model(model.input, cut[0])
        for view in range(2):
            np.testing.assert_allclose(
                found[view], np.asarray(below(pixels[view], training=False)), atol=1e-4
            )


def test_a_map_moves_with_the_image_of_a_view(tmp_path):
    """Another map of the same image is not found."""

    def seen(scale):
        plain = pictures(12)
        targets = {"map": scale * np.float32(plain.pixels)}
        images = {"train": dataclasses.replace(plain, targets=targets, moving={"map": "map"})}
        cache = filled(model, images, Store(tmp_path), [cut], ("flip",), views=2)
        found = cache.features(cut, "train", (0, 1)).tensors[1:]
        return [np.stack([view.load() for view in views]) for views in found]

    model = late()()
    cut = find_blocks(backbone_of(model))[0].cut
    pixels, moved = seen(1)
    assert not np.array_equal(pixels[0], pixels[1])
    np.testing.assert_array_equal(moved, pixels)
    np.testing.assert_array_equal(seen(2)[1], 2 * pixels)


def test_features_beyond_float16_are_kept_in_float32(data, tmp_path, capsys):
    inputs = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, name="stem")(layers.Rescaling(1e5)(inputs))
    for i in range(4):
        x = normalization(x, i)
    model = stack(keras.Model(inputs, x, name="large"), [HEAD])
    cuts = cuts_of(model, (2,))
    features = filled(model, data, Store(tmp_path), cuts, dtype="float16").features(
        cuts[0], "train"
    )
    assert features.tensors[0][0].dtype == "float32"
    assert np.isfinite(features.tensors[0][0].load()).all()
    assert "range of float16" in capsys.readouterr().err


def test_auto_weighs_views_against_epochs(data, tmp_path, capsys):
    model = builder(normalization)()
    (cut,) = cuts_of(model, (0,))

    def plan(epochs, augment=(), **settings):
        return PrefixCache(Store(tmp_path), model, data, augment, CacheSettings(**settings)).plan(
            [(epochs, cut), (5, None)]
        )

    assert plan(2) == [True, False]
    assert "MB and about" in " ".join(capsys.readouterr().err.split())
    assert plan(1, ("flip",), views=4) == [False, False]
    assert "prefix cache off: a single epoch" in capsys.readouterr().err
    assert plan(3, ("flip",), views=4) == [True, False]
    assert "3 view(s)" in capsys.readouterr().err, "an epoch takes one view"
    assert plan(9, ("flip",), views=4) == [True, False]
    assert plan(9, mode="off") == [False, False]
    assert plan(9, ("mixup",)) == [False, False]
    assert "mixup joins two images" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="leave out mixup, or pass --cache off"):
        plan(9, ("mixup",), mode="disk")


def test_a_disk_that_is_too_small_is_said_before_anything_is_computed(
    data, tmp_path, monkeypatch, capsys
):
    model = builder(normalization)()
    (cut,) = cuts_of(model, (2,))
    monkeypatch.setattr(Store, "free_bytes", lambda self: 0)
    cache = PrefixCache(Store(tmp_path), model, data, (), CacheSettings())
    assert cache.plan([(9, cut)]) == [False]
    assert "of disk can be had" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="free some space, or pass --cache off"):
        PrefixCache(Store(tmp_path), model, data, (), CacheSettings(mode="disk")).plan([(9, cut)])


def test_what_is_there_needs_no_room_again(data, tmp_path, monkeypatch):
    """A training that is resumed goes on with its cache, also where the disk has room for what is
    missing alone.
    """
    model = builder(normalization)()
    (cut,) = cuts_of(model, (2,))
    settings = CacheSettings(mode="disk", views=4)
    cache = PrefixCache(Store(tmp_path), model, data, ("flip",), settings)
    row = 2 * np.prod(cut[0].shape[1:])  # of float16
    whole = row * (4 * len(data["train"]) + len(data["validation"]))
    monkeypatch.setattr(Store, "free_bytes", lambda self: KEPT_FREE + whole / 3)
    with pytest.raises(ConfigError, match="of disk can be had"):
        cache.plan([(9, cut)])
    for view in range(3):
        cache.fill([cut], view)
    assert cache.plan([(9, cut)]) == [True]
    cache.fill([cut], 3)
    monkeypatch.setattr(Store, "free_bytes", lambda self: 0)
    assert cache.plan([(9, cut)]) == [True]


def test_what_does_not_fit_the_budget_stays_on_the_disk(data, tmp_path):
    model = builder(normalization)()
    (cut,) = cuts_of(model, (2,))
    small = filled(model, data, Store(tmp_path), [cut], budget_bytes=1000)
    assert not small.features(cut, "train").in_memory
    assert (
        filled(model, data, Store(tmp_path), [cut], mode="memory", budget_bytes=1000)
        .features(cut, "train")
        .in_memory
    )
    assert (
        not filled(model, data, Store(tmp_path), [cut], mode="disk")
        .features(cut, "train")
        .in_memory
    )


def test_what_lies_on_the_disk_is_read_in_shuffled_stretches():
    """Windows of two chunks of four rows: every example once an epoch, and a window's batches read
    its eight rows only.
    """
    order = Order(count=32, batch_size=4, seed=3, epochs=2, chunk=4, window=2)
    batches = [indices.numpy() for _, indices in order.dataset()]
    assert len(batches) == 2 * order.steps == 16
    epochs = np.array(batches).reshape(2, 32)
    for epoch in epochs:
        assert sorted(epoch) == list(range(32))
        for window in epoch.reshape(4, 8):
            assert len({index // 4 for index in window}) == 2
    assert not np.array_equal(*epochs)
    plain, whole = Order(32, 4, 3), Order(32, 4, 3, chunk=4, window=8)
    for (_, a), (_, b) in zip(plain.dataset(), whole.dataset(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_order_goes_on_in_the_middle():
    order = Order(count=10, batch_size=3, seed=1, epochs=4)
    whole = [(int(step), indices.numpy().tolist()) for step, indices in order.dataset()]
    later = dataclasses.replace(order, first=2)
    assert [(int(step), indices.numpy().tolist()) for step, indices in later.dataset()] == whole[6:]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(
        ConfigError, match="no space left on the disk for the cache .*or pass --cache off"
    ):
        fail_inside(Store(tmp_path), error)
    assert list(tmp_path.iterdir()) == []


def fail_inside(store, error):
    with store.add("key") as (folder, _):
        (folder / "a.bin").write_bytes(b"half")
        raise error


def test_a_store_is_bounded_and_forgets_what_was_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.zoo.files.store.LIMIT_BYTES", 2500)
    for i in range(4):
        with Store(tmp_path).add(f"entry{i}") as (folder, facts):
            (folder / "a.bin").write_bytes(bytes(1000))
            facts["number"] = i
        os.utime(tmp_path / f"entry{i}" / "entry.json", (i, i))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["entry2", "entry3"]
    assert Store(tmp_path).find("entry3")[1] == {"number": 3}
    assert Store(tmp_path).find("entry0") is None


def test_an_entry_that_fails_leaves_nothing(tmp_path):
    with contextlib.suppress(RuntimeError):
        fail_inside(Store(tmp_path), RuntimeError())
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_was_writing_is_swept(tmp_path):
    for name in (
        f".part-{flock.machine_id()}-abc",
        ".part-999999999-older",
        ".part-1-young",
    ):  # the last two of an older Graft
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".part-999999999-older", (0, 0))
    Store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".part-1-young"]


def test_rows_are_read_where_they_lie(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 3, 2)).astype("float16")
    values.tofile(tmp_path / "rows.bin")
    rows = Rows(tmp_path / "rows.bin", 50, (3, 2), "float16")
    assert rows.size_bytes == values.nbytes
    np.testing.assert_array_equal(rows.load(), values)
    np.testing.assert_array_equal(rows.reader()(np.array([49, 0, 7, 7])), values[[49, 0, 7, 7]])


def test_hashes_tell_types_and_order_apart():
    a = np.arange(6, dtype=np.float32)
    different = [
        a,
        a.reshape(2, 3),
        a.astype("float64"),
        a[::-1],
        [a[:3], a[3:]],
        a.tolist(),
        json.dumps(a.tolist()),
    ]
    assert len({hash_of(part) for part in different}) == len(different)
    assert hash_of("a", "b") != hash_of("ab")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "number of views"),
        ({"memory": "0GB"}, "--memory is a size above 0"),
        ({"memory": "much"}, "like 500MB or 2GB, not 'much'"),
        ({"accumulate": 0}, "accumulate"),
    ],
)
def test_settings_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        FitSettings(**options).check()


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("--memory", "500MB", 500 * 1024**2),
        ("--memory", "1.5 GB", 3 * 1024**3 // 2),
        ("--memory", "2GiB", 2 * 1024**3),
        ("--cache-gb", "0.5", 1024**3 // 2),
    ],
)
def test_memory_is_a_size(option, text, expected):
    """What older commands called --cache-gb is the same option."""
    given = ["--data", "d", "--out", "o", option, text]
    assert tyro.cli(Config, args=given).fit.memory_bytes == expected
