"""Several tasks on the same images: what is not known counts nothing, and weights do what their
papers say.
"""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from graft.recipes.codecs import pixels
from graft.recipes.codecs.augmentation import MIXERS
from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.codecs.targets import as_keras_takes
from graft.recipes.data import splits
from graft.recipes.report.shown_images import write_samples
from graft.recipes.runs.problem import Arm, Experiment, Problem
from graft.recipes.runs.supervised import Supervised
from graft.recipes.tasks import answers, verdicts
from graft.recipes.tasks.columns import load_task_table, parse_columns, tasks_of_table
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.labels import MultiLabelTask, SingleLabelTask
from graft.recipes.tasks.table import tasks_for
from graft.recipes.tasks.values import RegressionTask
from graft.recipes.tasks.vectors import EmbeddingTask
from graft.recipes.train.gradnorm import shared_by_all
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.graph.layers import ScaledHuber
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from tests.conftest import tiny_backbone
from tests.tiny import GREY, PLACE, tasked

PLACE_TASK, GREY_TASK = SingleLabelTask(PLACE, "place"), RegressionTask(GREY, "grey")
BOTH = Tasks((PLACE_TASK, GREY_TASK))


@pytest.fixture(scope="module")
def data():
    return {
        "train": tasked(48, gaps=0.3),
        "validation": tasked(12, 1, gaps=0.3),
        "test": tasked(12, 2),
    }


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (("a", "b"), [("a", "a", "single_label", 1.0), ("b", "b", "single_label", 1.0)]),
        (
            ("a=first", "b:multi_label"),
            [("a", "first", "single_label", 1.0), ("b", "b", "multi_label", 1.0)],
        ),
        (
            ("a", "b=years:regression:0.5"),
            [("a", "a", "single_label", 1.0), ("b", "years", "regression", 0.5)],
        ),
    ],
)
def test_tasks_are_read(specs, expected):
    assert [(t.name, t.column, t.kind, t.weight) for t in parse_columns(specs)] == expected


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (("a",), "two or more different ones, got a"),
        (("a", "a"), "two or more different ones"),
        (("a", "b:rank"), "the kind is one of single_label, multi_label, regression, not 'rank'"),
        (
            ("a", "b:regression:0"),
            "--tasks 'b:regression:0': a weight is above 0 and at most 1,000,000, not 0",
        ),
        (("a", "b:regression:inf"), "a weight is above 0 and at most 1,000,000, not inf"),
        (("a", "b:regression:nan"), "a weight is above 0 and at most 1,000,000, not nan"),
        (
            ("a", "input=kind"),
            "writes the image's path under 'input': call the task otherwise, like answer=kind",
        ),
        (("a", "b:regression:much"), "is not of the form NAME"),
        (("a", "1b"), "is not of the form NAME"),
        (("a", "b:regression:1:2"), "is not of the form NAME"),
    ],
)
def test_tasks_refused(specs, message):
    with pytest.raises(ConfigError, match=message):
        parse_columns(specs)


def test_options_refused():
    for name in MIXERS:
        with pytest.raises(ConfigError, match=f"--augment {name} mixes"):
            FitSettings(augment=(name,)).check_several_tasks()
    with pytest.raises(ConfigError, match="--class-weights is for one task"):
        FitSettings(class_weights=True).check_several_tasks()
    with pytest.raises(ConfigError, match="--mixed-precision is not made for several tasks yet"):
        FitSettings(mixed_precision=True).check_several_tasks()


@pytest.fixture
def table(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")

    def write(*rows, header="path,kind,age,tags"):
        (tmp_path / "t.csv").write_text("\n".join((header, *rows)) + "\n")
        return str(tmp_path / "t.csv")

    return write


GIVEN = parse_columns(("kind", "age:regression", "tags:multi_label"))


def test_a_table_becomes_targets(table):
    source = load_task_table(table("p.png,cat,3,a;b", "p.png,,5,", "p.png,dog,,b"), GIVEN)
    tasks = tasks_of_table(source, GIVEN)
    assert [task.labels for task in tasks] == [("cat", "dog"), ("age",), ("a", "b")]
    found = {task.name: task.targets(source.splits["train"]) for task in tasks}
    np.testing.assert_array_equal(found["kind"], [[1, 0], [np.nan, np.nan], [0, 1]])
    np.testing.assert_array_equal(found["age"], [[3], [5], [np.nan]])
    np.testing.assert_array_equal(found["tags"], [[1, 1], [np.nan, np.nan], [0, 1]])


def groups_of(written, *specs):
    return [
        example.group for example in load_task_table(written, parse_columns(specs)).splits["train"]
    ]


def test_splits_are_stratified_by_the_first_task_that_chooses_one_label(table, tmp_path):
    for i in range(14):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [
        f"{i}.png,{kind},{i}.5,a;b"
        for i, kind in enumerate(["cat"] * 6 + ["dog"] * 4 + ["eel"] * 2 + [""] * 2)
    ]
    kinds = ["cat"] * 6 + ["dog"] * 4 + [""] * 4
    assert groups_of(table(*rows), "age:regression", "kind") == kinds, (
        "rare and unknown ones are one group"
    )
    assert groups_of(table(*rows[:11]), "kind", "tags:multi_label") == ["cat"] * 6 + ["dog"] * 4 + [
        "cat"
    ]
    assert set(groups_of(table(*rows), "age:regression", "tags:multi_label")) == {""}, (
        "nothing to stratify by"
    )
    for written in (rows, rows[:11], rows[2:10] + rows[12:]):
        for specs in (("age:regression", "kind"), ("tags:multi_label", "age:regression")):
            given = parse_columns(specs)
            source, made = splits.complete(load_task_table(table(*written), given), 0)
            assert made == ("test", "validation")
            assert sum(map(len, source.splits.values())) == len(written)
    with pytest.raises(DataError, match=r"^'.*t.csv' has 3 different examples, too few to make"):
        splits.complete(
            load_task_table(
                table(*rows[:3]), parse_columns(("age:regression", "tags:multi_label"))
            ),
            0,
        )


def test_a_split_without_an_answer_is_refused_before_anything_trains(table):
    rows = (
        "p.png,cat,1,a,train",
        "p.png,dog,2,b,train",
        "p.png,cat,,b,validation",
        "p.png,cat,3,b,test",
    )
    source = load_task_table(table(*rows, header="path,kind,age,tags,split"), GIVEN)
    with pytest.raises(
        DataError,
        match="task 'age' of .* has no answer in the validation split: fill more cells of col",
    ):
        answers.check_splits(source, GIVEN)
    answers.check_splits(source, [GIVEN[0]])


def test_a_label_that_made_splits_take_away_from_training(table, tmp_path, capsys):
    """Splits are stratified by the first task: what only one image shows of another may be taken
    for the test.
    """
    for i in range(12):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    kinds = ["cat", "dog"] * 6

    def completed(place_of):
        rows = [f"{i}.png,{kind},{place_of(i)}" for i, kind in enumerate(kinds)]
        return splits.complete(load_task_table(table(*rows, header="path,kind,place"), given), 0)[0]

    given = parse_columns(("kind", "place"))
    taken = completed(lambda i: ("wet", "dry")[i % 2]).splits["test"][0].name
    of_taken = int(taken.removesuffix(".png"))
    source = completed(lambda i: "wet" if i == of_taken else "dry")
    with pytest.raises(
        DataError,
        match="task 'place' of .* has 'dry' alone to learn: 'wet' is in the test split, .*: fill more cells of",
    ):
        answers.check_splits(source, given)
    answers.check_splits(
        completed(lambda i: "wet" if i == of_taken else ("dry", "icy")[i // 6]), given
    )
    assert (
        "'wet' is in the test split, but not among the training answers: it cannot be"
        in capsys.readouterr().err
    )


def test_several_labels_of_which_there_is_one():
    task = MultiLabelTask(heads.multi_label(["spam"]))
    found = task.figures(np.float32([[0.9], [0.8], [0.1]]), np.float32([[1], [0], [0]]))
    assert found["per_class"] == {
        "spam": {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "examples": 1}
    }


def test_where_nothing_can_be_asked_the_figure_is_not_known():
    three = np.eye(3, dtype=np.float32)
    found = EmbeddingTask(heads.embedding(2)).figures(three, three)
    assert (found["recall_at_1"], found["recall_at_5"], found["queries"]) == (None, None, 0), (
        "one example of each label"
    )
    tasks = Tasks((MultiLabelTask(heads.multi_label(["a", "b"], name="tags")),))
    found = tasks.figures(
        {"tags": np.full((3, 2), 0.1, np.float32)}, {"tags": np.zeros((3, 2), np.float32)}
    )
    assert found["average_precision"] is None, "no example has a label"
    assert tasks.headline(found) is None


def test_a_single_answer_has_no_r2():
    one = tasked(3)
    one.targets["grey"][1:] = np.nan
    outputs = {"place": np.full((3, 3), 1 / 3, np.float32), "grey": np.float32([[1], [2], [3]])}
    found = BOTH.figures(outputs, one.targets)
    assert found["tasks"]["grey"]["r2"] is None
    assert BOTH.headline(found) == found["tasks"]["place"]["accuracy"]
    assert Tasks((GREY_TASK,)).headline(found) is None
    stated = [GREY_TASK.stated(found["tasks"]["grey"])]
    shared = verdicts.sharing("grey", GREY_TASK.kind.key, stated, stated)
    assert shared["text"] == "grey: too few test answers to say whether sharing helps"
    assert verdicts.sharing("x", "r2", [0.5], [0.25])["gain_points"] == [25.0]
    one.targets["grey"][:] = np.nan
    with pytest.raises(DataError, match="none of 3 examples has an answer to task 'grey'"):
        BOTH.figures(outputs, one.targets)


def test_the_images_of_one_task_stay_on_the_disk(data, monkeypatch):
    codec = ImageCodec(16)
    some = codec.only(PLACE_TASK, (), data["train"])
    monkeypatch.setattr(pixels, "IN_MEMORY_BYTES", 0)
    again = codec.only(PLACE_TASK, (), data["train"])
    assert isinstance(again.pixels, np.memmap)
    np.testing.assert_array_equal(again.pixels, some.pixels)
    assert again.targets.keys() == some.targets.keys() == {"place"}
    np.testing.assert_array_equal(again.targets["place"], some.targets["place"])
    assert again.names == some.names
    assert len(some) < len(data["train"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ("p.png,cat,old,a", "p.png,dog,1,b"),
            "line 2, column 'age': 'old' of task 'age' is no number",
        ),
        (
            ("p.png,cat,1,a", "p.png,dog,inf,b"),
            "line 3, column 'age': 'inf' of task 'age' is no number",
        ),
        (
            ("p.png,cat,1,a", "p.png,dog,-1e39,b"),
            r"line 3, column 'age': '-1e39' of task 'age' is too large: .*1e\+30",
        ),
        (("q.png,cat,1,a",), "line 2: there is no file"),
        (("p.png,,,", "p.png,dog,1,b"), "line 2: no task has an answer"),
        (("p.png,cat,1,a", "p.png,cat,2,b"), "task 'kind' of .* has one label only"),
        (
            ("p.png,cat,1,a", "p.png,dog,,b"),
            "task 'age' of .* has 1 answers to train on and needs 2: fill cells of its column "
            "'age', or leave",
        ),
        ((), "holds no rows: expected a row for each image"),
    ],
)
def test_tables_refused(table, rows, message):
    with pytest.raises(DataError, match=message):
        load_task_table(table(*rows), GIVEN)


def test_a_column_that_is_not_there_and_a_label_of_the_test_split_only(table, tmp_path):
    with pytest.raises(DataError, match="has no column 'colour': it has path, kind"):
        load_task_table(table("p.png,cat,1,a"), parse_columns(("kind", "colour")))
    rows = ("p.png,cat,1,a,train", "p.png,dog,2,b,train", "p.png,eel,2,b,test")
    with pytest.raises(DataError, match="the label 'eel' of task 'kind' occurs in test only"):
        load_task_table(table(*rows, header="path,kind,age,tags,split"), GIVEN)
    with pytest.raises(DataError, match="is no table: several tasks are read from a .csv"):
        load_task_table(str(tmp_path), GIVEN)
    with pytest.raises(
        DataError, match="there is no file 'nothere.csv': check the path given to --data"
    ):
        load_task_table("nothere.csv", GIVEN)


def test_what_is_only_measured_needs_nothing_to_train_on(table):
    rows = ("p.png,cat,1,a,test", "p.png,cat,2,a,test", "p.png,cat,,b,train")
    for written in (rows, rows[:2], rows[1:]):
        written = table(*written, header="path,kind,age,tags,split")
        with pytest.raises(DataError):
            load_task_table(written, GIVEN)
        source = load_task_table(written, GIVEN, to_train=False)
        assert splits.reuse(source, "test", None) == source.splits["test"]


def test_an_answer_counts_as_many_rows_as_there_are_to_one(data):
    rows = np.full((48, 1), np.nan, np.float32)
    rows[:3] = [[90], [120], [150]]
    targets = {"grey": rows, "place": np.ones((48, 3), "f4")}
    read = Images(data["train"].pixels, targets, data["train"].names).reader(seed=0)
    batches = [
        as_keras_takes(*read(step, np.arange(16 * step, 16 * step + 16)), gaps=True)
        for step in range(3)
    ]
    counts = np.concatenate([counted["grey"] for _, _, counted in batches])
    np.testing.assert_allclose(counts, [16.0] * 3 + [0.0] * 45)
    assert all((counted["place"] == 1).numpy().all() for _, _, counted in batches), (
        "this one has all answers"
    )
    said = keras.ops.full((16, 1), 100.0)
    losses = [
        float(GREY.loss()(targets["grey"], said, sample_weight=counted["grey"]))
        for _, targets, counted in batches
    ]
    assert losses[1:] == [0, 0], "a batch without an answer"
    assert np.mean(losses) == pytest.approx(float(GREY.loss()(rows[:3], said[:3])), rel=1e-5)


def test_a_training_by_itself_has_as_many_updates(data, tmp_path, monkeypatch):
    plans = {}

    def note_plan(self, name, plan, examples=None) -> Arm:
        plans[name] = plan
        figures = {"tasks": {task.name: {task.kind.key: None} for task in plan.tasks}}
        units = {task.name: np.zeros((1, 1)) for task in plan.tasks}
        return Arm([SimpleNamespace(seed=0, diverged={})], [figures], units)

    monkeypatch.setattr(Experiment, "train", note_plan)
    place, grey = data["train"].targets["place"].copy(), np.zeros((48, 1), np.float32)
    place[:9], place[9:] = 0, np.nan
    train = Images(data["train"].pixels, {"place": place, "grey": grey}, data["train"].names)
    phases = (Phase("head", "head", 2, 1e-3), Phase("all", "all", 5, 1e-4))
    settings = FitSettings(batch_size=4, patience=1)
    config = SimpleNamespace(fit=settings, seed=0, seeds=1)
    prepared = SimpleNamespace(splits=dict.fromkeys(data, ()))
    problem = Problem("multitask", prepared, BOTH, None, phases, Supervised(alone=True))
    examples = {**data, "train": train}
    problem.training(Experiment(problem, config, tmp_path, None, ImageCodec(16), examples, ()))
    assert [*plans] == ["transfer", "place alone", "grey alone"]
    longer = plans["place alone"]
    assert [phase.epochs for phase in longer.phases] == [12, 30], "12 steps an epoch, and 2"
    assert longer.settings.patience == 6
    assert (plans["grey alone"].phases, plans["grey alone"].settings) == (phases, settings)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_is_shown_by_whether_it_is_known(data, tmp_path, sign):
    """Not by whether it is above 0, as a label is."""
    part = data["train"]
    cold = Images(part.pixels, {"grey": sign * part.targets["grey"]}, part.names)
    known = np.flatnonzero(~np.isnan(part.targets["grey"][:, 0]))
    assert GREY_TASK.label_counts(cold.targets["grey"]) == {"grey": len(known)}
    write_samples(tmp_path, GREY_TASK, cold)
    with np.load(tmp_path / "samples.npz") as samples:
        np.testing.assert_array_equal(
            samples["images"], part.pixels[known[: len(samples["labels"])]]
        )
        assert len(samples["labels"])


def test_figures_of_large_values_are_numbers():
    truth = np.float32([[1e29], [-1e29], [5e29]])
    assert heads.regression(["far"]).score(truth / 2, truth)["r2"] == pytest.approx(0.6, abs=0.2)


def test_the_loss_of_values_does_not_depend_on_their_unit():
    truth, said = np.float32([[1.0], [5.0]]), np.float32([[2.0], [5.5]])
    a = ScaledHuber(2.0)(truth, said)
    b = ScaledHuber(2000.0)(1000 * truth, 1000 * said)
    assert float(a) == pytest.approx(float(b))
    again = keras.losses.deserialize(keras.losses.serialize(ScaledHuber(3.0)))
    assert again.scale == 3.0


def test_what_is_shared_by_all_is_found_wherever_a_phase_begins():
    from graft.zoo.graph.cuts import split_at, with_frozen_prefix
    from graft.zoo.graph.nodes import flatten

    model = stack(tiny_backbone(), [PLACE, GREY])
    pooled = model.get_layer("features").output
    assert shared_by_all(model) == (pooled,)
    assert shared_by_all(split_at(model, [pooled])[1]) == ()
    assert len(shared_by_all(flatten(with_frozen_prefix(model, [pooled])))) == 1
    (found,) = shared_by_all(split_at(model, [model.get_layer("block1_add").output])[1])
    assert found.shape == pooled.shape


@pytest.mark.parametrize(
    "asked",
    [
        [heads.multi_label("ab")],
        [heads.regression("x")],
        [heads.single_label("ab", name="one"), heads.single_label("ab", name="other")],
    ],
)
def test_class_weights_are_for_one_label_an_example(asked):
    """Before, photos with several labels were trained with weights that mean nothing for them."""
    settings = FitSettings(class_weights=True)
    with pytest.raises(ConfigError, match="--class-weights is for one label an example"):
        settings.check_tasks(tasks_for(asked))
    settings.check_tasks(tasks_for(heads.single_label("ab")))
    FitSettings().check_tasks(tasks_for(asked))
