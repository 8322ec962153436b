"""Reading text, JSON and NumPy archives that may be damaged or hostile: what cannot be read is an
error that names the file.
"""

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from graft.zoo.errors import ArtifactError
from graft.zoo.files.archives import check_arrays, opened_archive
from graft.zoo.files.guards import RESTORE_HINT, one_line_if_damaged

__all__ = ["check_schema", "parse_json", "path_inside", "read_arrays", "read_json", "read_text"]

MAX_TEXT_BYTES = 100 * 1024**2
"""What a file of text can have; the largest tokenizers have 35 MB."""
JSON_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


def read_text(path: Path) -> str:
    """The text (UTF-8) in `path`.

    Raises:
        ArtifactError: it is missing, no UTF-8, or too long.
    """
    path = Path(path)
    with one_line_if_damaged(path):
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise ArtifactError(
                f"'{path}' has {size:,} bytes, more than such a file can have: {RESTORE_HINT}"
            )
        return path.read_text(encoding="utf-8")


def read_json(
    path: Path, expect: type | tuple[type, ...] = object, hint: str = RESTORE_HINT
) -> Any:
    """What the JSON file `path` holds, of the type `expect`; `hint` says what to do where it is
    damaged.

    Raises:
        ArtifactError: it is missing or damaged, or holds another type.
    """
    return parse_json(read_text(path), path, expect, hint)


def parse_json(
    text: str | bytes,
    where: object,
    expect: type | tuple[type, ...] = object,
    hint: str = RESTORE_HINT,
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


def read_arrays(path: Path, hint: str = RESTORE_HINT) -> dict[str, np.ndarray]:
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


def check_schema(content: dict, path: Path, known: int, hint: str = RESTORE_HINT) -> int:
    """The "schema" of what was read from `path`.

    Args:
        content: of the file.
        path: for the message.
        known: the newest schema that can be read.
        hint: what to do about a file without one.

    Raises:
        ArtifactError: it has none, or a newer Graft wrote it.
    """
    schema = content.get("schema")
    if not isinstance(schema, int):
        raise ArtifactError(f"'{path}' is damaged (no schema): {hint}")
    if schema > known:
        raise ArtifactError(
            f"'{path}' has schema {schema}, this Graft reads up to {known}: update graft-zoo"
        )
    return schema


def path_inside(folder: Path, name: object, where: object) -> Path:
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
