"""Folders of pictures: which files are read, and which folders are splits and which are classes.

What an operating system keeps for itself is no data. A folder is followed where it is a link, and
never twice.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from graft.recipes.data.reading import HIDDEN, Tally
from graft.recipes.data.tables import SPLIT_NAMES
from graft.zoo.errors import DataError
from graft.zoo.vision import IMAGE_SUFFIXES

__all__ = [
    "class_folders",
    "count_beside",
    "is_hidden",
    "name_of",
    "pictures_below",
    "split_folders",
    "split_names",
    "suffixes",
    "unwrapped",
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
WRAPPERS = ("images", "image", "imgs", "img", "pictures", "photos", "data", "dataset")
"""Folders that stand between a data set and its classes, and mean nothing."""
FILLERS = (
    *WRAPPERS,
    "set",
    "sets",
    "folder",
    "file",
    "files",
    "split",
    "splits",
    "seg",
    "samples",
    "pics",
)
"""Words beside the name of a split: training_set, seg_train, test_images."""
READ_AS_CLASS = ("train", "valid")
"""Names of splits that are also names of things: a vehicle, a judgement."""


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings of the pictures that the Pillow of this machine can open."""
    from PIL import features

    optional = {".avif": "avif", ".webp": "webp", ".jp2": "jpg_2000"}
    return IMAGE_SUFFIXES - {
        suffix for suffix, name in optional.items() if not features.check(name)
    }


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is kept by a system or an editor for itself."""
    return name.startswith(".") or name.lower() in (*SYSTEM_FOLDERS, *SYSTEM_FILES)


def visible_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, and links to folders that do not hold it, sorted."""
    with os.scandir(
        folder
    ) as entries:  # knows what is a folder without asking the disk for each file
        found = [
            Path(entry.path) for entry in entries if entry.is_dir() and not is_hidden(entry.name)
        ]
    return sorted(child for child in found if not _is_circle(child, folder))


def _raise(error: OSError) -> None:
    raise error


def pictures_below(
    folder: Path, root: Path, tally: Tally, onerror: Callable[[OSError], object] = _raise
) -> list[Path]:
    """The pictures at any depth below `folder`, sorted; `tally` counts the others by names relative
    to `root`.

    Linked folders are followed, each folder is read once, and none that the link stands in: a
    circle has an end. `onerror` is called with what keeps a folder from being read; by default it
    is raised.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    starts = [folder]
    while starts:
        start = starts.pop(0)
        if start != folder and _is_circle(start, folder):
            tally.leave("linked folders that hold themselves", name_of(start, root))
            continue
        for place, folders, files in os.walk(start, onerror=onerror):
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                tally.leave("linked folders that are read already", name_of(Path(place), root))
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            for name in filter(is_hidden, folders):
                _count_hidden(Path(place, name), root, tally)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            # After all real folders, so that what has a place of its own is called by that.
            starts += [path for name in folders if (path := Path(place, name)).is_symlink()]
            found += [
                path
                for name in sorted(files)
                if _is_picture(path := Path(place, name), root, tally)
            ]
            found += [path for name in folders if _is_lost_picture(path := Path(place, name))]
    return sorted(found)


def split_names(names: Sequence[str]) -> dict[str, str | None]:
    """For each name of a folder or a file which split it is, if any: "train", "Training Set",
    "seg_test", "val_images".

    Words that mean nothing else may stand beside a split's name, or the same word in two or more
    names, one of them of the training split: "reviews_train" and "reviews_test".
    """
    parts = {name: _split_and_rest(name) for name in names}
    shared = Counter(rest for split, rest in parts.values() if split)
    of_training = {rest for split, rest in parts.values() if split == "train"}
    return {
        name: split if split and (not rest or (shared[rest] > 1 and rest in of_training)) else None
        for name, (split, rest) in parts.items()
    }


def split_folders(root: Path, tally: Tally) -> dict[str, Path] | None:
    """The folders of splits below `root` by split; None where its folders are classes.

    Raises:
        DataError: some are splits and others are not, or one split stands there twice.
    """
    folders = visible_folders(root)
    by_name = split_names([folder.name for folder in folders])
    named = [folder for folder in folders if by_name[folder.name]]
    strangers = [folder for folder in folders if not by_name[folder.name]]
    if not named:
        return None
    if (
        strangers
        and len(named) == 1
        and named[0].name.lower() in READ_AS_CLASS
        and not visible_folders(named[0])
    ):
        tally.note(
            "a folder that is called like a split stands among class folders and is read as a "
            "class",
            named[0].name,
        )
        return None
    if strangers:
        raise DataError(
            f"'{root}' mixes split folders with '{strangers[0].name}': expected either class "
            "folders only, or only "
            f"train, validation and test ('{named[0].name}' is called like a split)"
        )
    found: dict[str, Path] = {}
    for folder in named:
        split = by_name[folder.name]
        if split in found:
            raise DataError(
                f"'{root}' has two folders for the split '{split}', '{folder.name}' and another: "
                "keep one"
            )
        found[split] = folder
    return found


def class_folders(folder: Path, root: Path, tally: Tally, split: str = "") -> list[Path]:
    """The class folders in `folder`, which may stand one level deeper, in one of the same name or
    in `images`.

    `split` is what the folder is for, if it is not all there is; `tally` counts what stands beside
    class folders.

    Raises:
        DataError: there are none, or it shows that they are no classes.
    """
    folder = unwrapped(folder, root, tally)
    folders = visible_folders(folder)
    if not folders:
        raise _no_classes(folder, root, split)
    _check_repeats(folder, folders)
    count_beside(folder, root, tally)
    return folders


def unwrapped(folder: Path, root: Path, tally: Tally) -> Path:
    """`folder`, or the one in it that means nothing and holds all folders: `data/images`,
    `seg_train/seg_train`.
    """
    names = {folder.name.lower(), *WRAPPERS}
    for _ in range(3):
        folders = visible_folders(folder)
        inner = [
            child for child in folders if child.name.lower() in names and visible_folders(child)
        ]
        if len(inner) != 1 or _direct_pictures(folder):
            break
        others = [child for child in folders if child != inner[0]]
        if any(pictures_below(child, root, Tally()) for child in others):
            break
        for child in others:
            pictures_below(child, root, tally)  # counts its files
        count_beside(folder, root, tally)
        folder = inner[0]
    return folder


def _check_repeats(folder: Path, folders: Sequence[Path]) -> None:
    """Refuse "classes" in which the same folders stand again and again: splits of names unknown, or
    the wrong way round.
    """
    inner = {
        child: [part.name for part in visible_folders(child)]
        for child in folders
        if not _direct_pictures(child)
    }
    counts = Counter(name for names in inner.values() for name in set(names))
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if len(repeated) < 2:
        return
    first, second = [child.name for child, names in inner.items() if {*repeated} & {*names}][:2]
    if all(split_names(repeated).values()):
        raise DataError(
            f"the class folders '{first}' and '{second}' of '{folder}' hold '{repeated[0]}' and "
            f"'{repeated[1]}': splits "
            f"stand above classes, as {repeated[0]}/{first}: sort them so, or give a table with a "
            "column 'split'"
        )
    raise DataError(
        f"'{first}' and '{second}' in '{folder}' hold the same folders ('{repeated[0]}', "
        f"'{repeated[1]}'): if those are the "
        f"classes, call '{first}' and '{second}' train, validation or test; else put the pictures "
        "of each class into one "
        "folder"
    )


def _no_classes(folder: Path, root: Path, split: str) -> DataError:
    count = len(_direct_pictures(folder))
    there = (
        f"{count:,} picture{'' if count == 1 else 's'} directly, and no class folders"
        if count
        else "no class folders"
    )
    hint = "put the pictures of each class into a folder of its own"
    if split:
        hint += f", remove '{folder.name}', or give the folder of another split alone"
    place = "the folder" if not split else f"the {split} folder"
    return DataError(f"{place} '{folder}' holds {there}: {hint}")


def count_beside(folder: Path, root: Path, tally: Tally) -> None:
    """Count the files that stand in `folder` beside its folders, and the pictures in hidden
    ones.
    """
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            if is_hidden(child.name):
                _count_hidden(child, root, tally)
            elif _is_circle(child, folder):
                tally.leave("linked folders that hold themselves", name_of(child, root))
        elif _is_picture(child, root, tally):
            tally.leave("outside of class folders", name_of(child, root))


def _direct_pictures(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if Path(entry.name).suffix.lower() in suffixes()
            and not is_hidden(entry.name)
            and entry.is_file()
        ]


def _is_picture(path: Path, root: Path, tally: Tally) -> bool:
    """Whether a file is read; otherwise it is counted. A pipe or a link to nothing that is called
    like a picture is one that cannot be read: whoever decodes it says so.
    """
    known = path.suffix.lower() in suffixes()
    if is_hidden(path.name):
        if known:
            tally.leave(HIDDEN, name_of(path, root))
        return False
    if not known:
        tally.leave(path.suffix.lower() or "without an ending", name_of(path, root))
    return known


def _is_lost_picture(folder: Path) -> bool:
    """Whether a folder that is called like a picture holds nothing: a folder of pictures may be
    called so, too.
    """
    return folder.suffix.lower() in suffixes() and not any(folder.iterdir())


def _count_hidden(folder: Path, root: Path, tally: Tally) -> None:
    """Count the pictures in a folder that is not read."""
    if folder.is_symlink():
        return
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in suffixes():
                tally.leave(HIDDEN, name_of(Path(place, name), root))


def _split_and_rest(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split in a name, and the words beside it that may mean something."""
    split, rest = None, []
    for word in re.findall(r"[^\W\d_]+", name.lower()):
        match = re.fullmatch(rf"({'|'.join(SPLIT_NAMES)})(?:set|data|images|imgs)?", word)
        if match and split is None:
            split = SPLIT_NAMES[match[1]]
        elif word not in FILLERS:
            rest.append(word)
    return split, tuple(rest)


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


def name_of(path: Path, root: Path) -> str:
    """What a file below `root` is called."""
    # A name that is no UTF-8 (from an old archive) could not be written into any report.
    return path.relative_to(root).as_posix().encode("utf-8", "replace").decode()
