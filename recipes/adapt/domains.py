"""The two domains: a labelled source, a target whose labels are not looked at unless they are asked
for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from graft.recipes.codecs.images import Images, decode_examples, decode_splits
from graft.recipes.codecs.texts import Texts, encode, encode_splits
from graft.recipes.data import reading, sentences, sources, splits
from graft.recipes.data.membership import warn_of_alike
from graft.recipes.data.reading import LeftOut, added
from graft.recipes.data.sentences import Sentence
from graft.recipes.data.sources import SPLITS, Example, Source
from graft.zoo.errors import ConfigError, DataError
from graft.zoo.hashing import hash_of
from graft.zoo.heads.heads import Head
from graft.zoo.terminal import say, warn
from graft.zoo.text import Tokenizer

__all__ = [
    "Domains",
    "Pile",
    "decode",
    "decode_pile",
    "describe",
    "encode_both",
    "load",
    "load_partly_labelled",
    "load_pile",
    "load_texts",
]


class _Asked(Protocol):
    """The part of a recipe's Config that says what the domains are."""

    data: str
    target: str
    target_labels: bool
    split_seed: int
    path_column: str
    label_column: str


class _AskedFew(Protocol):
    """The same where few pictures of one domain have labels."""

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
    columns: sentences.Columns


@dataclass(frozen=True)
class Domains:
    """What is trained on and what it is for.

    Attributes:
        source: with all splits; `made` names those that were made.
        target: what it was called.
        unlabelled: the target's examples, without labels; none that the source's validation or test
            split holds too.
        measured: its labelled examples, where they were asked for.
        fingerprint: of the content of the source.
        left_out: what was found in the target and is not among the unlabelled ones, by reason.
    """

    source: Source
    made: tuple[str, ...]
    target: str
    unlabelled: tuple[Example | Sentence, ...]
    measured: tuple[Example | Sentence, ...]
    fingerprint: str
    left_out: tuple[LeftOut, ...] = ()

    @property
    def content(self) -> str:
        """A hash of both domains."""
        return hash_of(self.fingerprint, sorted(example.digest for example in self.unlabelled))


@dataclass(frozen=True)
class Pile:
    """Pictures of which nothing is known, or for a report their labels."""

    name: str
    labels: tuple[str, ...]
    pictures: tuple[Example, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def splits(self) -> dict[str, tuple[Example, ...]]:
        """All of them are learned from."""
        return {"train": self.pictures}

    @property
    def fingerprint(self) -> str:
        """A hash of their content."""
        return hash_of(sorted(example.digest for example in self.pictures))


def load(asked: _Asked) -> Domains:
    """Read what `asked` names; pictures are not opened yet.

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


def load_partly_labelled(asked: _AskedFew) -> Domains:
    """A source of which `asked.per_class` training pictures of each class keep their labels; the
    others, and those of `asked.unlabelled`, have none.

    Raises:
        ConfigError: nothing is left without labels.
        DataError: as `sources.load` does.
    """
    source = sources.load(
        asked.data, path_column=asked.path_column, label_column=asked.label_column
    )
    source, made = splits.complete(source, asked.split_seed)
    few = splits.take(source, asked.per_class, None, asked.split_seed)
    kept = {example.name for example in few.splits["train"]}
    others = [example for example in source.splits["train"] if example.name not in kept]
    unlabelled = [Example(example.image, "", example.name) for example in others]
    left_out: tuple[LeftOut, ...] = ()
    if asked.unlabelled is not None:
        more = sources.load_unlabelled(
            asked.unlabelled, path_column=asked.path_column, option="--unlabelled"
        )
        unlabelled += more.splits["train"]
        left_out = more.left_out
    if not unlabelled:
        raise ConfigError(
            f"all {len(kept)} training pictures of '{asked.data}' have labels: --per-class 10 uses "
            "only so many of them, or "
            "give --unlabelled pictures"
        )
    # Labelled ones are seen without labels too, as the methods' authors have it.
    unlabelled += [Example(example.image, "", example.name) for example in few.splits["train"]]
    name = f"{asked.data} and {asked.unlabelled}" if asked.unlabelled else asked.data
    kept, left_out = _but_held_out(unlabelled, source, name, left_out)
    few = replace(few, left_out=source.left_out)  # those that were not drawn are learned from too
    return Domains(
        few, made, name, kept, source.splits["test"], splits.fingerprint(source), left_out
    )


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
"""Pictures without labels."""


class _AskedPile(Protocol):
    """The same where nothing has labels."""

    data: str
    labels: bool
    path_column: str
    label_column: str


def load_pile(asked: _AskedPile) -> Pile:
    """Pictures without labels; with them, if `asked.labels`.

    Raises:
        DataError: as `sources.load` does, or too few.
    """
    if asked.labels:
        loaded = sources.load(
            asked.data, path_column=asked.path_column, label_column=asked.label_column
        )
    else:
        loaded = sources.load_unlabelled(asked.data, path_column=asked.path_column)
    pictures = loaded.splits["train"]
    _check_enough(asked.data, len({picture.digest for picture in pictures}))
    return Pile(asked.data, loaded.labels, pictures, loaded.left_out)


def _check_enough(name: str, pictures: int) -> None:
    if pictures < FEWEST:
        raise DataError(
            f"'{name}' holds {pictures} different pictures: to learn from them takes {FEWEST} or "
            "more"
        )


def decode_pile(pile: Pile, image_size: int, skip_bad: bool, seed: int) -> dict[str, Images]:
    """ "all" pictures, and of them "validation", a tenth drawn by `seed`, and "train", the others.

    Raises:
        DataError: too few can be read.
    """
    order = np.random.default_rng(seed).permutation(len(pile.pictures))
    count = max(2, len(order) // 10)
    # In this order, so that either part is a stretch of one array: rows from here and there would
    # be copied into memory.
    drawn = [pile.pictures[i] for i in (*np.sort(order[:count]), *np.sort(order[count:]))]
    everything = decode_examples(drawn, pile.labels, image_size, skip_bad=skip_bad, title="decode")
    _check_enough(pile.name, len(everything))  # some may have been left out
    _say_unlabelled(pile.name, pile.left_out, everything, "image")
    count = max(2, len(everything) // 10)
    parts = {"validation": slice(0, count), "train": slice(count, None)}
    return {"all": everything, **{name: _stretch(everything, part) for name, part in parts.items()}}


def _say_unlabelled(
    name: str, left_out: tuple[LeftOut, ...], examples: Images | Texts, noun: str
) -> None:
    target = Source(name, (), {}, left_out)
    say(f"without labels: {reading.summary(target, {'unlabelled': examples}, noun)}")


def _stretch(images: Images, part: slice) -> Images:
    return Images(images.pixels[part], images.targets[part], images.names[part], ())


def load_texts(asked: _AskedText) -> Domains:
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
) -> Domains:
    source, made = splits.complete(source, asked.split_seed)
    measured: Sequence[Example | Sentence] = ()
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
    return Domains(
        source, made, asked.target, kept, tuple(measured), splits.fingerprint(source), left_out
    )


def decode(
    pair: Domains, image_size: int, skip_bad: bool
) -> tuple[dict[str, Images], Images | None]:
    """The source's splits and "unlabelled", and what is measured on."""

    def decoded(examples: Sequence[Example], title: str) -> Images:
        return decode_examples(
            examples, pair.source.labels, image_size, skip_bad=skip_bad, title=title
        )

    images = decode_splits(pair.source, image_size, skip_bad=skip_bad)
    images["unlabelled"] = decoded(pair.unlabelled, "decode target")
    _say_unlabelled(pair.target, pair.left_out, images["unlabelled"], "image")
    return images, decoded(pair.measured, "decode target test") if pair.measured else None


def encode_both(
    pair: Domains, tokenizer: Tokenizer, head: Head, *, inputs: Sequence[str], max_length: int
) -> tuple[dict[str, Texts], Texts | None]:
    """The same as ids."""
    settings = {"inputs": inputs, "max_length": max_length}
    texts = encode_splits(pair.source, tokenizer, [head], **settings)
    warn_of_alike(texts)
    texts["unlabelled"] = encode(pair.unlabelled, tokenizer, [head], head.labels, **settings)
    say(reading.summary(pair.source, {split: texts[split] for split in SPLITS}, "sentence"))
    _say_unlabelled(pair.target, pair.left_out, texts["unlabelled"], "sentence")
    measured = (
        encode(pair.measured, tokenizer, [head], head.labels, **settings) if pair.measured else None
    )
    return texts, measured


def describe(
    pair: Domains, images: dict[str, Images | Texts], measured: Images | Texts | None
) -> dict:
    """The target as it was used."""
    unlabelled, same = images["unlabelled"], False
    if measured is not None:
        # Not by name: line 7 of train.csv is another sentence than line 7 of test.csv.
        same = {example.digest for example in pair.measured} <= {
            example.digest for example in pair.unlabelled
        }
    return {
        "source": pair.target,
        **reading.record(Source(pair.target, (), {}, pair.left_out), {"unlabelled": unlabelled}),
        "unlabelled": len(unlabelled),
        "measured": len(measured) if measured is not None else 0,
        "measured_are_unlabelled": same,
        "skipped": [
            message for part in (unlabelled, measured) for message in getattr(part, "skipped", ())
        ],
    }
