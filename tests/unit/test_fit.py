"""The fit loop trains what the phase says, repeats by seed, and leaves frozen statistics alone."""

import keras
import numpy as np
import pytest

from graft.recipes.codecs.images import Images
from graft.recipes.feed import pipeline
from graft.recipes.tasks import verdicts
from graft.recipes.tasks.labels import SingleLabelTask
from graft.recipes.train.fit import describe_phases, predict, train
from graft.recipes.train.optimizer import (
    LearningRate,
    OptimizerSettings,
    batch_norm_momentum,
    make_optimizer,
    precision,
)
from graft.recipes.train.schedule import Phase
from graft.recipes.train.settings import FitSettings
from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads.heads import single_label
from tests.tiny import pictures, plan_of

HEAD = single_label(["left", "right", "top"], dropout=0.1)
PLAIN = FitSettings(batch_size=8)


@pytest.fixture(scope="module")
def data():
    return {"train": pictures(48), "validation": pictures(12, 1)}


@pytest.fixture(scope="module")
def build(make_tiny_backbone):
    """A stacked model whose backbone weights are "pretrained": the same ones, whatever the seed."""
    keras.utils.set_random_seed(7)
    pretrained = make_tiny_backbone().get_weights()

    def make():
        backbone = make_tiny_backbone()
        backbone.set_weights(pretrained)
        return stack(backbone, [HEAD])

    return make


TWO_PHASES = (Phase("head", "head", 2, 1e-2), Phase("top", 2, 2, 1e-2, batch_norm="train"))


def test_two_phases_learn_and_say_what_happened(build, data):
    settings = FitSettings(batch_size=8, weight_decay=1e-4)
    model, (result,) = train(plan_of(build, HEAD, TWO_PHASES, settings=settings), data)
    assert [row["phase"] for row in result.history] == ["head", "head", "top", "top"]
    assert [row["epoch"] for row in result.history] == [1, 2, 3, 4]
    assert result.history[-1]["val_loss"] < result.history[0]["val_loss"]
    assert [phase["epochs_run"] for phase in result.phases] == [2, 2]
    assert result.seconds > 0
    (outputs,) = predict(model, data["validation"])
    # The best epoch's weights are the ones that the model holds.
    targets = data["validation"].targets[HEAD.name]
    assert HEAD.score(outputs, targets)["loss"] == pytest.approx(result.validation_loss, abs=1e-4)


def test_frozen_blocks_do_not_move_and_thawed_ones_do(build, data):
    keras.utils.set_random_seed(3)
    before = {v.path: v.numpy() for v in build().weights}
    model, _ = train(plan_of(build, HEAD, TWO_PHASES[1:], settings=PLAIN), data)
    blocks = find_blocks(backbone_of(model))
    assert len(blocks) == 4
    for block in blocks[:2]:
        for v in block.weights:  # kernels, scales, and the moving statistics of BatchNormalization
            np.testing.assert_array_equal(v.numpy(), before[v.path])
    moved = [
        v.path
        for block in blocks[2:]
        for v in block.weights
        if not np.array_equal(v.numpy(), before[v.path])
    ]
    assert len(moved) == sum(len(block.weights) for block in blocks[2:])


def test_batch_norm_in_inference_mode_stays_in_trained_blocks(build, data):
    keras.utils.set_random_seed(3)
    before = {v.path: v.numpy() for v in build().weights}
    phases = (Phase("all", "all", 1, 1e-2),)
    model, _ = train(plan_of(build, HEAD, phases, settings=PLAIN), data)
    for layer in model.layers:
        for v in layer.weights:
            same = np.array_equal(v.numpy(), before.get(v.path))
            assert same == isinstance(layer, keras.layers.BatchNormalization), v.path


def test_patience_stops_a_phase(build, data):
    still = (Phase("head", "head", 30, 1e-12),)
    settings = FitSettings(batch_size=8, patience=2)
    _, (result,) = train(plan_of(build, HEAD, still, settings=settings), data)
    assert result.phases[0]["epochs_run"] < 30


def test_weight_decay_spares_biases_and_normalization(build):
    """Where gradients are zero, only what decays moves."""
    model = build()
    variables = model.trainable_weights
    before = [v.numpy() for v in variables]
    optimizer = make_optimizer(
        variables, LearningRate(0.1, 20), OptimizerSettings(weight_decay=0.5)
    )
    for _ in range(5):
        optimizer.apply([np.zeros_like(value) for value in before], variables)
    for v, value in zip(variables, before, strict=True):
        if v.name == "kernel":
            assert np.abs(v.numpy()).sum() < 0.95 * np.abs(value).sum(), v.path
        else:
            np.testing.assert_array_equal(v.numpy(), value, err_msg=v.path)


def test_moving_statistics_keep_up_with_a_short_training(build, data):
    assert batch_norm_momentum(10) == 0.5
    assert batch_norm_momentum(200) == pytest.approx(0.8)
    assert batch_norm_momentum(10**6) == 0.9
    model, _ = train(plan_of(build, HEAD, TWO_PHASES[1:], settings=PLAIN), data)
    assert model.get_layer("block3_bn").momentum == batch_norm_momentum(2 * 6)
    assert model.get_layer("block0_bn").momentum == 0.99, "a frozen layer stays as it is"


def test_the_rate_rises_and_falls_to_zero():
    rate = make_optimizer([], LearningRate(0.1, 100), OptimizerSettings())._learning_rate
    values = [float(rate(step)) for step in range(101)]
    assert max(values) == pytest.approx(0.1)
    assert np.argmax(values) == 10
    assert values[0] == pytest.approx(0.01)
    assert values[-1] == pytest.approx(0, abs=1e-6)


def test_describe_phases_counts(build):
    rows = describe_phases(build(), TWO_PHASES)
    model = build()
    dense = model.get_layer("probabilities_dense").count_params()
    assert rows[0]["blocks"] == 0
    assert rows[0]["trainable_parameters"] == dense
    blocks = find_blocks(backbone_of(model))
    statistics = 2 * 2 * 8  # moving mean and variance of two layers of width 8
    assert (
        rows[1]["trainable_parameters"]
        == dense + sum(b.parameters for b in blocks[2:]) - statistics
    )
    assert rows[1]["total_blocks"] == 4


def test_mixed_precision_trains_and_its_weights_fit_a_float32_model(make_tiny_backbone, data):
    def build_mixed():
        with precision(True):
            return stack(make_tiny_backbone(), [HEAD])

    model, (result,) = train(plan_of(build_mixed, HEAD, TWO_PHASES, settings=PLAIN), data)
    assert model.get_layer("stem").compute_dtype == "bfloat16"
    plain = stack(make_tiny_backbone(), [HEAD])
    assert plain.get_layer("stem").compute_dtype == "float32"
    outputs = predict(plain, data["validation"], [result.weights])[0]
    np.testing.assert_allclose(
        outputs, predict(model, data["validation"], [result.weights])[0], atol=0.05
    )


def batches(images, **options):
    return [
        tuple(t.numpy() for t in batch)
        for batch in pipeline.training_batches(images, pipeline.Order(len(images), 8, 0), **options)
    ]


def test_training_batches_hold_each_image_once(data):
    seen = np.concatenate([pixels for pixels, _ in batches(data["train"])])
    assert sorted(map(bytes, np.uint8(seen))) == sorted(map(bytes, data["train"].pixels))


def test_a_memory_mapped_array_gives_the_same_images_with_their_labels(data, tmp_path):
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=data["train"].pixels.shape)
    mapped[:] = data["train"].pixels
    images = Images(mapped, data["train"].targets, data["train"].names)
    for (a, b), (c, d) in zip(batches(data["train"]), batches(images), strict=True):
        pair = {bytes(np.uint8(p)): bytes(t) for p, t in zip(a, b, strict=True)}
        assert {bytes(np.uint8(p)): bytes(t) for p, t in zip(c, d, strict=True)} == pair


@pytest.mark.parametrize(
    "name", ["flip", "flip_vertical", "crop", "color", "randaugment", "mixup", "cutmix"]
)
def test_every_augmentation_changes_pixels_within_range_and_repeats(data, name):
    first, second, plain = (
        batches(data["train"], augment=(name,)),
        batches(data["train"], augment=(name,)),
        batches(data["train"]),
    )
    for (a, b), (c, d) in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)
    pixels = np.concatenate([a for a, _ in first])
    assert not np.allclose(pixels, np.concatenate([a for a, _ in plain]))
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    np.testing.assert_allclose(np.concatenate([b for _, b in first]).sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("augment", "message"),
    [(("flop",), "no augmentation is called 'flop'"), (("mixup", "cutmix"), "choose one")],
)
def test_augmentations_refused(data, augment, message):
    with pytest.raises(ConfigError, match=message):
        pipeline.training_batches(data["train"], pipeline.Order(48, 8, 0), augment=augment)


def test_balanced_weights_make_every_class_count_the_same(data):
    targets = np.eye(3, dtype=np.float32)[[0] * 5 + [1] * 3]
    images = Images(data["train"].pixels[:8], {HEAD.name: targets}, tuple("abcdefgh"))
    weights = pipeline.balanced_weights(targets)
    np.testing.assert_allclose(weights[:2], [8 / 10, 8 / 6], rtol=1e-6)
    ((_, targets, given),) = batches(images, class_weights=weights)
    np.testing.assert_allclose(given, weights[targets.argmax(-1)])
    assert given.mean() == pytest.approx(1)


def test_the_verdict_of_transfer_follows_the_interval():
    seconds = ([60, 60, 60], [180, 180, 180])
    won = verdicts.verdict([0.91, 0.90, 0.92], [0.70, 0.72, 0.71], seconds)
    assert won["decision"] == "gained"
    assert won["text"] == (
        "transfer gained +20.0 points (95 % interval +17.7 to +22.3 over 3 seeds; other test "
        "examples may differ); "
        "it saved 2.0 minutes a run"
    )
    lost = verdicts.verdict([0.60, 0.61, 0.62], [0.70, 0.72, 0.71], (seconds[1], seconds[0]))
    assert lost["decision"] == "lost"
    assert lost["text"].startswith("transfer lost 10.0 points (95 % interval -12.3 to -7.7")
    assert lost["text"].endswith(
        "train from scratch, or try another backbone; it cost 2.0 minutes a run"
    )
    two = verdicts.verdict(
        [0.9, 0.8], [0.7, 0.7], seconds
    )  # each seed won, and two of them say little
    assert two["decision"] == "undecided"
    assert "cannot be told apart" in two["text"]
    one = verdicts.verdict([0.9], [0.7], ([1], [1]))
    assert one["decision"] == "one_seed"
    assert "cannot be told from one seed" in one["text"]


def test_figures_by_hand():
    outputs = np.float32([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0.1, 0.7, 0.2]])
    targets = np.eye(3, dtype=np.float32)[[0, 1, 1, 0]]
    task = SingleLabelTask(HEAD)
    result = task.figures(outputs, targets)
    assert result["accuracy"] == verdicts.accuracy(outputs, targets) == 0.5
    assert result["examples"] == 4
    assert result["per_class"]["right"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "examples": 2,
    }
    assert result["per_class"]["top"]["examples"] == 0
    assert task.confusion(outputs, targets) == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert verdicts.worst_mistakes(outputs, targets, 5).tolist() == [3, 2]
