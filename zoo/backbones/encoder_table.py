"""The catalogue of text encoders: one literal table.

The architectures and presets are KerasHub's. Importing this module imports neither Keras nor
KerasHub.

Where the columns come from: parameters are those that KerasHub states for its preset (a test
compares); the licence is that of the checkpoint as its authors published it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from graft.zoo.backbones.weights import BUNDLED_FOLDER

__all__ = ["Encoder", "EncoderFamily"]

ENCODER_INPUTS = ("token_ids", "padding_mask", "segment_ids")
"""Of an encoder, in this order; some families have no segments."""


@dataclass(frozen=True)
class EncoderFamily:
    """What the encoders of one family share.

    Attributes:
        classes: the beginning of the names of KerasHub's classes, `{classes}Backbone` and
            `{classes}Tokenizer`.
        hugging_face: the `model_type` in a Hugging Face folder's config.json.
        converted: whether KerasHub 0.32 reads such a folder right. It has no converter for ELECTRA
            and DeBERTa-v3, that of ALBERT fails, and RoBERTa's and XLM-R's give other numbers than
            the original (off by 1.9).
        paper: arXiv identifier.
    """

    classes: str
    hugging_face: str
    converted: bool
    paper: str


ENCODER_FAMILIES: Mapping[str, EncoderFamily] = {
    "bert": EncoderFamily("Bert", "bert", True, "1810.04805"),
    "distil_bert": EncoderFamily("DistilBert", "distilbert", True, "1910.01108"),
    "roberta": EncoderFamily("Roberta", "roberta", False, "1907.11692"),
    "xlm_roberta": EncoderFamily("XLMRoberta", "xlm-roberta", False, "1911.02116"),
    "albert": EncoderFamily("Albert", "albert", False, "1909.11942"),
    "electra": EncoderFamily("Electra", "electra", False, "2003.10555"),
    "deberta_v3": EncoderFamily("DebertaV3", "deberta-v2", False, "2111.09543"),
    "gpt2": EncoderFamily("GPT2", "gpt2", True, ""),
}


@dataclass(frozen=True)
class Encoder:
    """One row of the catalogue.

    Attributes:
        name: what `--backbone` takes; KerasHub's name of the preset, but for the bundled one and
            for folders.
        family: a key of `ENCODER_FAMILIES`.
        parameters: number of scalars.
        feature_dim: numbers for each token.
        max_length: the most tokens that it takes, special ones included.
        weights: the SPECs that can be had: "preset" (KerasHub downloads it), "bundled", "folder".
        licence: SPDX identifier, of the weights.
        preset: what KerasHub loads: the name of a preset, or a folder; or a run of Graft's.
    """

    name: str
    family: str
    parameters: int
    feature_dim: int
    max_length: int
    weights: tuple[str, ...]
    licence: str
    preset: str

    @property
    def paper(self) -> str:
        """Of the family."""
        return ENCODER_FAMILIES[self.family].paper

    @property
    def multilingual(self) -> bool:
        """Whether it was trained on some hundred languages and their scripts; KerasHub's names say
        so at their end.
        """
        return self.name.endswith("_multi")


def _row(
    name: str, family: str, parameters: int, feature_dim: int, licence: str, max_length: int = 512
) -> Encoder:
    return Encoder(name, family, parameters, feature_dim, max_length, ("preset",), licence, name)


ENCODERS: tuple[Encoder, ...] = (
    Encoder(
        "graft_mini_en",
        "bert",
        1_453_952,
        128,
        128,
        ("bundled",),
        "Apache-2.0",
        str(BUNDLED_FOLDER / "graft_mini_en"),
    ),
    _row("bert_tiny_en_uncased", "bert", 4_385_920, 128, "Apache-2.0"),
    _row("bert_small_en_uncased", "bert", 28_763_648, 512, "Apache-2.0"),
    _row("bert_medium_en_uncased", "bert", 41_373_184, 512, "Apache-2.0"),
    _row("bert_base_en_uncased", "bert", 109_482_240, 768, "Apache-2.0"),
    _row("bert_base_en", "bert", 108_310_272, 768, "Apache-2.0"),
    _row("bert_base_multi", "bert", 177_853_440, 768, "Apache-2.0"),
    _row("bert_large_en_uncased", "bert", 335_141_888, 1024, "Apache-2.0"),
    _row("all_minilm_l6_v2_en", "bert", 22_713_216, 384, "Apache-2.0"),
    _row("all_minilm_l12_v2_en", "bert", 33_360_000, 384, "Apache-2.0"),
    _row("bge_small_v1.5_en", "bert", 33_360_000, 384, "MIT"),
    _row("distil_bert_base_en_uncased", "distil_bert", 66_362_880, 768, "Apache-2.0"),
    _row("distil_bert_base_multi", "distil_bert", 134_734_080, 768, "Apache-2.0"),
    _row("roberta_base_en", "roberta", 124_052_736, 768, "MIT"),
    _row("roberta_large_en", "roberta", 354_307_072, 1024, "MIT"),
    _row("xlm_roberta_base_multi", "xlm_roberta", 277_450_752, 768, "MIT"),
    _row("albert_base_en_uncased", "albert", 11_683_584, 768, "Apache-2.0"),
    _row("albert_large_en_uncased", "albert", 17_683_968, 1024, "Apache-2.0"),
    _row("electra_small_discriminator_uncased_en", "electra", 13_548_800, 256, "Apache-2.0"),
    _row("electra_base_discriminator_uncased_en", "electra", 109_482_240, 768, "Apache-2.0"),
    _row("deberta_v3_extra_small_en", "deberta_v3", 70_682_112, 384, "MIT"),
    _row("deberta_v3_small_en", "deberta_v3", 141_304_320, 768, "MIT"),
    _row("deberta_v3_base_en", "deberta_v3", 183_831_552, 768, "MIT"),
    _row("gpt2_base_en", "gpt2", 124_439_808, 768, "MIT", 1024),
)
