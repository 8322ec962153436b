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
from pathlib import Path

import numpy as np

from graft.zoo.errors import ArtifactError, WeightsError
from graft.zoo.files import parse_json, read_text
from graft.zoo.quiet import native_silence

__all__ = [
    "Tokenizer",
    "byte_level_bpe",
    "checked",
    "from_json",
    "learn_word_pieces",
    "read_vocabulary",
    "scripts",
    "sentencepiece_unigram",
    "split_words",
    "word_piece",
]

WORD = re.compile(r"[@#]?\w+(?:[-.:]\w+)*|['\u2019]\w+|[^\w\s]")
"""A word of a text that a tagger is asked about: letters and digits (with what joins them inside),
an ending behind an apostrophe, or one other character.
"""

LONGEST_WORD = 100
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
    def fast(self):
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
        """(the ids of each text, int32 `(pieces,)` with special tokens and at most `max_length`
        long; how many were cut).
        """
        encodings = self._encode(list(texts), max_length, False)
        return [np.array(e.ids, np.int32) for e in encodings], sum(
            bool(e.overflowing) for e in encodings
        )

    def encode_words(
        self, sentences: Sequence[Sequence[str]], max_length: int
    ) -> tuple[list[np.ndarray], list[np.ndarray], int]:
        """The same for sentences that are words already: (ids, the first piece of each word, how
        many were cut).

        The second item has for each piece the index of the word that begins with it, and -1 for
        special tokens and for the later pieces of a word, int32 `(pieces,)`.
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

    def _encode(self, texts: list, max_length: int, words: bool):
        with _one_line_if_it_panics():
            self.fast.enable_truncation(max_length)
            return self.fast.encode_batch(texts, is_pretokenized=words)


MOST_PIECES = 5_000_000
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


def checked(content: str, pad_id: int, where: object) -> Tokenizer:
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
    if not numbers or max(numbers) >= MOST_PIECES or pad_id > max(numbers):
        raise ArtifactError(
            f"the tokenizer.json of '{where}' has no such ids as it says: export again"
        )
    return found


def from_json(content: str, *, where: str = "tokenizer.json", pad: str | None = None) -> Tokenizer:
    """The tokenizer that a Hugging Face `tokenizer.json` describes, without its truncation, padding
    and special spellings.

    `pad` is the padding token; by default the usual names are tried.

    Raises:
        WeightsError: not such a file.
    """
    from tokenizers import Tokenizer as Fast

    try:
        settings = json.loads(content)
        settings |= {"truncation": None, "padding": None}
        with native_silence(), _one_line_if_it_panics():
            vocabulary = Fast.from_str(json.dumps(settings)).get_vocab()
        if max(vocabulary.values(), default=0) >= MOST_PIECES:
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


def word_piece(
    vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool | None = None
) -> Tokenizer:
    """BERT's tokenizer (Devlin et al. 2019, arXiv:1810.04805) over `vocabulary`, ids in order.

    `strip_accents` None means: as `lowercase`, which is what BERT does.

    Raises:
        WeightsError: a special token is missing.
    """
    ids = {piece: number for number, piece in enumerate(vocabulary)}
    for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"):
        if token not in ids:
            raise WeightsError(
                f"the vocabulary of {len(vocabulary)} pieces has no '{token}': it is not one of "
                "BERT's kind"
            )
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": LONGEST_WORD,
        "vocab": ids,
    }
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": strip_accents,
        "lowercase": lowercase,
    }
    content = _content(
        model, normalizer, {"type": "BertPreTokenizer"}, _template(ids, "[CLS]", "[SEP]")
    )
    return from_json(content, where="vocab.txt", pad="[PAD]")


def byte_level_bpe(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    *,
    start: str | None,
    end: str | None,
    pad: str | None,
) -> Tokenizer:
    """GPT-2's and RoBERTa's tokenizer: byte pairs (Sennrich et al. 2016, arXiv:1508.07909) over
    bytes.

    `merges` are lines "left right"; `start` and `end` stand around a text, None for none.

    Raises:
        WeightsError: a special token is missing, or a merge makes a piece that is not in the
            vocabulary.
    """
    for token in filter(None, (start, end, pad)):
        if token not in vocabulary:
            raise WeightsError(f"the vocabulary of {len(vocabulary)} pieces has no '{token}'")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": dict(vocabulary),
        "merges": [line.split(" ") for line in merges],
    }
    split = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    template = _template(vocabulary, start, end) if start or end else None
    return from_json(_content(model, None, split, template), where="merges.txt", pad=pad)


def sentencepiece_unigram(
    content: bytes,
    *,
    start: str,
    end: str,
    pad: str,
    head: Sequence[str] = (),
    tail: Sequence[str] = (),
) -> Tokenizer:
    """ALBERT's, XLM-R's and DeBERTa's tokenizer: a SentencePiece unigram model (Kudo 2018,
    arXiv:1804.10959).

    `content` is the `.model` or `.spm` file. Where the network counts other special tokens than the
    file does (XLM-R), `head` takes the place of the file's first three pieces; `tail` comes behind
    all of them.

    Raises:
        WeightsError: not such a file, or another kind of SentencePiece model.
    """
    import base64

    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's DecodeError is not public in all its versions
        raise WeightsError(f"the SentencePiece model cannot be read: {error}") from error
    if proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM:
        raise WeightsError(
            "the SentencePiece model is not of the unigram kind: only that one is known here"
        )
    pieces = [[piece.piece, piece.score] for piece in proto.pieces]
    unknown = pieces[proto.trainer_spec.unk_id][0]
    if head:
        pieces[:3] = [[piece, 0.0] for piece in head]
    pieces += [[piece, 0.0] for piece in tail]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    for token in (start, end, pad):
        if token not in ids:
            raise WeightsError(f"the SentencePiece model of {len(pieces)} pieces has no '{token}'")
    spec = proto.normalizer_spec
    steps = [
        {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(spec.precompiled_charsmap).decode(),
        }
    ]
    steps = steps if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]
    model = {"type": "Unigram", "unk_id": ids[unknown], "vocab": pieces, "byte_fallback": False}
    scheme = "always" if spec.add_dummy_prefix else "never"
    split = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}
    normalizer = {"type": "Sequence", "normalizers": steps} if steps else None
    return from_json(
        _content(model, normalizer, split, _template(ids, start, end)), where="spm", pad=pad
    )


def learn_word_pieces(texts: Sequence[str], size: int) -> list[str]:
    """A vocabulary of at most `size` word pieces, lower case without accents, learned from `texts`
    (arXiv:1609.08144).
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    fast = Fast(models.WordPiece(unk_token="[UNK]"))
    fast.normalizer, fast.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    fast.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False),
    )
    return sorted(fast.get_vocab(), key=fast.get_vocab().get)


def split_words(text: str) -> list[str]:
    """The words of a text, for a tagger."""
    return WORD.findall(text)


def scripts(texts: Sequence[str]) -> dict[str, float]:
    """The share of each script among the letters of `texts`, as Unicode names them ("LATIN", "CJK",
    "ARABIC"), the most frequent first; empty where there are no letters.
    """
    found: Counter[str] = Counter()
    for character, count in Counter("".join(texts)).items():
        if character.isalpha():
            found[unicodedata.name(character, "UNKNOWN").split()[0]] += count
    return {script: count / found.total() for script, count in found.most_common()}


def read_vocabulary(path: Path) -> list[str]:
    """The lines of a `vocab.txt`; a piece may be a character that `splitlines` would take for a
    line's end.
    """
    return read_text(path).removesuffix("\n").split("\n")


def _pieces(model: Mapping) -> set[str]:
    vocabulary = model["vocab"]
    return set(vocabulary) if isinstance(vocabulary, dict) else {piece for piece, _ in vocabulary}


def _template(ids: Mapping[str, int], start: str | None, end: str | None) -> dict:
    around = [token for token in (start, end) if token]
    single = [{"Sequence": {"id": "A", "type_id": 0}}]
    if start:
        single.insert(0, {"SpecialToken": {"id": start, "type_id": 0}})
    if end:
        single.append({"SpecialToken": {"id": end, "type_id": 0}})
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in around
        },
    }


def _content(model: Mapping, normalizer, pre_tokenizer, post_processor) -> str:
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": post_processor,
            "decoder": None,
            "model": model,
        }
    )
