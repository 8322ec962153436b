"""Where images come from: a folder, a table, shards, an address, `tfds:NAME`, `hf:NAME` or a
built-in name.

A source yields plain records, no tensors, and imports no TensorFlow (but for `tfds:`). Labels go by
name: their order is the sorted order of all names that occur, whatever folders exist in which
split. What is not read is counted, and warned of.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graft.recipes.data.containers.parts import Part, part_rows
from graft.recipes.data.containers.tfds import load_tfds
from graft.recipes.data.folders.image_files import (
    count_beside,
    images_below,
    name_of,
    visible_folders,
)
from graft.recipes.data.folders.layout import class_folders, split_folders, split_names, unwrapped
from graft.recipes.data.labels import sort_labels, twin_hint
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLITS, Example, Source
from graft.recipes.data.specs import existing_place
from graft.recipes.data.tables.cells import read_label, read_split
from graft.recipes.data.tables.image_paths import ImagePaths
from graft.zoo.contents import Packed
from graft.zoo.errors import ConfigError, DataError

__all__ = ["BUILT_IN", "SPLITS", "Example", "Source", "load", "load_unlabelled"]

BUILT_IN = ("digits", "glyphs")


def load(
    spec: str,
    *,
    path_column: str = "path",
    label_column: str = "label",
    option: str = "--data",
    to_train: bool = True,
) -> Source:
    """Read the list of examples that `spec` names; images are not opened yet.

    Args:
        spec: a folder of class folders; a folder of train/validation/test folders that hold class
            folders; a `.csv`, `.tsv` or `.jsonl` file with a path and a label column (and, if it
            has one, a column `split`), paths relative to the file; a `.parquet`, `.arrow` or
            `.feather` file, in which images may lie themselves; a `.tar` of images with labels
            beside them; a folder of such files, or a name with `{0000..0009}` or `*` for them; an
            address of any of these; `tfds:NAME`, `hf:NAME`; or one of the built-in `digits`
            (handwritten) and `glyphs` (printed digits).
        path_column, label_column: what these are called in a table.
        option: what messages call `spec`.
        to_train: where nothing is trained on it, it needs no train split, and any number of classes
            and images.

    Returns:
        The source, as it was split.

    Raises:
        DataError: nothing there, nothing in it, or a row that cannot be used; to train on, a single
            class, or a class with less than two images.
        UnknownName: neither a path nor a built-in name.
        ConfigError: `tfds:` cannot prepare the data set.
    """
    tally = Tally()
    examples = _named(spec, tally)
    if examples is None:
        place, columns = existing_place(spec, BUILT_IN, option, tally), (path_column, label_column)
        is_folder = isinstance(place, Path)
        examples = _folder(place, tally) if is_folder else _table(place, columns, tally)
    source = _checked(spec, examples, to_train, tally)
    tally.warn(spec, sum(map(len, source.splits.values())))
    return source


def load_unlabelled(spec: str, *, path_column: str = "path", option: str = "--data") -> Source:
    """Read the list of images that `spec` names, without labels, even if it has some.

    A folder may also hold images directly, or at any depth. Of a source with splits those of
    "train" are taken, else all.

    Args:
        spec, path_column, option: see `load`.

    Returns:
        A source with all of them under "train".

    Raises:
        DataError, UnknownName, ConfigError: as `load` does; or there are splits, and "train" is
            none of them.
    """
    tally = Tally()
    splits = _named(spec, tally)
    if splits is None:
        place, columns = existing_place(spec, BUILT_IN, option, tally), (path_column,)
        is_folder = isinstance(place, Path)
        splits = _unlabelled_folder(place, tally) if is_folder else _table(place, columns, tally)
    if splits and "train" not in splits:
        raise DataError(
            f"'{spec}' has no train split to learn from, only {' and '.join(sorted(splits))}: name "
            "the folder of that split itself, or leave the column split away"
        )
    if not splits.get("train"):
        raise DataError(
            f"'{spec}' holds no images to adapt to: expected image files, or rows{tally.instead}"
        )
    bare = tuple(Example(example.image, "", example.name) for example in splits["train"])
    tally.warn(spec, len(bare))
    return Source(spec, (), {"train": bare}, tally.left_out)


def _named(spec: str, tally: Tally) -> dict[str, list[Example]] | None:
    """The examples of `tfds:NAME` or of a built-in name; None: `spec` is neither."""
    if spec.startswith("tfds:"):
        return _tfds(spec.removeprefix("tfds:"), tally)
    if spec not in BUILT_IN:
        return None
    from graft.recipes.data.builtin import digits, glyphs

    pairs = digits.load() if spec == "digits" else glyphs.load()
    examples = [Example(image, label, f"{spec[:-1]} {i}") for i, (image, label) in enumerate(pairs)]
    return {"train": examples}


def _tfds(name: str, tally: Tally) -> dict[str, list[Example]]:
    examples: dict[str, list[Example]] = {}
    for split, rows in load_tfds(name, tally).items():
        for i, (image, label) in enumerate(rows):
            if not isinstance(image, Packed) and np.ndim(image) != 3:
                raise ConfigError(
                    f"the inputs of the data set '{name}' are no images: this recipe needs images"
                )
            examples.setdefault(split, []).append(Example(image, label, f"{split} {i}"))
    return examples


def _checked(spec: str, examples: dict[str, list[Example]], to_train: bool, tally: Tally) -> Source:
    splits = {split: tuple(examples[split]) for split in SPLITS if examples.get(split)}
    everything = [example for split in splits.values() for example in split]
    if not everything:
        raise DataError(
            f"'{spec}' holds no images: expected class folders with image files, or "
            f"rows{tally.instead}"
        )
    labels = tuple(sort_labels(example.label for example in everything))
    if not to_train:
        return Source(spec, labels, splits, tally.left_out)
    if len(labels) < 2:
        raise DataError(
            f"'{spec}' holds one class only ('{labels[0]}'): a classifier needs at least "
            f"two{_deeper(spec, labels[0])}"
        )
    if "train" not in splits:
        raise DataError(
            f"'{spec}' has {' and '.join(splits)} but no train split: name one folder or split "
            "'train'"
        )
    counts = Counter(example.label for example in splits["train"])
    for label in labels:
        if counts[label] < 2:
            number = "one image" if counts[label] else "no image"
            raise DataError(
                f"class '{label}' of '{spec}' has {number} to train on{twin_hint(label, labels)}: "
                "add more, or remove the class"
            )
    return Source(spec, labels, splits, tally.left_out)


def _deeper(spec: str, label: str) -> str:
    """For the end of a message about a folder with one class folder: the classes may be one level
    deeper.
    """
    folder = Path(spec).expanduser() / label
    inner = [child.name for child in visible_folders(folder)] if folder.is_dir() else []
    if len(inner) < 2:
        return ""
    return f"; if '{inner[0]}' and '{inner[1]}' in it are the classes, give '{folder}'"


def _folder(root: Path, tally: Tally) -> dict[str, list[Example]]:
    top = unwrapped(root, root, tally)
    by_split = split_folders(top, tally)
    if by_split is None:
        return {"train": _classes(class_folders(top, root, tally), root, tally)}
    count_beside(top, root, tally)
    return {
        split: _classes(class_folders(folder, root, tally, split), root, tally)
        for split, folder in by_split.items()
    }


def _classes(folders: Sequence[Path], root: Path, tally: Tally) -> list[Example]:
    examples = []
    for folder in folders:
        of_class = Tally()
        found = _images_below(folder, root, folder.name, of_class)
        if not found:
            raise DataError(
                f"the class folder '{folder}' holds no images{of_class.instead}: add some or "
                "remove it"
            )
        tally.add(of_class)
        examples += found
    return examples


def _images_below(folder: Path, root: Path, label: str, tally: Tally) -> list[Example]:
    files = images_below(folder, root, tally)
    return [Example(file, label, name_of(file, root)) for file in files]


def _unlabelled_folder(root: Path, tally: Tally) -> dict[str, list[Example]]:
    beside = Tally()
    top = unwrapped(root, root, beside)
    if split_names([child.name for child in visible_folders(top)]):
        tally.add(beside)
    else:
        top = root  # what means nothing around classes may hold images too
    children = visible_folders(top)
    by_name = split_names([child.name for child in children])
    if not by_name or None in by_name.values():  # class folders, of which one may be called train
        for name in (name for name, split in by_name.items() if split not in (None, "train")):
            tally.note(
                "a folder that is called like a split stands among others, and is learned from too",
                name,
            )
        return {"train": _images_below(top, root, "", tally)}
    splits: dict[str, list[Example]] = {}
    for child in children:
        split = by_name[child.name] or "train"
        # Of the other splits nothing is read, so nothing is left out either.
        own = tally if split == "train" else Tally()
        splits.setdefault(split, []).extend(_images_below(child, root, "", own))
    count_beside(top, root, tally)
    return splits


def _table(parts: Sequence[Part], columns: Sequence[str], tally: Tally) -> dict[str, list[Example]]:
    """The rows of the files of a source by split.

    `columns` are that of the paths and that of the labels; without the second, nothing is read of
    splits but "train".
    """
    path_column, *label_columns = columns
    examples: dict[str, list[Example]] = {}
    for part in parts:
        images = ImagePaths(part.path, tally)
        for row in part_rows(part, columns, tally, path_column):
            split = read_split(row, tally)
            found = examples.setdefault(split, [])
            if not label_columns and split != "train":
                continue
            image, name = images.find(row, path_column)
            label = read_label(row, *label_columns, tally=tally) if label_columns else ""
            found.append(Example(image, label, name))
        images.check()
    return examples
