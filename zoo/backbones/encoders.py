"""The text encoder behind a name: its row, its Keras graph and its tokenizer.

An encoder's graph takes `token_ids` and `padding_mask` (and, for some families, `segment_ids`),
int32 `(batch, length)`, and gives a vector for each token, float32 `(batch, length, feature_dim)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.zoo import text, vocabularies
from graft.zoo.backbones.encoder_folders import (
    RUN_MODEL,
    check_sizes,
    encoder_of_folder,
    encoder_of_run,
    is_run,
    read_config,
)
from graft.zoo.backbones.encoder_table import ENCODER_FAMILIES, ENCODER_INPUTS, ENCODERS, Encoder
from graft.zoo.backbones.weight_files import opened_weights
from graft.zoo.backbones.weights import file_sha256
from graft.zoo.errors import UnknownName, WeightsError
from graft.zoo.files.reading import read_json, read_text
from graft.zoo.graph.nodes import flatten
from graft.zoo.quiet import load_tensorflow

if TYPE_CHECKING:
    import keras
    import keras_hub

__all__ = ["build_encoder", "describe_encoder", "find_encoder", "load_tokenizer"]

UNIGRAM_TOKENS: Mapping[str, dict[str, Any]] = {
    "albert": {"start": "[CLS]", "end": "[SEP]", "pad": "<pad>"},
    "deberta_v3": {"start": "[CLS]", "end": "[SEP]", "pad": "[PAD]", "tail": ("[MASK]",)},
    "xlm_roberta": {
        "start": "<s>",
        "end": "</s>",
        "pad": "<pad>",
        "head": ("<s>", "<pad>", "</s>", "<unk>"),
        "tail": ("<mask>",),
    },
}
"""Of the families with a SentencePiece model, what `unigram_tokenizer` is called with."""


def find_encoder(name: str) -> Encoder:
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
        return encoder_of_run(folder) if is_run(folder) else encoder_of_folder(folder)
    see = "`graft zoo` lists them all; the folder of a preset or of a run works too."
    raise UnknownName("text encoder", name, known, see=see)


def build_encoder(row: Encoder, weights: str = "") -> "keras.Model":
    """The graph of an encoder.

    Args:
        row: the encoder.
        weights: "none" for random ones; "" or any of `row.weights` for its own.

    Returns:
        A flat functional model, inputs by name, with a vector for each token.

    Raises:
        WeightsError: they cannot be had.
        ArtifactError: a run's model is damaged.
    """
    _check_weights(row, weights)
    if is_run(Path(row.preset)):
        from graft.zoo.backbones.own import build_own_encoder

        return build_own_encoder(Path(row.preset, RUN_MODEL), row.name, fresh=weights == "none")
    load_tensorflow()
    import keras

    classes = ENCODER_FAMILIES[row.family].classes
    backbone = _from_preset(f"{classes}Backbone", row, load_weights=weights != "none")
    output = (
        backbone.output["sequence_output"] if isinstance(backbone.output, dict) else backbone.output
    )
    inputs = {t.name: t for t in backbone.inputs}
    return flatten(
        keras.Model(
            {name: inputs[name] for name in ENCODER_INPUTS if name in inputs}, output, name=row.name
        )
    )


def load_tokenizer(row: Encoder) -> text.Tokenizer:
    """The tokenizer of `row`.

    Raises:
        WeightsError: it cannot be had, or its vocabulary does not belong to the weights.
    """
    folder = Path(row.preset)
    if is_run(folder):
        return text.tokenizer_from_json(
            read_text(folder / "tokenizer.json"), where=f"{folder}/tokenizer.json"
        )
    if (folder / "config.json").is_file() and "model_type" in read_config(folder):
        found = _hugging_face_tokenizer(folder)
    else:
        found = _of_keras_hub(
            _from_preset(f"{ENCODER_FAMILIES[row.family].classes}Tokenizer", row), row
        )
    rows = _embedding_rows(row)
    # Some embeddings have rows to spare, so that their number is a multiple of 8 or 128.
    if rows is not None and not 0 <= rows - found.size < 128:
        raise WeightsError(
            f"the vocabulary of '{row.preset}' has {found.size} pieces, its weights have {rows}: "
            "they are from different models; restore the files that belong together"
        )
    return found


def describe_encoder(row: Encoder, weights: str) -> dict[str, str | None]:
    """What a run records: `{"spec", "file", "sha256"}`, the last two None where the weights are no
    local file.
    """
    file = None if weights == "none" else _weights_file(Path(row.preset))
    spec = weights or row.weights[0]
    if file is None:
        return {"spec": spec, "file": None, "sha256": None}
    return {"spec": spec, "file": str(file), "sha256": file_sha256(file)}


def _hugging_face_tokenizer(folder: Path) -> text.Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return text.tokenizer_from_json(
            read_text(folder / "tokenizer.json"), where=f"{folder}/tokenizer.json"
        )
    settings_file = folder / "tokenizer_config.json"
    settings = read_json(settings_file, dict) if settings_file.is_file() else {}
    if (folder / "vocab.txt").is_file():
        return vocabularies.word_piece_tokenizer(
            vocabularies.read_vocabulary(folder / "vocab.txt"),
            lowercase=settings.get("do_lower_case", True),
            strip_accents=settings.get("strip_accents"),
        )
    raise WeightsError(
        f"'{folder}' holds neither tokenizer.json nor vocab.txt: copy the tokenizer's files there "
        "too"
    )


def _of_keras_hub(made: "keras_hub.tokenizers.Tokenizer", row: Encoder) -> text.Tokenizer:
    """Ours from KerasHub's, so that both give the same ids."""
    if hasattr(made, "merges"):
        start = end = pad = None
        if row.family == "roberta":
            start, end, pad = "<s>", "</s>", "<pad>"
        merges = [line for line in made.merges if not line.startswith("#version")]
        return vocabularies.byte_level_tokenizer(
            dict(made.vocabulary), merges, start=start, end=end, pad=pad
        )
    if hasattr(made, "proto"):
        return vocabularies.unigram_tokenizer(made.proto, **UNIGRAM_TOKENS[row.family])
    return vocabularies.word_piece_tokenizer(
        made.get_vocabulary(), lowercase=made.lowercase, strip_accents=made.strip_accents
    )


def _from_preset(name: str, row: Encoder, **options: Any) -> Any:
    """What KerasHub's class `name` makes of the preset or the folder of `row`."""
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
        with opened_weights(file):
            pass


def _check_weights(row: Encoder, weights: str) -> None:
    if weights not in ("", "none", *row.weights):
        raise WeightsError(
            f"encoder '{row.name}' has no weights '{weights}': choose from "
            f"{', '.join(row.weights)} and none; another "
            "checkpoint goes in as a folder, by --backbone FOLDER"
        )


def _embedding_rows(row: Encoder) -> int | None:
    """How many ids the weights know, where a local config tells."""
    file = Path(row.preset) / "config.json"
    if not file.is_file():
        return None
    config = read_config(file.parent)
    settings = config.get("config", config)
    rows = settings.get("vocabulary_size") or settings.get("vocab_size")
    return None if rows is None else check_sizes(file, rows)[0]


def _weights_file(folder: Path) -> Path | None:
    names = ("model.weights.h5", "model.safetensors", RUN_MODEL)
    return next((folder / name for name in names if (folder / name).is_file()), None)
