"""How text of others (labels, names of files, sentences) is shown, so that it can neither command a
terminal, nor break a line, nor become a formula or a link: one function for each place where text
is read.
"""

import re

__all__ = ["csv_cell", "csv_text", "lines_shown", "markdown", "markdown_code", "one_line", "shown"]

UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
"""Control characters (escape sequences begin with one), ends of lines, what turns the direction of
writing, and halves of surrogate pairs, which file names that are no UTF-8 are made of and no stream
can encode.
"""

NAMED_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

QUOTED_NAME = re.compile(r"'[^']{1,300}'")
"""A name in a message."""

FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet would compute; some take the wide forms of other scripts for
the same.
"""

MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]|~])")


def shown(text: object) -> str:
    r"""`text` on one line, what cannot be seen written as `\n`, `\x1b`, `\u202e`. What was shown
    stays as it is.
    """
    return UNSEEN.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    number = ord(character)
    return NAMED_ESCAPES.get(character) or (
        f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
    )


def one_line(message: object) -> str:
    """A message of ours on one line: ends of lines within quoted names are shown, those between
    words become blanks.
    """
    return shown(" ".join(_with_shown_names(message).split()))


def lines_shown(text: object) -> list[str]:
    """The lines of a text of ours, which may have several; those within quoted names are shown."""
    return [shown(line) for line in _with_shown_names(text).split("\n")]


def _with_shown_names(text: object) -> str:
    return QUOTED_NAME.sub(lambda quoted: shown(quoted[0]), str(text))


def csv_cell(value: object) -> object:
    """`value` for a cell of CSV: before text that a spreadsheet would take for a formula stands an
    apostrophe, as people write it there, and one more before what begins with such an apostrophe.
    Numbers, also as text, stay.
    """
    if not isinstance(value, str) or not value.lstrip("'").startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
        return value
    except ValueError:
        return f"'{value}"


def csv_text(cell: str) -> str:
    """What `csv_cell` was given, from what it gave."""
    return (
        cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(FORMULA_STARTS) else cell
    )


def markdown(text: object) -> str:
    """`text` in a sentence or a cell of Markdown, with nothing in it that formats, links or ends a
    table.
    """
    safe = MARKDOWN_SIGNS.sub(r"\\\1", shown(" ".join(str(text).split())))
    safe = safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Renderers make links of bare addresses too.
    return safe.replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")


def markdown_code(text: object) -> str:
    """`text` between backticks."""
    return shown(" ".join(str(text).split())).replace("`", "'").replace("|", "\u00a6")
