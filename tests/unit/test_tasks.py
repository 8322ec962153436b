"""Several tasks on the same pictures: what is not known counts nothing, and weights do what their papers say."""

import keras
import numpy as np
import pytest
from keras import layers

from recipes.engine import evaluation, images, splits, task_run, tasks, text_evaluation
from recipes.engine.augmentation import MIXERS
from recipes.engine.fit import predict, train
from recipes.engine.gradnorm import GradNorm, shared_by_all
from recipes.engine.images import Images
from recipes.engine.schedule import Phase
from recipes.engine.settings import FitSettings
from recipes.engine.store import Store
from tests.conftest import tiny_backbone
from tests.tiny import pictures
from tests.unit.test_resume import Killed
from zoo import heads
from zoo.errors import ConfigError, DataError
from zoo.heads import Tasks
from zoo.layers import ScaledHuber
from zoo.stack import stack

PLACE = heads.single_label(["left", "right", "top"], name="place")
ALL = (Phase("all", "all", 4, 0.01, batch_norm="train"),)
HEAD_FIRST = (Phase("head", "head", 2, 0.01), Phase("top", 2, 2, 0.01))
GREY = heads.regression(["grey"], name="grey", centre=120.0, scale=20.0)


def tasked(count, seed=0, gaps=0.0):
    plain = pictures(count, seed)
    grey = plain.pixels.mean((1, 2, 3))[:, None].astype(np.float32)
    rng = np.random.default_rng(seed)
    place = plain.targets.copy()
    place[rng.random(count) < gaps] = np.nan
    grey[rng.random(count) < gaps] = np.nan
    return Images(plain.pixels, {"place": place, "grey": grey}, plain.names, ())


@pytest.fixture(scope="module")
def data():
    return {"train": tasked(48, gaps=0.3), "validation": tasked(12, 1, gaps=0.3), "test": tasked(12, 2)}


def fitted(data, together, store=None, phases=ALL, **settings):
    build = lambda: stack(tiny_backbone(), together)  # noqa: E731
    settings = FitSettings(batch_size=8, cache_dtype="float32", **settings)
    model, (result,) = train(build, together, phases, data, [0], settings, store=store)
    return model, result


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (("a", "b"), [("a", "a", "single_label", 1.0), ("b", "b", "single_label", 1.0)]),
        (("a=first", "b:multi_label"), [("a", "first", "single_label", 1.0), ("b", "b", "multi_label", 1.0)]),
        (("a", "b=years:regression:0.5"), [("a", "a", "single_label", 1.0), ("b", "years", "regression", 0.5)]),
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
        (("a", "b:regression:0"), "a weight is above 0, not 0"),
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
    from PIL import Image

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


def test_splits_are_stratified_by_the_first_task_that_chooses_one_label(table):
    rows = [f"p.png,{kind},{i}.5,a;b" for i, kind in enumerate(["cat"] * 6 + ["dog"] * 4 + ["eel"] * 2 + [""] * 2)]
    kinds = ["cat"] * 6 + ["dog"] * 4 + [""] * 4
    assert groups_of(table(*rows), "age:regression", "kind") == kinds, "rare and unknown ones are one group"
    assert groups_of(table(*rows[:11]), "kind", "tags:multi_label") == ["cat"] * 6 + ["dog"] * 4 + ["cat"]
    assert set(groups_of(table(*rows), "age:regression", "tags:multi_label")) == {""}, "nothing to stratify by"
    for written in (rows, rows[:11], rows[2:10] + rows[12:]):
        for specs in (("age:regression", "kind"), ("tags:multi_label", "age:regression")):
            given = tasks.parse(specs)
            source, made = splits.complete(tasks.load(table(*written), given), 0)
            assert made == ("test", "validation")
            assert sum(map(len, source.splits.values())) == len(written)
    with pytest.raises(DataError, match=r"^'.*t.csv' has 3 examples, too few to make"):
        splits.complete(tasks.load(table(*rows[:3]), tasks.parse(("age:regression", "tags:multi_label"))), 0)


def test_a_split_without_an_answer_is_refused_before_anything_trains(table):
    rows = ("p.png,cat,1,a,train", "p.png,dog,2,b,train", "p.png,cat,,b,validation", "p.png,cat,3,b,test")
    source = tasks.load(table(*rows, header="path,kind,age,tags,split"), GIVEN)
    with pytest.raises(
        DataError, match="task 'age' of .* has no answer in the validation split: fill cells of its column"
    ):
        tasks.check_answers(source, GIVEN)
    tasks.check_answers(source, [GIVEN[0]])


def test_a_single_answer_has_no_r2():
    one = tasked(3)
    one.targets["grey"][1:] = np.nan
    outputs = {"place": np.full((3, 3), 1 / 3, np.float32), "grey": np.float32([[1], [2], [3]])}
    found = tasks.figures((PLACE, GREY), outputs, one)
    assert found["tasks"]["grey"]["r2"] is None
    assert text_evaluation.headline((PLACE, GREY), found) == found["tasks"]["place"]["accuracy"]
    assert text_evaluation.headline([GREY], found["tasks"]["grey"]) is None
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
        (("p.png,cat,old,a", "p.png,dog,1,b"), "line 2: 'old' of task 'age' is no number"),
        (("q.png,cat,1,a",), "line 2: there is no file"),
        (("p.png,,,", "p.png,dog,1,b"), "line 2: no task has an answer"),
        (("p.png,cat,1,a", "p.png,cat,2,b"), "task 'kind' of .* has one label only"),
        (("p.png,cat,1,a", "p.png,dog,,b"), "task 'age' of .* has 1 training examples: it needs 2"),
    ],
)
def test_tables_refused(table, rows, message):
    with pytest.raises(DataError, match=message):
        tasks.load(table(*rows), GIVEN)


def test_a_column_that_is_not_there_and_a_label_of_the_test_split_only(table):
    with pytest.raises(DataError, match="has no column 'colour': it has path, kind"):
        tasks.load(table("p.png,cat,1,a"), tasks.parse(("kind", "colour")))
    rows = ("p.png,cat,1,a,train", "p.png,dog,2,b,train", "p.png,eel,2,b,test")
    with pytest.raises(DataError, match="the label 'eel' of task 'kind' occurs in test only"):
        tasks.load(table(*rows, header="path,kind,age,tags,split"), GIVEN)
    with pytest.raises(DataError, match="is no table"):
        tasks.load("photos/", GIVEN)


def test_the_loss_of_values_does_not_depend_on_their_unit():
    truth, said = np.float32([[1.0], [5.0]]), np.float32([[2.0], [5.5]])
    a = ScaledHuber(2.0)(truth, said)
    b = ScaledHuber(2000.0)(1000 * truth, 1000 * said)
    assert float(a) == pytest.approx(float(b))
    again = keras.losses.deserialize(keras.losses.serialize(ScaledHuber(3.0)))
    assert again.scale == 3.0


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "gradnorm"])
def test_what_is_not_known_counts_nothing(data, weighting):
    """Whatever stands where an answer is missing, the same model comes out."""
    together = Tasks(
        (PLACE, GREY), None if weighting == "uncertainty" else (1.0, 0.5), balanced=weighting == "gradnorm"
    )
    model, result = fitted(data, together)
    assert np.isfinite([row["val_loss"] for row in result.history]).all()
    outputs = predict(model, data["test"])[0]
    figures = tasks.figures((PLACE, GREY), outputs, data["test"])["tasks"]
    assert figures["place"]["accuracy"] > 0.6
    assert set(outputs) == {"place", "grey"}
    # Rows of which nothing is known could as well not be there.
    empty = {
        name: np.concatenate([rows, np.full_like(rows[:8], np.nan)])
        for name, rows in data["validation"].targets.items()
    }
    more = data["validation"]
    pixels = np.concatenate([more.pixels, more.pixels[:8]])
    longer = {**data, "validation": Images(pixels, empty, more.names + more.names[:8], ())}
    _, again = fitted(longer, together)
    for a, b in zip(result.history, again.history, strict=True):
        assert a["val_place_accuracy"] == pytest.approx(b["val_place_accuracy"], abs=1e-6)


def test_cached_features_serve_several_tasks(data, tmp_path):
    together = Tasks((PLACE, GREY), (1.0, 1.0))
    phases = (Phase("head", "head", 2, 0.01), Phase("top", 2, 2, 0.01))
    _, plain = fitted(data, together, phases=phases)
    _, cached = fitted(data, together, Store(tmp_path), phases=phases)
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(plain.weights, cached.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-4)


@pytest.mark.parametrize("weighting", ["uncertainty", "gradnorm"])
def test_weights_are_found_with_and_without_cached_features(data, tmp_path, weighting):
    """Behind cached features the tasks share nothing but the inputs; behind a frozen prefix the rest is nested."""
    balanced = weighting == "gradnorm"
    together = Tasks((PLACE, GREY), (1.0, 1.0) if balanced else None, balanced=balanced)
    _, plain = fitted(data, together, phases=HEAD_FIRST)
    _, cached = fitted(data, together, Store(tmp_path), phases=HEAD_FIRST)
    assert [phase["cached"] for phase in cached.phases] == [True, True]
    for a, b in zip(plain.history[:2], cached.history[:2], strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-3)
    assert np.isfinite([row["val_loss"] for row in (*plain.history, *cached.history)]).all()


def test_what_is_shared_by_all_is_found_wherever_a_phase_begins():
    from zoo.cuts import flatten, split, with_frozen_prefix

    model = stack(tiny_backbone(), [PLACE, GREY])
    pooled = model.get_layer("features").output
    assert shared_by_all(model) == (pooled,)
    assert shared_by_all(split(model, [pooled])[1]) == ()
    assert len(shared_by_all(flatten(with_frozen_prefix(model, [pooled])))) == 1
    (found,) = shared_by_all(split(model, [model.get_layer("block1_add").output])[1])
    assert found.shape == pooled.shape


def test_gradnorm_begins_anew_with_each_seed_and_goes_on_after_a_kill(data, tmp_path, monkeypatch):
    from recipes.engine.checkpoint import Checkpoints

    together = Tasks((PLACE, GREY), (1.0, 0.5), balanced=True)

    def run(seeds, folder=None):
        build = lambda: stack(tiny_backbone(), together)  # noqa: E731
        return train(build, together, ALL, data, seeds, FitSettings(batch_size=8), folder=folder)[1]

    expected = run([3, 4])
    (alone,) = run([4])
    for a, b in zip(expected[1].weights, alone.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    write, count = Checkpoints._write, [0]

    def counting(self, *args):
        write(self, *args)
        count[0] += 1
        if count[0] == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_write", counting)
        with pytest.raises(Killed):
            run([3, 4], tmp_path)
    for a, b in zip(run([3, 4], tmp_path), expected, strict=True):
        for x, y in zip(a.weights, b.weights, strict=True):
            np.testing.assert_array_equal(x, y)


def test_gradnorm_gives_weight_to_the_task_whose_gradient_is_small():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")(inputs)
    outputs = {name: layers.Dense(1, name=name)(shared) for name in ("loud", "quiet")}
    made = [heads.regression([name], name=name, scale=scale) for name, scale in (("loud", 0.01), ("quiet", 10.0))]
    model = GradNorm(keras.Model(inputs, outputs), Tasks(tuple(made), (1.0, 1.0), balanced=True))
    model.compile("sgd", loss={head.name: head.loss() for head in made})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = {name: rng.normal(size=(64, 1)).astype("float32") for name in outputs}
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    loud, quiet = np.asarray(model.task_weights)
    assert loud < 1 < quiet
    assert loud + quiet == pytest.approx(2.0, abs=1e-4)
    assert (np.asarray(model.first) > 0).all()
