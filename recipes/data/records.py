"""Records: one example each as it lies on the disk, by split. No tensors."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from graft.recipes.data.reading import LeftOut
from graft.zoo.contents import Packed, content_digest

__all__ = [
    "SPLITS",
    "SPLIT_NAMES",
    "Answer",
    "Columns",
    "Example",
    "Record",
    "Sentence",
    "Source",
    "TaskRow",
    "known_digest",
    "note_digest",
    "reading_order",
]

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call splits, and which ones they mean."""

Answer: TypeAlias = Any
"""What is known of a record: labels, tags of its words in order, or a value."""


class Record(Protocol):
    """One example.

    Attributes:
        name: what messages and the report call it.
        group: what splits are stratified by.
        digest: a hash of the content.
        answers: what is known of it, by what it is called; what is not known is missing.
        labels: its labels, of several tasks those of the first.
        parts: what is to be learned from it, part by part, as text; "" where a part is not known.
        target: the same in one text.
        shown: what is known of it, for messages.
        label_groups: its labels by what they are labels of: "", " of tags", " of 'TASK'".
    """

    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def answers(self) -> Mapping[str, Answer]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    @property
    def target(self) -> str: ...
    @property
    def shown(self) -> tuple[str, ...]: ...
    @property
    def label_groups(self) -> Mapping[str, Sequence[str]]: ...


@dataclass(frozen=True)
class Example:
    """One image: a file, a place in one, or uint8 pixels `(h, w, 3)`. One without a label has ""
    for it.
    """

    image: Path | Packed | np.ndarray
    label: str
    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Its label, alone."""
        return (self.label,)

    @property
    def answers(self) -> dict[str, Answer]:
        """Its label, if it has one."""
        return {"label": (self.label,)} if self.label else {}

    @property
    def group(self) -> str:
        """What splits are stratified by."""
        return self.label

    @property
    def target(self) -> str:
        """All that is to be learned from it, as text."""
        return self.label

    @property
    def parts(self) -> tuple[str, ...]:
        """The same, alone."""
        return (self.label,)

    @property
    def shown(self) -> tuple[str, ...]:
        """Its label."""
        return (self.label,)

    @property
    def label_groups(self) -> dict[str, Sequence[str]]:
        """Its label."""
        return {"": self.labels}

    @cached_property
    def digest(self) -> str:
        """A hash of the content; a file is read once, though splits, fingerprint and duplicates all
        ask.
        """
        return content_digest(self.image)


@dataclass(frozen=True)
class TaskRow:
    """One image and what several tasks know of it.

    Attributes:
        image: the file, or the place in one.
        cells: of the tasks, in order; "" where an answer is not known.
        answers: the same, read by each task; without those that are not known.
        label_groups: the labels that each task which has any gives it.
    """

    image: Path | Packed
    cells: tuple[str, ...]
    name: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    label_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    group: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the first task."""
        return tuple(filter(None, self.cells[:1]))

    @property
    def target(self) -> str:
        """All that is to be learned from it, as text."""
        return "\x01".join(self.cells)

    @property
    def parts(self) -> tuple[str, ...]:
        """The cells."""
        return self.cells

    @property
    def shown(self) -> tuple[str, ...]:
        """The cells."""
        return self.cells

    @cached_property
    def digest(self) -> str:
        """A hash of the content."""
        return content_digest(self.image)


@dataclass(frozen=True)
class Columns:
    """What the columns of a table of sentences are called."""

    text: str = "text"
    label: str = "label"
    tags: str = "tags"


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes:
        text: as it came; words joined by blanks where it came as words.
        label: its label; of several labels, these joined by ";"; "" if it has none.
        words, tags: of the same length, or both empty.
    """

    text: str
    label: str
    name: str
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    group: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """The single labels in `label`."""
        return tuple(dict.fromkeys(part.strip() for part in self.label.split(";") if part.strip()))

    @property
    def answers(self) -> dict[str, Answer]:
        """Its labels as one and apart, and the tags of its words."""
        whole: dict[str, Answer] = {"label": (self.label,)} if self.label else {}
        return {**whole, "labels": self.labels, "tags": self.tags}

    @property
    def target(self) -> str:
        """All that is to be learned from it, as text."""
        return f"{self.label}\0{' '.join(self.tags)}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The same, alone."""
        return (self.target,)

    @property
    def shown(self) -> tuple[str, ...]:
        """Its labels and tags."""
        return (*self.labels, *self.tags)

    @property
    def label_groups(self) -> dict[str, Sequence[str]]:
        """Its labels, and the types of its entities."""
        return {"": self.labels, " of tags": [tag[2:] for tag in self.tags if tag[0] == "B"]}

    @property
    def digest(self) -> str:
        """A hash of the text."""
        content = self.text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True)
class Source:
    """Records by split. A source without splits has all of them under "train".

    Attributes:
        name: what it was called.
        labels: every name that occurs in any split, sorted; none where they are not asked for.
        splits: the records.
        left_out: what was found and is not among them, by reason.
        made: the splits that were made of its training data.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Record, ...]]
    left_out: tuple[LeftOut, ...] = ()
    made: tuple[str, ...] = ()


def known_digest(record: Record) -> str | None:
    """The digest of a record, if it is known without reading a file."""
    return record.__dict__.get("digest")


def note_digest(record: Record, digest: str) -> None:
    """Tell a record whose content is a file the digest of it, before it reads the file itself."""
    record.__dict__["digest"] = digest


def reading_order(records: Sequence[Any], rows: Sequence[int]) -> Sequence[int]:
    """The numbers `rows` of records with an `image`, as they are best read: what lies in one file
    one after the other, from its beginning to its end; other files in the order that they have.
    """
    images = [records[row].image for row in rows]
    if not all(isinstance(image, Packed) for image in images):
        return rows
    places = [(str(image.file), image.place, row) for image, row in zip(images, rows, strict=True)]
    return [row for *_, row in sorted(places)]
