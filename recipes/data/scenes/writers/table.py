"""The forms in which scenes are written, and writing them whole or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from graft.recipes.data.records import Source
from graft.recipes.data.scenes.writers.coco import write_coco
from graft.recipes.data.scenes.writers.named import NamedScene, named_scenes
from graft.recipes.data.scenes.writers.voc import write_voc
from graft.recipes.data.scenes.writers.yolo import write_yolo
from graft.zoo.files.leases import hold_lease
from graft.zoo.files.staging import staged_folder
from graft.zoo.terminal import warn

__all__ = ["FORMS", "FormName", "write_scenes"]

FormName: TypeAlias = Literal["coco", "yolo", "voc"]
FORMS: dict[FormName, Callable[[list[NamedScene], tuple[str, ...], Path], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}
WITH_OUTLINES: tuple[FormName, ...] = ("coco",)


def write_scenes(source: Source, form: FormName, folder: Path, overwrite: bool = False) -> None:
    """Write the images of a source and their boxes.

    Args:
        source: of scenes with boxes.
        form: "coco", "yolo" or "voc".
        folder: where to; images are linked where that can be, not copied.
        overwrite: whether an existing folder is replaced, once all is written.

    Raises:
        ConfigError: the folder exists and may not be replaced, or somebody else writes it.
        DataError: an image has no boxes.
        DiskFull: no space is left.
    """
    write, scenes = FORMS[form], named_scenes(source)
    masks = [one for one in scenes if one.boxes is not None and one.scene.mask is not None]
    if masks and form not in WITH_OUTLINES:
        warn(f"the masks of {len(masks):,} images are not written: '{form}' holds boxes alone")
    with hold_lease(folder), staged_folder(folder, overwrite) as staged:
        write(scenes, source.labels, staged)
