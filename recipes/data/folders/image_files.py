"""The images in a folder and below it.

What an operating system keeps for itself is no data. A folder is followed where it is a link, and
never twice.
"""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from graft.recipes.data.reading import HIDDEN, Tally
from graft.zoo.vision import IMAGE_SUFFIXES

__all__ = [
    "count_beside",
    "direct_images",
    "image_suffixes",
    "images_below",
    "is_hidden",
    "name_of",
    "visible_folders",
]

SYSTEM_FOLDERS = (
    "__macosx",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
)
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
IN_A_CIRCLE = "linked folders that hold themselves"


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The endings of the images that the Pillow of this machine can open."""
    from PIL import features

    optional = {".avif": "avif", ".webp": "webp", ".jp2": "jpg_2000"}
    return IMAGE_SUFFIXES - {
        suffix for suffix, name in optional.items() if not features.check(name)
    }


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is kept by a system or an editor for itself."""
    return name.startswith(".") or name.lower() in (*SYSTEM_FOLDERS, *SYSTEM_FILES)


def name_of(path: Path, root: Path) -> str:
    """What a file below `root` is called."""
    whole, above = str(path), f"{root}{os.sep}"
    # `relative_to` takes its time, and there may be a million files.
    below = whole[len(above) :] if whole.startswith(above) else str(path.relative_to(root))
    # A name that is no UTF-8 (from an old archive) could not be written into any report.
    return below.replace(os.sep, "/").encode("utf-8", "replace").decode()


def visible_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, and links to folders that do not hold it, sorted."""
    # scandir knows what is a folder without asking the disk for each file.
    with os.scandir(folder) as entries:
        found = [
            Path(entry.path) for entry in entries if entry.is_dir() and not is_hidden(entry.name)
        ]
    return sorted(child for child in found if not _is_circle(child, folder))


def direct_images(folder: Path) -> Iterator[str]:
    """The names of the images that stand in `folder` itself."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if _has_image_name(entry.name) and not is_hidden(entry.name) and entry.is_file():
                yield entry.name


def _raise(error: OSError) -> None:
    raise error


def images_below(
    folder: Path, root: Path, tally: Tally, onerror: Callable[[OSError], object] = _raise
) -> list[Path]:
    """The images at any depth below `folder`, sorted.

    Linked folders are followed, each folder is read once, and none that the link stands in: a
    circle has an end.

    Args:
        folder: where to look.
        root: `tally` counts all other files by their names relative to it.
        tally: counts them.
        onerror: is called with what keeps a folder from being read; by default it is raised.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    starts = [folder]
    while starts:
        start = starts.pop(0)
        if start != folder and _is_circle(start, folder):
            tally.leave(IN_A_CIRCLE, name_of(start, root))
            continue
        for parent, folders, files in os.walk(start, onerror=onerror):
            place, status = Path(parent), os.stat(parent)
            if (status.st_dev, status.st_ino) in seen:
                tally.leave("linked folders that are read already", name_of(place, root))
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            for name in filter(is_hidden, folders):
                _count_hidden(place / name, root, tally)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            # After all real folders, so that what has a place of its own is called by that.
            starts += [path for name in folders if (path := place / name).is_symlink()]
            found += [place / name for name in sorted(files) if _is_image(name, place, root, tally)]
            found += [path for name in folders if _is_lost_image(path := place / name)]
    return sorted(found)


def count_beside(folder: Path, root: Path, tally: Tally) -> None:
    """Count the files that stand in `folder` beside its folders, and the images in hidden ones."""
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            if is_hidden(child.name):
                _count_hidden(child, root, tally)
            elif _is_circle(child, folder):
                tally.leave(IN_A_CIRCLE, name_of(child, root))
        elif _is_image(child.name, folder, root, tally):
            tally.leave("outside of class folders", name_of(child, root))


def _has_image_name(name: str) -> bool:
    return _suffix(name) in image_suffixes()


def _suffix(name: str) -> str:
    """The ending of the name of a file in small letters, as `Path.suffix` has it."""
    before, dot, after = name.rpartition(".")
    return (dot + after).lower() if before and after else ""


def _is_image(name: str, folder: Path, root: Path, tally: Tally) -> bool:
    """Whether the file `name` in `folder` is read; otherwise it is counted. A pipe or a link to
    nothing that is called like an image is one that cannot be read: whoever decodes it says so.
    """
    known = _has_image_name(name)
    if is_hidden(name):
        if known:
            tally.leave(HIDDEN, name_of(folder / name, root))
        return False
    if not known:
        tally.leave(_suffix(name) or "without an ending", name_of(folder / name, root))
    return known


def _is_lost_image(folder: Path) -> bool:
    """Whether a folder that is called like an image holds nothing: a folder of images may be called
    so, too.
    """
    return _has_image_name(folder.name) and not any(folder.iterdir())


def _count_hidden(folder: Path, root: Path, tally: Tally) -> None:
    """Count the images in a folder that is not read."""
    if folder.is_symlink():
        return
    for place, folders, files in os.walk(folder):
        folders.sort()
        for path in (Path(place, name) for name in sorted(files)):
            if _has_image_name(path.name):
                tally.leave(HIDDEN, name_of(path, root))


def _is_circle(link: Path, folder: Path) -> bool:
    """Whether `link` is a link to a folder that holds it, or that holds `folder`, from where it was
    found.
    """
    if not link.is_symlink():
        return False
    target = link.resolve()
    return any(
        target in (place, *place.parents) for place in (link.parent.resolve(), folder.resolve())
    )
