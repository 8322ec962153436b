"""What `--data` may name: where it lies, and what to say where it names nothing that is read."""

import re
from collections.abc import Sequence
from pathlib import Path

from graft.recipes.data.containers.addresses import fetched, is_address
from graft.recipes.data.containers.hub import HUB, hub_parts
from graft.recipes.data.containers.parts import Part, parts_of_folder, parts_of_pattern
from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.rows import SUFFIXES, is_table
from graft.zoo.errors import DataError, UnknownName

__all__ = ["another_form", "existing_place", "nothing_there", "place_of"]


def place_of(spec: str, tally: Tally) -> Path | list[Part]:
    """Where the data lie that `spec` names: files of rows by split, or a path, of which it is not
    looked whether anything is there.

    Args:
        spec: a path; an address, which is fetched; `hf:NAME`; `train-{0000..0009}.tar` or
            `data/*.parquet`.
        tally: counts what stands beside files of rows.

    Raises:
        DataError, ConfigError: what an address or the Hub holds cannot be had, or a file is
            missing.
    """
    if spec.startswith(HUB):
        return hub_parts(spec, tally)
    if is_address(spec):
        path = fetched(spec)
    else:
        parts = parts_of_pattern(spec)
        if parts is not None:
            return parts
        path = Path(spec).expanduser()
    if path.is_dir():
        return parts_of_folder(path, tally) or path
    return path


def existing_place(
    spec: str, built_in: Sequence[str], option: str, tally: Tally
) -> Path | list[Part]:
    """The folder of images, or the files of rows, that `spec` names, given to `option`; see
    `place_of`.

    Raises:
        DataError, ConfigError: it is something else, there is nothing, or it cannot be had.
        UnknownName: there is nothing, and it does not look like a path.
    """
    place = place_of(spec, tally)
    if isinstance(place, list) or place.is_dir():
        return place
    if is_table(place):
        return [Part(place)]
    if place.exists():
        *some, last = SUFFIXES
        expected = f"expected a folder, a {', '.join(some)} or {last} file, tfds:NAME or hf:NAME"
        raise DataError(
            f"'{spec}' is no data source: {expected} for {option}{another_form(place.name)}"
        )
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
    if name.endswith((".gz", ".zip", ".tgz", ".bz2", ".xz", ".7z", ".zst")):
        return "; unpack it first"
    if name.endswith((".xlsx", ".xls", ".ods")):
        return "; save it as .csv"
    if name.endswith(".json"):
        return "; write each element of an array on a line of a .jsonl file"
    return ""
