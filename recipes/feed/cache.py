"""The prefix cache: what the frozen blocks compute is computed once.

A phase whose first blocks are frozen gets from them, in every epoch, the same values for the same
picture. `PrefixCache` runs those blocks once over the data, keeps the values at the cut in a file,
and the phase trains what lies behind the cut on them. One pass from pixels fills all cuts that a
schedule needs; a cut that an earlier run left is where a higher one starts from. With random
augmentation `views` versions of each picture are kept, each an entry of its own: see `views.py`.

Where what trains needs the picture itself again (raw pixels that join late), that is kept beside
the features as the view has it; without random changes it is taken from the pixels at hand.

An entry's name is a hash of the pixels, the augmentation with its parameters and the number of the
view, the frozen graph, its weights, the cut, the stored type and the versions of the libraries and
of Graft: another model or other data never finds it.
"""

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Literal

import numpy as np

from graft.recipes.codecs.augmentation import MIXERS, Augmentation, augmenter, describe
from graft.recipes.codecs.images import Images
from graft.recipes.codecs.texts import Texts
from graft.recipes.feed import pipeline
from graft.recipes.feed.gather import Features
from graft.recipes.feed.store import Rows, Store, hash_of
from graft.zoo.errors import ConfigError
from graft.zoo.graph.cuts import split_at
from graft.zoo.graph.nodes import nodes_of
from graft.zoo.terminal import progress, say

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["CacheSettings", "Mode", "PrefixCache"]

Mode = Literal["auto", "off", "memory", "disk"]

BATCH = 64
VIEW_SEED = 0
"""Views do not depend on the seed of a training, so that every seed and every run finds them."""
NO_EFFECT = ("name", "trainable", "momentum")
"""Settings of a layer that do not change what it gives in inference mode."""
FORMAT = 4
"""Of an entry's facts."""
PACKAGES = ("graft-zoo", "tensorflow", "keras", "keras-hub", "pillow")
MEASURED = 4
"""Batches that say what a pass will take."""
KEPT_FREE = 1024**3
"""Bytes that a cache never takes from the disk."""


@dataclass(frozen=True)
class CacheSettings:
    """How frozen features are kept.

    Attributes:
        mode: "off"; "memory": held in memory; "disk": read as they are needed; "auto": whichever is
            cheaper, in memory while the features of a phase fit `budget_bytes`.
        views: differently augmented versions of each training picture, at most.
        budget_bytes: memory for the features of one phase.
        dtype: what they are stored in; they are computed and trained on in the model's own.
    """

    mode: Mode = "auto"
    views: int = 8
    budget_bytes: int = 1024**3
    dtype: Literal["float16", "float32"] = "float16"

    def __post_init__(self):
        if self.views < 1:
            raise ConfigError(f"the number of views must be at least 1, not {self.views}")
        if self.budget_bytes <= 0:
            raise ConfigError("the memory for the cache must be above 0")


class PrefixCache:
    """The features of `images` ("train", "validation", perhaps "unlabelled") at the cuts of
    `model`, kept in `store`.

    `augment` is applied to what is trained on, `settings.views` times to each picture. `views` says
    how many views of each split there are to be.
    """

    def __init__(
        self,
        store: Store,
        model: "keras.Model",
        images: dict[str, Images | Texts],
        augment: Sequence[Augmentation],
        settings: CacheSettings,
    ):
        self.store, self.model, self.images, self.settings = store, model, images, settings
        self.augment = tuple(augment)
        self.views = {
            name: settings.views if augment and name != "validation" else 1 for name in images
        }
        self._forwards: dict[tuple, Callable] = {}
        self._prefixes: dict[tuple, tuple[object, str]] = {}
        self._digests: dict[tuple, str] = {}
        self._needed_again: dict[tuple, tuple[keras.KerasTensor, ...]] = {}
        self._augmentation: list | None = None

    def begin(
        self, cut: Sequence["keras.KerasTensor"], cuts: Sequence[Sequence["keras.KerasTensor"]]
    ) -> list:
        """A phase begins that trains what lies behind `cut`: which of `cuts` stand still in it,
        that is lie no higher.
        """
        self._digests.clear()
        ascending = self._ascending([*cuts, cut])
        return ascending[
            : 1 + [tuple(map(id, other)) for other in ascending].index(tuple(map(id, cut)))
        ]

    def plan(
        self, phases: Sequence[tuple[int | None, Sequence["keras.KerasTensor"] | None]]
    ) -> list[bool]:
        """Which phases train on cached features, given each one's epochs (None: as many as its time
        allows) and its cut (None: nothing is frozen). An epoch takes one new view at most, so there
        are no more of them than epochs.

        Says what was decided, with bytes and seconds of either way.

        Raises:
            ConfigError: a cache was asked for that cannot be had.
        """
        frozen = [(epochs, cut) for epochs, cut in phases if cut is not None]
        if not frozen or self.settings.mode == "off":
            return [False] * len(phases)
        cuts = self._ascending([cut for _, cut in frozen])
        timed = any(epochs is None for epochs, _ in frozen)
        epochs = None if timed else sum(epochs for epochs, _ in frozen)
        if not timed:
            self.views = {name: min(views, epochs) for name, views in self.views.items()}
        missing = [
            cut for cut in cuts if not all(self._is_there(cut, name) for name in self.images)
        ]
        refusal = self._refusal(epochs, missing)
        if refusal:
            say(f"prefix cache off: {refusal}")
        return [cut is not None and not refusal for _, cut in phases]

    def _refusal(self, epochs: int | None, missing) -> str | None:
        mixers = [name for name in self.augment if name in MIXERS]
        if mixers and self.settings.mode == "auto":
            return f"{mixers[0]} joins two pictures anew in every step"
        if mixers:
            raise ConfigError(
                f"--augment {mixers[0]} joins two pictures anew in every step, so their features "
                "cannot be cached: "
                f"leave out {mixers[0]}, or pass --cache off"
            )
        counts = {name: len(images) for name, images in self.images.items()}
        once = sum(self.views[name] * count for name, count in counts.items())
        again = None if epochs is None else epochs * sum(counts.values())
        # Whether features are there already has no say: the same command has to give the same
        # model.
        if self.settings.mode == "auto" and again is not None and once >= again:
            return "a single epoch costs as much without it"
        if not missing:
            say(f"prefix cache: found in '{self.store.folder}', nothing to compute")
            return None
        size = sum(map(self._size_bytes, missing))
        free = self.store.free_bytes() - KEPT_FREE
        if size > free:
            text = (
                f"the features take {size / 1e9:.1f} GB, and {max(0, free) / 1e9:.1f} GB of disk "
                "can be had"
            )
            if self.settings.mode != "auto":
                raise ConfigError(
                    f"{text} in '{self.store.folder}': free some space, or pass --cache off"
                )
            return text
        each = self._seconds_a_picture(missing)
        say(
            f"prefix cache: {self.views['train']} view(s) of {counts['train']:,} examples through "
            "the frozen blocks: "
            f"{size / 1e6:,.0f} MB and about {each * once:.0f} s once"
            + (
                f"; without it about {each * again:.0f} s for a seed's {epochs} epochs"
                if again is not None
                else ""
            )
        )
        return None

    def fill(self, cuts: Sequence[Sequence["keras.KerasTensor"]], view: int = 0) -> float:
        """Compute what is missing of `cuts`, in one pass for each split that has so many views.

        It starts from the highest cut that is there and lies below all that are missing, or else
        from the pixels. Returns the seconds that the passes took whose results were found.
        """
        cuts, spared = self._ascending(cuts), 0.0
        for name in self.images:
            if view >= self.views[name]:
                continue
            there = [self._find(cut, name, view) for cut in cuts]
            # What lies above the first that is missing comes out of the same pass: it has spared
            # nothing.
            spared += max(
                (entry[1]["seconds"] for entry in itertools.takewhile(bool, there)), default=0.0
            )
            missing = [cut for cut, entry in zip(cuts, there, strict=True) if entry is None]
            if missing:
                with self.store.alone(self._key(cut, name, view) for cut in missing):
                    self._compute_missing(name, cuts, view)
        return spared

    def seconds(self, cuts: Sequence[Sequence["keras.KerasTensor"]], view: int) -> float:
        """What the passes took that gave view number `view` at `cuts`; it is there."""
        names = [name for name in self.images if view < self.views[name]]
        found = [[self._find(cut, name, view) for cut in cuts] for name in names]
        return sum(
            max(entry[1]["seconds"] for entry in entries if entry is not None) for entries in found
        )

    def features(
        self, cut: Sequence["keras.KerasTensor"], name: str, views: Sequence[int] = (0,)
    ) -> Features:
        """Some views of the features of split `name` at `cut`; computed if they are not there (any
        more).
        """
        tensors = tuple(zip(*(self._files(cut, name, view) for view in views), strict=True))
        size = sum(rows.size_bytes for parts in tensors for rows in parts)
        in_memory = self.settings.mode == "memory" or (
            self.settings.mode == "auto" and size <= self.settings.budget_bytes
        )
        dtypes = tuple(t.dtype for t in self._tensors(cut, name))
        images, again = self.images[name], tuple(t.name for t in self._again(cut))
        if isinstance(images, Texts):
            of_tokens = tuple(map(_of_tokens, cut))
            return Features(tensors, images.targets, dtypes, in_memory, images, of_tokens, again)
        pictures = images if again and not self._is_augmented(name) else None
        return Features(tensors, images.targets, dtypes, in_memory, pictures=pictures)

    # -----------------------------------------------------------------------------------------------------------------

    def _again(self, cut) -> tuple["keras.KerasTensor", ...]:
        """The inputs of the model that what lies behind `cut` needs beside it."""
        key = tuple(map(id, cut))
        if key not in self._needed_again:
            names = {t.name for t in split_at(self.model, cut)[1].inputs[len(cut) :]}
            self._needed_again[key] = tuple(t for t in self.model.inputs if t.name in names)
        return self._needed_again[key]

    def _is_augmented(self, name: str) -> bool:
        return bool(self.augment) and name != "validation"

    def _tensors(self, cut, name: str) -> list["keras.KerasTensor"]:
        """What an entry holds: the tensors of the cut and, where it is changed at random, the
        picture that they are of.
        """
        kept_too = (
            self._again(cut)
            if self._is_augmented(name) and not isinstance(self.images[name], Texts)
            else ()
        )
        return [*cut, *kept_too]

    def _files(self, cut, name: str, view: int) -> list[Rows]:
        """One for each tensor of an entry, whose content is what was written."""
        found = self._find(cut, name, view, verify=True)
        if found is None:
            self.fill([cut], view)
            found = self._find(cut, name, view, verify=True)
        folder, facts = found
        return [
            Rows(folder / f"{i}.bin", count, tuple(shape), dtype)
            for i, (count, shape, dtype) in enumerate(facts["tensors"])
        ]

    def _is_there(self, cut, name: str) -> bool:
        return all(self._find(cut, name, view) for view in range(self.views[name]))

    def _ascending(self, cuts) -> list:
        """The different ones of `cuts`, from the input towards the output."""
        place = {
            id(t): i
            for i, node in enumerate(nodes_of(self.model.outputs))
            for t in node.output_tensors
        }
        different = {tuple(map(id, cut)): tuple(cut) for cut in cuts}
        return sorted(different.values(), key=lambda cut: max(place[id(t)] for t in cut))

    def _size_bytes(self, cut) -> int:
        """What the features of all splits take that are not there."""
        lacking = {
            name: sum(self._find(cut, name, view) is None for view in range(self.views[name]))
            for name in self.images
        }
        return sum(
            lacking[name]
            * self._rows(t, name)
            * math.prod(_row_shape(t))
            * np.dtype(self._stored(t)).itemsize
            for name in self.images
            for t in self._tensors(cut, name)
        )

    def _rows(self, tensor, name: str) -> int:
        """How many rows a tensor of the cut has for a view of a split: one for each example, or one
        a token.
        """
        images = self.images[name]
        if isinstance(images, Texts) and _of_tokens(tensor):
            return len(images.ids.values)
        return len(images)

    def _seconds_a_picture(self, cuts) -> float:
        """Of the pass that `fill` would make, random changes included, measured on a few batches of
        training pictures.
        """
        images = self.images["train"]
        middle = (
            len(images) // 2 // BATCH if isinstance(images, Texts) else 0
        )  # texts are sorted by length
        forward, batches = (
            self._forward(cuts, None),
            iter(self._batches("train", None, 0).skip(middle)),
        )
        first, _ = next(batches)
        forward(first)  # traces
        start, count = time.perf_counter(), 0
        for inputs, _ in itertools.islice(batches, MEASURED):
            forward(inputs)
            count += _examples_in(inputs)
        if not count:
            forward(first)
            count = _examples_in(first)
        return (time.perf_counter() - start) / count

    def _key(self, cut, name: str, view: int) -> str:
        augment: list = []
        if self._is_augmented(name):
            # The changes of an example depend on which batch it is in.
            augment = [*self.augment, view, VIEW_SEED, BATCH, self._described_augmentation()]
        kept_too = [t.name for t in self._tensors(cut, name)[len(cut) :]]
        packages = {name: metadata.version(name) for name in PACKAGES}
        parts = (
            self.images[name].digest,
            augment,
            kept_too,
            self._digest(cut),
            self.settings.dtype,
            packages,
        )
        return hash_of(FORMAT, *parts)

    def _described_augmentation(self) -> list:
        if self._augmentation is None:
            self._augmentation = describe(self.augment, VIEW_SEED)
        return self._augmentation

    def _digest(self, cut) -> str:
        """Of the frozen graph and its weights, as `begin` found them."""
        key = tuple(map(id, cut))
        if key not in self._digests:
            prefix, structure = self._prefix(cut)
            self._digests[key] = hash_of(structure, [np.asarray(v) for v in prefix.weights])
        return self._digests[key]

    def _prefix(self, cut) -> tuple["keras.Model", str]:
        """The model up to `cut` and its graph as text. Its weights may change in the course of a
        training, its graph not.
        """
        import keras

        key = tuple(map(id, cut))
        if key not in self._prefixes:
            prefix = keras.Model(self.model._inputs_struct, list(cut))
            self._prefixes[key] = prefix, _structure(prefix)
        return self._prefixes[key]

    def _find(self, cut, name: str, view: int, verify: bool = False):
        return self.store.find(self._key(cut, name, view), verify)

    def _stored(self, tensor) -> str:
        return self.settings.dtype if "float" in tensor.dtype else tensor.dtype

    def _forward(self, cuts, start) -> Callable:
        """A function from the pixels, or from the tensors of `start`, to those of all `cuts`;
        traced once.

        In inference mode. Faster than `predict` on a CPU.
        """
        import keras
        import tensorflow as tf

        key = (*(id(t) for cut in cuts for t in cut), None, *map(id, start or ()))
        if key not in self._forwards:
            model = keras.Model(self.model._inputs_struct, [t for cut in cuts for t in cut])
            places: list[int] = []
            if start is not None:
                model = split_at(model, start)[1]
                # Of the inputs beside `start`, `cuts` may need fewer than all that lies behind it.
                needed = {t.name for t in model.inputs[len(start) :]}
                again = [
                    len(start) + i for i, t in enumerate(self._again(start)) if t.name in needed
                ]
                places = [*range(len(start)), *again]

            def forward(inputs):
                if places:
                    given = inputs if isinstance(inputs, tuple) else (inputs,)
                    inputs = [given[place] for place in places] if len(places) > 1 else given[0]
                return keras.tree.flatten(model(inputs, training=False))

            self._forwards[key] = tf.function(forward, reduce_retracing=True)
        return self._forwards[key]

    def _given(self, inputs, start) -> dict[str, "tf.Tensor"]:
        """The pictures of a batch of the pass, by the name of the model's input."""
        if start is None:
            return {} if isinstance(inputs, dict) else {self.model.inputs[0].name: inputs}
        again = self._again(start)
        return (
            {t.name: inputs[len(start) + i] for i, t in enumerate(again)}
            if isinstance(inputs, tuple)
            else {}
        )

    def _compute_missing(self, name: str, cuts, view: int) -> None:
        """Compute what is missing of the ascending `cuts`; another process may have done so a
        moment ago.
        """
        found = [self._find(cut, name, view) is not None for cut in cuts]
        if not all(found):
            first = found.index(False)
            missing = [cut for cut, there in zip(cuts, found, strict=True) if not there]
            self._compute(name, missing, cuts[first - 1] if first else None, view)

    def _compute(self, name: str, cuts, start, view: int) -> None:
        dtypes = [self._stored(t) for cut in cuts for t in self._tensors(cut, name)]
        try:
            self._write(name, cuts, start, view, dtypes)
        except _TooLargeError:
            say(f"features at '{cuts[-1][0].name}' exceed the range of float16: stored as float32")
            self._write(
                name, cuts, start, view, ["float32" if d == "float16" else d for d in dtypes]
            )

    def _write(self, name: str, cuts, start, view: int, dtypes: Sequence[str]) -> None:
        """One pass over the split; every cut becomes an entry."""
        count, of_views = len(self.images[name]), self.views[name] > 1
        title = f"frozen blocks ({name}{f', view {view + 1}' if of_views else ''})"
        began = time.perf_counter() - (
            self._find(start, name, view)[1]["seconds"] if start is not None else 0.0
        )
        forward = self._forward(cuts, start)
        tensors = [t for cut in cuts for t in self._tensors(cut, name)]
        computed = {id(t) for cut in cuts for t in cut}
        of_tokens = [isinstance(self.images[name], Texts) and _of_tokens(t) for t in tensors]
        with contextlib.ExitStack() as stack:  # closes each cut's files before its entry
            files, types, notes = [], iter(dtypes), []
            for cut in cuts:
                folder, facts = stack.enter_context(self.store.add(self._key(cut, name, view)))
                notes.append(facts)
                own = self._tensors(cut, name)
                facts["tensors"] = [(self._rows(t, name), _row_shape(t), next(types)) for t in own]
                files += [
                    stack.enter_context((folder / f"{i}.bin").open("wb")) for i in range(len(own))
                ]
            with progress(title, count) as advance:
                for inputs, mask in self._batches(name, start, view):
                    found, given = iter(forward(inputs)), self._given(inputs, start)
                    values = [next(found) if id(t) in computed else given[t.name] for t in tensors]
                    for value, file, kind, tokens in zip(
                        values, files, dtypes, of_tokens, strict=True
                    ):
                        rows = value.numpy()
                        file.write(_narrow(rows[mask.numpy() > 0] if tokens else rows, kind).data)
                    advance(int(value.shape[0]))
            for facts in notes:
                facts["seconds"] = time.perf_counter() - began

    def _batches(self, name: str, start, view: int):
        """(inputs, padding mask) of the pass: augmented pixels, ids, or the features at the cut
        `start`.
        """
        import tensorflow as tf

        images = self.images[name]
        if isinstance(images, Texts):
            examples = images if start is None else self.features(start, name)
            masks = pipeline.evaluation_batches(images, BATCH).map(
                lambda inputs, _: inputs["padding_mask"]
            )
            batches = pipeline.evaluation_batches(examples, BATCH).map(lambda inputs, _: inputs)
            return tf.data.Dataset.zip((batches, masks))
        if start is not None:
            features = self.features(start, name, (view,))
            steps = replace(
                features, targets=np.zeros((len(features), 0), np.float32), in_memory=False
            )
            return pipeline.evaluation_batches(steps, BATCH).map(lambda inputs, _: (inputs, 0))
        batches = pipeline.evaluation_batches(images, BATCH)
        if name == "validation" or not self.augment:
            return batches.map(lambda pixels, _: (pixels, 0))
        apply = augmenter(self.augment, VIEW_SEED)
        first = view * len(batches)
        steps = tf.data.Dataset.range(first, first + len(batches), output_type=tf.int32)
        return (
            tf.data.Dataset.zip((steps, batches))
            .map(lambda step, batch: (apply(step, *batch)[0], 0))
            .prefetch(2)
        )


class _TooLargeError(Exception):
    """A feature that float16 cannot hold."""


def _examples_in(inputs) -> int:
    return int((next(iter(inputs.values())) if isinstance(inputs, dict) else inputs).shape[0])


def _of_tokens(tensor: "keras.KerasTensor") -> bool:
    """Whether a tensor has a vector for each token, `(batch, length, ...)`; how long a text is is
    left open.
    """
    return len(tensor.shape) > 2 and tensor.shape[1] is None


def _row_shape(tensor: "keras.KerasTensor") -> list[int]:
    return list(tensor.shape[2 if _of_tokens(tensor) else 1 :])


def _narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if (
        dtype == "float16"
        and not np.isfinite(stored).all()
        and np.isfinite(values.astype("float32")).all()
    ):
        raise _TooLargeError
    return stored


def _structure(model: "keras.Model") -> str:
    """The graph as text, without what does not change its outputs in inference mode.

    The names of layers count up in one process and differ between two.
    """
    config = model.get_config()
    names = {layer.name: f"#{i}" for i, layer in enumerate(model.layers)}

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items() if key not in NO_EFFECT}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return names.get(value, value) if isinstance(value, str) else value

    return json.dumps(plain(config), sort_keys=True, default=str)
