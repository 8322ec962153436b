"""What a user hands to a model to be answered, and what an answer is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft.zoo.errors import DataError
from graft.zoo.words import cut_words, given_words

__all__ = ["Fed", "Picture", "Shown", "Text", "check_text"]


@dataclass(frozen=True)
class Shown:
    """What an answer is about, for what is said of it.

    Attributes:
        text: of a text, as it came.
        words: `(word, start, end)` of each of its words.
        begun: the word that each piece of it begins, -1 if none.
        marks: what else is to be said of it: "truncated", "unreadable".
        scale: of an image, pixels of it as it came to one that the model sees, down and across.
    """

    text: str = ""
    words: Sequence[tuple[str, int, int]] = ()
    begun: np.ndarray | None = None
    marks: Mapping[str, bool] | None = None
    scale: tuple[float, float] | None = None


@dataclass(frozen=True)
class Picture:
    """One image to be answered.

    Attributes:
        pixels: as the model takes them.
        size: height and width as it came, upright.
    """

    pixels: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Fed:
    """A batch for a model.

    Attributes:
        inputs: what it takes.
        shown: what each answer is about.
    """

    inputs: Any
    shown: Sequence[Shown]


@dataclass(frozen=True)
class Text:
    """One text to be labelled.

    Attributes:
        text: as it came; words joined by blanks where it came as words.
        words: `(word, start, end)` in the text, where they are given; None: a model of tags cuts
            the text as its training did.
    """

    text: str
    words: tuple[tuple[str, int, int], ...] | None = None

    @classmethod
    def of_words(cls, words: Sequence[str]) -> "Text":
        """A text of these words.

        Raises:
            DataError: one is empty, or has a blank at an end.
        """
        bad = next((word for word in words if not word or word != word.strip()), None)
        if bad is not None:
            raise DataError(
                f"has {bad!r} for a word: expected words that are not empty, without blanks around "
                "them"
            )
        text, pieces = given_words(words)
        return cls(text, tuple(pieces))

    @classmethod
    def split_at_blanks(cls, text: str) -> "Text":
        """A text whose words have blanks between them."""
        return cls(text, tuple(cut_words(text, "blanks")))


def check_text(text: str) -> None:
    """Refuse a text that cannot be labelled; the message goes on from what the text is called.

    Raises:
        DataError: it is empty, or holds half a character.
    """
    if not text.strip():
        raise DataError("is empty: give one that says something")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            "holds half a character, as of an emoji that was cut, or is not UTF-8"
        ) from error
