"""KerasHub's encoders in ONNX (2 layers, random weights): exact GELU and relative positions convert, any length runs."""

import keras
import numpy as np
import onnxruntime
import pytest

from export import to_onnx

pytestmark = pytest.mark.slow

SIZES = {"vocabulary_size": 100, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 32}
ENCODERS = {
    "BertBackbone": {},
    "RobertaBackbone": {},
    "DistilBertBackbone": {},
    "DebertaV3Backbone": {"bucket_size": 16},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name):
    import keras_hub

    keras.utils.set_random_seed(0)
    backbone = getattr(keras_hub.models, name)(**SIZES, **ENCODERS[name])
    output = backbone.output["sequence_output"] if isinstance(backbone.output, dict) else backbone.output
    model = keras.Model(list(backbone.input.values()), output)
    session = onnxruntime.InferenceSession(to_onnx.convert(model))
    for length in (12, 7):
        tokens = np.random.default_rng(0).integers(1, 100, (3, length)).astype("int32")
        mask = np.ones_like(tokens)
        mask[0, 5:] = 0
        given = {key: mask if "mask" in key else tokens * ("token" in key) for key in backbone.input}
        values = [given[key].astype("int32") for key in backbone.input]
        reference = np.asarray(model(values, training=False))
        outputs = session.run(None, {t.name: value for t, value in zip(model.inputs, values, strict=True)})[0]
        assert np.abs(outputs - reference).max() < 1e-5
