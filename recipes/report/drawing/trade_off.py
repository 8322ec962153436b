"""A figure of what files cost and what they get right."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from graft.recipes.report.drawing.svg import label_of, names_as_they_are

__all__ = ["draw"]


@names_as_they_are()
def draw(target: Path, rows: Sequence[Mapping]) -> None:
    """Write a PNG: what files are judged by (with its 95 % interval) against latency and against
    size, a point a file.

    `rows` as `graft measure` makes them, each with a figure that is known.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained", dpi=130)
    axes = figure.subplots(1, 2, sharey=True)
    markers = {"tflite": "o", "onnx": "s", "savedmodel": "^"}
    sides = (("latency_ms", 1, "ms for one image, one thread"), ("size_bytes", 1e-6, "MB"))
    for side, (key, scale, label) in zip(axes, sides, strict=True):
        for i, row in enumerate(rows):
            accuracy = 100 * row["accuracy"]
            # The middle of a bootstrap need not hold the figure itself.
            error = [
                [max(0.0, accuracy - 100 * row["low"])],
                [max(0.0, 100 * row["high"] - accuracy)],
            ]
            side.errorbar(
                row[key] * scale,
                accuracy,
                error,
                fmt=markers.get(row["format"], "D"),
                color=f"C{i % 10}",
                capsize=3,
                markersize=7,
                alpha=0.85,
                label=label_of(row["path"]),
            )
        side.set_xscale("log")
        side.xaxis.set_major_formatter("{x:g}")
        side.xaxis.set_minor_formatter("{x:g}")
        side.set_xlabel(label)
        side.grid(alpha=0.25, which="both", linewidth=0.5)
        for edge in ("top", "right"):
            side.spines[edge].set_visible(False)
    axes[0].set_ylabel(f"{', '.join(dict.fromkeys(row['figure'] for row in rows))}, %")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        fontsize="small",
        frameon=False,
    )
    figure.savefig(target)
