"""Where examples come from: a folder, a table, `tfds:NAME` or a built-in name.

A source yields plain records, no tensors, and imports no TensorFlow (but for `tfds:`). Labels go by
name: their order is the sorted order of all names that occur, whatever folders exist in which
split. What is not read is counted, and warned of.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graft.recipes.data import folders, tables
from graft.recipes.data.labels import sort_labels, twin_hint
from graft.recipes.data.reading import LeftOut, Tally, listed
from graft.recipes.data.records import SPLITS, Example, Source
from graft.recipes.data.tables import SPLIT_NAMES
from graft.zoo.errors import ConfigError, DataError, UnknownName

__all__ = [
    "BUILT_IN",
    "SPLITS",
    "Example",
    "Source",
    "another_form",
    "load",
    "load_tfds",
    "load_unlabelled",
    "nothing_there",
    "tfds_label",
]

BUILT_IN = ("digits", "glyphs")
INPUTS = ("image", "text", "sentence", "review", "question")
"""What data sets of TensorFlow Datasets call their input, where they do not say which it is."""


def load(
    spec: str,
    *,
    path_column: str = "path",
    label_column: str = "label",
    option: str = "--data",
    to_train: bool = True,
) -> Source:
    """Read the list of examples that `spec` names; pictures are not opened yet.

    `spec`: a folder of class folders; a folder of train/validation/test folders that hold class
        folders; a `.csv`, `.tsv`
    or `.jsonl` file with a path and a label column (and, if it has one, a column `split`), paths
    relative to the file; `tfds:NAME`; or one of the built-in `digits` (handwritten) and `glyphs`
    (printed digits). `option` is what messages call it. Where nothing is trained on it (`to_train`
    False) it needs no train split, and any number of classes and pictures.

    Raises:
        DataError: nothing there, nothing in it, or a row that cannot be used; to train on, a single
            class, or a class with less than two pictures.
        UnknownName: neither a path nor a built-in name.
        ConfigError: `tfds:` cannot prepare the data set.
    """
    path, tally = Path(spec).expanduser(), Tally()
    if spec.startswith("tfds:"):
        examples = _tfds(spec.removeprefix("tfds:"), tally)
    elif spec in BUILT_IN:
        examples = _built_in(spec)
    elif path.is_dir():
        examples = _folder(path, tally)
    elif path.suffix.lower() in tables.SUFFIXES and path.is_file():
        examples = _table(path, path_column, label_column, tally)
    elif path.exists():
        raise _another_kind(spec, option)
    else:
        raise nothing_there(spec, BUILT_IN, option)
    source = _checked(spec, examples, to_train, tally)
    tally.warn(spec, sum(map(len, source.splits.values())))
    return source


def load_unlabelled(spec: str, *, path_column: str = "path", option: str = "--data") -> Source:
    """Read the list of pictures that `spec` names, without labels, even if it has some; see `load`.

    A folder may also hold pictures directly, or at any depth. Of a source with splits those of
    "train" are taken, else all.

    Raises:
        DataError, UnknownName, ConfigError: as `load` does; or there are splits, and "train" is
            none of them.
    """
    path, tally = Path(spec).expanduser(), Tally()
    left_out: tuple[LeftOut, ...] = ()
    splits: dict[str, list[Example]] = {}
    if spec.startswith("tfds:") or spec in BUILT_IN:
        source = load(spec, option=option, to_train=False)
        splits, left_out = (
            {name: list(part) for name, part in source.splits.items()},
            source.left_out,
        )
    elif path.is_dir():
        splits = _unlabelled_folder(path, tally)
    elif path.suffix.lower() in tables.SUFFIXES and path.is_file():
        splits = _unlabelled_table(path, path_column, tally)
    elif path.exists():
        raise _another_kind(spec, option)
    else:
        raise nothing_there(spec, BUILT_IN, option)
    if splits and "train" not in splits:
        raise DataError(
            f"'{spec}' has no train split to learn from, only {' and '.join(sorted(splits))}: name "
            "the folder of that split "
            "itself, or leave the column split away"
        )
    if not splits.get("train"):
        raise DataError(
            f"'{spec}' holds no pictures to adapt to: expected image files, or "
            f"rows{_but(tally.left_out)}"
        )
    bare = tuple(Example(example.image, "", example.name) for example in splits["train"])
    tally.warn(spec, len(bare))
    return Source(spec, (), {"train": bare}, left_out + tally.left_out)


def nothing_there(
    spec: str, built_in: Sequence[str], option: str = "--data"
) -> DataError | UnknownName:
    """What to raise where `spec`, given to `option`, is neither a path that exists nor a built-in
    name.
    """
    if re.search(r"[/\\.]", spec):
        return DataError(f"there is no file or folder '{spec}': check the path given to {option}")
    return UnknownName("folder, file or built-in data set", spec, built_in)


def _another_kind(spec: str, option: str) -> DataError:
    expected = "expected a folder, a .csv, .tsv or .jsonl file, or tfds:NAME"
    return DataError(f"'{spec}' is no data source: {expected} for {option}{another_form(spec)}")


def another_form(spec: str) -> str:
    """What to do with a file of a form that is not read, for the end of a message."""
    name = spec.lower()
    if name.endswith((".gz", ".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".zst")):
        return "; unpack it first"
    if name.endswith((".xlsx", ".xls", ".ods", ".parquet")):
        return "; save it as .csv"
    return (
        "; write each element of an array on a line of a .jsonl file"
        if name.endswith(".json")
        else ""
    )


def _deeper(spec: str, label: str) -> str:
    """For the end of a message about a folder with one class folder: the classes may be one level
    deeper.
    """
    folder = Path(spec).expanduser() / label
    inner = [child.name for child in folders.visible_folders(folder)] if folder.is_dir() else []
    return (
        f"; if '{inner[0]}' and '{inner[1]}' in it are the classes, give '{folder}'"
        if len(inner) > 1
        else ""
    )


def _but(left_out: Sequence[LeftOut]) -> str:
    """For the end of a message about something that holds nothing."""
    return f" (there are {listed(left_out, examples=True)})" if left_out else ""


def _checked(spec: str, examples: dict[str, list[Example]], to_train: bool, tally: Tally) -> Source:
    splits = {split: tuple(examples[split]) for split in SPLITS if examples.get(split)}
    everything = [example for split in splits.values() for example in split]
    if not everything:
        raise DataError(
            f"'{spec}' holds no pictures: expected class folders with image files, or "
            f"rows{_but(tally.left_out)}"
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
            number = "no picture" if not counts[label] else "one picture"
            raise DataError(
                f"class '{label}' of '{spec}' has {number} to train on{twin_hint(label, labels)}: "
                "add more, or remove the "
                "class"
            )
    return Source(spec, labels, splits, tally.left_out)


def _folder(root: Path, tally: Tally) -> dict[str, list[Example]]:
    top = folders.unwrapped(root, root, tally)
    by_split = folders.split_folders(top, tally)
    if by_split is None:
        return {"train": _classes(folders.class_folders(top, root, tally), root, tally)}
    folders.count_beside(top, root, tally)
    return {
        split: _classes(folders.class_folders(folder, root, tally, split), root, tally)
        for split, folder in by_split.items()
    }


def _classes(class_folders: Sequence[Path], root: Path, tally: Tally) -> list[Example]:
    examples = []
    for folder in class_folders:
        of_class = Tally()
        found = _pictures_below(folder, root, folder.name, of_class)
        if not found:
            raise DataError(
                f"the class folder '{folder}' holds no pictures{_but(of_class.left_out)}: add some "
                "or remove it"
            )
        tally.add(of_class)
        examples += found
    return examples


def _pictures_below(folder: Path, root: Path, label: str, tally: Tally) -> list[Example]:
    files = folders.pictures_below(folder, root, tally)
    return [Example(file, label, folders.name_of(file, root)) for file in files]


def _unlabelled_folder(root: Path, tally: Tally) -> dict[str, list[Example]]:
    beside = Tally()
    top = folders.unwrapped(root, root, beside)
    if folders.split_names([child.name for child in folders.visible_folders(top)]):
        tally.add(beside)
    else:
        top = root  # what means nothing around classes may hold pictures too
    children = folders.visible_folders(top)
    by_name = folders.split_names([child.name for child in children])
    if not by_name or None in by_name.values():  # class folders, of which one may be called train
        for name in (name for name, split in by_name.items() if split not in (None, "train")):
            tally.note(
                "a folder that is called like a split stands among others, and is learned from too",
                name,
            )
        return {"train": _pictures_below(top, root, "", tally)}
    splits: dict[str, list[Example]] = {}
    for child in children:
        # Of the other splits nothing is read, so nothing is left out either.
        own = tally if by_name[child.name] == "train" else Tally()
        splits.setdefault(by_name[child.name], []).extend(_pictures_below(child, root, "", own))
    folders.count_beside(top, root, tally)
    return splits


def _unlabelled_table(path: Path, path_column: str, tally: Tally) -> dict[str, list[Example]]:
    splits: dict[str, list[Example]] = {}
    pictures = tables.Pictures(path, tally)
    for line, row in tables.rows(path, (path_column,), tally):
        split = tables.split_of(path, line, row, tally)
        found = splits.setdefault(split, [])
        if split == "train":
            file, name = pictures.find(line, tables.one(path, line, row, path_column, "path"))
            found.append(Example(file, "", name))
    pictures.check()
    return splits


def _table(
    path: Path, path_column: str, label_column: str, tally: Tally
) -> dict[str, list[Example]]:
    examples: dict[str, list[Example]] = {}
    pictures = tables.Pictures(path, tally)
    for line, row in tables.rows(path, (path_column, label_column), tally):
        given = tables.one(path, line, row, path_column, "path")
        label = tables.label(path, line, row, label_column, tally=tally)
        split = tables.split_of(path, line, row, tally)
        file, name = pictures.find(line, given)
        examples.setdefault(split, []).append(Example(file, label, name))
    pictures.check()
    return examples


def _built_in(name: str) -> dict[str, list[Example]]:
    from graft.recipes.data.builtin import digits, glyphs

    pairs = digits.load() if name == "digits" else glyphs.load()
    return {
        "train": [
            Example(image, label, f"{name[:-1]} {i}") for i, (image, label) in enumerate(pairs)
        ]
    }


def _tfds(name: str, tally: Tally) -> dict[str, list[Example]]:
    examples: dict[str, list[Example]] = {}
    for split, rows in load_tfds(name, tally).items():
        for i, (image, label) in enumerate(rows):
            if not isinstance(image, np.ndarray) or image.ndim != 3:
                raise ConfigError(
                    f"the inputs of the data set '{name}' are no pictures: this recipe needs images"
                )
            examples.setdefault(split, []).append(Example(image, label, f"{split} {i}"))
    return examples


def load_tfds(name: str, tally: Tally) -> dict[str, list[tuple]]:
    """The pairs (input, name of the label) of a data set of TensorFlow Datasets, by split; `tally`
    counts what has no label or is in no split of ours.

    Raises:
        ConfigError: it does not exist, cannot be prepared, or has no pairs of input and label.
    """
    import tensorflow_datasets as tfds

    try:
        loaded, info = tfds.load(name, with_info=True)
    except tfds.core.DatasetNotFoundError as error:
        raise ConfigError(
            f"TensorFlow Datasets knows no data set '{name}': see tfds.list_builders()"
        ) from error
    except (
        Exception
    ) as error:  # tfds passes on whatever its downloader, its reader or its builder raises
        raise ConfigError(
            f"TensorFlow Datasets could not prepare '{name}' ({type(error).__name__}: {error}): "
            "without a network, "
            "prepare it elsewhere and copy its folder to ~/tensorflow_datasets (or set "
            "TFDS_DATA_DIR)"
        ) from error
    examples: dict[str, list[tuple]] = {}
    # The data sets of glue and others do not say which of their features belong together.
    pair = info.supervised_keys or (
        next((key for key in INPUTS if key in info.features), None),
        "label",
    )
    if any(key not in info.features for key in pair):
        raise ConfigError(
            f"the data set '{name}' has no pairs of input and label: its features are "
            f"{', '.join(info.features)}"
        )
    feature = info.features[pair[1]]
    for split, dataset in loaded.items():
        if split not in SPLIT_NAMES:
            count = info.splits[split].num_examples
            if count:
                tally.leave(f"of the split {split}", f"{split} 0", count)
            continue
        for i, row in enumerate(tfds.as_numpy(dataset)):
            label = tfds_label(name, feature, row[pair[1]])
            if label is None:
                tally.leave("without a label", f"{split} {i}")
            else:
                examples.setdefault(SPLIT_NAMES[split], []).append((row[pair[0]], label))
    return examples


def tfds_label(name: str, feature, value) -> str | None:
    """The name of a label of the data set `name`; None where a test split keeps it secret.

    Args:
        name: of the data set, for messages.
        feature: its `tfds` feature, which may know names of numbers.
        value: a number, bytes, or an array of one.

    Raises:
        ConfigError: it is several labels, or no label at all.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str | bytes | int | float | np.generic):
        count = (
            f"{value.size} values" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        )
        raise ConfigError(
            f"a label of the data set '{name}' is {count}, expected one name or number"
        )
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace").strip()
        return value or None
    if hasattr(feature, "int2str"):
        return feature.int2str(int(value)) if int(value) >= 0 else None
    return str(value)
