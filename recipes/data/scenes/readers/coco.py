"""Boxes and outlines as COCO writes them: JSON with images, annotations and categories."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from graft.recipes.data.folders.image_files import direct_images
from graft.recipes.data.labels import sort_labels
from graft.recipes.data.reading import Tally
from graft.recipes.data.scenes.entries import DrawnObject, Faults, Found, ImageEntry
from graft.recipes.data.scenes.masks.mask_files import BACKGROUND, MaskFile
from graft.recipes.data.scenes.masks.outlines import (
    LARGEST_COORDINATE,
    Outline,
    OutlineForm,
    Outlines,
    outline_fault,
)
from graft.recipes.data.scenes.readers.coco_files import CocoFile, ImageFinder
from graft.recipes.data.scenes.readers.image_names import image_name
from graft.zoo.errors import DataError

__all__ = ["read"]

SECTIONS = ("images", "annotations", "categories")


def read(files: Sequence[CocoFile], faults: Faults, tally: Tally) -> Found:
    """The entries of all files.

    Args:
        files: that `coco_files.find` gave.
        faults: collects what cannot be right.
        tally: counts images in their folders that no file names.

    Raises:
        DataError: a file is no JSON of this form.
    """
    annotated = [_Annotations.of(file, faults) for file in files]
    names = {name for one in annotated for name in one.categories.values()}
    every = [row for one in annotated for row in one.rows]
    with_outline = sum(bool(row.get("segmentation")) for row in every)
    if 0 < with_outline < len(every):
        bare = next(row for row in every if not row.get("segmentation"))
        tally.note(
            "objects with an outline stand among others without, so boxes alone are read",
            f"object {bare.get('id')}",
        )
    form = None
    if every and with_outline == len(every):
        form = OutlineForm((BACKGROUND, *sort_labels(names - {BACKGROUND})))
    entries = [entry for one in annotated for entry in one.entries(form, faults)]
    _count_unnamed(files, entries, tally)
    listed = tuple(sort_labels(names))
    return Found(tuple(entries), listed, f"'{files[0].path.name}'")


@dataclass(frozen=True)
class _Annotations:
    """The content of a file, whose sections are lists of objects.

    Attributes:
        file: which one.
        images: what it says of images.
        rows: what it says of objects.
        categories: the names of categories by their ids, which may have gaps.
    """

    file: CocoFile
    images: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    categories: dict[Any, str]

    @classmethod
    def of(cls, file: CocoFile, faults: Faults) -> "_Annotations":
        """Read a file.

        Raises:
            DataError: it is no JSON, or lacks a section.
        """
        try:
            content = json.loads(file.path.read_bytes())
        except (ValueError, RecursionError, OSError) as error:
            raise DataError(f"'{file.path}' cannot be read as JSON ({error})") from error
        sections = []
        for name in SECTIONS:
            section = content.get(name) if isinstance(content, dict) else None
            if not isinstance(section, list) or not all(isinstance(row, dict) for row in section):
                raise DataError(
                    f"'{file.path}' has no list '{name}' of objects: expected COCO's "
                    f"{', '.join(SECTIONS)}"
                )
            sections.append(section)
        images, rows, categories = sections
        named: dict[Any, str] = {}
        for row in categories:
            name = str(row.get("name", "")).strip()
            if not name or not _is_id(row.get("id")) or row["id"] in named:
                faults.add(
                    f"'{file.path}': the category {row.get('id')!r} ('{name}') has no name or an "
                    "id that is none or stands there twice"
                )
            else:
                named[row["id"]] = name
        return cls(file, images, rows, named)

    def entries(self, form: OutlineForm | None, faults: Faults) -> list[ImageEntry]:
        """An entry for each image, also for those without an object."""
        by_image = self._rows_by_image(faults)
        finder, made = ImageFinder(self.file), []
        for row in self.images:
            name = row.get("file_name")
            if not isinstance(name, str) or not name:
                faults.add(f"'{self.file.path}': the image {row.get('id')} has no file_name")
                continue
            path = finder.find(name)
            if path is None:
                faults.add(
                    f"'{self.file.path}' names the image '{name}', which is not there: looked in "
                    f"{finder.looked}"
                )
                continue
            rows = by_image.get(row["id"], []) if _is_id(row.get("id")) else []
            sized = self._size(row)
            mask = None if form is None else self._mask(rows, form, sized, name, faults)
            made.append(
                ImageEntry(
                    path,
                    image_name(path, self.file.root),
                    self.file.split,
                    f"'{self.file.path}'",
                    tuple(self._objects(rows, faults)),
                    mask,
                    sized,
                )
            )
        return made

    def _size(self, row: Mapping[str, Any]) -> tuple[int, int] | None:
        """Height and width of an image; None: they are not said."""
        height, width = row.get("height"), row.get("width")
        if _is_number(height) and _is_number(width) and height and width:
            return int(height), int(width)
        return None

    def _rows_by_image(self, faults: Faults) -> dict[Any, list[dict[str, Any]]]:
        known: set[Any] = set()
        for image in self.images:
            number = image.get("id")
            if not _is_id(number) or number in known:
                faults.add(
                    f"'{self.file.path}': the image '{image.get('file_name')}' has the id "
                    f"{number!r}, which is none or stands there twice"
                )
            else:
                known.add(number)
        found: dict[Any, list[dict[str, Any]]] = {}
        for row in self.rows:
            number = row.get("image_id")
            if not _is_id(number) or number not in known:
                faults.add(
                    f"'{self.file.path}', object {row.get('id')} is of the image {number!r}, "
                    "which is not among the images"
                )
            else:
                found.setdefault(number, []).append(row)
        return found

    def _objects(self, rows: Sequence[Mapping[str, Any]], faults: Faults) -> list[DrawnObject]:
        made = []
        for row in rows:
            where, box, category = f"object {row.get('id')}", row.get("bbox"), self._label(row)
            if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                faults.add(f"'{self.file.path}', {where}: bbox is no list of x, y, width, height")
            elif category is None:
                faults.add(
                    f"'{self.file.path}', {where} is of the category {row.get('category_id')!r}, "
                    "which is not among the categories"
                )
            else:
                x, y, width, height = map(float, box)
                corners = (x, y, x + width, y + height)
                made.append(DrawnObject(category, corners, where, bool(row.get("iscrowd"))))
        return made

    def _label(self, row: Mapping[str, Any]) -> str | None:
        number = row.get("category_id")
        return self.categories.get(number) if _is_id(number) else None

    def _mask(
        self,
        rows: Sequence[Mapping[str, Any]],
        form: OutlineForm,
        size: tuple[int, int] | None,
        name: str,
        faults: Faults,
    ) -> MaskFile | None:
        if size is None:
            faults.add(f"'{self.file.path}' says no height and width of '{name}', as masks need")
            return None
        outlines = []
        for row in rows:
            where = f"'{self.file.path}', object {row.get('id')} on '{name}'"
            fault = outline_fault(row["segmentation"], size)
            label = self._label(row)
            if fault:
                faults.add(f"{where}: {fault}")
            elif label is not None:
                outlines.append(Outline(label, row["segmentation"], where))
        place = Outlines(tuple(outlines), size)
        present = tuple(dict.fromkeys(outline.label for outline in outlines))
        return MaskFile(place, form, size, present, place.digest)


def _count_unnamed(files: Sequence[CocoFile], entries: Sequence[ImageEntry], tally: Tally) -> None:
    """Count the images in the source that no file names."""
    named, root = {str(entry.image) for entry in entries}, files[0].root
    for folder in sorted({entry.image.parent for entry in entries}):
        for path in (folder / name for name in sorted(direct_images(folder))):
            if str(path) not in named:
                tally.leave("images that no annotation names", image_name(path, root))


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -LARGEST_COORDINATE < value < LARGEST_COORDINATE  # NaN is none


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
