"""The prefix cache: what the frozen blocks compute is computed once.

A phase whose first blocks are frozen gets from them, in every epoch, the same values for the same
image. `PrefixCache` runs those blocks once over the data, keeps the values at the cut in a file,
and the phase trains what lies behind the cut on them. One pass from pixels fills all cuts that a
schedule needs; a cut that an earlier run left is where a higher one starts from. With random
augmentation `views` versions of each image are kept, each an entry of its own: see `views.py`.

Where what trains needs the image itself again (raw pixels that join late), that is kept beside
the features as the view has it; without random changes it is taken from the pixels at hand.

An entry's name is a hash of the pixels, the augmentation with its parameters and the number of the
view, the frozen graph, its weights, the cut, the stored type and the versions of the libraries and
of Graft: another model or other data never finds it.
"""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.codecs.augmentation import MIXERS, Augmentation
from graft.recipes.codecs.examples import Examples
from graft.recipes.feed.entries import BATCH, CacheSettings, Entries, Mode
from graft.recipes.feed.frozen import Cut, FrozenGraph, cut_key
from graft.recipes.feed.passes import Pass
from graft.recipes.feed.work import examples_in
from graft.zoo.errors import ConfigError
from graft.zoo.files.store import Store
from graft.zoo.terminal import say

if TYPE_CHECKING:
    import keras

__all__ = ["CacheSettings", "Mode", "PrefixCache"]

MEASURED = 4
"""Batches that say what a pass will take."""
KEPT_FREE = 1024**3
"""Bytes that a cache never takes from the disk."""


class PrefixCache(Entries):
    """The features of `examples` ("train", "validation", perhaps "unlabelled") at the cuts of
    `model`, kept in `store`.

    `augment` is applied to what is trained on, `settings.views` times to each example.
    """

    def __init__(
        self,
        store: Store,
        model: "keras.Model",
        examples: Mapping[str, Examples],
        augment: Sequence[Augmentation],
        settings: CacheSettings,
    ):
        super().__init__(store, FrozenGraph(model), examples, augment, settings)
        self.each_seconds = 0.0

    def begin(self, cut: Cut, cuts: Sequence[Cut]) -> list[Cut]:
        """A phase begins that trains what lies behind `cut`: which of `cuts` are frozen in it,
        those at or below `cut`.
        """
        self.graph.weights_changed()
        ascending = self.graph.ascending([*cuts, cut])
        return ascending[: 1 + [cut_key(other) for other in ascending].index(cut_key(cut))]

    def plan(self, phases: Sequence[tuple[int | None, Cut | None]]) -> list[bool]:
        """Which phases train on cached features, given each one's epochs (None: as many as its time
        allows) and its cut (None: nothing is frozen). An epoch takes one new view at most, so there
        are no more of them than epochs.

        Says what was decided, with bytes and seconds of either way.

        Raises:
            ConfigError: a cache was asked for that cannot be had.
        """
        frozen = [(epochs, cut) for epochs, cut in phases if cut is not None]
        if not frozen or self.settings.mode == "off":
            if self.settings.ray is not None:
                say("--ray has nothing to compute: no phase of this training has frozen blocks")
            return [False] * len(phases)
        cuts = self.graph.ascending([cut for _, cut in frozen])
        timed = any(epochs is None for epochs, _ in frozen)
        epochs = None if timed else sum(epochs for epochs, _ in frozen)
        if not timed:
            self.views = {name: min(views, epochs) for name, views in self.views.items()}
        missing = [
            cut for cut in cuts if not all(self._is_there(cut, name) for name in self.examples)
        ]
        refusal = self._refusal(epochs, missing)
        if refusal:
            say(f"prefix cache off: {refusal}")
        return [cut is not None and not refusal for _, cut in phases]

    def _refusal(self, epochs: int | None, missing: Sequence[Cut]) -> str | None:
        mixers = [name for name in self.augment if name in MIXERS]
        if mixers and self.settings.mode == "auto":
            return f"{mixers[0]} joins two images anew in every step"
        if mixers:
            raise ConfigError(
                f"--augment {mixers[0]} joins two images anew in every step, so their features "
                "cannot be cached: "
                f"leave out {mixers[0]}, or pass --cache off"
            )
        counts = {name: len(images) for name, images in self.examples.items()}
        once = sum(self.views[name] * count for name, count in counts.items())
        again = None if epochs is None else epochs * sum(counts.values())
        # Whether features are there already has no say: the same command has to give the same
        # model.
        if self.settings.mode == "auto" and again is not None and once >= again:
            return "a single epoch costs as much without it"
        if not missing:
            say(f"prefix cache: found in '{self.store.folder}', nothing to compute")
            return None
        size, ray = sum(map(self._size_bytes, missing)), self.settings.ray
        # On a cluster parts come first, which lie there beside the entries that they become.
        needed = size if ray is None else 2 * size
        free = self.store.free_bytes() - KEPT_FREE
        if needed > free:
            text = (
                f"the features take {needed / 1e9:.1f} GB, and {max(0, free) / 1e9:.1f} GB of disk "
                "can be had"
            )
            if self.settings.mode != "auto":
                raise ConfigError(
                    f"{text} in '{self.store.folder}': free some space, or pass --cache off"
                )
            return text
        each = self.each_seconds = self._seconds_an_example(missing)
        say(
            f"prefix cache: {self.views['train']} view(s) of {counts['train']:,} examples through "
            "the frozen blocks: "
            f"{size / 1e6:,.0f} MB and about {each * once:.0f} s once"
            + ("" if ray is None else f" for one process, shared by the cluster at '{ray}'")
            + (
                f"; without it about {each * again:.0f} s for a seed's {epochs} epochs"
                if again is not None
                else ""
            )
        )
        return None

    def fill(self, cuts: Sequence[Cut], view: int = 0) -> float:
        """Compute what is missing of `cuts`, in one pass for each split that has so many views.

        It starts from the highest cut that is there and lies below all that are missing, or else
        from the pixels. Returns the seconds that the passes took whose results were found.
        """
        cuts, spared = self.graph.ascending(cuts), 0.0
        for name in self.examples:
            if view >= self.views[name]:
                continue
            there = [self.find(cut, name, view) for cut in cuts]
            # What lies above the first that is missing comes out of the same pass: it has spared
            # nothing.
            spared += max(
                (entry[1]["seconds"] for entry in itertools.takewhile(bool, there)), default=0.0
            )
            missing = [cut for cut, entry in zip(cuts, there, strict=True) if entry is None]
            if missing:
                with self.store.alone(self.key(cut, name, view) for cut in missing):
                    self._compute_missing(name, cuts, view)
        return spared

    def expected_seconds(self, cuts: Sequence[Cut], charged: bool) -> float:
        """What `fill` will take for the first view, as `plan` measured it, and where it is
        `charged` what those passes took that are found.
        """
        seconds = 0.0
        for name, examples in self.examples.items():
            found = [self.find(cut, name, 0) for cut in cuts]
            known = [entry[1]["seconds"] for entry in found if entry is not None]
            if len(known) < len(found):
                seconds += self.each_seconds * len(examples)
            elif charged:
                seconds += max(known)
        return seconds

    def seconds(self, cuts: Sequence[Cut], view: int) -> float:
        """What the passes took that gave view number `view` at `cuts`; it is there."""
        names = [name for name in self.examples if view < self.views[name]]
        found = [[self.find(cut, name, view) for cut in cuts] for name in names]
        return sum(
            max(entry[1]["seconds"] for entry in entries if entry is not None) for entries in found
        )

    def entry(self, cut: Cut, name: str, view: int) -> tuple[Path, dict]:
        """The folder and the facts of an entry, whose content is what was written; computed if it
        is not there (any more).
        """
        found = self.find(cut, name, view, verify=True)
        if found is None:
            self.fill([cut], view)
        return found or super().entry(cut, name, view)

    def _is_there(self, cut: Cut, name: str) -> bool:
        return all(self.find(cut, name, view) for view in range(self.views[name]))

    def _size_bytes(self, cut: Cut) -> int:
        """What the features of all splits take that are not there."""
        lacking = {
            name: sum(self.find(cut, name, view) is None for view in range(self.views[name]))
            for name in self.examples
        }
        return sum(
            lacking[name] * part.count * math.prod(part.shape) * np.dtype(part.stored).itemsize
            for name in self.examples
            for part in self.kept(cut, name)
        )

    def _seconds_an_example(self, cuts: Sequence[Cut]) -> float:
        """Of the pass that `fill` would make, random changes included, measured on a few batches of
        training examples.
        """
        examples = self.examples["train"]
        # Examples with positions are sorted by their number.
        middle = 0 if examples.positions is None else len(examples) // 2 // BATCH
        made = Pass(self, "train", cuts, None, 0)
        batches = iter(made.batches().skip(middle))
        first, *_ = next(batches)
        made.forward(first)  # traces
        start, count = time.perf_counter(), 0
        for inputs, *_ in itertools.islice(batches, MEASURED):
            made.forward(inputs)
            count += examples_in(inputs)
        if not count:
            made.forward(first)
            count = examples_in(first)
        return (time.perf_counter() - start) / count

    def _compute_missing(self, name: str, cuts: Sequence[Cut], view: int) -> None:
        """Compute what is missing of the ascending `cuts`; another process may have done so a
        moment ago.
        """
        found = [self.find(cut, name, view) is not None for cut in cuts]
        if not all(found):
            first = found.index(False)
            missing = [cut for cut, there in zip(cuts, found, strict=True) if not there]
            Pass(self, name, missing, cuts[first - 1] if first else None, view).run()
