"""What a model is asked about, ready for its codec. An input that cannot be read is a `BadInput`,
and the next ones follow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.recipes.codecs.asked import Text
from graft.recipes.runs.prediction.image_files import image_files
from graft.recipes.runs.prediction.stdin import BadInput, cause_of
from graft.recipes.runs.prediction.texts import texts
from graft.zoo.errors import DataError

__all__ = ["Asked", "BadInput", "read_items"]


@dataclass(frozen=True)
class Asked:
    """An input that can be labelled: what the answer calls it, and what a codec takes of it."""

    name: str
    content: Any


def read_items(
    codec: Any, inputs: Sequence[str], *, column: str, words: bool
) -> Iterator[Asked | BadInput]:
    """What a model of this modality is asked about, in order.

    Args:
        codec: of the model.
        inputs: the arguments of the command.
        column: of tables of texts.
        words: whether texts are words already.
    """
    readers = {
        "image": lambda: (_decoded(file, codec) for file in image_files(inputs)),
        "text": lambda: map(_named_text, texts(inputs, column, words)),
    }
    return iter(readers[codec.modality]())


def _decoded(file: Path | BadInput, codec: Any) -> Asked | BadInput:
    if isinstance(file, BadInput):
        return file
    try:
        return Asked(str(file), codec.item(file))
    except DataError as error:
        return BadInput(str(error))
    except OSError as error:  # of the look at what kept it from being read
        return BadInput(f"'{file}' cannot be read: {cause_of(error)}")


def _named_text(text: Text | BadInput) -> Asked | BadInput:
    return text if isinstance(text, BadInput) else Asked(text.text, text)
