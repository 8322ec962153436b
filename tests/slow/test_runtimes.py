"""Exported files in runtimes that know nothing of Graft: bare TensorFlow, and MediaPipe Tasks.

MediaPipe is an extra of its own (`pip install 'graft-zoo[mediapipe]'`): these tests skip without
it. Set GRAFT_MEDIAPIPE_PYTHON to the Python of an environment that has it, if this one has not.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import graft as graft_zoo
from graft.export.export import Examples, ExportSettings, Subject, export_model
from graft.export.manifest import Description
from graft.export.sessions import open_artifact
from graft.recipes.data import sentences
from graft.zoo.vision import decode_image

pytestmark = pytest.mark.slow

BARE = """
import sys, numpy as np
import tensorflow as tf
before = "keras" in sys.modules
loaded = tf.saved_model.load(sys.argv[1])
call = loaded.signatures["serving_default"]
(name,) = call.structured_input_signature[1]
outputs = call(**{name: tf.constant(np.load(sys.argv[2]))})
np.save(sys.argv[3], outputs["probabilities"].numpy())
assert before or "keras" not in sys.modules
assert "graft" not in sys.modules
labels = [asset.asset_path.numpy().decode() for asset in loaded.assets] if hasattr(loaded, "assets") else []
print([path for path in labels if path.endswith("labels.txt")])
"""

TASKS = """
import json, sys, numpy as np, mediapipe as mp
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
kind, model, pictures, target = sys.argv[1:]
options = tasks.BaseOptions(model_asset_path=model)
images = [mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(p)) for p in np.load(pictures)]
if kind == "classify":
    with vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=options)) as task:
        found = [task.classify(image).classifications[0].categories for image in images]
        result = [{c.category_name: c.score for c in categories} for categories in found]
else:
    with vision.ImageEmbedder.create_from_options(vision.ImageEmbedderOptions(base_options=options)) as task:
        result = [task.embed(image).embeddings[0].embedding.tolist() for image in images]
with open(target, "w") as file:
    json.dump(result, file)
"""


@pytest.fixture(scope="module")
def mediapipe():
    """The Python that has MediaPipe."""
    other = os.environ.get("GRAFT_MEDIAPIPE_PYTHON")
    if other is None and importlib.util.find_spec("mediapipe") is None:
        pytest.skip("MediaPipe is not installed: pip install 'graft-zoo[mediapipe]'")
    return other or sys.executable


def in_mediapipe(python, kind: str, model: Path, pictures: np.ndarray, folder: Path):
    np.save(folder / "pictures.npy", pictures)
    script = folder / "task.py"
    script.write_text(TASKS)
    done = subprocess.run(
        [python, script, kind, model, folder / "pictures.npy", folder / "result.json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "result.json").read_text())


TEXTS = """
import json, sys
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import text
model, source, target = sys.argv[1:]
options = text.TextClassifierOptions(base_options=tasks.BaseOptions(model_asset_path=model))
with text.TextClassifier.create_from_options(options) as task:
    found = [task.classify(line).classifications[0].categories for line in json.load(open(source))]
with open(target, "w") as file:
    json.dump([{c.category_name: c.score for c in categories} for categories in found], file)
"""


@pytest.mark.parametrize("name", ["model.tflite", "model.dynamic.tflite"])
def test_mediapipe_classifies_texts_as_predict_does(spoken_texts, mediapipe, tmp_path, name):
    """A BERT in a file, its vocabulary and labels inside, opened unchanged."""
    folder, lines = spoken_texts
    (tmp_path / "task.py").write_text(TEXTS)
    (tmp_path / "lines.json").write_text(json.dumps(lines))
    done = subprocess.run(
        [
            mediapipe,
            tmp_path / "task.py",
            folder / name,
            tmp_path / "lines.json",
            tmp_path / "found.json",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    for row, expected in zip(found, graft_zoo.load(folder / name).predict(lines), strict=True):
        assert row == pytest.approx(expected["scores"], abs=1e-3)


@pytest.fixture(scope="module")
def spoken_texts(graft, tmp_path_factory):
    """(export folder of a classifier of commands, the sentences of its test split)."""
    folder = tmp_path_factory.mktemp("spoken")
    source = sentences.load("commands", need=("label",))
    rows = [f'"{s.text}",{s.label},{split}' for split, part in source.splits.items() for s in part]
    (folder / "commands.csv").write_text("text,label,split\n" + "\n".join(rows) + "\n")
    options = (
        "--data",
        folder / "commands.csv",
        "--out",
        folder / "run",
        "--schedule",
        "full",
        "--epochs",
        8,
    )
    assert graft("train", "text-classification", *options).returncode == 0
    assert (
        graft(
            "export",
            folder / "run",
            "--formats",
            "tflite",
            "--quantize",
            "dynamic",
            "--accept-undecided",
        ).returncode
        == 0
    )
    return folder / "run" / "export", [s.text for s in source.splits["test"]]


@pytest.fixture(scope="module")
def clothes(graft, train_clothes, clothing, tmp_path_factory):
    """A fine-tuned MobileNetV2 in all precisions, and the 372 test photos as it gets them."""
    run = tmp_path_factory.mktemp("clothes") / "run"
    train_clothes(run, 10)
    done = graft("export", run, "--quantize", "float16", "dynamic", "int8")
    assert done.returncode == 0, done.stdout
    pictures = np.stack(
        [decode_image(file, 160) for file in sorted((clothing / "test").rglob("*.jpg"))]
    )
    assert len(pictures) == 372
    return run / "export", pictures


def test_the_savedmodel_needs_tensorflow_alone(clothes, tmp_path):
    folder, pictures = clothes
    np.save(tmp_path / "in.npy", np.float32(pictures[:32]))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            BARE,
            folder / "savedmodel",
            tmp_path / "in.npy",
            tmp_path / "out.npy",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = open_artifact(folder / "savedmodel").predict(np.float32(pictures[:32]))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)
    labels = (folder / "labels.txt").read_text()
    assert (folder / "savedmodel" / "assets" / "labels.txt").read_text() == labels


@pytest.mark.parametrize(
    "name", ["model.tflite", "model.float16.tflite", "model.dynamic.tflite", "model.int8.tflite"]
)
def test_mediapipe_classifies_as_predict_does(clothes, mediapipe, tmp_path, name):
    folder, pictures = clothes
    session = open_artifact(folder / name)
    expected = session.predict(np.float32(pictures))
    found = in_mediapipe(mediapipe, "classify", folder / name, pictures, tmp_path)
    scores = np.array([[row[label] for label in session.labels] for row in found])
    best = [max(row, key=row.get) for row in found]
    assert best == [session.labels[i] for i in expected.argmax(-1)], "372 of 372"
    np.testing.assert_allclose(scores, expected, atol=1e-3)


CROPPED = """
import json, sys
import mediapipe as mp
from mediapipe.tasks import python as tasks
from mediapipe.tasks.python import vision
from mediapipe.tasks.python.components.containers.rect import RectF
from mediapipe.tasks.python.vision.core.image_processing_options import ImageProcessingOptions

def centre(image):
    side = min(image.width, image.height)
    left, top = (image.width - side) // 2 / image.width, (image.height - side) // 2 / image.height
    return RectF(left=left, top=top, right=left + side / image.width, bottom=top + side / image.height)

model, target, *files = sys.argv[1:]
options = vision.ImageClassifierOptions(base_options=tasks.BaseOptions(model_asset_path=model))
found = []
with vision.ImageClassifier.create_from_options(options) as task:
    for image in map(mp.Image.create_from_file, files):
        asked = ImageProcessingOptions(region_of_interest=centre(image))
        categories = task.classify(image, asked).classifications[0].categories
        found.append({c.category_name: c.score for c in categories})
with open(target, "w") as file:
    json.dump(found, file)
"""


def scores_of_centres(python, model: Path, files: list[Path], folder: Path) -> list[dict]:
    """What MediaPipe says of the centre squares of image files: its region of interest."""
    script = folder / "cropped.py"
    script.write_text(CROPPED)
    done = subprocess.run(
        [python, script, model, folder / "found.json", *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / "found.json").read_text())


def test_mediapipe_crops_as_predict_does(graft, train_clothes, clothing, mediapipe, tmp_path):
    """A model of centre squares: the region of interest of the samples for phones is what
    `graft predict` looks at. Scaling is another matter, which MediaPipe does without antialiasing.
    """
    options = ("--per-class", "40", "--fit", "crop", "--image-size", "96")
    train_clothes(tmp_path / "run", 5, *options)
    assert graft("export", tmp_path / "run", "--formats", "tflite").returncode == 0
    file = tmp_path / "run" / "export" / "model.tflite"
    model = graft_zoo.load(file)
    whole, small = [], []
    for i, photo in enumerate(sorted((clothing / "test").rglob("*.jpg"))):
        with Image.open(photo) as opened:
            image = opened.convert("RGB")
        assert min(image.size) == 160
        whole.append(tmp_path / f"whole-{i}.png")
        image.save(whole[-1])
        # The shorter side as the model wants it: nothing is left to be scaled.
        small.append(tmp_path / f"small-{i}.png")
        image.resize([round(side * 96 / 160) for side in image.size]).save(small[-1])
    agreement = {}
    for name, files in (("small", small), ("whole", whole)):
        found = scores_of_centres(mediapipe, file, files, tmp_path)
        expected = model.predict([str(path) for path in files])
        same = [max(f, key=f.get) == e["label"] for f, e in zip(found, expected, strict=True)]
        largest = max(
            abs(f[label] - e["scores"][label])
            for f, e in zip(found, expected, strict=True)
            for label in f
        )
        agreement[name] = (np.mean(same), largest)
        print(name, len(same), *agreement[name])
        assert len({e["label"] for e in expected}) > 3, "answers that differ"
    assert agreement["small"][0] == 1.0, "372 of 372"
    assert agreement["small"][1] < 1e-3
    assert agreement["whole"][0] >= 0.8, "0.88 with MediaPipe 1.2.3"


def test_mediapipe_embeds_as_we_do(mediapipe, tmp_path):
    import keras

    from graft.zoo.graph.stack import stack
    from graft.zoo.heads import heads
    from tests.conftest import tiny_backbone

    keras.utils.set_random_seed(0)
    pictures = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    head = heads.embedding(16)
    subject = Subject(
        Description("embedder", [], {}, (0, 255)), {head.name: head.kind}, Examples(pictures)
    )
    model = stack(tiny_backbone(32), [head])
    export_model(model, tmp_path / "out", subject, ExportSettings(formats=("tflite",)))
    found = in_mediapipe(mediapipe, "embed", tmp_path / "out" / "model.tflite", pictures, tmp_path)
    expected = open_artifact(tmp_path / "out" / "model.tflite").predict(np.float32(pictures))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_metadata_are_those_of_the_published_schema(clothes, mediapipe, tmp_path):
    """Read with the generated classes of MediaPipe, not with ours."""
    script = tmp_path / "read.py"
    script.write_text(
        "import sys, json\n"
        "from mediapipe.tasks.metadata import metadata_schema_py_generated as schema\n"
        "from mediapipe.tasks.metadata import schema_py_generated as model_schema\n"
        "content = open(sys.argv[1], 'rb').read()\n"
        "model = model_schema.Model.GetRootAsModel(content, 0)\n"
        "entry = next(model.Metadata(i) for i in range(model.MetadataLength())\n"
        "             if model.Metadata(i).Name() == b'TFLITE_METADATA')\n"
        "data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()\n"
        "assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)\n"
        "tree = "
        "schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAsModelMetadata(data, 0))\n"
        "def plain(x):\n"
        "    if hasattr(x, '__dict__'): return {k: plain(v) for k, v in vars(x).items() if v is "
        "not None}\n"
        "    if hasattr(x, 'tolist'): return x.tolist()\n"
        "    if isinstance(x, list): return [plain(v) for v in x]\n"
        "    return x.decode() if isinstance(x, bytes) else x\n"
        "print(json.dumps(plain(tree)))\n"
    )
    done = subprocess.run(
        [mediapipe, script, clothes[0] / "model.int8.tflite"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (graph,) = json.loads(done.stdout)["subgraphMetadata"]
    (given,), (answer,) = graph["inputTensorMetadata"], graph["outputTensorMetadata"]
    assert given["name"] == "image"
    assert given["content"]["contentProperties"]["colorSpace"] == 1
    assert given["processUnits"] == [{"optionsType": 1, "options": {"mean": [0.0], "std": [1.0]}}]
    assert (given["stats"]["min"], given["stats"]["max"]) == ([0.0], [255.0])
    assert answer["name"] == "probabilities"
    (labels,) = answer["associatedFiles"]
    assert (labels["name"], labels["type"]) == ("labels.txt", 2)


def test_mediapipe_takes_rectangles_and_refuses_other_channels(mediapipe, tmp_path):
    """What is not RGB is not opened, instead of being fed wrongly."""
    import keras
    from keras import layers

    from graft.zoo.fits import ImageShape

    for channels in (1, 3, 4):
        keras.utils.set_random_seed(0)
        image = keras.Input((24, 32, channels), name="image")
        x = layers.Conv2D(4, 3, strides=2)(layers.Rescaling(1 / 255)(image))
        x = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x))
        out = tmp_path / str(channels)
        graft_zoo.export(keras.Model(image, x), out, labels=["a", "b", "c"], formats=["tflite"])
        file = out / "model.tflite"
        pictures = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
        assert graft_zoo.load(file)._opened.codec.shape == ImageShape(24, 32, channels)
        if channels == 3:
            theirs = in_mediapipe(mediapipe, "classify", file, pictures, tmp_path)
            ours = [answer["scores"] for answer in graft_zoo.load(file).predict(list(pictures))]
            for one, other in zip(theirs, ours, strict=True):
                assert one == pytest.approx(other, abs=1e-6)
            continue
        with pytest.raises(AssertionError, match="Only RGB color space is supported"):
            in_mediapipe(mediapipe, "classify", file, pictures, tmp_path)
