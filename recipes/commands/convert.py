"""`graft convert --data A --to coco|yolo|voc --out FOLDER`: boxes in another form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.recipes.data.scenes.writers.table import FormName

__all__ = ["Options", "command", "convert"]


@dataclass(frozen=True)
class Options:
    """Write images with boxes as COCO, YOLO or Pascal VOC has them, whole or not at all. Images are
    linked where the disk can, so that they take no space: do not edit them in place.
    """

    data: str
    """COCO (annotations/instances_*.json, or one .json beside its images), Pascal VOC
    (Annotations/*.xml), YOLO (images/, labels/*.txt and data.yaml or classes.txt), a table with
    path,label,x0,y0,x1,y1, or masks of 16 bits with a number for each object (images/, labels/).
    """
    to: FormName
    """The form. Outlines of objects stay with coco alone; crowds are `difficult` in voc, and have
    no place in yolo.
    """
    out: Path
    """The folder."""
    overwrite: bool = False
    """Replace that folder."""
    json: bool = False
    """Print JSON."""


def command(arguments: Sequence[str]) -> None:
    """Print a line for each split that was written to stdout."""
    import tyro

    from graft.zoo.terminal import json_shown, tell

    options = tyro.cli(Options, args=arguments, prog="graft convert")
    rows = convert(options)
    if options.json:
        print(json_shown(rows))
        return
    for row in rows:
        tell(f"{row['split']}: {row['images']:,} images, {row['boxes']:,} boxes")


def convert(options: Options) -> list[dict]:
    """Convert as the options say.

    Returns:
        For each split its "split", and how many "images" and "boxes" it has.

    Raises:
        ConfigError: `out` exists, and `overwrite` is false; or the data lie in it.
        DataError, UnknownName: the data cannot be read, or have no boxes.
    """
    from graft.recipes.data.scenes import places
    from graft.recipes.data.scenes.writers.table import write_scenes
    from graft.zoo.errors import ConfigError
    from graft.zoo.files.staging import refuse_existing

    refuse_existing(options.out, options.overwrite)
    if Path(options.data).expanduser().resolve().is_relative_to(options.out.resolve()):
        raise ConfigError(f"'{options.out}' holds the data: give another --out")
    source = places.load(options.data, "boxes")
    write_scenes(source, options.to, options.out, options.overwrite)
    return [
        {
            "split": split,
            "images": len(scenes),
            "boxes": sum(map(len, (scene.answers["boxes"] for scene in scenes))),
        }
        for split, scenes in source.splits.items()
    ]
