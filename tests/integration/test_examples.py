"""The examples say what exported models are: names, types, files that exist."""

import re
from pathlib import Path

from graft.export import contents

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
