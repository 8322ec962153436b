"""What a report shows of examples: images and heat maps as data URIs, histograms and maps as inline
SVG, the confusion matrix as cells.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.recipes.report.drawing.svg import COLOURS, legend_below, plain_axes, svg_of
from graft.zoo.image_modes import as_pillow, to_mode

if TYPE_CHECKING:
    import PIL.Image
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Thumbnail",
    "confusion_table",
    "feature_map",
    "heat_thumbnail",
    "histogram",
    "hottest_place",
    "thumbnail",
]

SMALL = 64
"""Images up to this side are kept pixel by pixel; larger ones become JPEG."""

LONGEST_COLUMN_LABEL = 32
"""Letters; when a label is longer, the columns of a confusion matrix bear the numbers of the rows
instead.
"""


@dataclass(frozen=True)
class Thumbnail:
    """An image inside the page: its data URI, and its width and height in pixels."""

    uri: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that the browser should enlarge it without smoothing."""
        return max(self.width, self.height) <= SMALL


def thumbnail(image: np.ndarray, side: int) -> Thumbnail:
    """`image` uint8 `(h, w, channels)`, made smaller until its longer side is at most `side`
    pixels.
    """
    from PIL import Image

    pixels = as_pillow(image)
    if max(pixels.size) <= SMALL:
        return _encoded(pixels, "PNG")
    pixels = to_mode(pixels, "RGB")  # JPEG has no transparency
    pixels.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _encoded(pixels, "JPEG")


def heat_thumbnail(image: np.ndarray, heat: np.ndarray, side: int) -> Thumbnail:
    """`heat` `(h', w')` in [0, 1] laid over `image` uint8 `(h, w, channels)`: grey where it is 0,
    bright where it is 1.
    """
    import matplotlib
    from PIL import Image

    scale = side / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    grey = to_mode(as_pillow(image), "L").resize(size, Image.Resampling.BICUBIC)
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


def histogram(name: str, counts: Mapping[str, Sequence[int]], unit: str, share: str) -> str:
    """The share of the examples at each value, as an `<svg>` element; `counts[split][value]`. One
    line a split.
    """

    def draw(figure: "Figure", axes: "Axes") -> None:
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
        plain_axes(axes)
        legend_below(figure)

    return svg_of(name, draw)


def feature_map(name: str, places: np.ndarray, domain: np.ndarray, label: np.ndarray) -> str:
    """Examples of two domains in a plane, `(n, 2)`: dots of the source, rings of the target; a
    colour a label.
    """

    def draw(figure: "Figure", axes: "Axes") -> None:
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

    return svg_of(name, draw)


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


def _encoded(pixels: "PIL.Image.Image", kind: str) -> Thumbnail:
    buffer = io.BytesIO()
    settings: dict[str, Any] = {"quality": 80} if kind == "JPEG" else {"optimize": True}
    pixels.save(buffer, kind, **settings)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/{kind.lower()};base64,{code}", *pixels.size)
