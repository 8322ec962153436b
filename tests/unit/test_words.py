"""How a text is cut into words: the rule is the one that comes nearest to the words of the training
file.
"""

import pytest

from graft.zoo.errors import ArtifactError
from graft.zoo.words import choose_word_rule, cut_words, given_words, written_text

MAIL = [("send", "bob@post.com", "today"), ("send", "$42.50", "today")]


@pytest.mark.parametrize(
    ("sentences", "text", "expected"),
    [
        (MAIL, "send bob@post.com today", ["send", "bob@post.com", "today"]),
        (MAIL, 'mail "bob@post.com", now!', ["mail", '"', "bob@post.com", '"', ",", "now", "!"]),
        ([("go", "to", "Rome."), ("stay,", "please")], "go to Oslo.", ["go", "to", "Oslo."]),
        (
            [("He", "saw", "Rome", ".")],
            "He saw U.K., now.",
            ["He", "saw", "U.K", ".", ",", "now", "."],
        ),
        ([("John", "'s", "car")], "Ann's house", ["Ann", "'s", "house"]),
        ([("don't", "go")], "can't go", ["can't", "go"]),
        (
            [("see", "https://a.org/b?c=1", ".")],
            "see https://b.org/x?y=2.",
            ["see", "https://b.org/x?y=2", "."],
        ),
        ([("AC/DC", "&", "C++")], "C++ & R/S", ["C++", "&", "R/S"]),
    ],
)
def test_texts_are_cut_as_the_training_file_is(sentences, text, expected):
    """Before, one regular expression cut all: "bob" for bob@post.com."""
    rule = choose_word_rule(sentences)
    assert (rule.lost, rule.warning) == (0, None)
    found = cut_words(text, rule.name)
    assert [word for word, _, _ in found] == expected
    assert [text[start:end] for _, start, end in found] == expected


def test_words_that_no_rule_finds_are_counted():
    rule = choose_word_rule(
        [("I", "do", "n't", "know"), ("go", "on"), tuple("\u6211\u7231\u5317\u4eac")]
    )
    assert (rule.sentences, rule.lost) == (3, 2)
    assert "2 of 3 training sentences" in rule.warning
    assert "--words" in rule.warning


def test_sentences_as_people_write_them():
    assert written_text(["Hello", ",", "(", "dear", ")", "Ann", "!"]) == "Hello, (dear) Ann!"
    assert written_text(["do", "n't", "and", "John", "'s"]) == "don't and John's"
    assert written_text(list("\u5317\u4eac")) == "\u5317\u4eac"


def test_artifacts_of_before_cut_as_before():
    text = "send bob@post.com"
    assert cut_words(text, True) == cut_words(text, "pattern") == cut_words(text)
    assert [word for word, _, _ in cut_words(text, True)] == ["send", "bob", "@post.com"]
    with pytest.raises(ArtifactError, match="by the rule 'syllables'"):
        cut_words(text, "syllables")


def test_words_know_their_places():
    text, words = given_words(["New York", "is", "big"])
    assert text == "New York is big"
    assert [text[start:end] for _, start, end in words] == ["New York", "is", "big"]
