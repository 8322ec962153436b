"""Entries of the prefix cache: what one holds, what it is called, where it lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graft.recipes.codecs.augmentation import Augmentation, describe
from graft.recipes.codecs.examples import Examples
from graft.recipes.feed.features import Features
from graft.recipes.feed.frozen import Cut, FrozenGraph, is_of_positions, row_shape
from graft.zoo.errors import ConfigError
from graft.zoo.files.rows import Rows
from graft.zoo.files.store import Store
from graft.zoo.hashing import hash_of

if TYPE_CHECKING:
    import keras

__all__ = ["BATCH", "VIEW_SEED", "CacheSettings", "Entries", "Kept", "Mode"]

Mode = Literal["auto", "off", "memory", "disk"]

FORMAT = 4
"""Of an entry's facts."""
PACKAGES = ("graft-zoo", "tensorflow", "keras", "keras-hub", "pillow")
BATCH = 64
"""Examples a step of a pass. The random changes of an example depend on which batch it is in."""
VIEW_SEED = 0
"""Views do not depend on the seed of a training, so that every seed and every run finds them."""


@dataclass(frozen=True)
class CacheSettings:
    """How frozen features are kept.

    Attributes:
        mode: "off"; "memory": held in memory; "disk": read as they are needed; "auto": whichever is
            cheaper, in memory while the features of a phase fit `budget_bytes`.
        views: differently augmented versions of each training image, at most.
        budget_bytes: memory for the features of one phase.
        dtype: what they are stored in; they are computed and trained on in the model's own.
        ray: the address of the Ray cluster whose nodes compute them; None: this process does.
    """

    mode: Mode = "auto"
    views: int = 8
    budget_bytes: int = 1024**3
    dtype: Literal["float16", "float32"] = "float16"
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.views < 1:
            raise ConfigError(f"the number of views must be at least 1, not {self.views}")
        if self.budget_bytes <= 0:
            raise ConfigError("the memory for the cache must be above 0")
        if self.ray is not None and self.mode == "off":
            raise ConfigError(
                "--ray fills the prefix cache, which --cache off does without: leave one of them "
                "away"
            )


@dataclass(frozen=True)
class Kept:
    """What an entry holds of a split in one file.

    Attributes:
        name: of the tensor, or of the task whose targets these are.
        tensor: None for targets.
        count: of rows, one an example or one a position.
        shape: of a row.
        computed: the type that the model computes it in.
        stored: the type of the file.
        by_position: whether there is a row for each position.
    """

    name: str
    tensor: "keras.KerasTensor | None"
    count: int
    shape: list[int]
    computed: str
    stored: str
    by_position: bool = False

    @property
    def is_target(self) -> bool:
        """Whether these are targets that random changes moved."""
        return self.tensor is None


class Entries:
    """The entries of a `store` for the encoded splits `examples` at the cuts of a `graph`, changed
    at random as `augment` says where they are trained on. `views` says how many views of each split
    there are to be, `settings.views` of one that is changed at random.
    """

    def __init__(
        self,
        store: Store,
        graph: FrozenGraph,
        examples: Mapping[str, Examples],
        augment: Sequence[Augmentation],
        settings: CacheSettings,
    ):
        self.store, self.graph, self.examples, self.settings = store, graph, examples, settings
        self.augment = tuple(augment)
        self.views = {name: settings.views if self.is_augmented(name) else 1 for name in examples}
        self._augmentation: list | None = None
        self._moved: dict[str, list[str]] = {}

    def is_augmented(self, name: str) -> bool:
        """Whether the examples of a split are changed at random."""
        return bool(self.augment) and name != "validation"

    def kept(self, cut: Cut, name: str) -> list[Kept]:
        """What an entry holds: the tensors of the cut and, where they are changed at random, the
        inputs that are needed again and the targets that move with them.
        """
        examples = self.examples[name]

        def of(tensor: "keras.KerasTensor") -> Kept:
            by_position = examples.positions is not None and is_of_positions(tensor)
            count = len(examples) if not by_position else int(examples.positions.lengths.sum())
            stored = self.settings.dtype if "float" in tensor.dtype else tensor.dtype
            return Kept(
                tensor.name, tensor, count, row_shape(tensor), tensor.dtype, stored, by_position
            )

        kept = [of(tensor) for tensor in cut]
        if self.is_augmented(name):
            kept += [of(tensor) for tensor in self.graph.again(cut)]
            kept += [
                Kept(
                    task,
                    None,
                    len(examples),
                    list(target.shape[1:]),
                    target.dtype.name,
                    target.dtype.name,
                )
                for task, target in examples.targets.items()
                if task in examples.moving
            ]
        return kept

    def find(
        self, cut: Cut, name: str, view: int, verify: bool = False
    ) -> tuple[Path, dict] | None:
        """The folder and the facts of an entry; None: it is not there."""
        return self.store.find(self.key(cut, name, view), verify)

    def entry(self, cut: Cut, name: str, view: int) -> tuple[Path, dict]:
        """The folder and the facts of an entry that is there, whose content is what was written."""
        return self.find(cut, name, view, verify=True)

    def key(self, cut: Cut, name: str, view: int) -> str:
        """The name of an entry."""
        augment, moved = [], []
        if self.is_augmented(name):
            # The changes of an example depend on which batch it is in.
            augment = [*self.augment, view, VIEW_SEED, BATCH, self._described_augmentation()]
            moved = self._moved_digests(name)
        kept_too = [part.name for part in self.kept(cut, name)[len(cut) :]]
        packages = {package: metadata.version(package) for package in PACKAGES}
        digests = self.examples[name].digest, augment, kept_too, self.graph.digest(cut)
        return hash_of(FORMAT, *digests, *moved, self.settings.dtype, packages)

    def _described_augmentation(self) -> list:
        if self._augmentation is None:
            moving = next(iter(self.examples.values())).moving
            self._augmentation = describe(self.augment, VIEW_SEED, moving)
        return self._augmentation

    def _moved_digests(self, name: str) -> list[str]:
        """A hash of the targets of each task that move with the inputs of a split: an entry holds
        them too.
        """
        if name not in self._moved:
            examples = self.examples[name]
            self._moved[name] = [hash_of(examples.targets[task]) for task in examples.moving]
        return self._moved[name]

    def _files(self, cut: Cut, name: str, view: int) -> list[Rows]:
        """One for each tensor of an entry, whose content is what was written."""
        folder, facts = self.entry(cut, name, view)
        return [
            Rows(folder / f"{i}.bin", count, tuple(shape), dtype)
            for i, (count, shape, dtype) in enumerate(facts["tensors"])
        ]

    def features(self, cut: Cut, name: str, views: Sequence[int] = (0,)) -> Features:
        """Some views of the features of split `name` at `cut`, which are there."""
        tensors = tuple(zip(*(self._files(cut, name, view) for view in views), strict=True))
        size = sum(rows.size_bytes for parts in tensors for rows in parts)
        in_memory = self.settings.mode == "memory" or (
            self.settings.mode == "auto" and size <= self.settings.budget_bytes
        )
        kept, again = self.kept(cut, name), tuple(t.name for t in self.graph.again(cut))
        return Features(
            tensors=tensors,
            dtypes=tuple(part.computed for part in kept),
            by_position=tuple(part.by_position for part in kept),
            in_memory=in_memory,
            examples=self.examples[name],
            again=() if self.is_augmented(name) else again,
            moved=tuple(part.name for part in kept if part.is_target),
        )
