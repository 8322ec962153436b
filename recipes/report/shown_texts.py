"""What the report of a run for text shows beside its figures: lengths, samples, mistakes, and the
tokens that decided.

Which tokens decided is gradient x input at the vectors that enter the encoder (Denil et al. 2014,
arXiv:1412.6815; Atanasova et al. 2020, arXiv:2009.13295, found it among the most faithful): how
much the answer would change if that token's vector shrank.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.codecs.texts import Texts, padded
from graft.recipes.data.records import Source
from graft.recipes.tasks import verdicts
from graft.recipes.tasks.task import Task
from graft.zoo.graph.blocks import find_blocks
from graft.zoo.graph.cuts import split_at
from graft.zoo.graph.stack import backbone_of

if TYPE_CHECKING:
    import keras

__all__ = ["for_report", "saliency"]

SAMPLES_PER_LABEL = 3
MISTAKES = 16
TELLING, LOOKED_AT = 12, 256
"""Tokens shown for each label, and test sentences that they are looked for in."""
LEAST_SENTENCES = 2
"""A token that decided in one sentence alone tells of that sentence, not of the label."""
BATCH = 32


def for_report(model: "keras.Model", experiment: Any, outputs: Mapping[str, np.ndarray]) -> dict:
    """`{"lengths": {split: [count]}, "samples", "mistakes", "telling"}`.

    Args:
        model: as it ships.
        experiment: with `problem.tasks`, `problem.data`, `codec` and `examples`.
        outputs: of the test sentences, by task.
    """
    examples, data = experiment.examples, experiment.problem.data
    test, task = examples["test"], experiment.problem.tasks.first
    rows, target = outputs[task.name], test.targets[task.name]
    shown = {
        "lengths": {name: np.bincount(examples[name].ids.lengths).tolist() for name in data.splits},
        "samples": _samples(data.source),
        "mistakes": [],
        "telling": {},
    }
    pieces = experiment.codec.tokenizer.vocabulary
    if task.chooses:
        worst = verdicts.worst_mistakes(rows, target, MISTAKES)
        marks = saliency(model, task.name, test, worst, rows[worst].argmax(-1))
        shown["mistakes"] = [
            {
                "name": test.names[i],
                "truth": task.labels[target[i].argmax()],
                "predicted": task.labels[rows[i].argmax()],
                "probability": float(rows[i].max()),
                "tokens": _tokens(test.ids[i], mark, pieces),
            }
            for i, mark in zip(worst, marks, strict=True)
        ]
        shown["telling"] = _telling(model, task, test, rows, pieces)
    elif task.kind.by_position:
        shown["mistakes"] = _tag_mistakes(task, rows, test)
    return shown


def saliency(
    model: "keras.Model", name: str, texts: Texts, chosen: Sequence[int], units: Sequence[int]
) -> list[np.ndarray]:
    """How much each token of the `chosen` sentences spoke for one unit of the output `name`.

    A list of `(tokens,)`, signed.
    """
    import tensorflow as tf

    first = find_blocks(backbone_of(model))[0].cut
    below, above = split_at(model, first)
    names = [t.name for t in above.inputs][len(first) :]
    found = []
    for start in range(0, len(chosen), BATCH):
        part = list(chosen[start : start + BATCH])
        inputs = {key: tf.constant(value) for key, value in padded(texts, part).items()}
        vectors = below(inputs, training=False)
        vectors = vectors if isinstance(vectors, list | tuple) else [vectors]
        with tf.GradientTape() as tape:
            tape.watch(vectors[0])
            given = [*vectors[: len(first)], *(inputs[key] for key in names)]
            output = above(given if len(given) > 1 else given[0], training=False)
            output = output[name] if isinstance(output, dict) else output
            spoke = tf.gather(
                output, tf.constant(units[start : start + BATCH], tf.int32), batch_dims=1
            )
        marks = tf.reduce_sum(tape.gradient(spoke, vectors[0]) * vectors[0], -1).numpy()
        found += [row[: len(texts.ids[i])] for row, i in zip(marks, part, strict=True)]
    return found


def _tokens(ids: np.ndarray, marks: np.ndarray, pieces: Sequence[str]) -> list[dict]:
    """Words with a mark between -1 and 1 each: pieces that continue a word are joined to it;
    special tokens are left out.
    """
    words: list[dict] = []
    for number, mark in zip(ids, marks, strict=True):
        piece = pieces[number]
        if piece in ("[CLS]", "[SEP]", "<s>", "</s>", "<|endoftext|>"):
            continue
        if piece.startswith("##") and words:
            words[-1]["text"] += piece[2:]
            words[-1]["mark"] += float(mark)
        else:
            words.append({"text": piece.lstrip("\u2581\u0120"), "mark": float(mark)})
    largest = max((abs(word["mark"]) for word in words), default=0.0) or 1.0
    return [word | {"mark": round(word["mark"] / largest, 3)} for word in words]


def _telling(
    model: "keras.Model", task: Task, test: Texts, rows: np.ndarray, pieces: Sequence[str]
) -> dict[str, list[dict]]:
    """For each label the words that spoke most for it, on average over the test sentences that were
    given it.
    """
    chosen = np.sort(np.random.default_rng(0).permutation(len(test))[:LOOKED_AT])
    units = rows[chosen].argmax(-1)
    marks: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for i, unit, mark in zip(
        chosen, units, saliency(model, task.name, test, chosen, units), strict=True
    ):
        for word in _tokens(test.ids[i], mark, pieces):
            marks[int(unit)][word["text"]].append(word["mark"])
    telling = {}
    for unit, words in sorted(marks.items()):
        means = {
            word: float(np.mean(m))
            for word, m in words.items()
            if len(m) >= LEAST_SENTENCES and word.isalnum()
        }
        best = sorted((w for w in means if means[w] > 0), key=means.get, reverse=True)[:TELLING]
        telling[task.labels[unit]] = [
            {"text": w, "mark": round(means[w], 3), "sentences": len(words[w])} for w in best
        ]
    return telling


def _tag_mistakes(task: Task, rows: np.ndarray, test: Texts) -> list[dict]:
    """Sentences with the most wrong tags, word by word."""
    truth, predicted = task.sequences(rows, test.targets[task.name])
    wrong = [
        sum(t != p for t, p in zip(a, b, strict=True))
        for a, b in zip(truth, predicted, strict=True)
    ]
    worst = [i for i in np.argsort(-np.array(wrong), kind="stable")[:MISTAKES] if wrong[i]]
    return [
        {
            "name": test.names[i],
            "words": [
                {"text": word, "truth": t, "predicted": p}
                for word, t, p in zip(
                    test.targets[task.name].words[i], truth[i], predicted[i], strict=True
                )
            ],
        }
        for i in worst
    ]


def _samples(source: Source) -> dict[str, list[str]]:
    """A few training sentences of each label; of tags alone, of any."""
    samples: dict[str, list[str]] = {}
    for sentence in source.splits["train"]:
        for label in sentence.labels or ("",):
            if len(samples.setdefault(label, [])) < SAMPLES_PER_LABEL:
                samples[label].append(sentence.text)
    return samples
