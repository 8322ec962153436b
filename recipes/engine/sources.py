"""Where examples come from: a folder, a table, `tfds:NAME` or a built-in name.

A source yields plain records, no tensors, and imports no TensorFlow (but for `tfds:`). Labels go by name: their order is
the sorted order of all names that occur, whatever folders exist in which split.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recipes.engine import tables
from recipes.engine.tables import SPLIT_NAMES
from zoo.errors import ConfigError, DataError, UnknownName
from zoo.vision import IMAGE_SUFFIXES, content_digest

__all__ = ["BUILT_IN", "SPLITS", "Example", "Source", "load", "load_tfds", "load_unlabelled", "nothing_there"]

SPLITS = ("train", "validation", "test")
BUILT_IN = ("digits", "glyphs")
INPUTS = ("image", "text", "sentence", "review", "question")
"""What data sets of TensorFlow Datasets call their input, where they do not say which it is."""


@dataclass(frozen=True)
class Example:
    """One picture: a file or uint8 pixels `(h, w, 3)`. `name` is what messages and the report call it; one without a label
    has "" for it."""

    image: Path | np.ndarray
    label: str
    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Its label, alone."""
        return (self.label,)

    @property
    def group(self) -> str:
        """What splits are stratified by."""
        return self.label

    @property
    def target(self) -> str:
        """All that is to be learned from it, as text."""
        return self.label

    @cached_property
    def digest(self) -> str:
        """A hash of the content; a file is read once, though splits, fingerprint and duplicates all ask."""
        return content_digest(self.image)


@dataclass(frozen=True)
class Source:
    """Labelled examples by split. A source without splits has all of them under "train".

    `labels` holds every name that occurs in any split, sorted; `made` are the splits that were made of its training data.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Example, ...]]
    made: tuple[str, ...] = ()


def load(
    spec: str, *, path_column: str = "path", label_column: str = "label", option: str = "--data", to_train: bool = True
) -> Source:
    """Read the list of examples that `spec` names; pictures are not opened yet.

    `spec`: a folder of class folders; a folder of train/validation/test folders that hold class folders; a `.csv`, `.tsv`
    or `.jsonl` file with a path and a label column (and, if it has one, a column `split`), paths relative to the file;
    `tfds:NAME`; or one of the built-in `digits` (handwritten) and `glyphs` (printed digits). `option` is what messages call
    it. Where nothing is trained on it (`to_train` False) it needs no train split, and any number of classes and pictures.

    Raises:
        DataError: nothing there, nothing in it, or a row that cannot be used; to train on, a single class, or a class with
            less than two pictures.
        UnknownName: neither a path nor a built-in name.
        ConfigError: `tfds:` cannot prepare the data set.
    """
    path = Path(spec).expanduser()
    if spec.startswith("tfds:"):
        examples = _tfds(spec.removeprefix("tfds:"))
    elif spec in BUILT_IN:
        examples = _built_in(spec)
    elif path.is_dir():
        examples = _folder(path)
    elif path.suffix.lower() in tables.SUFFIXES and path.is_file():
        examples = _table(path, path_column, label_column)
    elif path.exists():
        raise _another_kind(spec, option)
    else:
        raise nothing_there(spec, BUILT_IN, option)
    return _checked(spec, examples, to_train)


def load_unlabelled(spec: str, *, path_column: str = "path", option: str = "--data") -> tuple[Example, ...]:
    """Read the list of pictures that `spec` names, without labels, even if it has some; see `load`.

    A folder may also hold pictures directly, or at any depth. Of a source with splits those of "train" are taken, else all.

    Raises:
        DataError, UnknownName, ConfigError: as `load` does; or there are splits, and "train" is none of them.
    """
    path = Path(spec).expanduser()
    splits: dict[str, list[Example]] = {}
    if spec.startswith("tfds:") or spec in BUILT_IN:
        splits = {name: list(part) for name, part in load(spec, option=option, to_train=False).splits.items()}
    elif path.is_dir():
        by_split = {child: SPLIT_NAMES.get(child.name.lower()) for child in _folders(path)}
        if not by_split or None in by_split.values():  # class folders, of which one may be called train
            by_split = {path: "train"}
        for child, split in by_split.items():
            splits.setdefault(split, []).extend(_pictures_below(child, path, ""))
    elif path.suffix.lower() in tables.SUFFIXES and path.is_file():
        for line, row in tables.rows(path):
            split = tables.split_of(path, line, row)
            found = splits.setdefault(split, [])
            if split == "train":
                found.append(_named(path, line, str(tables.cell(path, line, row, path_column)), ""))
    elif path.exists():
        raise _another_kind(spec, option)
    else:
        raise nothing_there(spec, BUILT_IN, option)
    if splits and "train" not in splits:
        raise DataError(
            f"'{spec}' has no train split to learn from, only {' and '.join(sorted(splits))}: name the folder of that split "
            "itself, or leave the column split away"
        )
    if not splits.get("train"):
        raise DataError(f"'{spec}' holds no pictures to adapt to: expected image files, or rows")
    return tuple(Example(example.image, "", example.name) for example in splits["train"])


def nothing_there(spec: str, built_in: Sequence[str], option: str = "--data") -> DataError | UnknownName:
    """What to raise where `spec`, given to `option`, is neither a path that exists nor a built-in name."""
    if re.search(r"[/\\.]", spec):
        return DataError(f"there is no file or folder '{spec}': check the path given to {option}")
    return UnknownName("folder, file or built-in data set", spec, built_in)


def _another_kind(spec: str, option: str) -> DataError:
    expected = "expected a folder, a .csv, .tsv or .jsonl file, or tfds:NAME"
    return DataError(f"'{spec}' is no data source: {expected} for {option}")


def _checked(spec: str, examples: dict[str, list[Example]], to_train: bool) -> Source:
    splits = {split: tuple(examples[split]) for split in SPLITS if examples.get(split)}
    everything = [example for split in splits.values() for example in split]
    if not everything:
        raise DataError(f"'{spec}' holds no pictures: expected class folders with image files, or rows")
    labels = tuple(sorted({example.label for example in everything}))
    if not to_train:
        return Source(spec, labels, splits)
    if len(labels) < 2:
        raise DataError(f"'{spec}' holds one class only ('{labels[0]}'): a classifier needs at least two")
    if "train" not in splits:
        raise DataError(f"'{spec}' has {' and '.join(splits)} but no train split: name one folder or split 'train'")
    counts = Counter(example.label for example in splits["train"])
    for label in labels:
        if counts[label] < 2:
            number = "no picture" if not counts[label] else "one picture"
            raise DataError(f"class '{label}' of '{spec}' has {number} to train on: add more, or remove the class")
    return Source(spec, labels, splits)


def _folders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def _folder(root: Path) -> dict[str, list[Example]]:
    folders = _folders(root)
    if not folders:
        raise DataError(
            f"the folder '{root}' holds no class folders: put the pictures of each class into a folder of its own"
        )
    by_split = {child: SPLIT_NAMES.get(child.name.lower()) for child in folders}
    if not any(by_split.values()):
        return {"train": _class_folders(root, root)}
    strangers = [child.name for child, split in by_split.items() if split is None]
    if strangers:
        raise DataError(
            f"'{root}' mixes split folders with '{strangers[0]}': expected either class folders only, or only "
            "train, validation and test"
        )
    examples: dict[str, list[Example]] = {}
    for child, split in by_split.items():
        if split in examples:
            raise DataError(f"'{root}' has two folders for the split '{split}', '{child.name}' and another: keep one")
        examples[split] = _class_folders(child, root)
    return examples


def _class_folders(folder: Path, root: Path) -> list[Example]:
    examples = []
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or child.name.startswith("."):
            continue
        found = _pictures_below(child, root, child.name)
        if not found:
            raise DataError(f"the class folder '{child}' holds no pictures: add some or remove it")
        examples += found
    return examples


def _pictures_below(folder: Path, root: Path, label: str) -> list[Example]:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and _stands_for_a_picture(f))
    # A name that is no UTF-8 (from an old archive) could not be written into any report.
    names = [f.relative_to(root).as_posix().encode("utf-8", "replace").decode() for f in files]
    return [Example(f, label, name) for f, name in zip(files, names, strict=True)]


def _stands_for_a_picture(path: Path) -> bool:
    """Whether what has the name of a picture is to be opened as one. A pipe or a link to nothing is: whoever decodes it says
    what is wrong with it. A folder of pictures may be called after them, an empty one is a picture that is lost."""
    if not path.is_dir():
        return True
    return not any(f.suffix.lower() in IMAGE_SUFFIXES for f in path.rglob("*"))


def _table(path: Path, path_column: str, label_column: str) -> dict[str, list[Example]]:
    examples: dict[str, list[Example]] = {}
    for line, row in tables.rows(path):
        name, label = (str(tables.cell(path, line, row, column)) for column in (path_column, label_column))
        examples.setdefault(tables.split_of(path, line, row), []).append(_named(path, line, name, label))
    return examples


def _named(table: Path, line: int, name: str, label: str) -> Example:
    picture = table.parent / name
    if not os.path.lexists(picture):
        raise DataError(f"'{table}', line {line}: there is no file '{picture}' (paths are relative to the table)")
    return Example(picture, label, name)


def _built_in(name: str) -> dict[str, list[Example]]:
    from recipes.data import digits, glyphs

    pairs = digits.load() if name == "digits" else glyphs.load()
    return {"train": [Example(image, label, f"{name[:-1]} {i}") for i, (image, label) in enumerate(pairs)]}


def _tfds(name: str) -> dict[str, list[Example]]:
    loaded = load_tfds(name)
    return {
        split: [Example(np.asarray(image), label, f"{split} {i}") for i, (image, label) in enumerate(rows)]
        for split, rows in loaded.items()
    }


def load_tfds(name: str) -> dict[str, list[tuple]]:
    """The pairs (input, name of the label) of a data set of TensorFlow Datasets, by split.

    Raises:
        ConfigError: it does not exist, cannot be prepared, or has no pairs of input and label.
    """
    import tensorflow_datasets as tfds

    try:
        loaded, info = tfds.load(name, with_info=True)
    except tfds.core.DatasetNotFoundError as error:
        raise ConfigError(f"TensorFlow Datasets knows no data set '{name}': see tfds.list_builders()") from error
    except Exception as error:  # tfds passes on whatever its downloader, its reader or its builder raises
        raise ConfigError(
            f"TensorFlow Datasets could not prepare '{name}' ({type(error).__name__}: {error}): without a network, "
            "prepare it elsewhere and copy its folder to ~/tensorflow_datasets (or set TFDS_DATA_DIR)"
        ) from error
    examples: dict[str, list[tuple]] = {}
    # The data sets of glue and others do not say which of their features belong together.
    pair = info.supervised_keys or (next((key for key in INPUTS if key in info.features), None), "label")
    if any(key not in info.features for key in pair):
        raise ConfigError(
            f"the data set '{name}' has no pairs of input and label: its features are {', '.join(info.features)}"
        )
    feature = info.features[pair[1]]
    for split, dataset in loaded.items():
        if split not in SPLIT_NAMES:
            continue
        for row in tfds.as_numpy(dataset):
            given, label = row[pair[0]], row[pair[1]]
            if hasattr(feature, "int2str") and int(label) < 0:  # a test split whose labels are kept secret
                continue
            text = feature.int2str(int(label)) if hasattr(feature, "int2str") else str(label)
            examples.setdefault(SPLIT_NAMES[split], []).append((given, text))
    return examples
