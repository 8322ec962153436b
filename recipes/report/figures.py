"""The drawn parts of a report: curves as inline SVG, pictures and heat maps as data URIs, the
confusion matrix as cells.
"""

import base64
import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graft.zoo.shown import shown

__all__ = [
    "Picture",
    "confusion_table",
    "curve",
    "feature_map",
    "heat_picture",
    "histogram",
    "hottest_place",
    "label_of",
    "names_as_they_are",
    "picture",
    "sweep",
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

SMALL = 64
"""Pictures up to this side are kept pixel by pixel; larger ones become JPEG."""

LONGEST_COLUMN_LABEL = 32
"""Letters; when a label is longer, the columns of a confusion matrix bear the numbers of the rows
instead.
"""


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: its data URI, and its width and height in pixels."""

    uri: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that the browser should enlarge it without smoothing."""
        return max(self.width, self.height) <= SMALL


def picture(image: np.ndarray, side: int) -> Picture:
    """`image` uint8 `(h, w, 3)`, made smaller until its longer side is at most `side` pixels."""
    from PIL import Image

    pixels = Image.fromarray(np.ascontiguousarray(image))
    if max(pixels.size) <= SMALL:
        return _encoded(pixels, "PNG")
    pixels.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encoded(pixels, "JPEG")


def heat_picture(image: np.ndarray, heat: np.ndarray, side: int) -> Picture:
    """`heat` `(h', w')` in [0, 1] laid over `image` uint8 `(h, w, 3)`: grey where it is 0, bright
    where it is 1.
    """
    import matplotlib
    from PIL import Image

    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    grey = (
        Image.fromarray(np.ascontiguousarray(image))
        .convert("L")
        .resize(size, Image.Resampling.BICUBIC)
    )
    heat = np.nan_to_num(np.asarray(heat, "float32")).clip(0, 1)
    fine = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    # inferno rises evenly in brightness, so the map also reads without colour.
    colours = matplotlib.colormaps["inferno"](fine)[..., :3] * 255
    share = (0.15 + 0.5 * fine)[..., None]
    mixed = np.asarray(grey, "float32")[..., None] * (1 - share) * 0.8 + colours * share
    return _encoded(Image.fromarray(mixed.clip(0, 255).astype("uint8")), "JPEG")


def hottest_place(heat: np.ndarray) -> str:
    """Where `heat` `(h, w)` is highest, in words: "upper left", "centre", "lower right", ...;
    "nowhere" if all 0.
    """
    heat = np.nan_to_num(np.asarray(heat))
    if not heat.any():
        return "nowhere"
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    down = ("upper", "middle", "lower")[int(3 * (row + 0.5) / heat.shape[0])]
    across = ("left", "centre", "right")[int(3 * (column + 0.5) / heat.shape[1])]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"


def curve(
    name: str,
    train: Sequence[float],
    validation: Sequence[float],
    phases: Sequence[str],
    percent: bool,
    kept: int | None = None,
) -> str:
    """One quantity against the epoch, as an `<svg>` element that takes its colours from the page.

    `train` and `validation` hold a value an epoch (NaN where none was measured), `phases` the phase
    of each epoch. `name` keeps the ids of this figure apart from those of others on the page.
    `percent` shows 0..1 as 0..100 %. `kept` is the epoch, from 1, to be marked as the one that was
    kept.
    """

    def draw(figure, axes):
        _lines(axes, train, validation)
        _bands(axes, phases)
        if kept is not None:
            axes.axvline(kept, color=COLOURS["ink"], linewidth=1.5, label="kept", zorder=1)
        _frame(axes, len(phases), percent)
        figure.legend(
            loc="outside lower center",
            ncols=3,
            frameon=False,
            labelcolor=COLOURS["ink"],
            handlelength=3.2,
        )

    return _drawn(name, draw)


def sweep(
    name: str, rates: Sequence[float], losses: Sequence[float], suggested: float | None
) -> str:
    """The loss against the learning rate, as an `<svg>` element; `suggested` is marked."""

    def draw(figure, axes):
        from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

        axes.plot(rates, losses, color=COLOURS["train"], linewidth=2)
        if suggested is not None:
            axes.axvline(suggested, color=COLOURS["validation"], linewidth=2, linestyle=(0, (4, 2)))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-").replace("e+00", ""))
        )
        axes.minorticks_off()
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_xlabel("learning rate", color=COLOURS["ink"])
        _plain(axes)

    return _drawn(name, draw)


def histogram(name: str, counts: Mapping[str, Sequence[int]], unit: str, share: str) -> str:
    """The share of the examples at each value, as an `<svg>` element; `counts[split][value]`. One
    line a split.
    """

    def draw(figure, axes):
        longest = max(map(len, counts.values()))
        width = max(1, -(-longest // 40))
        edges = np.arange(0, longest + width, width)
        for (split, values), style in zip(
            counts.items(), (("train", "-"), ("validation", "--"), ("ink", ":")), strict=False
        ):
            places = np.repeat(np.arange(len(values)), values)
            shares, _ = np.histogram(places, edges)
            colour, line = style
            axes.stairs(
                shares / max(1, len(places)),
                edges,
                color=COLOURS[colour],
                linewidth=2,
                linestyle=line,
                label=split,
            )
        axes.set_xlabel(unit, color=COLOURS["ink"])
        axes.set_ylabel(share, color=COLOURS["ink"])
        _plain(axes)
        figure.legend(
            loc="outside lower center",
            ncols=3,
            frameon=False,
            labelcolor=COLOURS["ink"],
            handlelength=3.2,
        )

    return _drawn(name, draw)


def feature_map(name: str, places: np.ndarray, domain: np.ndarray, label: np.ndarray) -> str:
    """Examples of two domains in a plane, `(n, 2)`: dots of the source, rings of the target; a
    colour a label.
    """

    def draw(figure, axes):
        from matplotlib import colormaps

        colours = np.array(
            [(*colormaps["tab10"](i % 10)[:3], 1.0) for i in range(max(label) + 1)]
            + [(0.6, 0.6, 0.6, 1.0)]
        )
        for side, face in ((0, True), (1, False)):
            rows = domain == side
            shown = colours[label[rows]]
            axes.scatter(
                *places[rows].T,
                s=9,
                linewidths=0.8,
                edgecolors=shown,
                facecolors=shown if face else "none",
                label=("source", "target")[side],
            )
        axes.set_axis_off()
        axes.margins(0.03)

    return _drawn(name, draw)


def _drawn(name: str, draw: Callable) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {
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


def confusion_table(matrix: np.ndarray, labels: Sequence[str], most: int) -> dict:
    """`matrix` int `(n, n)`, `[truth][prediction]`, as rows of cells `(count, share of the row, is
    the diagonal)`.

    With more than `most` labels, only those that have most to do with mistakes. "pairs" are the
    most frequent confusions, at most ten, or thirty where not all labels are shown; "named" is
    whether the labels are short enough to stand above their columns, "upright" whether they need to
    be turned.
    """
    totals = matrix.sum(1)
    wrong = matrix - np.diag(np.diag(matrix))
    shown = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:most])
    rows = [
        {
            "label": labels[i],
            "number": int(i) + 1,
            "cells": [
                (int(matrix[i, j]), float(matrix[i, j] / max(1, totals[i])), bool(i == j))
                for j in shown
            ],
        }
        for i in shown
    ]
    order = np.argsort(-wrong, axis=None, kind="stable")[: 10 if len(labels) <= most else 30]
    # Confusions that happened once say little, unless there are no others.
    pairs = [
        {
            "truth": labels[i],
            "predicted": labels[j],
            "count": int(wrong[i, j]),
            "of": int(totals[i]),
        }
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j] >= min(2, wrong.max()) > 0
    ]
    longest = max(len(labels[i]) for i in shown)
    sums = {"examples": int(totals.sum()), "wrong": int(wrong.sum()), "all": len(labels)}
    columns = {"named": longest <= LONGEST_COLUMN_LABEL, "upright": longest > 3}
    return {"rows": rows, "pairs": pairs, **columns, **sums}


def _lines(axes, train: Sequence[float], validation: Sequence[float]) -> None:
    epochs = np.arange(1, len(train) + 1)
    marks = len(train) <= 40
    for values, key, line, mark, size in (
        (train, "train", "-", "o", 4),
        (validation, "validation", (0, (4, 2)), "s", 4),
    ):
        if not np.all(np.isnan(values)):
            label = "training" if key == "train" else key
            axes.plot(
                epochs,
                values,
                color=COLOURS[key],
                linestyle=line,
                linewidth=2,
                label=label,
                marker=mark if marks else None,
                markersize=size,
            )


def _bands(axes, phases: Sequence[str]) -> None:
    """Shade every other phase and write its name above it, or its number where the name is too
    long.
    """
    starts = [i for i, phase in enumerate(phases) if i == 0 or phase != phases[i - 1]]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(phases)], strict=True), 1):
        if number % 2 == 0:
            axes.axvspan(start + 0.5, end + 0.5, color=COLOURS["band"], linewidth=0, zorder=0)
        if start:
            axes.axvline(start + 0.5, color=COLOURS["muted"], linewidth=1, linestyle=":")
        room = (end - start) / len(phases) * (WIDTH - 60)
        text = next((t for t in (phases[start], str(number)) if len(t) * 8 <= room), "")
        middle = (start + end + 1) / 2
        where = axes.get_xaxis_transform()
        axes.text(
            middle,
            1.02,
            text,
            transform=where,
            ha="center",
            va="bottom",
            color=COLOURS["muted"],
            fontsize=12,
        )


def _frame(axes, epochs: int, percent: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0.5, max(epochs, 1) + 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02) if percent else low, min(high, 1.02) if percent else high)
    axes.set_xlabel("epoch", color=COLOURS["ink"])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    _plain(axes)


@contextlib.contextmanager
def names_as_they_are() -> Iterator[None]:
    """Names of files and models hold dollars that begin no formula; for what is drawn meanwhile."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def label_of(name: str) -> str:
    """`name` in a legend, which leaves out what begins with an underscore."""
    return f" {shown(name)}" if name.startswith("_") else shown(name)


def _plain(axes) -> None:
    axes.grid(axis="y", color=COLOURS["line"], linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(colors=COLOURS["line"], labelcolor=COLOURS["ink"])
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLOURS["muted"])


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


def _encoded(pixels, kind: str) -> Picture:
    buffer = io.BytesIO()
    settings = {"quality": 80} if kind == "JPEG" else {"optimize": True}
    pixels.save(buffer, kind, **settings)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind.lower()};base64,{code}", *pixels.size)
