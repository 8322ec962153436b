"""Scenes as COCO writes them."""

import json
from pathlib import Path
from typing import Any

from graft.recipes.data.scenes.masks.outlines import Outline, pixels_of
from graft.recipes.data.scenes.writers.named import NamedScene, link_image, number_shown

__all__ = ["write_coco"]

SIDE_DIGITS = 9
"""Of sides behind the point: with fewer, small boxes would not be read as they were."""


def write_coco(scenes: list[NamedScene], labels: tuple[str, ...], folder: Path) -> None:
    """Write images/SPLIT/ and annotations/instances_SPLIT.json, with outlines where objects have
    some.

    Args:
        scenes: all of them.
        labels: of the boxes; ids of categories count from 1.
        folder: an empty one.
    """
    ids = {label: number for number, label in enumerate(labels, 1)}
    for split in dict.fromkeys(one.split for one in scenes):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for one in scenes:
            if one.split != split:
                continue
            name, (height, width) = one.stem + one.suffix, one.scene.size
            number = len(images) + 1
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for row in _objects(one, ids):
                annotations.append({"id": len(annotations) + 1, "image_id": number, **row})
            link_image(one.scene.image, folder / "images" / split / name)
        categories = [{"id": number, "name": label} for label, number in ids.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        target = folder / "annotations" / f"instances_{split}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(content), encoding="utf-8")


def _objects(one: NamedScene, ids: dict[str, int]) -> list[dict[str, Any]]:
    """The annotations of an image."""
    boxes, mask = one.boxes, one.scene.mask
    outlines = None if mask is None else mask.segmentations()
    rows = []
    for number, label in enumerate(boxes.labels):
        x0, y0, x1, y1 = (float(number_shown(value)) for value in boxes.corners[number].tolist())
        width, height = round(x1 - x0, SIDE_DIGITS), round(y1 - y0, SIDE_DIGITS)
        row: dict[str, Any] = {
            "category_id": ids[label],
            "bbox": [x0, y0, width, height],
            "area": round(width * height, SIDE_DIGITS),
            "iscrowd": int(boxes.crowd[number]),
        }
        if outlines is not None:
            outline = Outline(label, outlines[number], f"'{one.scene.name}', object {number + 1}")
            row["segmentation"] = outlines[number]
            row["area"] = int(pixels_of(outline, one.scene.size).sum())
        rows.append(row)
    return rows
