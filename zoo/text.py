"""Text -> token ids, the same in training, prediction and every shipped file. No TensorFlow here.

A tokenizer is one `tokenizer.json` in the format of Hugging Face `tokenizers`, which has readers in
Python, Rust, JavaScript, Swift and Kotlin. What it says is all there is: `[CLS]` written in a text
is the characters `[CLS]`, never the special token, and neither truncation nor padding is hidden in
the file.
"""

import contextlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.zoo.errors import ArtifactError, WeightsError
from graft.zoo.files.reading import parse_json
from graft.zoo.quiet import native_silence

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as FastTokenizer

__all__ = ["Tokenizer", "check_tokenizer", "script_shares", "split_words", "tokenizer_from_json"]

WORD_PATTERN = re.compile(r"[@#]?\w+(?:[-.:]\w+)*|['\u2019]\w+|[^\w\s]")
"""A word of a text that a tagger is asked about: letters and digits (with what joins them inside),
an ending behind an apostrophe, or one other character.
"""
MAX_WORD_LENGTH = 100
"""Characters; a longer word is one unknown piece (BERT's own rule)."""


@dataclass(frozen=True)
class Tokenizer:
    """What turns text into ids.

    Attributes:
        json: the content of tokenizer.json.
        pad_id: the id that fills a batch; masked out everywhere.
    """

    json: str
    pad_id: int

    @cached_property
    def fast(self) -> "FastTokenizer":
        """The `tokenizers.Tokenizer` behind it."""
        from tokenizers import Tokenizer as Fast

        with _one_line_if_it_panics():
            return Fast.from_str(self.json)

    @property
    def kind(self) -> str:
        """ "WordPiece", "BPE" or "Unigram"."""
        return json.loads(self.json)["model"]["type"]

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self.fast.get_vocab().values()) + 1

    @property
    def vocabulary(self) -> list[str]:
        """The pieces in the order of their ids; an id without a piece is an empty string."""
        pieces = [""] * self.size
        for piece, number in self.fast.get_vocab().items():
            pieces[number] = piece
        return pieces

    @cached_property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary lacks, as [UNK]; None where it lacks nothing,
        as of bytes.
        """
        model = json.loads(self.json)["model"]
        if model["type"] == "Unigram":
            return model.get("unk_id")
        return None if model.get("unk_token") is None else self.fast.token_to_id(model["unk_token"])

    def unknown_share(self, ids: Sequence[np.ndarray]) -> float:
        """The share of the tokens in `ids`, of one text or of several, that are unknown, 0 to 1;
        special tokens around a text are not counted.
        """
        tokens = sum(map(len, ids)) - len(ids) * self.fast.num_special_tokens_to_add(False)
        if self.unknown_id is None or tokens <= 0:
            return 0.0
        return sum(int(np.count_nonzero(row == self.unknown_id)) for row in ids) / tokens

    def encode(self, texts: Sequence[str], max_length: int) -> tuple[list[np.ndarray], int]:
        """The ids of texts.

        Args:
            texts: any.
            max_length: the most ids of a text, special tokens included.

        Returns:
            (the ids of each text, int32 `(pieces,)`, how many texts were cut).
        """
        encodings = self._encode(list(texts), max_length, False)
        return [np.array(e.ids, np.int32) for e in encodings], sum(
            bool(e.overflowing) for e in encodings
        )

    def encode_words(
        self, sentences: Sequence[Sequence[str]], max_length: int
    ) -> tuple[list[np.ndarray], list[np.ndarray], int]:
        """The ids of sentences that are words already.

        Args:
            sentences: the words of each.
            max_length: the most ids of a sentence, special tokens included.

        Returns:
            (the ids of each sentence, int32 `(pieces,)`; for each of them, int32 `(pieces,)`, the
            index of the word that begins with it, -1 for special tokens and for the later pieces
            of a word; how many sentences were cut).
        """
        encodings = self._encode([list(words) for words in sentences], max_length, True)
        firsts = []
        for encoding in encodings:
            words = [-1 if word is None else word for word in encoding.word_ids]
            before = [-1, *words[:-1]]
            firsts.append(
                np.array(
                    [-1 if w == b else w for w, b in zip(words, before, strict=True)], np.int32
                )
            )
        cut = sum(bool(e.overflowing) for e in encodings)
        return [np.array(e.ids, np.int32) for e in encodings], firsts, cut

    def longer(
        self, texts: Sequence[str] | Sequence[Sequence[str]], max_length: int, words: bool = False
    ) -> list[bool]:
        """Which texts (or sentences of words, with `words`) have more pieces than `max_length`:
        `encode` cuts them.
        """
        return [
            bool(encoding.overflowing) for encoding in self._encode(list(texts), max_length, words)
        ]

    def _encode(self, texts: list[Any], max_length: int, words: bool) -> "list[Encoding]":
        with _one_line_if_it_panics():
            self.fast.enable_truncation(max_length)
            return self.fast.encode_batch(texts, is_pretokenized=words)


MAX_PIECES = 5_000_000
"""Ids of a tokenizer; the largest have 256,000."""


@contextlib.contextmanager
def _one_line_if_it_panics() -> Iterator[None]:
    """Turn what `tokenizers` raises of damaged settings into an ArtifactError; a panic of Rust is
    no Exception.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ArtifactError(
            f"the tokenizer.json is damaged ({str(error)[:200]}): export again"
        ) from error


def check_tokenizer(content: str, pad_id: int, where: object) -> Tokenizer:
    """The tokenizer that `content`, the tokenizer.json of the artifact `where`, describes.

    Raises:
        ArtifactError: damaged, or one that cuts, fills or numbers as none that Graft writes.
    """
    settings = parse_json(content, f"{where}: tokenizer.json", dict, "export again")
    try:
        found = Tokenizer(content, pad_id)
        with native_silence():  # a panic says so on stderr too
            numbers = found.fast.get_vocab().values()
            found.encode(["a word"], 8)
        if not isinstance(found.kind, str) or not isinstance(found.unknown_id, int | None):
            raise TypeError("its model has no type")
    except Exception as error:
        raise ArtifactError(
            f"the tokenizer.json of '{where}' is damaged ({str(error)[:200]}): export again"
        ) from error
    if settings.get("padding") or settings.get("truncation"):
        raise ArtifactError(
            f"the tokenizer.json of '{where}' fills or cuts texts by itself: export again"
        )
    if not numbers or max(numbers) >= MAX_PIECES or pad_id > max(numbers):
        raise ArtifactError(
            f"the tokenizer.json of '{where}' has no such ids as it says: export again"
        )
    return found


def tokenizer_from_json(
    content: str, *, where: str = "tokenizer.json", pad: str | None = None
) -> Tokenizer:
    """The tokenizer that a Hugging Face `tokenizer.json` describes, without its truncation, padding
    and special spellings.

    Args:
        content: of the file.
        where: what a message calls it.
        pad: the padding token; None: the usual names are tried.

    Raises:
        WeightsError: not such a file.
    """
    from tokenizers import Tokenizer as Fast

    try:
        settings = json.loads(content)
        settings |= {"truncation": None, "padding": None}
        with native_silence(), _one_line_if_it_panics():
            vocabulary = Fast.from_str(json.dumps(settings)).get_vocab()
        if max(vocabulary.values(), default=0) >= MAX_PIECES:
            raise ValueError("its ids are too large")
        in_model = _pieces(settings["model"])
        settings["added_tokens"] = [
            token
            for token in settings["added_tokens"]
            if not token["special"] or token["content"] not in in_model
        ]
        text = json.dumps(settings, ensure_ascii=False)
        with native_silence(), _one_line_if_it_panics():
            Fast.from_str(text)
    except Exception as error:  # the library raises bare Exceptions for what it cannot read
        raise WeightsError(
            f"'{where}' is no tokenizer of the Hugging Face format: {error}"
        ) from error
    found = next(
        (
            vocabulary[name]
            for name in (pad, "[PAD]", "<pad>", "<|endoftext|>")
            if name in vocabulary
        ),
        0,
    )
    return Tokenizer(text, found)


def split_words(text: str) -> list[str]:
    """The words of a text, for a tagger."""
    return WORD_PATTERN.findall(text)


def script_shares(texts: Sequence[str]) -> dict[str, float]:
    """The share of each script among the letters of `texts`, as Unicode names them ("LATIN", "CJK",
    "ARABIC"), the most frequent first; empty where there are no letters.
    """
    found: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            found[unicodedata.name(character, "UNKNOWN").split()[0]] += count
    return {script: count / found.total() for script, count in found.most_common()}


def _pieces(model: Mapping[str, Any]) -> set[str]:
    vocabulary = model["vocab"]
    return set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}
