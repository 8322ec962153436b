"""Scenes as YOLO writes them."""

from pathlib import Path

import numpy as np

from graft.recipes.data.scenes.writers.named import NamedScene, link_image
from graft.zoo.terminal import warn

__all__ = ["write_yolo"]


def write_yolo(scenes: list[NamedScene], labels: tuple[str, ...], folder: Path) -> None:
    """Write images/SPLIT/, labels/SPLIT/ and data.yaml. Crowds are left out, with a warning: there
    is no place for them.

    Args:
        scenes: all of them.
        labels: of the boxes; numbers of classes count from 0.
        folder: an empty one.
    """
    import yaml

    numbers = {label: number for number, label in enumerate(labels)}
    for one in scenes:
        link_image(one.scene.image, folder / "images" / one.split / (one.stem + one.suffix))
        target = folder / "labels" / one.split / f"{one.stem}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(_lines(one, numbers)), encoding="utf-8")
    splits = {split: f"images/{split}" for split in dict.fromkeys(one.split for one in scenes)}
    content = {**splits, "nc": len(labels), "names": list(labels)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    crowds = [one for one in scenes if one.boxes.crowd.any()]
    if crowds:
        count = sum(int(one.boxes.crowd.sum()) for one in crowds)
        warn(f"{count:,} crowds are left out, which YOLO has no place for: {crowds[0].scene.name}")


def _lines(one: NamedScene, numbers: dict[str, int]) -> list[str]:
    """A line for each box: the class, the centre and the sides as shares of the image."""
    height, width = one.scene.size
    boxes = one.boxes
    x0, y0, x1, y1 = boxes.corners.astype(np.float64).T / [[width], [height], [width], [height]]
    shares = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)
    return [
        f"{numbers[label]} {' '.join(f'{share:.12g}' for share in row)}\n"
        for label, row, is_crowd in zip(boxes.labels, shares, boxes.crowd, strict=True)
        if not is_crowd
    ]
