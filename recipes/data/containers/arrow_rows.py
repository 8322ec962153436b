"""Rows of Parquet, Arrow and Feather files, as those of other tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.recipes.data.containers.arrow_files import (
    ArrowFile,
    ImageColumn,
    ParquetFile,
    open_arrow,
)
from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.columns import ROLES, TableRow, match_columns, missing_column
from graft.zoo.contents import Packed
from graft.zoo.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_rows"]

NOT_KNOWN = -1
"""The number of the class of an example whose label is kept secret."""
PATH = "path"
"""What the column of images is called where nobody says otherwise."""


def arrow_rows(
    path: Path, columns: Sequence[str], tally: Tally, image_column: str | None = None
) -> Iterator[TableRow]:
    """The rows of the file `path`; see `rows.read_rows`. Only the columns that are asked for are
    read, a stretch of rows at a time.

    Where a column holds images themselves (as bytes, or as Hugging Face keeps them), a cell is a
    `Packed` that is read when it is needed; where there is one such column it is the one that is
    asked for as "path", whatever it is called. Numbers of classes become their names.

    Raises:
        DataError: a column that is not there, a damaged file.
    """
    import pyarrow as pa

    file = open_arrow(path)
    plan = _plan(path, file, columns, tally, image_column)
    reader = ImageColumn(path.absolute(), plan.images) if plan.images else None
    number = 0
    try:
        for batch in file.batches(list(plan.read)):
            cells = {asked: _values(batch, name, plan) for name, asked in plan.read.items()}
            for i in range(len(batch)):
                row = TableRow(path, f"row {number}", {name: cells[name][i] for name in cells})
                if reader is not None and (plan.is_filled or row[plan.image_name] is True):
                    row[plan.image_name] = Packed(path, row.place, number, 0, reader, reader.column)
                number += 1
                if _named(row, plan.classes, tally):
                    yield row
    except (pa.lib.ArrowException, OSError) as error:
        raise DataError(
            f"'{path}', row {number}: it is damaged ({error}): fetch or write it again"
        ) from error


@dataclass(frozen=True)
class _Plan:
    """What is read of a file.

    Attributes:
        read: the columns that are read -> what they are called by who asks.
        classes: names of classes by what the column is called by who asks.
        images: the column that holds images themselves, "" if none does.
        image_name: what it is called by who asks.
        is_filled: whether each of its cells is known to hold one.
    """

    read: Mapping[str, str]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    images: str = ""
    image_name: str = ""
    is_filled: bool = False


def _plan(
    path: Path,
    file: ParquetFile | ArrowFile,
    columns: Sequence[str],
    tally: Tally,
    image_column: str | None,
) -> _Plan:
    names = list(file.schema.names)
    matched = match_columns(names, columns, tally)
    called = {name: matched.get(name, name) for name in names}
    holding = [name for name in names if _holds_images(file.schema.field(name).type)]
    if image_column == PATH and PATH not in called.values() and len(holding) == 1:
        called[holding[0]] = PATH
    lacking = next((name for name in columns if name not in called.values()), None)
    if lacking is not None and (lacking == image_column or lacking in ROLES):
        row = TableRow(path, "row 0", dict.fromkeys(called.values()))
        role = PATH if lacking == image_column else lacking
        raise missing_column(row, lacking, role)
    # A column of other tasks may be missing: who asks says so, with the names of the others.
    every = lacking is not None
    read = {n: c for n, c in called.items() if c in (*columns, "split") or (every and n != "")}
    features = _features(file.schema)
    classes = {c: found for n, c in read.items() if (found := _class_names(features.get(n)))}
    image = next((n for n in holding if called[n] == image_column), "")
    if not image:
        return _Plan(read, classes)
    filled = file.is_filled(image)
    if filled:
        read.pop(image)
    return _Plan(read, classes, image, called[image], filled)


def _holds_images(kind: "pa.DataType") -> bool:
    """Whether a column of this type holds bytes, alone or beside a path."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        names = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return "bytes" in names and _holds_images(names["bytes"])
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _values(batch: "pa.RecordBatch", name: str, plan: _Plan) -> list[Any]:
    """The cells of a column; of images themselves True, or the path in its place."""
    import pyarrow as pa

    column = batch.column(name)
    if name != plan.images:
        return [_text(value) for value in column.to_pylist()]
    if not pa.types.is_struct(column.type):
        return [value or None for value in column.is_valid().to_pylist()]
    there = column.field("bytes").is_valid().to_pylist()
    paths = [None] * len(there)
    if "path" in {column.type.field(i).name for i in range(column.type.num_fields)}:
        paths = column.field("path").to_pylist()
    return [True if is_there else path for is_there, path in zip(there, paths, strict=True)]


def _text(value: Any) -> Any:
    """A cell with texts where there were bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_text(part) for part in value] if isinstance(value, list) else value


def _features(schema: "pa.Schema") -> Mapping[str, Any]:
    """What Hugging Face's `datasets` wrote of the columns, by name."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        found = noted.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _class_names(feature: Any) -> Sequence[str]:
    """The names of the classes of a feature, or of the elements of its lists; none if it has
    none.
    """
    if isinstance(feature, list) and len(feature) == 1:
        return _class_names(feature[0])
    if not isinstance(feature, dict):
        return ()
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return [str(name) for name in names]
    return _class_names(feature.get("feature"))


def _named(row: TableRow, classes: Mapping[str, Sequence[str]], tally: Tally) -> bool:
    """Put the names of classes in the place of their numbers; whether the row is read."""
    for column, names in classes.items():
        value = row[column]
        if value == NOT_KNOWN:
            tally.leave("without a label", row.place)
            return False
        if isinstance(value, list):
            row[column] = [_name_of(row, column, part, names) for part in value]
        elif value is not None:
            row[column] = _name_of(row, column, value, names)
    return True


def _name_of(row: TableRow, column: str, value: Any, names: Sequence[str]) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise row.error(
            f"the column '{column}' holds {value}, but the file has names for {len(names)} classes"
        )
    return names[value]
