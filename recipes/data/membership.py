"""What a model has seen: a few bytes of each example of each split, kept beside the run and beside
its exported files.

Whether a test example was trained on is a question of its content, not of its name, its place or
the split it stands in now. An example of the same content (the bytes of its file, its pixels as the
model gets them, its text) is refused where a model is measured; one that only looks the same is
warned of.

splits.npz   for each split `SPLIT_contents`, of images also `SPLIT_pixels`: uint64, 8 bytes of a hash an example; and
             `SPLIT_looks`, of images uint8 `(n, 32)`, see `look_of`, of texts 8 bytes of a hash of
             their words
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from graft.zoo.errors import ArtifactError, DataError
from graft.zoo.files.reading import read_arrays, read_json
from graft.zoo.files.staging import staged_file
from graft.zoo.terminal import warn

__all__ = [
    "FILE",
    "Membership",
    "alike",
    "beside",
    "empty_traces",
    "look_of",
    "pixel_traces",
    "seen_by_backbone",
    "short_digest",
    "trace",
    "warn_of_alike",
    "words_digest",
    "write",
]

FILE = "splits.npz"
BACKBONE = "backbone"
"""The "split" that holds what the run was trained on whose backbone this one began with."""

LOOK = 32
"""Bytes of the look of an image."""
THUMBNAIL, GRID = 9, 4
"""The sides of the two grey thumbnails by which images are compared."""
LEAST_STEP = 2
"""Levels between two neighbours of a thumbnail that count as brighter; saving a JPEG again moves
them by less.
"""
FEWEST_STEPS = 16
"""An image with fewer of them (a blank page) has no look of its own."""
STEPS_APART, LEVELS_APART = 8, 4
"""What two images that look the same may differ by at most, of 128 steps and of the 16 levels of
the grid. Measured on 1,500 photos saved again at JPEG quality 50 or scaled to a half: all are
found; among the photos themselves, digits and CIFAR-10: none.
"""
COMPARED = 2**20
"""Pairs that are compared at a time."""


class _Contained(Protocol):
    """A record of a source."""

    name: str

    @property
    def digest(self) -> str: ...


class _Encoded(Protocol):
    """An encoded split."""

    names: tuple[str, ...]

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

    def trained_on(self, examples: Sequence[_Contained]) -> list[_Contained]:
        """Those of `examples` that were in the training data, of the run itself or of its
        backbone's.
        """
        trained = np.concatenate([self.of(split, "contents") for split in ("train", BACKBONE)])
        known = np.isin(_contents(examples), trained)
        return [example for example, seen in zip(examples, known, strict=True) if seen]

    def refuse(self, examples: Sequence[_Contained], split: str) -> None:
        """Refuse to measure on `examples` that were in the training data; warn of those that
        training knew in both.

        Raises:
            DataError: the count, an example, and what to do.
        """
        self._refuse(_contents(examples), examples, split, "contents")

    def refuse_decoded(self, found: _Encoded, split: str) -> None:
        """The same for `examples` once they are decoded, whatever file they came in; warn of those
        that look the same.

        Raises:
            DataError: the count, an example, and what to do.
        """
        own = found.traces()
        names = [_Named(name) for name in found.names]
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
                "training examples (the first: "
                f"'{names[places[0]].name}'): the figures may be too good"
            )

    def _refuse(self, digests: np.ndarray, examples: Sequence, split: str, kind: str) -> None:
        trained = np.isin(digests, self.of("train", kind))
        known = np.isin(
            digests, self.of(split, kind)
        )  # it stood in both splits, and training said so
        by_backbone = np.isin(digests, self.of(BACKBONE, kind)) & ~trained & ~known
        for seen, whose in ((trained & ~known, "this model"), (by_backbone, "its backbone")):
            if seen.any():
                raise DataError(
                    f"{_counted(seen, examples, split)} are in the training data of {whose}, "
                    "whatever they are called now "
                    f"(the first: '{examples[seen.argmax()].name}'): what it has learned by heart "
                    "measures nothing; leave "
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
                warn(
                    f"{_counted(seen, examples, split)} {what} (the first: "
                    f"'{examples[seen.argmax()].name}')"
                )


@dataclass(frozen=True)
class _Named:
    name: str


def empty_traces(count: int) -> dict[str, np.ndarray]:
    """Room for the traces of `count` images: what a run keeps of each to know it again."""
    return {
        "contents": np.zeros(count, np.uint64),
        "pixels": np.zeros(count, np.uint64),
        "looks": np.zeros((count, LOOK), np.uint8),
    }


def trace(traces: Mapping[str, np.ndarray], row: int, digest: str, pixels: np.ndarray) -> None:
    """Fill the `row` of an image in `traces`, given the digest of its content and its decoded
    pixels.
    """
    traces["contents"][row] = short_digest(digest)
    traces["pixels"][row] = _hash8(pixels.tobytes())
    traces["looks"][row] = look_of(pixels)


def write(folder: Path, splits: Mapping[str, _Encoded], backbone: str | None) -> dict:
    """Write `folder`/splits.npz: what a run has seen, and what the run had whose weights its
    `backbone` brought along.

    Returns:
        What run.json says of it: `{"file", "examples" and "digests" by split}`. A digest is of what
            the split holds, in
        whatever order.
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
    with staged_file(folder / FILE) as path:
        np.savez_compressed(path, **arrays)
    return {
        "file": FILE,
        "examples": {name: len(part) for name, part in splits.items()},
        "digests": {name: _digest(arrays[f"{name}_contents"]) for name in splits},
    }


def beside(artifact: Path, training_data: Mapping | None) -> Membership | None:
    """What the model `artifact` (a run, a file of one or an exported file) has seen; None where it
    was not recorded.

    `training_data` is what run.json or the manifest beside it says of its data; it warns where that
    names none.

    Raises:
        ArtifactError: splits.npz is damaged, or that of another run.
    """
    if not training_data:
        return None
    recorded = training_data.get("membership")
    place = next(
        (place for place in (Path(artifact), Path(artifact).parent) if (place / FILE).is_file()),
        None,
    )
    if not isinstance(recorded, Mapping) or place is None:
        why = f"'{FILE}' is missing beside it" if recorded else "an older Graft wrote it"
        warn(
            f"which examples '{artifact}' was trained on is not recorded ({why}): whether some of "
            "these are among them "
            "cannot be said"
        )
        return None
    arrays = read_arrays(place / FILE)
    if not _fits(arrays, recorded.get("digests")):
        raise ArtifactError(
            f"'{place / FILE}' is damaged, or of another run: restore it, or train anew"
        )
    return Membership(place, arrays)


def _fits(arrays: Mapping[str, np.ndarray], digests: object) -> bool:
    """Whether what was read from a file is what `write` has written there."""
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


def seen_by_backbone(backbone: str | None) -> Membership | None:
    """What the run has seen that `backbone` (a run, or a file in one) is of; None: it is of no run,
    or not recorded.
    """
    if not backbone:
        return None
    place = Path(backbone).expanduser()
    folder = place.parent if place.suffix == ".keras" else place
    if not (folder / FILE).is_file() or not (folder / "run.json").is_file():
        return None
    data = read_json(folder / "run.json", dict).get("data")
    return beside(folder, data) if isinstance(data, dict) else None


# ---------------------------------------------------------------------------------------------------------------------
# What looks the same


def look_of(pixels: np.ndarray) -> np.ndarray:
    """How an image looks, of its pixels `(size, size, 3)`: uint8 `(32,)`.

    The first 16 bytes are a difference hash: of a thumbnail of 9 x 9 grey levels, which ones are
        brighter than their left
    and than their upper neighbour. The others are the grey levels of one of 4 x 4. All zeros for an
    image that is too plain.
    """
    from PIL import Image

    grey = Image.fromarray(pixels).convert("L")
    small, grid = (
        np.asarray(grey.resize((side, side), Image.Resampling.BOX), np.int16)
        for side in (THUMBNAIL, GRID)
    )
    across, down = small[:-1, 1:] - small[:-1, :-1], small[1:, :-1] - small[:-1, :-1]
    brighter = np.stack([across, down]) > LEAST_STEP
    if brighter.sum() < FEWEST_STEPS:
        return np.zeros(LOOK, np.uint8)
    return np.concatenate([np.packbits(brighter), np.uint8(grid.ravel())])


def alike(ones: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """(number in `ones`, number of the first such in `others`) for all of `ones` that look the same
    as some of `others`.
    """
    if ones.dtype != np.uint8:  # of texts: the same words
        first = {look: i for i, look in reversed(list(enumerate(others.tolist())))}
        return [(i, first[look]) for i, look in enumerate(ones.tolist()) if look and look in first]
    # What is too plain to have a look is like nothing.
    rows, other_rows = (np.flatnonzero(images[:, :16].any(-1)) for images in (ones, others))
    if not len(rows) or not len(other_rows):
        return []
    if len(rows) < len(ones) or len(other_rows) < len(others):
        return [
            (int(rows[i]), int(other_rows[j])) for i, j in alike(ones[rows], others[other_rows])
        ]
    found = []
    # Images that look the same are about as bright: both sorted by that, only a stretch of the
    # others has to be compared.
    brightness, other = (rows[:, 16:].mean(-1) for rows in (ones, others))
    order, sorted_others = np.argsort(brightness, kind="stable"), np.argsort(other, kind="stable")
    levels = other[sorted_others]
    start = 0
    while start < len(order):
        low = np.searchsorted(levels, brightness[order[start]] - LEVELS_APART)
        rows = max(1, COMPARED // max(1, len(levels)))
        chosen = order[start : start + rows]
        high = np.searchsorted(levels, brightness[chosen[-1]] + LEVELS_APART, side="right")
        stretch = np.sort(sorted_others[low:high])
        same = _same(ones[chosen], others[stretch])
        hits = np.flatnonzero(same.any(-1)) if len(stretch) else ()
        found += [(int(chosen[i]), int(stretch[same[i].argmax()])) for i in hits]
        start += len(chosen)
    return sorted(found)


def _same(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which pairs look the same, `(ones, others)`."""
    steps, other_steps = (
        np.ascontiguousarray(rows[:, :16]).view(np.uint64) for rows in (ones, others)
    )
    apart = np.zeros((len(ones), len(others)), np.uint8)
    for word in range(steps.shape[1]):
        apart += np.bitwise_count(steps[:, None, word] ^ other_steps[None, :, word])
    # An image with few steps may differ in few of them only.
    count = np.bitwise_count(steps).sum(-1, dtype=int)
    same = (apart <= np.minimum(STEPS_APART, count // 6)[:, None]) & (count > 0)[:, None]
    i, j = np.nonzero(same)
    same[i, j] = (
        np.abs(ones[i, 16:].astype(np.int16) - others[j, 16:]).max(-1, initial=0) <= LEVELS_APART
    )
    return same


def warn_of_alike(splits: Mapping[str, _Encoded], same: str = "looks the same as") -> int:
    """Warn of validation and test examples that look the same as one of an earlier split but are
    not the same file; returns how many there are. `same` says it of two examples.
    """
    pairs, earlier = [], []
    for split in ("train", "validation", "test"):
        if split not in splits:
            continue
        part, own = splits[split], splits[split].traces()
        if "looks" not in own:
            continue
        seen: set[int] = set()
        for other, known in earlier:
            contents = set(known["contents"].tolist())
            for i, j in alike(own["looks"], known["looks"]):
                if i not in seen and own["contents"][i].item() not in contents:
                    seen.add(i)
                    pairs.append((part.names[i], other.names[j]))
        earlier.append((part, own))
    if pairs:
        more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
        warn(
            f"'{pairs[0][0]}' {same} '{pairs[0][1]}' of another split{more}: the figures may be "
            "too good"
        )
    return len(pairs)


def pixel_traces(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Those of images that were made, not read, of their pixels `(n, h, w, 3)`."""
    return {"contents": np.array([_hash8(rows.tobytes()) for rows in pixels], np.uint64)}


def words_digest(text: str) -> int:
    """A hash of the words of a text, whatever their case and what stands between them; 0 if it has
    none.
    """
    words = re.findall(r"\w+", text.casefold())
    return _hash8(" ".join(words).encode("utf-8", "surrogatepass")) if words else 0


def _counted(seen: np.ndarray, examples: Sequence, split: str) -> str:
    return f"{int(seen.sum())} of {len(examples)} {split} examples"


def _contents(examples: Sequence[_Contained]) -> np.ndarray:
    return np.array([short_digest(example.digest) for example in examples], np.uint64)


def short_digest(digest: str) -> int:
    """The first 8 bytes of a hexadecimal digest as a number."""
    return int(digest[:16], 16)


def _hash8(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _digest(contents: np.ndarray) -> str:
    return hashlib.blake2b(np.sort(contents).astype(">u8").tobytes(), digest_size=16).hexdigest()
