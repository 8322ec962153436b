"""An opened artifact with its tasks and its codec: what predict, evaluate and export share. No
TensorFlow but what the artifact itself needs.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graft.export.sessions import Session
from graft.recipes.codecs.examples import Examples
from graft.recipes.codecs.images import ImageCodec
from graft.recipes.codecs.pixels import map_in_order
from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.table import tasks_of
from graft.zoo.errors import ArtifactError
from graft.zoo.files.reading import read_text
from graft.zoo.fits import MODES, STRETCH, ImageShape
from graft.zoo.text import check_tokenizer

__all__ = ["BATCH", "OpenedModel", "codec_of", "codec_of_files"]

BATCH = 32


@dataclass(frozen=True)
class OpenedModel:
    """An artifact that answers.

    Attributes:
        session: opened.
        codec: how an example goes in.
        tasks: what it answers.
    """

    session: Session
    codec: Any
    tasks: Tasks

    @classmethod
    def of(cls, session: Session, skip_bad: bool = True) -> "OpenedModel":
        """What an opened artifact says of itself.

        Args:
            session: the artifact.
            skip_bad: whether examples that cannot be read are left out where it is measured.

        Raises:
            ArtifactError: it does not say how examples go in.
        """
        return cls(session, codec_of(session, skip_bad), tasks_of(session.tasks))

    def answer(self, items: Sequence[Any]) -> list[dict]:
        """What is said of each of some items that can be read, of several tasks by their names:
        decoded images, or `Text`s.
        """
        return [said for said, _ in self.answer_with_rows(items)]

    def answer_with_rows(self, items: Sequence[Any]) -> list[tuple[dict, Mapping]]:
        """The same, each with the rows that the model gave, by task."""
        fed = self.codec.feed(items, self.session.input_shape[0])
        found = self.tasks.of_output(self.session.predict(fed.inputs))
        answers = []
        for i, shown in enumerate(fed.shown):
            rows = {task.name: found[task.name][i] for task in self.tasks}
            said = {task.name: task.said(rows[task.name], shown) for task in self.tasks}
            alone = said if len(said) > 1 else said[self.tasks.first.name]
            answers.append((alone | dict(shown.marks or {}), rows))
        return answers

    def answers(self, given: Iterable[Any]) -> Iterator[dict]:
        """The same for any number of images or texts as a user has them, see `codec.item`, batch by
        batch; images are decoded in threads.

        Raises:
            DataError: one cannot be read.
        """
        items = map_in_order(self.codec.item, given)
        while batch := list(itertools.islice(items, BATCH)):
            yield from self.answer(batch)

    def outputs(self, examples: Examples) -> dict[str, np.ndarray]:
        """What it gives for encoded examples, by task: rows, of an output with a row a position
        those of all examples without padding.
        """
        parts: dict[str, list[np.ndarray]] = {task.name: [] for task in self.tasks}
        for start in range(0, len(examples), BATCH):
            rows = range(start, min(start + BATCH, len(examples)))
            batch = self.codec.batch(examples, rows, self.session.input_shape[0])
            found = self.tasks.of_output(self.session.predict(batch))
            for task in self.tasks:
                values = self.codec.without_padding(found[task.name], batch)
                parts[task.name].append(task.kept(values))
        return {name: np.concatenate(rows) for name, rows in parts.items()}


def codec_of(session: Session, skip_bad: bool = True) -> Any:
    """How an example goes into an artifact.

    Raises:
        ArtifactError: it does not say so.
    """
    return CODECS[session.preprocessing["modality"]](session, skip_bad)


def _images(session: Session, skip_bad: bool) -> ImageCodec:
    sides = session.input_shape
    if len(sides) != 3 or sides[-1] not in MODES:
        raise ArtifactError(
            f"'{session.path}' takes {sides}: expected images (height, width, channels) of "
            f"{', '.join(map(str, MODES))} channels"
        )
    return ImageCodec(ImageShape(*sides), skip_bad, fit=session.preprocessing.get("fit", STRETCH))


def _texts(session: Session, skip_bad: bool) -> TextCodec:
    if session.tokenizer is None:
        raise ArtifactError(
            f"'{session.path}' has no tokenizer.json: export it again, or give the run"
        )
    content = session.preprocessing
    longest = min(filter(None, (session.input_shape[0], content["max_length"])))
    return TextCodec(session.tokenizer, tuple(session.inputs), longest, content["words"] or None)


CODECS: dict[str, Callable[[Session, bool], Any]] = {"image": _images, "text": _texts}
"""By modality."""


def codec_of_files(run: Path, preprocessing: Mapping) -> Any:
    """How an example goes into a run, by the files of its folder."""
    return OF_FILES[preprocessing["modality"]](run, preprocessing)


def _image_files(run: Path, preprocessing: Mapping) -> ImageCodec:
    return ImageCodec.described(preprocessing)


def _text_files(run: Path, preprocessing: Mapping) -> TextCodec:
    pad_id = preprocessing["tokenizer"]["pad_id"]
    return TextCodec.described(
        preprocessing, check_tokenizer(read_text(run / "tokenizer.json"), pad_id, run)
    )


OF_FILES: dict[str, Callable[[Path, Mapping], Any]] = {"image": _image_files, "text": _text_files}
"""By modality."""
