"""Several tasks on the same pictures: what is not known counts nothing, and weights do what their
papers say.
"""

import keras
import numpy as np
import pytest
from PIL import Image

from graft.recipes.codecs import images
from graft.recipes.codecs.augmentation import MIXERS
from graft.recipes.data import answers, splits, tasks
from graft.recipes.feed import pipeline
from graft.recipes.runs import task_run
from graft.recipes.tasks import evaluation, head_evaluation
from graft.recipes.train.gradnorm import shared_by_all
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.graph.layers import ScaledHuber
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from tests.conftest import tiny_backbone
from tests.tiny import GREY, PLACE, tasked


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
    assert [(t.name, t.column, t.kind, t.weight) for t in tasks.parse(specs)] == expected


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
            "writes the picture's path under 'input': call the task otherwise, like answer=kind",
        ),
        (("a", "b:regression:much"), "is not of the form NAME"),
        (("a", "1b"), "is not of the form NAME"),
        (("a", "b:regression:1:2"), "is not of the form NAME"),
    ],
)
def test_tasks_refused(specs, message):
    with pytest.raises(ConfigError, match=message):
        tasks.parse(specs)


def test_options_refused():
    for name in MIXERS:
        with pytest.raises(ConfigError, match=f"--augment {name} mixes"):
            tasks.check(FitSettings(augment=(name,)))
    with pytest.raises(ConfigError, match="--class-weights is for one task"):
        tasks.check(FitSettings(class_weights=True))
    with pytest.raises(ConfigError, match="--mixed-precision is not made for several tasks yet"):
        tasks.check(FitSettings(mixed_precision=True))


@pytest.fixture
def table(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")

    def write(*rows, header="path,kind,age,tags"):
        (tmp_path / "t.csv").write_text("\n".join((header, *rows)) + "\n")
        return str(tmp_path / "t.csv")

    return write


GIVEN = tasks.parse(("kind", "age:regression", "tags:multi_label"))


def test_a_table_becomes_targets(table):
    source = tasks.load(table("p.png,cat,3,a;b", "p.png,,5,", "p.png,dog,,b"), GIVEN)
    made = tasks.heads_of(GIVEN, source, 0.0)
    assert [head.labels for head in made] == [("cat", "dog"), ("age",), ("a", "b")]
    found = tasks.targets_of(made, source.splits["train"])
    np.testing.assert_array_equal(found["kind"], [[1, 0], [np.nan, np.nan], [0, 1]])
    np.testing.assert_array_equal(found["age"], [[3], [5], [np.nan]])
    np.testing.assert_array_equal(found["tags"], [[1, 1], [np.nan, np.nan], [0, 1]])


def groups_of(written, *specs):
    return [example.group for example in tasks.load(written, tasks.parse(specs)).splits["train"]]


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
            given = tasks.parse(specs)
            source, made = splits.complete(tasks.load(table(*written), given), 0)
            assert made == ("test", "validation")
            assert sum(map(len, source.splits.values())) == len(written)
    with pytest.raises(DataError, match=r"^'.*t.csv' has 3 different examples, too few to make"):
        splits.complete(
            tasks.load(table(*rows[:3]), tasks.parse(("age:regression", "tags:multi_label"))), 0
        )


def test_a_split_without_an_answer_is_refused_before_anything_trains(table):
    rows = (
        "p.png,cat,1,a,train",
        "p.png,dog,2,b,train",
        "p.png,cat,,b,validation",
        "p.png,cat,3,b,test",
    )
    source = tasks.load(table(*rows, header="path,kind,age,tags,split"), GIVEN)
    with pytest.raises(
        DataError,
        match="task 'age' of .* has no answer in the validation split: fill more cells of col",
    ):
        answers.check_splits(source, GIVEN)
    answers.check_splits(source, [GIVEN[0]])


def test_a_label_that_made_splits_take_away_from_training(table, tmp_path, capsys):
    """Splits are stratified by the first task: what only one picture shows of another may be taken
    for the test.
    """
    for i in range(12):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    kinds = ["cat", "dog"] * 6

    def completed(place_of):
        rows = [f"{i}.png,{kind},{place_of(i)}" for i, kind in enumerate(kinds)]
        return splits.complete(tasks.load(table(*rows, header="path,kind,place"), given), 0)[0]

    given = tasks.parse(("kind", "place"))
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
    head = heads.multi_label(["spam"])
    found = head_evaluation.figures_of(
        head, np.float32([[0.9], [0.8], [0.1]]), np.float32([[1], [0], [0]])
    )
    assert found["per_class"] == {
        "spam": {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "examples": 1}
    }


def test_where_nothing_can_be_asked_the_figure_is_not_known():
    head = heads.embedding(2)
    found = head_evaluation.figures_of(
        head, np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    )
    assert (found["recall_at_1"], found["recall_at_5"], found["queries"]) == (None, None, 0), (
        "one example of each label"
    )
    head = heads.multi_label(["a", "b"])
    found = head_evaluation.figures_of(
        head, np.full((3, 2), 0.1, np.float32), np.zeros((3, 2), np.float32)
    )
    assert found["average_precision"] is None, "no example has a label"
    assert head_evaluation.headline([head], found) is None


def test_a_single_answer_has_no_r2():
    one = tasked(3)
    one.targets["grey"][1:] = np.nan
    outputs = {"place": np.full((3, 3), 1 / 3, np.float32), "grey": np.float32([[1], [2], [3]])}
    found = tasks.figures((PLACE, GREY), outputs, one)
    assert found["tasks"]["grey"]["r2"] is None
    assert head_evaluation.headline((PLACE, GREY), found) == found["tasks"]["place"]["accuracy"]
    assert head_evaluation.headline([GREY], found["tasks"]["grey"]) is None
    shared = task_run.sharing(GREY, [found], [found["tasks"]["grey"]])
    assert shared["text"] == "grey: too few test answers to say whether sharing helps"
    assert evaluation.sharing("x", "r2", [0.5], [0.25])["gain_points"] == [25.0]
    one.targets["grey"][:] = np.nan
    with pytest.raises(DataError, match="none of 3 pictures has an answer to task 'grey'"):
        tasks.figures((PLACE, GREY), outputs, one)


def test_the_pictures_of_one_task_stay_on_the_disk(data, monkeypatch):
    some = task_run.alone({"train": data["train"]}, PLACE)["train"]
    monkeypatch.setattr(images, "IN_MEMORY_BYTES", 0)
    again = task_run.alone({"train": data["train"]}, PLACE)["train"]
    assert isinstance(again.pixels, np.memmap)
    np.testing.assert_array_equal(again.pixels, some.pixels)
    np.testing.assert_array_equal(again.targets, some.targets)
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
        ((), "holds no rows: expected a row for each picture"),
    ],
)
def test_tables_refused(table, rows, message):
    with pytest.raises(DataError, match=message):
        tasks.load(table(*rows), GIVEN)


def test_a_column_that_is_not_there_and_a_label_of_the_test_split_only(table, tmp_path):
    with pytest.raises(DataError, match="has no column 'colour': it has path, kind"):
        tasks.load(table("p.png,cat,1,a"), tasks.parse(("kind", "colour")))
    rows = ("p.png,cat,1,a,train", "p.png,dog,2,b,train", "p.png,eel,2,b,test")
    with pytest.raises(DataError, match="the label 'eel' of task 'kind' occurs in test only"):
        tasks.load(table(*rows, header="path,kind,age,tags,split"), GIVEN)
    with pytest.raises(DataError, match="is no table: several tasks are read from a .csv"):
        tasks.load(str(tmp_path), GIVEN)
    with pytest.raises(
        DataError, match="there is no file 'nothere.csv': check the path given to --data"
    ):
        tasks.load("nothere.csv", GIVEN)


def test_what_is_only_measured_needs_nothing_to_train_on(table):
    rows = ("p.png,cat,1,a,test", "p.png,cat,2,a,test", "p.png,cat,,b,train")
    for written in (rows, rows[:2], rows[1:]):
        written = table(*written, header="path,kind,age,tags,split")
        with pytest.raises(DataError):
            tasks.load(written, GIVEN)
        source = tasks.load(written, GIVEN, to_train=False)
        assert splits.reuse(source, "test", None) == source.splits["test"]


def test_an_answer_counts_as_many_rows_as_there_are_to_one(data):
    rows = np.full((48, 1), np.nan, np.float32)
    rows[:3] = [[90], [120], [150]]
    some = images.Images(
        data["train"].pixels,
        {"grey": rows, "place": np.ones((48, 3), "f4")},
        data["train"].names,
        (),
    )
    batches = list(pipeline.known_only(pipeline.evaluation_batches(some, 16)))
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


def test_a_training_by_itself_has_as_many_updates(data):
    phases = (Phase("head", "head", 2, 1e-3), Phase("all", "all", 5, 1e-4))
    own = images.take(
        images.Images(
            data["train"].pixels, data["train"].targets["place"], data["train"].names, ()
        ),
        np.arange(9),
    )
    longer, settings = task_run.as_long(
        phases, FitSettings(batch_size=4, patience=1), data["train"], own
    )
    assert [phase.epochs for phase in longer] == [12, 30], "12 steps an epoch, and 2"
    assert settings.patience == 6
    assert task_run.as_long(phases, FitSettings(), data["train"], data["train"]) == (
        phases,
        FitSettings(),
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_is_shown_by_whether_it_is_known(data, tmp_path, sign):
    """Not by whether it is above 0, as a label is."""
    part = data["train"]
    cold = images.Images(
        part.pixels, {**part.targets, "grey": sign * part.targets["grey"]}, part.names, ()
    )
    known = np.flatnonzero(~np.isnan(part.targets["grey"][:, 0]))
    source = tasks.Source("table.csv", (), {})
    described = task_run.describe_data(source, {"train": cold}, (GREY, PLACE), (), 0, "", 0)
    assert described["splits"]["train"]["per_label"] == {"grey": len(known)}
    task_run._write_examples(tmp_path, {"train": cold, "validation": cold}, (GREY, PLACE))
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
