"""Where sentences come from: a table, a file of tagged words, a folder of either, `tfds:NAME` or a
built-in name.

Plain records, no tensors. One loader for all text recipes: a sentence has a label, tags for its
words, or both.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.recipes.data.containers.parts import Part, part_rows
from graft.recipes.data.containers.tfds import load_tfds
from graft.recipes.data.folders.image_files import is_hidden
from graft.recipes.data.folders.layout import split_names
from graft.recipes.data.labels import sort_labels, twin_hint
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLITS, Columns, Sentence, Source
from graft.recipes.data.specs import another_form, nothing_there, place_of
from graft.recipes.data.tables.cells import read_cell, read_label, read_split
from graft.recipes.data.tables.rows import SUFFIXES
from graft.recipes.data.tables.text_files import split_words
from graft.recipes.data.tagged_words import (
    TAGGED,
    check_tags,
    parallel_sentences,
    tagged_sentences,
)
from graft.zoo.errors import ConfigError, DataError

__all__ = ["BUILT_IN", "Columns", "Sentence", "load", "tag_names"]

COLUMNS = Columns()
BUILT_IN = ("commands",)
LABEL, TAGS = "label", "tags"
"""What a sentence may have to have: the columns of a table that hold it are called so too."""


@dataclass(frozen=True)
class _Asked:
    """What each sentence must have, where a table holds it, and what was noted while reading."""

    need: Sequence[str]
    columns: Columns
    several: bool
    tally: Tally


def load(
    spec: str,
    *,
    need: Sequence[str],
    columns: Columns = COLUMNS,
    several: bool = False,
    option: str = "--data",
    to_train: bool = True,
) -> Source:
    """Read the sentences that `spec` names.

    Args:
        spec: a `.csv`, `.tsv` or `.jsonl` file with a text and a label column (and, if it has one,
            a column `split`); a `.conll`, `.bio`, `.iob2` or `.txt` file of tagged words; a folder
            that holds such a file for each split (`train.csv`, `dev.conll`), or for each split a
            folder with the files seq.in, seq.out and label; Parquet, Arrow, Feather or tar files,
            an address, `hf:NAME` (see `sources.load`); `tfds:NAME`; or the built-in `commands`.
        need: what each sentence must have: "label", "tags" or both.
        columns: what the columns of a table are called.
        several: whether a cell may hold many labels, separated by ";", and none.
        option: what a message calls `spec`.
        to_train: where nothing is trained on it, it needs no train split, and any number of labels
            and of sentences with one.

    Returns:
        The source, as it was split.

    Raises:
        DataError: nothing there, nothing in it, or a row that cannot be used.
        UnknownName: neither a path nor a built-in name.
        ConfigError: `tfds:` cannot prepare the data set.
    """
    tally = Tally()
    asked = _Asked(need, columns, several, tally)
    if spec.startswith("tfds:"):
        sentences = _tfds(spec.removeprefix("tfds:"), tally)
    elif spec in BUILT_IN:
        from graft.recipes.data.builtin import commands

        sentences = commands.load()
    else:
        place = place_of(spec, tally)
        if isinstance(place, Path) and place.is_dir():
            sentences = _folder(place, asked)
        elif isinstance(place, list) or place.is_file():
            sentences = _parts(place if isinstance(place, list) else [Part(place)], asked)
        else:
            raise nothing_there(spec, BUILT_IN, option)
    splits = {split: tuple(sentences[split]) for split in SPLITS if sentences.get(split)}
    labels = _checked(spec, splits, asked, to_train)
    tally.warn(spec, sum(map(len, splits.values())))
    return Source(spec, labels, splits, tally.left_out)


def tag_names(source: Source) -> tuple[str, ...]:
    """All tags of `source`, "O" first, then sorted."""
    sentences = (sentence for split in source.splits.values() for sentence in split)
    found = {tag for sentence in sentences for tag in sentence.answers["tags"]}
    return ("O", *sorted(found - {"O"}))


def _checked(
    spec: str, splits: Mapping[str, Sequence[Sentence]], asked: _Asked, to_train: bool
) -> tuple[str, ...]:
    """The labels that occur, where sentences need one.

    Raises:
        DataError: the sentences cannot be learned from.
    """
    everything = [sentence for split in splits.values() for sentence in split]
    if not everything:
        raise DataError(f"'{spec}' holds no sentences")
    if "train" not in splits and to_train:
        raise DataError(
            f"'{spec}' has {' and '.join(splits)} but no train split: name one file, folder or "
            "split 'train'"
        )
    for what in asked.need:
        for sentence in everything:
            if not (sentence.label or asked.several if what == LABEL else sentence.tags):
                raise DataError(
                    f"{sentence.name} of '{spec}' has no {what}: this recipe needs "
                    f"{' and '.join(asked.need)}"
                )
    names = {
        split: [name for s in part for name in (s.labels if asked.several else (s.label,))]
        for split, part in splits.items()
        if LABEL in asked.need
    }
    if names and to_train:
        _check_labels(spec, names, asked.several)
    if TAGS in asked.need and to_train:
        _check_tags_are_trained(spec, splits)
    return tuple(sort_labels(name for part in names.values() for name in part))


def _check_tags_are_trained(spec: str, splits: Mapping[str, Sequence[Sentence]]) -> None:
    trained = {tag for sentence in splits["train"] for tag in sentence.tags}
    for split in SPLITS[1:]:
        for sentence in splits.get(split, ()):
            for tag in sentence.tags:
                if tag not in trained:
                    where = f"{sentence.name} of '{spec}' has the tag '{tag}', which"
                    raise _not_trained(where, split, tag, trained, "tag")


def _check_labels(spec: str, names: Mapping[str, Sequence[str]], several: bool) -> None:
    """Refuse labels, by split, that cannot be learned."""
    counts, every = Counter(names["train"]), {name for part in names.values() for name in part}
    if len(every) < (1 if several else 2):
        raise DataError(
            f"'{spec}' holds one class only ({', '.join(every)}): a classifier needs at least two"
        )
    for label in sorted(every):
        if ";" in label:
            raise DataError(
                f"the label '{label}' of '{spec}' holds ';', which stands between several labels: "
                "rename it"
            )
        if not counts[label]:
            split = next(split for split in SPLITS[1:] if label in names.get(split, ()))
            raise _not_trained(f"the label '{label}' of '{spec}'", split, label, every, "label")
        if counts[label] < 2 and not several:
            raise DataError(
                f"class '{label}' of '{spec}' has one example to train on"
                f"{twin_hint(label, every)}: add more, or remove the class"
            )


def _not_trained(where: str, split: str, name: str, others: set[str], kind: str) -> DataError:
    """The error of a label or tag that only a `split` has which nothing is learned from."""
    return DataError(
        f"{where} occurs in {split} only{twin_hint(name, others)}: a model cannot learn what the "
        f"training data do not show; add examples, or correct the {kind}"
    )


def _folder(folder: Path, asked: _Asked) -> dict[str, list[Sentence]]:
    found: dict[str, list[Sentence]] = {}
    children = [child for child in sorted(folder.iterdir()) if not is_hidden(child.name)]
    by_name = split_names([child.name.split(".")[0] for child in children])
    others = []
    for child in children:
        split = by_name[child.name.split(".")[0]]
        if split is None or (child.is_file() and not _is_read(child)):
            ending = child.suffix.lower() or "without an ending"
            asked.tally.leave("folders" if child.is_dir() else ending, child.name)
            others.append(child)
            continue
        if split in found:
            raise DataError(
                f"'{folder}' holds the {split} split twice, '{child.name}' and another: keep one"
            )
        is_folder = child.is_dir()
        found[split] = [*(parallel_sentences(child) if is_folder else _part(child, split, asked))]
    if not found:
        alone = next(filter(_is_read, others), None)
        there = f"; to read '{alone.name}' alone, give its path" if alone else ""
        raise DataError(
            f"'{folder}' holds no sentences{asked.tally.instead}: expected train.csv (or .tsv, "
            ".jsonl, .conll) and the same for validation and test, or folders of these names with "
            f"seq.in, seq.out and label{there}"
        )
    return found


def _is_read(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *TAGGED)


def _part(path: Path, split: str, asked: _Asked) -> Iterator[Sentence]:
    """The sentences of a file that is one split of a folder.

    Raises:
        DataError: a row says that it is of another one.
    """
    for given, sentence in _file(Part(path), asked):
        if given not in (split, "train"):  # which a row without a split is too
            raise DataError(
                f"'{path}', {sentence.name}: the column 'split' says {given}, the name of the file "
                f"{split}: remove the column, or give the file alone"
            )
        yield sentence


def _parts(parts: Sequence[Part], asked: _Asked) -> dict[str, list[Sentence]]:
    found: dict[str, list[Sentence]] = {}
    for part in parts:
        for split, sentence in _file(part, asked):
            found.setdefault(split, []).append(sentence)
    return found


def _file(part: Part, asked: _Asked) -> Iterator[tuple[str, Sentence]]:
    path = part.path
    if path.suffix.lower() in SUFFIXES:
        return _table(part, asked)
    if _is_read(path):
        return (("train", sentence) for sentence in tagged_sentences(path))
    raise DataError(
        f"'{path}' is no data source: expected one of {', '.join((*SUFFIXES, *TAGGED))}, or "
        f"tfds:NAME{another_form(path.name)}"
    )


def _table(part: Part, asked: _Asked) -> Iterator[tuple[str, Sentence]]:
    columns = asked.columns
    names = [columns.text, *(getattr(columns, what) for what in asked.need)]
    for row in part_rows(part, names, asked.tally):
        text = read_cell(row, columns.text, "text")
        words: tuple[str, ...] = ()
        tags: tuple[str, ...] = ()
        if TAGS in asked.need:
            tags = _words(read_cell(row, columns.tags, "tags"))
            words = _words(text)
            check_tags(part.path, row.place, words, tags)
        label = ""
        if LABEL in asked.need:
            label = read_label(row, columns.label, several=asked.several, tally=asked.tally)
        text = text if isinstance(text, str) else " ".join(text)
        group = "" if asked.several else label
        sentence = Sentence(text, label, part.name_of(row), words, tags, group)
        yield read_split(row, asked.tally), sentence


def _words(cell: str | list[str]) -> tuple[str, ...]:
    return tuple(split_words(cell) if isinstance(cell, str) else cell)


def _tfds(name: str, tally: Tally) -> dict[str, list[Sentence]]:
    found: dict[str, list[Sentence]] = {}
    for split, rows in load_tfds(name, tally).items():
        for i, (given, label) in enumerate(rows):
            if not isinstance(given, bytes):
                raise ConfigError(
                    f"the inputs of the data set '{name}' are no texts: this recipe needs sentences"
                )
            try:
                text = given.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"'tfds:{name}', {split} {i}: the text is not UTF-8 ({error.reason})"
                ) from error
            found.setdefault(split, []).append(Sentence(text, label, f"{split} {i}", group=label))
    return found
