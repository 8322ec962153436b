"""One pass of a split through the frozen blocks, which fills entries of the prefix cache: in this
process, or on the nodes of a Ray cluster.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from graft.recipes.feed.entries import Entries
from graft.recipes.feed.frozen import Cut
from graft.recipes.feed.shared_pass import Given, SharedPass
from graft.recipes.feed.work import Column, TooLargeError, Work, batches_in, examples_in
from graft.zoo.terminal import progress, say

if TYPE_CHECKING:
    import tensorflow as tf

    from graft.recipes.codecs.examples import Examples

__all__ = ["Pass"]


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
        self.work = self._work()

    def run(self) -> None:
        """Write an entry for each cut."""
        write = self._write if self.entries.settings.ray is None else self._write_shared
        try:
            write(self.work)
        except TooLargeError:
            first = self.cuts[-1][0].name
            say(f"features at '{first}' exceed the range of float16: stored as float32")
            write(self.work.in_float32())

    def batches(self) -> "tf.data.Dataset":
        """The batches of the whole split; see `Work.batches`."""
        return self.work.batches(self._examples(), self._first_step())

    def _given(self) -> Given:
        """What the nodes are given."""
        entries, name = self.entries, self.name
        if self.start is None:
            examples = entries.examples[name]

            def stretch(first: int, end: int) -> "Examples":
                return examples.take(np.arange(first, end))
        else:
            features = entries.features(self.start, name, (self.view,)).from_disk()
            stretch = features.stretch
        return Given(len(entries.examples[name]), stretch, self._first_step())

    def _examples(self) -> "Examples":
        """What is read: the split, or its features at the cut that the pass starts from."""
        if self.start is None:
            return self.entries.examples[self.name]
        return self.entries.features(self.start, self.name, (self.view,)).from_disk()

    def _first_step(self) -> int:
        """The number of the first batch: each view goes on counting."""
        return self.view * batches_in(len(self.entries.examples[self.name]))

    def _work(self) -> Work:
        entries, graph, name = self.entries, self.entries.graph, self.name
        computed = {id(tensor) for cut in self.cuts for tensor in cut}
        columns = []
        for part in (part for cut in self.cuts for part in entries.kept(cut, name)):
            given = "computed" if id(part.tensor) in computed else "input"
            source = "target" if part.is_target else given
            columns.append(Column(source, part.name, part.by_position, part.stored))
        augment = entries.augment if self.start is None and entries.is_augmented(name) else ()
        if self.start is None:
            names = tuple(tensor.name for tensor in graph.model.inputs)
        else:
            again = tuple(tensor.name for tensor in graph.again(self.start))
            names = (None,) * len(self.start) + again
        return Work(tuple(augment), names, tuple(columns))

    def _write(self, work: Work) -> None:
        """The pass in this process."""
        count = len(self.entries.examples[self.name])
        with self._entry_files(work) as files, progress(self._title(), count) as advance:
            for inputs, targets, mask in self.batches():
                rows = work.rows(inputs, targets, mask, self.forward(inputs))
                for file, values in zip(files, rows, strict=True):
                    file.write(values.data)
                advance(examples_in(inputs))

    def _write_shared(self, work: Work) -> None:
        """The pass on the nodes of the cluster: parts first, of which each is kept, then the
        entries.
        """
        entries = self.entries
        keys = [entries.key(cut, self.name, self.view) for cut in self.cuts]
        start = self.start and entries.key(self.start, self.name, self.view)
        shared = SharedPass(entries.store, keys, work, entries.settings.ray or "auto", start)
        model = entries.graph.part(self.cuts, self.start)
        try:
            began = shared.compute(self._title(), self._given(), model)
        except TooLargeError:  # no part of this type is of use
            shared.remove()
            raise
        with self._entry_files(work, began) as files:
            shared.join(files)
        shared.remove()

    def _title(self) -> str:
        of_views = self.entries.views[self.name] > 1
        return f"frozen blocks ({self.name}{f', view {self.view + 1}' if of_views else ''})"

    @contextlib.contextmanager
    def _entry_files(self, work: Work, began: float | None = None) -> Iterator[list[IO[bytes]]]:
        """The files of new entries, one for each column; the entries note how long the pass took,
        which has `began` so (`time.time()`), or begins now.
        """
        entries, name = self.entries, self.name
        began = time.time() if began is None else began
        if self.start is not None:
            began -= entries.find(self.start, name, self.view)[1]["seconds"]
        columns = iter(work.columns)
        with contextlib.ExitStack() as stack:  # closes each cut's files before its entry
            files, notes = [], []
            for cut in self.cuts:
                folder, facts = stack.enter_context(
                    entries.store.add(entries.key(cut, name, self.view))
                )
                notes.append(facts)
                own = entries.kept(cut, name)
                facts["tensors"] = [(p.count, p.shape, next(columns).stored) for p in own]
                files += [
                    stack.enter_context((folder / f"{i}.bin").open("wb")) for i in range(len(own))
                ]
            yield files
            for facts in notes:
                facts["seconds"] = time.time() - began
