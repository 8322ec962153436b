"""The templates of pages: one way to fill them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page_templates"]

REPORT = Path(__file__).parents[1]
"""Where the style is that all pages share."""


def page_templates(*folders: Path, escape: bool = True) -> "Environment":
    """The templates in `folders` and those of a report.

    Args:
        *folders: looked at first.
        escape: whether what is filled in is text of a page; of Markdown each value says it by a
            filter.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([*folders, REPORT]),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
