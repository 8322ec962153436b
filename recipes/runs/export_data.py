"""The pictures that an export needs: validation pictures to measure the files on, training pictures
to calibrate int8.

A run keeps a few of both, so that it can be exported after its data has moved; while the data is
where it was, the files are measured on the whole validation split. Test pictures take no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from graft.export.export import Examples
from graft.recipes.codecs import images
from graft.recipes.data import membership, sources, splits
from graft.recipes.codecs.images import Images
from graft.zoo.terminal import warn
from graft.zoo.errors import ConfigError, DataError, UnknownName
from graft.zoo.files.reading import read_arrays
from graft.zoo.heads.scores import figure_of

__all__ = ["CALIBRATION", "from_run", "from_source", "made_up", "stated"]

CALIBRATION = 200
"""Training pictures that int8 is calibrated with."""

MOST_MEASURED = 2000
"""Of a larger validation split so many, drawn by seed 0: their 95 % interval is narrower than 2
points.
"""

MADE_UP = 16


def from_run(folder: Path, content: Mapping, data: str | None) -> tuple[Examples, Examples]:
    """(for measuring, for calibration) of the run in `folder`, whose run.json holds `content`.

    Measured is on the validation split of `data`, by default the source that the run was trained
    on; where that has gone, on the pictures that the run kept, with a warning.

    Raises:
        DataError, UnknownName: `data` was given and cannot be used.
        ArtifactError: what the run keeps cannot be read.
    """
    config, facts = content["config"], content["data"]
    kept = read_arrays(Path(folder) / "examples.npz")
    names = kept["calibration_names"].tolist() if "calibration_names" in kept else None
    origin = facts.get("calibration", {"split": "train", "source": facts["source"]})
    calibration = Examples(kept["calibration_images"], None, {**origin, "names": names})
    columns = {key: config[key] for key in ("path_column", "label_column") if key in config}
    try:
        source = sources.load(data or facts["source"], **columns)
        seen = membership.beside(folder, facts)
        chosen = splits.reuse(source, "validation", facts, seen)
        found = _decoded(chosen, facts["labels"], facts["image_size"])
        if seen is not None:
            seen.refuse_decoded(found, "validation")
    except (DataError, ConfigError, UnknownName) as error:
        if data is not None:
            raise
        examples = len(kept["parity_images"])
        warn(f"the files are measured on the {examples} validation pictures that the run keeps, "
            f"not on all: {error}")
        targets = np.eye(len(facts["labels"]), dtype=np.float32)[kept["parity_labels"]]
        facts = {"split": "validation", "source": "kept by the run", "of": facts["splits"]["validation"]["examples"]}
        return Examples(kept["parity_images"], targets, facts), calibration
    said = stated(content, source, {"probabilities": "single_label"}, len(found))
    return replace(_measured(found, source.name, len(chosen)), stated=said), calibration


def stated(
    content: Mapping, source: sources.Source, kinds: Mapping[str, str], examples: int
) -> dict[str, float | None] | None:
    """The figure that run.json states of each output on the validation split, so that an export can
    repeat it.

    `kinds` are those of the outputs by name, `examples` how many of `source` are measured on. None
    where those are not the ones that the run was measured on: a part of them, or other data.
    """
    measured = content["metrics"]["validation"]
    if examples != measured["examples"] or not splits.same_data(source, content["data"]["fingerprint"]):
        return None
    parts = measured.get("tasks", dict.fromkeys(kinds, measured))
    return {name: parts[name].get(figure_of(kind)["key"]) for name, kind in kinds.items()}


def from_source(
    data: str, labels: Sequence[str] | None, image_size: int, seen: membership.Membership | None = None
) -> tuple[Examples, Examples]:
    """(for measuring, for calibration) from the validation and training split of `data`, made by
    seed 0 if missing; with `labels` None the pictures alone.

    Raises:
        DataError, UnknownName: `data` cannot be used, has labels that the model does not know, or
            holds validation examples that it was trained on, as `seen` says.
    """
    source, _ = splits.complete(sources.load(data), 0)
    chosen = source.splits["validation"]
    if seen is not None:
        seen.refuse(chosen, "validation")
    known = labels is not None
    labels = labels if known else source.labels
    found = _decoded(chosen, labels, image_size)
    if seen is not None:
        seen.refuse_decoded(found, "validation")
    train = source.splits["train"]
    order = np.sort(np.random.default_rng(0).permutation(len(train))[:CALIBRATION])
    pixels = images.decode_examples([train[i] for i in order], labels, image_size, skip_bad=True, title="decode train")
    facts = {"split": "train", "source": source.name, "names": list(pixels.names)}
    measured = _measured(found, source.name, len(chosen))
    return measured if known else replace(measured, targets=None), Examples(pixels.pixels, None, facts)


def made_up(shape: Sequence[int]) -> Examples:
    """Smooth random pictures `(n, *shape)`: enough to see whether a float32 file computes what
    Keras computes.
    """
    height, width, channels = shape
    coarse = np.random.default_rng(0).uniform(0, 255, (MADE_UP, 8, 8, channels))
    rows, columns = (np.linspace(0, 7, side) for side in (height, width))
    picture = _interpolated(_interpolated(coarse, rows, 1), columns, 2)
    return Examples(
        np.float32(picture), None, {"split": None, "source": "random pictures, because no --data was given"}
    )


def _interpolated(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    low = np.minimum(places.astype(int), values.shape[axis] - 2)
    weight = (places - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    return values.take(low, axis) * (1 - weight) + values.take(low + 1, axis) * weight


def _decoded(chosen: Sequence[sources.Example], labels: Sequence[str], image_size: int) -> Images:
    if len(chosen) > MOST_MEASURED:
        order = np.sort(np.random.default_rng(0).permutation(len(chosen))[:MOST_MEASURED])
        chosen = [chosen[i] for i in order]
    return images.decode_examples(chosen, labels, image_size, skip_bad=True, title="decode validation")


def _measured(found: Images, source: str, of: int) -> Examples:
    return Examples(found.pixels, found.targets, {"split": "validation", "source": source, "of": of})
