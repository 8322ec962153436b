"""Boxes as YOLO writes them: a text file for each image, `class x y width height` a line, the
centre and the sides as shares of the image.

    FOLDER/images/{train,val,test}, FOLDER/labels/{train,val,test}; names in data.yaml or
        classes.txt
    FOLDER/{train,valid,test}/images, FOLDER/{train,valid,test}/labels
    FOLDER/images, FOLDER/labels
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graft.recipes.data.folders.image_files import name_of, visible_folders
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.recipes.data.scenes.class_names import read_names, read_yaml_names, yaml_folders
from graft.recipes.data.scenes.entries import DrawnObject, Faults, Found, ImageEntry
from graft.recipes.data.scenes.readers.image_names import (
    image_name,
    images_by_stem,
    named_folder,
    split_of_folder,
)
from graft.zoo.errors import DataError

__all__ = ["YoloFolder", "find", "read"]

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names", "classes.names")
NUMBERS = 5
"""Of a line: a class and four shares. More of them are an outline."""
SHARE_ROUNDING = 1e-6
"""By which a share may be more than 1 because it was cut when it was written."""


@dataclass(frozen=True)
class YoloFolder:
    """A source.

    Attributes:
        root: its folder.
        names: the file that says what classes are called.
        pairs: folders of images and of their text files, by split.
    """

    root: Path
    names: Path | None
    pairs: tuple[tuple[str, Path, Path], ...]


def find(place: Path) -> YoloFolder | None:
    """The source at `place`; None: it is none of this form."""
    if place.is_file():
        return _yaml_source(place) if _is_yaml(place) else None
    named = (place / name for name in NAME_FILES if _is_yaml(place / name))
    file = next((file for file in named if file.is_file()), None)
    found = None if file is None else _yaml_source(file)
    pairs = _pairs(place) if found is None else []
    if not pairs:
        return found
    tops = dict.fromkeys((place, *(labels for _, _, labels in pairs), place / "labels"))
    files = (top / name for name in NAME_FILES for top in tops)
    return YoloFolder(place, next((f for f in files if f.is_file()), None), tuple(pairs))


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _yaml_source(file: Path) -> YoloFolder | None:
    """The source of which `file` is data.yaml: in the folders that it names, else in those beside
    it.
    """
    named = []
    for name, images in yaml_folders(file):
        parts = list(images.parts)
        if "images" in parts:  # the last one, as YOLO's own programs do it
            parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
            named.append((SPLIT_NAMES[name], images, Path(*parts)))
    pairs = _labelled(named) or _pairs(file.parent)
    return YoloFolder(file.parent, file, tuple(pairs)) if pairs else None


def _pairs(root: Path) -> list[tuple[str, Path, Path]]:
    """(split, images, labels) of all folders of text files below `root`."""
    images, labels = named_folder(root, ("images",)), named_folder(root, ("labels",))
    if images is not None and labels is not None:
        splits = [(split_of_folder(folder.name), folder) for folder in visible_folders(images)]
        named = [(split, folder, labels / folder.name) for split, folder in splits if split]
        pairs = named or [("train", images, labels)]
    else:
        pairs = [
            (split, own_images, own_labels)
            for folder in visible_folders(root)
            if (split := split_of_folder(folder.name))
            and (own_images := named_folder(folder, ("images",)))
            and (own_labels := named_folder(folder, ("labels",)))
        ]
    return _labelled(pairs)


def _labelled(pairs: list[tuple[str, Path, Path]]) -> list[tuple[str, Path, Path]]:
    """All of the folders, if a text file of boxes lies in one of them; else none."""
    files = (file for *_, labels in pairs for file in labels.rglob("*.txt"))
    return pairs if any(file.name not in NAME_FILES for file in files) else []


def read(folder: YoloFolder, faults: Faults, tally: Tally) -> Found:
    """The entries of all images; one without a text file has no object, as its makers have it.

    Args:
        folder: that `find` gave.
        faults: collects what cannot be right.
        tally: notes what is read otherwise than it is written.

    Raises:
        DataError: there is no file of names, or it cannot be used.
    """
    if folder.names is None:
        raise DataError(
            f"'{folder.root}' does not say what its classes are called: expected data.yaml with "
            "names, or classes.txt with one a line"
        )
    read_them = read_yaml_names if _is_yaml(folder.names) else read_names
    names = read_them(folder.names)
    reader = _LabelFiles(folder, names, faults, tally)
    entries = [entry for pair in folder.pairs for entry in reader.entries(*pair)]
    return Found(tuple(entries), tuple(names.values()), f"'{folder.names}'")


@dataclass(frozen=True)
class _LabelFiles:
    """Reads text files."""

    folder: YoloFolder
    names: dict[int, str]
    faults: Faults
    tally: Tally

    def entries(self, split: str, images: Path, labels: Path) -> Iterator[ImageEntry]:
        """An entry for each image of a split."""
        by_stem = images_by_stem(images)
        for stem, paths in sorted(by_stem.items()):
            if len(paths) > 1:
                self.faults.add(
                    f"'{paths[0]}' and '{paths[1]}' would have the same labels "
                    f"('{labels / stem}.txt'): keep one of them, or rename one"
                )
                continue
            file, name = labels / f"{stem}.txt", image_name(paths[0], self.folder.root)
            objects = tuple(self._objects(file)) if file.is_file() else ()
            yield ImageEntry(paths[0], name, split, f"'{file}'", objects, in_shares=True)
        self._check_strays(labels, by_stem, images)

    def _check_strays(self, labels: Path, by_stem: dict[str, list[Path]], images: Path) -> None:
        """Refuse text files of images that are not there."""
        for file in sorted(labels.rglob("*.txt")):
            is_stray = name_of(file, labels).removesuffix(".txt") not in by_stem
            if is_stray and file.name not in NAME_FILES:
                self.faults.add(f"'{file}' is of an image that is not in '{images}'")

    def _objects(self, file: Path) -> Iterator[DrawnObject]:
        for number, line in enumerate(file.read_text("utf-8-sig", "replace").splitlines(), 1):
            if not line.strip():
                continue
            where = f"line {number}"
            try:
                values = [float(cell) for cell in line.split()]
            except ValueError:
                self.faults.add(f"'{file}', {where}: '{line.strip()[:60]}' holds no numbers alone")
                continue
            fault = self._fault(values, file)
            if fault:
                self.faults.add(f"'{file}', {where}: {fault}")
                continue
            if len(values) > NUMBERS:
                self.tally.note("outlines are read as the boxes around them", f"{file}, {where}")
            yield DrawnObject(self.names[int(values[0])], _corners(values[1:]), where)

    def _fault(self, values: list[float], file: Path) -> str:
        is_outline = len(values) > NUMBERS + 1 and len(values) % 2 == 1
        if len(values) != NUMBERS and not is_outline:
            return f"{len(values)} numbers, expected {NUMBERS}: class, x, y, width, height"
        if not values[0].is_integer() or int(values[0]) not in self.names:
            return (
                f"the class {values[0]:g} has no name: '{self.folder.names}' names "
                f"{len(self.names)}, from {min(self.names)} to {max(self.names)}"
            )
        strange = next(
            (value for value in values[1:] if not -SHARE_ROUNDING <= value <= 1 + SHARE_ROUNDING),
            None,
        )
        if strange is not None:
            return (
                f"{strange:g} is no share of a side, 0 to 1: it may be in pixels, or of another "
                "form; divide x and width by the width, y and height by the height"
            )
        return ""


def _corners(shares: list[float]) -> tuple[float, float, float, float]:
    """The corners of a box of centre and sides, or around the points of an outline."""
    if len(shares) > NUMBERS - 1:
        across, down = shares[::2], shares[1::2]
        return min(across), min(down), max(across), max(down)
    x, y, width, height = shares
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
