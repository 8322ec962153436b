"""Scenes with the names of the files that they are written as."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from graft.recipes.data.records import Source
from graft.recipes.data.scenes.scene import Boxes, Scene
from graft.zoo.contents import Packed
from graft.zoo.errors import DataError

__all__ = ["SPLIT_FILES", "NamedScene", "link_image", "named_scenes", "number_shown"]

SPLIT_FILES = {"train": "train", "validation": "val", "test": "test"}
"""What splits are called in names of files and folders."""


@dataclass(frozen=True)
class NamedScene:
    """A scene as it is written.

    Attributes:
        scene: which one; it has boxes.
        split: what its split is called in names of files.
        stem: of its files, which no other scene has.
        suffix: of its image.
    """

    scene: Scene
    split: str
    stem: str
    suffix: str

    @property
    def boxes(self) -> Boxes:
        """Those of the scene.

        Raises:
            DataError: it has a mask alone.
        """
        if self.scene.boxes is None:
            raise DataError(
                f"'{self.scene.name}' has a mask in which objects are not told apart, and no "
                "boxes: boxes alone can be converted"
            )
        return self.scene.boxes


def named_scenes(source: Source) -> list[NamedScene]:
    """All scenes, each with a stem of its own, also where capitals do not count."""
    taken: set[str] = set()
    return [
        NamedScene(scene, SPLIT_FILES[split], _free_stem(scene, taken), _suffix(scene.image))
        for split, scenes in source.splits.items()
        for scene in scenes
    ]


def _free_stem(scene: Scene, taken: set[str]) -> str:
    for stem in _stems(scene.name):
        if stem.casefold() not in taken:
            taken.add(stem.casefold())
            return stem
    raise AssertionError  # there are stems without end


def _stems(name: str) -> Iterator[str]:
    """What a scene may be called in a folder: by the end of its name, by all of it, by a number."""
    parts = [part for part in PurePosixPath(name).with_suffix("").parts if part.strip("./")]
    whole = "_".join(parts) or "image"
    yield parts[-1] if parts else whole
    yield whole
    number = 2
    while True:
        yield f"{whole}_{number}"
        number += 1


def _suffix(image: Path | Packed) -> str:
    return Path(image.name).suffix.lower() or ".img"


def link_image(image: Path | Packed, target: Path) -> None:
    """Have the content of `image` at `target`: one file under two names where the disk can, a copy
    elsewhere.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, Packed):
        target.write_bytes(image.read())
        return
    real = image.resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def number_shown(value: float) -> str:
    """A float32 as text that is read as the same."""
    return f"{value:.9g}"
