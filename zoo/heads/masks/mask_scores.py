"""Figures of label maps and of maps of instances, by image, so that intervals resample images.
numpy, and scipy for distances.

A label map has the index of a class at each pixel. Maps of an image, the true one and the predicted
one, are of one shape; those of different images need not be.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from graft.zoo.errors import DataError
from graft.zoo.heads.columns import Ratio
from graft.zoo.heads.scores import Score

__all__ = [
    "IGNORED",
    "boundary_f",
    "confusion",
    "instance_ap50",
    "mean_dice",
    "mean_iou",
    "pixel_accuracy",
    "pooled_dice",
]

IGNORED = 255
"""Stands in true label maps where a pixel does not count."""
TOLERANCE = 0.0075
"""Of boundaries, as a share of the image's diagonal (Csurka et al. 2013)."""
INSTANCE_OVERLAP = 0.5
"""The IoU from which on an instance is found."""


def confusion(
    truth: Iterable[np.ndarray],
    predicted: Iterable[np.ndarray],
    classes: int,
    ignored: int = IGNORED,
) -> np.ndarray:
    """How many pixels of each true class were given each class, image by image.

    Args:
        truth, predicted: label maps, `(n, h, w)` or a sequence of `(h, w)`.
        classes: how many classes there are.
        ignored: what stands in `truth` where a pixel does not count.

    Returns:
        int64 `(n, classes, classes)`: image, true class, predicted class.

    Raises:
        DataError: the two maps of an image differ in shape, or a pixel that counts is of no class.
    """
    counts = []
    for image, (true, guess) in enumerate(_pairs(truth, predicted)):
        counted = true != ignored
        true, guess = true[counted].astype(np.int64), guess[counted].astype(np.int64)
        for values, said in ((true, "true"), (guess, "predicted")):
            if values.size and not 0 <= values.min() <= values.max() < classes:
                wrong = values.max() if values.max() >= classes else values.min()
                raise DataError(
                    f"the {said} label map of image {image} has class {wrong}, but classes are 0 "
                    f"to {classes - 1}: pixels that do not count are {ignored} in the true map"
                )
        pairs = np.bincount(true * classes + guess, minlength=classes * classes)
        counts.append(pairs.reshape(classes, classes))
    return np.asarray(counts, np.int64).reshape(-1, classes, classes)


def mean_iou(counts: np.ndarray) -> Score:
    """Intersection over union of all pixels together, the mean over classes. A class that is
    neither in the truth nor predicted is left out.

    Args:
        counts: `(n, classes, classes)`, see `confusion`.

    Returns:
        A column a class.
    """
    hits, there, given = _sums(counts)
    columns = [Ratio.of(*column) for column in zip(hits.T, (there + given - hits).T, strict=True)]
    return Score("mIoU", "mean_iou", len(counts), columns)


def pooled_dice(counts: np.ndarray, background: int | None = 0) -> Score:
    """Dice (F1) of all pixels together, the mean over classes that are in the truth or predicted.

    Args:
        counts: `(n, classes, classes)`, see `confusion`.
        background: the class that is not judged. None: all are.

    Returns:
        A column a class, without the background.
    """
    hits, there, given = _foreground(counts, background)
    columns = [Ratio.of(*column) for column in zip(2 * hits.T, (there + given).T, strict=True)]
    return Score("pooled Dice", "dice", len(counts), columns)


def mean_dice(counts: np.ndarray, background: int | None = 0) -> Score:
    """Dice of each image and class, the mean over the images in which the class is true or
    predicted, then over classes. A small object counts as much as a large one.

    Args:
        counts: `(n, classes, classes)`, see `confusion`.
        background: the class that is not judged. None: all are.

    Returns:
        A column a class, without the background.
    """
    hits, there, given = _foreground(counts, background)
    present = (there + given) > 0
    values = np.divide(2.0 * hits, there + given, out=np.zeros(hits.shape), where=present)
    columns = [Ratio.of(*column) for column in zip(values.T, present.T, strict=True)]
    return Score("mean Dice", "mean_dice", len(counts), columns)


def pixel_accuracy(counts: np.ndarray) -> Score:
    """The share of pixels with the right class, of all images together.

    Args:
        counts: `(n, classes, classes)`, see `confusion`.
    """
    hits, there, _ = _sums(counts)
    columns = [Ratio.of(hits.sum(-1), there.sum(-1))]
    return Score("pixel accuracy", "pixel_accuracy", len(counts), columns)


def boundary_f(
    truth: Iterable[np.ndarray],
    predicted: Iterable[np.ndarray],
    classes: int,
    ignored: int = IGNORED,
    tolerance: float = TOLERANCE,
) -> Score:
    """F1 of boundaries (Csurka et al. 2013, doi:10.5244/C.27.32): which share of the predicted
    boundary lies near the true one, and the other way round.

    The boundary of a class are its pixels beside one of another class (of four neighbours). The
    edge of the image is none, and neither is that of ignored pixels: where a class ends there is
    not known. Of each class the mean over the images in which it has a boundary, true or predicted,
    then the mean over classes.

    Args:
        truth, predicted: label maps, `(n, h, w)` or a sequence of `(h, w)`.
        classes: how many classes there are.
        ignored: what stands in `truth` where a pixel does not count.
        tolerance: how far boundaries may lie apart, as a share of the image's diagonal.

    Returns:
        A column a class.

    Raises:
        DataError: the two maps of an image differ in shape.
    """
    values: list[list[float]] = []
    for true, guess in _pairs(truth, predicted):
        judged = true != ignored
        near = tolerance * float(np.hypot(*true.shape))
        values.append([_boundary_f(true == c, guess == c, judged, near) for c in range(classes)])
    figures = np.asarray(values, float).reshape(-1, classes)
    known = ~np.isnan(figures)
    columns = [
        Ratio.of(*column) for column in zip(np.where(known, figures, 0.0).T, known.T, strict=True)
    ]
    return Score("boundary F", "boundary_f", len(figures), columns)


def instance_ap50(truth: Iterable[np.ndarray], predicted: Iterable[np.ndarray]) -> Score:
    """Average precision of instances at an IoU of 0.5, as it is said of instances without scores:
    found / (found + missed + invented), of all images together (Caicedo et al. 2019,
    doi:10.1038/s41592-019-0612-7).

    Args:
        truth, predicted: maps of instances, `(n, h, w)` or a sequence of `(h, w)`: 0 where there is
            none, else a number that the pixels of one instance share.

    Raises:
        DataError: the two maps of an image differ in shape.
    """
    counts = [_found_instances(true, guess) for true, guess in _pairs(truth, predicted)]
    found, there, given = np.asarray(counts, float).reshape(-1, 3).T
    return Score("AP50", "ap50", len(counts), [Ratio.of(found, there + given - found)])


def _pairs(
    truth: Iterable[np.ndarray], predicted: Iterable[np.ndarray]
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for image, (true, guess) in enumerate(zip(truth, predicted, strict=True)):
        if true.shape != guess.shape or true.ndim != 2:
            raise DataError(
                f"the true map of image {image} has shape {true.shape}, the predicted one "
                f"{guess.shape}: both must be (height, width) of the same image"
            )
        yield true, guess


def _sums(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that are right, there and given, `(n, classes)` each."""
    return np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)


def _foreground(counts: np.ndarray, background: int | None) -> Sequence[np.ndarray]:
    sums = _sums(counts)
    return sums if background is None else [np.delete(part, background, 1) for part in sums]


def _boundary_f(true: np.ndarray, guess: np.ndarray, judged: np.ndarray, near: float) -> float:
    """Of one class in one image; NaN where it has no boundary."""
    from scipy.ndimage import distance_transform_edt

    first, second = _boundary(true, judged), _boundary(guess, judged)
    if not first.any() or not second.any():
        return 0.0 if first.any() or second.any() else np.nan
    recall = (distance_transform_edt(~second)[first] <= near).mean()
    precision = (distance_transform_edt(~first)[second] <= near).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _boundary(inside: np.ndarray, judged: np.ndarray) -> np.ndarray:
    other = np.pad(~inside & judged, 1)
    beside = other[:-2, 1:-1] | other[2:, 1:-1] | other[1:-1, :-2] | other[1:-1, 2:]
    return inside & judged & beside


def _found_instances(true: np.ndarray, guess: np.ndarray) -> tuple[int, int, int]:
    """How many instances of an image were found, are there, and were given."""
    wanted, first = np.unique(true, return_inverse=True)
    given, second = np.unique(guess, return_inverse=True)
    shape = (len(wanted), len(given))
    common = np.bincount(first.ravel() * len(given) + second.ravel(), minlength=np.prod(shape))
    common = common.reshape(shape)
    union = common.sum(1, keepdims=True) + common.sum(0) - common
    objects = np.outer(wanted != 0, given != 0)
    pairs = (common >= INSTANCE_OVERLAP * union) & objects
    # Instances of a map are disjoint, so at 0.5 an instance pairs with one other, or with both its
    # halves, which pair with nothing else: that is one find, and pairs are trees.
    found = pairs.any(0).sum() + pairs.any(1).sum() - pairs.sum()
    return int(found), int((wanted != 0).sum()), int((given != 0).sum())
