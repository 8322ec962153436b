"""The two domains: a labelled source, a target whose labels are not looked at unless they are asked
for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from graft.recipes.codecs import decoding
from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.data import reading, sentences, sources, splits
from graft.recipes.data.prepared import PreparedData
from graft.recipes.data.reading import LeftOut, added
from graft.recipes.data.records import (
    SPLITS,
    Columns,
    Example,
    Record,
    Sentence,
    Source,
    note_digest,
)
from graft.recipes.tasks.group import Tasks
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import say, warn

__all__ = ["Pile", "decode_pile", "load", "load_partly_labelled", "load_pile", "load_texts"]


class _Asked(Protocol):
    """The part of a recipe's Config that says what the domains are."""

    data: str
    target: str
    target_labels: bool
    split_seed: int
    path_column: str
    label_column: str


class _AskedFew(Protocol):
    """The same where few images of one domain have labels."""

    data: str
    unlabelled: str | None
    per_class: int | None
    split_seed: int
    path_column: str
    label_column: str


class _AskedText(Protocol):
    """The same for texts."""

    data: str
    target: str
    target_labels: bool
    split_seed: int
    columns: Columns


@dataclass(frozen=True)
class Pile:
    """Images of which nothing is known, or for a report their labels."""

    name: str
    labels: tuple[str, ...]
    images: tuple[Example, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def splits(self) -> dict[str, tuple[Example, ...]]:
        """All of them are learned from."""
        return {"train": self.images}

    @property
    def fingerprint(self) -> str:
        """A hash of their content."""
        return hash_of(sorted(example.digest for example in self.images))


def load(asked: _Asked) -> PreparedData:
    """Read what `asked` names; images are not opened yet.

    Raises:
        DataError: as `sources.load` does; or the target's labels were asked for, and it has others
            than the source.
    """
    columns = {"path_column": asked.path_column, "label_column": asked.label_column}
    unlabelled = sources.load_unlabelled(
        asked.target, path_column=asked.path_column, option="--target"
    )
    labelled = (
        sources.load(asked.target, option="--target", to_train=False, **columns)
        if asked.target_labels
        else None
    )
    return _paired(asked, sources.load(asked.data, **columns), unlabelled, labelled)


def load_partly_labelled(asked: _AskedFew) -> PreparedData:
    """A source of which `asked.per_class` training images of each class keep their labels; the
    others, and those of `asked.unlabelled`, have none.

    Raises:
        ConfigError: nothing is left without labels.
        DataError: as `sources.load` does.
    """
    source = sources.load(
        asked.data, path_column=asked.path_column, label_column=asked.label_column
    )
    decoding.know(asked, source)
    source, made = splits.complete(source, asked.split_seed)
    few = splits.take(source, asked.per_class, None, asked.split_seed)
    known = {example.name for example in few.splits["train"]}
    others = [example for example in source.splits["train"] if example.name not in known]
    unlabelled = [_bare(example) for example in others]
    left_out: tuple[LeftOut, ...] = ()
    if asked.unlabelled is not None:
        more = sources.load_unlabelled(
            asked.unlabelled, path_column=asked.path_column, option="--unlabelled"
        )
        decoding.know(asked, more)
        unlabelled += more.splits["train"]
        left_out = more.left_out
    if not unlabelled:
        raise ConfigError(
            f"all {len(known)} training images of '{asked.data}' have labels: --per-class 10 uses "
            "only so many of them, or give --unlabelled images"
        )
    # Labelled ones are seen without labels too, as the methods' authors have it.
    unlabelled += [_bare(example) for example in few.splits["train"]]
    name = f"{asked.data} and {asked.unlabelled}" if asked.unlabelled else asked.data
    kept, left_out = _but_held_out(unlabelled, source, name, left_out)
    few = replace(few, left_out=source.left_out)  # those that were not drawn are learned from too
    fingerprint = splits.fingerprint(source)
    return PreparedData(few, made, fingerprint, name, kept, left_out=left_out)


def _bare(example: Example) -> Example:
    """The same without its label."""
    bare = Example(example.image, "", example.name)
    note_digest(bare, example.digest)
    return bare


def _but_held_out(
    unlabelled: Sequence, source: Source, name: str, left_out: tuple[LeftOut, ...]
) -> tuple[tuple, tuple[LeftOut, ...]]:
    """Those of `unlabelled`, of the source called `name`, that no model is chosen or measured by,
    and `left_out` with the others; warns of them.
    """
    held_out = {example.digest for split in SPLITS[1:] for example in source.splits[split]}
    kept = tuple(example for example in unlabelled if example.digest not in held_out)
    if not kept:
        raise DataError(
            f"everything in '{name}' is in the validation or test split of '{source.name}' too: "
            "there is nothing to adapt to"
        )
    if len(kept) < len(unlabelled):
        warn(
            f"{len(unlabelled) - len(kept)} of {len(unlabelled)} examples without labels "
            f"('{name}') are in the validation "
            "or test split too: left out"
        )
    others = [example.name for example in unlabelled if example.digest in held_out]
    return kept, added(left_out, "in the validation or test split too", others)


FEWEST = 20
"""Images without labels."""


class _AskedPile(Protocol):
    """The same where nothing has labels."""

    data: str
    labels: bool
    path_column: str
    label_column: str


def load_pile(asked: _AskedPile) -> Pile:
    """Images without labels; with them, if `asked.labels`.

    Raises:
        DataError: as `sources.load` does, or too few.
    """
    if asked.labels:
        loaded = sources.load(
            asked.data, path_column=asked.path_column, label_column=asked.label_column
        )
    else:
        loaded = sources.load_unlabelled(asked.data, path_column=asked.path_column)
    decoding.know(asked, loaded)
    images = loaded.splits["train"]
    _check_enough(asked.data, len({image.digest for image in images}))
    return Pile(asked.data, loaded.labels, images, loaded.left_out)


def _check_enough(name: str, images: int) -> None:
    if images < FEWEST:
        raise DataError(
            f"'{name}' holds {images} different images: to learn from them takes {FEWEST} or more"
        )


def decode_pile(pile: Pile, codec: ImageCodec, tasks: Tasks, seed: int) -> dict[str, Images]:
    """ "all" images, and of them "validation", a tenth drawn by `seed`, and "train", the others.

    Raises:
        DataError: too few can be read.
    """
    order = np.random.default_rng(seed).permutation(len(pile.images))
    count = max(2, len(order) // 10)
    # In this order, so that either part is a stretch of one array: rows from here and there would
    # be copied into memory.
    drawn = [pile.images[i] for i in (*np.sort(order[:count]), *np.sort(order[count:]))]
    everything = codec.encode(drawn, tasks, "decode")
    _check_enough(pile.name, len(everything))  # some may have been left out
    target = Source(pile.name, (), {}, pile.left_out)
    said = reading.summary(target, {"unlabelled": everything}, codec.noun)
    say(f"without labels: {said}")
    count = max(2, len(everything) // 10)
    parts = {"validation": slice(0, count), "train": slice(count, None)}
    return {"all": everything, **{name: everything.stretch(part) for name, part in parts.items()}}


def load_texts(asked: _AskedText) -> PreparedData:
    """The same for sentences."""
    source = sentences.load(asked.data, need=("label",), columns=asked.columns)
    at_target = {"columns": asked.columns, "option": "--target"}
    target = sentences.load(asked.target, need=(), **at_target)
    bare = tuple(Sentence(sentence.text, "", sentence.name) for sentence in target.splits["train"])
    unlabelled = replace(target, splits={"train": bare})
    labelled = None
    if asked.target_labels:
        labelled = sentences.load(asked.target, need=("label",), to_train=False, **at_target)
    return _paired(asked, source, unlabelled, labelled)


def _paired(
    asked: _Asked | _AskedText, source: Source, unlabelled: Source, labelled: Source | None
) -> PreparedData:
    decoding.know(asked, source, unlabelled, *([] if labelled is None else [labelled]))
    source, made = splits.complete(source, asked.split_seed)
    measured: Sequence[Record] = ()
    if labelled is not None:
        strangers = [label for label in labelled.labels if label not in source.labels]
        if strangers:
            raise DataError(
                f"the target '{asked.target}' has the label '{strangers[0]}', which the source "
                f"'{asked.data}' has not "
                f"({', '.join(source.labels)}): rename it, or leave --target-labels away"
            )
        measured = next(
            labelled.splits[name]
            for name in ("test", "train", "validation")
            if name in labelled.splits
        )
    kept, left_out = _but_held_out(
        unlabelled.splits["train"], source, asked.target, unlabelled.left_out
    )
    fingerprint, target = splits.fingerprint(source), asked.target
    return PreparedData(source, made, fingerprint, target, kept, tuple(measured), left_out)
