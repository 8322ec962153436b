"""What a worker on another machine does: one stretch of a pass, written as a part into the shared
folder. The model is loaded once a process.
"""

import functools
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from graft.recipes.feed.entries import PACKAGES
from graft.recipes.feed.frozen import FrozenPart
from graft.recipes.feed.handover import digest_of, read_examples
from graft.recipes.feed.stretches import Stretch
from graft.recipes.feed.work import TooLargeError, Work
from graft.zoo.errors import ArtifactError, GraftError
from graft.zoo.files.store import Store

__all__ = ["Answer", "Order", "Part", "compute_stretch", "parts_in", "processor", "versions"]

MODEL = "frozen.keras"
EXAMPLES = ".examples"


@dataclass(frozen=True)
class Part:
    """The frozen part as it was handed over.

    Attributes:
        places: see `FrozenPart`.
        file_digest: of the file in the shared folder.
        weights_digest: of the weights, as they are to come out of it.
    """

    places: tuple[int, ...]
    file_digest: str
    weights_digest: str


@dataclass(frozen=True)
class Order:
    """What a worker is asked for.

    Attributes:
        folder: the shared one.
        stretch: which examples.
        first_step: the number of its first batch, by which random changes are drawn.
        work: what is done with each batch.
        part: the model.
        examples: the hash of the file that holds the examples.
        began: when the pass began, `time.time()`.
        versions: of the libraries, which have to be the same.
    """

    folder: Path
    stretch: Stretch
    first_step: int
    work: Work
    part: Part
    examples: str
    began: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """How it went.

    Attributes:
        outcome: "done"; "too large": a feature that float16 cannot hold; "refused": `text` says
            why.
        machine: where it was computed.
        processor: of that machine.
    """

    outcome: Literal["done", "too large", "refused"]
    machine: str
    processor: str
    text: str = ""


def versions() -> dict[str, str]:
    """The versions of the libraries on which features depend."""
    return {package: metadata.version(package) for package in PACKAGES}


def processor() -> str:
    """What the processor of this machine is called."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # another system
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@functools.lru_cache(1)
def parts_in(folder: Path) -> Store:
    """The finished parts in a shared folder: as many as there are."""
    return Store(folder, limit_bytes=float("inf"))


def compute_stretch(order: Order) -> Answer:
    """Compute one stretch and write its part."""
    answer = functools.partial(Answer, machine=platform.node(), processor=processor())
    try:
        _refuse_other_versions(order.versions)
        _compute(order)
    except TooLargeError:
        return answer("too large")
    except (GraftError, OSError) as error:
        return answer("refused", text=" ".join(str(error).split()))
    return answer("done")


def _compute(order: Order) -> None:
    name = order.stretch.name
    examples = read_examples(order.folder / f"{name}{EXAMPLES}", order.examples)
    forward = _forward(order.folder / MODEL, order.part)
    began, busy, work = time.time(), time.process_time(), order.work
    with parts_in(order.folder).add(name) as (folder, facts):
        files = [(folder / f"{i}.bin").open("wb") for i in range(len(work.columns))]
        try:
            for inputs, targets, mask in work.batches(examples, order.first_step):
                rows = work.rows(inputs, targets, mask, forward(inputs))
                for file, values in zip(files, rows, strict=True):
                    file.write(values.data)
        finally:
            for file in files:
                file.close()
        now = time.time()
        facts.update(machine=platform.node(), seconds=now - began, until=now - order.began)
        facts["processor_seconds"] = time.process_time() - busy


@functools.lru_cache(1)
def _forward(file: Path, part: Part) -> Callable:
    """The frozen part that was handed over, traced once."""
    from graft.zoo.backbones.keras_file import load_keras_model

    if digest_of(file) != part.file_digest:
        raise ArtifactError(f"'{file}' is not what was handed over")
    loaded = FrozenPart(load_keras_model(file), part.places)
    if loaded.weights_digest != part.weights_digest:
        raise ArtifactError(f"the weights in '{file}' came out other than they went in")
    return loaded.forward()


def _refuse_other_versions(wanted: Mapping[str, str]) -> None:
    found = versions()
    for package, version in wanted.items():
        if found[package] != version:
            raise ArtifactError(
                f"{package} is {found[package]} there and {version} here, whose features differ: "
                "install the same"
            )
