"""Where files of COCO lie, and where the images that they name.

FOLDER/annotations/instances_{train,val,test}.json, images in FOLDER/images, in a folder of the
    split there, or in FOLDER/train2017
FOLDER/x.json beside its images, or beside a folder of them
FOLDER/{train,valid,test}/x.json beside their images
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from graft.recipes.data.folders.image_files import visible_folders
from graft.recipes.data.records import SPLIT_NAMES
from graft.recipes.data.scenes.readers.image_names import split_of_folder

__all__ = ["CocoFile", "ImageFinder", "find"]

TELLING_KEYS = {b"images", b"annotations"}
HEAD_BYTES = 2**16
"""Of a JSON file without a telling name, in which one of the sections has to be named."""


@dataclass(frozen=True)
class CocoFile:
    """One JSON file, the split that it is of, and the folder of the whole source."""

    path: Path
    split: str
    root: Path


def find(place: Path) -> list[CocoFile] | None:
    """The files of a source at `place`; None: it is none of this form."""
    if place.is_file():
        root = place.parent.parent if place.parent.name == "annotations" else place.parent
        is_json = place.suffix.lower() == ".json"
        return [CocoFile(place, _split_of(place.stem), root)] if is_json else None
    for folder in (place / "annotations", place):
        files = _json_files(folder)
        if files:
            return [CocoFile(file, _split_of(file.stem), place) for file in files]
    inner = [
        CocoFile(file, split, place)
        for folder in visible_folders(place)
        if (split := split_of_folder(folder.name))
        for file in _json_files(folder)
    ]
    return inner or None


def _json_files(folder: Path) -> list[Path]:
    """Those called instances*.json, else those whose beginning looks like this form."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [file for file in files if file.name.startswith("instances")] or [
        file for file in files if _looks_right(file)
    ]


def _looks_right(file: Path) -> bool:
    """Whether the beginning of a file is an object with sections of this form, not of captions
    or of a whole other kind.
    """
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    keys = set(re.findall(rb'"(\w+)"\s*:\s*\[', head))
    return head.lstrip()[:1] == b"{" and bool(keys & TELLING_KEYS)


def _split_of(stem: str) -> str:
    """The split in the name of a file: instances_val2017 -> validation; "train" without one."""
    words = re.findall(r"[a-z]+", stem.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")


class ImageFinder:
    """Finds the images that a file names."""

    def __init__(self, file: CocoFile):
        root, beside, stem = file.root, file.path.parent, file.path.stem
        of_split = [name for name, split in SPLIT_NAMES.items() if split == file.split]
        year = re.search(r"(?:[a-z]+)(\d{4})", stem)
        of_split += [name + year[1] for name in of_split] if year else []
        tops = dict.fromkeys((root / "images", root, beside / "images", beside))
        folders = [folder for top in tops for folder in (*(top / name for name in of_split), top)]
        self._folders = [folder for folder in folders if folder.is_dir()]

    @property
    def looked(self) -> str:
        """Where it looks, for a message."""
        return ", ".join(f"'{folder}'" for folder in self._folders)

    def find(self, name: str) -> Path | None:
        """The file that is called `name`; None: it is not there."""
        paths = (folder / name for folder in self._folders)
        return next((path for path in paths if os.path.isfile(path)), None)
