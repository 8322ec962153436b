"""Tokenizers made from the vocabularies of the original models: word pieces, byte pairs and
SentencePiece unigrams. Each becomes one `tokenizer.json` (`zoo.text`).
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft.zoo.errors import WeightsError
from graft.zoo.files.reading import read_text
from graft.zoo.text import MAX_WORD_LENGTH, Tokenizer, tokenizer_from_json

__all__ = [
    "byte_level_tokenizer",
    "learn_word_pieces",
    "read_vocabulary",
    "unigram_tokenizer",
    "word_piece_tokenizer",
]


def word_piece_tokenizer(
    vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool | None = None
) -> Tokenizer:
    """BERT's tokenizer (Devlin et al. 2019, arXiv:1810.04805).

    Args:
        vocabulary: the pieces in the order of their ids.
        lowercase: whether it makes letters small.
        strip_accents: whether it takes accents away; None: as `lowercase`, which is what BERT does.

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
        "max_input_chars_per_word": MAX_WORD_LENGTH,
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
    return tokenizer_from_json(content, where="vocab.txt", pad="[PAD]")


def byte_level_tokenizer(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    *,
    start: str | None,
    end: str | None,
    pad: str | None,
) -> Tokenizer:
    """GPT-2's and RoBERTa's tokenizer: byte pairs (Sennrich et al. 2016, arXiv:1508.07909) over
    bytes.

    Args:
        vocabulary: piece -> id.
        merges: lines "left right", the first merge first.
        start, end: tokens that stand around a text; None for none.
        pad: the padding token.

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
    return tokenizer_from_json(_content(model, None, split, template), where="merges.txt", pad=pad)


def unigram_tokenizer(
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

    Args:
        content: the `.model` or `.spm` file.
        start, end: tokens that stand around a text.
        pad: the padding token.
        head: what takes the place of the file's first three pieces, where the network counts other
            special tokens than the file does (XLM-R).
        tail: pieces behind all others.

    Raises:
        WeightsError: not such a file, or another kind of SentencePiece model.
    """
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
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
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        steps += [
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        ]
    model = {"type": "Unigram", "unk_id": ids[unknown], "vocab": pieces, "byte_fallback": False}
    scheme = "always" if spec.add_dummy_prefix else "never"
    split = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}
    normalizer = {"type": "Sequence", "normalizers": steps} if steps else None
    return tokenizer_from_json(
        _content(model, normalizer, split, _template(ids, start, end)), where="spm", pad=pad
    )


def learn_word_pieces(texts: Sequence[str], size: int) -> list[str]:
    """A vocabulary of at most `size` word pieces, lower case without accents, learned from `texts`
    (arXiv:1609.08144).
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    fast = Fast(models.WordPiece(unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer()
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    fast.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False),
    )
    vocabulary = fast.get_vocab()
    return sorted(vocabulary, key=lambda piece: vocabulary[piece])


def read_vocabulary(path: Path) -> list[str]:
    """The lines of a `vocab.txt`; a piece may be a character that `splitlines` would take for a
    line's end.
    """
    return read_text(path).removesuffix("\n").split("\n")


def _template(ids: Mapping[str, int], start: str | None, end: str | None) -> dict[str, Any]:
    around = [token for token in (start, end) if token]
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
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


def _content(
    model: Mapping[str, Any],
    normalizer: Mapping[str, Any] | None,
    pre_tokenizer: Mapping[str, Any],
    post_processor: Mapping[str, Any] | None,
) -> str:
    """The content of tokenizer.json."""
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
