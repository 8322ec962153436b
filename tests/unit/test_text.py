"""Tokenizers: the same ids in Python, in KerasHub and in TensorFlow's operators, and files that
hold all of it.
"""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.recipes.codecs.asked import Shown
from graft.recipes.tasks.table import tasks_for
from graft.zoo import text, vocabularies
from graft.zoo.errors import WeightsError
from graft.zoo.heads import heads
from graft.zoo.words import given_words
from tests.conftest import WORDS

PIECES = list(
    dict.fromkeys(
        [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *WORDS,
            *"abcdefgrstu.,!'",
            *(f"##{c}" for c in "abcdefgrst"),
        ]
    )
)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""All that UTF-8 can hold."""


@pytest.fixture(scope="module")
def bert():
    return vocabularies.word_piece_tokenizer(PIECES, lowercase=True)


def ids(tokenizer, *texts, max_length=64):
    return [row.tolist() for row in tokenizer.encode(texts, max_length)[0]]


def test_special_tokens_stand_around_a_text_and_never_in_it(bert):
    (row,) = ids(bert, "red [SEP] apple")
    assert row[0] == 2
    assert row[-1] == 3
    assert 3 not in row[1:-1]


def test_accents_case_and_long_words(bert):
    assert ids(bert, "R\u00c9D \u00e4pple") == ids(bert, "red apple")
    assert ids(bert, "r" * 10_000) == [[2, 1, 3]]


def test_long_texts_are_cut_and_counted(bert):
    rows, cut = bert.encode(["red " * 50, "red"], 8)
    assert [len(row) for row in rows] == [8, 3]
    assert cut == 1
    assert rows[0][-1] == 3


def test_words_keep_their_places(bert):
    (row,), (firsts,), cut = bert.encode_words([("red", "rabe", "!")], 32)
    assert firsts.tolist() == [-1, 0, 1, -1, -1, -1, 2, -1]
    assert len(row) == 8
    assert cut == 0


def test_a_word_without_a_piece_has_no_tag(bert):
    """A joiner of emoji, which the normalizer drops."""
    words = ("red", "\u200d", "apple")
    (row,), (firsts,), _ = bert.encode_words([words], 32)
    tags = np.zeros((len(row), 2), np.float32)
    tags[:, 0] = 0.9
    tags[np.flatnonzero(firsts == 2)] = [0.1, 0.9]
    sentence, places = given_words(words)
    task = tasks_for(heads.tags(["O", "B-fruit"])).first
    found = task.said(tags, Shown(sentence, places, firsts))
    assert found["words"] == ["red", "apple"]
    assert [(entity["type"], entity["text"]) for entity in found["entities"]] == [
        ("fruit", "apple")
    ]


def test_a_file_of_hugging_face_loses_its_truncation_and_padding():
    settings = json.loads(vocabularies.word_piece_tokenizer(PIECES, lowercase=True).json)
    settings["truncation"] = {
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    settings["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    special = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    settings["added_tokens"] = [{"id": 3, "content": "[SEP]", "special": True, **special}]
    found = text.tokenizer_from_json(json.dumps(settings))
    assert ids(found, "red green [SEP] apple") == ids(
        vocabularies.word_piece_tokenizer(PIECES, lowercase=True), "red green [SEP] apple"
    )
    assert found.pad_id == 0


@pytest.mark.parametrize("content", ["", "{}", '{"model": {"type": "Nothing"}}'])
def test_other_files_are_refused(content):
    with pytest.raises(WeightsError, match="is no tokenizer of the Hugging Face format"):
        text.tokenizer_from_json(content)


def test_a_vocabulary_without_special_tokens_is_refused():
    with pytest.raises(WeightsError, match=r"has no '\[CLS\]'"):
        vocabularies.word_piece_tokenizer(["[PAD]", "[UNK]", "red"], lowercase=True)


@given(ANY_TEXT)
@settings(deadline=None, max_examples=200)
def test_what_is_shipped_gives_the_same_ids(bert, given_text):
    """The json is the tokenizer: written, read by the library alone, it gives what training saw."""
    from tokenizers import Tokenizer

    assert (
        Tokenizer.from_str(bert.json).encode(given_text).ids
        == ids(bert, given_text, max_length=10_000)[0]
    )


def test_operators_of_tensorflow_give_the_same_ids(bert):
    from graft.export.convert.text_graph import tokenizer_graph

    texts = [
        "red apple.",
        "R\u00c9D \u00e4pple!",
        "\u7d05\u3044 apple",
        "red\u00a0apple\u3000a",
        "a\u200bred \x85 \x07 ball",
        "\U0001f600 red's",
        "",
        "  ",
        "x" * 10_000,
        "[CLS] red [SEP]",
        "red\tgreen\nblue",
        "\u00bd apple",
    ]
    made = tokenizer_graph(bert, 64)(np.array([t.encode() for t in texts]))
    lengths = made["padding_mask"].numpy().sum(-1)
    assert [
        row[:n].tolist() for row, n in zip(made["token_ids"].numpy(), lengths, strict=True)
    ] == ids(bert, *texts)
    cut = tokenizer_graph(bert, 5)(np.array([b"red green blue apple ball"]))
    assert cut["token_ids"].numpy().tolist() == ids(bert, "red green blue apple ball", max_length=5)


def test_keras_hubs_word_pieces_agree(bert):
    import keras_hub

    theirs = keras_hub.models.BertTokenizer(vocabulary=PIECES, lowercase=True, strip_accents=True)
    texts = ["red apple.", "R\u00c9D \u00e4pple!", "the stone's round", "rabe"]
    assert [[2, *np.asarray(theirs(t)).tolist(), 3] for t in texts] == ids(bert, *texts)


def test_byte_pairs_agree_with_keras_hub():
    import keras_hub

    vocabulary = [
        "<s>",
        "<pad>",
        "</s>",
        "<mask>",
        "r",
        "e",
        "d",
        "re",
        "red",
        "\u0120",
        "\u0120red",
        "a",
        "p",
        "l",
        "\u00c3",
        "\u00a9",
    ]
    merges = ["r e", "re d", "\u0120 red"]
    known = {piece: i for i, piece in enumerate(vocabulary)}
    ours = vocabularies.byte_level_tokenizer(known, merges, start="<s>", end="</s>", pad="<pad>")
    theirs = keras_hub.models.RobertaTokenizer(vocabulary=known, merges=merges)
    for given_text in ("red red", "re d", "apple", "\u00e9 red"):
        assert ids(ours, given_text) == [[0, *np.asarray(theirs(given_text)).tolist(), 2]]
    assert ours.pad_id == 1
    assert ours.kind == "BPE"


def test_unigrams_agree_with_keras_hub():
    import keras_hub
    import sentencepiece

    model = io.BytesIO()
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, 6)) for _ in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=45,
        model_type="unigram",
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        minloglevel=2,
    )
    ours = vocabularies.unigram_tokenizer(
        model.getvalue(), start="[CLS]", end="[SEP]", pad="[PAD]", tail=("[MASK]",)
    )
    theirs = keras_hub.models.DebertaV3Tokenizer(proto=model.getvalue())
    for given_text in (
        "the red apple",
        "  round   box ",
        "\uff52\uff45\uff44 stone",
        "a blue ball falls",
    ):
        assert ids(ours, given_text) == [[1, *np.asarray(theirs(given_text)).tolist(), 2]], (
            given_text
        )
    with pytest.raises(WeightsError, match="cannot be read"):
        vocabularies.unigram_tokenizer(
            b"nothing of the kind", start="[CLS]", end="[SEP]", pad="[PAD]"
        )


def test_xlm_roberta_counts_other_special_tokens():
    import keras_hub
    import sentencepiece

    model = io.BytesIO()
    lines = [" ".join(np.random.default_rng(i).choice(WORDS, 6)) for i in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=45,
        model_type="unigram",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        minloglevel=2,
    )
    ours = vocabularies.unigram_tokenizer(
        model.getvalue(),
        start="<s>",
        end="</s>",
        pad="<pad>",
        head=("<s>", "<pad>", "</s>", "<unk>"),
        tail=("<mask>",),
    )
    theirs = keras_hub.models.XLMRobertaTokenizer(proto=model.getvalue())
    for given_text in ("the red apple", "a blue ball @ falls"):
        assert ids(ours, given_text) == [[0, *np.asarray(theirs(given_text)).tolist(), 2]]
    assert ours.pad_id == 1


def test_words_of_a_text():
    said = "don't call @anna-b at 7:45 (it's 3.5\u00a0km), #ok?"
    assert text.split_words(said) == [
        "don",
        "'t",
        "call",
        "@anna-b",
        "at",
        "7:45",
        "(",
        "it",
        "'s",
        "3.5",
        "km",
        ")",
        ",",
        "#ok",
        "?",
    ]
