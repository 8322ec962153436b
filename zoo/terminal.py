"""What the terminal shows: results on stdout, progress bars with the seconds left and warnings on
stderr. Labels, names of files and texts are anybody's: here they become visible characters, and
nothing in them commands the terminal.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from graft.zoo.shown import lines_shown, one_line, shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = [
    "draw",
    "json_shown",
    "progress",
    "say",
    "say_next",
    "settle_terminal",
    "table_row",
    "tell",
    "tell_row",
    "time_shown",
    "warn",
]

MIN_COLUMNS = 40
MAX_COLUMNS = 1000
"""Columns of a terminal that is drawn on; in fewer, tables and bars find no place and libraries
search for it forever.
"""
LOG_SECONDS = 30
"""Of silence in a log, until a line says how far it is."""
UNSEEN_IN_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def settle_terminal() -> None:
    """For a whole process: characters that stdout and stderr cannot encode are replaced, and no
    library sees a terminal that is too narrow to draw on.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    columns = shutil.get_terminal_size().columns
    if "COLUMNS" in os.environ or columns < MIN_COLUMNS:
        os.environ["COLUMNS"] = str(min(max(columns, MIN_COLUMNS), MAX_COLUMNS))


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar of `total` steps while the body runs; it receives `advance(steps=1, note="")`.

    Where stderr is no terminal (a log file, CI) there is no bar: each note is a line, and every
    `LOG_SECONDS` one says how far it is and how long the rest may take.
    """
    from rich import progress as rich_progress

    console, title = _console(sys.stderr), shown(title)
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description:<24}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        # What goes into a file is a result, wherever the bar is drawn.
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task(title, total=total, note="")
        begin = said = time.monotonic()
        done = 0

        def advance(steps: int = 1, note: str | None = None) -> None:
            nonlocal done, said
            done += steps
            if console.is_terminal:
                fields: dict[str, Any] = {} if note is None else {"note": shown(note)}
                bar.update(task, advance=steps, **fields)
                return
            now, far = time.monotonic(), ""
            if now - said >= LOG_SECONDS and 0 < done < total:
                left = time_shown((now - begin) * (total - done) / done)
                far, said = f"{done:,.0f} of {total:,}, about {left} left", now
            if note is not None:
                _line(console, f"{title}: {shown(note)}{far and f' ({far})'}")
            elif far:
                _line(console, f"{title}: {far}")

        yield advance


def time_shown(seconds: float) -> str:
    """ "40 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def say_next(*words: object) -> None:
    """Say the command that comes next: the last line of a command that is done."""
    say(f"next: {shlex.join(map(str, words))}")


def say(text: "str | RenderableType") -> None:
    """Print a line, or anything that rich can draw, to stderr."""
    console = _console(sys.stderr)
    if isinstance(text, str):
        _line(console, text)
    else:
        console.print(text)


def warn(text: str) -> None:
    """Print a one-line warning to stderr."""
    _line(_console(sys.stderr), one_line(text), "warning:")


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print the lines of `text`, results, to stdout (or another stream)."""
    print("\n".join(lines_shown(text)), file=stream, flush=True)


def tell_row(*cells: object) -> None:
    """Print a line of results to stdout, its cells separated by tabs."""
    print("\t".join(map(shown, cells)), flush=True)


def draw(table: "Table") -> None:
    """Print a table of results to stdout."""
    _console(sys.stdout, None if sys.stdout.isatty() else 160).print(table)


def table_row(table: "Table", *cells: object) -> None:
    """Add a row to `table`, text as it is: rich would read `[red]` in it as a command."""
    from rich.text import Text

    table.add_row(*(Text(shown(cell)) for cell in cells))


def json_shown(content: object, indent: int | None = 2) -> str:
    """`content` as JSON for stdout: readable where its encoding has the characters, and nothing in
    it commands it.
    """
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    text = json.dumps(content, indent=indent, ensure_ascii=not encoding.startswith("utf"))
    return UNSEEN_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _line(console: "Console", text: str, before: str = "") -> None:
    """Print each line of `text` as it is, behind a yellow word."""
    from rich.text import Text

    lines = [Text(line) for line in lines_shown(text)]
    start = Text.assemble((before, "yellow"), " ") if before else Text()
    console.print(start + Text("\n").join(lines), soft_wrap=True)


def _console(stream: TextIO, width: int | None = None) -> "Console":
    from rich.console import Console

    console = Console(file=stream, width=width, highlight=False)
    console.width = min(max(console.width, MIN_COLUMNS), MAX_COLUMNS)
    return console
