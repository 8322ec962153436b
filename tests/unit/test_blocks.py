"""Cuts, blocks and freezing hold for any functional model."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from graft.zoo.errors import ConfigError
from graft.zoo.graph.blocks import count_trained, find_blocks, freeze_blocks
from graft.zoo.graph.cuts import find_cuts, split_at, with_frozen_prefix
from graft.zoo.graph.layers import InferenceOnly
from graft.zoo.graph.nodes import flatten, nodes_of


def draw_model(kinds: list[str], nest: bool, seed: int):
    """A random functional model: each kind adds a unit; `nest` puts each second unit into a model
    of its own.
    """
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    shared = layers.Conv2D(4, 1, name="shared")
    for i, kind in enumerate(kinds):
        entry = keras.Input(x.shape[1:]) if nest and i % 2 else x
        y = unit(kind, entry, i, shared)
        x = keras.Model(entry, y, name=f"nested{i}")(x) if nest and i % 2 else y
    return keras.Model(inputs, x, name="drawn")


def unit(kind: str, x, i: int, shared):
    if kind == "conv":
        x = layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"conv{i}")(x)
        return layers.ReLU(name=f"relu{i}")(layers.BatchNormalization(name=f"bn{i}")(x))
    if kind == "add":
        y = layers.Dropout(0.5, name=f"drop{i}")(layers.Conv2D(4, 1, name=f"branch{i}")(x))
        return layers.Add(name=f"add{i}")([x, y])
    if kind == "concat":
        y = layers.Conv2D(2, 1, name=f"grow{i}")(x)
        return layers.Conv2D(4, 1, name=f"shrink{i}")(layers.Concatenate(name=f"concat{i}")([x, y]))
    if kind == "gate":
        gate = layers.Conv2D(4, 1, activation="sigmoid", name=f"gate{i}")(x)
        return layers.Multiply(name=f"times{i}")([x, gate])
    if kind == "shared":
        return shared(x)
    return layers.LayerNormalization(name=f"norm{i}")(x)


units = st.lists(
    st.sampled_from(["conv", "add", "concat", "gate", "shared", "norm"]), min_size=1, max_size=7
)
drawn = settings(max_examples=25, deadline=None, derandomize=True)


@drawn
@given(units, st.booleans(), st.integers(0, 9))
def test_every_block_cut_splits_the_model(kinds, nest, seed):
    model = flatten(draw_model(kinds, nest, seed))
    pixels = np.random.default_rng(seed).normal(size=(2, 8, 8, 3)).astype("float32")
    whole = model(pixels)
    for block in find_blocks(model)[:-1]:
        prefix, suffix = split_at(model, block.cut)
        np.testing.assert_allclose(suffix(prefix(pixels)), whole, atol=1e-5)


@drawn
@given(units, st.booleans(), st.integers(0, 9))
def test_every_weight_is_in_one_block_and_no_block_is_empty(kinds, nest, seed):
    model = flatten(draw_model(kinds, nest, seed))
    blocks = find_blocks(model)
    ids = [id(v) for block in blocks for v in block.weights]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(v) for v in model.weights}
    assert all(block.parameters for block in blocks)


@drawn
@given(
    units,
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=5),
)
def test_freezing_does_not_depend_on_what_was_before(kinds, seed, history):
    model = flatten(draw_model(kinds, False, seed))
    blocks = find_blocks(model)
    rng = np.random.default_rng(seed)
    for count, train_norm in history:
        for layer in rng.permutation(np.array(model.layers, object))[:3]:
            layer.trainable = bool(rng.integers(2))  # somebody meddles
        model.trainable = bool(rng.integers(2))
        trained = min(count, len(blocks))
        freeze_blocks(model, blocks, trained, "train" if train_norm else "inference")
        thawed = [layer for block in blocks[len(blocks) - trained :] for layer in block.layers]
        expected = {
            id(v)
            for layer in thawed
            if train_norm or not isinstance(layer, layers.BatchNormalization)
            for v in layer._trainable_variables
        }
        assert {id(v) for v in model.trainable_weights} == expected


def test_flatten_shares_weights_and_gives_the_same_outputs():
    model = draw_model(["conv", "add", "conv", "add"], True, 0)
    flat = flatten(model)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert {id(v) for v in flat.weights} == {id(v) for v in model.weights}
    pixels = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(flat(pixels), model(pixels))


def test_flatten_gives_equal_names_of_nested_models_a_prefix():
    def inner(name):
        entry = keras.Input((4,))
        return keras.Model(entry, layers.Dense(4, name="same")(entry), name=name)

    inputs = keras.Input((4,))
    flat = flatten(keras.Model(inputs, inner("second")(inner("first")(inputs))))
    assert [layer.name for layer in flat.layers][1:] == ["same", "second_same"]


def test_flatten_opens_sequential_models_too():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
    )
    inputs = keras.Input((4,))
    assert [layer.name for layer in flatten(keras.Model(inputs, inner(inputs))).layers][1:] == [
        "a",
        "b",
    ]


def test_flatten_refuses_a_subclassed_model():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ConfigError, match="functional and sequential"):
        flatten(Own())


def test_a_frozen_prefix_has_no_dropout_and_keeps_its_statistics(make_tiny_backbone):
    model = make_tiny_backbone()
    blocks = find_blocks(model)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype("float32")
    frozen = with_frozen_prefix(model, blocks[-2].cut)
    prefix, _ = split_at(model, blocks[-2].cut)
    before = [v.numpy() for v in prefix.weights]
    at_cut = next(
        node.outputs[0]
        for node in nodes_of(frozen.outputs)
        if isinstance(node.operation, InferenceOnly)
    )
    first, second = (keras.Model(frozen.inputs, at_cut)(pixels, training=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    frozen(pixels, training=True)
    for variable, value in zip(prefix.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_blocks_end_at_merges_where_there_are_enough(make_tiny_backbone):
    blocks = find_blocks(make_tiny_backbone(blocks=4))
    assert [block.name for block in blocks] == [f"block{i}_add" for i in range(4)]


def test_a_chain_has_a_block_for_each_weighted_layer():
    model = draw_model(["conv", "conv", "norm"], False, 0)
    # The normalization at the end holds no kernel, so it joins the convolution before it.
    assert [block.name for block in find_blocks(model)] == ["stem", "relu0", "norm2"]


def test_layers_that_share_weights_are_one_block():
    model = draw_model(["shared", "conv", "shared", "conv"], False, 0)
    blocks = find_blocks(model)
    (home,) = [block for block in blocks if any(layer.name == "shared" for layer in block.layers)]
    assert "conv1" in [layer.name for layer in home.layers]
    assert len(blocks) == 3


def test_two_tensors_can_be_a_cut():
    inputs = keras.Input((8,))
    older = x = layers.Dense(8, name="stem")(inputs)
    for i in range(5):
        # Each cell reads the two before it (as NASNet's do), so no single tensor separates them.
        cell = layers.Add(name=f"cell{i}")(
            [layers.Dense(8, name=f"a{i}")(x), layers.Dense(8, name=f"b{i}")(older)]
        )
        older, x = x, cell
    model = keras.Model(inputs, layers.Add(name="last")([older, x]))
    blocks = find_blocks(model)
    assert max(len(block.cut) for block in blocks) == 2
    assert len(blocks) >= 4
    data = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    prefix, suffix = split_at(model, blocks[2].cut)
    np.testing.assert_allclose(suffix(prefix(data)), model(data), atol=1e-6)


def test_a_graph_input_needed_behind_the_cut_is_passed_on():
    tokens, mask = keras.Input((4, 8), name="tokens"), keras.Input((4, 1), name="mask")
    x = tokens
    for i in range(3):
        x = layers.Multiply(name=f"masked{i}")([layers.Dense(8, name=f"dense{i}")(x), mask])
    model = keras.Model([tokens, mask], x)
    blocks = find_blocks(model)
    assert len(find_cuts(model)) == 5, "the mask does not count as a live tensor"
    prefix, suffix = split_at(model, blocks[0].cut)
    assert [t.name for t in suffix.inputs] == ["cut_0", "mask"]
    rng = np.random.default_rng(0)
    data = [
        rng.normal(size=(2, 4, 8)).astype("float32"),
        rng.integers(0, 2, (2, 4, 1)).astype("float32"),
    ]
    np.testing.assert_allclose(suffix(prefix(data)), model(data), atol=1e-6)


def test_split_refuses_what_is_no_cut(make_tiny_backbone):
    model = make_tiny_backbone()
    with pytest.raises(ConfigError, match="no cut"):
        split_at(model, [model.get_layer("block1_conv").output])


@pytest.mark.parametrize(
    ("train", "expected"),
    [("head", 0), ("all", 10), (3, 3), (0, 0), (10, 10), (0.5, 5), (0.01, 1), (0.99, 10)],
)
def test_count_trained(train, expected):
    assert count_trained([None] * 10, train) == expected


@pytest.mark.parametrize("train", [-1, 11, 1.0, 0.0, "tail", True])
def test_count_trained_refuses(train):
    with pytest.raises(ConfigError, match="cannot train"):
        count_trained([None] * 10, train)
