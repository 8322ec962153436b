"""What `--data` may name: what to say where it names nothing that is read."""

import re
from collections.abc import Sequence
from pathlib import Path

from graft.recipes.data.tables.rows import is_table
from graft.zoo.errors import DataError, UnknownName

__all__ = ["another_form", "existing_path", "nothing_there"]


def existing_path(spec: str, built_in: Sequence[str], option: str) -> Path:
    """The folder or the table that `spec` names, given to `option`.

    Raises:
        DataError: it is something else, or there is nothing.
        UnknownName: there is nothing, and it does not look like a path.
    """
    path = Path(spec).expanduser()
    if path.is_dir() or is_table(path):
        return path
    if path.exists():
        expected = "expected a folder, a .csv, .tsv or .jsonl file, or tfds:NAME"
        raise DataError(f"'{spec}' is no data source: {expected} for {option}{another_form(spec)}")
    raise nothing_there(spec, built_in, option)


def nothing_there(spec: str, built_in: Sequence[str], option: str) -> DataError | UnknownName:
    """What to raise where `spec`, given to `option`, is neither a path that exists nor a built-in
    name.
    """
    if re.search(r"[/\\.]", spec):
        return DataError(f"there is no file or folder '{spec}': check the path given to {option}")
    return UnknownName("folder, file or built-in data set", spec, built_in)


def another_form(spec: str) -> str:
    """What to do with a file of a form that is not read, for the end of a message."""
    name = spec.lower()
    if name.endswith((".gz", ".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".zst")):
        return "; unpack it first"
    if name.endswith((".xlsx", ".xls", ".ods", ".parquet")):
        return "; save it as .csv"
    if name.endswith(".json"):
        return "; write each element of an array on a line of a .jsonl file"
    return ""
