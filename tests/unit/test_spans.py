"""Entities are counted as seqeval counts them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.data.records import Sentence
from graft.recipes.tasks.table import tasks_for
from graft.zoo.heads.heads import tags
from graft.zoo.heads.spans import scores, spans
from graft.zoo.vocabularies import word_piece_tokenizer

WORDS = word_piece_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "x"], lowercase=True)
TAGS = ("O", "B-per", "I-per", "B-place", "I-place")


def test_spans_of_a_sentence():
    assert spans(["B-per", "I-per", "O", "B-place", "B-place"]) == {
        ("per", 0, 2),
        ("place", 3, 4),
        ("place", 4, 5),
    }
    assert spans([]) == set()


def test_what_iob2_forbids_begins_an_entity_all_the_same():
    assert spans(["I-per", "I-place"]) == {("per", 0, 1), ("place", 1, 2)}


def test_a_wrong_end_is_a_wrong_entity():
    found = scores([["B-per", "I-per", "O"]], [["B-per", "O", "O"]])
    assert (found["precision"], found["recall"], found["f1"], found["entities"]) == (0, 0, 0, 1)


sentence = st.lists(st.sampled_from(TAGS), min_size=1, max_size=8)


@given(st.lists(st.tuples(sentence, sentence), min_size=1, max_size=6))
@settings(deadline=None)
def test_the_figures_are_those_of_seqeval(pairs):
    seqeval = pytest.importorskip("seqeval.metrics")
    truth = [a for a, _ in pairs]
    guess = [(b * 8)[: len(a)] for a, b in pairs]
    ours = scores(truth, guess)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            f(truth, guess)
            for f in (seqeval.precision_score, seqeval.recall_score, seqeval.f1_score)
        ]
    mine = [ours["precision"], ours["recall"], ours["f1"]]
    if any(map(spans, truth + guess)):
        assert mine == pytest.approx(theirs)
    else:  # where there is nothing seqeval says 0, as of a model that finds nothing
        assert np.isnan(mine).all()


def test_without_any_entity_nothing_can_be_said():
    found = scores([["O", "O"], ["O"]], [["O", "O"], ["O"]])
    assert np.isnan([found["precision"], found["recall"], found["f1"]]).all()
    assert (found["entities"], found["per_type"]) == (0, {})
    assert scores([["O"]], [["B-per"]])["f1"] == 0  # a false alarm is a mistake


def test_figures_of_sentences_without_entities_are_not_known():
    tasks = tasks_for(tags(("O", "B-per")))
    codec = TextCodec(WORDS, ("token_ids",), max_length=8)
    texts = codec.encode([Sentence("x", "", "1", ("x",), ("O",))], tasks)
    answers = np.array([[1.0, 0.0]] * int(texts.ids.lengths.sum()))
    found = tasks.figures({"tags": answers}, texts.targets)
    assert (found["f1"], found["precision"], found["recall"], found["accuracy"]) == (
        None,
        None,
        None,
        1.0,
    )
    assert tasks.headline(found) is None
