"""Backbones ranked for a data set by one forward pass over a sample of it each; nothing is
trained.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.adapt import transferability
from graft.recipes.data import splits
from graft.recipes.data.sources import Source
from graft.recipes.grid.entries import Entry, read_entries
from graft.recipes.runs.backbones import Reading
from graft.recipes.tasks.group import Tasks
from graft.zoo.errors import ConfigError
from graft.zoo.fits import ImageSize
from graft.zoo.terminal import progress

__all__ = ["FEWEST", "default_entries", "on_this_machine", "suggest"]

FEWEST = 2
"""Examples of a class, below which the scores of that class mean nothing."""
BATCH = 64
TIMED_BATCHES = 5
"""Batches whose median says what an example costs; a single one may have been disturbed."""
BACKWARD = 3.0
"""What a training step through the whole backbone costs, in forward passes: the backward pass takes
about two of them.
"""


def on_this_machine(image_size: ImageSize | None = None) -> list[str]:
    """The backbones for images of this size whose weights are here already, in Keras's cache or
    bundled.
    """
    from graft.zoo.backbones import table as backbone_table
    from graft.zoo.backbones import weights

    cached = {row.name: weights.is_downloaded(row, image_size) for row in backbone_table.BACKBONES}
    return [
        row.name if cached[row.name] else f"{row.name}@bundled"
        for row in backbone_table.BACKBONES
        if cached[row.name] or "bundled" in row.weights
    ]


def default_entries(image_size: ImageSize | None = None) -> list[Entry]:
    """The backbones to rank where none were named: all whose weights are on this machine.

    Args:
        image_size: height and width in pixels; None means each backbone's own.

    Returns:
        Two entries or more.

    Raises:
        ConfigError: there are fewer than two, and a ranking of one says nothing.
    """
    names = on_this_machine(image_size)
    if len(names) < 2:
        only = f"of {names[0]}" if names else "of no backbone"
        if names and names[0].endswith("@bundled"):
            only += " (pretrained on printed characters, not on photos)"
        raise ConfigError(
            f"the weights {only} are all that is on this machine, and one backbone is no ranking: "
            "give two or more, as --backbones mobilenet_v2 efficientnet_b0 (ImageNet weights, "
            "downloaded) or --backbones NAME@WEIGHTS ... (a file, bundled or none); "
            "`graft zoo` lists the names"
        )
    return read_entries(names)


def suggest(
    source: Source,
    entries: Sequence[Entry],
    sample: int,
    split_seed: int = 0,
    reading: Reading | None = None,
) -> list[dict]:
    """A row for each backbone, the most promising first: `backbone`, `weights`, the scores of
    `transferability.SCORES`, their mean rank, and estimates in seconds: of a pass over the training
    data, and of an epoch through the whole backbone.

    Scores are taken on at most `sample` training examples, stratified; validation and test data are
    not touched. `reading` says how images are read; None: as each backbone has them, stretched.

    Raises:
        ConfigError: a `sample` that leaves less than two examples of each class.
    """
    from graft.zoo.quiet import load_tensorflow

    source, _ = splits.complete(source, split_seed)
    count = len(source.splits["train"])
    if sample < FEWEST * len(source.labels):
        raise ConfigError(
            f"--sample {sample} is too small for {len(source.labels)} classes: give {FEWEST} a "
            "class or more"
        )
    if sample < count:
        source = splits.take_share(source, sample / count, split_seed)
    load_tensorflow()
    rows, encoded = [], _Encoded(source)
    with progress("suggest", len(entries)) as advance:
        for entry in entries:
            features, classes, seconds, own = _features(entry, encoded, reading)
            rows.append(
                {
                    "backbone": entry.name,
                    "weights": entry.weights and Path(entry.weights).name,
                    **transferability.scores(features, classes, own),
                    "sample": len(classes),
                    "pass_seconds": seconds * count,
                    "epoch_seconds": BACKWARD * seconds * count,
                }
            )
            advance(note=entry.name)
    return _ranked(rows)


class _Encoded:
    """The sample as examples: backbones that follow one another and read images in one way share
    what was decoded.
    """

    def __init__(self, source: Source):
        self.source = source
        self._last: tuple[Any, Any] | None = None

    def by(self, codec: Any, tasks: Tasks, title: str) -> Any:
        """What `codec` makes of the sample."""
        if self._last is None or self._last[0] != codec:
            self._last = None  # two at once are more than one needs memory for
            self._last = codec, codec.encode(self.source.splits["train"], tasks, title)
        return self._last[1]


def _features(
    entry: Entry, encoded: _Encoded, reading: Reading | None
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray | None]:
    """(features `(n, d)`, classes `(n,)`, seconds an example, what the backbone's own head says or
    None).
    """
    import keras

    from graft.recipes.feed import pipeline
    from graft.recipes.runs import backbones
    from graft.recipes.tasks.table import tasks_for
    from graft.recipes.train import fit
    from graft.zoo.graph.stack import FEATURES, stack
    from graft.zoo.heads import heads

    tasks, own = tasks_for(heads.single_label(encoded.source.labels)), None
    backbone = backbones.found(entry.backbone, entry.weights, reading)
    model = stack(backbone.build(), tasks.heads)
    codec = backbone.codec(model)
    examples = encoded.by(codec, tasks, f"decode for {entry.name}")
    classes = examples.targets[tasks.first.name].argmax(-1)
    if entry.backbone.endswith(".keras"):
        own = _own_head(Path(entry.backbone), examples)
    forward = fit.forward(keras.Model(model._inputs_struct, model.get_layer(FEATURES).output))
    features, seconds = _pass_over(forward, pipeline.input_batches(examples, BATCH))
    return features, classes, seconds, own


def _pass_over(forward: Callable, batches: Iterable) -> tuple[np.ndarray, float]:
    """The features of all `batches`, and the median of the seconds that an example takes.

    A batch of a shape that was not seen before is traced first, so its time does not count. Where
    fewer than `TIMED_BATCHES` count, the first batch runs again until there are so many.

    Args:
        forward: a batch of inputs -> features `(batch, d)`.
        batches: inputs, arrays or dicts of arrays whose first axis is the batch.

    Returns:
        (features `(n, d)`, seconds an example).
    """
    parts, seconds, shapes, first = [], [], set(), None

    def timed(inputs: Any) -> np.ndarray:
        start = time.perf_counter()
        rows = np.asarray(forward(inputs))
        shape = _shape(inputs)
        if shape in shapes:
            seconds.append((time.perf_counter() - start) / len(rows))
        shapes.add(shape)
        return rows

    for inputs in batches:
        first = inputs if first is None else first
        parts.append(timed(inputs))
    while len(seconds) < TIMED_BATCHES:
        timed(first)
    return np.concatenate(parts), float(np.median(seconds))


def _shape(inputs: Any) -> tuple:
    """Of a batch: what decides whether it has to be traced."""
    arrays = inputs.values() if isinstance(inputs, dict) else [inputs]
    return tuple(tuple(array.shape) for array in arrays)


def _own_head(path: Path, examples: Any) -> np.ndarray | None:
    """What a model of the user's says itself, where that is probabilities."""
    from graft.recipes.train import fit
    from graft.zoo.backbones.keras_file import load_keras_model

    (outputs,) = fit.predict(load_keras_model(path), examples)
    if isinstance(outputs, dict):  # several heads
        return None
    if (
        outputs.ndim == 2
        and outputs.shape[1] > 1
        and outputs.min() >= 0
        and np.allclose(outputs.sum(-1), 1, atol=1e-3)
    ):
        return outputs
    return None


def _ranked(rows: list[dict]) -> list[dict]:
    """By the mean of their places in the scores that all of them have."""
    for row in rows:
        row["mean_rank"] = 0.0
    names = [name for name in transferability.SCORES if all(row[name] is not None for row in rows)]
    for name in names:
        for place, row in enumerate(sorted(rows, key=lambda row: -row[name]), 1):
            row["mean_rank"] += place / len(names)
    return sorted(rows, key=lambda row: row["mean_rank"])
