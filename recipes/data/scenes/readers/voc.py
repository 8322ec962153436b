"""Boxes as Pascal VOC writes them: an XML file for each image.

FOLDER/Annotations/*.xml, images in JPEGImages, images or FOLDER, splits in ImageSets/Main/*.txt

Corners are read as they are written. Only files that say they are of "The VOC2007 Database" (or of
another year) count pixels from 1, the last one included, as its makers did; no program since does.
`difficult` objects are no hits and no misses, as crowds of COCO are.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.recipes.data.scenes.entries import DrawnObject, Faults, Found, ImageEntry
from graft.recipes.data.scenes.readers.image_names import image_name, images_by_stem, named_folder
from graft.zoo.errors import DataError

__all__ = ["VocFolder", "find", "read"]

ORIGINAL_DATABASE = re.compile(r"The VOC\d{4} Database")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
WITH_TRAINING = "trainval"
"""A list of the original, of all that train.txt and val.txt name."""


@dataclass(frozen=True)
class VocFolder:
    """A source: its folder, that of the XML files and that of the images."""

    root: Path
    annotations: Path
    images: Path


def find(place: Path) -> VocFolder | None:
    """The source at `place`; None: it is none of this form."""
    if not place.is_dir():
        return None
    annotations = named_folder(place, ("Annotations",)) or place
    if not any(annotations.glob("*.xml")):
        return None
    images = named_folder(place, ("JPEGImages", "images", "imgs")) or place
    return VocFolder(place, annotations, images)


def read(folder: VocFolder, faults: Faults, tally: Tally) -> Found:
    """The entries of all XML files.

    Args:
        folder: that `find` gave.
        faults: collects what cannot be right.
        tally: counts XML files that no list names, and images without one.

    Raises:
        DataError: a list of images cannot be read.
    """
    images = {stem: path for stem, (path, *_) in sorted(images_by_stem(folder.images).items())}
    files = {file.stem: file for file in sorted(folder.annotations.glob("*.xml"))}
    splits, used, entries = _splits(folder, files, faults), set(), []
    for stem, file in files.items():
        for split in splits.get(stem, ()) if splits is not None else ("train",):
            entry = _XmlFile(folder, file, split, faults).entry(images)
            if entry is not None:
                entries.append(entry)
        used.add(stem)
        if splits is not None and stem not in splits:
            tally.leave("annotations that no list of ImageSets/Main names", file.name)
    for stem in images:
        if stem not in used:
            tally.leave("images without an annotation", image_name(images[stem], folder.root))
    return Found(tuple(entries))


def _splits(
    folder: VocFolder, files: dict[str, Path], faults: Faults
) -> dict[str, list[str]] | None:
    """The splits of each XML file by its stem, as lists say; None: there are no lists."""
    lists = {
        file.stem.lower(): file
        for file in sorted((folder.root / "ImageSets" / "Main").glob("*.txt"))
        if file.stem.lower() in (*SPLIT_NAMES, WITH_TRAINING)
    }
    if len(lists) > 1 and any(SPLIT_NAMES.get(name) == "train" for name in lists):
        lists.pop(WITH_TRAINING, None)
    found: dict[str, list[str]] = {}
    for name, file in lists.items():
        for number, line in enumerate(file.read_text("utf-8-sig", "replace").splitlines(), 1):
            stem = line.strip()
            if stem not in files:  # lists of a class say beside each whether it is there
                stem = stem.split()[0] if stem else ""
            if stem and stem not in files:
                faults.add(
                    f"'{file}', line {number} names '{stem}', of which there is no annotation "
                    f"'{folder.annotations / stem}.xml'"
                )
            elif stem:
                found.setdefault(stem, []).append(SPLIT_NAMES.get(name, "train"))
    return found if lists else None


@dataclass(frozen=True)
class _XmlFile:
    """Reads one XML file."""

    folder: VocFolder
    path: Path
    split: str
    faults: Faults

    def entry(self, images: dict[str, Path]) -> ImageEntry | None:
        """What it says; None where it has a fault, which is noted."""
        try:
            root = ElementTree.parse(self.path).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as error:
            raise DataError(f"'{self.path}' cannot be read as XML ({error})") from error
        named = (root.findtext("filename") or "").strip()
        image = self.folder.images / named if named else None
        if image is None or not os.path.isfile(image):
            image = images.get(self.path.stem)
        if image is None:
            self.faults.add(
                f"'{self.path}' is of the image '{named or self.path.stem}', which is not in "
                f"'{self.folder.images}'"
            )
            return None
        database = root.findtext("source/database") or ""
        first = 1.0 if ORIGINAL_DATABASE.fullmatch(database.strip()) else 0.0
        return ImageEntry(
            image,
            image_name(image, self.folder.root),
            self.split,
            f"'{self.path}'",
            tuple(self._objects(root, first)),
            declared=self._size(root),
        )

    def _size(self, root: ElementTree.Element) -> tuple[int, int] | None:
        """Height and width; programs that do not know them write none, or 0."""
        texts = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
        height, width = (int(text) if text.strip().isdecimal() else 0 for text in texts)
        return (height, width) if height and width else None

    def _objects(self, root: ElementTree.Element, first: float) -> Iterator[DrawnObject]:
        """The objects; `first` is the number of the first pixel."""
        for number, found in enumerate(root.iter("object"), 1):
            label = (found.findtext("name") or "").strip()
            texts = [found.findtext(f"bndbox/{corner}") for corner in CORNERS]
            try:
                x0, y0, x1, y1 = (float(text or "") for text in texts)
            except ValueError:
                self.faults.add(
                    f"'{self.path}', object {number}: bndbox lacks a number of {', '.join(CORNERS)}"
                )
                continue
            if not label:
                self.faults.add(f"'{self.path}', object {number} has no name")
                continue
            is_difficult = (found.findtext("difficult") or "").strip() == "1"
            corners = (x0 - first, y0 - first, x1, y1)
            yield DrawnObject(label, corners, f"object {number}", is_difficult)
