"""What Keras derives from weights survives every copy of them, and a file is judged beside the
model as it was given.
"""

import keras
import numpy as np
import pytest
from keras import layers

from graft.export.convert import graph
from graft.export.export import Examples, ExportSettings, Subject, export_model
from graft.export.manifest import Description
from graft.recipes.runs import run_facts, writing
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train import fit
from graft.zoo.backbones.own import build_own_backbone
from graft.zoo.errors import CheckFailed
from graft.zoo.fits import ImageShape
from graft.zoo.graph import state
from graft.zoo.graph.tracing import traced
from graft.zoo.heads import heads
from graft.zoo.heads.own_outputs import kind_of_outputs
from graft.zoo.heads.single_label import SINGLE_LABEL
from tests.tiny import pictures

RNG = np.random.default_rng(0)
PIXELS = RNG.uniform(0, 255, (64, 16, 16, 3)).astype("float32")


def adapted(policy="float32", activation="softmax"):
    """A classifier whose preprocessing was adapted to data."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        normalize = layers.Normalization()
        normalize.adapt(PIXELS)
        inputs = keras.Input((16, 16, 3))
        x = layers.Conv2D(8, 3, activation="relu")(normalize(inputs))
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, layers.Dense(3, activation=activation, dtype="float32")(x))
    finally:
        keras.config.set_dtype_policy(before)


def test_a_backbone_of_ones_own_keeps_its_normalization(tmp_path):
    """Before, its features had a mean of 48 instead of 0.3."""
    model = adapted()
    model.save(tmp_path / "own.keras")
    wanted = keras.Model(model.inputs[0], model.layers[-2].output)(PIXELS)
    shape = ImageShape(*model.input_shape[1:])
    copy = build_own_backbone(tmp_path / "own.keras", "own", shape)
    np.testing.assert_allclose(copy(PIXELS), wanted, atol=1e-5)
    fresh = build_own_backbone(tmp_path / "own.keras", "own", shape, fresh=True)
    normalized = keras.Model(fresh.inputs[0], fresh.layers[1].output)(PIXELS)
    assert abs(float(np.mean(normalized))) < 0.1, (
        "random weights, but the pixels that it is made for"
    )


def test_setting_weights_derives_again():
    model = adapted()
    other = keras.models.clone_model(model)
    assert np.abs(model(PIXELS) - other(PIXELS)).max() > 1e-3
    state.set_weights(other, model.get_weights())
    np.testing.assert_allclose(other(PIXELS), model(PIXELS), atol=1e-6)


def test_boundaries_that_come_with_the_configuration_stay():
    layer = layers.Discretization(num_bins=4)
    layer.adapt(PIXELS[..., :1].reshape(-1, 1))
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    np.testing.assert_allclose(
        state.clone_model(model)(PIXELS[0, 0, :, :1]), model(PIXELS[0, 0, :, :1])
    )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_in_float32_a_model_of_half_precision_is_nearly_the_same(policy):
    """Before, the files of one with adapted preprocessing differed by 0.88, and passed."""
    model = adapted(policy)
    assert graph.in_half_precision(model)
    whole = graph.as_float32(model)
    assert not graph.in_half_precision(whole)
    assert np.abs(np.float32(model(PIXELS)) - whole(PIXELS)).max() < 0.03


def exported(model, folder):
    description = Description("m", ["a", "b", "c"], {}, (0, 255))
    kinds = {model.output_names[0]: SINGLE_LABEL}
    subject = Subject(description, kinds, Examples(PIXELS, None, {"split": None}))
    return export_model(model, folder, subject, ExportSettings(("onnx",)))["files"]


def test_files_are_judged_beside_the_model_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr("graft.export.probe.measure_file", lambda path: {})
    (row,) = exported(adapted("mixed_bfloat16"), tmp_path / "whole")
    assert row["status"] == "pass", row
    assert row["parity"]["batch_1_diff"] is not None

    monkeypatch.setattr(
        "graft.export.export.as_float32",
        lambda model: keras.models.clone_model(graph.as_float32(model)),
    )
    (row,) = exported(adapted("mixed_bfloat16"), tmp_path / "lossy")
    assert row["status"] == "fail"


def test_a_model_that_answers_nan_is_not_exported(tmp_path):
    model = adapted()
    model.layers[-1].bias.assign([np.nan, 0, 0])
    with pytest.raises(CheckFailed, match="answers NaN or infinity"):
        exported(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@keras.saving.register_keras_serializable(package="tests")
class Forgetful(layers.Layer):
    """A layer that multiplies by a number that no file holds."""

    factor = 1.0

    def call(self, inputs):
        return inputs * self.factor


def test_a_run_says_nothing_that_its_file_does_not(tmp_path):
    def build(factor: float) -> keras.Model:
        inputs = keras.Input((16, 16, 3), name="image")
        forgetful = Forgetful()
        forgetful.factor = factor
        x = forgetful(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(inputs)))
        return keras.Model(inputs, layers.Dense(3, "softmax")(x))

    model = build(1.0)
    opened, outputs = writing.write_model(tmp_path, model, pictures(6))
    assert opened is not model
    np.testing.assert_array_equal(outputs, fit.predict(opened, pictures(6))[0])
    with pytest.raises(CheckFailed, match="answers otherwise than the model that was trained"):
        writing.write_model(tmp_path, build(5.0), pictures(6))


@pytest.mark.parametrize(
    ("activation", "units", "kind"),
    [
        ("softmax", 3, "single_label"),
        ("sigmoid", 1, "multi_label"),
        ("sigmoid", 3, "multi_label"),
        (None, 1, "regression"),
        (None, 3, "regression"),
        ("relu", 2, "regression"),
    ],
)
def test_the_kind_of_a_model_is_read_from_its_graph(activation, units, kind):
    """Before, one sigmoid unit was a label whatever it said, and a logit of 8 a probability."""
    inputs = keras.Input((4,))
    assert (
        kind_of_outputs(keras.Model(inputs, layers.Dense(units, activation=activation)(inputs)))
        == kind
    )
    if activation:
        split = layers.Activation(activation)(layers.Dense(units)(inputs))
        assert kind_of_outputs(keras.Model(inputs, layers.Reshape((units,))(split))) == kind
    nested = keras.Sequential([keras.Input((4,)), layers.Dense(units, activation=activation)])
    assert kind_of_outputs(keras.Model(inputs, nested(inputs))) == kind


def test_what_went_wrong_in_a_training_is_said():
    tasks = tasks_for(heads.regression(["price"], name="price"))
    exploded = {"seed": 0, "trainings": {"transfer": [{"seed": 0, "diverged": {"all": 4e15}}]}}
    found = run_facts.concerns(exploded, {"tasks": {"price": {"r2": -0.4}}}, tasks)
    assert found["diverged"]
    assert (
        "'transfer' diverged in phase 'all' (seed 0): its loss ended at 4e+15"
        in found["warnings"][0]
    )
    assert (
        "'price' is worse than always answering the mean (R² -0.40 on the test split)"
        in found["warnings"][1]
    )
    sound = {
        "seed": 0,
        "trainings": {"transfer": [{"seed": 0, "diverged": {}}]},
        "warnings": ["texts are cut"],
    }
    fine = run_facts.concerns(sound, {"tasks": {"price": {"r2": 0.4}}}, tasks)
    assert fine == {"warnings": ["texts are cut"], "diverged": False}


def test_seeding_again_keeps_what_tensorflow_has_prepared(monkeypatch):
    """TensorFlow drops every prepared function where its own generator is seeded."""
    import tensorflow as tf

    state.set_seed(1)
    monkeypatch.setattr(tf.random, "set_seed", lambda seed: pytest.fail("seeded again"))
    state.set_seed(2)


def test_a_seed_gives_the_weights_that_keras_gives_for_it():
    def kernel() -> np.ndarray:
        layer = keras.layers.Dense(3)
        layer.build((None, 2))
        return layer.kernel.numpy()

    keras.utils.set_random_seed(5)  # which also takes away the generator of all layers
    wanted = kernel()
    for _ in range(2):
        state.set_seed(5)
        np.testing.assert_array_equal(kernel(), wanted)


def test_a_function_of_batches_is_traced_once_whatever_their_length():
    """Before, a shorter last batch had it traced again."""
    traces = []

    @traced
    def double(batch: dict) -> dict:
        traces.append(batch)
        return {name: 2 * values for name, values in batch.items()}

    for length in (8, 8, 3, 1):
        given = {"a": np.ones((length, 2), np.float32), "b": np.arange(length)}
        found = double(given)
        for name, values in given.items():
            np.testing.assert_array_equal(found[name], 2 * values)
    assert len(traces) == 1


def test_layers_without_a_generator_of_their_own_begin_anew_with_each_seed():
    """What was traced under one seed draws the numbers of the next one."""
    draw = traced(lambda batch: batch + keras.random.uniform((2,)))

    def drawn(seed: int) -> np.ndarray:
        state.set_seed(seed)
        return np.stack([draw(np.zeros((1, 2), np.float32)) for _ in range(2)])

    first, other = drawn(1), drawn(2)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(drawn(1), first)
