"""What the report of a run for images shows of them: a few of each label, the worst mistakes and
where the model looked.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.images import Images
from graft.recipes.report import explain
from graft.recipes.tasks.task import Task
from graft.recipes.tasks.verdicts import worst_mistakes
from graft.zoo.files.writing import save_arrays
from graft.zoo.graph.stack import backbone_of

if TYPE_CHECKING:
    import keras

__all__ = ["write_mistakes", "write_places", "write_samples"]

SAMPLES_PER_LABEL = 4
WORST_MISTAKES = 16


def write_samples(folder: Path, task: Task, train: Images) -> None:
    """samples.npz: a few training images of each label of `task`."""
    shown = [
        np.flatnonzero(rows)[:SAMPLES_PER_LABEL] for rows in task.holds(train.targets[task.name]).T
    ]
    labels = np.repeat(np.arange(len(shown)), [len(part) for part in shown])
    save_arrays(folder / "samples.npz", images=train.pixels[np.concatenate(shown)], labels=labels)


def write_places(folder: Path, task: Task, test: Images, outputs: np.ndarray) -> None:
    """places.npz: test images with the truth drawn on them, and with the answer; those that the
    figure would gain most from first.
    """
    target = test.targets[task.name]
    truth = task.truth(target)
    assert truth is not None, "answers have places"
    worst = np.argsort(task.unit_scores(outputs, target), kind="stable")[:WORST_MISTAKES]
    pixels = test.pixels[worst]
    size = pixels.shape[1:3]
    drawn = [
        np.stack([task.drawn(*pair, size) for pair in zip(pixels, answers[worst], strict=True)])
        for answers in (truth, outputs)
    ]
    names = np.array([test.names[i] for i in worst], dtype=str)
    save_arrays(folder / "places.npz", truth=drawn[0], predicted=drawn[1], names=names)


def write_mistakes(
    folder: Path, model: "keras.Model", task: Task, test: Images, outputs: np.ndarray
) -> None:
    """mistakes.npz: the most confident mistakes of a task that chooses one label, each with what
    the model looked at.
    """
    target = test.targets[task.name]
    worst = worst_mistakes(outputs, target, WORST_MISTAKES)
    predicted = outputs[worst].argmax(-1)
    # A backbone that ends in a vector has no places to point at.
    spatial = len(backbone_of(model).outputs[0].shape) == 4
    heat = explain.grad_cam(model, np.float32(test.pixels[worst]), predicted) if spatial else None
    save_arrays(
        folder / "mistakes.npz",
        images=test.pixels[worst],
        truth=target[worst].argmax(-1),
        predicted=predicted,
        probability=outputs[worst].max(-1),
        names=np.array([test.names[i] for i in worst], dtype=str),
        **({} if heat is None else {"heatmaps": heat}),
    )
