"""What classes are called, by their numbers or their colours: classes.txt, classes.json,
data.yaml.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.zoo.errors import DataError
from graft.zoo.labels import read_labels
from graft.zoo.terminal import warn

__all__ = [
    "MaskNames",
    "is_void",
    "read_mask_names",
    "read_names",
    "read_yaml_names",
    "yaml_folders",
]

VOID_NAMES = ("void", "unlabeled", "unlabelled", "ignore", "ignored", "not known", "unknown")
"""Names of what is no class: such pixels are not known."""
CHANNELS = 3


@dataclass(frozen=True)
class MaskNames:
    """What is said of the classes of masks.

    Attributes:
        path: the file.
        by_value: names by the values of pixels; empty where colours have names.
        by_colour: names by (red, green, blue).
    """

    path: Path
    by_value: Mapping[int, str]
    by_colour: Mapping[tuple[int, int, int], str]


def is_void(name: str) -> bool:
    """Whether a name says that a pixel is not known."""
    return name.strip().lower() in VOID_NAMES


def read_names(path: Path) -> dict[int, str]:
    """The names in a text file, one a line, by number from 0.

    Raises:
        DataError: it cannot be read, is empty, or a name stands there twice.
    """
    found = read_labels(path)
    for note in found.notes:
        warn(note)
    return dict(enumerate(found.labels))


def read_yaml_names(path: Path) -> dict[int, str]:
    """The `names` in the YAML file that YOLO's programs write: a list, or names by number.

    Raises:
        DataError: it cannot be read, has none, or `nc` is another number of them.
    """
    content = _yaml(path)
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(map(_is_number, names)):
        raise DataError(f"'{path}' has no names of classes: expected names: [NAME, ...]")
    count = content.get("nc", len(names))
    if count != len(names):
        raise DataError(f"'{path}' says that nc is {count}, and has {len(names)} names")
    found = {number: str(name) for number, name in names.items()}
    _check_twice(path, found.values())
    return found


def yaml_folders(path: Path) -> list[tuple[str, Path]]:
    """(train, val or test, folder) of the folders that such a file names and that are there,
    relative to it, or to `path` in it.

    Raises:
        DataError: it cannot be read.
    """
    content, found = _yaml(path), []
    tops = [path.parent / str(content.get("path") or "."), path.parent]
    for split in ("train", "val", "test"):
        named = content.get(split)
        for name in named if isinstance(named, list) else [named] if named else []:
            # Some programs write ../train/images beside train.
            places = [top / str(name) for top in tops] + [path.parent / str(name).lstrip("./")]
            there = next((place for place in places if place.is_dir()), None)
            found += [(split, there)] if there else []
    return found


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"'{path}' cannot be read as YAML ({error})") from error
    return content if isinstance(content, dict) else {}


def read_mask_names(path: Path) -> MaskNames:
    """The names in classes.txt (one a line, by value from 0) or in classes.json: a list of names,
    {VALUE: NAME}, {NAME: VALUE} or {NAME: [RED, GREEN, BLUE]}.

    Raises:
        DataError: it cannot be read, or is of another form.
    """
    if path.suffix.lower() != ".json":
        return MaskNames(path, read_names(path), {})
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"'{path}' cannot be read as JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("classes"), list | dict):
        content = content["classes"]
    pairs = _pairs(content)
    if not pairs:
        raise DataError(
            f"'{path}' names no classes: expected [NAME, ...], {{VALUE: NAME}}, {{NAME: VALUE}} or "
            "{NAME: [RED, GREEN, BLUE]}"
        )
    _check_twice(path, [name for name, _ in pairs])
    _check_twice(path, [str(value) for _, value in pairs])
    if all(isinstance(value, tuple) for _, value in pairs):
        return MaskNames(path, {}, {value: name for name, value in pairs})
    return MaskNames(path, {value: name for name, value in pairs}, {})


def _pairs(content: Any) -> list[tuple[str, Any]]:
    """(name, value or colour) of what a JSON file says; none where it is of another form."""
    if isinstance(content, list):
        return list(zip(content, range(len(content)), strict=True)) if _all_texts(content) else []
    if not isinstance(content, dict):
        return []
    if all(key.isdecimal() for key in content) and _all_texts(content.values()):
        return sorted(((name, int(key)) for key, name in content.items()), key=lambda pair: pair[1])
    if all(map(_is_number, content.values())):
        return sorted(content.items(), key=lambda pair: pair[1])
    colours = list(content.values())
    if all(isinstance(c, list) and len(c) == CHANNELS and all(map(_is_number, c)) for c in colours):
        return [(name, tuple(colour)) for name, colour in content.items()]
    return []


def _all_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_twice(path: Path, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"'{path}' says '{name}' twice: give each class a name of its own")
        seen.add(name)
