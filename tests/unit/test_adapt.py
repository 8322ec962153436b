"""Losses of examples without labels against their definitions; what adapts, and what is chosen
by.
"""

import importlib
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from graft.recipes.adapt import (
    afterwards,
    catalogue,
    domains,
    gallery,
    methods,
    outcome,
    pretext,
    selection,
)
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.codecs.targets import Ragged
from graft.recipes.codecs.texts import Texts
from graft.recipes.data.prepared import PreparedData
from graft.recipes.data.records import Example, Sentence, Source
from graft.recipes.feed import pipeline
from graft.recipes.runs import run_facts
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train.fit import train
from graft.recipes.train.joint import Joint, Method, Part, hidden_of
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError, DataError, UnknownName
from graft.zoo.graph.layers import GradientReversal
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads
from tests.conftest import tiny_backbone as tiny
from tests.tiny import HEAD, builder, normalization, pictures, plan_of, two_domains

RNG = np.random.default_rng(0)


def part(count, shift=0.0, width=6, labels=3):
    features = np.float32(RNG.normal(shift, 1.0, (count, width)))
    outputs = np.float32(RNG.dirichlet(np.ones(labels), count))
    return Part(ops.convert_to_tensor(features), ops.convert_to_tensor(outputs))


def made(name, **options):
    keras.utils.set_random_seed(0)
    return catalogue.maker(name, options.pop("strength", 1.0), options.pop("threshold", None))(6, 3)


@pytest.fixture(scope="module")
def data():
    return two_domains()


# --------------------------------------------------------------------------------------------------
# Losses


def test_the_reversal_hands_on_and_turns_the_gradient_round():
    import tensorflow as tf

    x = tf.constant([[1.0, -2.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = GradientReversal()(x, strength=0.25)
        loss = tf.reduce_sum(3.0 * y)
    np.testing.assert_allclose(y, x)
    np.testing.assert_allclose(tape.gradient(loss, x), [[-0.75, -0.75]])
    again = keras.layers.deserialize(keras.layers.serialize(GradientReversal(name="back")))
    assert isinstance(again, GradientReversal)


def test_methods_begin_softly_as_the_paper_of_dann_has_it():
    assert [float(methods.ramp(p)) for p in (0.0, 0.5, 1.0)] == pytest.approx(
        [0, 2 / (1 + np.exp(-5)) - 1, 2 / (1 + np.exp(-10)) - 1], abs=1e-6
    )


def test_coral_is_the_distance_of_covariances():
    first, second = part(40), part(30, width=6)
    a, b = np.cov(first.features, rowvar=False), np.cov(second.features, rowvar=False)
    expected = np.sum((a - b) ** 2) / (np.sum(a**2) + np.sum(b**2))
    np.testing.assert_allclose(
        made("coral").loss(first, second, None, 1.0), expected * methods.ramp(1.0), rtol=1e-4
    )
    assert float(made("coral").loss(first, first, None, 1.0)) == pytest.approx(0, abs=1e-6)


def test_coral_does_not_pay_for_features_that_vanish():
    import tensorflow as tf

    size = tf.Variable(1.0)
    first, second = part(40), part(30, 1.0)
    with tf.GradientTape() as tape:
        loss = made("coral").loss(
            Part(size * first.features, first.outputs),
            Part(size * second.features, second.outputs),
            None,
            1.0,
        )
    assert loss > 0.01
    assert abs(float(tape.gradient(loss, size))) < 1e-4


def test_the_discrepancy_counts_every_pair():
    first, second = (np.asarray(part(n, shift).features) for n, shift in ((7, 0.0), (5, 1.0)))
    rows = np.concatenate([first, second])
    squares = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    kernel = np.mean([np.exp(-squares / (squares.mean() * w)) for w in methods.Mmd.WIDTHS], 0)

    def mean(block, own):
        n = len(block)
        return (block.sum() - np.trace(block)) / (n * (n - 1)) if own else block.mean()

    expected = (
        mean(kernel[:7, :7], True) + mean(kernel[7:, 7:], True) - 2 * mean(kernel[:7, 7:], False)
    )
    np.testing.assert_allclose(
        methods.discrepancy(first, second, methods.Mmd.WIDTHS), expected, rtol=1e-4
    )


@pytest.mark.parametrize("name", ["coral", "mmd"])
def test_what_draws_together_grows_with_the_distance(name):
    near, far = part(64, 0.0), Part(3.0 * part(64, 2.0).features, part(64).outputs)
    base = part(64)
    assert float(made(name).loss(base, far, None, 1.0)) > 2 * float(
        made(name).loss(base, near, None, 1.0)
    )
    assert float(made(name).loss(base, far, None, 0.0)) == pytest.approx(0, abs=1e-6), (
        "it begins at nothing"
    )
    strong = made(name, strength=2.0).loss(base, far, None, 1.0)
    np.testing.assert_allclose(strong, 2 * made(name).loss(base, far, None, 1.0), rtol=1e-5)


@pytest.mark.parametrize("name", ["dann", "cdan"])
def test_the_discriminator_learns_and_the_features_flee_it(name):
    import tensorflow as tf

    method = made(name)
    first, second = part(64), part(64, 1.5)
    features = tf.Variable(second.features)
    with tf.GradientTape(persistent=True) as tape:
        loss = method.loss(first, Part(features, second.outputs), None, 1.0)
    weights = [v.value for v in method.trainable_variables]
    assert len(weights) == 6, "three dense layers"
    for variable, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        variable.assign_sub(0.1 * gradient)
    better = method.loss(first, Part(features, second.outputs), None, 1.0)
    assert float(better) < float(loss)
    moved = features - 5.0 * tape.gradient(loss, features)
    worse = method.loss(first, Part(moved, second.outputs), None, 1.0)
    assert float(worse) > float(better), (
        "a step along the reversed gradient makes the domains harder to tell apart"
    )


def test_cdan_sees_products_and_counts_sure_examples_more():
    method, some = made("cdan"), part(5)
    expected = np.einsum("bc,bf->bcf", some.outputs, some.features).reshape(5, -1)
    np.testing.assert_allclose(method.seen(some), expected, rtol=1e-5)
    sure = Part(
        some.features[:2], ops.convert_to_tensor(np.float32([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]))
    )
    a, b = np.asarray(method.weights_of(sure))[:, 0]
    assert a / b == pytest.approx(2 / (1 + 1 / 3), rel=1e-4)
    large = methods.Cdan(1024, 10)
    assert large.seen(part(4, width=1024, labels=10)).shape == (4, methods.MOST)


def test_a_pseudo_label_counts_where_the_model_is_sure_and_labels_are_balanced():
    sure = Part(
        part(2).features, ops.convert_to_tensor(np.float32([[0.98, 0.01, 0.01], [0.5, 0.3, 0.2]]))
    )
    even = Part(part(3).features, ops.convert_to_tensor(np.full((3, 3), 1 / 3, np.float32)))
    loss = float(made("pseudo_label").loss(even, sure, None, 1.0))
    assert loss == pytest.approx(-np.log(0.98) / 2 * float(methods.ramp(1.0)), rel=0.05), (
        "of the first row alone"
    )
    assert float(made("pseudo_label", threshold=0.999).loss(even, sure, None, 1.0)) == 0
    method = made("pseudo_label", threshold=0.6)
    method.predicted.assign([0.9, 0.05, 0.05])  # the model has lately said "0" nine times in ten
    doubtful = Part(
        sure.features, ops.convert_to_tensor(np.float32([[0.6, 0.39, 0.01], [0.6, 0.01, 0.39]]))
    )
    outputs = ops.convert_to_tensor(np.float32([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]))
    found = float(method.loss(even, doubtful, Part(doubtful.features, outputs), 1.0))
    assert found == pytest.approx(-np.log(0.8), rel=0.02), "so the labels are 1 and 2"


def test_fixmatch_learns_from_the_strong_version_alone():
    import tensorflow as tf

    weak = tf.Variable(np.float32([[0.97, 0.02, 0.01], [0.4, 0.3, 0.3]]))
    much = tf.Variable(np.float32([[0.3, 0.4, 0.3], [0.2, 0.2, 0.6]]))
    method, features = made("fixmatch"), part(2).features
    with tf.GradientTape(persistent=True) as tape:
        loss = method.loss(
            part(2), Part(features, weak.value()), Part(features, tf.identity(much)), 0.0
        )
    assert float(loss) == pytest.approx(-np.log(0.3) / 2, rel=1e-3)
    assert tape.gradient(loss, weak) is None
    gradient = tape.gradient(loss, much).numpy()
    assert gradient[0].any()
    assert not gradient[1].any()


# --------------------------------------------------------------------------------------------------
# Training


def test_too_few_examples_are_refused():
    with pytest.raises(
        ConfigError, match="mmd needs 2 unlabelled examples a step or more, and gets 1"
    ):
        catalogue.check_batch(("dann", "mmd"), 8, {"labelled": 9, "unlabelled": 1})
    catalogue.check_batch(("dann",), 1, {"labelled": 9, "unlabelled": 1})


def test_a_joint_model_is_the_model_outside_training():
    model = builder(normalization)()
    joint = Joint(model, made("coral"), lambda: 0.0)
    pixels = np.float32(pictures(3).pixels)
    np.testing.assert_allclose(joint(pixels), model(pixels), atol=1e-6)
    found = joint({"labelled": pixels[:1], "unlabelled": pixels[1:]})
    np.testing.assert_allclose(found["unlabelled"].outputs, model(pixels[1:]), atol=1e-5)
    assert found["labelled"].features.shape == (1, hidden_of(model).shape[-1])


def test_progress_counts_steps_not_updates(data):
    """Where gradients are accumulated there are fewer updates."""

    class Watching(Method):
        def __init__(self):
            super().__init__()
            self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")
            self.built = True

        def loss(self, labelled, unlabelled, strong, progress):
            self.seen.assign(progress)
            return 0.0

    watching = Watching()
    settings = FitSettings(batch_size=8, accumulate=3)
    phases, method = (Phase("all", "all", 2, 0.01),), {"method": lambda *_: watching}
    train(plan_of(builder(normalization), HEAD, phases, settings=settings, **method), data)
    assert float(watching.seen) == pytest.approx(11 / 12)


@pytest.mark.parametrize("mixer", ["mixup", "cutmix"])
def test_images_without_labels_are_not_joined(data, mixer):
    order = pipeline.Order(40, 8, 0)
    labelled = pipeline.training_batches(data["train"], order)

    def others(*augment):
        batches = pipeline.joint_batches(labelled, data["unlabelled"], order, augment, True)
        return [inputs["unlabelled"].numpy() for inputs, _ in batches]

    np.testing.assert_array_equal(others("crop", mixer), others("crop"))


def test_sentences_of_both_kinds_are_padded_to_one_length():
    inputs = ("token_ids", "padding_mask")

    def texts(lengths):
        rows = [np.full(n, 5, np.int32) for n in lengths]
        targets = {"label": np.eye(2, dtype="float32")[[0] * len(rows)]}
        names = ("",) * len(rows)
        return Texts(Ragged.of(rows), targets, names, names, inputs, pad_id=9, max_length=40)

    short, long = texts([3, 4, 5, 6]), texts([3, 20, 30, 40])
    order = pipeline.Order(4, 2, 0, epochs=2, lengths=long.ids.lengths)
    labelled = pipeline.training_batches(short, order)
    batches = list(pipeline.joint_batches(labelled, long, order, ()))
    assert len(batches) == 4
    for x, _ in batches:
        kinds = [x["labelled"], x["unlabelled"]]
        assert len({part[name].shape for part in kinds for name in inputs}) == 1
        for part in kinds:
            np.testing.assert_array_equal(part["token_ids"], np.where(part["padding_mask"], 5, 9))
    assert {x["labelled"]["token_ids"].shape[1] for x, _ in batches} == {24, 40}


# --------------------------------------------------------------------------------------------------
# Afterwards


@pytest.mark.parametrize("batch_size", [40, 8, 2])
def test_adabn_takes_the_statistics_of_the_images(data, batch_size):
    """Of all of them, however they come: batches of two have means far apart."""
    model = builder(normalization)()
    first = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
    before = [layer.trainable for layer in model.layers]
    afterwards.adabn(model, data["unlabelled"], batch_size, 0)
    assert [layer.trainable for layer in model.layers] == before
    seen = keras.Model(model.input, first.input)(np.float32(data["unlabelled"].pixels))
    np.testing.assert_allclose(first.moving_mean, np.mean(seen, (0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(first.moving_variance, np.var(seen, (0, 1, 2)), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", ["adabn", "tent"])
def test_nothing_is_dropped_while_statistics_are_taken(data, name):
    found = []
    for seed in (1, 2):
        model = builder(normalization)()
        dropouts = [layer for layer in model.layers if isinstance(layer, layers.Dropout)]
        for layer in dropouts:
            layer.seed_generator.state.assign([seed, 0])
        getattr(afterwards, name)(model, data["unlabelled"], 8, 0)
        found.append(model.get_weights())
        assert [layer.rate for layer in dropouts] == [0.2] * 3 + [0.3], "as before"
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["adabn", "tent"])
def test_without_batch_normalization_there_is_nothing_to_adapt(data, name):
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(
        inputs, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(inputs)), name="plain"
    )
    with pytest.raises(ConfigError, match=f"'plain' has none: leave {name} out of --methods"):
        getattr(afterwards, name)(model, data["unlabelled"], 8, 0)


# --------------------------------------------------------------------------------------------------
# Choosing


def test_information_praises_neither_doubt_nor_one_label_for_all():
    sure = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert selection.information(sure) == pytest.approx(np.log(3), abs=1e-6)
    assert selection.information(np.full((6, 3), 1 / 3)) == pytest.approx(0, abs=1e-6)
    assert selection.information(np.eye(3)[[1] * 6]) == pytest.approx(0, abs=1e-6)


def test_importance_weights_count_what_looks_like_the_target():
    rng = np.random.default_rng(0)
    source = np.concatenate([rng.normal(0, 1, (300, 2)), rng.normal(4, 1, (100, 2))])
    right = np.repeat([1.0, 0.0], [300, 100])  # wrong where the target lies
    target = rng.normal(4, 1, (400, 2))
    assert right.mean() == 0.75
    assert selection.importance_weighted(source, right, target) < 0.3
    assert selection.importance_weighted(source, right, source) == pytest.approx(0.75, abs=0.05)


def test_the_best_method_is_chosen_by_its_mean_and_then_its_best_seed():
    values = {"a": [0.9, 0.1], "b": [0.6, 0.7], "c": [0.5, 0.5]}
    rows = [
        {"method": m, "information": v, "labelled": 1 - v} for m, of in values.items() for v in of
    ]
    assert selection.choose(rows, "information") == 3
    assert rows[selection.choose(rows, "labelled")]["method"] in ("a", "c")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((("cdna",), 1.0, None), UnknownName, "cdan"),
        (((), 1.0, None), ConfigError, "one or more different ones"),
        ((("dann", "dann"), 1.0, None), ConfigError, "one or more different ones"),
        (
            (("dann",), float("nan"), None),
            ConfigError,
            "--strength of a method is a number above 0, from .*, not nan",
        ),
        (
            (("dann",), 0.0, None),
            ConfigError,
            "--strength of a method is a number above 0, from .*, not 0",
        ),
        ((("dann",), float("inf"), None), ConfigError, "a number above 0, from .*, not inf"),
        # Beyond the bounds one of the losses is rounded away: training does nothing, or is not a
        # number.
        (
            (("dann",), 1e-30, None),
            ConfigError,
            "a number above 0, from 1e-07 to 1e\\+07, not 1e-30",
        ),
        ((("dann",), 1e30, None), ConfigError, "a number above 0, from .*, not 1e\\+30"),
        (
            (("fixmatch",), 1.0, 0.99999999),
            ConfigError,
            "--threshold .* between 0 and 1, not 0.99999999",
        ),
        (
            (("fixmatch",), 1.0, float("nan")),
            ConfigError,
            "--threshold .* between 0 and 1, not nan",
        ),
        (
            (("dann", "adabn"), 1.0, 0.9),
            ConfigError,
            "--threshold is for pseudo_label or fixmatch: leave it away",
        ),
        (
            (("adabn", "tent"), 2.0, None),
            ConfigError,
            "--strength is for methods .*, not adabn and tent",
        ),
        ((("dann",), 1.0, 1.0), ConfigError, "--threshold .* between 0 and 1, not 1"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        catalogue.check(arguments[0], tuple(catalogue.METHODS), *arguments[1:])


def test_a_method_that_could_move_nothing_is_refused():
    head, top = Phase("head", "head", 1, 0.01), Phase("top", 1, 1, 0.01)
    for name in ("dann", "cdan", "coral"):
        with pytest.raises(
            ConfigError,
            match=f"{name} adapts features, and here they stay as they are: raise --hidden",
        ):
            catalogue.check_reach(("mmd", name), (head,), 0)
        catalogue.check_reach((name,), (head,), 16)
        catalogue.check_reach((name,), (head, top), 0)
    catalogue.check_reach(
        ("mmd", "pseudo_label", "adabn"), (head,), 0
    )  # these move the last layer, or statistics
    with pytest.raises(ConfigError, match="--hidden is a number of units, 0 for none, not -1"):
        catalogue.check_reach(("mmd",), (head, top), -1)


@pytest.mark.parametrize("name", ["domain_adaptation", "text_domain_adaptation"])
def test_patience_is_refused_where_it_would_do_nothing(name, tmp_path):
    """Before, it was taken and had no effect: the last epoch counts as better than all before
    it.
    """
    recipe = importlib.import_module(f"graft.recipes.{name}")
    own = recipe.Config.__dataclass_fields__["fit"].default_factory()
    config = recipe.Config(
        data="missing",
        target="missing",
        backbone="missing",
        out=tmp_path,
        fit=replace(own, patience=2),
    )
    with pytest.raises(
        ConfigError, match="--patience waits for better validation figures, .*: leave it away"
    ):
        recipe.main(config)


# --------------------------------------------------------------------------------------------------
# Domains


def target_of(unlabelled, measured):
    """What a run says of its target; how many examples it counts is no matter here."""
    source = Source("s", ("a", "b"), {})
    data = PreparedData(source, (), "", "t", tuple(unlabelled), tuple(measured))
    examples = {"unlabelled": pictures(2)} | ({"measured": pictures(2)} if measured else {})
    problem = SimpleNamespace(data=data)
    return run_facts.describe_target(SimpleNamespace(problem=problem, examples=examples))


def test_examples_are_the_same_by_content_not_by_name():
    here, there = [
        [Sentence(f"{where} {i}", "", f"line {i}") for i in (1, 2)] for where in ("train", "test")
    ]
    renamed = [Sentence(sentence.text, "a", f"other {sentence.name}") for sentence in here]
    for measured, same in ((there, False), (here, True), (renamed, True), (renamed + there, False)):
        assert target_of(here, measured)["measured_are_unlabelled"] is same
    assert target_of(here, ())["measured_are_unlabelled"] is False


def write_image(folder, name, shade):
    from PIL import Image

    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(folder / name)


def test_a_target_is_measured_however_few_its_labels(tmp_path):
    from graft.recipes.domain_adaptation import Config

    for label, shade in (("a", 10), ("b", 90)):
        for i in range(6):
            write_image(tmp_path / "source", f"{label}/{i}.png", shade + i)
    write_image(tmp_path / "target", "b/0.png", 200)
    asked = Config(
        data=str(tmp_path / "source"),
        target=str(tmp_path / "target"),
        out=tmp_path,
        target_labels=True,
    )
    found = domains.load(asked)
    assert [(example.name, example.label) for example in found.measured] == [("b/0.png", "b")]
    with pytest.raises(DataError, match="'.*target' holds one class only"):
        domains.load(
            Config(data=str(tmp_path / "target"), target=str(tmp_path / "source"), out=tmp_path)
        )


def test_a_target_of_sentences_is_measured_however_few_its_labels(tmp_path):
    from graft.recipes.text_domain_adaptation import Config

    (tmp_path / "s.csv").write_text(
        "text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(12))
    )
    (tmp_path / "t.csv").write_text("text,label\nother,b\n")
    asked = Config(
        data=str(tmp_path / "s.csv"),
        target=str(tmp_path / "t.csv"),
        out=tmp_path,
        target_labels=True,
    )
    assert [sentence.label for sentence in domains.load_texts(asked).measured] == ["b"]
    with pytest.raises(
        DataError, match="no file or folder '.*u.csv': check the path given to --target"
    ):
        domains.load_texts(Config(data="commands", target=str(tmp_path / "u.csv"), out=tmp_path))


def test_a_target_of_another_kind_is_named(tmp_path):
    from graft.recipes.domain_adaptation import Config

    (tmp_path / "photos.zip").write_bytes(b"PK")
    for name, message in (
        ("photos.zip", "is no data source: expected a folder.* for --target"),
        ("photos.rar", "there is no file or folder .*: check the path given to --target"),
    ):
        with pytest.raises(DataError, match=message):
            domains.load(Config(data="digits", target=str(tmp_path / name), out=tmp_path))


def test_a_map_of_single_numbers():
    (places,) = outcome.embed([RNG.normal(size=(12, 1))])
    assert places.shape == (12, 2)


@pytest.mark.parametrize(
    "rows", [[np.ones((9, 60)), np.ones((4, 60))], [RNG.normal(size=(1, 5))] * 2]
)
def test_a_map_of_what_a_collapsed_network_sees(rows):
    """All rows are the same; t-SNE divides by their spread and takes the process with it."""
    places = outcome.embed(rows)
    assert [place.shape for place in places] == [(len(part), 2) for part in rows]
    assert not np.concatenate(places).any()


def test_few_rows_have_a_map():
    for count in (2, 3, 5):
        (places,) = outcome.embed([np.random.default_rng(0).normal(size=(count, 4))])
        assert np.isfinite(places).all()
        assert len(np.unique(places, axis=0)) == count


def test_nothing_is_learned_from_what_models_are_chosen_and_measured_by(tmp_path, capsys):
    from graft.recipes import domain_adaptation, semi_supervised

    for label, shade in (("a", 10), ("b", 90)):
        for i in range(12):
            write_image(tmp_path / "source", f"{label}/{i}.png", shade + i)
    source, given = str(tmp_path / "source"), {"data": str(tmp_path / "source"), "out": tmp_path}
    few = domains.load_partly_labelled(
        semi_supervised.Config(per_class=3, unlabelled=source, **given)
    )
    whole = domains.load(domain_adaptation.Config(target=source, **given))
    for found in (few, whole):
        held_out = {
            e.digest for split in ("validation", "test") for e in found.source.splits[split]
        }
        assert len(held_out) == 8
        assert not held_out & {example.digest for example in found.unlabelled}
        assert {example.digest for example in found.source.splits["train"]} <= {
            e.digest for e in found.unlabelled
        }
    assert "8 of 24 examples without labels" in capsys.readouterr().err
    for i, example in enumerate(few.source.splits["test"]):
        (tmp_path / "held").mkdir(exist_ok=True)
        (tmp_path / "held" / f"{i}.png").write_bytes(example.image.read_bytes())
    with pytest.raises(
        DataError, match="everything in '.*held' is in the validation or test split of"
    ):
        domains.load(domain_adaptation.Config(target=str(tmp_path / "held"), **given))


def test_adabn_is_not_asked_for_labelled_examples():
    catalogue.check_batch(("adabn",), 8, {"labelled": 1, "unlabelled": 2})
    with pytest.raises(
        ConfigError, match="adabn needs 2 unlabelled examples a step or more, and gets 1"
    ):
        catalogue.check_batch(("adabn",), 1, {"labelled": 9, "unlabelled": 9})


# --------------------------------------------------------------------------------------------------
# Without labels


def tasks_of_vectors(*labels):
    """What a pile of images is learned by."""
    return tasks_for(heads.embedding(4), labels)


def test_a_pile_is_counted_by_what_differs_and_can_be_read(tmp_path):
    from graft.recipes.self_supervised import Config

    for i in range(24):
        write_image(tmp_path / "same", f"{i}.png", 7)
        write_image(tmp_path / "pile", f"{i}.png", 7 + i)
    with pytest.raises(
        DataError, match="'.*same' holds 1 different images: to learn from them takes 20 or more"
    ):
        domains.load_pile(Config(data=str(tmp_path / "same"), out=tmp_path))
    for i in range(6):
        (tmp_path / "pile" / f"{i}.png").write_bytes(bytes([i]))
    pile = domains.load_pile(Config(data=str(tmp_path / "pile"), out=tmp_path))
    with pytest.raises(DataError, match="'.*pile' holds 18 different images"):
        domains.decode_pile(pile, ImageCodec(8, skip_bad=True), tasks_of_vectors(), 0)


def test_options_that_pairs_have_no_use_for_are_refused():
    pairs = {"augment": ("zoom",)}
    pretext.check(FitSettings(**pairs))
    for settings, message in (
        ({}, "name some --augment"),
        ({**pairs, "batch_size": 1}, "--batch-size of 2 or more"),
        ({"augment": ("zoom", "mixup")}, "--augment mixup joins two images"),
        ({**pairs, "multi_gpu": True}, "--multi-gpu is not made for pairs"),
        ({**pairs, "mixed_precision": True}, "--mixed-precision is not made for pairs"),
        ({**pairs, "class_weights": True}, "--class-weights is not made for pairs"),
        ({**pairs, "cache": "memory"}, "leave the --cache options away"),
        ({**pairs, "views": 2}, "leave the --cache options away"),
    ):
        with pytest.raises(ConfigError, match=message):
            pretext.check(FitSettings(**settings))
    head, top = Phase("head", "head", 1, 0.01), Phase("top", 1, 1, 0.01)
    pretext.check_reach((head, top))
    with pytest.raises(ConfigError, match="take a --schedule that trains more than the head"):
        pretext.check_reach((head,))


@pytest.mark.parametrize("bad", [0, 3])
def test_a_large_pile_stays_on_the_disk(monkeypatch, bad, tmp_path):
    monkeypatch.setattr("graft.recipes.codecs.pixels.IN_MEMORY_BYTES", 0)
    given = pictures(40)
    examples = [Example(pixels, "ab"[i % 2], str(i)) for i, pixels in enumerate(given.pixels)]
    (tmp_path / "no.png").write_bytes(b"no image")
    for i in range(bad):
        examples[7 * i] = Example(tmp_path / "no.png", "a", "bad")
    pile = domains.Pile("pile", ("a", "b"), tuple(examples))
    tasks = tasks_of_vectors("a", "b")
    found = domains.decode_pile(pile, ImageCodec(16, skip_bad=True), tasks, 0)
    assert {name: len(part) for name, part in found.items()} == (
        {"all": 40, "validation": 4, "train": 36}
        if not bad
        else {"all": 37, "validation": 3, "train": 34}
    )
    for part in found.values():
        assert isinstance(part.pixels, np.memmap)
        targets = part.targets[tasks.first.name]
        for pixels, name, target in zip(part.pixels, part.names, targets, strict=True):
            np.testing.assert_array_equal(pixels, given.pixels[int(name)])
            assert target.argmax() == int(name) % 2
    assert len(found["all"].skipped) == bad
    assert not set(found["train"].names) & set(found["validation"].names)


def test_nearest_neighbours_are_asked_of_a_sample(monkeypatch):
    from graft.recipes.adapt import transferability

    asked = []
    monkeypatch.setattr(
        transferability, "knn_accuracy", lambda rows, classes: asked.append(len(rows)) or 0.5
    )
    monkeypatch.setattr(pretext, "PROBED", 10)
    everything = pictures(30)
    images = {"all": everything, "validation": pictures(6, 1)}
    model, task = stack(tiny(), [HEAD]), tasks_for(HEAD).first
    settings = FitSettings(augment=("flip",))
    assert pretext.figures(model, images, task, settings)["probe"] == 0.5
    assert asked == [10]


@pytest.mark.parametrize(
    ("dimension", "temperature", "message"),
    [
        # A vector of one number has length 1 whatever the number is: it has no gradient.
        (1, 0.2, "--dimension is 2 numbers or more, not 1"),
        (64, 1e-30, "the temperature .* from 0.0001 to 10000, not 1e-30"),
        (64, 1e30, "the temperature .* from 0.0001 to 10000, not 1e\\+30"),
        (64, float("nan"), "the temperature .*, not nan"),
    ],
)
def test_a_projection_that_could_learn_nothing_is_refused(dimension, temperature, message):
    with pytest.raises(ConfigError, match=message):
        pretext.check_head(dimension, temperature)


def test_clusters_are_refused_before_anything_trains():
    gallery.check(None, 3)
    gallery.check(29, 30)
    with pytest.raises(
        ConfigError, match="--clusters is from 2 to one less than the 30 images, not 1"
    ):
        gallery.check(1, 30)
    with pytest.raises(
        ConfigError, match="one less than the 2000 images by which they are found, not 2500"
    ):
        gallery.check(2500, 9000)


def test_pairs_are_two_versions_of_the_same_images():
    images = pictures(20)
    order = pipeline.Order(20, 8, 0, epochs=2)
    batches = list(pipeline.paired_batches(images, order, ("zoom", "grayscale")))
    assert len(batches) == 4
    pixels, targets = (np.asarray(part) for part in batches[0])
    np.testing.assert_array_equal(targets, np.tile(np.eye(8), (2, 1)))
    assert np.abs(pixels[:8] - pixels[8:]).max((1, 2, 3)).min() > 1, "each version is another one"
    plain, _ = next(iter(pipeline.paired_batches(images, order, ())))
    np.testing.assert_array_equal(plain[:8], plain[8:])
    again = next(iter(pipeline.paired_batches(images, order, ("zoom", "grayscale"))))[0]
    np.testing.assert_array_equal(pixels, again)


def test_crowds_are_found_and_neighbours_are_near():
    rng = np.random.default_rng(0)
    middles = np.eye(4) * 5
    truth = np.repeat(np.arange(4), [40, 30, 20, 10])
    seen = gallery.look(middles[truth] + rng.normal(0, 0.3, (100, 4)), None)
    assert len(seen.typical) == 4
    assert [len(rows) for rows in seen.typical] == [40, 30, 20, 10]
    np.testing.assert_array_equal(seen.clusters, truth)
    assert (truth[seen.neighbours] == truth[:, None]).all()
    assert not (seen.neighbours == np.arange(100)[:, None]).any(), "nothing is its own neighbour"
    assert seen.silhouette > 0.8
    assert len(gallery.look(rng.normal(size=(30, 3)), 5).typical) == 5
    same = gallery.look(np.ones((30, 3)), None)  # a network that has collapsed
    assert [len(rows) for rows in same.typical] == [30]
    assert same.silhouette == 0
    with pytest.raises(
        ConfigError, match="--clusters is from 2 to one less than the 30 images, not 30"
    ):
        gallery.look(rng.normal(size=(30, 3)), 30)


def test_a_run_says_one_thing_of_what_it_kept():
    """Before: "kept: fixmatch" and "it did harm; take supervised_only"."""
    verdict = {"decision": "lost", "text": "fixmatch lost 3.0 points"}
    facts = {"chosen": {"method": "fixmatch"}, "baseline": "supervised_only", "measured_on": "test"}
    said = outcome.contradiction(facts | {"verdicts": {"fixmatch": verdict}})
    assert said == (
        "validation data kept fixmatch, test data say that it lost against supervised_only; test "
        "data choose nothing"
    )
    assert (
        outcome.contradiction(
            facts | {"verdicts": {"fixmatch": verdict | {"decision": "undecided"}}}
        )
        is None
    )
    assert outcome.contradiction(facts | {"verdicts": {}}) is None


@pytest.mark.parametrize(
    ("measured_on", "titles"),
    [
        (
            "target",
            [
                "target accuracy",
                "source val. accuracy",
                "target information",
                "source val., weighted",
            ],
        ),
        (
            "test",
            [
                "test accuracy",
                "validation accuracy",
                "information, unlabelled",
                "validation, weighted",
            ],
        ),
    ],
)
def test_the_table_says_of_which_split_and_domain_each_figure_is(measured_on, titles):
    """Before: "target", "labelled", "information", "iwv"."""
    figures = {"accuracy": 0.9, "labelled": 0.8, "information": 1.0, "iwv": 0.7, "seconds": 2.0}
    text = outcome.table(
        {"measured_on": measured_on, "rows": [{"method": "source_only", **figures}]}
    )
    heading, row, *legend = text.split("\n")
    places = [heading.index(title) + len(title) for title in titles]
    assert places == sorted(places)
    for place, value in zip(places, ("0.900", "0.800", "1.000", "0.700"), strict=True):
        assert row[:place].endswith(value), "figures stand under their titles"
    assert bool(legend) == (measured_on == "target")


def test_the_choice_says_how_often_it_was_right():
    assert "picked the best method in 7 of 27 pairs" in selection.explain(
        "information", between_domains=True
    )
    assert "27" not in selection.explain("labelled", between_domains=False)


def test_what_the_choice_says_is_what_the_benchmark_counted():
    """`benchmarks/choosing.py` reads the measured table: the numbers in the code are its
    numbers.
    """
    import subprocess
    import sys
    from pathlib import Path

    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / "choosing.py"],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    for criterion, count in selection.BENCHMARKED.items():
        assert f"| all | {criterion} | {count} of {selection.BENCHMARK_PAIRS} |" in done.stdout
    assert f"| all | chance | {selection.BY_CHANCE} of {selection.BENCHMARK_PAIRS} |" in done.stdout
