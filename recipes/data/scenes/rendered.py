"""The built-in scenes `shapes` as records."""

from dataclasses import dataclass

import numpy as np

from graft.recipes.data.builtin import shapes
from graft.recipes.data.builtin.shapes import RenderedScene
from graft.recipes.data.records import Source
from graft.recipes.data.scenes.masks.mask_files import BACKGROUND, MaskFile
from graft.recipes.data.scenes.masks.outlines import Segmentation, runs_of
from graft.recipes.data.scenes.scene import Boxes, Scene
from graft.zoo.contents import content_digest

__all__ = ["NAME", "load"]

NAME = "shapes"


@dataclass(frozen=True)
class _Rendered:
    """Masks that were drawn; see `MaskForm`."""

    labels: tuple[str, ...] = (BACKGROUND, *shapes.LABELS)

    def classes(self, place: RenderedScene) -> np.ndarray:
        """The mask."""
        return place.mask.astype(np.int16)

    def segmentations(self, place: RenderedScene) -> list[Segmentation]:
        """What is seen of each object."""
        return [runs_of(place.instances == number + 1) for number in range(len(place.labels))]


def load() -> Source:
    """All of them, by split."""
    form = _Rendered()
    splits = {
        split: tuple(_scene(scene, f"{split}/{i:03}", form) for i, scene in enumerate(scenes))
        for split, scenes in shapes.load().items()
    }
    return Source(NAME, tuple(sorted(shapes.LABELS)), splits)


def _scene(drawn: RenderedScene, name: str, form: _Rendered) -> Scene:
    labels = [shapes.LABELS[label] for label in drawn.labels]
    boxes = Boxes.of(labels, drawn.boxes.tolist(), [False] * len(labels))
    size = drawn.mask.shape
    present = tuple(form.labels[label] for label in np.unique(drawn.mask))
    mask = MaskFile(drawn, form, size, present, content_digest(drawn.mask))
    return Scene(drawn.image, name, size, boxes, mask, labels[-1])
