"""What is said of the data before a training: unreadable texts, classes of unequal size."""

import numpy as np
import pytest

from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.data.records import Sentence
from graft.recipes.runs import hints
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.settings import FitSettings
from graft.zoo import vocabularies
from graft.zoo.backbones import encoders
from graft.zoo.heads import heads

HEAD = heads.single_label(["dog", "cat"])
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "box", "a", "##s"]


def encoded(*texts):
    sentences = [Sentence(t, "dog", str(i), group="dog") for i, t in enumerate(texts)]
    tokenizer = vocabularies.word_piece_tokenizer(PIECES, lowercase=True)
    return TextCodec(tokenizer, ("token_ids",), 16).encode(sentences, tasks_for(HEAD))


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["red box", "a box"], 0.0),
        (["red dog"], 0.5),
        (["red", "مرحبا"], 0.5),
        (["你好", "box"], 2 / 3),
        (["red " * 40], 0),
    ],
)
def test_unknown_tokens_are_counted_without_special_ones(texts, share):
    assert encoded(*texts).unknown_share == pytest.approx(share)


def test_bytes_have_no_unknown_tokens():
    pieces = {chr(c): i for i, c in enumerate(range(33, 127))}
    tokenizer = vocabularies.byte_level_tokenizer(pieces, [], start=None, end=None, pad=None)
    assert tokenizer.unknown_id is None
    assert tokenizer.unknown_share(tokenizer.encode(["ab"], 8)[0]) == 0.0


def test_a_warning_names_the_script_and_encoders_that_read_it():
    row = encoders.find_encoder("graft_mini_en")
    (said,) = hints.unknown_tokens(
        {"training": encoded("مرحبا بالعالم", "red"), "unlabelled": encoded("a box")}, row
    )
    assert said.startswith(
        "66.7% of the tokens of the training texts (80% of their letters are Arabic) are unknown "
        "([UNK])"
    )
    assert (
        "to the tokenizer of 'graft_mini_en' and tell the model nothing: take a multilingual "
        "encoder" in said
    )
    named = said.split("--backbone ")[1].split(" (")[0].split(", ")
    assert named, said
    assert {encoders.find_encoder(name).multilingual for name in named} == {True}
    assert "--backbone FOLDER" in said
    of_multi = hints.unknown_tokens(
        {"training": encoded("你好")}, encoders.find_encoder("bert_base_multi")
    )[0]
    assert "bert_base_multi," not in of_multi.split("take")[1].replace(
        "distil_bert_base_multi,", ""
    )
    assert "letters are Chinese characters" in of_multi
    (both,) = hints.unknown_tokens(
        {"training": encoded("你好"), "unlabelled": encoded("red", "你")}, row
    )
    assert "100.0% of the tokens of the training texts" in both
    assert "and 50.0% of the tokens of the unlabelled texts" in both
    assert not hints.unknown_tokens({"training": encoded("red red red red dog")}, row), (
        "20 % and less"
    )


def test_unequal_classes_are_told_of_class_weights(capsys):
    def said(counts, head=HEAD, **settings):
        targets = {head.name: np.repeat(np.eye(len(counts)), counts, 0)}
        return hints.class_weights(tasks_for(head), targets, FitSettings(**settings))

    (text,) = said((12, 3))
    assert (
        "'dog' has 4.0 times as many training examples as 'cat' (12 and 3): --class-weights" in text
    )
    assert "hint: 'dog'" in " ".join(capsys.readouterr().err.split())
    assert said((11, 3)) == []
    assert said((12, 3), class_weights=True) == []
    assert said((12, 3), heads.multi_label(["a", "b"])) == []
    assert "'[/b] dog'" in said((3, 12), heads.single_label(["cat", "[/b] dog"]))[0]
