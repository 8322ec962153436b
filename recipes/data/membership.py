"""What a model has seen: a few bytes of each example of each split, kept beside the run and beside
its exported files.

Whether a test example was trained on is a question of its content, not of its name, its place or
the split it stands in now. An example of the same content (the bytes of its file, its pixels as the
model gets them, its text) is refused where a model is measured; one that only looks the same is
warned of.

splits.npz   for each split `SPLIT_contents`, of images also `SPLIT_pixels`: uint64, 8 bytes of a
             hash an example; and `SPLIT_looks`, of images uint8 `(n, 32)`, see `look_of`, of texts
             8 bytes of a hash of their words
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graft.recipes.data.records import SPLITS, Record
from graft.recipes.data.traces import LOOK, alike, short_digest
from graft.zoo.errors import ArtifactError, DataError
from graft.zoo.files.reading import read_arrays, read_json
from graft.zoo.files.writing import save_arrays
from graft.zoo.terminal import warn

__all__ = [
    "MEMBERSHIP",
    "Membership",
    "data_of_run",
    "find_membership",
    "seen_by_backbone",
    "warn_of_alike",
    "write_membership",
]

MEMBERSHIP = "splits.npz"
BACKBONE = "backbone"
"""The "split" that holds what the run was trained on whose backbone this one began with."""


class _Encoded(Protocol):
    """An encoded split."""

    @property
    def names(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def traces(self) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True)
class Membership:
    """What the model in `place` was trained and measured on: arrays by the names that the module's
    docstring lists.
    """

    place: Path
    arrays: Mapping[str, np.ndarray]

    def of(self, split: str, kind: str) -> np.ndarray:
        """The digests or looks of a split; empty where it has none."""
        return self.arrays.get(f"{split}_{kind}", np.zeros(0, np.uint64))

    def trained_on(self, examples: Sequence[Record]) -> list[Record]:
        """Those of `examples` that were in the training data, of the run itself or of its
        backbone's.
        """
        trained = np.concatenate([self.of(split, "contents") for split in ("train", BACKBONE)])
        known = np.isin(_contents(examples), trained)
        return [example for example, seen in zip(examples, known, strict=True) if seen]

    def refuse(self, examples: Sequence[Record], split: str) -> None:
        """Refuse to measure on `examples` that were in the training data; warn of those that
        training knew in both.

        Raises:
            DataError: the count, an example, and what to do.
        """
        names = [example.name for example in examples]
        self._refuse(_contents(examples), names, split, "contents")

    def refuse_decoded(self, found: _Encoded, split: str) -> None:
        """The same for `examples` once they are decoded, whatever file they came in; warn of those
        that look the same.

        Raises:
            DataError: the count, an example, and what to do.
        """
        own, names = found.traces(), found.names
        if "pixels" in own and len(self.of("train", "pixels")):
            self._refuse(own["pixels"], names, split, "pixels")
        looks = self.of("train", "looks")
        if not len(looks) or "looks" not in own or looks.dtype != own["looks"].dtype:
            return
        same = np.isin(own["contents"], self.of("train", "contents"))
        places = [i for i, _ in alike(own["looks"], looks) if not same[i]]
        if places:
            warn(
                f"{len(places)} of {len(names)} {split} examples look (or read) the same as "
                f"training examples (the first: '{names[places[0]]}'): the figures may be too good"
            )

    def _refuse(self, digests: np.ndarray, names: Sequence[str], split: str, kind: str) -> None:
        trained = np.isin(digests, self.of("train", kind))
        # What stood in both splits is known: training said so.
        known = np.isin(digests, self.of(split, kind))
        by_backbone = np.isin(digests, self.of(BACKBONE, kind)) & ~trained & ~known
        for seen, whose in ((trained & ~known, "this model"), (by_backbone, "its backbone")):
            if seen.any():
                count, first = _count_and_first(seen, names)
                raise DataError(
                    f"{count} {split} examples are in the training data of {whose}, whatever they "
                    f"are called now {first}: what it has learned by heart measures nothing; leave "
                    "them out, or restore the splits that it was trained with"
                )
        if kind != "contents":
            return
        unlabelled = np.isin(digests, self.of("unlabelled", kind)) & ~trained
        for seen, what in (
            (trained & known, "are in its training data too, as training warned"),
            (unlabelled, "were seen while training, without their labels"),
        ):
            if seen.any():
                count, first = _count_and_first(seen, names)
                warn(f"{count} {split} examples {what} {first}")


def _count_and_first(seen: np.ndarray, names: Sequence[str]) -> tuple[str, str]:
    first = names[int(seen.argmax())]
    return f"{int(seen.sum())} of {len(names)}", f"(the first: '{first}')"


def write_membership(
    folder: Path, splits: Mapping[str, _Encoded], backbone: str | None
) -> dict[str, Any]:
    """Write `folder`/splits.npz: what a run has seen, and what the run had whose weights its
    `backbone` brought along.

    Returns:
        What run.json says of it: `{"file", "examples" and "digests" by split}`. A digest is of what
        the split holds, in whatever order.
    """
    arrays = {
        f"{name}_{kind}": rows
        for name, part in splits.items()
        for kind, rows in part.traces().items()
    }
    before = seen_by_backbone(backbone)
    for kind in ("contents", "pixels"):
        found = [] if before is None else [before.of(split, kind) for split in ("train", BACKBONE)]
        if sum(map(len, found)):
            arrays[f"{BACKBONE}_{kind}"] = np.unique(np.concatenate(found))
    save_arrays(folder / MEMBERSHIP, **arrays)
    return {
        "file": MEMBERSHIP,
        "examples": {name: len(part) for name, part in splits.items()},
        "digests": {name: _digest(arrays[f"{name}_contents"]) for name in splits},
    }


def find_membership(artifact: Path, training_data: Mapping[str, Any] | None) -> Membership | None:
    """What a model has seen, as it was kept beside it; warns where nothing was.

    Args:
        artifact: a run, a file of one or an exported file.
        training_data: what run.json or the manifest beside it says of its data.

    Returns:
        None where it was not recorded.

    Raises:
        ArtifactError: splits.npz is damaged, or that of another run.
    """
    if not training_data:
        return None
    recorded = training_data.get("membership")
    places = (Path(artifact), Path(artifact).parent)
    place = next((place for place in places if (place / MEMBERSHIP).is_file()), None)
    if not isinstance(recorded, Mapping) or place is None:
        why = f"'{MEMBERSHIP}' is missing beside it" if recorded else "an older Graft wrote it"
        warn(
            f"which examples '{artifact}' was trained on is not recorded ({why}): whether some of "
            "these are among them cannot be said"
        )
        return None
    arrays = read_arrays(place / MEMBERSHIP)
    if not _fits(arrays, recorded.get("digests")):
        raise ArtifactError(
            f"'{place / MEMBERSHIP}' is damaged, or of another run: restore it, or train anew"
        )
    return Membership(place, arrays)


def _fits(arrays: Mapping[str, np.ndarray], digests: object) -> bool:
    """Whether what was read from a file is what `write_membership` has written there."""
    kinds = {(np.dtype(np.uint64), 1), (np.dtype(np.uint8), 2)}
    if any(
        (rows.dtype, rows.ndim) not in kinds or rows.shape[1:] not in ((), (LOOK,))
        for rows in arrays.values()
    ):
        return False
    if not isinstance(digests, Mapping):
        return False
    return all(
        f"{name}_contents" in arrays and _digest(arrays[f"{name}_contents"]) == d
        for name, d in digests.items()
    )


def data_of_run(backbone: str | None) -> tuple[Path, dict[str, Any]] | None:
    """The folder of the run that `backbone` (a run, or a file in one) is of, and what its run.json
    says of its data; None: it is of no run.
    """
    place = Path(backbone or "").expanduser()
    folder = place.parent if place.suffix == ".keras" else place
    if not backbone or not (folder / "run.json").is_file():
        return None
    data = read_json(folder / "run.json", dict).get("data")
    return (folder, data) if isinstance(data, dict) else None


def seen_by_backbone(backbone: str | None) -> Membership | None:
    """What the run has seen that `backbone` (a run, or a file in one) is of; None: it is of no run,
    or not recorded.
    """
    run = data_of_run(backbone)
    return find_membership(*run) if run and (run[0] / MEMBERSHIP).is_file() else None


def warn_of_alike(splits: Mapping[str, _Encoded], same: str = "looks the same as") -> int:
    """Warn of validation and test examples that look the same as one of an earlier split but are
    not the same file; returns how many there are. `same` says it of two examples.
    """
    pairs: list[tuple[str, str]] = []
    earlier: list[tuple[Sequence[str], Mapping[str, np.ndarray]]] = []
    for part in (splits[split] for split in SPLITS if split in splits):
        own = part.traces()
        if "looks" not in own:
            continue
        seen: set[int] = set()
        for names, known in earlier:
            contents = set(known["contents"].tolist())
            for i, j in alike(own["looks"], known["looks"]):
                if i not in seen and own["contents"][i].item() not in contents:
                    seen.add(i)
                    pairs.append((part.names[i], names[j]))
        earlier.append((part.names, own))
    if pairs:
        more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
        warn(
            f"'{pairs[0][0]}' {same} '{pairs[0][1]}' of another split{more}: the figures may be "
            "too good"
        )
    return len(pairs)


def _contents(examples: Sequence[Record]) -> np.ndarray:
    return np.array([short_digest(example.digest) for example in examples], np.uint64)


def _digest(contents: np.ndarray) -> str:
    return hashlib.blake2b(np.sort(contents).astype(">u8").tobytes(), digest_size=16).hexdigest()
