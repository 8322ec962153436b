"""What is odd about data that can be trained on: said, and no reason to stop."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from graft.recipes.data.labels import warn_of_twins
from graft.recipes.data.membership import data_of_run, seen_by_backbone
from graft.recipes.data.records import SPLITS, Record, Source
from graft.zoo.terminal import warn

__all__ = ["duplicates_across", "warn_of_concerns"]


def duplicates_across(source: Source) -> list[tuple[str, str]]:
    """Pairs of names: an example of validation or test, and the same content in an earlier
    split.
    """
    seen: dict[str, tuple[str, str]] = {}
    pairs = []
    for split in SPLITS:
        for example in source.splits.get(split, ()):
            first, name = seen.setdefault(example.digest, (split, example.name))
            if first != split:
                pairs.append((example.name, name))
    return pairs


def warn_of_concerns(source: Source, fingerprint: str, backbone: str, split_seed: int) -> int:
    """Warn of what does not stop a training: labels that may be meant to be one, a class that a
    split lacks, the same content in two splits, twice in one or under two labels.

    Args:
        source: with all splits.
        fingerprint: of the data.
        backbone: what the training begins with; one is warned of that a run trained on the same
            data, split by another seed.
        split_seed: by which the splits were made.

    Returns:
        The number of duplicates across splits.
    """
    theirs = _splits_of_run(backbone, fingerprint)
    if theirs not in (None, split_seed):
        warn(
            f"'{backbone}' was trained on these data split by --split-seed {theirs}: it has seen "
            f"some of what --split-seed {split_seed} holds out, and figures are too good; give "
            f"--split-seed {theirs}"
        )
    else:
        _warn_of_what_a_backbone_has_seen(source, backbone)
    everything = [example for split in source.splits.values() for example in split]
    for of, counts in _label_counts(everything).items():
        warn_of_twins(counts, of)
    for split in SPLITS[1:]:
        there = {label for example in source.splits[split] for label in example.labels}
        lacking = [label for label in source.labels if label not in there]
        if lacking:
            warn(
                f"the {split} split has no example of '{lacking[0]}'{_more(len(lacking))}: it is "
                "not measured"
            )
    duplicates = duplicates_across(source)
    if duplicates:
        first, second = duplicates[0]
        warn(
            f"'{first}' has the same content as '{second}' of another split{_more(len(duplicates))}"
        )
    _warn_of_repeats(source)
    return len(duplicates)


def _label_counts(records: Sequence[Record]) -> dict[str, Counter]:
    """How many records each label has, by what it is a label of."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for record in records:
        for of, labels in record.label_groups.items():
            counts[of].update(labels)
    return counts


def _warn_of_what_a_backbone_has_seen(source: Source, backbone: str) -> None:
    before = seen_by_backbone(backbone)
    if before is None:
        return
    held_out = [example for split in SPLITS[1:] for example in source.splits[split]]
    seen = before.trained_on(held_out)
    if seen:
        warn(
            f"'{backbone}' was trained on {len(seen)} of the {len(held_out)} validation and test "
            f"examples (the first: '{seen[0].name}'): figures are too good; give it splits that "
            "keep them apart"
        )


def _warn_of_repeats(source: Source) -> None:
    """Warn of examples whose content stands there before: under another label, or in the same split
    under the same one.
    """
    first: dict[str, Record] = {}
    in_split: set[tuple[str, str]] = set()
    contradicted, repeated = [], []
    for split, examples in source.splits.items():
        for example in examples:
            before = first.setdefault(example.digest, example)
            if _contradict(before, example):
                contradicted.append((before, example))
            elif (split, example.digest) in in_split:
                repeated.append((before, example))
            in_split.add((split, example.digest))
    if contradicted:
        before, example = contradicted[0]
        warn(
            f"'{example.name}' ({_said(example)}) has the same content as '{before.name}' "
            f"({_said(before)}) but another label{_more(len(contradicted))}: correct one of them"
        )
    if repeated:
        before, example = repeated[0]
        warn(
            f"'{example.name}' repeats '{before.name}' in the same split{_more(len(repeated))}: "
            "each counts by itself"
        )


def _contradict(one: Record, other: Record) -> bool:
    pairs = zip(one.parts, other.parts, strict=True)
    return any(mine and theirs and not _same_answer(mine, theirs) for mine, theirs in pairs)


def _same_answer(one: str, other: str) -> bool:
    """Whether two cells say the same: several labels in any order, a number in any form."""
    if one == other or {p.strip() for p in one.split(";")} == {p.strip() for p in other.split(";")}:
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def _said(record: Record) -> str:
    return ", ".join(filter(None, record.shown)) or "no label"


def _splits_of_run(backbone: str, fingerprint: str) -> int | None:
    """By which seed the run that `backbone` is of has made splits of the data of this
    `fingerprint`; None: it has not.
    """
    _, known = data_of_run(backbone) or (None, {})
    same = known.get("fingerprint") == fingerprint and known.get("made_splits")
    seed = known.get("split_seed")
    return seed if same and isinstance(seed, int) else None


def _more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
