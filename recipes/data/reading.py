"""What a source found, used and left out, by reason: counted while it is read, said once, kept in
run.json.

Nothing is lost without a word. What is read otherwise than it is written (backslashes in paths, a
column called `Path`) is a note; what is not read is left out. Both are counted, with an example of
each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graft.zoo.terminal import warn

__all__ = ["HIDDEN", "LeftOut", "Tally", "added", "listed", "record", "record_of", "summary"]

HIDDEN = "hidden"
"""The reason of what an operating system or an editor keeps for itself: counted, and no cause for a
warning.
"""
UNREADABLE = "unreadable"
LISTED = 4
"""So many reasons are named in a line, the most frequent first."""


@dataclass(frozen=True)
class LeftOut:
    """What was not read.

    Attributes:
        reason: a file's ending (".heic"), or why in a few words ("outside of class folders").
        count: how many.
        example: the name of the first one.
    """

    reason: str
    count: int
    example: str


class _Source(Protocol):
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def left_out(self) -> tuple[LeftOut, ...]: ...


class _Encoded(Protocol):
    """An encoded split."""

    @property
    def skipped(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...


_Parts = Mapping[str, _Encoded] | Mapping[str, Sequence]
"""Encoded splits, or those of a source of which nobody knows yet what cannot be read."""


class Tally:
    """Counts, while a source is read."""

    def __init__(self) -> None:
        self._left: dict[str, LeftOut] = {}
        self._notes: dict[str, LeftOut] = {}
        self._with_split = 0
        self._without_split: list[str] = []

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """By reason, the most frequent first."""
        return _sorted(self._left.values())

    @property
    def instead(self) -> str:
        """What there is instead, for the end of a message about something that holds nothing."""
        return f" (there are {listed(self.left_out, examples=True)})" if self.left_out else ""

    def leave(self, reason: str, name: str, count: int = 1) -> None:
        """Something called `name` is not read."""
        _count(self._left, reason, name, count)

    def add(self, other: "Tally") -> None:
        """Take over what `other` has counted as left out."""
        for part in other.left_out:
            self.leave(part.reason, part.example, part.count)

    def note(self, how: str, name: str) -> None:
        """Something called `name` is read, but not as it is written: `how` is a sentence for many
        of them.
        """
        _count(self._notes, how, name, 1)

    def has_split(self, name: str, given: bool) -> None:
        """A row says which split it belongs to, or does not."""
        if given:
            self._with_split += 1
        else:
            self._without_split.append(name)

    def warn(self, spec: str, used: int) -> None:
        """Say what was noted, and in one line what was left out of `spec`, of which `used` examples
        are read.
        """
        if self._with_split and self._without_split:
            where = (
                f"{len(self._without_split):,} of '{spec}' (the first: {self._without_split[0]})"
            )
            warn(f"rows that name no split are taken for training: {where}")
        for note in self._notes.values():
            times = f", {note.count:,} times" if note.count > 1 else ""
            warn(f"'{spec}': {note.reason}{times} (the first: {note.example})")
        visible = tuple(part for part in self.left_out if part.reason != HIDDEN)
        if visible:
            count = sum(part.count for part in visible)
            named = listed(visible, examples=True)
            verb = "is" if count == 1 else "are"
            warn(f"{count:,} of {used + count:,} found in '{spec}' {verb} left out: {named}")


def added(left_out: Iterable[LeftOut], reason: str, names: Sequence[str]) -> tuple[LeftOut, ...]:
    """`left_out` and beside it all of `names`, for one reason more."""
    more = [LeftOut(reason, len(names), names[0])] if names else []
    return _sorted([*left_out, *more])


def listed(left_out: Sequence[LeftOut], examples: bool = False) -> str:
    """ "8 .heic, 4 .txt": the most frequent reasons, with an example of each if asked for."""
    named = [
        f"{part.count:,} {part.reason}{f' ({part.example})' if examples else ''}"
        for part in left_out[:LISTED]
    ]
    others = sum(part.count for part in left_out[LISTED:])
    return ", ".join([*named, *([f"{others:,} for other reasons"] if others else [])])


def record(source: _Source, parts: Mapping[str, _Encoded]) -> dict:
    """`{"found", "used", "left_out": [{"reason", "count", "example"}]}` for run.json.

    Args:
        source: what was read.
        parts: its splits as they were used, in which unreadable ones are missing.
    """
    return record_of(source.left_out, parts)


def record_of(left_out: Iterable[LeftOut], parts: Mapping[str, _Encoded]) -> dict:
    """The same of what was left out."""
    used, everything = sum(map(len, parts.values())), _all_left_out(left_out, parts)
    return {
        "found": used + sum(part.count for part in everything),
        "used": used,
        "left_out": [
            {"reason": p.reason, "count": p.count, "example": p.example} for p in everything
        ],
    }


def summary(source: _Source, parts: _Parts, noun: str, classes: str = "") -> str:
    """ "200 images, 5 classes: 140 / 30 / 30; 12 left out: 8 .heic, 4 hidden".

    Args:
        source: what was read.
        parts: its splits, training first; once they are encoded, as they were used.
        noun: what an example is called.
        classes: what is told apart; by default the number of labels.
    """
    used, left_out = sum(map(len, parts.values())), _all_left_out(source.left_out, parts)
    classes = classes or (f"{len(source.labels):,} classes" if len(source.labels) > 1 else "")
    head = ", ".join(filter(None, [f"{used:,} {noun}{'' if used == 1 else 's'}", classes]))
    sizes = " / ".join(f"{len(part):,}" for part in parts.values())
    text = f"{head}: {sizes}" if len(parts) > 1 else head
    count = sum(part.count for part in left_out)
    return f"{text}; {count:,} left out: {listed(left_out)}" if count else text


def _all_left_out(left_out: Iterable[LeftOut], parts: _Parts) -> tuple[LeftOut, ...]:
    """With those that turned out to be unreadable."""
    skipped = [message for part in parts.values() for message in getattr(part, "skipped", ())]
    return added(left_out, UNREADABLE, skipped)


def _count(into: dict[str, LeftOut], reason: str, name: str, count: int) -> None:
    before = into.get(reason, LeftOut(reason, 0, name))
    into[reason] = LeftOut(reason, before.count + count, before.example)


def _sorted(parts: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(sorted(parts, key=lambda part: (-part.count, part.reason)))
