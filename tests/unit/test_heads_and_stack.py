"""Heads give what their docstrings say, and stack joins them to any backbone."""

import keras
import numpy as np
import pytest

from graft.zoo.errors import ArtifactError, ConfigError
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads import heads

LABELS = ("ant", "bee", "cat")


def train_a_little(make_tiny_backbone, head, targets, epochs=30):
    """(model, pictures, loss before and after): the tiny network on 24 pictures whose brightness is
    the answer.
    """
    keras.utils.set_random_seed(1)
    model = stack(make_tiny_backbone(blocks=1), [head])
    pictures = np.linspace(0, 255, 24, dtype="float32").reshape(-1, 1, 1, 1) * np.ones(
        (1, 16, 16, 3), "float32"
    )
    model.compile(
        keras.optimizers.Adam(0.02), head.loss(), metrics=head.metrics(), jit_compile=False
    )
    history = model.fit(pictures, targets, epochs=epochs, batch_size=24, verbose=0).history["loss"]
    return model, pictures, history


def test_single_label_sums_to_one_learns_and_scores(make_tiny_backbone):
    head = heads.single_label(LABELS)
    targets = np.eye(3, dtype="float32")[np.repeat([0, 1, 2], 8)]
    model, pictures, loss = train_a_little(make_tiny_backbone, head, targets)
    outputs = model(pictures, training=False).numpy()
    np.testing.assert_allclose(outputs.sum(-1), 1, atol=1e-6)
    assert loss[-1] < loss[0] / 2
    score = head.score(outputs, targets)
    assert score["accuracy"] == np.mean(outputs.argmax(-1) == targets.argmax(-1))
    assert score["loss"] == pytest.approx(-np.log(outputs[targets > 0]).mean(), rel=1e-4)


def test_multi_label_outputs_are_independent(make_tiny_backbone):
    head = heads.multi_label(LABELS)
    targets = np.float32(np.arange(24)[:, None] >= [4, 12, 20])  # bright pictures carry more labels
    model, pictures, loss = train_a_little(make_tiny_backbone, head, targets)
    outputs = model(pictures, training=False).numpy()
    assert loss[-1] < loss[0] / 2
    assert outputs.min() >= 0
    assert outputs.max() <= 1
    assert not np.allclose(outputs.sum(-1), 1, atol=0.1)
    score = head.score(
        np.float32([[0.9, 0.2, 0.1], [0.4, 0.8, 0.2]]), np.float32([[1, 0, 0], [1, 1, 0]])
    )
    assert score == {
        "average_precision": 1.0,
        "binary_accuracy": pytest.approx(5 / 6),
        "exact_match": 0.5,
    }


def test_regression_is_unbounded_and_learns(make_tiny_backbone):
    head = heads.regression(["brightness"])
    targets = np.linspace(-3, 3, 24, dtype="float32")[:, None]
    model, pictures, loss = train_a_little(make_tiny_backbone, head, targets, epochs=60)
    assert loss[-1] < loss[0] / 2
    assert model(pictures, training=False).numpy().min() < -0.5
    assert head.score(targets, targets) == {"mean_absolute_error": 0.0, "r2": 1.0}


def test_embedding_has_length_one_and_brings_alike_together(make_tiny_backbone):
    head = heads.embedding(4)
    targets = np.eye(3, dtype="float32")[np.repeat([0, 1, 2], 8)]
    model, pictures, loss = train_a_little(make_tiny_backbone, head, targets)
    outputs = model(pictures, training=False).numpy()
    np.testing.assert_allclose(np.linalg.norm(outputs, axis=-1), 1, atol=1e-5)
    assert loss[-1] < loss[0]
    assert head.score(outputs, targets)["recall_at_1"] > 0.8


def test_contrastive_loss_by_hand():
    """Two classes on two axes: each row has one partner at similarity 1 and two strangers at 0."""
    vectors = np.float32([[1, 0], [1, 0], [0, 1], [0, 1]])
    loss = heads.embedding(2, temperature=1.0).loss()(
        np.eye(2, dtype="float32")[[0, 0, 1, 1]], vectors
    )
    assert float(loss) == pytest.approx(-np.log(np.e / (np.e + 2)), rel=1e-5)


def test_contrastive_loss_of_a_lone_example_is_zero():
    loss = heads.embedding(2).loss()(np.eye(2, dtype="float32"), np.float32([[1, 0], [0.6, 0.8]]))
    assert float(loss) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heads.single_label(["one"]), "at least 2 label"),
        (lambda: heads.multi_label([]), "at least 1 label"),
        (lambda: heads.single_label(["a", "b", "a"]), "'a' stands twice"),
        (lambda: heads.single_label(["a", "b\nc"]), "cannot stand on a line of labels.txt"),
        (lambda: heads.single_label(["a", "caf\udce9"]), "cannot stand on a line of labels.txt"),
        (lambda: heads.single_label(LABELS, dropout=1.0), "dropout must be"),
        (lambda: heads.single_label(LABELS, label_smoothing=-0.1), "label smoothing must be"),
        (lambda: heads.embedding(0), "dimension of at least 1"),
        (lambda: heads.embedding(4, temperature=0), "temperature"),
    ],
)
def test_heads_refuse(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_several_heads_give_a_dict(make_tiny_backbone):
    model = stack(
        make_tiny_backbone(blocks=1),
        [heads.single_label(LABELS, name="kind"), heads.regression(["age"])],
    )
    outputs = model(np.zeros((2, 16, 16, 3), "float32"))
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "kind": (2, 3),
        "values": (2, 1),
    }


@pytest.mark.parametrize("shape", [(5,), (7, 5), (4, 4, 5)])
def test_stack_pools_by_rank(shape):
    inputs = keras.Input(shape)
    model = stack(keras.Model(inputs, keras.layers.Dense(6)(inputs)), [heads.single_label(LABELS)])
    assert model.get_layer("features").output.shape == (None, 6)


def test_stack_refuses():
    inputs = keras.Input((4,))
    backbone = keras.Model(inputs, keras.layers.Dense(4)(inputs), name="plain")
    with pytest.raises(ConfigError, match="one or more heads"):
        stack(backbone, [])
    with pytest.raises(ConfigError, match="different names"):
        stack(backbone, [heads.regression(["a"]), heads.regression(["b"])])
    with pytest.raises(ConfigError, match="two layers 'features': rename the head or task"):
        stack(backbone, [heads.regression(["a"]), heads.regression(["b"], name="features")])
    with pytest.raises(ConfigError, match="has 2"):
        stack(keras.Model(inputs, [inputs, backbone.output]), [heads.regression(["a"])])
    odd = keras.Input((2, 2, 2, 2))
    with pytest.raises(ConfigError, match="expected \\(batch, features\\)"):
        stack(keras.Model(odd, keras.layers.Dense(2)(odd)), [heads.regression(["a"])])


def test_the_backbone_is_found_again_after_saving(tiny_model, tmp_path):
    backbone, model = tiny_model
    model.save(tmp_path / "m.keras")
    found = backbone_of(keras.saving.load_model(tmp_path / "m.keras", compile=False))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(found(pixels), backbone(pixels), atol=1e-6)
    with pytest.raises(ArtifactError, match="not made by Graft"):
        backbone_of(backbone)


def test_outputs_stay_float32_under_mixed_precision(make_tiny_backbone):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = stack(make_tiny_backbone(blocks=1), [heads.single_label(LABELS)])
    finally:
        keras.config.set_dtype_policy(before)
    assert model(np.zeros((1, 16, 16, 3), "float32")).dtype.name == "float32"
