"""The images of folders by their names, for annotations that lie in files of their own."""

import re
from collections.abc import Sequence
from pathlib import Path

from graft.recipes.data.folders.image_files import images_below, name_of, visible_folders
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES

__all__ = ["image_name", "images_by_stem", "named_folder", "split_of_folder"]


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images at any depth below `folder`, by their path in it without the ending."""
    found: dict[str, list[Path]] = {}
    for path in images_below(folder, folder, Tally()):
        name = name_of(path, folder)
        found.setdefault(name.removesuffix(path.suffix), []).append(path)
    return found


def image_name(path: Path, root: Path) -> str:
    """What an image is called in the source at `root`, in which it may not lie."""
    return name_of(path, root if path.is_relative_to(root) else path.parent)


def named_folder(place: Path, names: Sequence[str]) -> Path | None:
    """The folder in `place` with the first of `names` that there is, in any case."""
    there = {folder.name.lower(): folder for folder in visible_folders(place)}
    return next((there[name.lower()] for name in names if name.lower() in there), None)


def split_of_folder(name: str) -> str | None:
    """The split that a folder is called by: "val", "train2017"."""
    return SPLIT_NAMES.get(re.sub(r"[-_\d]+$", "", name.lower()))
