"""Encoders: rows, folders of presets, what is refused, and the bundled one."""

import json
import shutil

import numpy as np
import pytest

from graft.zoo.backbones import encoder_table, encoders
from graft.zoo.errors import UnknownName, WeightsError


def test_rows_are_keras_hubs_presets():
    import keras_hub

    for row in encoder_table.ENCODERS:
        family = encoder_table.ENCODER_FAMILIES[row.family]
        assert hasattr(keras_hub.models, f"{family.classes}Backbone")
        assert hasattr(keras_hub.models, f"{family.classes}Tokenizer")
        if row.weights == ("preset",):
            presets = getattr(keras_hub.models, f"{family.classes}Backbone").presets
            assert presets[row.name]["metadata"]["params"] == row.parameters, row.name
    assert len({row.name for row in encoder_table.ENCODERS}) == len(encoder_table.ENCODERS)


def test_unknown_names_meet_their_neighbour():
    with pytest.raises(UnknownName, match="Did you mean 'bert_tiny_en_uncased'"):
        encoders.find_encoder("bert_tiny_uncased")


def test_a_preset_that_cannot_be_downloaded_says_what_to_do(monkeypatch):
    import keras_hub

    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(keras_hub.models.BertBackbone, "from_preset", offline)
    with pytest.raises(
        WeightsError,
        match=r"'bert_tiny_en_uncased' cannot be downloaded .*no route to host; without a network",
    ):
        encoders.build_encoder(encoders.find_encoder("bert_tiny_en_uncased"))


def test_a_folder_is_an_encoder(tiny_encoder):
    row = encoders.find_encoder(str(tiny_encoder))
    assert (row.family, row.feature_dim, row.max_length) == ("bert", 16, 32)
    model, tokenizer = encoders.build_encoder(row), encoders.load_tokenizer(row)
    assert set(model.input) == set(encoder_table.ENCODER_INPUTS)
    assert model.output.shape == (None, None, 16)
    assert encoders.describe_encoder(row, "")["sha256"]
    random = encoders.build_encoder(row, "none")
    assert not np.allclose(random.get_weights()[0], model.get_weights()[0])
    assert tokenizer.size == model.get_layer("token_embedding").input_dim


def test_a_vocabulary_of_other_weights_is_refused(tiny_encoder, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_encoder, folder)
    vocabulary = folder / "assets" / "tokenizer" / "vocabulary.txt"
    vocabulary.write_text(vocabulary.read_text() + "".join(f"more{i}\n" for i in range(9)))
    with pytest.raises(
        WeightsError, match=r"has \d+ pieces, its weights have \d+: they are from different models"
    ):
        encoders.load_tokenizer(encoders.find_encoder(str(folder)))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "roberta"},
            "is a Hugging Face model of type 'roberta', which KerasHub cannot read, or reads into "
            "other",
        ),
        (
            {"model_type": "electra"},
            "give one of type bert, distilbert, gpt2, or the KerasHub preset of electra",
        ),
        ({"model_type": "llama"}, "of type 'llama'"),
        ({"model_type": "bert"}, "holds no model.safetensors"),
        (
            {"class_name": "ViTBackbone", "config": {}},
            "holds a 'ViTBackbone': expected a preset of one of KerasHub's encoders",
        ),
        ({"something": 1}, "holds a 'nameless'"),
    ],
)
def test_what_cannot_be_read_right_is_refused(tmp_path, config, said):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=said):
        encoders.find_encoder(str(tmp_path))


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"is no encoder: it holds no readable config.json"):
        encoders.find_encoder(str(tmp_path))


def test_damaged_weights_are_named(tiny_encoder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_encoder, folder)
    (folder / "model.weights.h5").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        encoders.build_encoder(encoders.find_encoder(str(folder)))


def test_other_weights_than_the_rows_are_refused(tiny_encoder):
    with pytest.raises(
        WeightsError, match="has no weights 'imagenet': choose from folder and none"
    ):
        encoders.build_encoder(encoders.find_encoder(str(tiny_encoder)), "imagenet")


def test_the_bundled_encoder_gives_its_golden_vectors():
    """The mean vectors that the file gave when it was made."""
    row = encoders.find_encoder("graft_mini_en")
    model, tokenizer = encoders.build_encoder(row), encoders.load_tokenizer(row)
    golden = np.load(encoder_table.BUNDLED_FOLDER / row.name / "golden.npz")
    rows, _ = tokenizer.encode(golden["texts"].tolist(), row.max_length)
    for ids, wanted in zip(rows, golden["vectors"], strict=True):
        inputs = {
            "token_ids": ids[None],
            "padding_mask": np.ones_like(ids)[None],
            "segment_ids": np.zeros_like(ids)[None],
        }
        np.testing.assert_allclose(np.asarray(model(inputs)).mean(1)[0], wanted, atol=2e-5)
    assert (
        sum(f.stat().st_size for f in (encoder_table.BUNDLED_FOLDER / row.name).rglob("*")) < 3.5e6
    )
