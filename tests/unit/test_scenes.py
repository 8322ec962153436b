"""Boxes and masks are read from what other programs write; what cannot be right is one line."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from graft.recipes.data import splits
from graft.recipes.data.scenes import places
from graft.recipes.data.scenes.masks.mask_files import NOT_KNOWN, nearest
from graft.recipes.data.scenes.masks.outlines import runs_of
from graft.zoo.errors import DataError, UnknownName

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def draw(tmp_path):
    """`draw("images/a.png", ...)`: images of different content; returns the folder."""
    count = iter(range(1, 10_000))

    def draw(*names, size=(WIDTH, HEIGHT)):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = next(count)
            Image.new("RGB", size, (shade % 256, shade // 256, 7)).save(path)
        return tmp_path

    return draw


@pytest.fixture
def write(tmp_path):
    """`write("labels/a.txt", text)`; anything but text is written as JSON."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return write


@pytest.fixture
def mask(tmp_path):
    """`mask("masks/a.png", pixels)`: a file of these pixels."""

    def mask(name, pixels, palette=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(np.asarray(pixels))
        if palette:
            image.putpalette(palette)
        image.save(path)
        return tmp_path

    return mask


def coco(*boxes, names=("a.png",), categories=("cell", "dot"), **more):
    """COCO's JSON: `boxes` are (image id, category id, x, y, width, height)."""
    rows = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, **more}
        for i, (image, category, *box) in enumerate(boxes, 1)
    ]
    sized = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": i, "file_name": name, **sized} for i, name in enumerate(names, 1)]
    listed = [{"id": i, "name": name} for i, name in enumerate(categories, 1)]
    return {"images": images, "annotations": rows, "categories": listed}


def voc(*boxes, name="a.png", database="Unknown", size=(WIDTH, HEIGHT)):
    """The XML of an image: `boxes` are (label, xmin, ymin, xmax, ymax[, difficult])."""
    objects = "".join(
        f"<object><name>{label}</name><difficult>{int(bool(hard))}</difficult><bndbox>"
        f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, x0, y0, x1, y1, *hard in boxes
    )
    return (
        f"<annotation><filename>{name}</filename><source><database>{database}</database></source>"
        f"<size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )


def scenes(source):
    return {scene.name: scene for found in source.splits.values() for scene in found}


def only(source):
    (scene,) = scenes(source).values()
    return scene


def refusal(place) -> str:
    with pytest.raises(DataError) as error:
        places.load(place)
    assert "\n" not in str(error.value)
    return str(error.value)


# What is read


def test_coco_with_splits_gaps_crowds_and_images_without_a_box(draw, write):
    root = draw("images/a.png", "images/b.png", "images/val/c.png", "images/stray.png")
    train = coco((1, 1, 2, 3, 10, 20), (1, 9, 0, 0, 5, 5), names=("a.png", "b.png"))
    train["categories"][1]["id"] = 9
    train["annotations"][1]["iscrowd"] = 1
    write("annotations/instances_train.json", train)
    write("annotations/captions_train.json", {"a.png": ["a cell"]})
    write("annotations/instances_val2017.json", coco((1, 2, 1, 1, 2, 2), names=("c.png",)))
    source = places.load(root)
    assert source.labels == ("cell", "dot")
    assert {split: len(found) for split, found in source.splits.items()} == {
        "train": 2,
        "validation": 1,
    }
    first, second = source.splits["train"]
    assert first.boxes.labels == ("cell", "dot")
    assert first.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(first.boxes.corners, [[2, 3, 12, 23], [0, 0, 5, 5]])
    assert first.boxes.corners.dtype == np.float32
    assert first.boxes.crowd.tolist() == [False, True]
    assert len(second.boxes) == 0
    assert second.boxes.corners.shape == (0, 4)
    assert set(second.answers) == {"boxes"}
    assert [(part.reason, part.count) for part in source.left_out] == [
        ("images that no annotation names", 1)
    ]
    assert first.target != second.target
    assert first.digest != second.digest


def test_one_json_beside_its_images_and_a_folder_around_all(draw, write):
    root = draw("d/a.png")
    write("d/x.json", coco((1, 1, 2, 3, 10, 20)))
    for place in (root / "d" / "x.json", root / "d", root):
        assert only(places.load(place)).boxes.labels == ("cell",)


def test_masks_of_polygons_and_runs(draw, write):
    root = draw("images/a.png")
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[2:6, 10:14] = True
    content = coco((1, 1, 0, 0, 20, 20), (1, 2, 10, 2, 4, 4), (1, 2, 30, 20, 4, 4))
    counts = [30 * 21 + 5, 3, HEIGHT * WIDTH - 30 * 21 - 8]
    content["annotations"][0]["segmentation"] = [[0, 0, 20, 0, 20, 20, 0, 20]]
    content["annotations"][1]["segmentation"] = runs_of(pixels)
    content["annotations"][2]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
    write("annotations/instances_train.json", content)
    scene = only(places.load(root))
    assert set(scene.answers) == {"boxes", "mask"}
    assert scene.mask.labels == ("background", "cell", "dot")
    read = scene.mask.read()
    assert read.shape == (HEIGHT, WIDTH)
    assert (read[pixels] == 2).all()  # though the larger one covers it
    assert read[5:8, 21].tolist() == [2, 2, 2]
    assert read[15, 5] == 1
    assert read[29, 39] == 0
    small = scene.mask.read((15, 20))
    assert small.shape == (15, 20)
    assert {*np.unique(small)} <= {0, 1, 2}


def test_voc_with_lists_and_difficult_objects(draw, write):
    root = draw("JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    write("Annotations/a.xml", voc(("cat", 0, 1, 10.5, 20), ("dog", 5, 5, 40, 30, True)))
    write("Annotations/b.xml", voc(name="b.png"))
    write("Annotations/c.xml", voc(("cat", 1, 1, 9, 9), name="c.png"))
    write("ImageSets/Main/train.txt", "a\n")
    write("ImageSets/Main/val.txt", "b\n")
    source = places.load(root)
    (first,), (second,) = source.splits["train"], source.splits["validation"]
    np.testing.assert_array_equal(first.boxes.corners, [[0, 1, 10.5, 20], [5, 5, 40, 30]])
    assert first.boxes.crowd.tolist() == [False, True]
    assert len(second.boxes) == 0
    assert source.left_out[0].reason == "annotations that no list of ImageSets/Main names"


def test_the_original_voc_counts_pixels_from_one(draw, write):
    root = draw("a.png")
    write("a.xml", voc(("cat", 1, 1, WIDTH, HEIGHT), database="The VOC2007 Database"))
    np.testing.assert_array_equal(only(places.load(root)).boxes.corners, [[0, 0, WIDTH, HEIGHT]])


@pytest.mark.parametrize("images", ["images/{}", "{}/images"])
def test_yolo_in_both_layouts(draw, write, images):
    train, val = images.format("train"), images.format("val")
    root = draw(f"{train}/a.png", f"{train}/b.png", f"{val}/c.png")
    write("data.yaml", f"train: ../{train}\nval: {val}\nnames:\n  0: cell\n  2: dot\n")
    labels = [folder.replace("images", "labels") for folder in (train, val)]
    write(f"{labels[0]}/a.txt", "2 0.5 0.5 0.25 0.5\n\n0 0.1 0.1 0.3 0.1 0.2 0.4\n")
    write(f"{labels[1]}/c.txt", "0 0.5 0.5 1 1\n")
    source = places.load(root)
    a, b = source.splits["train"]
    assert a.boxes.labels == ("dot", "cell")
    assert len(b.boxes) == 0
    np.testing.assert_allclose(a.boxes.corners, [[15, 7.5, 25, 22.5], [4, 3, 12, 12]], rtol=1e-6)
    assert [scene.name for scene in source.splits["validation"]] == [f"{val}/c.png"]
    assert scenes(places.load(root / "data.yaml")).keys() == scenes(source).keys()


def test_yolo_with_classes_txt(draw, write):
    root = draw("images/a.png")
    write("labels/classes.txt", "cell\ndot\n")
    write("labels/a.txt", "1 0.5 0.5 0.5 0.5\n")
    assert only(places.load(root)).boxes.labels == ("dot",)


@pytest.mark.parametrize(
    "header",
    ["path,label,x0,y0,x1,y1", "filename,class,xmin,ymin,xmax,ymax", "image,label,x1,y1,x2,y2"],
)
def test_tables(draw, write, header):
    root = draw("a.png", "b.png", "c.png")
    rows = "a.png,cell,1,2,3,4,train\na.png,dot,5,6,7,8,train\nb.png,,,,,,train\n"
    write("boxes.csv", f"{header},split\n{rows}c.png,dot,1,1,2,2,val\n")
    source = places.load(root)
    a, b = source.splits["train"]
    np.testing.assert_array_equal(a.boxes.corners, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert len(b.boxes) == 0
    assert len(source.splits["validation"]) == 1


def test_a_table_of_shares(draw, write):
    root = draw("a.png")
    write("boxes.csv", "path,label,x0,y0,x1,y1\na.png,cell,0.25,0,0.5,1\n")
    np.testing.assert_array_equal(only(places.load(root)).boxes.corners, [[10, 0, 20, HEIGHT]])


def test_masks_by_value_with_names(draw, mask, write):
    root = draw("images/a.png", "images/b.png")
    pixels = np.full((HEIGHT, WIDTH), 3, np.uint8)
    pixels[:5], pixels[5:9], pixels[9:12] = 0, 7, 255
    mask("masks/a.png", pixels, palette=[i % 256 for i in range(768)])
    write("classes.json", {"0": "unlabeled", "3": "road", "7": "car", "9": "tree"})
    source = places.load(root)
    scene = only(source)
    assert scene.mask.labels == ("road", "car", "tree")
    assert source.labels == ("road", "car")
    read = scene.mask.read()
    assert read[0, 0] == NOT_KNOWN
    assert read[10, 0] == NOT_KNOWN
    assert read[6, 0] == 1
    assert read[20, 0] == 0
    assert source.left_out[0].reason == "images without a mask"


def test_a_class_without_a_pixel_is_warned_of(draw, mask, write, capsys):
    root = draw("images/a.png")
    mask("masks/a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    write("classes.txt", "road\ncar\n")
    assert places.load(root).labels == ("road",)
    assert "no image has a pixel of the class 'car'" in capsys.readouterr().err


def test_masks_by_colour(draw, mask, write):
    root = draw("train/a.png", "val/b.png")
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:5] = 128, 64, 0
    for place in ("trainannot/a.png", "valannot/b.png"):
        mask(place, pixels)
    write("classes.json", {"void": [0, 0, 0], "road": [128, 64, 0], "car": [9, 9, 9]})
    source = places.load(root)
    (scene,) = source.splits["validation"]
    assert scene.mask.labels == ("car", "road")  # by their colours, as numbers
    assert scene.mask.read()[0, 0] == 1
    assert scene.mask.read()[9, 0] == NOT_KNOWN


def test_masks_of_nothing_and_something(draw, mask):
    root = draw("images/a.png")
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[3:5] = 255
    mask("masks/a_mask.png", pixels)
    scene = only(places.load(root))
    assert scene.mask.labels == ("background", "object")
    assert scene.mask.read()[3, 0] == 1


def test_instances_of_16_bits_have_boxes_and_an_index(draw, mask, write):
    root = draw("images/a.png", "images/b.png", "images/c.png")
    pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
    pixels[2:5, 3:9], pixels[10:20, 30:40] = 7, 300
    for name in "abc":
        mask(f"labels/{name}.png", pixels)
    write("index.csv", "id,other,split\na,1,train\nb,1,val\n")
    source = places.load(root)
    (first,), (second,) = source.splits["train"], source.splits["validation"]
    np.testing.assert_array_equal(first.boxes.corners, [[3, 2, 9, 5], [30, 10, 40, 20]])
    assert set(second.answers) == {"boxes", "mask"}
    assert source.labels == ("object",)
    assert first.mask.read()[3, 4] == 1
    assert first.mask.read()[0, 0] == 0
    assert source.left_out[0].reason == "images that index.csv does not name"
    outline, _ = first.mask.segmentations()
    assert outline["size"] == [HEIGHT, WIDTH]


def test_a_place_with_boxes_and_masks_gives_what_is_asked_for(draw, mask, write):
    root = draw("images/a.png")
    write("annotations/instances_train.json", coco((1, 1, 2, 3, 10, 20)))
    mask("semantic_masks/a.png", np.ones((HEIGHT, WIDTH), np.uint8))
    assert set(only(places.load(root)).answers) == {"boxes"}
    assert set(only(places.load(root, "mask")).answers) == {"mask"}
    (root / "semantic_masks" / "a.png").unlink()
    with pytest.raises(DataError, match=r"no masks \(found COCO without\)"):
        places.load(root, "mask")


def test_corners_are_of_the_image_as_it_is_shown(draw, write, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg", exif=exif)
    write("boxes.csv", f"path,label,x0,y0,x1,y1\na.jpg,cell,1,2,{HEIGHT},{WIDTH}\n")
    scene = only(places.load(tmp_path))
    assert scene.size == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(scene.boxes.corners, [[1, 2, HEIGHT, WIDTH]])
    (tmp_path / "boxes.csv").unlink()
    write("x.json", coco((1, 1, 2, 3, 10, 20), names=("a.jpg",)))
    assert "EXIF data turn it" in refusal(tmp_path)


def test_500_boxes_in_one_image(draw, write):
    root = draw("images/a.png")
    rng = np.random.default_rng(0)
    places_of = rng.uniform(0, 10, (500, 2)).tolist()
    write("annotations/instances_train.json", coco(*[(1, 1, x, y, 5, 5) for x, y in places_of]))
    assert len(only(places.load(root)).boxes) == 500


def test_margins_outside_are_cut_and_counted(draw, write, capsys):
    root = draw("images/a.png")
    boxes = [(1, 1, -2, 0, 12, 8), (1, 1, 0, 0, WIDTH + 1e-6, 5)]
    write("annotations/instances_train.json", coco(*boxes))
    source = places.load(root)
    np.testing.assert_array_equal(only(source).boxes.corners, [[0, 0, 10, 8], [0, 0, WIDTH, 5]])
    (left_out,) = source.left_out  # the second is off by how its number was written
    assert (left_out.reason, left_out.count, left_out.example) == (
        "margins of boxes that lie outside of the image",
        1,
        "images/a.png, object 1",
    )
    assert "1 of 4 found" in capsys.readouterr().err


def test_rare_labels_come_into_every_split(draw, write):
    names = [f"{i:02d}.png" for i in range(60)]
    root = draw(*[f"images/{name}" for name in names])
    rare = [(i, 2, 5, 5, 2, 2) for i in range(1, 11)]
    rarest = [(11, 3, 5, 5, 2, 2)]
    common = [(i, 1, 1, 1, 2, 2) for i in range(1, 51)]
    content = coco(*common, *rare, *rarest, names=names, categories=("cell", "dot", "ring"))
    write("annotations/instances_train.json", content)
    source = places.load(root)
    groups = [scene.group for scene in source.splits["train"]]
    assert (groups.count("dot"), groups.count("cell"), groups.count("")) == (10, 40, 10)
    complete, made = splits.complete(source, 0)
    assert made == ("test", "validation")
    for split in ("train", "validation", "test"):
        assert {"dot", "cell"} <= {label for s in complete.splits[split] for label in s.labels}
    assert len(complete.splits["test"]) == 10


def test_nearest_takes_pixels_as_they_are():
    pixels = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(nearest(pixels, (3, 4)), pixels)
    np.testing.assert_array_equal(nearest(pixels, (1, 2)), [[5, 7]])


def test_real_data(graft_data, tmp_path):
    zipfile.ZipFile(graft_data / "bccd_detection" / "bccd_320.zip").extractall(tmp_path)
    source = places.load(tmp_path)
    sizes = {split: len(found) for split, found in source.splits.items()}
    assert sizes == {"train": 205, "validation": 87, "test": 72}
    assert sum(len(scene.boxes) for scene in scenes(source).values()) == 4886
    assert source.labels == ("Platelets", "RBC", "WBC")
    assert not source.left_out


# What cannot be right


@pytest.mark.parametrize(
    ("box", "line"),
    [
        ((1, 1, 50, 0, 5, 5), "object 1: the box of 'cell' on 'images/a.png' lies outside"),
        ((1, 1, 5, 5, 0, 5), "object 1: the box of 'cell' on 'images/a.png' has no width"),
        ((1, 1, 5, 5, 5, 0), "has no height"),
        ((1, 1, 15, 5, -5, 5), "has its corners reversed (15, 5, 10, 10)"),
        ((1, 1, float("nan"), 5, 5, 5), "bbox is no list"),
        ((1, 1, 5, 5, 5), "bbox is no list of x, y, width, height"),
        ((1, 8, 5, 5, 5, 5), "object 1 is of the category 8, which is not among the categories"),
        ((4, 1, 5, 5, 5, 5), "object 1 is of the image 4, which is not among the images"),
    ],
)
def test_bad_boxes_of_coco(draw, write, box, line):
    root = draw("images/a.png")
    write("annotations/instances_train.json", coco(box, (1, 1, 1, 1, 2, 2)))
    message = refusal(root)
    assert line in message
    assert "instances_train.json'" in message
    assert "more fault" not in message


def test_faults_are_counted(draw, write):
    root = draw("images/a.png")
    write("annotations/instances_train.json", coco(*[(1, 1, 5, 5, 0, 5)] * 3))
    assert refusal(root).endswith("(and 2 more faults)")


def test_images_of_coco_that_are_not_there_or_there_twice(draw, write):
    root = draw("images/a.png")
    boxes = [(1, 1, 1, 1, 2, 2)]
    write("annotations/instances_train.json", coco(*boxes, names=("a.png", "b.png")))
    assert "names the image 'b.png', which is not there: looked in" in refusal(root)
    write("annotations/instances_train.json", coco(*boxes, names=("a.png", "a.png")))
    assert "the image 'images/a.png' stands in" in refusal(root)
    write("annotations/instances_train.json", coco(*boxes))
    write("annotations/instances_val.json", coco(*boxes))
    message = refusal(root)
    assert "instances_train.json' and in '" in message or "instances_val.json'" in message


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda content: content.pop("categories"), "has no list 'categories'"),
        (
            lambda content: content["categories"].append({"id": 1, "name": "x"}),
            "stands there twice",
        ),
        (lambda content: content["images"][0].update(width=9), "says that 'images/a.png' has 9x30"),
        (lambda content: content["images"][0].update(id=[1]), "has the id [1]"),
        (lambda content: content["images"][0].pop("file_name"), "has no file_name"),
    ],
)
def test_bad_files_of_coco(draw, write, change, line):
    root, content = draw("images/a.png"), coco((1, 1, 1, 1, 2, 2))
    change(content)
    write("annotations/instances_train.json", content)
    assert line in refusal(root)


@pytest.mark.parametrize(
    ("segmentation", "line"),
    [
        ([[1, 1, 2, 2]], "a polygon of it has 4 numbers"),
        ([[1, 1, 2, 2, "a", 3]], "a polygon of it is no list of numbers"),
        ({"size": [9, 9], "counts": "a"}, "its RLE is of the height and width [9, 9]"),
        ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "do not add up"),
    ],
)
def test_bad_outlines(draw, write, segmentation, line):
    root = draw("images/a.png")
    content = coco((1, 1, 1, 1, 2, 2), segmentation=segmentation)
    write("annotations/instances_train.json", content)
    assert line in refusal(root)
    assert "object 1" in refusal(root)


def test_runs_that_are_longer_than_the_image_are_one_line(draw, write):
    root = draw("images/a.png")
    runs = {"size": [HEIGHT, WIDTH], "counts": runs_of(np.ones((90, 90), bool))["counts"]}
    write("annotations/instances_train.json", coco((1, 1, 1, 1, 2, 2), segmentation=runs))
    scene = only(places.load(root))
    with pytest.raises(DataError, match="object 1 on 'a.png': its outline cannot be filled"):
        scene.mask.read()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            voc(("cat", 9, 1, 2, 5)),
            "a.xml', object 1: the box of 'cat' on 'JPEGImages/a.png' has its",
        ),
        (voc(("cat", "x", 1, 2, 5)), "a.xml', object 1: bndbox lacks a number"),
        (voc(("", 1, 1, 2, 5)), "a.xml', object 1 has no name"),
        (voc(("cat", 1, 1, 2, 5), size=(9, 9)), "a.xml' says that 'JPEGImages/a.png' has 9x9"),
        (voc(("cat", 1, 1, 2, 5))[:-9], "a.xml' cannot be read as XML"),
        (voc(), "holds no box in 1 images"),
    ],
)
def test_bad_files_of_voc(draw, write, text, line):
    root = draw("JPEGImages/a.png")
    write("Annotations/a.xml", text)
    assert line in refusal(root)


def test_voc_without_an_image_or_an_annotation(draw, write):
    root = draw("JPEGImages/a.png")
    write("Annotations/b.xml", voc(("cat", 1, 1, 2, 5), name="b.png"))
    assert "b.xml' is of the image 'b.png', which is not in" in refusal(root)
    write("ImageSets/Main/train.txt", "b\na\n")
    assert "train.txt', line 2 names 'a', of which there is no annotation" in refusal(root)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0 0.5 0.5 0.1 0.1\n0 20 10 5 5\n", "line 2: 20 is no share of a side, 0 to 1: it may be"),
        ("5 0.5 0.5 0.1 0.1\n", "line 1: the class 5 has no name: "),
        ("0 0.5 0.5 0.1\n", "line 1: 4 numbers, expected 5"),
        ("0 0.5 0.5 0.1 0.1 0.9\n", "line 1: 6 numbers, expected 5"),
        ("cell 0.5 0.5 0.1 0.1\n", "line 1: 'cell 0.5 0.5 0.1 0.1' holds no numbers alone"),
        ("0 0.5 0.5 0 0.1\n", "line 1: the box of 'cell' on 'images/a.png' has no width"),
        ("0 0.5 nan 0.1 0.1\n", "line 1: nan is no share"),
        ("", "holds no box in 1 images"),
    ],
)
def test_bad_files_of_yolo(draw, write, text, line):
    root = draw("images/a.png")
    write("labels/a.txt", text)
    write("classes.txt", "cell\ndot\n")
    assert line in refusal(root)


def test_names_of_yolo(draw, write):
    root = draw("images/a.png")
    write("labels/a.txt", "0 0.5 0.5 0.1 0.1\n")
    assert "does not say what its classes are called" in refusal(root)
    write("data.yaml", "nc: 3\nnames: [cell, dot]\n")
    assert "data.yaml' says that nc is 3, and has 2 names" in refusal(root)
    write("data.yaml", "nc: 3\n")
    assert "has no names of classes" in refusal(root)


def test_images_of_yolo_that_are_not_there_or_there_twice(draw, write):
    root = draw("images/a.png")
    write("classes.txt", "cell\n")
    write("labels/b.txt", "0 0.5 0.5 0.1 0.1\n")
    assert "b.txt' is of an image that is not in" in refusal(root)
    (root / "labels" / "b.txt").rename(root / "labels" / "a.txt")
    draw("images/a.bmp")
    assert "would have the same labels" in refusal(root)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("a.png,cell,1,1,9,9\na.png,cell,0.1,0.1,0.9,0.9", "line 3: the corners on 'a.png' look"),
        ("a.png,cell,1,1,x,9", "line 2: 'x' in the column 'x1' is no number"),
        ("a.png,cell,1,1,,9", "line 2: the column 'x1' is empty"),
        ("a.png,cell,9,1,2,9", "line 2: the box of 'cell' on 'a.png' has its corners reversed"),
        ("b.png,cell,1,1,9,9", "line 2: there is no file"),
    ],
)
def test_bad_tables(draw, write, rows, line):
    root = draw("a.png")
    write("boxes.csv", f"path,label,x0,y0,x1,y1\n{rows}\n")
    assert line in refusal(root)
    assert "boxes.csv'" in refusal(root)


def test_an_image_in_two_splits_of_a_table(draw, write):
    root = draw("a.png")
    rows = "a.png,cell,1,1,9,9,train\na.png,cell,1,1,9,9,test\n"
    write("boxes.csv", f"path,label,x0,y0,x1,y1,split\n{rows}")
    assert "line 3: 'a.png' is in the split test, and at line 2 in train" in refusal(root)


def test_masks_of_another_size(draw, mask):
    root = draw("images/a.png")
    mask("masks/a.png", np.zeros((HEIGHT, WIDTH - 1), np.uint8))
    assert "a.png' has 39x30 pixels, its image 'images/a.png' 40x30" in refusal(root)


def blurred(values=(0, 255)):
    """A mask whose edges were averaged."""
    pixels = np.full((HEIGHT, WIDTH), values[0], np.uint8)
    pixels[5:20, 7:30] = values[1]
    image = Image.fromarray(pixels).resize((WIDTH * 2, HEIGHT * 2), Image.Resampling.BICUBIC)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def test_blurred_edges_of_masks(draw, mask, write):
    root = draw("images/a.png")
    mask("masks/a.png", blurred())
    message = refusal(root)
    assert "masks/a.png' holds" in message
    assert "anti-aliased" in message
    mask("masks/a.png", blurred((3, 60)))
    write("classes.json", {"3": "road", "60": "car"})
    assert "which is no class" in refusal(root)


def test_a_mask_that_changes_after_it_was_looked_at(draw, mask):
    root = draw("images/a.png")
    mask("masks/a.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    scene = only(places.load(root))
    mask("masks/a.png", blurred())
    with pytest.raises(DataError, match=r"masks/a\.png' holds \d+, which is no class"):
        scene.mask.read()


def test_palettes_that_were_saved_as_colours(draw, mask, write):
    root = draw("images/a.png")
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:5] = 128, 64, 0
    mask("masks/a.png", pixels)
    assert "is coloured, as a palette that was saved as RGB" in refusal(root)
    write("classes.json", {"road": [128, 64, 0]})
    assert "holds (0, 0, 0), which is no class" in refusal(root)


def test_a_list_of_classes_that_is_too_short(draw, mask, write):
    root = draw("images/a.png")
    mask("masks/a.png", np.full((HEIGHT, WIDTH), 2, np.uint8))
    write("classes.txt", "road\ncar\n")
    assert "a.png' holds 2, which is no class: name it" in refusal(root)
    write("classes.json", {"a": "b"})
    assert "classes.txt' both say" in refusal(root) or "classes.json'" in refusal(root)


def test_masks_without_images_and_jpegs(draw, mask, tmp_path):
    root = draw("images/a.png")
    mask("masks/b.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    assert "b.png' is of an image that is not in" in refusal(root)
    (root / "masks" / "b.png").unlink()
    Image.new("L", (WIDTH, HEIGHT)).save(root / "masks" / "a.jpg")
    assert "a.jpg' is a JPEG, which changes the values" in refusal(root)


def test_an_image_that_cannot_be_read(draw, write):
    root = draw("images/a.png")
    write("annotations/instances_train.json", coco((1, 1, 1, 1, 2, 2)))
    (root / "images" / "a.png").write_bytes(b"no image")
    assert "a.png' is not a readable image" in refusal(root)


def test_places_without_scenes(draw, tmp_path):
    draw("cat/a.png", "dog/b.png")
    message = refusal(tmp_path)
    for form in ("COCO (annotations/instances_*.json)", "Annotations/*.xml", "labels/*.txt"):
        assert form in message
    with pytest.raises(DataError, match="there is no file or folder"):
        places.load(tmp_path / "x")
    with pytest.raises(UnknownName):
        places.load("digits")
