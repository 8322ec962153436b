"""Household voice commands: 480 sentences of eight intents with slots, written for Graft;
zoo/bundled/commands/README.md.
"""

import re

from graft.recipes.data.records import Sentence
from graft.zoo.backbones.weights import BUNDLED_FOLDER
from graft.zoo.text import split_words

__all__ = ["load"]

FILE = BUNDLED_FOLDER / "commands" / "commands.txt"
SLOT = re.compile(r"\[([^\]]+)\]\((\w+)\)")
PLACES = ("train", "train", "train", "validation", "test")
"""Every fourth sentence of an intent is for validation, every fifth for testing."""


def load() -> dict[str, list[Sentence]]:
    """The sentences by split, with intents as labels and slots as IOB2 tags."""
    splits: dict[str, list[Sentence]] = {}
    intent, count = "", 0
    for line, text in enumerate(FILE.read_text(encoding="utf-8").splitlines(), 1):
        if text.startswith("#"):
            intent, count = text.removeprefix("#").strip(), 0
            continue
        words, tags = _tagged(text)
        sentence = Sentence(" ".join(words), intent, f"commands {line}", words, tags, intent)
        splits.setdefault(PLACES[count % len(PLACES)], []).append(sentence)
        count += 1
    return splits


def _tagged(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words and tags of a sentence in which slots are written [words](slot)."""
    words, tags, end = [], [], 0
    for match in [*SLOT.finditer(text), None]:
        plain = split_words(text[end : match.start() if match else len(text)])
        words += plain
        tags += ["O"] * len(plain)
        if match:
            inside = split_words(match[1])
            words += inside
            tags += [f"{'I' if i else 'B'}-{match[2]}" for i in range(len(inside))]
            end = match.end()
    return tuple(words), tuple(tags)
