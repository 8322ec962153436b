"""Tables of JSON lines: an object on each line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graft.recipes.data.reading import Tally
from graft.recipes.data.tables.columns import TableRow, match_columns
from graft.recipes.data.tables.text_files import error_at, iterate_lines

__all__ = ["json_rows"]


def json_rows(path: Path, columns: Sequence[str], tally: Tally) -> Iterator[TableRow]:
    """The rows of the file `path`; see `rows.read_rows`."""
    matched: dict[tuple[str, ...], dict[str, str]] = {}
    for line, content in enumerate(iterate_lines(path), 1):
        if not content.strip():
            continue
        cells = _json_object(path, line, content.removesuffix("\n").removesuffix("\r"))
        keys = tuple(cells)
        if keys not in matched:
            matched[keys] = match_columns(keys, columns, tally if not matched else Tally())
        names = matched[keys]
        yield TableRow(path, line, {names.get(key, key): cells[key] for key in keys})


def _json_object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        is_opened = text.strip() in ("{", "[")
        whole = ", and JSON lines have one whole object on each line" if is_opened else ""
        raise error_at(path, line, f"not JSON ({error}){whole}") from error
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise error_at(path, line, "half a character, as of an emoji that was cut") from error
    if not isinstance(found, dict):
        is_array = isinstance(found, list)
        hint = "; of an array, write each element on a line of its own" if is_array else ""
        raise error_at(path, line, f"expected a JSON object, got {text.strip()[:40]}{hint}")
    return found


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' stands twice")
    return made
