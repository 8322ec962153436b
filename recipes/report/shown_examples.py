"""What a run keeps of its examples for the report, by modality."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.report import shown_images, shown_texts
from graft.zoo.files.writing import write_text

if TYPE_CHECKING:
    import keras

__all__ = ["keep_shown_examples"]


def keep_shown_examples(
    folder: Path, model: "keras.Model", experiment: Any, outputs: Mapping[str, np.ndarray]
) -> None:
    """Write the files of a run that its report shows examples from.

    Args:
        folder: of the run.
        model: as it ships.
        experiment: with `problem.tasks`, `problem.data`, `codec` and `examples`.
        outputs: of the test examples, by task.
    """
    KEEPERS[experiment.codec.modality](folder, model, experiment, outputs)


def _images(
    folder: Path, model: "keras.Model", experiment: Any, outputs: Mapping[str, np.ndarray]
) -> None:
    tasks, examples = experiment.problem.tasks, experiment.examples
    first = tasks.first
    if len(first.shown_labels):
        shown_images.write_samples(folder, first, examples["train"])
    if first.need:
        shown_images.write_places(folder, first, examples["test"], outputs[first.name])
    if len(tasks) == 1 and first.chooses:
        test = examples["test"]
        shown_images.write_mistakes(folder, model, first, test, outputs[first.name])


def _texts(
    folder: Path, model: "keras.Model", experiment: Any, outputs: Mapping[str, np.ndarray]
) -> None:
    shown = shown_texts.for_report(model, experiment, outputs)
    write_text(folder / "texts.json", json.dumps(shown, ensure_ascii=False) + "\n")


KEEPERS: dict[str, Callable[..., None]] = {"image": _images, "text": _texts}
