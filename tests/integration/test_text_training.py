"""Training on sentences: batches, cached features, low-rank additions, biases, several tasks."""

import keras
import numpy as np
import pytest

from graft.recipes.codecs import examples
from graft.recipes.codecs.targets import Ragged
from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.codecs.texts import padded
from graft.recipes.data import sentences, splits
from graft.recipes.data.records import Sentence
from graft.recipes.feed import pipeline
from graft.recipes.tasks.table import tasks_for
from graft.recipes.train import fit
from graft.recipes.train.schedule import TEXT_SCHEDULES, Phase, for_width, lengthened
from graft.recipes.train.settings import FitSettings
from graft.zoo.backbones import encoder_table, encoders
from graft.zoo.errors import ConfigError
from graft.zoo.files.store import Store
from graft.zoo.graph import adapters
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads import heads
from tests.tiny import killed_after, plan_of

HEAD = heads.single_label(["blue", "green", "red"], dropout=0.1)
QUIET = FitSettings(batch_size=8, weight_decay=0.0)


@pytest.fixture(scope="module")
def row(tiny_encoder):
    return encoders.find_encoder(str(tiny_encoder))


def codec(row, max_length=32):
    return TextCodec(encoders.load_tokenizer(row), encoder_table.ENCODER_INPUTS, max_length)


def encoded(row, source, *heads):
    tasks = tasks_for(heads)
    return {name: codec(row).encode(records, tasks) for name, records in source.splits.items()}


@pytest.fixture(scope="module")
def colours(row, sentences_csv):
    source = sentences.load(str(sentences_csv), need=("label",))
    return encoded(row, source, HEAD)


@pytest.fixture(scope="module")
def tagged(row, tmp_path_factory):
    """Words where colours are entities, and a label that says whether there is a stone."""
    rng = np.random.default_rng(1)
    words = ["red", "blue", "stone", "apple", "runs", "sleeps", "the", "green"]
    lines = ["text,label,tags"]
    for i in range(60):
        chosen = [*rng.choice(words, int(rng.integers(2, 9))), ("stone", "apple")[i % 2]]
        tags = ["B-colour" if word in ("red", "blue", "green") else "O" for word in chosen]
        tags[0] = "B-colour" if i < 3 else tags[0]
        lines.append(f"{' '.join(chosen)},{'yes' if 'stone' in chosen else 'no'},{' '.join(tags)}")
    path = tmp_path_factory.mktemp("tagged") / "words.csv"
    path.write_text("\n".join(lines) + "\n")
    source, _ = splits.complete(sentences.load(str(path), need=("label", "tags")), 0)
    intent = heads.single_label(source.labels, name="intent")
    slots = heads.tags(sentences.tag_names(source), name="slots")
    return encoded(row, source, intent, slots), intent, slots


def build(row, heads=(HEAD,), weights=""):
    keras.utils.set_random_seed(3)
    return stack(encoders.build_encoder(row, weights), heads)


def test_batches_hold_every_sentence_once_and_little_padding(colours):
    train = colours["train"]
    order = pipeline.Order(len(train), 6, seed=1, epochs=2, lengths=train.ids.lengths)
    batches = list(pipeline.training_batches(train, order))
    assert len(batches) == 2 * order.steps
    seen = [
        row[mask > 0].tobytes()
        for x, _ in batches[: order.steps]
        for row, mask in zip(x["token_ids"].numpy(), x["padding_mask"].numpy(), strict=True)
    ]
    assert sorted(seen) == sorted(train.ids[i].tobytes() for i in range(len(train)))
    first, second = (
        b[0]["token_ids"].numpy().tobytes() for b in (batches[0], batches[order.steps])
    )
    assert first != second, "both epochs have the same order"
    share = np.mean([x["padding_mask"].numpy().mean() for x, _ in batches[: order.steps]])
    assert share > 0.6, "sentences of all lengths are in one batch"
    assert all(x["token_ids"].shape[1] % examples.ROUND_LENGTH == 0 for x, _ in batches)


def batches_in_order(texts, size=8):
    """(inputs, targets by task) of all sentences, shortest first."""
    read = texts.reader(0)
    for start in range(0, len(texts), size):
        yield read(0, np.arange(start, min(start + size, len(texts)), dtype=np.int32))


def test_targets_stay_with_their_sentences(row, colours):
    """The sentences are sorted by length; each one's label is the colour that stands in it."""
    pieces = encoders.load_tokenizer(row).vocabulary
    for x, y in batches_in_order(colours["test"]):
        for ids, target in zip(x["token_ids"].numpy(), y[HEAD.name].numpy(), strict=True):
            assert HEAD.labels[target.argmax()] in {pieces[i] for i in ids}
    assert (np.diff(colours["test"].ids.lengths) >= 0).all()


def test_tags_stand_on_the_first_piece_of_each_word(tagged):
    texts, _, slots = tagged
    train = texts["train"]
    for x, y in batches_in_order(train):
        assert y["slots"].shape == x["token_ids"].shape
        assert (y["slots"].numpy()[x["padding_mask"].numpy() == 0] == -1).all()
        assert (y["slots"].numpy()[:, 0] == -1).all(), "[CLS] has a tag"
    assert len(train.targets["slots"].values) == len(train.ids.values)
    assert set(train.targets["slots"].values) <= {-1, *range(len(slots.labels))}


@pytest.mark.parametrize(
    ("phase", "mode"),
    [(Phase("head", "head", 2, 1e-2), "memory"), (Phase("one block", 1, 2, 1e-3), "disk")],
    ids=["pooled", "sequences"],
)
def test_cached_features_train_the_same_model(row, colours, tmp_path, phase, mode):
    results = []
    for cache, store in ((mode, Store(tmp_path)), ("off", None)):
        settings = FitSettings(batch_size=8, weight_decay=0.0, cache_dtype="float32", cache=cache)
        head = heads.single_label(HEAD.labels)
        plan = plan_of(lambda head=head: build(row, [head]), head, (phase,), settings=settings)
        _, (trained,) = fit.train(plan, colours, store=store)
        results.append(trained)
        assert trained.phases[0]["cached"] == (cache != "off")
    losses = [[epoch["loss"] for epoch in trained.history] for trained in results]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_few_epochs_learn_the_colours(row, colours):
    phases = (Phase("all", "all", 30, 5e-3),)
    plan = plan_of(lambda: build(row), HEAD, phases, settings=QUIET)
    model, (trained,) = fit.train(plan, colours)
    outputs = fit.predict(model, colours["test"], [trained.weights])[0]
    assert np.mean(outputs.argmax(-1) == colours["test"].targets[HEAD.name].argmax(-1)) > 0.8


def test_low_rank_additions_train_alone_and_are_merged(row, colours):
    phases = (Phase("lora", "all", 3, 1e-2, adapt="lora"),)
    before = build(row)
    plan = plan_of(lambda: build(row), HEAD, phases, [0, 1], QUIET)
    model, (first, second) = fit.train(plan, colours)
    assert len(first.weights) == len(before.weights)
    assert not adapters.lora_layers(model)
    changed = [
        v.path
        for v, a, b in zip(before.weights, before.get_weights(), first.weights, strict=True)
        if not np.array_equal(a, b)
    ]
    assert all(
        "query" in path or "value" in path or "probabilities" in path
        for path in changed
        if "seed" not in path
    )
    assert any("query" in path for path in changed)
    merged = fit.predict(build(row), colours["validation"], [first.weights])[0]
    loss = HEAD.score(merged, colours["validation"].targets[HEAD.name])["loss"]
    assert loss == pytest.approx(first.validation_loss, abs=1e-4), (
        "the merged weights are another model"
    )
    assert not np.array_equal(first.weights[-1], second.weights[-1])


def test_low_rank_additions_need_attention(make_tiny_backbone):
    with pytest.raises(ConfigError, match="has no attention"):
        adapters.add_lora(make_tiny_backbone())


def test_biases_train_alone(row, colours):
    phases = (Phase("biases", "all", 2, 1e-2, adapt="bias"),)
    before = build(row)
    described = fit.describe_phases(build(row), phases)[0]
    assert described["trainable_parameters"] < described["total_parameters"] / 5
    plan = plan_of(lambda: build(row), HEAD, phases, settings=QUIET)
    _, (trained,) = fit.train(plan, colours)
    for variable, a, b in zip(before.weights, before.get_weights(), trained.weights, strict=True):
        if (
            not np.array_equal(a, b)
            and "seed" not in variable.path
            and "probabilities" not in variable.path
        ):
            assert variable.name == "bias" or len(variable.shape) == 1, variable.path


def test_several_tasks_train_at_once(row, tagged):
    texts, intent, slots = tagged
    tasks = heads.Heads((intent, slots))
    phases = (Phase("all", "all", 12, 5e-3),)
    plan = plan_of(lambda: build(row, tasks), tasks, phases, settings=QUIET)
    model, (trained,) = fit.train(plan, texts)
    first, last = trained.history[0], trained.history[-1]
    assert last["intent_loss"] < first["intent_loss"]
    assert last["slots_loss"] < first["slots_loss"]
    outputs = fit.predict(model, texts["test"])[0]
    assert outputs["intent"].shape == (len(texts["test"]), 2)
    assert outputs["slots"].shape == (len(texts["test"].ids.values), len(slots.labels))
    learned = np.asarray(model.get_layer("task_weights").log_variances)
    assert (learned != 0).all()
    assert learned[0] != learned[1]


def test_weights_of_tasks_weigh(row, tagged):
    texts, intent, slots = tagged
    tasks = heads.Heads((intent, slots), (1.0, 0.0))
    before = build(row, tasks)
    phases = (Phase("all", "all", 1, 1e-2),)
    plan = plan_of(lambda: build(row, tasks), tasks, phases, settings=QUIET)
    _, (trained,) = fit.train(plan, texts)
    by_path = {
        v.path: (a, b)
        for v, a, b in zip(before.weights, before.get_weights(), trained.weights, strict=True)
    }
    assert all(
        np.array_equal(*pair) for path, pair in by_path.items() if path.startswith("slots_dense")
    )
    assert not any(
        np.array_equal(*pair) for path, pair in by_path.items() if path == "intent_dense/kernel"
    )


def test_padding_and_unnamed_tokens_do_not_count():
    head = heads.tags(["O", "B-x"])
    truth = np.array([[-1, 0, 1, -1]], np.int32)
    sure = np.array([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.99, 0.01]]], np.float32)
    loss, metric = head.loss(), head.metrics()[0]
    metric.update_state(truth, sure)
    assert float(metric.result()) == 1.0
    assert float(loss(truth, sure)) == pytest.approx(-np.log([0.9, 0.8]).mean(), abs=1e-5)
    assert head.score(sure[0], truth[0])["accuracy"] == 1.0


def test_words_that_were_cut_off_are_missed(row, tagged):
    _, _, slots = tagged
    long = Sentence(
        "", "", "long", ("red", "", "the", "blue", "blue"), ("B-colour", "O", "O", "B-colour", "O")
    )
    short = Sentence("", "", "short", ("the", "green"), ("O", "B-colour"))
    task = tasks_for(slots).first
    found = codec(row, max_length=4).encode([long, short], [task])  # [CLS] red the [SEP]
    target = found.targets["slots"]
    assert found.truncated == 1
    assert found.names == ("long", "short")
    right = np.eye(len(slots.labels), dtype=np.float32)[target.values]
    truth, said = task.sequences(right, target)
    assert truth == [list(long.tags), list(short.tags)]
    assert said == [["B-colour", "O", "O", "O", "O"], ["O", "B-colour"]]
    figures = task.figures(right, target)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["precision"] == figures["accuracy"] == 1.0, (
        "accuracy is of the words that the model saw"
    )


def test_ragged_rows():
    rows = Ragged.of([np.array([1, 2]), np.array([], int), np.array([3])])
    assert len(rows) == 3
    assert rows.lengths.tolist() == [2, 0, 1]
    assert rows[2].tolist() == [3]


def test_padded_inputs(colours):
    made = padded(colours["test"], [0, 3], 20)
    assert set(made) == set(encoder_table.ENCODER_INPUTS)
    assert made["token_ids"].shape == (2, 20)
    assert made["padding_mask"].sum() == sum(len(colours["test"].ids[i]) for i in (0, 3))


def test_schedules_follow_width_and_data():
    full = TEXT_SCHEDULES["full"]
    assert for_width(full, 384) == full
    assert for_width(full, 128)[0].learning_rate == pytest.approx(9e-4)
    assert (
        for_width(TEXT_SCHEDULES["feature_extraction"], 128) == TEXT_SCHEDULES["feature_extraction"]
    )
    assert lengthened(full, 3, 100)[0].epochs == 34
    assert lengthened(full, 500, 100) == full


def test_encoders_have_a_block_a_layer(row):
    blocks = find_blocks(backbone_of(build(row)))
    assert [block.name for block in blocks][-2:] == ["transformer_layer_0", "transformer_layer_1"]


def test_an_interrupted_training_ends_with_the_same_weights(row, tagged, tmp_path):
    """Two tasks with learned weights, low-rank additions, dropout: killed after the second epoch,
    and gone on with.
    """
    texts, intent, slots = tagged
    tasks = heads.Heads((intent, slots))
    phases = (Phase("lora", "all", 3, 5e-3, adapt="lora"),)

    def train(folder, seeds=(0, 1)):
        plan = plan_of(lambda: build(row, tasks), tasks, phases, seeds, QUIET)
        return fit.train(plan, texts, folder=folder)[1]

    with killed_after(2):
        train(tmp_path)
    for whole, resumed in zip(train(None), train(tmp_path), strict=True):
        assert all(
            np.array_equal(a, b) for a, b in zip(whole.weights, resumed.weights, strict=True)
        )
        assert [row["loss"] for row in whole.history] == [row["loss"] for row in resumed.history]
