"""All families of encoders as files (2 layers, random weights): a label and tags, every format,
measured as files.
"""

import keras
import numpy as np
import pytest

from graft.export.export import Examples, ExportSettings, Subject, export_model
from graft.export.manifest import Description
from graft.export.sessions import open_artifact
from graft.zoo.backbones import encoder_table
from graft.zoo.graph.nodes import flatten
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from graft.zoo.heads.single_label import SINGLE_LABEL
from graft.zoo.heads.tags import TAGS

pytestmark = pytest.mark.slow

LENGTH = 24
SIZES = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
    "max_sequence_length": LENGTH + 8,
}
OWN = {
    "deberta_v3": {"bucket_size": 16},
    "albert": {"embedding_dim": 16},
    "electra": {"embedding_dim": 32},
}


@pytest.fixture(scope="module", params=encoder_table.ENCODER_FAMILIES)
def encoder(request):
    """(family, model with a label and tags, 24 padded examples)."""
    import keras_hub

    keras.utils.set_random_seed(0)
    vocabulary = {"vocab_size" if request.param == "electra" else "vocabulary_size": 100}
    made = getattr(
        keras_hub.models, f"{encoder_table.ENCODER_FAMILIES[request.param].classes}Backbone"
    )
    backbone = made(**SIZES, **vocabulary, **OWN.get(request.param, {}))
    output = (
        backbone.output["sequence_output"] if isinstance(backbone.output, dict) else backbone.output
    )
    inputs = {t.name: t for t in backbone.inputs}
    flat = flatten(
        keras.Model(
            {name: inputs[name] for name in encoder_table.ENCODER_INPUTS if name in inputs}, output
        )
    )
    label, tags = heads.single_label(["a", "b", "c"], name="label"), heads.tags(["O", "B-x", "I-x"])
    model = stack(flat, heads.Heads((label, tags), (1.0, 1.0)))
    for variable in model.trainable_variables:  # answers that tell something
        if "dense/kernel" in variable.path:
            variable.assign(variable * 8)
    return request.param, model, _examples(model, 24, LENGTH)


def _examples(model, count: int, length: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, length + 1, count)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    ids = rng.integers(2, 100, (count, length)).astype(np.int32) * mask
    everything = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    return {t.name: everything[t.name] for t in model.inputs}


def test_every_format_passes(encoder, tmp_path):
    family, model, examples = encoder
    described = Description(family, ["a", "b", "c"], {"max_length": LENGTH})
    kinds = {"label": SINGLE_LABEL, "tags": TAGS}
    settings = ExportSettings(precisions=("float16", "dynamic"), max_drop=10.0)
    subject = Subject(described, kinds, Examples(examples))
    manifest = export_model(model, tmp_path / "out", subject, settings)
    for row in manifest["files"]:
        assert row["passed"], (family, row["path"], row.get("error"), row.get("parity"))
        if row["precision"] == "float32":
            assert row["parity"]["max_abs_diff"] < 1e-5
            assert row["flex"] == row["custom"] == []
    # Another length and batch than those of the examples.
    other = _examples(model, 5, 13)
    reference = model({name: np.asarray(value) for name, value in other.items()}, training=False)
    outputs = open_artifact(tmp_path / "out" / "model.onnx").predict(other)
    for name in ("label", "tags"):
        real = other["padding_mask"] > 0 if name == "tags" else slice(None)
        np.testing.assert_allclose(
            outputs[name][real], np.asarray(reference[name])[real], atol=1e-5
        )
