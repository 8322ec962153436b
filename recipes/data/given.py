"""Data handed over in memory become a table on the disk: what a run was trained on can then be read
again by everything that comes after (resume, export, evaluate).
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.data.records import SPLITS
from graft.zoo.errors import DataError
from graft.zoo.files.staging import staged_folder
from graft.zoo.image_modes import as_pixels

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TABLE", "write_given"]

TABLE = "data.csv"
"""The table in the folder."""


def write_given(
    data: Any, folder: Path, labels: Sequence[str] | None = None, split: str | None = None
) -> Path:
    """Write examples as a table with a label column, images beside it as PNG files (lossless).

    Args:
        data: `(inputs, labels)`, a `tf.data.Dataset` of such pairs, batched or not, or a dict of
            either by split ("train", "validation", "test"). Inputs: uint8 or float images
            `(n, height, width, channels)` with 1, 3 or 4 channels, or `(n, height, width)`, with
            values from 0 to 255, a list of
            such images, of PIL images or of paths; or a list of texts. Labels: names, or numbers.
        folder: to make.
        labels: names of labels that are numbers or one-hot rows, in order.
        split: what the examples belong to where `data` does not say it; None: splits are made.

    Returns:
        The table.

    Raises:
        DataError: inputs of another form, another number of labels than of inputs, or a number
            without a name.
        ConfigError: there is such a folder.
    """
    parts = data if isinstance(data, Mapping) else {split: data}
    unknown = next((name for name in parts if name not in (*SPLITS, None)), None)
    if unknown is not None:
        raise DataError(f"data by split has the keys {', '.join(SPLITS)}: got {unknown!r}")
    with staged_folder(Path(folder), hint="move it away") as staging:
        rows = [
            {key: value, "label": label, "split": name}
            for name, part in parts.items()
            for key, value, label in _rows(part, staging, name or "all", labels)
        ]
        if not rows:
            raise DataError("the data hold no example")
        if len({*rows[0]} | {*rows[-1]}) > len(rows[0]):
            raise DataError("some of the data are images and some are texts: give one kind")
        columns = [key for key in rows[0] if key != "split" or None not in parts]
        with (staging / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    return Path(folder) / TABLE


def _rows(
    part: Any, staging: Path, name: str, labels: Sequence[str] | None
) -> Iterator[tuple[str, str, str]]:
    """("path" or "text", path or text, label) of each example; images are written below
    `staging`.
    """
    inputs, targets = _pair(part)
    if len(inputs) != len(targets):
        raise DataError(
            f"there are {len(inputs)} inputs but {len(targets)} labels: each input needs one label"
        )
    _check_rank(inputs)
    (staging / name).mkdir()
    for i, (value, target) in enumerate(zip(inputs, targets, strict=True)):
        label = _label(target, labels, i)
        if isinstance(value, str):
            yield "text", value, label
        elif isinstance(value, Path):
            yield "path", str(value.resolve()), label
        else:
            path = f"{name}/{i:06}.png"
            _image(value, i).save(staging / path)
            yield "path", path, label


def _pair(part: Any) -> tuple[Sequence, Sequence]:
    """Inputs and labels, however they came."""
    if hasattr(part, "element_spec"):  # a tf.data.Dataset
        return _of_dataset(part)
    if isinstance(part, str | bytes) or not isinstance(part, Sequence) or len(part) != 2:
        raise DataError(
            "data in memory is a pair (inputs, labels), a tf.data.Dataset of such pairs, or a dict "
            f"of them by split: got {_form(part)}"
        )
    inputs, targets = part
    if isinstance(inputs, str | bytes) or not isinstance(inputs, Iterable):
        raise DataError(
            f"the inputs are a list or an array with an example each: got {_form(inputs)}"
        )
    if targets is None or isinstance(targets, str | bytes) or not isinstance(targets, Iterable):
        raise DataError(f"the labels are a list or an array with one each: got {_form(targets)}")
    return _items(inputs), _items(targets)


def _items(given: Any) -> Any:
    return given if isinstance(given, Sequence | np.ndarray) else np.asarray(given)


def _of_dataset(data: Any) -> tuple[Sequence, Sequence]:
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError("a tf.data.Dataset yields pairs (input, label): this one does not")
    if len(spec[0].shape) == 4 or (len(spec[0].shape) == 1 and spec[0].dtype.name == "string"):
        data = data.unbatch()
    inputs, targets = [], []
    for value, target in data.as_numpy_iterator():
        inputs.append(value.decode() if isinstance(value, bytes) else value)
        targets.append(target.decode() if isinstance(target, bytes) else target)
    return inputs, targets


def _form(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"an array of shape {tuple(shape)}"


def _check_rank(inputs: Sequence) -> None:
    if (
        isinstance(inputs, np.ndarray)
        and inputs.dtype.kind not in "USO"
        and inputs.ndim not in (3, 4)
    ):
        raise DataError(
            "an array of images has the shape (n, height, width, channels) or, of grey ones, (n, "
            f"height, width): got {inputs.shape}"
        )


def _label(target: Any, labels: Sequence[str] | None, index: int) -> str:
    """The name of a label that is a name, a number, or a one-hot row."""
    if isinstance(target, str):
        return target
    row = np.asarray(target)
    if row.dtype.kind == "U":
        return str(row)
    if row.size > 1:
        if row.ndim != 1 or row.max() != 1 or row.sum() != 1:
            raise DataError(f"label {index} is no name, no number and no one-hot row: {target!r}")
        row = np.asarray(row.argmax())
    number = float(row.reshape(()))
    if not number.is_integer():
        raise DataError(
            f"label {index} is {number}: labels are names, whole numbers or one-hot rows"
        )
    if labels is None:
        return str(int(number))
    if not 0 <= number < len(labels):
        raise DataError(
            f"label {index} is {int(number)}, but there are {len(labels)} names: "
            f"{', '.join(labels)}"
        )
    return str(labels[int(number)])


def _image(value: Any, index: int) -> "Image.Image":
    """An image of PIL."""
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    pixels = as_pixels(value, f"image {index}")
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)
