"""What the masks of a source hold, each read once, and how they are to be read by that."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.recipes.data.scenes.class_names import MaskNames, is_void
from graft.recipes.data.scenes.entries import DrawnObject, Faults
from graft.recipes.data.scenes.masks.mask_files import BACKGROUND, NOT_KNOWN, MaskFile
from graft.recipes.data.scenes.masks.mask_forms import (
    WIDE,
    ClassForm,
    FileForm,
    InstanceForm,
    mask_colours,
    mask_values,
    opened_mask,
    packed_colours,
    unknown_value,
)
from graft.zoo.errors import DataError
from graft.zoo.terminal import progress

__all__ = ["OBJECT", "SurveyedMask", "survey"]

OBJECT = "object"
"""What is called so in masks of which nobody says what they show."""
VOID_VALUE = 255
"""The value of pixels that are not known, unless a name says otherwise."""
MOST_UNNAMED = 64
"""Values of masks without names; more of them are blurred edges."""


@dataclass(frozen=True)
class SurveyedMask:
    """A mask, and the boxes of its objects where its pixels are numbered by object."""

    mask: MaskFile
    objects: tuple[DrawnObject, ...] | None


@dataclass(frozen=True)
class _Look:
    """What one file holds: its height and width, a hash, each value or packed colour that occurs
    in it, and the objects where it has more than 8 bits.
    """

    path: Path
    size: tuple[int, int]
    digest: str
    values: tuple[int, ...]
    is_coloured: bool
    objects: tuple[DrawnObject, ...] | None


def survey(
    paths: Sequence[Path], names: MaskNames | None, faults: Faults
) -> list[SurveyedMask | None]:
    """The masks in files.

    Args:
        paths: the files.
        names: of the classes; None: nobody says.
        faults: collects what cannot be right.

    Returns:
        A mask for each file; None for one with a fault.

    Raises:
        DataError: nobody says what the values mean, and they do not show it.
    """
    by_colour = names is not None and bool(names.by_colour)
    with ThreadPoolExecutor() as pool, progress("masks", len(paths)) as advance:
        looks: list[_Look | DataError] = []
        for look in pool.map(lambda path: _look_or_error(path, by_colour), paths):
            looks.append(look)
            advance()
    good = [look for look in looks if isinstance(look, _Look)]
    for look in looks:
        if isinstance(look, DataError):
            faults.add(look)
    coloured = next((look for look in good if look.is_coloured and not by_colour), None)
    if coloured is not None:
        raise DataError(
            f"the mask '{coloured.path}' is coloured, as a palette that was saved as RGB, and "
            'nothing says which colour is which class: give classes.json with {"NAME": [RED, '
            "GREEN, BLUE]}, or save masks with their palette"
        )
    if not good:
        return [None] * len(looks)
    form = _form(good, names)
    return [_surveyed(look, form, faults) if isinstance(look, _Look) else None for look in looks]


def _look_or_error(path: Path, by_colour: bool) -> "_Look | DataError":
    try:
        return _look(path, by_colour)
    except DataError as error:
        return error


def _look(path: Path, by_colour: bool) -> _Look:
    image = opened_mask(path)
    values = None if by_colour else mask_values(image)
    is_coloured = values is None
    if values is None:
        values = packed_colours(mask_colours(image))
    is_wide = image.mode in WIDE and not is_coloured
    return _Look(
        path,
        values.shape,
        hashlib.blake2b(f"{values.shape}".encode() + values.tobytes(), digest_size=16).hexdigest(),
        tuple(np.unique(values).tolist()),
        is_coloured,
        _instances(values) if is_wide else None,
    )


def _instances(values: np.ndarray) -> tuple[DrawnObject, ...]:
    """The boxes around the pixels of each object."""
    from scipy import ndimage

    if values.min() < 0:
        return ()
    numbers, places = np.unique(values, return_inverse=True)
    places = places.reshape(values.shape) + (numbers[0] != 0)  # 0 is no object
    numbers = numbers[numbers != 0]
    found = ndimage.find_objects(places)
    return tuple(
        DrawnObject(
            OBJECT,
            (columns.start, rows.start, columns.stop, rows.stop),
            f"object {number}",
        )
        for number, (rows, columns) in zip(numbers.tolist(), found, strict=True)
    )


def _form(looks: Sequence[_Look], names: MaskNames | None) -> FileForm:
    """How masks are read that hold this."""
    if names is not None and names.by_colour:
        colours = np.array(list(names.by_colour), np.int32)
        named = dict(zip(packed_colours(colours).tolist(), names.by_colour.values(), strict=True))
        return ClassForm(*_numbered(named), by_colour=True)
    if names is not None:
        return ClassForm(*_numbered({VOID_VALUE: "void", **names.by_value}))
    if all(look.objects is not None for look in looks):
        return InstanceForm((BACKGROUND, OBJECT))
    return _unnamed(looks)


def _numbered(named: dict[int, str]) -> tuple[tuple[str, ...], dict[int, int]]:
    """(labels, value -> class) of values with names, of which some say that they are no class."""
    values = [value for value, name in named.items() if not is_void(name)]
    numbers = {value: number for number, value in enumerate(sorted(values))}
    labels = tuple(named[value] for value in sorted(values))
    return labels, {value: numbers.get(value, NOT_KNOWN) for value in named}


def _unnamed(looks: Sequence[_Look]) -> ClassForm:
    """How masks are read of which nobody says what their values mean: 0 and 255 are the background
    and an object; else 0, 1, 2, ... (or 1, 2, ...) are classes and 255 is not known.
    """
    there = {value for look in looks for value in look.values}
    two = (BACKGROUND, OBJECT)
    if there <= {0, VOID_VALUE}:
        return ClassForm(two, {0: 0, VOID_VALUE: 1})
    values = sorted(there - {VOID_VALUE})
    if values[0] not in (0, 1) or values[-1] - values[0] + 1 > min(len(values), MOST_UNNAMED):
        gap = next((v for v in values if v > 1 and v - 1 not in there), values[-1])
        look = next(look for look in looks if gap in look.values)
        raise DataError(
            f"{unknown_value(look.path, str(gap))}. Without classes.json or classes.txt values "
            f"are 0 to {MOST_UNNAMED - 1} without gaps, or 0 and {VOID_VALUE} (there are "
            f"{len(values)}, up to {values[-1]})"
        )
    labels = two if values == [0, 1] else tuple(map(str, values))
    numbers = {value: number for number, value in enumerate(values)}
    return ClassForm(labels, {**numbers, VOID_VALUE: NOT_KNOWN})


def _surveyed(look: _Look, form: FileForm, faults: Faults) -> SurveyedMask | None:
    try:
        present = form.present(look.path, look.values)
    except DataError as error:
        faults.add(error)
        return None
    mask = MaskFile(look.path, form, look.size, present, look.digest)
    return SurveyedMask(mask, look.objects if form.has_objects else None)
