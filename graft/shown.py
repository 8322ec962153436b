"""How objects of the public face show themselves: as text, and as a table in a notebook."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["Rows", "html_table", "text_table"]


class Rows(list):
    """Rows of a table, dicts with the same keys; a list that shows itself."""

    def __repr__(self) -> str:
        return text_table(self)

    def _repr_html_(self) -> str:
        return html_table(self)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def text_table(rows: Sequence[Mapping]) -> str:
    """Rows with aligned columns; the columns are the keys of the first."""
    if not rows:
        return "(nothing)"
    lines = [list(rows[0]), *([_cell(row.get(key)) for key in rows[0]] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def html_table(rows: Sequence[Mapping]) -> str:
    """The same for a notebook."""
    if not rows:
        return "<i>nothing</i>"
    head = "".join(f"<th>{escape(str(key))}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(row.get(key)))}</td>" for key in rows[0]) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
