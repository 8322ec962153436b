"""What all drawn figures share: matplotlib's drawing as an `<svg>` element in the page's
colours.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from graft.zoo.shown import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "WIDTH",
    "label_of",
    "legend_below",
    "names_as_they_are",
    "plain_axes",
    "svg_of",
]

COLOURS = {"ink": "#010203", "muted": "#020304", "line": "#030405", "band": "#040506"} | {
    "train": "#050607",
    "validation": "#060708",
}
"""Stand-ins that matplotlib draws with; in the SVG each becomes `var(--name)`, so that one figure
serves both the light and the dark page.
"""

WIDTH, HEIGHT = 480, 300
"""Of a curve, in CSS pixels at its natural size."""


@contextlib.contextmanager
def names_as_they_are() -> Iterator[None]:
    """Names of files and models hold dollars that begin no formula; for what is drawn meanwhile."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def label_of(name: str) -> str:
    """`name` in a legend, which leaves out what begins with an underscore."""
    return f" {shown(name)}" if name.startswith("_") else shown(name)


def legend_below(figure: "Figure") -> None:
    """Write the legend below the axes, three names a line."""
    figure.legend(
        loc="outside lower center",
        ncols=3,
        frameon=False,
        labelcolor=COLOURS["ink"],
        handlelength=3.2,
    )


def plain_axes(axes: "Axes") -> None:
    """Leave horizontal lines, the axis at the bottom and its labels."""
    axes.grid(axis="y", color=COLOURS["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=COLOURS["line"], labelcolor=COLOURS["ink"])
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLOURS["muted"])


def svg_of(name: str, draw: Callable[["Figure", "Axes"], None]) -> str:
    """What `draw` draws, as an `<svg>` element; `name` begins its ids."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 13,
        "font.family": "DejaVu Sans",
    }
    # Names may hold "$" or letters that the drawing font lacks; the browser has the fonts, and
    # shows them as they are.
    style |= {"text.parse_math": False, "axes.formatter.useoffset": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure, figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None},
        )
    return _inlined(buffer.getvalue(), name)


def _inlined(svg: str, name: str) -> str:
    """Only the `<svg>` element: page colours, ids of its own, no style rules that would leak into
    the page.
    """
    svg = svg[svg.index("<svg") :]
    name = re.sub(r"[^\w-]", "-", name)  # it may be that of a column of history.csv
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for key, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{key})")
    return svg
