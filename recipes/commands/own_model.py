"""What has to be said of a .keras model of one's own, and what its figures on labelled data ask.
numpy alone.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from graft.export.sessions import is_own_model
from graft.zoo.backbones.own import INPUT_RANGES
from graft.zoo.fits import STRETCH, Fit, ImageShape, ImageSize, check_fit
from graft.zoo.heads.own_outputs import Meaning
from graft.zoo.labels import parse_labels, read_labels
from graft.zoo.terminal import warn

__all__ = ["is_told", "meaning_of", "other_label", "warn_near_chance"]

NEAR = 0.1
"""So much of the way from chance to all right is called near chance."""

MOST_TRIED = 256
"""Images that pixel ranges are tried with."""

BATCH = 32


class _Told(Protocol):
    """The options of a command that are about a .keras file of one's own."""

    @property
    def labels(self) -> str | None: ...
    @property
    def outputs(self) -> str | None: ...
    @property
    def input_range(self) -> str: ...
    @property
    def fit(self) -> Fit: ...
    @property
    def image_size(self) -> ImageSize | None: ...


def meaning_of(artifact: Path, told: _Told) -> Meaning:
    """What the options say of `artifact`, with the labels read; warns of what was guessed or left
    out in reading them. Where none are given and it is a .keras file of one's own, those of
    labels.txt beside it.

    Raises:
        DataError: the labels cannot be read.
        UnknownName: there is no such fit.
        ConfigError: the image size is none.
    """
    check_fit(told.fit)
    if told.image_size is not None:
        ImageShape.of(told.image_size)
    beside = Path(artifact).parent / "labels.txt"
    found = None
    if told.labels is not None:
        found = parse_labels(told.labels)
    elif is_own_model(artifact) and beside.is_file():
        found = read_labels(beside)
    for note in found.notes if found else ():
        warn(note)
    labels = found.labels if found else None
    return Meaning(labels, told.outputs, told.input_range, told.fit, told.image_size)


def is_told(told: _Told) -> bool:
    """Whether options say something of a .keras file of one's own."""
    said = (told.labels, told.outputs, told.input_range, told.fit, told.image_size)
    return said != (None, None, Meaning.input_range, STRETCH, None)


def other_label(labels: Sequence[str], classes: Sequence[str]) -> tuple[str, str] | None:
    """The two labels of a model that gives the probability of one, on data with two `classes`;
    None: they do not fit.
    """
    if len(labels) != 1 or len(classes) != 2 or labels[0] not in classes:
        return None
    (other,) = (name for name in classes if name != labels[0])
    return other, labels[0]


def warn_near_chance(
    artifact: Path,
    answers: Callable[[np.ndarray], np.ndarray],
    pixels: np.ndarray,
    targets: np.ndarray,
    input_range: str,
) -> None:
    """Ask whether a model of one's own expects other pixels, where it is right about as often as
    always answering the commonest label is.

    Args:
        artifact: what the message names.
        answers: float32 pixels `(n, h, w, channels)` from 0 to 255 -> probabilities `(n, labels)`.
        pixels: uint8 images.
        targets: one-hot rows `(n, labels)`.
        input_range: what the model is taken to expect, a key of `INPUT_RANGES`.
    """
    some = np.random.default_rng(0).permutation(len(pixels))[:MOST_TRIED]
    classes = targets[some].argmax(-1)
    chance = max(np.bincount(classes).max() / len(some), 1 / targets.shape[-1])
    near = chance + NEAR * (1 - chance)
    scale, offset = INPUT_RANGES[input_range]

    def share_right(expected: str) -> float:
        other_scale, other_offset = INPUT_RANGES[expected]
        given = (np.float32(pixels[some]) * other_scale + other_offset - offset) / scale
        rows = [answers(np.float32(given[i : i + BATCH])) for i in range(0, len(some), BATCH)]
        return float(np.mean(np.concatenate(rows).argmax(-1) == classes))

    right = share_right(input_range)
    if len(set(classes.tolist())) < 2 or right > near:
        return
    better = {name: share_right(name) for name in INPUT_RANGES if name != input_range}
    name = max(better, key=better.get)
    if better[name] > near:
        cure = f"with --input-range {name} it is right on {better[name]:.1%}"
    else:
        cure = (
            f"if not, say what it expects, --input-range {' or '.join(better)}; or are its labels "
            "in another order?"
        )
    warn(
        f"'{artifact}' is right on {right:.1%} of {len(some)} images, no better than chance "
        f"({chance:.1%}): does it "
        f"expect pixels from {input_range.replace('..', ' to ')}? {cure}"
    )
