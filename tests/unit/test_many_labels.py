"""The figures of two classes and of many, and a run of 1,500 labels whose run.json stays small."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn import metrics

from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.data.prepared import PreparedData
from graft.recipes.data.records import Source
from graft.recipes.image_classification import Config
from graft.recipes.report import report, wording
from graft.recipes.report.drawing import figures
from graft.recipes.report.run_file import read_confusion, read_run
from graft.recipes.runs.problem import Arm, Experiment, Outcome, Problem
from graft.recipes.runs.supervised import Supervised
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.settings import FitSettings
from graft.zoo.files.writing import format_json
from graft.zoo.heads import heads
from tests.unit.test_report import Page, facts

TWO = heads.single_label(["healthy", "ill"])
MANY = 1500


def answers(count, labels, seed=0, right=0.7):
    """Outputs and one-hot targets, of which about a share is right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, count)
    outputs = rng.dirichlet(np.ones(labels), count).astype(np.float32)
    sure = rng.random(count) < right
    outputs[sure] = 0.2 * outputs[sure] + 0.8 * np.eye(labels, dtype=np.float32)[truth[sure]]
    return outputs, np.eye(labels, dtype=np.float32)[truth]


def figures_of(head, outputs, targets):
    return tasks_for(head).first.figures(outputs, targets)


def test_the_figures_of_two_classes_are_those_of_scikit_learn():
    outputs, targets = answers(200, 2)
    found, truth, said = (
        figures_of(TWO, outputs, targets),
        targets[:, 1] > 0,
        outputs[:, 1] > outputs[:, 0],
    )
    assert found["positive_class"] == "ill"
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth, outputs[:, 1]))
    assert found["average_precision"] == pytest.approx(
        metrics.average_precision_score(truth, outputs[:, 1])
    )
    assert found["sensitivity"] == pytest.approx(metrics.recall_score(truth, said))
    assert found["specificity"] == pytest.approx(metrics.recall_score(~truth, ~said))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(truth, said))
    assert found["balanced_accuracy"] == pytest.approx(
        (found["sensitivity"] + found["specificity"]) / 2
    )
    text = wording.further_text(found, "accuracy")
    assert text.startswith("balanced accuracy 0.")
    assert text.endswith("(positive class: 'ill')")


def test_many_classes_have_macro_f1_and_balanced_accuracy_but_no_positive_class():
    outputs, targets = answers(120, 9)
    targets[:, 7:] = 0  # two classes do not occur
    keep = targets.any(-1)
    outputs, targets = outputs[keep], targets[keep]
    found = figures_of(heads.single_label([*"abcdefghi"]), outputs, targets)
    truth, said = targets.argmax(-1), outputs.argmax(-1)
    assert found["macro_f1"] == pytest.approx(
        metrics.f1_score(truth, said, average="macro", zero_division=0)
    )
    recalls = [np.mean(said[truth == c] == c) for c in np.unique(truth)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert not {"auc", "sensitivity", "positive_class"} & set(found)


@pytest.mark.parametrize("present", [0, 1])
def test_a_class_that_does_not_occur_has_no_figure(present):
    outputs, targets = answers(20, 2)
    targets = np.eye(2)[np.full(20, present)]
    found = figures_of(TWO, outputs, targets)
    assert found["auc"] is None
    assert found["sensitivity" if present == 0 else "specificity"] is None
    assert "not known" in wording.further_text(found, "accuracy")
    json.dumps(found, allow_nan=False)


def test_several_labels_have_figures_of_their_own_names():
    head = heads.multi_label([*"abc"])
    targets = np.float32([[1, 0, 0], [0, 1, 1]])
    found = figures_of(head, np.float32([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1]]), targets)
    assert found["binary_accuracy"] == pytest.approx(5 / 6)
    assert found["exact_match"] == 0.5
    assert "accuracy" not in found, (
        "Keras's binary accuracy and the exact match would have one name"
    )


def test_json_for_people_is_json():
    content = {
        "a": [1, 2.5, None],
        "b": {"c": {"d": "é\n\"'"}, "e": []},
        "f": [{"g": 1}, [[1], [2]]],
        3: {True: {}},
        "n": "",
    }
    assert json.loads(format_json(content)) == json.loads(json.dumps(content))
    assert '"a": [1, 2.5, null]' in format_json(content)
    assert format_json({}) == "{}"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A run of 1,500 labels with long names, as the recipe for images writes it; nothing is
    trained.
    """
    import keras

    from graft.recipes.runs.writing import write_run
    from graft.zoo.graph.stack import stack

    labels = tuple(f"category number {i:04d}, somewhat long" for i in range(MANY))
    head, rng = heads.single_label(labels), np.random.default_rng(0)

    def images(count):
        targets = np.eye(MANY, dtype=np.float32)[np.arange(count) % MANY]
        pixels = np.uint8(rng.integers(0, 255, (count, 8, 8, 3)))
        return Images(pixels, {head.name: targets}, tuple(map(str, range(count))))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    stem = keras.layers.Conv2D(8, 3, strides=2, name="stem")(inputs)
    model = stack(keras.Model(inputs, stem, name="tiny"), [head])
    parts = {"train": images(3 * MANY), "validation": images(MANY), "test": images(2 * MANY)}
    known, folder = facts(labels[:2]), tmp_path_factory.mktemp("many")
    data = PreparedData(Source("made", labels, dict.fromkeys(parts, ())), (), "f00d")
    backbone = SimpleNamespace(describe=lambda model: known["backbone"])
    problem = Problem("image-classification", data, tasks_for(head), backbone, (), Supervised())
    config = Config(data="made", out=folder, backbone="mobilenet_v2", schedule="fine_tune")
    phases = known["schedule"]["phases"]
    experiment = Experiment(problem, config, folder, None, ImageCodec(8), parts, phases)
    kept = SimpleNamespace(
        seed=0,
        seconds=1.0,
        phases=[{}] * len(phases),
        history=[{"phase": "head", "seconds": 1.0, "loss": 7.0, "val_loss": 7.0}],
        kept={"phase": 0, "epoch": 1, "row": 0, "watched": "loss", "value": 7.0, "rule": "best"},
    )
    found = {"duplicates": 0, "warnings": [], "hints": [], "floor": None}
    write_run(folder, model, experiment, Outcome(kept, {"verdict": None}), found)
    return folder, model, problem.tasks.first, parts["test"]


def test_run_json_of_1500_labels_stays_below_a_megabyte(many):
    from graft.recipes.train import fit

    folder, model, task, test = many
    assert (folder / "run.json").stat().st_size < 1_000_000
    content = read_run(folder)
    assert content["confusion"] == {"split": "test", "file": "confusion.npz"}
    whole = read_confusion(folder, content)
    outputs = fit.predict(model, test)[0]
    np.testing.assert_array_equal(whole["matrix"], task.confusion(outputs, test.targets[task.name]))
    assert len(content["metrics"]["test"]["per_class"]) == MANY


def test_the_report_of_1500_labels_shows_the_most_confused_pairs(many):
    folder = many[0]
    page = Page(report.write(folder).read_text(encoding="utf-8"))
    assert not page.broken
    assert "Most frequent confusions" in page.text
    assert "category number" in page.text[page.text.index("Most frequent confusions") :]
    assert "labels of 1500 that have most to do with mistakes" in page.text


def test_pairs_are_the_most_frequent_ones():
    matrix = np.zeros((MANY, MANY), int)
    np.fill_diagonal(matrix, 5)
    matrix[3, 8], matrix[1200, 7] = 9, 4
    pairs = figures.confusion_table(matrix, [str(i) for i in range(MANY)], 120)["pairs"]
    assert [(pair["truth"], pair["predicted"], pair["count"]) for pair in pairs] == [
        ("3", "8", 9),
        ("1200", "7", 4),
    ]


def test_a_run_of_before_holds_its_matrix(tmp_path):
    content = facts()
    (tmp_path / "run.json").write_text(json.dumps(content))
    assert read_confusion(tmp_path, content)["matrix"].tolist() == content["confusion"]["matrix"]
    assert read_confusion(tmp_path, {**content, "confusion": None}) is None


@pytest.mark.parametrize(
    ("measured", "kept"),
    [
        (
            {"accuracy": 0.5, "per_class": {"a": {}}, "tasks": {"x": {"accuracy": 0.5}}},
            {"accuracy": 0.5, "tasks": {"x": {"accuracy": 0.5}}},
        ),
        (
            {"examples": 2, "tasks": {"x": {"accuracy": 0.5, "per_class": {"a": {}}}}},
            {"examples": 2, "tasks": {"x": {"accuracy": 0.5}}},
        ),
    ],
)
def test_figures_by_seed_are_without_labels(measured, kept):
    trained = SimpleNamespace(seed=0, diverged={})
    experiment = SimpleNamespace(
        problem=SimpleNamespace(tasks=tasks_for(heads.single_label("ab", name="x")), phases=()),
        plan=lambda phases: None,
        train=lambda name, plan: Arm([trained], [measured], {"x": np.ones((1, 2))}),
        config=SimpleNamespace(fit=FitSettings()),
    )
    assert Supervised()(experiment).facts["test_by_seed"] == [kept]
