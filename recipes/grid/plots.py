"""The figures of a grid: what was reached against training time, latency and size, seeds as
intervals, the front drawn.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graft.recipes.grid import rows
from graft.recipes.grid.analysis import Group, front, interval
from graft.recipes.grid.plan import BASELINE
from graft.recipes.report.drawing.svg import label_of, names_as_they_are

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "draw_labels"]

MARKERS = "oDs^vPX*<>"
GREY = "#54606e"
APART = 1.03


@names_as_they_are()
def draw(
    target: Path, found: Sequence[Group], measure: str, latency: str | None, size: str | None
) -> None:
    """Write a PNG for `found`, the groups with all labels. Colours are backbones, marks are
    schedules; the figures are those of validation data, by which one chooses.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    costs: list[tuple[str, Callable[[Group], float | None]]] = []
    if latency:
        costs.append((f"ms, {_file(latency)}", lambda g: g.figure(latency)))
    if size:
        costs.append((f"MB, {_file(size)}", lambda g: g.figure(size) and g.figure(size) / 1e6))
    figure = Figure(figsize=(5.0 + 2.8 * len(costs), 4.7), layout="constrained", dpi=180)
    axes = figure.subplots(
        1, 1 + len(costs), sharey=True, squeeze=False, width_ratios=[1.5] + [1] * len(costs)
    )[0]
    backbones = sorted({g.backbone for g in found})
    schedules = sorted({g.schedule for g in found})
    colour = {name: f"C{i % 10}" for i, name in enumerate(backbones)}
    mark = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(schedules)}
    for group in found:
        _curve(axes[0], group, colour[group.backbone], mark[group.schedule])
    _front(axes[0], found, lambda g: g.time)
    _frame(axes[0], "seconds of training")
    axes[0].set_ylabel(f"validation {measure}, best so far, %")
    for side, (label, cost) in zip(axes[1:], costs, strict=True):
        priced = [g for g in found if cost(g) is not None]
        _front(side, priced, cost)
        for group in priced:
            # Schedules of one backbone cost the same: side by side they can be told apart.
            place = cost(group) * APART ** (
                schedules.index(group.schedule) - (len(schedules) - 1) / 2
            )
            low, high = 100 * group.validation.low, 100 * group.validation.high
            middle = 100 * group.validation.mean
            side.errorbar(
                place,
                middle,
                [[middle - low], [high - middle]],
                fmt=mark[group.schedule],
                markersize=7,
                capsize=3,
                color=colour[group.backbone],
                alpha=0.85,
            )
        _frame(side, label)
    handles = [
        Line2D([], [], color=colour[name], linewidth=3, label=label_of(name)) for name in backbones
    ]
    handles += [
        Line2D([], [], color=GREY, marker=mark[name], linestyle="", label=label_of(name))
        for name in schedules
    ]
    handles.append(Line2D([], [], color=GREY, linewidth=1, linestyle="--", label="front"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(5, len(handles)),
        fontsize="small",
        frameon=False,
    )
    figure.savefig(target)


@names_as_they_are()
def draw_labels(target: Path, found: Sequence[Group], measure: str) -> None:
    """Write a PNG of learning curves: test figures against the share of the labels, of scratch and
    of the best transfer schedule (by validation) of each backbone that has several shares, with the
    range over the seeds.
    """
    from matplotlib.figure import Figure

    partly = {group.backbone for group in found if group.fraction < 1}
    best: dict[tuple[str, str, float], Group] = {}
    for group in (group for group in found if group.backbone in partly):
        kind = BASELINE if group.schedule == BASELINE else "transfer"
        rival = best.get((group.backbone, kind, group.fraction))
        if rival is None or group.validation.mean > rival.validation.mean:
            best[group.backbone, kind, group.fraction] = group
    figure = Figure(figsize=(7.4, 4.7), layout="constrained", dpi=180)
    axes = figure.subplots()
    backbones = sorted({backbone for backbone, _, _ in best})
    for i, backbone in enumerate(backbones):
        for kind, line, mark in (("transfer", "-", "o"), (BASELINE, ":", "s")):
            groups = [best[key] for key in sorted(best) if key[:2] == (backbone, kind)]
            middle = [100 * g.test.mean for g in groups]
            spread = [
                [100 * (g.test.mean - g.test.low) for g in groups],
                [100 * (g.test.high - g.test.mean) for g in groups],
            ]
            axes.errorbar(
                [100 * g.fraction for g in groups],
                middle,
                spread,
                fmt=mark,
                linestyle=line,
                color=f"C{i % 10}",
                capsize=3,
                label=label_of(f"{backbone}, {kind}"),
                alpha=0.85,
            )
    _frame(axes, "share of the training labels, %")
    shares = sorted({100 * fraction for _, _, fraction in best})
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.set_xticks([], minor=True)
    axes.set_ylabel(f"test {measure}, %")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    figure.savefig(target)


def _curve(axes: "Axes", group: Group, colour: str, mark: str) -> None:
    """The best figure so far, as steps: the mean over the seeds from where all have one, and their
    range at the end.
    """
    curves = [rows.curve_of(row) for row in group.rows]
    curves = [curve for curve in curves if curve]
    if not curves:
        return
    times = np.unique([at for curve in curves for at, _ in curve])
    reached = np.array(
        [[rows.best_until(curve, at) for at in times] for curve in curves], float
    )  # None becomes NaN
    axes.step(times, 100 * reached.mean(0), where="post", color=colour, linewidth=1.3, alpha=0.8)
    end = interval(100 * reached[:, -1])
    axes.errorbar(
        times[-1],
        end.mean,
        [[end.mean - end.low], [end.high - end.mean]],
        fmt=mark,
        color=colour,
        markersize=7,
        capsize=3,
        alpha=0.85,
    )


def _front(axes: "Axes", found: Sequence[Group], cost: Callable[[Group], float | None]) -> None:
    """A line through those that nothing cheaper beats."""
    best = front(found, cost)
    heights = [100 * g.validation.mean for g in best]
    axes.step(
        [cost(g) for g in best],
        heights,
        where="post",
        color=GREY,
        linewidth=1,
        linestyle="--",
        zorder=1,
    )


def _file(column: str) -> str:
    """ "tflite_int8_ms" -> "tflite int8"."""
    return column.rsplit("_", 1)[0].replace("_", " ")


def _frame(axes: "Axes", label: str) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(label)
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
