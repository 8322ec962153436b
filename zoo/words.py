"""The words of a text, for a tagger: how `graft predict` cuts a text, and which rule comes nearest
to the words that a training file gives. No TensorFlow here.

A file of tagged words says what its words are, a text does not. The rule is chosen by writing the
training sentences as people write them and cutting them again; an artifact records it (`words` in
preprocessing.json).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graft.zoo.errors import ArtifactError
from graft.zoo.text import WORD_PATTERN

__all__ = [
    "DEFAULT_RULE",
    "WORD_RULES",
    "WordRule",
    "choose_word_rule",
    "cut_words",
    "given_words",
    "written_text",
]

OPENING_PUNCTUATION = "([{\u00ab\u201c\u2018\"'\u00bf\u00a1"
CLOSING_PUNCTUATION = ".,;:!?\u2026)]}\u00bb\u201d\u2019\"'"
"""What stands before and behind a word without being a part of it."""
NO_BLANK_BEHIND = "([{\u00ab\u201c\u00bf\u00a1"
NO_BLANK_BEFORE = (*".,;:!?\u2026)]}\u00bb\u201d", "...", "n't")
"""Words that people write without a blank behind them, or before them. A straight quote may be
either.
"""
WORD_ENDING = re.compile(r"['\u2019]\w+")
NO_BLANKS = re.compile(
    r"[\u2e80-\u9fff\uf900-\ufaff\u3000-\u30ff\uff00-\uffef"
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff]"
)
"""Characters of scripts that put no blanks between words: Chinese, Japanese, Thai, Lao, Burmese,
Khmer.
"""

Span = tuple[int, int]
"""Where a word begins in its text, and where what follows it begins; in characters."""


def _by_blanks(text: str) -> Iterator[Span]:
    return (match.span() for match in re.finditer(r"\S+", text))


def _by_pattern(text: str) -> Iterator[Span]:
    return (match.span() for match in WORD_PATTERN.finditer(text))


def _by_punctuation(text: str) -> Iterator[Span]:
    for start, end in _by_blanks(text):
        behind: list[Span] = []
        while end - start > 1 and text[start] in OPENING_PUNCTUATION:
            yield start, start + 1
            start += 1
        while end - start > 1 and text[end - 1] in CLOSING_PUNCTUATION:
            behind.append((end - 1, end))
            end -= 1
        yield start, end
        yield from reversed(behind)


DEFAULT_RULE = "pattern"
WORD_RULES: Mapping[str, tuple[Callable[[str], Iterator[Span]], str]] = {
    DEFAULT_RULE: (_by_pattern, "into runs of letters and digits, and single other characters"),
    "punctuation": (_by_punctuation, "at blanks and around punctuation"),
    "blanks": (_by_blanks, "at blanks"),
}
"""Each rule with what it does, in words; of rules that are equally near the first is taken."""


def cut_words(text: str, rule: str | bool = DEFAULT_RULE) -> list[tuple[str, int, int]]:
    """`(word, start, end)` for each word of `text`, `text[start:end] == word`, by a rule of
    `WORD_RULES`; what artifacts of before say, True, is "pattern".

    Raises:
        ArtifactError: no such rule.
    """
    name = DEFAULT_RULE if rule is True else str(rule)
    if name not in WORD_RULES:
        raise ArtifactError(
            f"the artifact cuts texts into words by the rule '{name}', which this Graft does not "
            "know: update it"
        )
    return [(text[start:end], start, end) for start, end in WORD_RULES[name][0](text)]


def given_words(words: Sequence[str]) -> tuple[str, list[tuple[str, int, int]]]:
    """(the words joined by blanks, `(word, start, end)` for each of them in that text)."""
    pieces, start = [], 0
    for word in words:
        pieces.append((word, start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), pieces


def written_text(words: Sequence[str]) -> str:
    """The sentence of these words as people write it: no blank before a full stop, or between
    Chinese characters.
    """
    text, glue = "", True
    for word in words:
        behind = word in NO_BLANK_BEFORE or (WORD_ENDING.fullmatch(word) and text[-1:].isalnum())
        without = text and NO_BLANKS.match(text[-1]) and NO_BLANKS.match(word[:1])
        text += word if glue or behind or without else f" {word}"
        glue = bool(word) and word in NO_BLANK_BEHIND
    return text


@dataclass(frozen=True)
class WordRule:
    """How near a rule comes to the words of some sentences.

    Attributes:
        name: of the rule, a key of `WORD_RULES`.
        sentences: how many there are.
        lost: how many come out in other words.
        lost_words: how many of their words do not come out.
        example: one word that does, and what becomes of it; None if none is lost.
    """

    name: str
    sentences: int
    lost: int
    lost_words: int
    example: tuple[str, tuple[str, ...]] | None

    @property
    def warning(self) -> str | None:
        """What to say where words are lost."""
        if self.example is None:
            return None
        word, parts = self.example
        return (
            f"`graft predict` cuts texts {WORD_RULES[self.name][1]}: {self.lost:,} of "
            f"{self.sentences:,} training sentences come out in other words than the file has "
            f"('{word}' as {' '.join(repr(part) for part in parts)}); where it matters give it "
            "words, not texts: --words"
        )


def choose_word_rule(sentences: Sequence[Sequence[str]]) -> WordRule:
    """The rule by which the most words of `sentences`, written as people write them, come out
    again.
    """
    return min(
        (_measured(name, sentences) for name in WORD_RULES), key=lambda rule: rule.lost_words
    )


def _measured(name: str, sentences: Sequence[Sequence[str]]) -> WordRule:
    lost = lost_words = 0
    example: tuple[str, tuple[str, ...]] | None = None
    for words in sentences:
        cut = [word for word, _, _ in cut_words(written_text(words), name)]
        if cut != list(words):
            lost += 1
            lost_words += max(1, (Counter(words) - Counter(cut)).total())
            example = example or _lost_word(words, cut, name)
    return WordRule(name, len(sentences), lost, lost_words, example)


def _lost_word(words: Sequence[str], cut: Sequence[str], name: str) -> tuple[str, tuple[str, ...]]:
    """One of `words` that is not among those that were `cut`, and what the rule makes of it."""
    missing = Counter(words) - Counter(cut)
    word = next((word for word in words if missing[word]), words[0])
    alone = tuple(part for part, _, _ in cut_words(word, name))
    # A word that stays whole by itself was joined to its neighbour.
    whole = next((part for part in cut if word in part), word)
    return word, alone if alone != (word,) else (whole,)
