"""Where the weights of a backbone come from.

A SPEC is one of
- `imagenet`: the file of keras.applications, through Keras's own downloader and cache;
- `bundled`: our own checkpoint, shipped in `zoo/bundled/`;
- `none`: random initialization;
- a path: `.weights.h5`, `.h5` of older Keras versions, or `.keras`, with or without a classifier on
  top.

What cannot be had is an error, never a silent fallback. Loading is all or nothing: every variable
of the backbone is found in the file with its exact shape before the first one is assigned, and read
back afterwards.
"""

import contextlib
import hashlib
import itertools
import os
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graft.zoo.archives import check_hdf5, opened_archive, opened_member
from graft.zoo.backbones.table import BACKBONES, Backbone
from graft.zoo.errors import ArtifactError, WeightsError
from graft.zoo.files import staged_file
from graft.zoo.graph.state import derive

if TYPE_CHECKING:
    import h5py
    import keras

__all__ = [
    "BUNDLED",
    "describe",
    "downloaded",
    "load",
    "opened",
    "resolve",
    "save_float16",
    "sha256",
]

BUNDLED = Path(__file__).parents[1] / "bundled"

_OPTIONS = (
    "--weights WEIGHTS of `graft train`, --backbones NAME@WEIGHTS of `graft suggest` and `graft "
    "bench`"
)
"""How the commands that build backbones are told the weights: a message must be true for each of
them.
"""

SILENCE_SECONDS = 10
"""A server that says nothing for this long counts as out of reach."""


def resolve(row: Backbone, spec: str, *, image_size: int | None = None) -> Path | None:
    """The file behind `spec`, downloaded if need be; None for "none".

    `image_size` matters to rows whose ImageNet weights come in several sizes; None means
    `row.image_size`.

    Raises:
        WeightsError: the file is missing, or cannot be downloaded, or the row has no such weights.
    """
    spec = str(spec)
    if spec == "none":
        return None
    if "own" in row.weights:
        if spec != "own":
            raise WeightsError(
                f"the backbone '{row.target}' has weights of its own, not '{spec}': name no "
                "weights "
                f"beside it ({_OPTIONS})"
            )
        return Path(row.target)
    if spec in ("bundled", "imagenet") and spec not in row.weights:
        raise WeightsError(_no_such_weights(row, spec))
    if spec == "bundled":
        path = BUNDLED / f"{row.name}.weights.h5"
        if not path.is_file():
            raise WeightsError(
                f"the bundled weights '{path}' are missing: this installation is incomplete, "
                "reinstall it"
            )
        return path
    if spec == "imagenet":
        return _imagenet(row, image_size or row.image_size)
    path = Path(spec).expanduser()
    if path.is_dir():
        raise WeightsError(
            f"the weights '{spec}' are a folder: give the .weights.h5, .h5 or .keras file itself"
        )
    if not path.is_file():
        raise WeightsError(
            f"there is no weights file '{spec}': expected {', '.join(row.weights)}, "
            "or the path of a .weights.h5, .h5 or .keras file"
        )
    return path


def downloaded(row: Backbone, image_size: int | None = None) -> bool:
    """Whether the ImageNet weights of `row` for this size (None: `row.image_size`) lie in Keras's
    cache.
    """
    size = _size_of_weights(row, image_size or row.image_size)
    return (
        "imagenet" in row.weights and _in_keras_cache(row.download.file.format(size=size)).is_file()
    )


def load(model: "keras.Model", row: Backbone, path: Path) -> None:
    """Give every variable of `model`, the backbone `row` as keras.applications builds it, its value
    from `path`.

    Numbers stored in another precision (float16) are cast. What the file holds beside the backbone
    is ignored.

    Raises:
        WeightsError: the file is damaged, or of another architecture; the message names the first
            layer that differs and both shapes. `model` is then as it was.
    """
    with opened(path) as file:
        # The reading that came farthest is the one whose complaint helps.
        fit = max(
            _readings(model, file), key=lambda fit: (not fit.problem, len(fit.pairs)), default=None
        )
        if fit is None:
            raise WeightsError(
                f"'{path}' holds no Keras weights: expected a .weights.h5, .h5 or .keras file"
            )
        if fit.problem:
            raise WeightsError(
                f"'{path}' does not fit backbone '{row.name}': {fit.problem}; "
                "give weights of this architecture, or choose the backbone they were made for"
            )
        _assign(fit.pairs, path)
    derive(model)


def describe(row: Backbone, spec: str, *, image_size: int | None = None) -> dict[str, str | None]:
    """What a run records: `{"spec", "file", "sha256"}`, the last two None for "none".

    Raises:
        WeightsError: as `resolve`.
    """
    path = resolve(row, spec, image_size=image_size)
    return {"spec": str(spec), "file": path and str(path), "sha256": path and sha256(path)}


def save_float16(model: "keras.Model", path: Path) -> None:
    """A Keras weights file of half the size; vectors (statistics, biases) stay float32, their range
    is wide.
    """
    import h5py
    import numpy as np

    whole = path.with_name("float32.weights.h5")
    model.save_weights(whole, overwrite=True)
    with h5py.File(whole) as source, h5py.File(path, "w") as target:

        def copy(name, item):
            if isinstance(item, h5py.Dataset):
                target.create_dataset(
                    name, data=item[()].astype(np.float16 if item.ndim > 1 else np.float32)
                )
            else:
                target.require_group(name).attrs.update(item.attrs)

        source.visititems(copy)
    whole.unlink()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_such_weights(row: Backbone, spec: str) -> str:
    having = [other.name for other in BACKBONES if spec in other.weights]
    return (
        f"backbone '{row.name}' has no weights '{spec}' (these have: {', '.join(having)}): "
        f"choose from {', '.join(row.weights)}, or give the path of a file"
    )


# ---------------------------------------------------------------------------------------------------------------------
# ImageNet weights


def _size_of_weights(row: Backbone, image_size: int) -> int:
    """Of the sizes that have weights of their own, the one for pictures of `image_size`."""
    return image_size if image_size in row.download.sizes else 224


def _imagenet(row: Backbone, image_size: int) -> Path:
    download, size = row.download, _size_of_weights(row, image_size)
    name, url = download.file.format(size=size), download.url.format(size=size)
    cached = _in_keras_cache(name)
    damaged = cached.is_file() and not _intact(cached, download.hash)
    if cached.is_file() and not damaged:
        return cached
    try:
        _fetch(url, cached, download.hash)
    except Exception as error:  # Keras raises plain Exception when a download fails
        state = "holds a damaged file" if damaged else "does not hold it"
        reason = str(error).removeprefix(f"URL fetch failure on {url}: ")
        words = ", ".join(word for word in row.weights if word != "imagenet")
        raise WeightsError(
            f"the ImageNet weights of '{row.name}' cannot be had: Keras's cache '{cached}' "
            f"{state}, and downloading "
            f"{url} failed ({reason}). Copy that file to the place in the cache, or give other "
            f"weights, {words} or "
            f"the path of a file: {_OPTIONS.replace('NAME', row.name)}"
        ) from error
    return cached


def _in_keras_cache(name: str) -> Path:
    """Where keras.utils.get_file keeps `name`; Keras has no public name for the folder."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    places = [folder / "models" / name for folder in (home, Path(tempfile.gettempdir()) / ".keras")]
    held = [place for place in places if place.is_file()]
    return held[0] if held else places[0 if _writable(places[0].parent) else 1]


def _writable(folder: Path) -> bool:
    return os.access(
        next(parent for parent in (folder, *folder.parents) if parent.exists()), os.W_OK
    )


def _intact(path: Path, digest: str | None) -> bool:
    if digest is None:
        return True
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "md5" if len(digest) == 32 else "sha256").hexdigest()
            == digest
        )


def _fetch(url: str, target: Path, digest: str | None) -> None:
    """Download with Keras's downloader: whole and verified, or not at all; its progress goes to
    stderr.
    """
    import socket

    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        with staged_file(target) as staged, contextlib.redirect_stdout(sys.stderr):
            keras.utils.get_file(
                staged.name, url, cache_subdir=str(staged.parent), file_hash=digest
            )
    finally:
        socket.setdefaulttimeout(before)


# ---------------------------------------------------------------------------------------------------------------------
# Reading a file


@dataclass(frozen=True)
class _Slot:
    """Variables that a file keeps together, and the place where Keras 3 puts them."""

    layer: "keras.layers.Layer"
    place: str

    @property
    def variables(self) -> list["keras.Variable"]:
        return self.layer.trainable_weights + self.layer.non_trainable_weights


@dataclass(frozen=True)
class _Reading:
    """How far one way of reading a file came: what was matched, and what stopped it."""

    slots: list[_Slot]
    pairs: list[tuple["keras.Variable", "h5py.Dataset"]]
    problem: str | None


@contextlib.contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """The HDF5 content of a weights file, a .h5 or the member of a .keras archive.

    Raises:
        WeightsError: it cannot be read, or reaches outside of its file.
    """
    import h5py

    try:
        with contextlib.ExitStack() as stack:
            source, size = path, path.stat().st_size
            if zipfile.is_zipfile(path):
                archive = stack.enter_context(opened_archive(path))
                source = stack.enter_context(opened_member(archive, path, "model.weights.h5"))
            file = stack.enter_context(h5py.File(source, "r"))
            check_hdf5(file, path, size)
            yield file
    except ArtifactError as error:
        raise WeightsError(str(error)) from error
    except WeightsError:
        raise
    except Exception as error:  # damaged content shows in any exception
        raise WeightsError(
            f"'{path}' cannot be read as weights ({str(error)[:200]}): expected a whole "
            ".weights.h5, .h5 or .keras file"
        ) from error


def _readings(model: "keras.Model", file: "h5py.File") -> Iterator[_Reading]:
    """Every way in which the file may hold the backbone: its layout, nested models, the backbone
    inside a model.
    """
    legacy = file.get("model_weights", file)
    if "layer_names" in legacy.attrs or "layer_names0" in legacy.attrs:
        entries = [(name, _legacy_arrays(legacy[name])) for name in _names(legacy, "layer_names")]
        entries = [entry for entry in entries if entry[1]]
        for inner in ("whole", "dissolved"):
            yield _match(_slots(model, inner), entries)
        return
    roots = [""] if "layers" in file else []
    file.visit(
        lambda place: (
            roots.append(place.removesuffix("layers")) if place.endswith("/layers") else None
        )
    )
    for root in roots:
        for inner in ("apart", "dissolved"):
            slots = _slots(model, inner)
            yield _match(slots, [_arrays(file, f"{root}{slot.place}/vars") for slot in slots])


def _slots(model: "keras.Model", inner: Literal["apart", "dissolved", "whole"]) -> list[_Slot]:
    """The layers of `model` that hold weights, in order, each with its place in a file of Keras 3.

    Keras 3 calls a layer by its class and a number within its model. Models inside the model are
    kept "apart", as keras.applications saves them; "dissolved", as a flat model saves them; or a
    "whole" one counts as one layer, as older Keras versions had it.
    """
    import keras

    slots: list[_Slot] = []

    def walk(parent: "keras.Model", prefix: str, counts: Counter) -> None:
        for layer in parent.layers:
            is_model = isinstance(layer, keras.Model)
            if is_model and inner == "dissolved":
                walk(layer, prefix, counts)
                continue
            kind = _snake_case(type(layer).__name__)
            place = f"{prefix}layers/{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
            counts[kind] += 1
            if is_model and inner == "apart":
                walk(layer, f"{place}/", Counter())
            elif layer.weights:
                slots.append(_Slot(layer, place))

    walk(model, "", Counter())
    return slots


def _snake_case(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _arrays(file: "h5py.File", place: str) -> tuple[str, list["h5py.Dataset"]]:
    """What a file of Keras 3 calls the layer at `place`, and its arrays; both empty where there is
    none.
    """
    if place not in file:
        return "", []
    group = file[place]
    return group.attrs.get("name", ""), [group[key] for key in sorted(group, key=int)]


def _legacy_arrays(group: "h5py.Group") -> list["h5py.Dataset"]:
    return [group[name] for name in _names(group, "weight_names")]


def _names(group: "h5py.Group", attribute: str) -> list[str]:
    """A list of names; HDF5 limits an attribute's size, so long lists are split into numbered
    attributes.
    """
    numbered = itertools.takewhile(
        group.attrs.__contains__, (f"{attribute}{i}" for i in itertools.count())
    )
    parts = [attribute] if attribute in group.attrs else numbered
    return [
        name.decode() if isinstance(name, bytes) else name
        for part in parts
        for name in group.attrs[part]
    ]


def _match(slots: list[_Slot], entries: list[tuple[str, list["h5py.Dataset"]]]) -> _Reading:
    pairs: list = []
    for slot, (name, arrays) in itertools.zip_longest(
        slots, entries[: len(slots)], fillvalue=("", [])
    ):
        problem = _difference(slot, name, arrays)
        if problem:
            return _Reading(slots, pairs, problem)
        pairs += zip(slot.variables, arrays, strict=True)
    return _Reading(slots, pairs, None)


def _difference(slot: _Slot, called: str, arrays: list["h5py.Dataset"]) -> str | None:
    """What is wrong with `arrays`, which belong to the layer `called` in the file, as the weights
    of `slot`.
    """
    name, needed = slot.layer.name, [tuple(variable.shape) for variable in slot.variables]
    found = [tuple(array.shape) for array in arrays]
    if not arrays:
        return f"the file has no layer '{name}', which has {_listed(needed)}"
    if found != needed:
        alias = f" (called '{called}' there)" if called not in ("", name) else ""
        return f"layer '{name}' has {_listed(needed)}, in the file{alias} {_listed(found)}"
    for variable, array in zip(slot.variables, arrays, strict=True):
        if "float" in variable.dtype and array.dtype.kind != "f":
            return (
                f"layer '{name}' has {variable.dtype} numbers, in the file {array.dtype} (of a "
                "quantized model?)"
            )
    return None


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ("shape " if len(shapes) == 1 else "shapes ") + ", ".join(map(str, shapes))


def _assign(pairs: list[tuple["keras.Variable", "h5py.Dataset"]], path: Path) -> None:
    import keras
    import numpy as np

    values = [(variable, np.asarray(array).astype(variable.dtype)) for variable, array in pairs]
    for variable, value in values:
        if not np.isfinite(value).all():
            raise WeightsError(
                f"'{path}' is damaged: '{variable.path}' holds numbers that are not finite"
            )
    for variable, value in values:
        variable.assign(value)
    for variable, value in values:
        if not np.array_equal(keras.ops.convert_to_numpy(variable), value):
            raise WeightsError(
                f"'{variable.path}' is not what '{path}' holds after it was assigned"
            )
