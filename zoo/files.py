"""Files appear whole or not at all: everything is written beside its place and renamed into it. What cannot be read is an
error that names the file."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import ArtifactError, ConfigError, GraftError

__all__ = [
    "check_free",
    "disk_full",
    "json_text",
    "one_line_if_full",
    "read_arrays",
    "read_json",
    "read_text",
    "replace_folder",
    "staged_file",
    "staged_folder",
    "write_text",
]

MEND = "restore it, or make it anew"
NOTHING_LEFT = "nothing was left behind; free some space or give --out on another disk"


@contextlib.contextmanager
def staged_file(target: Path, mend: str = NOTHING_LEFT) -> Iterator[Path]:
    """Yield a path beside `target`; on success it replaces `target`, on any failure it is removed.

    The temporary keeps the suffix of `target`, because several libraries choose the format by it. `mend` says what the user
    can do when the disk is full.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with one_line_if_full(target, mend):
            yield folder / target.name
            os.replace(folder / target.name, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def staged_folder(target: Path, overwrite: bool = False, mend: str = "--overwrite replaces it") -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it becomes `target`, on any failure it is removed.

    An existing `target` is an error unless `overwrite`; then it stays untouched until the new one is complete.

    Raises:
        ConfigError: `target` exists and `overwrite` is false; `mend` says what the user can do.
    """
    target = Path(target)
    check_free(target, overwrite, mend)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    folder.chmod(0o755)
    try:
        with one_line_if_full(target):
            yield folder
            replace_folder(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_free(target: Path, overwrite: bool, mend: str = "--overwrite replaces it") -> None:
    """Refuse what would be overwritten.

    Raises:
        ConfigError: `target` exists and `overwrite` is false; `mend` says what the user can do.
    """
    if target.exists() and not overwrite:
        raise ConfigError(f"'{target}' exists already: {mend}, or give another --out")


def json_text(value: Any, indent: str = "") -> str:
    """`value` as JSON for people to read: indented, but a list or an object that holds no others stands on one line, so that
    figures of thousands of labels stay short."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if not any(isinstance(part, Mapping | list | tuple) for part in parts):
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + "  "
    if isinstance(value, Mapping):
        lines = [f"{deeper}{_key(key)}: {json_text(part, deeper)}" for key, part in value.items()]
    else:
        lines = [f"{deeper}{json_text(part, deeper)}" for part in value]
    first, last = "{}" if isinstance(value, Mapping) else "[]"
    return f"{first}\n" + ",\n".join(lines) + f"\n{indent}{last}"


def _key(key: object) -> str:
    """A key as `json.dumps` writes it, which makes text of numbers, booleans and None."""
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else json.dumps(json.dumps(key))


def write_text(target: Path, text: str) -> None:
    """Write `text` (UTF-8) whole or not at all."""
    with staged_file(target) as path:
        path.write_text(text, encoding="utf-8")


def replace_folder(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, in the place of what may be there."""
    if not target.exists():
        os.replace(folder, target)
        return
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed while it removed it
    os.replace(target, old)
    os.replace(folder, target)
    shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()


def read_text(path: Path) -> str:
    """The text (UTF-8) in `path`.

    Raises:
        ArtifactError: it is missing or no UTF-8.
    """
    with _one_line_if_damaged(path):
        return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """What the JSON file `path` holds.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    with _one_line_if_damaged(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What the NumPy archive `path` holds.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    with _one_line_if_damaged(path), np.load(path, allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}


@contextlib.contextmanager
def _one_line_if_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactError(f"'{path}' is missing: {MEND}") from error
    # An archive that was cut short or edited says so in many ways; a single array instead of one has no `files`.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"'{path}' is damaged ({error}): {MEND}") from error


@contextlib.contextmanager
def one_line_if_full(target: Path, mend: str = NOTHING_LEFT) -> Iterator[None]:
    """Turn whatever says that the disk is full into a ConfigError of one line, which ends with `mend`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, GraftError) or not disk_full(error):
            raise
        raise ConfigError(f"no space left on the disk while writing '{target}': {mend}") from error


def disk_full(error: Exception) -> bool:
    """Whether `error` says that the disk is full.

    Libraries with native writers (TensorFlow, HDF5, ONNX) raise errors of their own, with the system's words in them.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))
