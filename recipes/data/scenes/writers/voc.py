"""Scenes as Pascal VOC writes them."""

from pathlib import Path
from xml.etree import ElementTree

from graft.recipes.data.scenes.readers.voc import CORNERS
from graft.recipes.data.scenes.writers.named import NamedScene, link_image, number_shown

__all__ = ["write_voc"]

CHANNELS = "3"


def write_voc(scenes: list[NamedScene], labels: tuple[str, ...], folder: Path) -> None:
    """Write JPEGImages/, Annotations/ and ImageSets/Main/SPLIT.txt. Corners count from 0; crowds
    are `difficult`.

    Args:
        scenes: all of them.
        labels: of the boxes; each file names its own.
        folder: an empty one.
    """
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for one in scenes:
        link_image(one.scene.image, folder / "JPEGImages" / (one.stem + one.suffix))
        tree = ElementTree.ElementTree(_annotation(one))
        ElementTree.indent(tree)
        tree.write(folder / "Annotations" / f"{one.stem}.xml", encoding="utf-8")
    for split in dict.fromkeys(one.split for one in scenes):
        stems = [one.stem for one in scenes if one.split == split]
        target = folder / "ImageSets" / "Main" / f"{split}.txt"
        target.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def _annotation(one: NamedScene) -> ElementTree.Element:
    """The XML of an image."""
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", one.stem + one.suffix)
    _add(_add(root, "source"), "database", "Unknown")
    height, width = one.scene.size
    size = _add(root, "size")
    for name, text in (("width", str(width)), ("height", str(height)), ("depth", CHANNELS)):
        _add(size, name, text)
    boxes = one.boxes
    for number, label in enumerate(boxes.labels):
        found = _add(root, "object")
        _add(found, "name", label)
        _add(found, "difficult", str(int(boxes.crowd[number])))
        box = _add(found, "bndbox")
        for name, value in zip(CORNERS, boxes.corners[number].tolist(), strict=True):
            _add(box, name, number_shown(value))
    return root


def _add(parent: ElementTree.Element, name: str, text: str | None = None) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, name)
    made.text = text
    return made
