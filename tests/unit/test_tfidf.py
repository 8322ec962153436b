"""Counted words beside every text classifier: what is counted, which model is better, and that it
is said plainly.
"""

import numpy as np
import pytest

from graft.recipes.codecs.targets import Ragged
from graft.recipes.codecs.texts import Texts
from graft.recipes.tasks import tfidf
from graft.recipes.tasks.counted_words import (
    Floor,
    compare_with_counted_words,
    measure_counted_words,
)
from graft.recipes.tasks.table import tasks_for
from graft.recipes.tasks.tfidf import count_words, figure_of
from graft.zoo.heads import heads
from graft.zoo.heads.multi_label import MULTI_LABEL
from graft.zoo.heads.single_label import SINGLE_LABEL

HEAD = heads.single_label(["bad", "good"])
ENGLISH = {
    "good": ["fine film", "a lovely plot", "lovely and fine"],
    "bad": ["dull film", "a poor plot", "poor and dull"],
}
CHINESE = {
    "good": ["这部电影很好看", "我喜欢这个故事", "好看的故事"],
    "bad": ["这部电影很难看", "我讨厌这个故事", "难看的故事"],
}


def table(said, repeats=4):
    """Texts with one-hot targets, labels in order."""
    labels = sorted(said)
    texts = [text for label in labels for text in said[label]] * repeats
    numbers = [i for i, label in enumerate(labels) for _ in said[label]] * repeats
    return texts, np.eye(len(labels), dtype=np.float32)[numbers]


def encoded(texts, targets, head=HEAD):
    """The same as a split of a run; the ids are of no matter here."""
    ids = Ragged.of([np.arange(2 + len(text.split()), dtype=np.int32) for text in texts])
    names = tuple(texts)
    return Texts(ids, {head.name: targets}, names, names, ("token_ids",), pad_id=0, max_length=32)


def measured(train, test=None, target=None, head=HEAD):
    """Counted words on splits, of which the training texts are the validation texts too."""
    parts = {"train": train, "validation": train, "test": test or train}
    return measure_counted_words(tasks_for(head), parts, target)


def right(floor: Floor):
    """Answers that are what is right."""
    return compare_with_counted_words(floor, floor.targets)


@pytest.mark.parametrize(
    ("texts", "counted"),
    [
        (["the film was fine", "a dull plot"], tfidf.WORDS),
        (["Der Film war schön", "ein öder Film"], tfidf.WORDS),
        (["फ़िल्म अच्छी थी", "कहानी बुरी थी"], tfidf.WORDS),
        (["영화가 좋았다", "이야기가 나빴다"], tfidf.WORDS),
        (["كان الفيلم جيدا", "القصة سيئة"], tfidf.WORDS),
        (["这部电影很好看", "我讨厌这个故事 (DVD)"], tfidf.CHARACTERS),
        (["とても面白い映画", "つまらない話"], tfidf.CHARACTERS),
        (["หนังเรื่องนี้สนุกมาก", "เรื่องน่าเบื่อ"], tfidf.CHARACTERS),
        (["ACGT" * 20, "GGCA" * 20], tfidf.CHARACTERS),
        (["👍👍", ":-)", "!"], tfidf.CHARACTERS),
        (["a", "b c"], tfidf.CHARACTERS),
    ],
)
def test_the_training_texts_say_what_is_counted(texts, counted):
    targets = np.eye(2)[np.arange(len(texts)) % 2]
    assert count_words((texts, targets), (texts, targets), SINGLE_LABEL).counted == counted


def test_vowel_signs_stay_inside_their_words():
    model = count_words(
        (["हिन्दी में", "नमस्ते"], np.eye(2)), (["हिन्दी", "नमस्ते"], np.eye(2)), SINGLE_LABEL
    )
    assert {"हिन्दी", "में", "नमस्ते"} <= set(model.vectorizer.vocabulary_)


@pytest.mark.parametrize("said", [ENGLISH, CHINESE], ids=["words", "characters"])
def test_it_learns_and_says_the_same_each_time(said):
    train = table(said)
    first, second = (count_words(train, train, SINGLE_LABEL) for _ in range(2))
    outputs = first.predict(train[0])
    np.testing.assert_array_equal(outputs, second.predict(train[0]))
    np.testing.assert_allclose(outputs.sum(-1), 1)
    assert figure_of(first, train) == 1.0


def test_c_is_chosen_on_the_validation_split(monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(40)]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(300)]
    truth = np.array([text.count("word1") + 0.7 * rng.normal() > 1.2 for text in texts]).astype(int)
    train, validation = (texts[:150], np.eye(2)[truth[:150]]), (texts[150:], np.eye(2)[truth[150:]])
    chosen = count_words(train, validation, SINGLE_LABEL)
    reached = {}
    for c in tfidf.GRID:
        monkeypatch.setattr(tfidf, "GRID", (c,))
        reached[c] = figure_of(count_words(train, validation, SINGLE_LABEL), validation)
    assert figure_of(chosen, validation) == max(reached.values()) == reached[chosen.C]
    assert len(set(reached.values())) > 1, "nothing would be chosen"


def test_several_labels_and_labels_that_always_or_never_hold():
    texts = ["red round", "red square", "green round", "green square"] * 5
    targets = np.float32([["red" in t, "round" in t, True, False] for t in texts])
    outputs = count_words((texts, targets), (texts, targets), MULTI_LABEL).predict(texts)
    assert outputs.shape == (20, 4)
    np.testing.assert_array_equal(outputs >= 0.5, targets >= 0.5)
    np.testing.assert_array_equal(outputs[:, 2:], targets[:, 2:])
    alone = count_words((texts, targets[:, :1]), (texts, targets[:, :1]), MULTI_LABEL).predict(
        texts
    )
    np.testing.assert_array_equal(alone >= 0.5, targets[:, :1] >= 0.5)


def test_many_labels_have_fewer_terms_and_too_many_are_left(monkeypatch):
    train = table(ENGLISH)
    monkeypatch.setattr(tfidf, "GRID_UP_TO", 1)
    assert count_words(train, train, SINGLE_LABEL).C == tfidf.ONE_C
    monkeypatch.setattr(tfidf, "WORK_UP_TO", 1)
    made = right(measured(encoded(*train)))
    assert made["decision"] is None
    assert "were not measured" in made["text"]


def compared(outputs, count=60):
    """The comparison on texts of which counted words get all right; `outputs` make answers of the
    targets.
    """
    floor = measured(encoded(*table(ENGLISH, count // 6)))
    return compare_with_counted_words(floor, outputs(floor.targets))


def test_counted_words_that_are_better_are_said_to_be_better():
    made = compared(lambda targets: np.tile([0.6, 0.4], (len(targets), 1)))
    assert made["decision"] == "lost"
    assert (made["trained"], made["value"], made["examples"]) == (0.5, 1.0, 60)
    assert made["text"].startswith(
        "counted words (TF-IDF + logistic regression) are better than the model: test accuracy "
        "1.000 against 0.500, "
        "+50.0 points (95 % interval +3"
    )
    assert made["text"].endswith("60 test examples): take them, or another encoder (--backbone)")


def test_what_cannot_be_told_apart_is_said_so():
    def nearly(targets):
        outputs = targets.copy()
        outputs[:1] = 1 - outputs[:1]
        return outputs

    made = compared(nearly)
    assert made["decision"] == "undecided"
    assert "cannot be told apart: test accuracy 0.983 against 1.000, -1.7 points" in made["text"]


def test_a_model_that_is_better_is_said_to_be_better():
    train, test = table(ENGLISH), table({"good": ["excellent"], "bad": ["excellent"]}, 30)
    made = right(measured(encoded(*train), encoded(*test)))
    assert made["decision"] == "gained"
    assert made["text"].startswith(
        "the model is better than counted words (TF-IDF + logistic regression): test accuracy 1.000"
    )


def test_tasks_that_choose_no_label_of_a_text_have_no_floor():
    head = heads.embedding(4)
    assert measured(encoded(*table(ENGLISH), head), head=head) is None


def test_the_target_of_an_adaptation_is_what_counts():
    train, target = table(ENGLISH), table({"good": ["fine"], "bad": ["dull"]})
    floor = measured(encoded(*train), target=encoded(*target))
    assert "target accuracy" in right(floor)["text"]


def test_the_difference_is_that_of_the_two_figures_also_where_they_are_no_means():
    """Before, the mean of pseudo-values: "1.000 against 0.524, +61.3 points (+18.4 to +104.2)"."""
    head = heads.multi_label(["bad", "good"])
    floor = measured(encoded(*table(ENGLISH, repeats=1), head), head=head)
    outputs = np.random.default_rng(1).random(floor.targets.shape)
    made = compare_with_counted_words(floor, outputs)
    assert made["value"] > made["trained"]
    assert made["mean_points"] == pytest.approx(100 * (made["trained"] - made["value"]))
    assert -100 <= made["interval"][0] < made["interval"][1] <= 100
