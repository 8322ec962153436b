"""Progress bars with the seconds left, on stderr, so that stdout stays for results."""

import contextlib
from collections.abc import Callable, Iterator

__all__ = ["progress", "say", "warn"]


@contextlib.contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar of `total` steps while the body runs; it receives `advance(steps=1, note="")`.

    Where stderr is no terminal (a log file, CI) there is no bar, and each note is a line.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    bar = rich_progress.Progress(
        rich_progress.TextColumn("{task.description:<24}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(title, total=total, note="")

        def advance(steps: int = 1, note: str | None = None) -> None:
            bar.update(task, advance=steps, **({} if note is None else {"note": note}))
            if note is not None and not console.is_terminal:
                console.print(f"{title}: {note}", highlight=False, soft_wrap=True)

        yield advance


def say(text) -> None:
    """Print a line, or anything that rich can draw, to stderr."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(text, soft_wrap=isinstance(text, str))


def warn(text: str) -> None:
    """Print a one-line warning to stderr."""
    from rich.markup import escape

    say(f"[yellow]warning:[/yellow] {escape(text)}")
