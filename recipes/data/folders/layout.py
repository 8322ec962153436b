"""How a folder of images is laid out: which of its folders are splits, and which are classes."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from graft.recipes.data.folders.image_files import (
    count_beside,
    direct_images,
    images_below,
    visible_folders,
)
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.zoo.errors import DataError

__all__ = ["class_folders", "split_folders", "split_names", "unwrapped"]

WRAPPERS = ("images", "image", "imgs", "img", "pictures", "photos", "data", "dataset")
"""Folders that stand between a data set and its classes, and mean nothing."""
FILLERS = r"sets?|folder|files?|splits?|seg|samples|pics"
"""Words beside the name of a split: training_set, seg_train, test_images."""
READ_AS_CLASS = ("train", "valid")
"""Names of splits that are also names of things: a vehicle, a judgement."""


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


def _split_and_rest(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split in a name, and the words beside it that may mean something."""
    split, rest = None, []
    for word in re.findall(r"[^\W\d_]+", name.lower()):
        match = re.fullmatch(rf"({'|'.join(SPLIT_NAMES)})(?:set|data|images|imgs)?", word)
        if match and split is None:
            split = SPLIT_NAMES[match[1]]
        elif word not in WRAPPERS and not re.fullmatch(FILLERS, word):
            rest.append(word)
    return split, tuple(rest)


def split_folders(root: Path, tally: Tally) -> dict[str, Path] | None:
    """The folders of splits below `root` by split; None where its folders are classes.

    Raises:
        DataError: some are splits and others are not, or one split stands there twice.
    """
    folders = visible_folders(root)
    by_name = split_names([folder.name for folder in folders])
    named = [(split, folder) for folder in folders if (split := by_name[folder.name])]
    strangers = [folder for folder in folders if not by_name[folder.name]]
    if not named:
        return None
    first = named[0][1]
    may_be_class = len(named) == 1 and first.name.lower() in READ_AS_CLASS
    if strangers and may_be_class and not visible_folders(first):
        how = "a folder that is called like a split stands among class folders and is read as "
        tally.note(f"{how}a class", first.name)
        return None
    if strangers:
        raise DataError(
            f"'{root}' mixes split folders with '{strangers[0].name}': expected either class "
            "folders only, or only train, validation and test "
            f"('{first.name}' is called like a split)"
        )
    found: dict[str, Path] = {}
    for split, folder in named:
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

    Args:
        folder: where to look.
        root: the whole source.
        tally: counts what stands beside class folders.
        split: what the folder is for, if it is not all there is.

    Raises:
        DataError: there are none, or it shows that they are no classes.
    """
    folder = unwrapped(folder, root, tally)
    folders = visible_folders(folder)
    if not folders:
        raise _no_classes(folder, split)
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
        if len(inner) != 1 or any(direct_images(folder)):
            break
        others = [child for child in folders if child != inner[0]]
        if any(images_below(child, root, Tally()) for child in others):
            break
        for child in others:
            images_below(child, root, tally)  # counts its files
        count_beside(folder, root, tally)
        folder = inner[0]
    return folder


def _check_repeats(folder: Path, folders: Sequence[Path]) -> None:
    """Refuse "classes" in which the same folders stand again and again: splits of names unknown, or
    the wrong way round.
    """
    inner = {
        child.name: {part.name for part in visible_folders(child)}
        for child in folders
        if not any(direct_images(child))
    }
    counts = Counter(name for names in inner.values() for name in names)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if len(repeated) < 2:
        return
    first, second = [child for child, names in inner.items() if names & {*repeated}][:2]
    if all(split_names(repeated).values()):
        raise DataError(
            f"the class folders '{first}' and '{second}' of '{folder}' hold '{repeated[0]}' and "
            f"'{repeated[1]}': splits stand above classes, as {repeated[0]}/{first}: sort them so, "
            "or give a table with a column 'split'"
        )
    raise DataError(
        f"'{first}' and '{second}' in '{folder}' hold the same folders ('{repeated[0]}', "
        f"'{repeated[1]}'): if those are the classes, call '{first}' and '{second}' train, "
        "validation or test; else put the images of each class into one folder"
    )


def _no_classes(folder: Path, split: str) -> DataError:
    count, there = sum(1 for _ in direct_images(folder)), "no class folders"
    if count:
        there = f"{count:,} image{'' if count == 1 else 's'} directly, and {there}"
    hint = "put the images of each class into a folder of its own"
    if split:
        hint += f", remove '{folder.name}', or give the folder of another split alone"
    place = f"the {split} folder" if split else "the folder"
    return DataError(f"{place} '{folder}' holds {there}: {hint}")
