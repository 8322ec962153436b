"""What counting words gives: TF-IDF and logistic regression, the floor under every text classifier.

Term frequencies, weighted by how rare a term is (Salton and Buckley 1988,
doi:10.1016/0306-4573(88)90021-0), and a logistic regression for each label; of one label the most
probable is taken. Terms are words and pairs of words; where the training texts are written without
spaces, as Chinese, Japanese and Thai, up to four characters in a row. Nothing in it is random, and
the test split chooses nothing: the strength of the regularization is chosen on the validation
split.
"""

import re
import sys
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.zoo.heads.kind import Kind
from graft.zoo.text import script_shares

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

__all__ = ["NAME", "CountedWords", "count_words", "figure_of"]

NAME = "TF-IDF + logistic regression"
WORDS, CHARACTERS = "words and pairs of words", "one to four characters in a row"
"""What is counted."""

GRID = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse strengths of the regularization to choose from, scikit-learn's C."""
ONE_C = 10.0
"""Where trying all of them takes too long."""
MOST_TERMS = 200_000
MOST_WEIGHTS = 8_000_000
"""Terms times labels; with many labels only the most frequent terms are counted."""
GRID_UP_TO, WORK_UP_TO = 5 * 10**6, 4 * 10**8
"""Counted terms of all training texts times labels; a million take about a second for one C."""

UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
    "YI",
    "JAVANESE",
    "BALINESE",
)
"""Scripts without spaces between words, as Unicode names them."""
UNSPACED_SHARE = 0.2
"""Of the letters: a character of these script_shares says more than a letter of others."""
LONGEST_WORD = 20
"""Letters in a word on average, above which texts have no words, whatever their script: sequences,
codes.
"""


@dataclass(frozen=True)
class CountedWords:
    """A trained model.

    Attributes:
        vectorizer: texts -> weighted counts.
        columns: a classifier for each label, where one of two labels holds for the second alone;
            or, where a label holds of all or of none of the training texts, 1.0 or 0.0.
        kind: of the answers: one label, or any number.
        C: inverse strength of the regularization.
        counted: WORDS or CHARACTERS.
    """

    vectorizer: "TfidfVectorizer"
    columns: tuple["LogisticRegression | float", ...]
    kind: Kind
    C: float
    counted: str

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities `(n, labels)`; of one label those of each row sum to 1."""
        features = self.vectorizer.transform(texts)
        found = [
            np.full(len(texts), column)
            if isinstance(column, float)
            else column.predict_proba(features)[:, 1]
            for column in self.columns
        ]
        rows = np.stack(found, -1)
        if self.kind.confident and len(found) == 1:
            return np.hstack([1 - rows, rows])
        if not self.kind.confident:
            return rows
        return rows / np.maximum(rows.sum(-1, keepdims=True), 1e-12)


def count_words(
    train: tuple[Sequence[str], np.ndarray],
    validation: tuple[Sequence[str], np.ndarray],
    kind: Kind,
) -> CountedWords | None:
    """Count the terms of the training texts and learn from them.

    Args:
        train: texts, and targets `(n, labels)` as a head of this kind takes them.
        validation: the same, to choose C by.
        kind: of the answers: one label, or any number.

    Returns:
        The model with the best figure on the validation texts, of equal ones the most regularized;
        None where there are so many texts and labels that it would take many minutes.
    """
    from threadpoolctl import threadpool_limits

    texts, targets = train[0], np.asarray(train[1]) >= 0.5
    vectorizer, features, counted = _count(texts, targets.shape[1])
    learned = targets.T[1:] if kind.confident and targets.shape[1] == 2 else targets.T
    work = features.nnz * len(learned)
    if work > WORK_UP_TO:
        return None
    models = (
        CountedWords(
            vectorizer, tuple(_learn(features, column, c) for column in learned), kind, c, counted
        )
        for c in (GRID if work <= GRID_UP_TO else (ONE_C,))
    )
    # Threads that wait for one another made it ten times slower.
    with threadpool_limits(1):
        return max(models, key=lambda model: np.nan_to_num(figure_of(model, validation), nan=-1.0))


def figure_of(model: CountedWords, known: tuple[Sequence[str], np.ndarray]) -> float:
    """The figure of its answers to texts with targets."""
    texts, targets = known
    return model.kind.score(model.predict(texts), np.asarray(targets)).value


def _learn(features: Any, truth: np.ndarray, c: float) -> "LogisticRegression | float":
    """A classifier of the `features` `(n, terms)` of texts of which a label holds where `truth`
    `(n,)` is.
    """
    from sklearn.linear_model import LogisticRegression

    if truth.all() or not truth.any():
        return float(truth[0])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the last digit of a weight that has not settled changes no answer
        # liblinear: on sparse counts ten times quicker than the default.
        return LogisticRegression(C=c, solver="liblinear", max_iter=1000).fit(features, truth)


def _count(texts: Sequence[str], labels: int) -> tuple:
    """(vectorizer, counts of the training `texts`, what was counted)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    most = min(MOST_TERMS, max(1000, MOST_WEIGHTS // labels))
    if not _has_no_words(texts):
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=_word(), max_features=most)
        try:
            return vectorizer, vectorizer.fit_transform(texts), WORDS
        except ValueError:  # no text has a word of two letters: emoji, digits, marks
            pass
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), max_features=most)
    return vectorizer, vectorizer.fit_transform(texts), CHARACTERS


def _has_no_words(texts: Sequence[str]) -> bool:
    """Whether the texts are written without spaces between words."""
    if (
        sum(share for script, share in script_shares(texts).items() if script in UNSPACED)
        >= UNSPACED_SHARE
    ):
        return True
    words = [len(word) for text in texts for word in re.findall(_word(), text)]
    return bool(words and np.mean(words) > LONGEST_WORD)


@cache
def _word() -> str:
    """A pattern of words: two letters or more in a row, as scikit-learn has it, with the vowel
    signs of Indic script_shares and the points of Arabic and Hebrew inside; to a regular expression
    these are no letters.
    """
    marks = (
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)).startswith("M")
    )
    return rf"(?u)\w[\w{''.join(marks)}]+"
