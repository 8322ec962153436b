"""The examples say what exported models are: names, types, files that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from graft.export import contents
from graft.zoo.fits import FITS, ImageShape
from graft.zoo.vision import decode_image

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_triton_and_tensorflow_serving_name_what_is_there(artifacts):
    text = (EXAMPLES / "serving" / "triton" / "photos" / "config.pbtxt").read_text()
    described = contents.describe_file(artifacts["onnx"])
    for side in ("inputs", "outputs"):
        ((name, kind, dims),) = re.findall(
            rf'{side[:-1]} \[ {{ name: "(\w+)" data_type: (\w+) dims: \[ ([\d, ]+) \]', text
        )
        (tensor,) = described[side]
        assert name == tensor["name"]
        assert (kind, tensor["dtype"]) == ("TYPE_FP32", "float32")
        assert len(dims.split(",")) == len(tensor["shape"]) - 1, "Triton adds the batch itself"
        assert tensor["shape"][0] is None, "or Triton could not batch"
    saved = contents.describe_file(artifacts["savedmodel"])
    assert [tensor["name"] for tensor in saved["inputs"]] == ["image"]
    assert (artifacts["savedmodel"] / "saved_model.pb").is_file()
    assert 'name: "photos"' in text
    assert 'name: "photos"' in (EXAMPLES / "serving" / "models.config").read_text()


NODE = """
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
// A canvas that copies pixels as they are, and nothing else: what a browser does without scaling.
globalThis.OffscreenCanvas = class {
  constructor(width, height) { Object.assign(this, { width, height, data: new Uint8Array(width * height * 4) }); }
  getContext() { return this; }
  fillRect() {}
  drawImage(image, left, top) {
    for (let y = 0; y < this.height; y++)
      for (let x = 0; x < this.width; x++)
        for (let c = 0; c < 4; c++)
          this.data[(y * this.width + x) * 4 + c] = image.data[((y - top) * image.width + x - left) * 4 + c];
  }
  getImageData() { return this; }
};
const [module, asked, target] = process.argv.slice(2);
const { decode } = await import(pathToFileURL(module));
const found = [];
for (const { image, shape, fit } of JSON.parse(readFileSync(asked))) found.push([...(await decode(image, shape, fit))]);
writeFileSync(target, JSON.stringify(found));
"""


def test_the_page_in_the_browser_decodes_to_the_pixel_as_we_do(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine")
    rng, asked, expected = np.random.default_rng(0), [], []
    for width, height in ((24, 24), (37, 22), (22, 37), (61, 9), (9, 61), (5, 8), (1, 40)):
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        opaque = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        image = {"width": width, "height": height, "data": opaque.ravel().tolist()}
        for fit in FITS:
            for sides in ((16, 16, 3), (23, 23, 3), (16, 23, 3), (30, 11, 3), (9, 20, 1)):
                shape = ImageShape(*sides)
                asked.append({"image": image, "shape": shape._asdict(), "fit": fit})
                expected.append(decode_image(pixels, shape, fit))
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    (tmp_path / "decode.mjs").write_text(NODE)
    shutil.copy(EXAMPLES / "web" / "picture.js", tmp_path / "picture.mjs")
    names = ("decode.mjs", "picture.mjs", "asked.json", "found.json")
    done = subprocess.run([node, *(tmp_path / name for name in names)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    for one, pixels, case in zip(found, expected, asked, strict=True):
        np.testing.assert_array_equal(
            np.reshape(one, pixels.shape), pixels, err_msg=f"{case['fit']} {case['shape']}"
        )


def test_braces_of_the_configurations_match():
    for file in EXAMPLES.glob("serving/**/*config*"):
        text = re.sub(r"#.*", "", file.read_text())
        assert text.count("{") == text.count("}")
        assert text.count("[") == text.count("]")


def test_every_file_that_an_example_names_exists():
    for readme in EXAMPLES.glob("*/README.md"):
        for name in re.findall(
            r"`([\w/]+\.(?:kt|swift|js|html|config|pbtxt))`", readme.read_text()
        ):
            assert list(readme.parent.rglob(name)), f"{readme}: {name}"
