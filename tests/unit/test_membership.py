"""What a model was trained on is known by its content, whatever it is called now; what looks the
same is found.
"""

import io
import json

import numpy as np
import pytest
from PIL import Image

from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.data import concerns, splits
from graft.recipes.data.membership import find_membership, warn_of_alike, write_membership
from graft.recipes.data.records import Example, Source
from graft.recipes.data.sources import load
from graft.recipes.data.traces import alike, look_of
from graft.zoo.errors import ArtifactError, DataError
from tests.conftest import shapes_image


def scene(seed, size=96):
    """A smooth image of its own, as a photo is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def saved_again(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def table(folder, tests, name="t.csv", count=24):
    """A table of `count` images, of which those numbered `tests` are in its test split; the
    others are to train on.
    """
    for i in range(count):
        if not (folder / f"{i}.png").exists():
            Image.fromarray(shapes_image(i % 3, i, 16)).save(folder / f"{i}.png")
    rows = (f"{i}.png,{'abc'[i % 3]},{'test' if i in tests else 'train'}\n" for i in range(count))
    (folder / name).write_text("path,label,split\n" + "".join(rows))
    return str(folder / name)


def encoded(source, image_size=16) -> dict[str, Images]:
    """The images of every split, with nothing to learn."""
    codec = ImageCodec(image_size)
    return {split: codec.encode(records, ()) for split, records in source.splits.items()}


def trained_on(folder, source, **more):
    """(the record of its data, what `beside` finds) of a run that was trained on `source`."""
    complete, made = splits.complete(source, 0)
    run = folder / "run"
    run.mkdir(exist_ok=True)
    data = {
        "made_splits": list(made),
        "fingerprint": splits.fingerprint(complete),
        "split_seed": 0,
        "membership": write_membership(run, encoded(complete), None),
        **more,
    }
    return data, find_membership(run, data)


def test_the_same_splits_are_measured_without_a_word(tmp_path, capsys):
    source = load(table(tmp_path, range(6)))
    data, seen = trained_on(tmp_path, source)
    for split in ("validation", "test"):
        assert splits.reuse(source, split, data, seen)
    assert "warning" not in capsys.readouterr().err
    assert data["membership"]["examples"] == {"train": 15, "validation": 3, "test": 6}
    assert len(json.dumps(data["membership"])) < 500


def test_rows_that_moved_between_splits_are_refused(tmp_path):
    data, seen = trained_on(tmp_path, load(table(tmp_path, range(6))))
    moved = load(table(tmp_path, range(6, 12), "moved.csv"))
    with pytest.raises(
        DataError,
        match=r"\d of 6 test examples are in the training data of this model, whatever .*'\d+.png'",
    ):
        splits.reuse(moved, "test", data, seen)
    with pytest.raises(DataError, match="is not the data that this model was trained on"):
        splits.reuse(moved, "validation", data, seen)
    assert splits.reuse(moved, "train", data, seen), "who asks for training data gets them"


def test_the_fingerprint_sees_the_splits_that_the_data_have_and_one_of_before_still_counts(
    tmp_path,
):
    source = load(table(tmp_path, range(6)))
    moved = load(table(tmp_path, range(6, 12), "moved.csv"))
    plain = load(table(tmp_path, (), "plain.csv"))
    marks = [splits.fingerprint(part) for part in (source, moved, plain)]
    assert len(set(marks)) == 3
    assert splits.fingerprint(splits.complete(source, 3)[0]) == marks[0]
    # What Graft wrote before: over all splits together, which is what it still writes where the
    # data have none.
    assert splits.same_data(source, marks[2])
    assert splits.same_data(source, marks[0])
    assert not splits.same_data(source, marks[1])


def test_another_name_place_or_label_hides_nothing(tmp_path):
    source = load(table(tmp_path, range(6)))
    data, seen = trained_on(tmp_path, source)
    trained = splits.complete(source, 0)[0].splits["train"][0]
    (tmp_path / "other" / "test" / "b").mkdir(parents=True)
    (tmp_path / "other" / "test" / "b" / "new.jpg").write_bytes(trained.image.read_bytes())
    other = load(str(tmp_path / "other"), to_train=False)
    with pytest.raises(
        DataError, match=r"1 of 1 test examples are in the training data .* 'test/b/new.jpg'"
    ):
        splits.reuse(other, "test", data, seen)


def test_the_same_pixels_in_another_file_are_refused_and_a_lookalike_is_warned_of(tmp_path, capsys):
    for split, numbers in (("train", range(6)), ("validation", (6, 7)), ("test", (8, 9))):
        for i in numbers:
            (tmp_path / "photos" / split / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            scene(i).save(tmp_path / "photos" / split / "ab"[i % 2] / f"{i}.png")
    source = load(str(tmp_path / "photos"))
    _, seen = trained_on(tmp_path, source)
    capsys.readouterr()

    def measured(image, suffix):
        folder = tmp_path / suffix / "test" / "a"
        folder.mkdir(parents=True)
        image.save(folder / f"x.{suffix}")
        found = encoded(load(str(tmp_path / suffix), to_train=False))["test"]
        seen.refuse_decoded(found, "test")
        return " ".join(capsys.readouterr().err.split())

    with pytest.raises(
        DataError, match=r"1 of 1 test examples are in the training data of this model"
    ):
        measured(scene(2), "bmp")
    assert (
        "1 of 1 test examples look (or read) the same as training examples (the first: "
        "'test/a/x.jpg')" in measured(saved_again(scene(2), quality=80), "jpg")
    )
    assert "warning" not in measured(scene(77), "webp")


def test_duplicates_that_training_knew_are_a_warning(tmp_path, capsys):
    path = table(tmp_path, range(6))
    trained = splits.complete(load(path), 0)[0].splits["train"][0]
    (tmp_path / "0.png").write_bytes(trained.image.read_bytes())
    source = load(path)
    data, seen = trained_on(tmp_path, source)
    capsys.readouterr()
    assert len(splits.reuse(source, "test", data, seen)) == 6
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "1 of 6 test examples are in its training data too, as training warned (the first: '0.png')"
        in told
    )


def test_a_run_of_before_is_measured_with_a_warning(tmp_path, capsys):
    data, _ = trained_on(tmp_path, load(table(tmp_path, range(6))))
    del data["membership"]
    assert find_membership(tmp_path / "run", data) is None
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "was trained on is not recorded (an older Graft wrote it): whether some of these are among "
        "them" in told
    )
    assert find_membership(tmp_path / "own.keras", None) is None
    assert find_membership(tmp_path / "own.keras", {}) is None
    assert capsys.readouterr().err == "", "of a model of one's own nothing is claimed"


@pytest.mark.parametrize("damage", ["zeros", "other", "types", "missing"])
def test_a_record_that_does_not_fit_is_one_line(tmp_path, capsys, damage):
    data, _ = trained_on(tmp_path, load(table(tmp_path, range(6))))
    file = tmp_path / "run" / "splits.npz"
    if damage == "zeros":
        file.write_bytes(bytes(len(file.read_bytes())))
    elif damage == "missing":
        file.unlink()
        assert find_membership(tmp_path / "run", data) is None
        assert "'splits.npz' is missing beside it" in " ".join(capsys.readouterr().err.split())
        return
    else:
        rows = np.zeros(3, np.uint64) if damage == "other" else np.zeros((3, 5), np.float32)
        np.savez(file, train_contents=rows, validation_contents=rows, test_contents=rows)
    with pytest.raises(ArtifactError, match=r"splits.npz' is damaged"):
        find_membership(tmp_path / "run", data)


def test_what_was_seen_without_labels_is_a_warning(tmp_path, capsys):
    complete, _ = splits.complete(load(table(tmp_path, range(6))), 0)
    images = encoded(complete)
    (tmp_path / "run").mkdir()
    record = write_membership(
        tmp_path / "run",
        {**images, "unlabelled": images["test"], "test": images["validation"]},
        None,
    )
    seen = find_membership(tmp_path / "run", {"membership": record})
    seen.refuse(complete.splits["test"], "test")
    assert "6 of 6 test examples were seen while training, without their labels" in " ".join(
        capsys.readouterr().err.split()
    )


def test_what_a_backbone_was_trained_on_counts_as_seen(tmp_path, capsys):
    source = load(table(tmp_path, range(6)))
    data, _ = trained_on(tmp_path, source)
    backbone = tmp_path / "run"
    (backbone / "run.json").write_text(json.dumps({"data": data}))
    moved, _ = splits.complete(load(table(tmp_path, range(18, 24), "moved.csv")), 0)
    concerns.warn_of_concerns(moved, "another", str(backbone), 0)
    told = " ".join(capsys.readouterr().err.split())
    assert f"'{backbone}' was trained on" in told
    assert "of the 9 validation and test examples" in told
    (tmp_path / "second").mkdir()
    only = encoded(moved)["validation"]
    unseen = dict.fromkeys(("train", "validation", "test"), only)
    record = write_membership(tmp_path / "second", unseen, str(backbone / "model.keras"))
    second = find_membership(tmp_path / "second", {"membership": record})
    with pytest.raises(DataError, match="test examples are in the training data of its backbone"):
        second.refuse(moved.splits["test"], "test")


def test_images_that_look_the_same_in_two_splits_are_warned_of(capsys):
    train = tuple(Example(np.asarray(scene(i)), "ab"[i % 2], f"train {i}") for i in range(8))
    again = saved_again(scene(3), quality=50).resize((60, 60))
    test = (
        Example(np.asarray(again), "b", "test 0"),
        Example(np.asarray(scene(50)), "a", "test 1"),
    )
    blank = tuple(
        Example(np.full((9, 9, 3), grey, np.uint8), "a", f"blank {grey}") for grey in (0, 90, 255)
    )
    source = Source(
        "made",
        ("a", "b"),
        {"train": train + blank[:1], "validation": test[1:], "test": test[:1] + blank[1:]},
    )
    warn_of_alike(encoded(source, 64))
    told = " ".join(capsys.readouterr().err.split())
    assert (
        told.partition("warning: ")[2]
        == "'test 0' looks the same as 'train 3' of another split: the figures may be too good"
    )


def test_looks_are_found_whatever_the_stretch(monkeypatch):
    looks = np.stack([look_of(np.asarray(scene(i, 32))) for i in range(40)])
    others = np.stack(
        [look_of(np.asarray(saved_again(scene(i, 32), quality=90))) for i in range(0, 60, 2)]
    )
    expected = [(i, i // 2) for i in range(0, 40, 2)]
    for pairs in (1, 64, 2**20):
        monkeypatch.setattr("graft.recipes.data.traces.COMPARED", pairs)
        assert alike(looks, others) == expected
    assert alike(looks, others[:0]) == []
