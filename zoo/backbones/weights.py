"""Where the weights of a backbone come from.

A SPEC is one of
- `imagenet`: the file of keras.applications, through Keras's own downloader and cache;
- `bundled`: our own checkpoint, shipped in `zoo/bundled/`;
- `none`: random initialization;
- a path: `.weights.h5`, `.h5` of older Keras versions, or `.keras`, with or without a classifier on
  top.

What cannot be had is an error, never a silent fallback.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from graft.zoo.backbones.table import BACKBONES, OWN_FAMILY, Backbone
from graft.zoo.errors import WeightsError
from graft.zoo.files.staging import staged_file
from graft.zoo.fits import ImageShape, ImageSize

if TYPE_CHECKING:
    import h5py
    import keras

__all__ = ["describe_weights", "file_sha256", "is_downloaded", "resolve_weights", "save_float16"]

BUNDLED_FOLDER = Path(__file__).parents[1] / "bundled"
_WEIGHTS_OPTIONS = (
    "--weights WEIGHTS of `graft train`, --backbones NAME@WEIGHTS of `graft suggest` and `graft "
    "bench`"
)
"""How the commands that build backbones are told the weights: a message must be true for each of
them.
"""
DOWNLOAD_TIMEOUT_SECONDS = 10
"""A server that says nothing for this long counts as out of reach."""


def resolve_weights(
    row: Backbone, spec: str, *, image_size: ImageSize | None = None
) -> Path | None:
    """The file of weights that a SPEC means, downloaded if need be.

    Args:
        row: the backbone.
        spec: "imagenet", "bundled", "none" or a path.
        image_size: height and width in pixels; it matters where ImageNet weights come in several
            sizes. None: `row.image_size`.

    Returns:
        The file; None for "none".

    Raises:
        WeightsError: the file is missing, or cannot be downloaded, or the row has no such weights.
        ConfigError: the row takes no images of this size.
    """
    spec = str(spec)
    if spec == "none":
        return None
    if OWN_FAMILY in row.weights:
        if spec != OWN_FAMILY:
            raise WeightsError(
                f"the backbone '{row.target}' has weights of its own, not '{spec}': name no "
                f"weights beside it ({_WEIGHTS_OPTIONS})"
            )
        return Path(row.target)
    if spec in ("bundled", "imagenet") and spec not in row.weights:
        raise WeightsError(_no_such_weights(row, spec))
    if spec == "bundled":
        path = BUNDLED_FOLDER / f"{row.name}.weights.h5"
        if not path.is_file():
            raise WeightsError(
                f"the bundled weights '{path}' are missing: this installation is incomplete, "
                "reinstall it"
            )
        return path
    if spec == "imagenet":
        return _imagenet(row, row.shape(image_size))
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


def is_downloaded(row: Backbone, image_size: ImageSize | None = None) -> bool:
    """Whether the ImageNet weights of `row` for this size (None: `row.image_size`) lie in Keras's
    cache.
    """
    shape = ImageShape.of(row.image_size if image_size is None else image_size)
    size = _size_of_weights(row, shape)
    return (
        "imagenet" in row.weights and _in_keras_cache(row.download.file.format(size=size)).is_file()
    )


def describe_weights(
    row: Backbone, spec: str, *, image_size: ImageSize | None = None
) -> dict[str, str | None]:
    """What a run records: `{"spec", "file", "sha256"}`, the last two None for "none".

    Raises:
        WeightsError: as `resolve_weights`.
    """
    path = resolve_weights(row, spec, image_size=image_size)
    if path is None:
        return {"spec": str(spec), "file": None, "sha256": None}
    return {"spec": str(spec), "file": str(path), "sha256": file_sha256(path)}


def save_float16(model: "keras.Model", path: Path) -> None:
    """A Keras weights file of half the size; vectors (statistics, biases) stay float32, their range
    is wide.
    """
    import h5py
    import numpy as np

    whole = path.with_name("float32.weights.h5")
    model.save_weights(whole, overwrite=True)
    with h5py.File(whole) as source, h5py.File(path, "w") as target:

        def copy(name: str, item: "h5py.Group | h5py.Dataset") -> None:
            if isinstance(item, h5py.Dataset):
                target.create_dataset(
                    name, data=item[()].astype(np.float16 if item.ndim > 1 else np.float32)
                )
            else:
                target.require_group(name).attrs.update(item.attrs)

        source.visititems(copy)
    whole.unlink()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_such_weights(row: Backbone, spec: str) -> str:
    having_them = [other.name for other in BACKBONES if spec in other.weights]
    return (
        f"backbone '{row.name}' has no weights '{spec}' (these have: {', '.join(having_them)}): "
        f"choose from {', '.join(row.weights)}, or give the path of a file"
    )


def _size_of_weights(row: Backbone, shape: ImageShape) -> int:
    """Of the sizes that have weights of their own, the one for images of `shape`."""
    return shape.height if shape.is_square and shape.height in row.download.sizes else 224


def _imagenet(row: Backbone, shape: ImageShape) -> Path:
    download, size = row.download, _size_of_weights(row, shape)
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
            f"{state}, and downloading {url} failed ({reason}). Copy that file to the place in the "
            f"cache, or give other weights, {words} or the path of a file: "
            f"{_WEIGHTS_OPTIONS.replace('NAME', row.name)}"
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
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with staged_file(target) as staged, contextlib.redirect_stdout(sys.stderr):
            keras.utils.get_file(
                staged.name, url, cache_subdir=str(staged.parent), file_hash=digest
            )
    finally:
        socket.setdefaulttimeout(before)
