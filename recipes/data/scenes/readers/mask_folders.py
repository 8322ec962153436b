"""Masks in a folder beside that of their images.

    FOLDER/images and FOLDER/masks (or labels, annotations, ...), each with folders of splits or
        none; FOLDER/index.csv with id and split, if there is one
    FOLDER/{train,val,test} and FOLDER/{train,val,test}annot
    FOLDER/{train,val,test}/images and FOLDER/{train,val,test}/masks

classes.json or classes.txt in FOLDER says what values or colours mean. Without it 0 and 255 are
the background and an object; 0, 1, 2, ... (or 1, 2, ...) are classes and 255 is not known; and in
masks of 16 bits each value above 0 is an object.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from graft.recipes.data.folders.image_files import direct_images, name_of, visible_folders
from graft.recipes.data.reading import Tally
from graft.recipes.data.scenes.class_names import read_mask_names
from graft.recipes.data.scenes.entries import Faults, Found, ImageEntry
from graft.recipes.data.scenes.masks.mask_survey import survey
from graft.recipes.data.scenes.readers.image_names import (
    images_by_stem,
    named_folder,
    split_of_folder,
)
from graft.recipes.data.tables.cells import read_single, read_split
from graft.recipes.data.tables.rows import read_rows
from graft.zoo.errors import DataError

__all__ = ["MaskFolders", "find", "read"]

IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
MASKS = ("masks", "mask", "labels", "annotations", "semantic_masks", "SegmentationClass")
MASKS_SUFFIX = "annot"
"""Behind the name of a split's folder: that of its masks."""
MASK_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_L")
"""Behind the name of an image: that of its mask."""
INDEX = "index.csv"


@dataclass(frozen=True)
class MaskFolders:
    """A source: its folder, the file of names, and (split, images, masks) of its folders."""

    root: Path
    names: Path | None
    pairs: tuple[tuple[str, Path, Path], ...]


def find(place: Path) -> MaskFolders | None:
    """The source at `place`; None: it is none of this form."""
    pairs = _pairs(place) if place.is_dir() else []
    if not any(_holds_images(masks) for *_, masks in pairs):
        return None
    exact = [place / "classes.json", place / "classes.txt"]
    files = [file for file in exact if file.is_file()] or sorted(place.glob("*classes.json"))
    if len(files) > 1:
        raise DataError(
            f"'{files[0]}' and '{files[1]}' both say what classes are called: keep one of them"
        )
    return MaskFolders(place, files[0] if files else None, tuple(pairs))


def _pairs(root: Path) -> list[tuple[str, Path, Path]]:
    images, masks = named_folder(root, IMAGES), _folder_of_masks(root)
    if images is not None and masks is not None:
        splits = [(split_of_folder(folder.name), folder) for folder in visible_folders(images)]
        named = [(split, folder, masks / folder.name) for split, folder in splits if split]
        return named or [("train", images, masks)]
    pairs = []
    for folder in visible_folders(root):
        split = split_of_folder(folder.name)
        beside = named_folder(root, (folder.name + MASKS_SUFFIX,))
        own_images, own_masks = named_folder(folder, IMAGES), _folder_of_masks(folder)
        if split and beside is not None:
            pairs.append((split, folder, beside))
        elif split and own_images is not None and own_masks is not None:
            pairs.append((split, own_images, own_masks))
    return pairs


def _folder_of_masks(root: Path) -> Path | None:
    """The first of those that may hold masks in which there are some."""
    found = (named_folder(root, (name,)) for name in MASKS)
    return next((folder for folder in found if folder and _holds_images(folder)), None)


def _holds_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any(any(direct_images(place)) for place in (folder, *visible_folders(folder)))


def read(folders: MaskFolders, faults: Faults, tally: Tally) -> Found:
    """The entries of all images with a mask.

    Args:
        folders: that `find` gave.
        faults: collects what cannot be right.
        tally: counts images without a mask.

    Raises:
        DataError: nobody says what values mean, or the file that does cannot be used.
    """
    names = None if folders.names is None else read_mask_names(folders.names)
    entries = [
        found for pair in folders.pairs for found in _matched(folders.root, *pair, faults, tally)
    ]
    entries = _by_index(folders.root, entries, faults, tally)
    faults.check()
    masks = survey([mask for _, mask in entries], names, faults)
    kept = [
        replace(entry, mask=mask.mask, objects=mask.objects)
        for (entry, _), mask in zip(entries, masks, strict=True)
        if mask is not None
    ]
    form = next((entry.mask.form for entry in kept if entry.mask is not None), None)
    if form is None or any(entry.objects is not None for entry in kept):
        return Found(tuple(kept))
    where = "its form" if folders.names is None else f"'{folders.names}'"
    return Found(tuple(kept), form.labels, where)


def _matched(
    root: Path, split: str, images: Path, masks: Path, faults: Faults, tally: Tally
) -> Iterator[tuple[ImageEntry, Path]]:
    """(an image, its mask) of two folders."""
    by_stem = images_by_stem(masks) if masks.is_dir() else {}
    for stem, paths in images_by_stem(images).items():
        name = name_of(paths[0], root)
        stems = [stem + ending for ending in MASK_ENDINGS if stem + ending in by_stem]
        found = [path for own in stems for path in by_stem.pop(own)]
        if len(paths) > 1 or len(found) > 1:
            faults.add(
                f"{len(paths)} images and {len(found)} masks are called '{stem}' in '{images}' "
                f"and '{masks}': keep one of each"
            )
        elif not found:
            tally.leave("images without a mask", name)
        else:
            yield ImageEntry(paths[0], name, split, f"'{found[0]}'"), found[0]
    for path, *_ in by_stem.values():
        faults.add(f"the mask '{path}' is of an image that is not in '{images}'")


def _by_index(
    root: Path, entries: list[tuple[ImageEntry, Path]], faults: Faults, tally: Tally
) -> list[tuple[ImageEntry, Path]]:
    """The entries with the splits that the index says, if there is one with ids and splits."""
    rows = list(read_rows(root / INDEX, ("id",), tally)) if (root / INDEX).is_file() else []
    if not rows or "id" not in rows[0] or "split" not in rows[0]:
        return entries
    splits = {read_single(row, "id"): (read_split(row, tally), row) for row in rows}
    made = []
    for entry, mask in entries:
        split, _ = splits.pop(entry.image.stem, (None, None))
        if split is None:
            tally.leave(f"images that {INDEX} does not name", entry.name)
        else:
            made.append((replace(entry, split=split), mask))
    for name, (_, row) in splits.items():
        faults.add(row.error(f"there is no image '{name}' with a mask"))
    return made
