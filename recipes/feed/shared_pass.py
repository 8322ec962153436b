"""A pass that the nodes of a Ray cluster compute: stretches are handed out, each comes back as a
part in a folder beside the entries, and the parts are joined.

The folder's name is a hash of all that the parts depend on, the number of threads among it: how a
sum rounds depends on it, so every worker computes with as many as this process would. A pass that
was interrupted goes on with the parts that are there.
"""

import contextlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from graft.recipes.codecs.examples import Examples
from graft.recipes.feed import cluster, node_work
from graft.recipes.feed.frozen import FrozenPart
from graft.recipes.feed.handover import digest_of, write_examples
from graft.recipes.feed.stretches import Stretch, stretches
from graft.recipes.feed.work import TooLargeError, Work
from graft.zoo.errors import ConfigError
from graft.zoo.files.staging import staged_file
from graft.zoo.files.store import PARTS, Store
from graft.zoo.hashing import hash_of
from graft.zoo.terminal import progress, say, warn

__all__ = ["Given", "SharedPass", "threads_of_tensorflow"]

FORMAT = 2
"""Of the parts."""


class SharedPass:
    """A pass that fills the entries `keys` of `store` from the examples, or from the entry `start`;
    `work` says with what, the nodes of the cluster at `address` compute it.
    """

    def __init__(
        self, store: Store, keys: Sequence[str], work: Work, address: str, start: str | None = None
    ):
        self.work, self.address, self.threads = work, address, threads_of_tensorflow()
        stored = [column.stored for column in work.columns]
        name = hash_of(FORMAT, start or "", list(keys), stored, self.threads)
        self.folder = Path(store.folder).absolute() / f"{PARTS}{name}"
        self.stretches: list[Stretch] = []
        self._warned = False

    def compute(self, title: str, given: "Given", model: FrozenPart) -> float:
        """Have every part that is not there computed, with a progress bar called `title`.

        Args:
            title: of the progress bar.
            given: what is read.
            model: what computes.

        Returns:
            When the pass began (`time.time()`), the time aside that went by between the process
            that was interrupted and this one.

        Raises:
            ConfigError: no cluster answers, it is lost, or it cannot do its part.
            TooLargeError: a feature that float16 cannot hold.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stretches = stretches(given.count)
        parts = Store(self.folder, limit_bytes=float("inf"))
        found = {s: parts.find(s.name, verify=True) for s in self.stretches}
        there = [facts for _, facts in filter(None, found.values())]
        missing = [stretch for stretch, part in found.items() if part is None]
        began = time.time() - max((facts["until"] for facts in there), default=0.0)
        if there and missing:
            say(
                f"{title}: {len(there)} of {len(found)} parts are there already, "
                f"{len(missing)} to go"
            )
        if missing:
            with cluster.connected(self.address) as nodes:
                orders = _Orders(self.folder, given, self.work, self._hand_over(model), began)
                self._compute(nodes, title, missing, orders)
        return began

    def join(self, files: Sequence[IO[bytes]]) -> None:
        """Write the parts into the files of the entries, in their order.

        Raises:
            ConfigError: a part has been damaged meanwhile.
        """
        parts = Store(self.folder, limit_bytes=float("inf"))
        for stretch in self.stretches:
            found = parts.find(stretch.name, verify=True)
            if found is None:
                raise ConfigError(
                    f"a part of the features in '{self.folder}' has been damaged: the same command "
                    "computes it again"
                )
            for number, file in enumerate(files):
                with (found[0] / f"{number}.bin").open("rb") as part:
                    shutil.copyfileobj(part, file)

    def remove(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _compute(
        self, nodes: cluster.Cluster, title: str, missing: Sequence[Stretch], orders: "_Orders"
    ) -> None:
        answers = nodes.compute(
            node_work.compute_stretch, missing, orders.of, self.threads, self._variables()
        )
        count = sum(map(len, missing))
        with contextlib.closing(answers), progress(title, count) as advance:
            for stretch, answer in answers:
                orders.done(stretch)
                if answer.outcome == "refused":
                    raise ConfigError(
                        f"{answer.machine} cannot compute its part for --ray {self.address}: "
                        f"{answer.text}"
                    )
                if answer.outcome == "too large":
                    raise TooLargeError
                self._compare(answer)
                advance(len(stretch))

    def _compare(self, answer: node_work.Answer) -> None:
        """Say once that the last bits may differ."""
        own = node_work.processor()
        if answer.processor != own and not self._warned:
            self._warned = True
            warn(
                f"{answer.machine} has another processor ({answer.processor}) than this machine "
                f"({own}): its features may differ in their last bits"
            )

    def _hand_over(self, model: FrozenPart) -> node_work.Part:
        """Write the model beside the parts."""
        file = self.folder / node_work.MODEL
        with staged_file(file) as part:
            model.model.save(part)
        return node_work.Part(model.places, digest_of(file), model.weights_digest)

    def _variables(self) -> dict[str, str]:
        """The environment of a worker: the same Graft, as many threads as here, and no GPU, which
        several workers of a node would fight for.
        """
        return {
            "PYTHONPATH": str(_folder_of_graft()),
            "TF_NUM_INTRAOP_THREADS": str(self.threads),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }


@dataclass(frozen=True)
class Given:
    """The examples of a pass.

    Attributes:
        count: of them.
        stretch: gives those from one number up to another.
        first_step: the number of the first batch, by which random changes are drawn.
    """

    count: int
    stretch: Callable[[int, int], Examples]
    first_step: int


@dataclass(frozen=True)
class _Orders:
    """What each worker is given; the examples of its stretch lie in the shared `folder`."""

    folder: Path
    given: Given
    work: Work
    part: node_work.Part
    began: float

    def of(self, stretch: Stretch) -> node_work.Order:
        """The order for a stretch."""
        examples = self.given.stretch(stretch.first, stretch.end)
        return node_work.Order(
            folder=self.folder,
            stretch=stretch,
            first_step=self.given.first_step + stretch.first_batch,
            work=self.work,
            part=self.part,
            examples=write_examples(examples, self._file(stretch)),
            began=self.began,
            versions=node_work.versions(),
        )

    def done(self, stretch: Stretch) -> None:
        """What was handed over is not needed any more."""
        self._file(stretch).unlink(missing_ok=True)

    def _file(self, stretch: Stretch) -> Path:
        return self.folder / f"{stretch.name}{node_work.EXAMPLES}"


def threads_of_tensorflow() -> int:
    """On how many threads TensorFlow computes one operation in this process."""
    import tensorflow as tf

    given = tf.config.threading.get_intra_op_parallelism_threads()
    given = given or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0)
    if given > 0:
        return given
    own = getattr(os, "sched_getaffinity", None)
    return len(own(0)) if own else os.cpu_count() or 1


def _folder_of_graft() -> Path:
    """The folder that holds the package; where a node lacks it, the Graft that is installed there
    is taken.
    """
    spec = importlib.util.find_spec("graft")
    return Path(str(spec and spec.origin)).resolve().parents[1]
