"""The catalogue of text encoders: one literal table, and `build`, which turns a row into a Keras
graph.

The architectures and presets are KerasHub's. Importing this module imports neither Keras nor
KerasHub.

An encoder's graph takes `token_ids` and `padding_mask` (and, for some families, `segment_ids`),
int32 `(batch, length)`, and gives a vector for each token, float32 `(batch, length, feature_dim)`.

Where the columns come from: parameters are those that KerasHub states for its preset (a test
    compares); the licence is that
of the checkpoint as its authors published it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graft.zoo import text
from graft.zoo.backbones.weights import opened
from graft.zoo.errors import ArtifactError, UnknownName, WeightsError
from graft.zoo.files import read_json, read_text

if TYPE_CHECKING:
    import keras

__all__ = [
    "ENCODERS",
    "FAMILIES",
    "INPUTS",
    "Encoder",
    "Family",
    "build",
    "describe",
    "find",
    "tokenizer",
]

BUNDLED = Path(__file__).parents[1] / "bundled"

LARGEST = 10_000_000
"""Of a width, a length or a vocabulary that a config can say."""

INPUTS = ("token_ids", "padding_mask", "segment_ids")
"""Of an encoder, in this order; some families have no segments."""


@dataclass(frozen=True)
class Family:
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


FAMILIES: Mapping[str, Family] = {
    "bert": Family("Bert", "bert", True, "1810.04805"),
    "distil_bert": Family("DistilBert", "distilbert", True, "1910.01108"),
    "roberta": Family("Roberta", "roberta", False, "1907.11692"),
    "xlm_roberta": Family("XLMRoberta", "xlm-roberta", False, "1911.02116"),
    "albert": Family("Albert", "albert", False, "1909.11942"),
    "electra": Family("Electra", "electra", False, "2003.10555"),
    "deberta_v3": Family("DebertaV3", "deberta-v2", False, "2111.09543"),
    "gpt2": Family("GPT2", "gpt2", True, ""),
}


@dataclass(frozen=True)
class Encoder:
    """One row of the catalogue.

    Attributes:
        name: what `--backbone` takes; KerasHub's name of the preset, but for the bundled one and
            for folders.
        family: a key of `FAMILIES`.
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
        return FAMILIES[self.family].paper

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
        str(BUNDLED / "graft_mini_en"),
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


def find(name: str) -> Encoder:
    """The row called `name`, or one for the folder `name`: a preset of KerasHub's, a Hugging Face
    model, or a run for texts.

    Raises:
        UnknownName: none of them.
        WeightsError: the folder is no such model, or one that cannot be read right.
        ArtifactError: the run is damaged.
    """
    known = {row.name: row for row in ENCODERS}
    if name in known:
        return known[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _of_run(folder) if _is_run(folder) else _of_folder(folder)
    see = "`graft zoo` lists them all; the folder of a preset or of a run works too."
    raise UnknownName("text encoder", name, known, see=see)


def build(row: Encoder, weights: str = "") -> "keras.Model":
    """The flat functional graph of `row`, inputs by name, with a vector for each token.

    `weights` is "none" for random ones, or "" (or any of `row.weights`) for the row's own.

    Raises:
        WeightsError: they cannot be had.
        ArtifactError: a run's model is damaged.
    """
    _check_weights(row, weights)
    if _is_run(Path(row.preset)):
        from graft.zoo.backbones.own import build_encoder

        return build_encoder(Path(row.preset, RUN_MODEL), row.name, fresh=weights == "none")
    from graft.zoo.quiet import load_tensorflow

    load_tensorflow()
    import keras

    from graft.zoo.graph.cuts import flatten

    classes = FAMILIES[row.family].classes
    backbone = _from_preset(f"{classes}Backbone", row, load_weights=weights != "none")
    output = (
        backbone.output["sequence_output"] if isinstance(backbone.output, dict) else backbone.output
    )
    inputs = {t.name: t for t in backbone.inputs}
    return flatten(
        keras.Model(
            {name: inputs[name] for name in INPUTS if name in inputs}, output, name=row.name
        )
    )


def tokenizer(row: Encoder) -> text.Tokenizer:
    """The tokenizer of `row`.

    Raises:
        WeightsError: it cannot be had, or its vocabulary does not belong to the weights.
    """
    folder = Path(row.preset)
    if _is_run(folder):
        return text.from_json(
            read_text(folder / "tokenizer.json"), where=f"{folder}/tokenizer.json"
        )
    if (folder / "config.json").is_file() and "model_type" in _config(folder):
        found = _hugging_face_tokenizer(folder)
    else:
        found = _of_keras_hub(_from_preset(f"{FAMILIES[row.family].classes}Tokenizer", row), row)
    rows = _embedding_rows(row)
    # Some embeddings have rows to spare, so that their number is a multiple of 8 or 128.
    if rows is not None and not 0 <= rows - found.size < 128:
        raise WeightsError(
            f"the vocabulary of '{row.preset}' has {found.size} pieces, its weights have {rows}: "
            "they are from different "
            "models; restore the files that belong together"
        )
    return found


def describe(row: Encoder, weights: str) -> dict[str, str | None]:
    """What a run records: `{"spec", "file", "sha256"}`, the last two None where the weights are no
    local file.
    """
    from graft.zoo.backbones.weights import sha256

    file = None if weights == "none" else _weights_file(Path(row.preset))
    return {
        "spec": weights or row.weights[0],
        "file": file and str(file),
        "sha256": file and sha256(file),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Folders and presets


RUN_MODEL = "model.keras"
"""In the folder of a run, with the tokenizer and a run.json that says what the encoder is."""


def _is_run(folder: Path) -> bool:
    return (folder / RUN_MODEL).is_file()


def _of_run(folder: Path) -> Encoder:
    facts = read_json(folder / "run.json", dict).get("backbone", {})
    if not isinstance(facts, dict) or str(facts.get("family")) not in FAMILIES:
        raise WeightsError(
            f"the run '{folder}' holds no text encoder but '{facts.get('name')}': give the run of "
            "a recipe for texts"
        )
    name, width, longest = folder.resolve().name, facts.get("feature_dim"), facts.get("max_length")
    _check_sizes(folder / "run.json", width, longest)
    return Encoder(
        name,
        facts["family"],
        0,
        width,
        longest,
        ("folder",),
        str(facts.get("licence")),
        str(folder),
    )


def _check_sizes(where: Path, *sizes: object) -> None:
    """Refuse what is no width or length."""
    if not all(isinstance(size, int) and 0 < size <= LARGEST for size in sizes):
        raise WeightsError(
            f"'{where}' is damaged: it says no width or length of an encoder, but {sizes}"
        )


def _of_folder(folder: Path) -> Encoder:
    config = _config(folder)
    if "model_type" in config:
        return _hugging_face(folder, config)
    classes = str(config.get("class_name", ""))
    family = next((name for name, f in FAMILIES.items() if classes == f"{f.classes}Backbone"), None)
    if family is None:
        raise WeightsError(
            f"'{folder}' holds a '{classes or 'nameless'}': expected a preset of one of KerasHub's "
            "encoders "
            f"({', '.join(f'{f.classes}Backbone' for f in FAMILIES.values())}), or a Hugging Face "
            "folder"
        )
    settings = config.get("config")
    if not isinstance(settings, dict):
        raise WeightsError(f"'{folder / 'config.json'}' is damaged: it holds no 'config'")
    width = settings.get("hidden_dim")
    _check_sizes(folder / "config.json", width, settings.get("max_sequence_length", 512))
    return Encoder(
        folder.name,
        family,
        0,
        width,
        settings.get("max_sequence_length", 512),
        ("folder",),
        "unknown",
        str(folder),
    )


def _hugging_face(folder: Path, config: Mapping) -> Encoder:
    kind = config["model_type"]
    family = next((name for name, f in FAMILIES.items() if f.hugging_face == kind), None)
    readable = ", ".join(f.hugging_face for f in FAMILIES.values() if f.converted)
    if family is None or not FAMILIES[family].converted:
        named = f", or the KerasHub preset of {family}" if family else ""
        raise WeightsError(
            f"'{folder}' is a Hugging Face model of type '{kind}', which KerasHub cannot read, or "
            "reads into other numbers: "
            f"give one of type {readable}{named}"
        )
    if not (folder / "model.safetensors").is_file():
        raise WeightsError(f"'{folder}' holds no model.safetensors: save the model in that format")
    width = config.get("hidden_size") or config.get("dim") or config.get("n_embd")
    longest = config.get("max_position_embeddings") or config.get("n_positions")
    _check_sizes(folder / "config.json", width, longest)
    return Encoder(
        folder.name or folder.resolve().name,
        family,
        0,
        width,
        longest,
        ("folder",),
        "unknown",
        str(folder),
    )


def _hugging_face_tokenizer(folder: Path) -> text.Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return text.from_json(
            read_text(folder / "tokenizer.json"), where=f"{folder}/tokenizer.json"
        )
    settings_file = folder / "tokenizer_config.json"
    settings = read_json(settings_file, dict) if settings_file.is_file() else {}
    if (folder / "vocab.txt").is_file():
        return text.word_piece(
            text.read_vocabulary(folder / "vocab.txt"),
            lowercase=settings.get("do_lower_case", True),
            strip_accents=settings.get("strip_accents"),
        )
    raise WeightsError(
        f"'{folder}' holds neither tokenizer.json nor vocab.txt: copy the tokenizer's files there "
        "too"
    )


def _of_keras_hub(made, row: Encoder) -> text.Tokenizer:
    """Ours from KerasHub's, so that both give the same ids."""
    if hasattr(made, "merges"):
        start = end = pad = None
        if row.family == "roberta":
            start, end, pad = "<s>", "</s>", "<pad>"
        merges = [line for line in made.merges if not line.startswith("#version")]
        return text.byte_level_bpe(dict(made.vocabulary), merges, start=start, end=end, pad=pad)
    if hasattr(made, "proto"):
        special = {
            "albert": {"start": "[CLS]", "end": "[SEP]", "pad": "<pad>"},
            "deberta_v3": {"start": "[CLS]", "end": "[SEP]", "pad": "[PAD]", "tail": ("[MASK]",)},
            "xlm_roberta": {
                "start": "<s>",
                "end": "</s>",
                "pad": "<pad>",
                "head": ("<s>", "<pad>", "</s>", "<unk>"),
                "tail": ("<mask>",),
            },
        }[row.family]
        return text.sentencepiece_unigram(made.proto, **special)
    return text.word_piece(
        made.get_vocabulary(), lowercase=made.lowercase, strip_accents=made.strip_accents
    )


def _from_preset(name: str, row: Encoder, **options):
    from graft.zoo.quiet import load_tensorflow

    load_tensorflow()
    import keras_hub

    try:
        _check_weights_files(Path(row.preset))
        return getattr(keras_hub.models, name).from_preset(row.preset, **options)
    except WeightsError:
        raise
    except Exception as error:  # downloads, archives and converters raise what they will
        if Path(row.preset).is_dir():
            raise WeightsError(
                f"'{row.preset}' cannot be loaded as {name} ({type(error).__name__}): {error}"
            ) from error
        raise WeightsError(
            f"the preset '{row.preset}' cannot be downloaded ({type(error).__name__}): {error}; "
            "without a network, give the "
            "folder of a preset that was downloaded elsewhere as --backbone, or the bundled encoder"
        ) from error


def _check_weights_files(folder: Path) -> None:
    """Refuse a preset whose weights cannot be read, or reach outside of their files."""
    for file in sorted(folder.glob("*.h5")) if folder.is_dir() else ():
        with opened(file):
            pass


def _check_weights(row: Encoder, weights: str) -> None:
    if weights not in ("", "none", *row.weights):
        raise WeightsError(
            f"encoder '{row.name}' has no weights '{weights}': choose from "
            f"{', '.join(row.weights)} and none; another "
            "checkpoint goes in as a folder, by --backbone FOLDER"
        )


def _config(folder: Path) -> dict:
    try:
        return read_json(folder / "config.json", dict)
    except ArtifactError as error:
        raise WeightsError(
            f"'{folder}' is no encoder: it holds no readable config.json ({error}); give the "
            "folder of a KerasHub preset or "
            "of a Hugging Face model"
        ) from error


def _embedding_rows(row: Encoder) -> int | None:
    """How many ids the weights know, where a local config tells."""
    file = Path(row.preset) / "config.json"
    if not file.is_file():
        return None
    config = _config(file.parent)
    settings = config.get("config", config)
    rows = settings.get("vocabulary_size") or settings.get("vocab_size")
    if rows is not None:
        _check_sizes(file, rows)
    return rows


def _weights_file(folder: Path) -> Path | None:
    return next(
        (
            f
            for n in ("model.weights.h5", "model.safetensors", RUN_MODEL)
            if (f := folder / n).is_file()
        ),
        None,
    )
