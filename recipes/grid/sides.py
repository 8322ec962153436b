"""What a grid of one modality is like: its recipe, its data, its files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graft.zoo.terminal import say

if TYPE_CHECKING:
    from graft.recipes.data.sources import Source

__all__ = ["SIDES", "Side", "source_of"]


def source_of(asked: Any, modality: str) -> "Source":
    """The data that a Config or the options of a command ask for, as records with a label, or with
    several; says that they are read.
    """
    say(f"reading '{asked.data}'")
    return SIDES[modality].load(asked)


def _texts(asked: Any) -> "Source":
    from graft.recipes.data import sentences

    columns = sentences.Columns(asked.text_column, asked.label_column)
    several = getattr(asked, "multi_label", False)
    return sentences.load(asked.data, need=("label",), columns=columns, several=several)


def _images(asked: Any) -> "Source":
    from graft.recipes.data import sources

    return sources.load(asked.data, path_column=asked.path_column, label_column=asked.label_column)


@dataclass(frozen=True)
class Side:
    """What a grid of one modality is like.

    Attributes:
        recipe: that trains its cells.
        load: reads the data that a Config asks for.
        precisions: of the smaller files that are exported by default.
        of_texts: whether schedules and backbones are those of texts, which are not augmented.
    """

    recipe: str
    load: Callable[[Any], "Source"]
    precisions: tuple[str, ...]
    of_texts: bool


SIDES = {
    "image": Side("image-classification", _images, ("int8",), False),
    "text": Side("text-classification", _texts, ("dynamic",), True),
}
"""By modality."""
