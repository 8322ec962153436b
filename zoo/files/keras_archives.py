"""Checks a .keras file before Keras opens it: nothing of it is built here.

Its layers may be code, name files of the machine, or be far larger than the weights that the file
holds.
"""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from graft.zoo.errors import ArtifactError
from graft.zoo.files.archives import (
    check_archive,
    check_arrays,
    check_content,
    opened_archive,
    opened_member,
    read_member,
)
from graft.zoo.files.hdf5 import check_hdf5

__all__ = ["check_keras_archive", "json_objects"]

KERAS_MEMBERS = re.compile(r"(config|metadata)\.json|model\.weights\.(h5|npz)|assets/.*")
"""The members that Keras writes into a .keras file."""
MIN_WEIGHTS_ALLOWED = 2**26
"""Numbers that the weights of all layers may have together, however few the file holds; else 8
times as many as those.
"""


def check_keras_archive(path: Path) -> int:
    """Refuse a .keras file that holds, unpacks to, links to or builds more than a model; nothing of
    it is built.

    Returns:
        How many numbers the weights of its layers may have together: see `MIN_WEIGHTS_ALLOWED`.

    Raises:
        ArtifactError: as `check_archive` and `check_hdf5`, or its layers are far larger than the
            weights that are there, run code, or name other files.
        zipfile.BadZipFile, and others: it is damaged; see `one_line_if_damaged`.
    """
    import h5py

    with opened_archive(path, KERAS_MEMBERS) as archive:
        check_content(archive)
        names = archive.namelist()
        numbers = 0
        if "model.weights.h5" in names:
            with (
                opened_member(archive, path, "model.weights.h5") as content,
                h5py.File(content, "r") as file,
            ):
                numbers = check_hdf5(file, path, archive.getinfo("model.weights.h5").file_size)
        if "model.weights.npz" in names:
            with zipfile.ZipFile(io.BytesIO(read_member(archive, "model.weights.npz"))) as inner:
                check_archive(inner, path, archive.getinfo("model.weights.npz").file_size)
                check_content(inner)
                check_arrays(inner, path)
                numbers = sum(m.file_size for m in inner.infolist())
        config = json.loads(read_member(archive, "config.json"))
    _check_reach(config, path)
    _check_layers(config, path, numbers)
    return max(MIN_WEIGHTS_ALLOWED, 8 * numbers)


CODE_OBJECTS = {
    "__lambda__": "Python code (a Lambda layer), which would run when it is loaded",
    "TorchModuleWrapper": "a module of PyTorch, which can run code when it is loaded",
}
"""Objects of a Keras file that are code."""
FILE_SETTINGS = ("vocabulary", "merges", "proto", "filepath")
"""Settings of layers that can be the name of a file, which the layer would open."""
MAX_FILE_NAME = 2048
"""A longer text is the content itself."""


def _check_reach(config: object, where: object) -> None:
    """Refuse a layer that is code, or that names a file outside of the archive."""
    for layer in json_objects(config):
        what, settings = layer.get("class_name"), layer.get("config")
        if isinstance(what, str) and what in CODE_OBJECTS:
            raise ArtifactError(
                f"'{where}' holds {CODE_OBJECTS[what]}: refused; replace the layer by a "
                "registered one"
            )
        if not isinstance(what, str) or not isinstance(settings, Mapping):
            continue
        for name in FILE_SETTINGS:
            if isinstance(settings.get(name), str) and len(settings[name]) <= MAX_FILE_NAME:
                raise ArtifactError(
                    f"'{where}' names a file outside of itself ('{settings[name][:100]}', the "
                    f"{name} of its {what} '{settings.get('name')}'): refused; build the layer "
                    "from what that file holds, and save it again"
                )


def _check_layers(config: object, where: object, numbers: int) -> None:
    """Refuse layers that would be far larger together than all weights: Keras builds them before it
    looks for them.
    """
    total = 0
    for layer in json_objects(config):
        settings, built = layer.get("config"), layer.get("build_config")
        if not isinstance(settings, Mapping):
            continue
        shape = built.get("input_shape") if isinstance(built, Mapping) else None
        needed = _fewest_weights(settings, shape if isinstance(shape, list) else [])
        total += needed
        if total > max(MIN_WEIGHTS_ALLOWED, 8 * numbers):
            with_others = "" if needed == total else f" and those before it, together {total:,}"
            raise ArtifactError(
                f"'{where}' is damaged: its layer '{settings.get('name')}' would have {needed:,} "
                f"weights{with_others}, and the file holds {numbers:,}"
            )


def _fewest_weights(settings: Mapping[str, Any], shape: list[Any]) -> int:
    """How many weights a layer with these settings has at least, on an input of `shape`; a size
    that is not known is 1.
    """

    def size(*names: str) -> int:
        return max((_size(settings.get(name)) for name in names), default=0)

    last = _size(shape[-1]) if shape else 1
    last = last or 1
    kernel = settings.get("kernel_size")
    window = math.prod(
        _size(side) or 1 for side in (kernel if isinstance(kernel, list) else [kernel])
    )
    inputs = max(1, last // (size("groups") or 1)) * window
    rows = size("vocabulary_size", "input_dim")
    width = size("output_dim", "hidden_dim", "embedding_dim")
    bias = settings.get("use_bias") is not False
    return max(
        size("units") * max(last, 1 + bias),
        size("filters") * inputs,
        size("depth_multiplier") * window * last if kernel is not None else 0,
        (rows or 1) * width,
        rows,
        size("num_heads", "num_query_heads")
        * (size("key_dim", "head_dim", "value_dim") or 1)
        * last
        if size("key_dim", "head_dim")
        else 0,
        size("intermediate_dim") * (width or last),
        size("sequence_length", "max_sequence_length") * width,
        _einsum_weights(settings, shape),
    )


def _einsum_weights(settings: Mapping[str, Any], shape: list[Any]) -> int:
    """How many weights the kernel of an einsum has at least: its letters are sides of the input or
    of the output.
    """
    equation, output = settings.get("equation"), settings.get("output_shape")
    parts = (
        re.fullmatch(r"([\w.]+),(\w+)->([\w.]+)", equation.replace(" ", ""))
        if isinstance(equation, str)
        else None
    )
    if parts is None:
        return 0
    sides: dict[str, int] = {}
    for letters, known in (
        (parts[1], shape),
        (parts[3], output if isinstance(output, list) else [output]),
    ):
        # From the right: the batch is not in the shape of the output, and an ellipsis stands before
        # the letters.
        sides |= {
            c: _size(n) or 1
            for c, n in zip(reversed(letters), reversed(known), strict=False)
            if c != "."
        }
    return math.prod(sides.get(letter, 1) for letter in parts[2])


def _size(value: object) -> int:
    """A setting as a size; 0 where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0
    return max(0, int(value))


def json_objects(value: object) -> Iterator[Mapping[str, Any]]:
    """All objects in a JSON value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
