"""Where the weights of a backbone come from.

A SPEC is one of
- `imagenet`: the file of keras.applications, through Keras's own downloader and cache;
- `bundled`: our own checkpoint, shipped in `zoo/bundled/`;
- `none`: random initialization;
- a path: `.weights.h5`, `.h5` of older Keras versions, or `.keras`, with or without a classifier on top.

What cannot be had is an error, never a silent fallback. Loading is all or nothing: every variable of the backbone is
found in the file with its exact shape before the first one is assigned, and read back afterwards.
"""

import contextlib
import hashlib
import io
import os
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError
from zoo.files import staged_file

if TYPE_CHECKING:
    import h5py
    import keras

    from zoo.backbones import Backbone

__all__ = ["BUNDLED", "describe", "load", "resolve", "sha256"]

BUNDLED = Path(__file__).parent / "bundled"

SILENCE_SECONDS = 10
"""A server that says nothing for this long counts as out of reach."""


def resolve(row: "Backbone", spec: str, *, image_size: int | None = None) -> Path | None:
    """The file behind `spec`, downloaded if need be; None for "none".

    `image_size` matters to rows whose ImageNet weights come in several sizes; None means `row.image_size`.

    Raises:
        WeightsError: the file is missing, or cannot be downloaded, or the row has no such weights.
    """
    spec = str(spec)
    if spec == "none":
        return None
    if spec in ("bundled", "imagenet") and spec not in row.weights:
        raise WeightsError(_no_such_weights(row, spec))
    if spec == "bundled":
        path = BUNDLED / f"{row.name}.weights.h5"
        if not path.is_file():
            raise WeightsError(
                f"the bundled weights '{path}' are missing: this installation is incomplete, reinstall it"
            )
        return path
    if spec == "imagenet":
        return _imagenet(row, image_size or row.image_size)
    path = Path(spec).expanduser()
    if path.is_dir():
        raise WeightsError(f"the weights '{spec}' are a folder: give the .weights.h5, .h5 or .keras file itself")
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file '{spec}': expected {', '.join(row.weights)}, "
            "or the path of a .weights.h5, .h5 or .keras file"
        )
    return path


def load(model: "keras.Model", row: "Backbone", path: Path) -> None:
    """Give every variable of `model`, the backbone `row` as keras.applications builds it, its value from `path`.

    Numbers stored in another precision (float16) are cast. What the file holds beside the backbone is ignored.

    Raises:
        WeightsError: the file is damaged, or of another architecture; the message names the first layer that differs
            and both shapes. `model` is then as it was.
    """
    with _opened(path) as file:
        # The attempt that came farthest is the one whose complaint helps.
        fit = max(_attempts(model, file), key=lambda attempt: (not attempt.problem, len(attempt.pairs)), default=None)
        if fit is None:
            raise WeightsError(f"'{path}' holds no Keras weights: expected a .weights.h5, .h5 or .keras file")
        if fit.problem:
            raise WeightsError(
                f"'{path}' does not fit backbone '{row.name}': {fit.problem}; "
                "give weights of this architecture, or choose the backbone they were made for"
            )
        _assign(fit.pairs, path)
    for layer in model._flatten_layers():
        # Normalization computes with constants that it derives from its variables.
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def describe(row: "Backbone", spec: str, *, image_size: int | None = None) -> dict[str, str | None]:
    """What a run records: `{"spec", "file", "sha256"}`, the last two None for "none".

    Raises:
        WeightsError: as `resolve`.
    """
    path = resolve(row, spec, image_size=image_size)
    return {"spec": str(spec), "file": path and str(path), "sha256": path and sha256(path)}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_such_weights(row: "Backbone", spec: str) -> str:
    from zoo.backbones import BACKBONES

    having = [other.name for other in BACKBONES if spec in other.weights]
    return (
        f"backbone '{row.name}' has no weights '{spec}' (only {', '.join(having) or 'no backbone'} has): "
        f"choose from {', '.join(row.weights)}, or give a path"
    )


# ---------------------------------------------------------------------------------------------------------------------
# ImageNet weights


def _imagenet(row: "Backbone", image_size: int) -> Path:
    download = row.download
    size = image_size if image_size in download.sizes else 224
    name, url = download.file.format(size=size), download.url.format(size=size)
    cached = _keras_cache() / name
    damaged = cached.is_file() and not _intact(cached, download.hash)
    if cached.is_file() and not damaged:
        return cached
    try:
        _fetch(url, cached, download.hash)
    except Exception as error:  # Keras raises plain Exception when a download fails
        state = "holds a damaged file" if damaged else "does not hold it"
        spare = "'bundled', " if "bundled" in row.weights else ""
        raise WeightsError(
            f"the ImageNet weights of '{row.name}' cannot be had: the cache '{cached}' {state}, and downloading "
            f"failed ({error}). Copy '{name}' from {url} to that place on a machine without a network, or choose "
            f"{spare}'none' or the path of a file as weights"
        ) from error
    return cached


def _keras_cache() -> Path:
    """The folder that keras.utils.get_file uses; Keras has no public name for it."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    models = home / "models"
    if os.access(home if home.exists() else home.parent, os.W_OK) or models.is_dir():
        return models
    return Path(tempfile.gettempdir()) / ".keras" / "models"


def _intact(path: Path, digest: str | None) -> bool:
    if digest is None:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5" if len(digest) == 32 else "sha256").hexdigest() == digest


def _fetch(url: str, target: Path, digest: str | None) -> None:
    """Download with Keras's downloader: whole and verified, or not at all; its progress goes to stderr."""
    import socket

    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        with staged_file(target) as staged, contextlib.redirect_stdout(sys.stderr):
            keras.utils.get_file(staged.name, url, cache_subdir=str(staged.parent), file_hash=digest)
    finally:
        socket.setdefaulttimeout(before)


# ---------------------------------------------------------------------------------------------------------------------
# Reading a file


@dataclass(frozen=True)
class _Slot:
    """The variables that a file keeps together, and the place where Keras 3 puts them."""

    layer: str
    place: str
    variables: list["keras.Variable"]


@dataclass(frozen=True)
class _Attempt:
    """How far one reading of a file came: what was matched, and what stopped it."""

    pairs: list[tuple["keras.Variable", "h5py.Dataset"]]
    problem: str | None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["h5py.File"]:
    """The HDF5 content of a weights file, wherever it is kept."""
    import h5py

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                source = io.BytesIO(archive.read("model.weights.h5"))
        else:
            source = path
        file = h5py.File(source, "r")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"'{path}' cannot be read as weights ({error}): expected a .weights.h5, .h5 or .keras file"
        ) from error
    with file:
        yield file


def _attempts(model: "keras.Model", file: "h5py.File") -> list[_Attempt]:
    """Every way in which the file may hold the backbone: its layout, nested models, the backbone inside a model."""
    legacy = file["model_weights"] if "model_weights" in file else file
    if "layer_names" in legacy.attrs or "layer_names0" in legacy.attrs:
        entries = _legacy_entries(legacy)
        return [_match_in_order(_slots(model, nested, whole=True), entries) for nested in (True, False)]
    roots = ["", *_groups(file)]
    return [
        _match_by_place(_slots(model, nested), file, root)
        for root in roots
        if f"{root}layers" in file
        for nested in (True, False)
    ]


def _groups(file: "h5py.File") -> list[str]:
    """Where models lie inside a Keras 3 file, with a slash at the end."""
    found: list[str] = []
    file.visit(lambda place: found.append(place.removesuffix("layers")) if place.endswith("/layers") else None)
    return found


def _slots(model: "keras.Model", nested: bool, whole: bool = False) -> list[_Slot]:
    """The layers of `model` that hold weights, in order.

    Keras 3 calls a layer by its class and a number within its model. `nested` keeps models inside the model apart, as
    keras.applications saves them; otherwise they count as dissolved, as a flat model saves them. `whole` makes one slot
    of an inner model, as older Keras versions did.
    """
    import keras

    slots: list[_Slot] = []

    def walk(inner: "keras.Model", prefix: str, counts: Counter) -> None:
        for layer in inner.layers:
            is_model = isinstance(layer, keras.Model)
            if is_model and not nested:
                walk(layer, prefix, counts)
                continue
            kind = _snake_case(type(layer).__name__)
            number = f"_{counts[kind]}" if counts[kind] else ""
            counts[kind] += 1
            place = f"{prefix}layers/{kind}{number}"
            if is_model and not whole:
                walk(layer, f"{place}/", Counter())
            elif layer.weights:
                variables = layer.trainable_weights + layer.non_trainable_weights
                slots.append(_Slot(layer.name, place, variables))

    walk(model, "", Counter())
    return slots


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _match_by_place(slots: list[_Slot], file: "h5py.File", root: str) -> _Attempt:
    pairs: list = []
    for slot in slots:
        place = f"{root}{slot.place}/vars"
        group = file[place] if place in file else {}
        problem = _differ(
            slot, [group[key] for key in sorted(group, key=int)], _text(group.attrs.get("name")) if group else ""
        )
        if problem:
            return _Attempt(pairs, problem)
        pairs += zip(slot.variables, (group[str(i)] for i in range(len(slot.variables))), strict=True)
    return _Attempt(pairs, None)


def _legacy_entries(group: "h5py.Group") -> list[tuple[str, list["h5py.Dataset"]]]:
    """Layer names with their arrays, in the order of the model that was saved; layers without weights left out."""
    entries = []
    for name in _names(group, "layer_names"):
        arrays = [group[name][weight] for weight in _names(group[name], "weight_names")]
        if arrays:
            entries.append((name, arrays))
    return entries


def _names(group: "h5py.Group", attribute: str) -> list[str]:
    """A list of names; HDF5 limits an attribute's size, so that long lists are split into numbered parts."""
    parts = [attribute] if attribute in group.attrs else []
    while not parts or f"{attribute}{len(parts)}" in group.attrs:
        if attribute in group.attrs or f"{attribute}{len(parts)}" not in group.attrs:
            break
        parts.append(f"{attribute}{len(parts)}")
    return [_text(name) for part in parts for name in group.attrs[part]]


def _text(name: "bytes | str | None") -> str:
    return name.decode() if isinstance(name, bytes) else name or ""


def _match_in_order(slots: list[_Slot], entries: list[tuple[str, list["h5py.Dataset"]]]) -> _Attempt:
    pairs: list = []
    for position, slot in enumerate(slots):
        name, arrays = entries[position] if position < len(entries) else ("", [])
        problem = _differ(slot, arrays, name)
        if problem:
            return _Attempt(pairs, problem)
        pairs += zip(slot.variables, arrays, strict=True)
    return _Attempt(pairs, None)


def _differ(slot: _Slot, arrays: list["h5py.Dataset"], there: str) -> str | None:
    """What is wrong with `arrays`, which the file calls `there`, as the weights of `slot`."""
    needed = [tuple(variable.shape) for variable in slot.variables]
    if not arrays:
        return f"the file has no layer '{slot.layer}', whose shapes are {_shapes(needed)}"
    found = [tuple(array.shape) for array in arrays]
    if found != needed:
        called = f" (called '{there}')" if there and there != slot.layer else ""
        return f"layer '{slot.layer}' needs {_shapes(needed)}, the file{called} has {_shapes(found)}"
    for variable, array in zip(slot.variables, arrays, strict=True):
        if "float" in variable.dtype and array.dtype.kind != "f":
            return f"layer '{slot.layer}' needs floating-point numbers, the file has {array.dtype} (a quantized model?)"
    return None


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " + ".join(map(str, shapes))


def _assign(pairs: list[tuple["keras.Variable", "h5py.Dataset"]], path: Path) -> None:
    import keras
    import numpy as np

    values = [np.asarray(array).astype(variable.dtype) for variable, array in pairs]
    for (variable, _), value in zip(pairs, values, strict=True):
        if not np.isfinite(value).all():
            raise WeightsError(f"'{path}' is damaged: '{variable.path}' holds numbers that are not finite")
    for (variable, _), value in zip(pairs, values, strict=True):
        variable.assign(value)
    for (variable, _), value in zip(pairs, values, strict=True):
        if not np.array_equal(keras.ops.convert_to_numpy(variable), value):
            raise WeightsError(f"'{variable.path}' differs from what was read out of '{path}'")
