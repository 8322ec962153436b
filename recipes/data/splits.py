"""Splits: what is missing is made from the training data, stratified, by seed."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graft.recipes.data.membership import Membership
from graft.recipes.data.reading import added
from graft.recipes.data.records import SPLITS, Record, Source
from graft.zoo.errors import ArtifactError, ConfigError, DataError

__all__ = [
    "SHARE",
    "complete",
    "fingerprint",
    "reuse",
    "same_data",
    "take",
    "take_per_label",
    "take_share",
]

SHARE = 0.15
"""The share of each class that goes from the training data into a split that is missing (at least
one example).
"""


def complete(source: Source, split_seed: int) -> tuple[Source, tuple[str, ...]]:
    """`source` with all of train, validation and test, and the names of the splits that had to be
    made.

    A missing split takes 15 % of each class of the training data (rounded, at least one example).
    What goes where depends on the names of the examples and on `split_seed` alone, not on the order
    in which a disk lists them. Examples of the same content stay together.

    Raises:
        DataError: a class has too few examples to leave two for training, or there are none to take
            any from.
    """
    missing = tuple(split for split in ("test", "validation") if split not in source.splits)
    if not missing:
        return source, ()
    if "train" not in source.splits:
        raise DataError(
            f"'{source.name}' has no train split from which to make the missing "
            f"{' and '.join(missing)} split"
        )
    rng = np.random.default_rng(split_seed)
    by_label = _by_content(source.splits["train"])
    made: dict[str, list[Record]] = {split: [] for split in missing}
    train: list[Record] = []
    for label in sorted(by_label):
        same: dict[str, list[Record]] = defaultdict(list)
        for example in sorted(by_label[label], key=lambda example: example.name):
            same[example.digest].append(example)
        groups = list(same.values())
        order = [groups[i] for i in rng.permutation(len(groups))]
        count = max(1, round(SHARE * len(order)))
        if len(order) - count * len(missing) < 2:
            which = f"class '{label}' of '{source.name}'" if label else f"'{source.name}'"
            raise DataError(
                f"{which} has {len(order)} different examples, too few to make the missing "
                f"{' and '.join(missing)} split and leave 2 to train on: add more, or give the "
                "splits as folders"
            )
        for split in missing:
            made[split] += itertools.chain(*order[:count])
            order = order[count:]
        train += itertools.chain(*order)
    splits = {**source.splits, **made, "train": train}
    return replace(source, splits={s: tuple(splits[s]) for s in SPLITS}, made=missing), missing


def reuse(
    source: Source,
    split: str,
    training_data: Mapping[str, Any] | None,
    seen: Membership | None = None,
) -> tuple[Record, ...]:
    """The examples of `split` for measuring a model, the same ones that its training kept apart.

    Args:
        source: the data, as they are now.
        split: "train", "validation" or "test".
        training_data: the `data` record of its run (or manifest): whether the split was made, by
            which seed, of which content.
        seen: which examples it was trained on, where that was recorded.

    Raises:
        DataError: the split has to be made, and it is unknown how the training made it, or the data
            has changed since; or the model was trained on some of the examples.
    """
    chosen = _chosen(source, split, training_data)
    if seen is not None and split != "train":
        seen.refuse(chosen, split)
    return chosen


def _chosen(
    source: Source, split: str, training_data: Mapping[str, Any] | None
) -> tuple[Record, ...]:
    if split in source.splits and (split != "train" or {*source.splits} == {*SPLITS}):
        return source.splits[split]
    if not training_data:
        raise DataError(
            f"'{source.name}' has no {split} split of its own, and nothing beside the model tells "
            f"how its training made one: give a source with a '{split}' folder, or evaluate the run"
        )
    keys = ("made_splits", "split_seed", "fingerprint")
    made, seed, trained_on = (training_data.get(key, 0) for key in keys)
    is_whole = isinstance(made, list) and isinstance(trained_on, str) and isinstance(seed, int)
    if not is_whole or seed < 0:
        raise ArtifactError(
            "what the model's run or manifest says of its training data is damaged: restore it"
        )
    if split in made and not same_data(source, trained_on):
        raise DataError(
            f"'{source.name}' is not the data that this model was trained on (the content differs, "
            f"or what is in which split), so its {split} split might hold training examples: "
            "restore the data, or give a source with splits of its own"
        )
    return complete(source, seed)[0].splits[split]


def take(source: Source, per_class: int | None, fraction: float | None, seed: int) -> Source:
    """`source` with the part of its training examples that was asked for: so many of each label, or
    a share of them.

    Raises:
        ConfigError: both were asked for, or one that cannot be had.
    """
    if per_class is not None and fraction is not None:
        raise ConfigError(
            "--per-class and --fraction both say how much to train on: choose one of them"
        )
    if per_class is not None:
        return take_per_label(source, per_class, seed)
    return source if fraction is None else take_share(source, fraction, seed)


def take_per_label(source: Source, count: int, seed: int) -> Source:
    """`source` with only `count` training examples of each label, drawn by `seed`.

    Raises:
        ConfigError: `count` is below 2 or above what some label has, or the examples have no one
            label.
    """
    rng = np.random.default_rng(seed)
    chosen: list[Record] = []
    for label, group in sorted(_by_label(source.splits["train"]).items()):
        if not label:
            raise ConfigError("--per-class needs one label an example: take a --fraction of these")
        if not 2 <= count <= len(group):
            raise ConfigError(
                f"--per-class {count} cannot be had of '{label}', which has {len(group)} training "
                f"examples: expected 2 to {len(group)}"
            )
        chosen += [group[i] for i in sorted(rng.permutation(len(group))[:count])]
    return _with_training(source, chosen, f"not drawn by --per-class {count}")


def take_share(source: Source, share: float, seed: int) -> Source:
    """`source` with only a `share` of the training examples of each label (at least 2), drawn by
    `seed`.

    A smaller share is part of a larger one.

    Raises:
        ConfigError: `share` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"--fraction is a share above 0 and at most 1, not {share:g}")
    rng = np.random.default_rng(seed)
    chosen: list[Record] = []
    for _, group in sorted(_by_label(source.splits["train"]).items()):
        order = rng.permutation(len(group))
        chosen += [group[i] for i in sorted(order[: max(2, round(share * len(group)))])]
    return _with_training(source, chosen, f"not drawn by --fraction {share:g}")


def _with_training(source: Source, chosen: Sequence[Record], reason: str) -> Source:
    """`source` with the `chosen` of its training examples; the others are left out for this
    `reason`.
    """
    kept = set(map(id, chosen))
    others = [example.name for example in source.splits["train"] if id(example) not in kept]
    splits = {**source.splits, "train": tuple(chosen)}
    return replace(source, splits=splits, left_out=added(source.left_out, reason, others))


def fingerprint(source: Source) -> str:
    """A sha256 over every label, name and content, and the split that the data put each example in.

    Splits that were made of the training data count as such: the data are the same, whatever seed
    made them.
    """
    lines = []
    for split, examples in source.splits.items():
        given = "" if split == "train" or split in source.made else f"\0{split}"
        lines += [
            f"{example.target}\0{example.name}\0{example.digest}{given}" for example in examples
        ]
    return _hash_of_lines(lines)


def same_data(source: Source, recorded: str) -> bool:
    """Whether `recorded` is the fingerprint of `source`, perhaps as an older Graft made it: of all
    splits together.
    """
    if fingerprint(source) == recorded:
        return True
    everything = itertools.chain(*source.splits.values())
    return _hash_of_lines(f"{e.target}\0{e.name}\0{e.digest}" for e in everything) == recorded


def _hash_of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _by_content(examples: Sequence[Record]) -> dict[str, list[Record]]:
    """`examples` by label, those of the same content under the label of the first of them by name:
    what is under two labels would be drawn once for each, and stand in two splits.
    """
    first: dict[str, str] = {}
    for example in sorted(examples, key=lambda example: example.name):
        first.setdefault(example.digest, example.group)
    groups: dict[str, list[Record]] = defaultdict(list)
    for example in examples:
        groups[first[example.digest]].append(example)
    return groups


def _by_label(examples: Iterable[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    return groups
