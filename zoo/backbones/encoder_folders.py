"""Rows for encoders in folders: a preset of KerasHub's, a Hugging Face model, or a run of
Graft's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.zoo.backbones.encoder_table import ENCODER_FAMILIES, Encoder
from graft.zoo.errors import ArtifactError, WeightsError
from graft.zoo.files.reading import read_json

__all__ = ["check_sizes", "encoder_of_folder", "encoder_of_run", "is_run", "read_config"]

MAX_SIZE = 10_000_000
"""Of a width, a length or a vocabulary that a config can say."""
RUN_MODEL = "model.keras"
"""In the folder of a run, with the tokenizer and a run.json that says what the encoder is."""


def is_run(folder: Path) -> bool:
    """Whether `folder` is that of a run, judged by the model in it."""
    return (folder / RUN_MODEL).is_file()


def encoder_of_run(folder: Path) -> Encoder:
    """The row for the encoder of the run in `folder`.

    Raises:
        WeightsError: it is no run for texts.
        ArtifactError: its run.json is damaged.
    """
    facts = read_json(folder / "run.json", dict).get("backbone", {})
    if not isinstance(facts, dict) or str(facts.get("family")) not in ENCODER_FAMILIES:
        raise WeightsError(
            f"the run '{folder}' holds no text encoder but '{facts.get('name')}': give the run of "
            "a recipe for texts"
        )
    sizes = facts.get("feature_dim"), facts.get("max_length")
    width, longest = check_sizes(folder / "run.json", *sizes)
    licence = str(facts.get("licence"))
    return _row(folder.resolve().name, folder, facts["family"], width, longest, licence)


def _row(
    name: str, folder: Path, family: str, width: int, longest: int, licence: str = "unknown"
) -> Encoder:
    return Encoder(name, family, 0, width, longest, ("folder",), licence, str(folder))


def check_sizes(where: Path, *sizes: object) -> list[int]:
    """`sizes`, which the file `where` says, as numbers.

    Raises:
        WeightsError: one of them is no width or length.
    """
    numbers = [size for size in sizes if isinstance(size, int) and 0 < size <= MAX_SIZE]
    if len(numbers) < len(sizes):
        raise WeightsError(
            f"'{where}' is damaged: it says no width or length of an encoder, but {sizes}"
        )
    return numbers


def encoder_of_folder(folder: Path) -> Encoder:
    """The row for the KerasHub preset or the Hugging Face model in `folder`.

    Raises:
        WeightsError: it is neither, or one that cannot be read right.
    """
    config = read_config(folder)
    if "model_type" in config:
        return _hugging_face(folder, config)
    classes = str(config.get("class_name", ""))
    family = next(
        (name for name, f in ENCODER_FAMILIES.items() if classes == f"{f.classes}Backbone"), None
    )
    if family is None:
        raise WeightsError(
            f"'{folder}' holds a '{classes or 'nameless'}': expected a preset of one of KerasHub's "
            f"encoders ({', '.join(f'{f.classes}Backbone' for f in ENCODER_FAMILIES.values())}), "
            "or a Hugging Face folder"
        )
    settings = config.get("config")
    if not isinstance(settings, dict):
        raise WeightsError(f"'{folder / 'config.json'}' is damaged: it holds no 'config'")
    sizes = settings.get("hidden_dim"), settings.get("max_sequence_length", 512)
    width, longest = check_sizes(folder / "config.json", *sizes)
    return _row(folder.name, folder, family, width, longest)


def _hugging_face(folder: Path, config: Mapping[str, Any]) -> Encoder:
    kind = config["model_type"]
    family = next((name for name, f in ENCODER_FAMILIES.items() if f.hugging_face == kind), None)
    readable = ", ".join(f.hugging_face for f in ENCODER_FAMILIES.values() if f.converted)
    if family is None or not ENCODER_FAMILIES[family].converted:
        named = f", or the KerasHub preset of {family}" if family else ""
        raise WeightsError(
            f"'{folder}' is a Hugging Face model of type '{kind}', which KerasHub cannot read, or "
            f"reads into other numbers: give one of type {readable}{named}"
        )
    if not (folder / "model.safetensors").is_file():
        raise WeightsError(f"'{folder}' holds no model.safetensors: save the model in that format")
    width = config.get("hidden_size") or config.get("dim") or config.get("n_embd")
    longest = config.get("max_position_embeddings") or config.get("n_positions")
    width, longest = check_sizes(folder / "config.json", width, longest)
    return _row(folder.name or folder.resolve().name, folder, family, width, longest)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json in `folder`.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return read_json(folder / "config.json", dict)
    except ArtifactError as error:
        raise WeightsError(
            f"'{folder}' is no encoder: it holds no readable config.json ({error}); give the "
            "folder of a KerasHub preset or of a Hugging Face model"
        ) from error
