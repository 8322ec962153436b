"""Counted words beside a run for texts: the floor under it, measured on the same splits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graft.recipes.codecs.texts import Texts
from graft.recipes.data.records import SPLITS
from graft.recipes.tasks import comparison
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.task import Task
from graft.recipes.tasks.tfidf import NAME, CountedWords, count_words, figure_of
from graft.zoo.terminal import say

__all__ = ["Floor", "compare_with_counted_words", "measure_counted_words"]


@dataclass(frozen=True)
class Floor:
    """Counted words on the splits of a run.

    Attributes:
        task: whose answers were learned.
        model: None where there are too many texts and labels.
        validation: the figure that `task` is judged by, on the validation split; NaN where it is
            not known.
        outputs: probabilities of the test texts, `(n, labels)`.
        targets: what is right for them, `(n, labels)`.
        where: what the test texts are called: "test", or "target".
    """

    task: Task
    model: CountedWords | None
    validation: float
    outputs: np.ndarray
    targets: np.ndarray
    where: str


def measure_counted_words(
    tasks: Tasks, texts: Mapping[str, Texts], target: Texts | None = None
) -> Floor | None:
    """Train on the training texts of a run and answer its test texts, before anything else is
    trained.

    Args:
        tasks: of the run; the first that chooses labels of a text is learned.
        texts: "train", "validation" and "test".
        target: the test texts, where the model is for others than those of the "test" split.

    Returns:
        None where no task chooses labels of a text.
    """
    task = next((task for task in tasks if task.counts_words), None)
    if task is None:
        return None

    def known(part: Texts) -> tuple[tuple[str, ...], np.ndarray]:
        return part.sentences, part.targets[task.name]

    splits = {split: known(texts[split]) for split in SPLITS}
    model = count_words(splits["train"], splits["validation"], task.kind)
    sentences, targets = splits["test"] if target is None else known(target)
    outputs = np.zeros_like(targets) if model is None else model.predict(sentences)
    validation = np.nan if model is None else figure_of(model, splits["validation"])
    if model is not None:
        figure = f"{task.kind.figure} {validation:.3f}"
        say(f"counted words ({NAME}, {model.counted}): validation {figure}")
    where = "test" if target is None else "target"
    return Floor(task, model, validation, outputs, targets, where)


def compare_with_counted_words(floor: Floor, outputs: np.ndarray) -> dict:
    """What run.json says of counted words and of a trained model, whose answers to the same texts
    are `outputs`.
    """
    task, model = floor.task, floor.model
    facts = {"model": NAME, "head": task.name, "where": floor.where, **task.measure}
    if model is None:
        text = (
            f"counted words ({NAME}) were not measured: too many texts times labels "
            f"({len(task.labels):,} labels)"
        )
        return {**facts, "text": text, "decision": None}
    ours = task.unit_scores(outputs, floor.targets)
    theirs = task.unit_scores(floor.outputs, floor.targets)
    measured = {
        key: value
        for key, value in task.figures(floor.outputs, floor.targets).items()
        if key != "per_class"
    }
    value, trained = measured[facts["key"]], task.figures(outputs, floor.targets)[facts["key"]]
    made = comparison.paired(ours, theirs, None if None in (trained, value) else (trained, value))
    return {
        **facts,
        "counted": model.counted,
        "terms": len(model.vectorizer.vocabulary_),
        "C": model.C,
        "validation": None if np.isnan(floor.validation) else floor.validation,
        "value": value,
        "trained": trained,
        "metrics": measured,
        "decision": made.decision,
        "mean_points": None if np.isnan(made.mean) else made.mean,
        "interval": made.interval,
        "examples": made.examples,
        "method": made.method,
        "text": _sentence(made, f"{floor.where} {facts['name']}", trained, value),
    }


def _sentence(
    made: comparison.Comparison, figure: str, trained: float | None, counted: float | None
) -> str:
    """Which is better, and by how much."""
    if trained is None or counted is None:
        return (
            f"the model and counted words ({NAME}) cannot be compared: too few test examples for "
            f"{figure}"
        )
    if made.decision == "lost":
        return (
            f"counted words ({NAME}) are better than the model: {figure} {counted:.3f} against "
            f"{trained:.3f}, "
            f"{_difference(made, -1)}: take them, or another encoder (--backbone)"
        )
    against = f"{figure} {trained:.3f} against {counted:.3f}, {_difference(made, 1)}"
    if made.decision == "gained":
        return f"the model is better than counted words ({NAME}): {against}"
    return f"the model and counted words ({NAME}) cannot be told apart: {against}"


def _difference(made: comparison.Comparison, sign: int) -> str:
    """ "+4.0 points (95 % interval +1.0 to +7.0, 500 test examples)"; with `sign` -1 as the other
    side sees it.
    """
    interval = sorted(sign * bound + 0.0 for bound in made.interval or ())
    within = f"95 % interval {interval[0]:+.1f} to {interval[1]:+.1f}, " if interval else ""
    return (
        f"{round(sign * made.mean, 1) + 0.0:+.1f} points ({within}{made.examples:,} test examples)"
    )
