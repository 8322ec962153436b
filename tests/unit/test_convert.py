"""`graft convert`: what is written in another form is read as the same, whole or not at all."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from graft.recipes.commands import convert
from graft.recipes.commands.__main__ import main
from graft.recipes.data.records import Source
from graft.recipes.data.scenes import places
from graft.recipes.data.scenes.scene import Boxes, Scene
from graft.recipes.data.scenes.writers.named import named_scenes
from graft.recipes.data.scenes.writers.table import FORMS
from graft.zoo.contents import Packed
from graft.zoo.errors import ConfigError, DataError

SPLITS = {"train": 5, "val": 2, "test": 2}


def make_source(root, crowd=True):
    """COCO with splits, crowds, an image without a box, boxes of any size, two images of one name
    and outlines.
    """
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count in SPLITS.items():
        images, rows = [], []
        for i in range(count):
            width, height = (int(side) for side in rng.integers(30, 700, 2))
            name = f"{i}.png"
            (root / "images" / split).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / name)
            images.append({"id": i, "file_name": name, "width": width, "height": height})
            for _ in range(int(rng.integers(1, 9)) if i else 0):
                x, y = rng.uniform(0, 0.9, 2) * [width, height]
                w, h = rng.uniform(1e-3, 1, 2) * [width - x, height - y]
                outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
                rows.append(
                    {
                        "id": len(rows),
                        "image_id": i,
                        "category_id": int(rng.choice([3, 7, 90])),
                        "bbox": [float(value) for value in (x, y, w, h)],
                        "iscrowd": int(crowd and rng.uniform() < 0.2),
                        "segmentation": [[float(value) for value in outline[0]]],
                    }
                )
        names = {3: "red cell", 7: "é<&>", 90: "dot: 1"}
        categories = [{"id": number, "name": name} for number, name in names.items()]
        content = {"images": images, "annotations": rows, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def by_digest(source):
    return {
        (split, scene.digest): scene for split, found in source.splits.items() for scene in found
    }


def assert_same(before: Source, after: Source, relative: float, with_crowds: bool = True):
    """Scenes of the same content have the same boxes."""
    assert before.labels == after.labels
    ours, theirs = by_digest(before), by_digest(after)
    assert ours.keys() == theirs.keys()
    for key, scene in ours.items():
        other, kept = theirs[key], ~scene.boxes.crowd if not with_crowds else slice(None)
        assert other.size == scene.size
        labels = np.array(scene.boxes.labels, object)[kept]
        assert other.boxes.labels == tuple(labels)
        np.testing.assert_allclose(
            other.boxes.corners, scene.boxes.corners[kept], rtol=relative, atol=0
        )
        assert other.boxes.crowd.tolist() == scene.boxes.crowd[kept].tolist()


@pytest.mark.parametrize(("form", "relative"), [("coco", 0), ("voc", 0), ("yolo", 1e-6)])
def test_what_is_written_is_read_as_the_same(tmp_path, form, relative, capsys):
    data, out = make_source(tmp_path / "data"), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["convert", "--data", str(data), "--to", form, "--out", str(out)])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("train: 5 images, ")
    before, after = places.load(data), places.load(out)
    assert_same(before, after, relative, with_crowds=form != "yolo")
    assert ("crowds are left out" in said.err) == (form == "yolo")
    assert ("masks of 9 images are not written" in said.err) == (form != "coco")
    # On to the next form and back.
    convert.convert(convert.Options(str(out), "coco", tmp_path / "back"))
    assert_same(after, places.load(tmp_path / "back"), 0)


def test_outlines_stay_with_coco(tmp_path):
    data, out = make_source(tmp_path / "data"), tmp_path / "out"
    convert.convert(convert.Options(str(data), "coco", out))
    before, after = by_digest(places.load(data)), by_digest(places.load(out))
    for key, scene in before.items():
        np.testing.assert_array_equal(scene.mask.read(), after[key].mask.read())


def test_objects_of_16_bits_become_coco(tmp_path):
    pixels = np.zeros((20, 30), np.uint16)
    pixels[2:9, 3:7], pixels[10:12, 20:29] = 5, 700
    for name, content in (("images", np.zeros((20, 30, 3), np.uint8)), ("labels", pixels)):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(content).save(tmp_path / "data" / name / "a.png")
    convert.convert(convert.Options(str(tmp_path / "data"), "coco", tmp_path / "out"))
    (scene,) = places.load(tmp_path / "out").splits["train"]
    np.testing.assert_array_equal(scene.boxes.corners, [[3, 2, 7, 9], [20, 10, 29, 12]])
    np.testing.assert_array_equal(scene.mask.read(), pixels > 0)
    content = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert [row["area"] for row in content["annotations"]] == [28, 18]


def test_images_are_linked_and_nothing_is_written_over(tmp_path, capsys):
    data, out = make_source(tmp_path / "data"), tmp_path / "out"
    options = convert.Options(str(data), "yolo", out, json=True)
    rows = convert.convert(options)
    assert [row["split"] for row in rows] == ["train", "validation", "test"]
    files = sorted((out / "images").rglob("*.png"))
    assert len(files) == sum(SPLITS.values())
    assert all(os.stat(file).st_nlink == 2 for file in files)
    assert len({file.stem for file in files}) == len(files)  # though three splits have a 0.png
    with pytest.raises(ConfigError, match="exists already: --overwrite replaces it"):
        convert.convert(options)
    for inner in (data, data / "annotations"):
        with pytest.raises(ConfigError, match="holds the data: give another --out"):
            convert.convert(convert.Options(str(inner), "yolo", data, overwrite=True))
    convert.convert(convert.Options(str(data), "voc", out, overwrite=True))
    assert (out / "Annotations").is_dir()
    assert not (out / "labels").exists()


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    data, out = make_source(tmp_path / "data"), tmp_path / "out"

    def write(scenes, labels, folder):
        (folder / "half").write_text("")
        raise DataError("no")

    monkeypatch.setitem(FORMS, "voc", write)
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(DataError, match="no"):
        convert.convert(convert.Options(str(data), "voc", out))
    assert {path.name for path in tmp_path.iterdir()} - before <= {".out.lock"}


def test_masks_of_classes_have_no_boxes(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (9, 9)).save(tmp_path / name / "a.png")
    with pytest.raises(DataError, match=r"holds no boxes \(found masks without\)"):
        convert.convert(convert.Options(str(tmp_path), "coco", tmp_path / "out"))


class _Reader:
    def read(self, place, size):
        return b"content"


def test_names_of_files_stay_in_the_folder_and_apart(tmp_path):
    packed = Packed(tmp_path / "x.tar", "in/A.PNG", 0, 7, _Reader())
    boxes = Boxes.of((), (), ())
    names = ("../../a.png", "b/A.png", "c/a.jpg", "c/a.png", "..", "/etc/e.png")
    found = tuple(Scene(packed, name, (9, 9), boxes) for name in names)
    named = named_scenes(Source("x", (), {"train": found}))
    assert [one.stem for one in named] == ["a", "b_A", "c_a", "c_a_2", "image", "e"]
    assert {one.suffix for one in named} == {".png"}
    convert_to = tmp_path / "out"
    convert_to.mkdir()
    FORMS["yolo"](named, ("cell",), convert_to)
    assert (convert_to / "images" / "train" / "b_A.png").read_bytes() == b"content"
