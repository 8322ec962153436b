"""One pass of a split through the frozen blocks, which fills entries of the entries."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.codecs.augmentation import augmenter
from graft.recipes.codecs.targets import target_rows
from graft.recipes.feed.entries import BATCH, VIEW_SEED, Entries
from graft.recipes.feed.frozen import Cut
from graft.zoo.terminal import progress, say

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Pass", "examples_in"]


class Pass:
    """One pass over a split of `entries` that fills `cuts`, from the features at the cut `start`,
    or from the inputs where it is None; of the version of the examples with the number `view`.
    """

    def __init__(
        self,
        entries: Entries,
        name: str,
        cuts: Sequence[Cut],
        start: Cut | None,
        view: int,
    ):
        self.entries, self.name, self.cuts = entries, name, cuts
        self.start, self.view = start, view
        self.forward: Callable = entries.graph.forward(cuts, start)

    def run(self) -> None:
        """Write an entry for each cut."""
        try:
            self._write({})
        except _TooLargeError:
            first = self.cuts[-1][0].name
            say(f"features at '{first}' exceed the range of float16: stored as float32")
            self._write({"float16": "float32"})

    def batches(self) -> "tf.data.Dataset":
        """(inputs, targets by task, mask of positions or 0): inputs changed at random, or the
        features at the cut that the pass starts from.
        """
        import tensorflow as tf

        entries, examples = self.entries, self.entries.examples[self.name]
        if self.start is not None:
            examples = entries.features(self.start, self.name, (self.view,)).from_disk()
        read, positions = examples.reader(VIEW_SEED), examples.positions
        mask = (lambda indices: 0) if positions is None else positions.mask
        batches = tf.data.Dataset.range(len(examples), output_type=tf.int32).batch(BATCH)
        first = self.view * len(batches)
        steps = tf.data.Dataset.range(first, first + len(batches), output_type=tf.int32)
        found = tf.data.Dataset.zip((steps, batches)).map(
            lambda step, indices: (step, *read(step, indices), mask(indices)),
            num_parallel_calls=2,
            deterministic=True,
        )
        if self.start is None and entries.is_augmented(self.name):
            apply = augmenter(entries.augment, VIEW_SEED, examples.moving)
            # One call at a time: the layers draw from a seeded state.
            found = found.map(
                lambda step, inputs, targets, mask: (*apply(step, inputs, targets), mask)
            )
        else:
            found = found.map(lambda step, *others: others)
        return found.prefetch(2)

    def _write(self, instead: dict[str, str]) -> None:
        """The pass; `instead` says which types of files are others."""
        entries, name = self.entries, self.name
        count, of_views = len(entries.examples[name]), entries.views[name] > 1
        title = f"frozen blocks ({name}{f', view {self.view + 1}' if of_views else ''})"
        began = time.perf_counter()
        if self.start is not None:
            began -= entries.find(self.start, name, self.view)[1]["seconds"]
        kept = [part for cut in self.cuts for part in entries.kept(cut, name)]
        computed = {id(tensor) for cut in self.cuts for tensor in cut}
        with contextlib.ExitStack() as stack:  # closes each cut's files before its entry
            files, notes = [], []
            for cut in self.cuts:
                folder, facts = stack.enter_context(
                    entries.store.add(entries.key(cut, name, self.view))
                )
                notes.append(facts)
                own = entries.kept(cut, name)
                facts["tensors"] = [
                    (part.count, part.shape, instead.get(part.stored, part.stored)) for part in own
                ]
                files += [
                    stack.enter_context((folder / f"{i}.bin").open("wb")) for i in range(len(own))
                ]
            with progress(title, count) as advance:
                for inputs, targets, mask in self.batches():
                    found, given = iter(self.forward(inputs)), self._given(inputs)
                    for part, file in zip(kept, files, strict=True):
                        if part.is_target:
                            value = target_rows(targets[part.name])
                        else:
                            is_new = id(part.tensor) in computed
                            value = next(found) if is_new else given[part.name]
                        rows = value.numpy()
                        rows = rows[mask.numpy() > 0] if part.by_position else rows
                        file.write(_narrow(rows, instead.get(part.stored, part.stored)).data)
                    advance(examples_in(inputs))
            for facts in notes:
                facts["seconds"] = time.perf_counter() - began

    def _given(self, inputs: Any) -> dict[str, "tf.Tensor"]:
        """The model's own inputs of a batch of the pass, by name, where they are at hand."""
        graph = self.entries.graph
        if isinstance(inputs, dict):
            return inputs
        if self.start is None:
            return {graph.model.inputs[0].name: inputs}
        if not isinstance(inputs, tuple):
            return {}
        again = graph.again(self.start)
        return {t.name: inputs[len(self.start) + i] for i, t in enumerate(again)}


class _TooLargeError(Exception):
    """A feature that float16 cannot hold."""


def examples_in(inputs: Any) -> int:
    """How many examples a batch has."""
    first = next(iter(inputs.values())) if isinstance(inputs, dict) else inputs
    first = first[0] if isinstance(first, tuple) else first
    return int(first.shape[0])


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
