"""Names of labels: in which order they stand, and which of them may be meant to be one."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from graft.zoo.terminal import warn

__all__ = ["sort_labels", "twin_hint", "twins", "warn_of_twins"]


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Each once, sorted: as numbers where all of them are integers ("2" before "10"), else by their
    characters.
    """
    found = set(labels)
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in found):
        return sorted(found, key=lambda label: (int(label), label))
    return sorted(found)


def twins(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ only in case, in blanks or in Unicode's form (an accent apart
    from its letter).
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups[_key(label)].append(label)
    return [group for group in groups.values() if len(group) > 1]


def twin_hint(label: str, others: Iterable[str]) -> str:
    """For the end of a message about `label`: the name among `others` that it may be meant to be;
    "" without one.
    """
    other = next((other for other in others if other != label and _key(other) == _key(label)), None)
    return (
        ""
        if other is None
        else f" (or is '{other}' meant? They differ only in {_difference([label, other])})"
    )


def warn_of_twins(counts: Mapping[str, int], of: str = "") -> None:
    """Warn of labels that may be meant to be one; `counts` says how many examples each has, `of` of
    what they are.
    """
    found = twins(counts)
    if found:
        named = " and ".join(f"'{label}' ({counts[label]:,})" for label in found[0])
        more = f" (and {len(found) - 1} more such groups)" if len(found) > 1 else ""
        warn(
            f"the labels {named}{of} differ only in {_difference(found[0])}{more}: rename one if "
            "they are meant to be one"
        )


def _key(label: str) -> str:
    visible = "".join(
        c for c in unicodedata.normalize("NFC", label) if unicodedata.category(c) != "Cf"
    )
    return unicodedata.normalize("NFC", " ".join(visible.casefold().split()))


def _difference(group: list[str]) -> str:
    steps = {
        "Unicode form (NFC and NFD)": lambda label: unicodedata.normalize("NFC", label),
        "case": str.casefold,
        "blanks": lambda label: " ".join(label.split()),
    }
    for name, step in steps.items():
        if len(set(map(step, group))) == 1:
            return name
    return "case, blanks or Unicode form"
