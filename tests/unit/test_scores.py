"""The figure that each kind of answer is judged by: as scikit-learn has it, and under weights."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, r2_score

from graft.export.gate import Gate, accuracy
from graft.recipes.adapt import transferability
from graft.recipes.tasks.table import tasks_for
from graft.zoo.heads import heads, neighbours, scores, spans
from graft.zoo.heads.embedding import EMBEDDING, recall
from graft.zoo.heads.head import Head
from graft.zoo.heads.table import find_kind
from graft.zoo.heads.tags import entity_f1


def made(kind, n=60, seed=0):
    """(outputs, targets) of a model that is somewhat right."""
    rng = np.random.default_rng(seed)
    if kind == "regression":
        truth = np.stack([rng.normal(1000, 300, n), rng.normal(0, 1, n)], 1)
        return truth + rng.normal(0, 1, (n, 2)) * [100, 0.5], truth
    if kind == "multi_label":
        truth = rng.random((n, 4)) < [0.5, 0.3, 0.1, 0.0]
        return np.round(np.clip(truth * 0.3 + rng.random((n, 4)) * 0.7, 0, 1), 1), np.float32(truth)
    classes = rng.integers(0, 5, n)
    if kind == "embedding":
        vectors = np.eye(5)[classes] + rng.normal(0, 0.5, (n, 5))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.eye(5)[classes]
    return np.eye(5)[np.where(rng.random(n) < 0.8, classes, 0)], np.eye(5)[classes]


def score(kind: str, outputs: np.ndarray, targets: np.ndarray) -> scores.Score:
    return find_kind(kind).score(outputs, targets)


def figures_of(head: Head, outputs: np.ndarray, targets: np.ndarray) -> dict:
    return tasks_for(head).first.figures(outputs, targets)


def test_average_precision_is_scikit_learns_also_with_ties_and_under_weights():
    outputs, targets = made("multi_label")
    found = score("multi_label", outputs, targets)
    seen = targets.any(0)
    assert found.value == pytest.approx(average_precision_score(targets[:, seen], outputs[:, seen]))
    weights = scores.resamples(60, 5)
    for row, value in zip(weights, scores.mean_of_units(found.under(weights)), strict=True):
        wanted = average_precision_score(targets[:, seen], outputs[:, seen], sample_weight=row)
        assert value == pytest.approx(wanted)


def test_r2_is_scikit_learns_value_by_value():
    outputs, targets = made("regression")
    found = score("regression", outputs, targets)
    assert found.units == pytest.approx(r2_score(targets, outputs, multioutput="raw_values"))
    weights = scores.resamples(60, 4)
    for row, units in zip(weights, found.under(weights), strict=True):
        wanted = r2_score(targets, outputs, sample_weight=row, multioutput="raw_values")
        assert units == pytest.approx(wanted)


def test_what_does_not_vary_has_no_r2():
    assert np.isnan(score("regression", np.ones((4, 1)), np.ones((4, 1))).value)


@pytest.mark.parametrize("size", [1e-200, 1e-7, 1.0, 1e7, 1e200])
@pytest.mark.parametrize("middle", [0.0, 1.0])
def test_r2_does_not_depend_on_the_units(size, middle):
    """Before, targets with a spread of 1e-7 did not vary, so that perfect answers had no R²."""
    truth = (np.random.default_rng(0).normal(size=(50, 1)) + 1e3 * middle) * size
    assert score("regression", truth, truth).value == 1
    answers = truth + 0.1 * size
    expected = score("regression", answers / size, truth / size)
    found = score("regression", answers, truth)
    assert found.value == pytest.approx(expected.value)
    assert found.drawn(20) == pytest.approx(expected.drawn(20))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-7, 1e9])
def test_equal_targets_do_not_vary_whatever_their_size(value):
    flat = np.full((30, 1), value)
    flat[::2] *= 1 + 2e-16  # rounding
    assert np.isnan(score("regression", flat + 1, flat).value)


def tagged(n=60, seed=0):
    """(true, predicted) tags of `n` sentences, most of them without an entity."""
    rng = np.random.default_rng(seed)

    def draw(share):
        return [["B-a" if place else "O" for place in row] for row in rng.random((n, 6)) < share]

    truth = draw(0.1)
    return truth, [
        true if rng.random() < 0.6 else guess for true, guess in zip(truth, draw(0.1), strict=True)
    ]


@pytest.mark.parametrize("n", [2, 3, 20, 61])
@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "embedding", "tags"])
def test_leaving_one_out_is_exact(kind, n):
    """As under weights of 0, of which there are n times n."""
    for seed in range(5):
        made_of = (
            entity_f1(*tagged(n, seed)) if kind == "tags" else score(kind, *made(kind, n, seed))
        )
        np.testing.assert_allclose(
            made_of.without(), made_of.under(1 - np.eye(n)), rtol=1e-9, atol=1e-9
        )


def test_one_label_that_is_called_first_is_left_out_too():
    outputs, targets = np.array([[0.9], [0.5], [0.5], [0.1]]), np.array([[1], [0], [1], [0]])
    found = score("multi_label", outputs, targets)
    np.testing.assert_allclose(found.without(), found.under(1 - np.eye(4)))
    alone = score("multi_label", outputs, np.array([[0], [1], [0], [0]]))
    assert np.isnan(alone.without()[1, 0]), "without its only example a label has no figure"


@pytest.mark.parametrize("kind", ["multi_label", "regression", "tags"])
def test_what_each_example_contributes_takes_time_by_their_number(kind):
    """Before, 4,000 examples of 20 labels took 21 s, and four times that for twice as many."""
    n = 20_000
    made_of = entity_f1(*tagged(n)) if kind == "tags" else score(kind, *made(kind, n))
    start = time.process_time()
    units = scores.unit_scores(made_of)
    assert time.process_time() - start < 5
    assert units.mean() == pytest.approx(made_of.value, abs=1e-3)


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_resamples_are_drawn_a_stretch_at_a_time(kind, monkeypatch):
    found = score(kind, *made(kind))
    expected = found.under(scores.resamples(60, 50))
    monkeypatch.setattr(scores, "CHUNK", 7)
    np.testing.assert_allclose(found.drawn(50), expected)
    np.testing.assert_allclose(found.drawn(50, 1), expected[:, [1]])


def test_entities_are_counted_as_everywhere():
    truth = [["B-a", "I-a", "O"], ["O", "O"], ["B-b", "O", "B-a"]]
    guess = [["B-a", "O", "O"], ["O", "B-b"], ["B-b", "O", "B-a"]]
    assert entity_f1(truth, guess).value == pytest.approx(spans.scores(truth, guess)["f1"])
    assert np.isnan(entity_f1([["O"]], [["O"]]).value), "no entity, nothing to find"
    assert np.isnan(entity_f1([["O"]], [["B-a"]]).value), "nor does it depend on what was found"
    assert entity_f1([["O", "O"]], [["B-a", "O"]]).instead.value == 0.5


def test_who_is_alone_in_a_class_does_not_ask():
    vectors = np.eye(3)[[0, 0, 1]]
    found = score("embedding", vectors, np.eye(2)[[0, 0, 1]])
    assert found.value == 1
    assert np.isnan(found.right[2])


def twins(seed=0):
    """(vectors of length 1, of which each stands there three times, one-hot targets that differ
    among them).
    """
    rng = np.random.default_rng(seed)
    vectors = np.repeat(rng.normal(size=(30, 16)), 3, 0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.float32(vectors), np.eye(4, dtype=np.float32)[rng.integers(0, 4, 90)]


def rounded_otherwise(vectors, seed=1):
    """What another batch size or runtime makes of the same vectors."""
    noise = np.random.default_rng(seed).normal(0, 3e-7, vectors.shape)
    return np.float32(vectors + noise)


@pytest.mark.parametrize("count", [1, 5])
def test_a_tie_counts_by_chance_whatever_the_rounding(count):
    """Before, the first of equally near vectors was asked, and rounding chose which one that is."""
    vectors, targets = twins()
    found = recall(vectors, targets, count).right
    for other in (
        rounded_otherwise(vectors),
        vectors.astype(np.float64),
        rounded_otherwise(vectors, 2),
    ):
        np.testing.assert_allclose(recall(other, targets, count).right, found, atol=1e-9)
    order = np.random.default_rng(3).permutation(90)
    np.testing.assert_allclose(
        recall(vectors[order], targets[order], count).right, found[order], atol=1e-9
    )
    classes = targets.argmax(-1)
    if count == 1:
        wanted = [
            np.mean(np.delete(classes[i // 3 * 3 : i // 3 * 3 + 3], i % 3) == classes[i])
            for i in range(90)
        ]
        np.testing.assert_allclose(found, wanted)


def test_one_vector_for_everything_is_right_as_often_as_chance():
    targets = np.eye(4)[np.arange(40) % 4]
    same = np.tile(np.float32([0.6, 0.8]), (40, 1))
    assert score("embedding", same, targets).value == pytest.approx(9 / 39)
    drawn = 1 - np.prod([(30 - i) / (39 - i) for i in range(5)])
    assert recall(same, targets, 5).value == pytest.approx(drawn)
    assert neighbours.shared_nearest(same, np.eye(40)[:, ::-1] + 1e-3 * np.arange(40)).mean() < 0.1


def test_there_is_one_recall_at_1():
    """Before, there were three: a run stated one, its export found another one and refused it."""
    vectors, targets = twins()
    head = heads.embedding(16)
    stated = figures_of(head, vectors, targets)
    other = rounded_otherwise(vectors)
    found = accuracy(other, other, targets, Gate(EMBEDDING))
    assert found.value == pytest.approx(stated["recall_at_1"])
    assert stated["recall_at_1"] == pytest.approx(head.score(vectors, targets)["recall_at_1"])
    assert stated["recall_at_1"] <= stated["recall_at_5"] <= 1
    assert accuracy(vectors, other, None, Gate(EMBEDDING)).drop_points == pytest.approx(0)
    lonely = np.eye(90, dtype=np.float32)
    assert figures_of(head, vectors, lonely)["recall_at_1"] is None
    assert head.score(vectors, lonely) == {"recall_at_1": None}


def test_a_head_and_a_gate_know_one_figure():
    for kind, head in (
        ("multi_label", heads.multi_label("abcd")),
        ("regression", heads.regression("ab")),
    ):
        outputs, targets = made(kind)
        said = figures_of(head, outputs, targets)[find_kind(kind).key]
        assert said == pytest.approx(score(kind, outputs, targets).value)
    flat = heads.regression("a").score(np.ones((3, 1)), np.ones((3, 1)))
    assert flat == {"mean_absolute_error": 0.0, "r2": None}


def test_vectors_that_are_no_numbers_are_near_nothing():
    vectors, targets = twins()
    vectors[::2] = np.nan
    right = score("embedding", vectors, targets).right
    assert (right[::2] == 0).all()
    assert (neighbours.alike_among_nearest(vectors[:1], np.zeros(1, int), 1)) == [0]


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["single_label", "multi_label", "regression", "embedding"]),
    st.integers(0, 1000),
)
def test_a_whole_number_of_copies_changes_no_figure(kind, seed):
    outputs, targets = made(kind, seed=seed)
    found = score(kind, outputs, targets)
    thrice = found.under(np.full((1, 60), 3.0))[0]
    assert thrice == pytest.approx(found.units, nan_ok=True)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression", "embedding"])
def test_unit_scores_have_the_figure_for_a_mean_and_the_bootstraps_error(kind):
    outputs, targets = made(kind, 200)
    found = score(kind, outputs, targets)
    units = scores.unit_scores(found)
    assert units.mean() == pytest.approx(found.value, abs=0.02)
    drawn = scores.mean_of_units(found.drawn(2000)).std()
    assert units.std() / np.sqrt(200) == pytest.approx(drawn, rel=0.25)


def test_the_nearest_are_those_of_a_stable_sort_whatever_the_stretch(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, (60, 3)).astype(np.float32)  # many equally near ones
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    expected = np.argsort(-similarity, -1, kind="stable")
    for held in (1, 100, 2**22):
        monkeypatch.setattr(neighbours, "COMPARED", held)
        for count in (1, 5, 200):
            np.testing.assert_array_equal(
                neighbours.nearest_others(vectors, count), expected[:, : min(count, 59)]
            )
    np.testing.assert_array_equal(
        neighbours.nearest_others(vectors, 5, np.array([7, 3])), expected[[7, 3], :5]
    )
    assert neighbours.nearest_others(vectors[:1], 5).shape == (1, 0)


@pytest.mark.parametrize("figure", ["retrieval", "score", "head", "agreement", "knn"])
def test_figures_of_neighbours_take_memory_by_the_number_of_examples_not_its_square(figure):
    """5,000 x 5,000 similarities alone take 100 MB."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5000, 8)).astype(np.float32)
    targets = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 5000)]
    classes = targets.argmax(-1)
    measure = {
        "retrieval": lambda: figures_of(heads.embedding(8), vectors, targets),
        "score": lambda: score("embedding", vectors, targets),
        "head": lambda: heads.embedding(8).score(vectors, targets),
        "agreement": lambda: neighbours.shared_nearest(vectors, vectors),
        "knn": lambda: transferability.knn_accuracy(vectors, classes),
    }[figure]
    tracemalloc.start()
    measure()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6
