"""Files appear whole or not at all: everything is written beside its place and renamed into it.
What cannot be read is an error that names the file.
"""

import contextlib
import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from graft.zoo import locks
from graft.zoo.archives import check_arrays, opened_archive
from graft.zoo.errors import ArtifactError, ConfigError, DiskFull, GraftError
from graft.zoo.shown import csv_cell

__all__ = [
    "check_free",
    "disk_full",
    "inside",
    "json_text",
    "one_line_if_damaged",
    "one_line_if_full",
    "parse_json",
    "read_arrays",
    "read_json",
    "read_text",
    "recover",
    "remove",
    "replace_folder",
    "save_arrays",
    "settle",
    "staged_file",
    "staged_folder",
    "sweep",
    "unchanged",
    "write_table",
    "write_text",
]

MEND = "restore it, or make it anew"
MOST_TEXT_BYTES = 100 * 1024**2
"""What a file of text can have; the largest tokenizers have 35 MB."""
JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}
OLD = ".old"
"""Behind the name of a folder in the making: what it replaces, while it does so."""
NOTHING_LEFT = "nothing was left behind; free some space or give --out on another disk"


@contextlib.contextmanager
def staged_file(target: Path, mend: str = NOTHING_LEFT) -> Iterator[Path]:
    """Yield a path beside `target`; on success it replaces `target`, on any failure it is removed.

    The temporary keeps the suffix of `target`, because several libraries choose the format by it.
    `mend` says what the user can do when the disk is full.
    """
    target = locks.resolved(Path(target))  # a link stays one: what it leads to is replaced
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    with _part(target) as folder, one_line_if_full(target, mend):
        yield folder / target.name
        locks.refuse_lost(target)
        os.replace(folder / target.name, target)


@contextlib.contextmanager
def staged_folder(
    target: Path, overwrite: bool = False, mend: str = "--overwrite replaces it"
) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it becomes `target`, on any failure it is
    removed. Where `target` is a link, that is done where it leads.

    An existing `target` is an error unless `overwrite`; then it stays untouched until the new one
    is complete.

    Raises:
        ConfigError: `target` exists and `overwrite` is false; `mend` says what the user can do.
    """
    check_free(Path(target), overwrite, mend)
    target = locks.resolved(target)
    sweep(target)
    check_free(target, overwrite, mend)  # what was swept may have taken its place
    target.parent.mkdir(parents=True, exist_ok=True)
    with _part(target) as folder, one_line_if_full(target):
        folder.chmod(0o755)
        yield folder
        replace_folder(folder, target)


@contextlib.contextmanager
def _part(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `target`, which is removed in the end."""
    with locks.marked(f".{target.name}.{locks.machine()}-", target.parent) as folder:
        yield folder


def sweep(target: Path) -> None:
    """Mend what a process left that was killed while it wrote `target`: what was complete takes its
    place, what was to be replaced goes back where nothing did, the rest is removed.
    """
    target = locks.resolved(target)
    locks.sweep_new(target.parent)
    pattern = re.compile(re.escape(f".{target.name}.") + r"([0-9a-f]{8})-[a-z0-9_]{8}")
    try:
        names = [
            entry.name
            for entry in os.scandir(target.parent)
            if entry.name.startswith(f".{target.name}.")
        ]
    except OSError:
        return
    for name in {name.removesuffix(OLD) for name in names}:
        match, part = pattern.fullmatch(name), target.with_name(name)
        if match and locks.abandoned(part, match[1]):
            settle(part, target)
            remove(part)


def settle(folder: Path, target: Path) -> None:
    """Finish a `replace_folder` that was cut short."""
    old, target = folder.with_name(folder.name + OLD), locks.resolved(target)
    if not os.path.lexists(old):
        return
    if not target.exists():
        os.replace(folder if folder.exists() else old, target)
    remove(old)
    remove(folder)


def recover(target: Path) -> None:
    """Bring `target` back where it is missing because a process was killed while it replaced it:
    see `settle`.
    """
    if target.exists() or not target.name:
        return
    target = locks.resolved(target)
    run = target.with_name(f".{target.name}.part")  # see recipes/runs/workspace.py
    with contextlib.suppress(OSError):  # of a disk that cannot be written to
        found = [
            old
            for old in target.parent.iterdir()
            if old.name.startswith(f".{target.name}.") and old.suffix == OLD
        ]
        if found:
            with locks.hold(target, "wait for it"):
                settle(run, target)
                sweep(target)


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Make sure that what the block reads from `folder` is of one folder.

    Raises:
        ArtifactError: another process has replaced it meanwhile.
    """
    before, damage = _identity(folder), None
    try:
        yield
    except Exception as error:  # what was found missing or damaged may be a mixture of two
        damage = error
    if before is not None and _identity(folder) != before:
        raise ArtifactError(
            f"another process replaced '{folder}' while it was read: give the command again"
        ) from damage
    if damage is not None:
        raise damage


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def remove(path: Path) -> None:
    """Remove what is at `path`, if anything is: a folder with all it holds, a file, or a link but
    not what it leads to.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_free(target: Path, overwrite: bool, mend: str = "--overwrite replaces it") -> None:
    """Refuse what would be overwritten.

    Raises:
        ConfigError: `target` exists and `overwrite` is false; `mend` says what the user can do.
    """
    if target.exists() and not overwrite:
        raise ConfigError(f"'{target}' exists already: {mend}, or give another --out")


def json_text(value: Any, indent: str = "") -> str:
    """`value` as JSON for people to read: indented, but a list or an object that holds no others
    stands on one line, so that figures of thousands of labels stay short.
    """
    parts = (
        value.values()
        if isinstance(value, Mapping)
        else value
        if isinstance(value, list | tuple)
        else ()
    )
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
    return (
        json.dumps(key, ensure_ascii=False) if isinstance(key, str) else json.dumps(json.dumps(key))
    )


def write_text(target: Path, text: str) -> None:
    """Write `text` (UTF-8) whole or not at all."""
    with staged_file(target) as path:
        path.write_text(text, encoding="utf-8")


def replace_folder(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, in the place of what may be there; `settle` finishes it after a
    kill. Where `target` is a link it stays one, and what it leads to is replaced.

    Raises:
        ConfigError: this process has lost the lease of `target`.
    """
    locks.refuse_lost(target)
    old, target = folder.with_name(folder.name + OLD), locks.resolved(target)
    remove(old)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(folder, target)
    except BaseException:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    remove(old)


def write_table(target: Path, rows: Sequence[Mapping]) -> None:
    """Write `rows` as CSV (UTF-8), whole or not at all: a column for each name that one of them
    has. Text that a spreadsheet would compute is marked as text.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (
        staged_file(target) as path,
        path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(csv_cell, columns))
        writer.writerows([csv_cell(row.get(name, "")) for name in columns] for row in rows)


def read_text(path: Path) -> str:
    """The text (UTF-8) in `path`.

    Raises:
        ArtifactError: it is missing, no UTF-8, or too long.
    """
    path = Path(path)
    with one_line_if_damaged(path):
        size = path.stat().st_size
        if size > MOST_TEXT_BYTES:
            raise ArtifactError(
                f"'{path}' has {size:,} bytes, more than such a file can have: {MEND}"
            )
        return path.read_text(encoding="utf-8")


def read_json(path: Path, expect: type | tuple[type, ...] = object, hint: str = MEND) -> Any:
    """What the JSON file `path` holds, of the type `expect`; `hint` says what to do where it is
    damaged.

    Raises:
        ArtifactError: it is missing or damaged, or holds another type.
    """
    return parse_json(read_text(path), path, expect, hint)


def parse_json(
    text: str | bytes, where: object, expect: type | tuple[type, ...] = object, hint: str = MEND
) -> Any:
    """What the JSON `text`, which stands in `where`, says.

    Raises:
        ArtifactError: it is damaged (also: nested too deeply, or with halves of characters), or of
            another type than `expect`.
    """
    with one_line_if_damaged(where, hint):
        content = json.loads(text)
        if "\\ud" in (text if isinstance(text, str) else text.decode("utf-8", "replace")).lower():
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    if not isinstance(content, expect):
        wanted = " or ".join(
            JSON_NAMES[kind] for kind in (expect if isinstance(expect, tuple) else (expect,))
        )
        raise ArtifactError(
            f"'{where}' is damaged (it holds {JSON_NAMES.get(type(content), 'nothing')}, not "
            f"{wanted}): {hint}"
        )
    return content


def read_arrays(path: Path, hint: str = MEND) -> dict[str, np.ndarray]:
    """What the NumPy archive `path` holds; `hint` says what to do where it is damaged.

    Raises:
        ArtifactError: it is missing or damaged, holds Python objects, or unpacks to far more than
            it can hold.
    """
    path = Path(path)
    with one_line_if_damaged(path, hint):
        with opened_archive(path) as archive:
            check_arrays(archive, path)
        with np.load(path, allow_pickle=False) as kept:
            return {key: kept[key] for key in kept.files}


def inside(folder: Path, name: object, where: object) -> Path:
    """`folder`/`name`, which `where` says.

    Raises:
        ArtifactError: `name` is no relative path, or leads out of `folder`, also by a link.
    """
    folder = Path(folder)
    refusal = ArtifactError(f"'{where}' names '{name}', which is no file in its folder: refused")
    if not isinstance(name, str) or not name or "\0" in name:
        raise refusal
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if path.is_absolute() or path.drive or path.root or ".." in path.parts:
            raise refusal
    with one_line_if_damaged(where):
        leads_out = not (folder / name).resolve().is_relative_to(folder.resolve())
    if leads_out:
        raise refusal
    return folder / name


@contextlib.contextmanager
def one_line_if_damaged(where: object, hint: str = MEND) -> Iterator[None]:
    """Turn whatever the block stumbles over in the file `where` into an ArtifactError of one line,
    which ends with `hint`.

    For a block that reads or uses what a file says, and does nothing else: damaged content shows in
    any exception.
    """
    try:
        yield
    except GraftError:
        raise
    except FileNotFoundError as error:
        raise ArtifactError(f"'{where}' is missing: {hint}") from error
    except Exception as error:
        raise ArtifactError(f"'{where}' is damaged ({_reason(error)}): {hint}") from error


def _reason(error: Exception) -> str:
    """What an exception says of a file, in words."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it says that it is larger than the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"it lacks {str(error)[:200]}"
    return str(error)[:200] or type(error).__name__


@contextlib.contextmanager
def one_line_if_full(target: Path, mend: str = NOTHING_LEFT) -> Iterator[None]:
    """Turn whatever says that the disk is full into a DiskFull error of one line, which ends with
    `mend`: that of the outermost block, which alone knows what is left.
    """
    try:
        yield
    except DiskFull as error:
        raise DiskFull(error.place, mend) from error
    except Exception as error:
        if isinstance(error, GraftError) or not disk_full(error):
            raise
        raise DiskFull(target, mend) from error


def disk_full(error: Exception) -> bool:
    """Whether `error` says that the disk is full.

    Libraries with native writers (TensorFlow, HDF5, ONNX) raise errors of their own, with the
    system's words in them.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


def save_arrays(target: Path, **arrays: np.ndarray) -> None:
    """Write a compressed NumPy archive, whole or not at all."""
    with staged_file(target) as path:
        np.savez_compressed(path, **arrays)
