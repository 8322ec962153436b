"""What each weight receives: the update itself is measured, not the settings."""

import keras
import numpy as np
import pytest

from graft.recipes.train import lr_finder
from graft.recipes.train.optimizer import LearningRate, OptimizerSettings, make_optimizer, rate_of
from graft.recipes.train.phases.adamw import PackedAdamW
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.stack import backbone_of
from tests.tiny import HEAD, builder, normalization


def one_update(optimizer, variables, gradient=1.0):
    before = [v.numpy() for v in variables]
    optimizer.apply([np.full(v.shape, gradient, "float32") for v in variables], variables)
    return [float(np.abs(v.numpy() - b).max()) for v, b in zip(variables, before, strict=True)]


def test_each_block_learns_at_a_share_of_the_one_above_it():
    model = builder(normalization)()
    blocks = find_blocks(backbone_of(model))
    variables = model.trainable_weights
    optimizer = make_optimizer(
        variables, LearningRate(0.1, 100), OptimizerSettings(), blocks=blocks, layer_decay=0.5
    )
    moved = dict(zip(map(id, variables), one_update(optimizer, variables), strict=True))
    # Adam's first update is the rate, whatever the gradient; the first rate of the warm-up is a
    # tenth of the peak.
    head = [moved[id(v)] for v in model.get_layer("probabilities_dense").trainable_weights]
    np.testing.assert_allclose(head, 0.01, rtol=1e-3)
    for n, block in enumerate(reversed(blocks), 1):
        own = [moved[id(v)] for layer in block.layers for v in layer.trainable_weights]
        np.testing.assert_allclose(own, 0.01 * 0.5**n, rtol=1e-3, err_msg=block.name)
    assert rate_of(optimizer) == pytest.approx(0.01 + 0.09 / 10, rel=1e-3), (
        "after one of ten steps of warm-up"
    )


def test_gradients_are_clipped_at_their_norm():
    variable = keras.Variable(np.zeros(4, "float32"))
    seen = []
    optimizer = make_optimizer([variable], LearningRate(0.1, 100), OptimizerSettings(clip_norm=1.0))
    update = optimizer._backend_update_step
    optimizer._backend_update_step = lambda gradients, *args: (
        seen.extend(map(np.asarray, gradients)),
        update(gradients, *args),
    )
    one_update(optimizer, [variable], gradient=100.0)
    assert np.linalg.norm(seen[0]) == pytest.approx(1.0, rel=1e-5)


def test_accumulated_steps_are_one_update_of_their_mean():
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = make_optimizer([variable], LearningRate(0.1, 10), OptimizerSettings(accumulate=2))
    optimizer.apply([np.float32([1, -3, 2])], [variable])
    np.testing.assert_array_equal(variable.numpy(), 0)
    optimizer.apply([np.float32([1, 1, -3])], [variable])
    # Adam's first update is the rate in the direction of the gradient's sign: of the mean (1, -1,
    # -0.5), at the peak.
    np.testing.assert_allclose(variable.numpy(), [-0.1, 0.1, 0.1], rtol=1e-3)


def test_the_average_takes_the_place_of_the_weights_after_an_epoch():
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer = make_optimizer(
        [variable], LearningRate(0.1, 100, steps_per_epoch=20), OptimizerSettings(ema=0.5)
    )
    values, average = [], 0.0
    for _ in range(20):
        one_update(optimizer, [variable])
        values.append(float(variable.numpy()[0]))
    plain = make_optimizer(
        [other := keras.Variable(np.zeros(1, "float32"))],
        LearningRate(0.1, 100),
        OptimizerSettings(),
    )
    for step in range(20):
        one_update(plain, [other])
        value = float(other.numpy()[0])
        average = 0.5 * average + 0.5 * value if step else value
    assert values[-1] == pytest.approx(average, rel=1e-4)
    assert values[-1] != pytest.approx(float(other.numpy()[0]), rel=1e-2)


def test_in_a_short_epoch_the_average_does_not_hold_the_weights_back():
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer = make_optimizer(
        [variable], LearningRate(0.1, 30, steps_per_epoch=6), OptimizerSettings(ema=0.999)
    )
    moved = sum(one_update(optimizer, [variable])[0] for _ in range(6))
    assert abs(float(variable.numpy()[0])) == pytest.approx(moved, rel=1e-4)


def test_an_average_and_accumulated_gradients_are_refused_together():
    with pytest.raises(ConfigError, match="--ema averages after each epoch"):
        FitSettings(ema=0.9, accumulate=2).check(None)


def test_biases_do_not_decay_whatever_their_shape():
    attention = keras.layers.MultiHeadAttention(2, 4)
    attention.build((None, 3, 8), (None, 3, 8))
    variables = attention.trainable_variables
    for variable in variables:
        variable.assign(np.ones(variable.shape))
    optimizer = make_optimizer(
        variables, LearningRate(0.1, 100), OptimizerSettings(weight_decay=0.1)
    )
    optimizer.apply([np.zeros(variable.shape, "float32") for variable in variables], variables)
    kept = {variable.path: bool(np.all(np.asarray(variable) == 1)) for variable in variables}
    assert len(kept) == 8
    assert all(same == path.endswith("bias") for path, same in kept.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -1}, "weight decay"),
        ({"clip_norm": 0}, "norm to clip"),
        ({"accumulate": 0}, "accumulate"),
        ({"ema": 1.0}, "moving average"),
    ],
)
def test_settings_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        OptimizerSettings(**options)


def test_the_suggested_rate_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-6, 1, 100)
    losses = 2 - 1.5 / (1 + (1e-3 / rates) ** 2) + np.where(rates > 0.1, rates * 50, 0)
    assert lr_finder.suggest(rates, losses) == pytest.approx(1e-3, rel=0.2)
    assert lr_finder.suggest(rates, np.r_[np.full(40, 1.0), np.linspace(1, 2, 60)]) is None
    assert lr_finder.suggest(rates[:2], losses[:2]) is None
    assert lr_finder.suggest(rates, np.full(100, np.nan)) is None


def test_a_sweep_leaves_the_model_as_it_was():
    import tensorflow as tf

    model = builder(normalization)()
    before = [v.numpy() for v in model.variables]
    rng = np.random.default_rng(0)
    pixels, targets = (
        rng.uniform(0, 255, (32, 16, 16, 3)).astype("float32"),
        np.eye(3, dtype="float32")[np.arange(32) % 3],
    )
    batches = tf.data.Dataset.from_tensor_slices((pixels, targets)).batch(8)
    found = lr_finder.find_rate(model, batches, HEAD.loss(), 0.0, "test")
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert found["rates"] == sorted(found["rates"])
    assert len(found["rates"]) == len(found["losses"]) <= lr_finder.STEPS
    assert min(found["losses"]) < found["losses"][0]
    assert 1e-5 < found["suggested"] < 1


SHAPES = ((3, 3, 4, 2), (7,), (5, 6), (2,), (300, 300))


@pytest.mark.parametrize("missing", [(), (1,), (0, 1, 3)])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_small_variables_move_together_as_keras_moves_each_of_them(missing, clip_norm):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    gradients = [[rng.normal(size=v.shape).astype("float32") for v in start] for _ in range(5)]
    ends = []
    for kind in (keras.optimizers.AdamW, PackedAdamW):
        variables = [keras.Variable(v) for v in start]
        rate = keras.optimizers.schedules.CosineDecay(1e-2, 4, warmup_target=0.1, warmup_steps=2)
        optimizer = kind(rate, weight_decay=0.01, global_clipnorm=clip_norm)
        optimizer.exclude_from_weight_decay(var_list=[variables[1]])
        for step in gradients:
            given = [None if i in missing else g for i, g in enumerate(step)]
            optimizer.apply(given, variables)
        ends.append([v.numpy() for v in variables])
    for keras_own, packed in zip(*ends, strict=True):
        np.testing.assert_array_equal(packed, keras_own)
    # Those of each matrix, and of all the rest: none of the model's own.
    assert len(optimizer.variables) == len(["iterations"]) + 2 * len(["(5, 6)", "large", "packed"])
