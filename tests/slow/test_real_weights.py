"""Real pretrained weights on real photos: training, files and their accuracy."""

import json

import numpy as np
import pytest

from graft.recipes.commands import evaluate, export
from graft.recipes.image_classification import Config, main

pytestmark = pytest.mark.slow

WEIGHTS = {
    "mobilenet_v2": "mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.weights.h5",
    "mobilenet_v2_0.35": "mobilenet_v2_0.35_224_notop/mobilenet_v2_0.35_224_notop.weights.h5",
    "mobilenet_0.25": "mobilenet_v1_0.25_224/mobilenet_0.25_224.weights.h5",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_pretrained_features_beat_random_ones(graft_data, clothing, name):
    """Logistic regression on frozen features of 600 photos."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from graft.recipes.codecs.images import ImageCodec
    from graft.recipes.data import sources
    from graft.zoo.backbones.build import build_backbone
    from graft.zoo.backbones.table import find_backbone

    source = sources.load(str(clothing))
    rng = np.random.default_rng(0)
    chosen = {
        s: [source.splits[s][i] for i in rng.permutation(len(source.splits[s]))[:600]]
        for s in ("train", "test")
    }
    pixels = {s: ImageCodec(96).encode(chosen[s], ()).pixels for s in chosen}
    labels = {s: [example.label for example in chosen[s]] for s in chosen}

    def accuracy(weights):
        backbone = build_backbone(find_backbone(name), image_size=96, weights=weights)
        features = {
            s: np.concatenate(
                [
                    backbone(np.float32(p[i : i + 50])).numpy().mean((1, 2))
                    for i in range(0, len(p), 50)
                ]
            )
            for s, p in pixels.items()
        }
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1))
        probe.fit(features["train"], labels["train"])
        return probe.score(features["test"], labels["test"])

    assert accuracy(str(graft_data / WEIGHTS[name])) > accuracy("none") + 0.15


@pytest.fixture(scope="module")
def clothing_run(graft_data, clothing, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "clothing"
    weights = str(graft_data / WEIGHTS["mobilenet_v2"])
    main(
        Config(
            data=str(clothing),
            out=out,
            backbone="mobilenet_v2",
            weights=weights,
            image_size=96,
            schedule="feature_extraction",
            epochs=3,
        )
    )
    return out


def test_a_frozen_backbone_learns_clothes(clothing_run):
    run = json.loads((clothing_run / "run.json").read_text())
    assert run["data"]["made_splits"] == []
    assert run["metrics"]["test"]["examples"] == 372
    assert run["metrics"]["test"]["accuracy"] > 0.6


def test_every_file_is_as_accurate_as_keras(clothing_run, clothing):
    """On all 372 test photos, within 0.3 points (one photo)."""
    manifest = export.export(export.Options(run=clothing_run))
    assert all(row["passed"] for row in manifest["files"])
    expected = json.loads((clothing_run / "run.json").read_text())["metrics"]["test"]["accuracy"]
    for row in manifest["files"]:
        artifact = clothing_run / "export" / row["path"]
        result = evaluate.evaluate(evaluate.Options(artifact=artifact, data=str(clothing)))
        assert result["examples"] == 372
        assert result["accuracy"] == pytest.approx(expected, abs=0.003), row["format"]


def test_imagenet_classes_of_four_photos(graft_data):
    """The whole network with its top: preprocessing, decoding and weights agree with what is known
    of these photos.
    """
    import keras

    from graft.zoo.backbones.build import preprocess_image
    from graft.zoo.vision import decode_image

    folder = graft_data / "imagenet_class_index"
    index = json.loads((folder / "imagenet_class_index.json").read_text())
    image = keras.Input((224, 224, 3), name="image")
    network = keras.applications.MobileNetV2(weights=str(graft_data / WEIGHTS["mobilenet_v2"]))
    model = keras.Model(image, network(preprocess_image(image, "tf")))
    for photo, label in {
        "cat": "Egyptian_cat",
        "bird": "chickadee",
        "sunflower": "daisy",
        "dragonfly": "dragonfly",
    }.items():
        pixels = np.float32(decode_image(folder / f"{photo}.jpg", 224))[None]
        best = int(np.argmax(model(pixels, training=False)))
        assert label.lower() in "_".join(map(str, index[str(best)])).lower(), (
            photo,
            index[str(best)],
        )
