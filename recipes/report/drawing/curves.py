"""Curves of a training: a quantity against the epoch, the loss against the learning rate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.report.drawing.svg import COLOURS, WIDTH, legend_below, plain_axes, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curve", "sweep"]


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

    def draw(figure: "Figure", axes: "Axes") -> None:
        _lines(axes, train, validation)
        _bands(axes, phases)
        if kept is not None:
            axes.axvline(kept, color=COLOURS["ink"], linewidth=1.5, label="kept", zorder=1)
        _frame(axes, len(phases), percent)
        legend_below(figure)

    return svg_of(name, draw)


def sweep(
    name: str, rates: Sequence[float], losses: Sequence[float], suggested: float | None
) -> str:
    """The loss against the learning rate, as an `<svg>` element; `suggested` is marked."""

    def draw(figure: "Figure", axes: "Axes") -> None:
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
        plain_axes(axes)

    return svg_of(name, draw)


def _lines(axes: "Axes", train: Sequence[float], validation: Sequence[float]) -> None:
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


def _bands(axes: "Axes", phases: Sequence[str]) -> None:
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


def _frame(axes: "Axes", epochs: int, percent: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0.5, max(epochs, 1) + 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -0.02) if percent else low, min(high, 1.02) if percent else high)
    axes.set_xlabel("epoch", color=COLOURS["ink"])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    plain_axes(axes)
