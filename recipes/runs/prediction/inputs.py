"""What a model is asked about, ready for its codec. An input that cannot be read is a `BadInput`,
and the next ones follow.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.recipes.codecs.asked import Text
from graft.recipes.codecs.pixels import map_in_order
from graft.recipes.runs.prediction.bursts import as_they_come
from graft.recipes.runs.prediction.image_files import image_files
from graft.recipes.runs.prediction.stdin import STDIN, BadInput, cause_of
from graft.recipes.runs.prediction.texts import texts
from graft.zoo.errors import DataError

__all__ = ["Asked", "BadInput", "read_items"]

AHEAD = 4
"""How far images are decoded ahead of the model, see `map_in_order`: 32 a thread, enough for the
other threads while the model looks at a batch.
"""


@dataclass(frozen=True)
class Asked:
    """An input that can be labelled: what the answer calls it, and what a codec takes of it."""

    name: str
    content: Any


def read_items(
    codec: Any, inputs: Sequence[str], *, column: str, words: bool
) -> Iterator[Iterator[Asked | BadInput]]:
    """What a model of this modality is asked about, in order; images are decoded in threads.

    It comes in bursts, of which each is to be answered before the next: more than one only where
    somebody writes to stdin and takes his time.

    Args:
        codec: of the model.
        inputs: the arguments of the command.
        column: of tables of texts.
        words: whether texts are words already.
    """
    decoded = functools.partial(_decoded, codec=codec)
    readers = {
        "image": lambda: (image_files(inputs), lambda part: map_in_order(decoded, part, AHEAD)),
        "text": lambda: (texts(inputs, column, words), lambda part: map(_named_text, part)),
    }
    found, ready = readers[codec.modality]()
    return map(ready, as_they_come(found) if STDIN in inputs else (found,))


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
