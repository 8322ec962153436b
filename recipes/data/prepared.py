"""The data of a run before they are encoded: a source with all its splits, and what else is learned
from or measured on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from graft.recipes.data import splits
from graft.recipes.data.reading import LeftOut
from graft.recipes.data.records import Record, Source
from graft.zoo.hashing import hash_of

__all__ = ["PreparedData"]


class _Asked(Protocol):
    """The part of a recipe's Config that says how data are split."""

    split_seed: int


@dataclass(frozen=True)
class PreparedData:
    """What is trained on and measured on.

    Attributes:
        source: with all splits.
        made: the splits that had to be made of the training data.
        fingerprint: of the content of the source, as it was read.
        target: what the unlabelled records were called; "" where there are none.
        unlabelled: records without labels; none that the source's validation or test split holds
            too.
        measured: labelled records of the target, where they were asked for.
        left_out: what was found in the target and is not among the unlabelled ones, by reason.
    """

    source: Source
    made: tuple[str, ...]
    fingerprint: str
    target: str = ""
    unlabelled: tuple[Record, ...] = ()
    measured: tuple[Record, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @classmethod
    def of(cls, source: Source, config: _Asked) -> "PreparedData":
        """A source with its missing splits made, and the part of its training records that was
        asked for.

        Raises:
            DataError: a split cannot be made.
            ConfigError: a part was asked for that cannot be had.
        """
        source, made = splits.complete(source, config.split_seed)
        fingerprint = splits.fingerprint(source)
        per_class, fraction = (getattr(config, name, None) for name in ("per_class", "fraction"))
        part = splits.take(source, per_class, fraction, config.split_seed)
        return cls(part, made, fingerprint)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that occurs in the source."""
        return self.source.labels

    @property
    def splits(self) -> Mapping[str, Sequence[Record]]:
        """The records of the source by split."""
        return self.source.splits

    @property
    def content(self) -> str:
        """A hash of all of it."""
        if not self.target:
            return self.fingerprint
        return hash_of(self.fingerprint, sorted(record.digest for record in self.unlabelled))
