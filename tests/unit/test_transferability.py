"""Scores before training: what they must not depend on, and cases whose value is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from graft.recipes.adapt import transferability
from graft.recipes.adapt.transferability import h_score, knn_accuracy, leep, log_me, scores

SPREAD = (0.2, 1.0, 3.0)


def features(seed: int, spread: float, n: int = 60, d: int = 8, classes: int = 3):
    """Gaussian clouds, `spread` wide, around means one apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.normal(size=(classes, d))[labels] + spread * rng.normal(size=(n, d)), labels


@pytest.mark.parametrize("score", [log_me, h_score, knn_accuracy])
def test_tighter_clouds_score_higher(score):
    found = [np.mean([score(*features(seed, spread)) for seed in range(5)]) for spread in SPREAD]
    assert found == sorted(found, reverse=True)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(SPREAD),
    st.sampled_from([log_me, h_score, knn_accuracy]),
)
def test_neither_names_of_classes_nor_rotations_nor_order_matter(seed, spread, score):
    rows, labels = features(seed, spread)
    rng = np.random.default_rng(seed + 1)
    rotation = np.linalg.qr(rng.normal(size=(rows.shape[1],) * 2))[0]
    renamed = np.array([2, 0, 1])[labels]
    order = rng.permutation(len(rows))
    expected = score(rows, labels)
    for changed in ((rows @ rotation, labels), (rows, renamed), (rows[order], labels[order])):
        assert score(*changed) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_log_me_is_the_largest_evidence():
    """Against the density of the targets itself, at the best of a fine grid of prior and noise
    precisions.
    """
    rows, labels = features(3, 1.0, n=30, d=4)
    best = []
    for c in range(3):
        y = np.float64(labels == c)
        best.append(
            max(
                stats.multivariate_normal.logpdf(
                    y, cov=rows @ rows.T / alpha + np.eye(len(y)) / beta
                )
                / len(y)
                for alpha in np.geomspace(1e-2, 1e4, 61)
                for beta in np.geomspace(1e-1, 1e3, 61)
            )
        )
    assert log_me(rows, labels) == pytest.approx(np.mean(best), abs=2e-3)


def test_log_me_with_more_features_than_examples():
    rows, labels = features(0, 1.0, n=20, d=64)
    assert np.isfinite(log_me(rows, labels))
    padded = np.concatenate(
        [rows, np.zeros((20, 30))], -1
    )  # features that say nothing change nothing
    assert log_me(padded, labels) == pytest.approx(log_me(rows, labels), abs=1e-6)


def test_knn_accuracy_leaves_the_example_itself_out():
    rows = np.eye(4)  # each is its own only near neighbour, and all others are equally far
    assert knn_accuracy(np.repeat(rows, 2, 0), np.repeat(np.arange(4), 2)) == 1
    assert knn_accuracy(np.eye(2), np.array([0, 1])) == 0


def test_leep_of_a_source_that_tells_all_and_of_one_that_tells_nothing():
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert leep(np.eye(3)[labels], labels) == pytest.approx(0)
    assert leep(np.full((6, 4), 0.25), labels) == pytest.approx(np.log(1 / 3))


def test_all_scores_have_a_description():
    rows, labels = features(0, 1.0)
    assert scores(rows, labels).keys() == transferability.SCORES.keys()
    assert scores(rows, labels)["leep"] is None
    assert scores(rows, labels, np.eye(3)[labels])["leep"] == pytest.approx(0)
