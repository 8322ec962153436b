"""Several tasks on the same pictures: what is not known counts nothing, and weights do what their papers say."""

import keras
import numpy as np
import pytest
from keras import layers

from recipes.engine import tasks
from recipes.engine.augmentation import MIXERS
from recipes.engine.fit import predict, train
from recipes.engine.gradnorm import GradNorm
from recipes.engine.images import Images
from recipes.engine.schedule import Phase
from recipes.engine.settings import FitSettings
from recipes.engine.store import Store
from tests.conftest import tiny_backbone
from tests.tiny import pictures
from zoo import heads
from zoo.errors import ConfigError, DataError
from zoo.heads import Tasks
from zoo.layers import ScaledHuber
from zoo.stack import stack

PLACE = heads.single_label(["left", "right", "top"], name="place")
ALL = (Phase("all", "all", 4, 0.01, batch_norm="train"),)
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
