"""Weights: where they come from and what is refused. The downloads come from a server of our own on
this machine.
"""

import contextlib
import hashlib
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest

from graft.zoo.backbones import weights
from graft.zoo.backbones.build import build_backbone
from graft.zoo.backbones.table import find_backbone
from graft.zoo.backbones.weight_files import load_weights
from graft.zoo.backbones.weights import describe_weights, file_sha256, resolve_weights
from graft.zoo.errors import GraftError, WeightsError

ROW = find_backbone("mobilenet_0.25")


def scrambled(model, seed):
    """`model` with random numbers in every variable, BatchNorm statistics included."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(0.1, 1.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def backbone():
    return scrambled(build_backbone(ROW, image_size=32, weights="none"), 0)


@pytest.fixture(scope="module")
def other_backbone():
    return build_backbone(ROW, image_size=32, weights="none")


@pytest.fixture
def blank(other_backbone):
    """A backbone of ROW that holds other numbers than `backbone`."""
    return scrambled(other_backbone, 1)


@pytest.fixture(scope="module")
def weights_file(backbone, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mobilenet.weights.h5"
    backbone.save_weights(path)
    return path


def same(model, other) -> bool:
    pairs = zip(model.weights, other.weights, strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def altered(source, target, change):
    """A copy of a weights file in which `change(h5py.File)` was done."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        change(file)
    return target


def as_float16(file):
    places = []
    file.visititems(
        lambda place, item: places.append(place) if isinstance(item, h5py.Dataset) else None
    )
    for place in places:
        values = file[place][...].astype("float16")
        del file[place]
        file[place] = values


def in_a_model(backbone):
    """The backbone nested in a model of the user's own."""
    import keras

    pixels = keras.Input((32, 32, 3))
    return keras.Model(pixels, keras.layers.Dense(3)(keras.layers.Flatten()(backbone(pixels))))


def with_a_classifier(backbone):
    import keras

    return keras.Model(
        backbone.input, keras.layers.Dense(3)(keras.layers.Flatten()(backbone.output))
    )


# ---------------------------------------------------------------------------------------------------------------------
# Files that fit


def test_build_with_a_path(backbone, weights_file):
    assert same(build_backbone(ROW, image_size=48, weights=str(weights_file)), backbone)


@pytest.mark.parametrize("around", [with_a_classifier, in_a_model])
@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5", "m.h5"])
def test_a_model_around_the_backbone(backbone, blank, tmp_path, around, name):
    model = around(backbone)
    path = tmp_path / name
    model.save_weights(path) if name == "m.weights.h5" else model.save(path)
    if name == "m.h5" and around is in_a_model:
        # The old layout keeps an inner model as one heap of arrays, in an order that depends on
        # what was frozen.
        assert "does not fit backbone 'mobilenet_0.25'" in refusal(blank, path)
    else:
        load_weights(blank, ROW, path)
        assert same(blank, backbone)


@pytest.mark.parametrize("name", ["top.weights.h5", "top.h5"])
def test_a_file_of_keras_applications_with_its_top(blank, tmp_path, name):
    import keras

    model = keras.applications.MobileNet(
        alpha=0.25, weights=None, input_shape=(32, 32, 3), classes=7
    )
    path = tmp_path / name
    model.save_weights(path) if name == "top.weights.h5" else model.save(path)
    load_weights(blank, ROW, path)
    assert len(blank.weights) == len(model.weights) - 2
    for variable, other in zip(blank.weights, model.weights, strict=False):
        np.testing.assert_array_equal(variable, other)


def test_float16_numbers_are_cast(backbone, blank, weights_file, tmp_path):
    load_weights(blank, ROW, altered(weights_file, tmp_path / "half.weights.h5", as_float16))
    for variable, other in zip(blank.weights, backbone.weights, strict=True):
        assert variable.dtype == "float32"
        np.testing.assert_array_equal(
            variable, np.asarray(other).astype("float16").astype("float32")
        )


# ---------------------------------------------------------------------------------------------------------------------
# Files that do not


def complaint(row, spec) -> str:
    with pytest.raises(WeightsError) as caught:
        build_backbone(row, image_size=32, weights=str(spec))
    assert isinstance(caught.value, GraftError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refusal(model, path) -> str:
    """What `load` says; `model` keeps its numbers."""
    before = [np.array(variable) for variable in model.weights]
    with pytest.raises(WeightsError) as caught:
        load_weights(model, ROW, path)
    assert all(
        np.array_equal(value, variable)
        for value, variable in zip(before, model.weights, strict=True)
    )
    return str(caught.value)


def test_another_architecture_names_the_first_layer_and_both_shapes(weights_file):
    text = complaint(find_backbone("mobilenet_v2_0.35"), weights_file)
    assert "does not fit backbone 'mobilenet_v2_0.35'" in text
    assert (
        "layer 'Conv1' has shape (3, 3, 3, 16), in the file (called 'conv1' there) shape (3, 3, 3, "
        "8)" in text
    )


def test_another_width_names_the_first_layer_and_both_shapes(weights_file):
    text = complaint(find_backbone("mobilenet_0.5"), weights_file)
    assert "layer 'conv1' has shape (3, 3, 3, 16), in the file shape (3, 3, 3, 8)" in text


def delete(place):
    def change(file):
        del file[place]

    return change


def put(place, values):
    def change(file):
        if place in file:
            del file[place]
        file[place] = values

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            delete("layers/conv2d_13"),
            "the file has no layer 'conv_pw_13', which has shape (1, 1, 256, 256)",
        ),
        (
            delete("layers/batch_normalization_2/vars/3"),
            "layer 'conv_pw_1_bn' has shapes (16,), (16,), (16,), (16,), in",
        ),
        (put("layers/conv2d_1/vars/1", np.zeros(16)), "in the file shapes (1, 1, 8, 16), (16,)"),
        (
            put("layers/conv2d/vars/0", np.zeros((3, 3, 3, 8), "int8")),
            "layer 'conv1' has float32 numbers, in the file int8",
        ),
        (
            put("layers/conv2d/vars/0", np.full((3, 3, 3, 8), np.nan)),
            "holds numbers that are not finite",
        ),
        (delete("layers"), "holds no Keras weights"),
    ],
)
def test_a_file_that_lacks_something(blank, weights_file, tmp_path, change, expected):
    assert expected in refusal(blank, altered(weights_file, tmp_path / "bad.weights.h5", change))


def test_a_legacy_file_that_ends_early(backbone, blank, tmp_path):
    import keras

    cut = keras.Model(backbone.input, backbone.get_layer("conv_pw_12_relu").output)
    cut.save(tmp_path / "cut.h5")
    assert "the file has no layer 'conv_dw_13', which has shape (3, 3, 256, 1)" in refusal(
        blank, tmp_path / "cut.h5"
    )


def test_files_that_cannot_be_read(blank, weights_file, tmp_path):
    whole = weights_file.read_bytes()
    (tmp_path / "text.h5").write_text("not weights")
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "cut.weights.h5").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    for name in ("text.h5", "empty.h5", "cut.weights.h5", "other.keras"):
        assert f"{name}' cannot be read as weights" in refusal(blank, tmp_path / name)


def test_a_missing_file_and_a_folder(tmp_path):
    missing = tmp_path / "nothing.h5"
    assert (
        f"there is no weights file '{missing}': expected imagenet, none, or the path"
        in complaint(ROW, missing)
    )
    assert "are a folder" in complaint(ROW, tmp_path)
    assert "there is no weights file 'imagnet'" in complaint(ROW, "imagnet")


# ---------------------------------------------------------------------------------------------------------------------
# none, bundled, provenance


def test_none():
    assert resolve_weights(ROW, "none") is None
    assert describe_weights(ROW, "none") == {"spec": "none", "file": None, "sha256": None}


def test_describe_names_file_and_hash(weights_file):
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    assert file_sha256(weights_file) == digest
    assert describe_weights(ROW, str(weights_file)) == {
        "spec": str(weights_file),
        "file": str(weights_file),
        "sha256": digest,
    }


def test_bundled(backbone, weights_file, tmp_path, monkeypatch):
    row = replace(ROW, weights=("bundled", "imagenet", "none"))
    monkeypatch.setattr(weights, "BUNDLED_FOLDER", tmp_path)
    assert "this installation is incomplete" in complaint(row, "bundled")
    shutil.copy(weights_file, tmp_path / "mobilenet_0.25.weights.h5")
    assert same(build_backbone(row, image_size=32, weights="bundled"), backbone)


def test_a_row_without_bundled_weights_names_those_that_have_them():
    text = complaint(find_backbone("vgg16"), "bundled")
    assert "'vgg16' has no weights 'bundled' (these have: mobilenet_v2_0.35)" in text


# ---------------------------------------------------------------------------------------------------------------------
# imagenet


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of Keras's; gives the folder in which weights lie."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "models"


@contextlib.contextmanager
def serving(body: bytes, announced: int | None = None, silent: float = 0.0):
    """A server that answers with `body`; it may announce another length, or say nothing for a while
    first.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(silent)
            with contextlib.suppress(OSError):
                self.send_response(200)
                self.send_header(
                    "Content-Length", str(len(body) if announced is None else announced)
                )
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()


def at(url, digest=None):
    download = replace(ROW.download, url=url + "weights_{size}.h5", hash=digest)
    return replace(ROW, download=download)


def test_a_download_is_cached_and_prints_nothing_to_stdout(backbone, weights_file, cache, capsys):
    body = weights_file.read_bytes()
    with serving(body) as (url, asked):
        row = at(url, hashlib.md5(body).hexdigest())
        first = resolve_weights(row, "imagenet")
        assert asked == ["/weights_224.h5"]
        assert first == resolve_weights(row, "imagenet") == cache / "mobilenet_2_5_224_tf_no_top.h5"
        assert len(asked) == 1
    assert [path.name for path in cache.iterdir()] == ["mobilenet_2_5_224_tf_no_top.h5"]
    assert capsys.readouterr().out == ""
    assert same(
        build_backbone(row, image_size=32), backbone
    )  # the server is gone: the cache answers


def test_the_image_size_chooses_the_file(cache):
    cache.mkdir()
    for size in (160, 224):
        (cache / f"mobilenet_2_5_{size}_tf_no_top.h5").touch()
        (cache / f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.4_{size}_no_top.h5").touch()
    chosen = [resolve_weights(ROW, "imagenet", image_size=size).name for size in (160, 150, None)]
    assert [name.split("_")[3] for name in chosen] == ["160", "224", "224"]
    assert (
        "1.4_224"
        in resolve_weights(find_backbone("mobilenet_v2_1.4"), "imagenet", image_size=160).name
    )


def test_no_network_and_nothing_cached(cache):
    row = at("http://127.0.0.1:9/")  # nothing listens on the port "discard"
    start = time.monotonic()
    text = complaint(row, "imagenet")
    assert time.monotonic() - start < 5
    assert "the ImageNet weights of 'mobilenet_0.25' cannot be had" in text
    assert f"cache '{cache / 'mobilenet_2_5_224_tf_no_top.h5'}' does not hold it" in text
    assert "downloading http://127.0.0.1:9/weights_224.h5 failed" in text
    assert (
        "or give other weights, none or the path of a file: --weights WEIGHTS of `graft train`, "
        in text
    )
    assert "--backbones mobilenet_0.25@WEIGHTS of `graft suggest` and `graft bench`" in text
    assert list(cache.iterdir()) == []


def test_a_server_that_says_nothing(cache, monkeypatch):
    monkeypatch.setattr(weights, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    start = time.monotonic()
    with serving(b"late", silent=2.0) as (url, _):
        assert "timed out" in complaint(at(url), "imagenet")
        assert time.monotonic() - start < 1.5
    assert list(cache.iterdir()) == []


def test_a_download_that_breaks_off_or_is_another_file(weights_file, cache):
    body = weights_file.read_bytes()
    with serving(body[:1000], announced=len(body)) as (url, _):
        assert "cannot be had" in complaint(at(url), "imagenet")
        assert list(cache.iterdir()) == []
    with serving(body) as (url, _):
        assert "cannot be had" in complaint(at(url, "0" * 32), "imagenet")
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_named_and_kept(cache):
    cache.mkdir()
    place = cache / "mobilenet_2_5_224_tf_no_top.h5"
    place.write_bytes(b"half")
    text = complaint(at("http://127.0.0.1:9/", "0" * 32), "imagenet")
    assert f"cache '{place}' holds a damaged file" in text
    assert place.read_bytes() == b"half"
