"""What `graft predict --draw` makes: the images that were asked about, with the answers on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graft.recipes.data.image_sizes import size_as_it_came
from graft.recipes.runs.session import OpenedModel
from graft.recipes.tasks.task import Task
from graft.zoo.errors import ConfigError
from graft.zoo.files.staging import refuse_existing, staged_file
from graft.zoo.fits import ImageShape
from graft.zoo.vision import decode_image

__all__ = ["Drawing"]

SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass
class Drawing:
    """Where annotated images go.

    Attributes:
        task: whose answers have places.
        size: height and width of the images that the model sees.
        target: a file for one image, or a folder.
        overwrite: whether files may be there.
    """

    task: Task
    size: tuple[int, int]
    target: Path
    overwrite: bool
    drawn: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, model: OpenedModel, target: Path, overwrite: bool) -> "Drawing":
        """What draws the answers of the first task of `model` that has places.

        Raises:
            ConfigError: none has any, or there is something at `target`.
        """
        task = next((task for task in model.tasks if task.need), None)
        if task is None:
            raise ConfigError(
                "--draw is for boxes and masks: what this model answers has no place in an image"
            )
        if target.suffix.lower() in SUFFIXES:
            refuse_existing(target, overwrite)
        elif target.is_file():
            raise ConfigError(
                f"--draw '{target}' is a file: give a folder, or a name that ends with "
                f"{' or '.join(SUFFIXES)}"
            )
        return cls(task, model.session.input_shape[:2], target, overwrite)

    def draw(self, name: str, rows: Mapping[str, np.ndarray]) -> None:
        """Write the image of the file `name` with what the model gave for it.

        Raises:
            ConfigError: the file is there, or two images would be one file.
        """
        from PIL import Image

        path = self._path_for(Path(name))
        pixels = decode_image(Path(name), ImageShape(*size_as_it_came(name)))
        answer = self.task.kept(rows[self.task.name][None])[0]
        shown = self.task.drawn(pixels, answer, self.size)
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged_file(path) as part:
            Image.fromarray(shown).save(part, "JPEG" if path.suffix.lower() != ".png" else "PNG")
        self.drawn.add(path)

    def _path_for(self, image: Path) -> Path:
        if self.target.suffix.lower() in SUFFIXES:
            if self.drawn:
                raise ConfigError(
                    f"--draw '{self.target}' is one file, and there are several images: give a "
                    "folder"
                )
            return self.target
        path = self.target / f"{image.stem}.png"
        number = 1
        while path in self.drawn:  # of two folders
            number += 1
            path = self.target / f"{image.stem}-{number}.png"
        refuse_existing(path, self.overwrite)
        return path
