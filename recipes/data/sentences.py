"""Where sentences come from: a table, a file of tagged words, a folder of either, `tfds:NAME` or a
built-in name.

Plain records, no tensors. One loader for all text recipes: a sentence has a label, tags for its
words, or both.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from graft.recipes.data import tables
from graft.recipes.data.folders import is_hidden, split_names
from graft.recipes.data.labels import sort_labels, twin_hint
from graft.recipes.data.reading import Tally, listed
from graft.recipes.data.records import SPLITS, Columns, Sentence, Source
from graft.recipes.data.sources import another_form, load_tfds, nothing_there
from graft.zoo.errors import ConfigError, DataError

__all__ = ["BUILT_IN", "Columns", "Sentence", "load", "tag_names"]

COLUMNS = Columns()
BUILT_IN = ("commands",)
TAGGED = (".conll", ".bio", ".iob2", ".txt")
"""Files of one word a line with its tag behind it, sentences separated by empty lines."""
JOINT = ("seq.in", "seq.out", "label")
"""Files of a folder for intents and slots: words, tags and label of each sentence, a line each."""


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

    `spec`: a `.csv`, `.tsv` or `.jsonl` file with a text and a label column (and, if it has one, a
        column `split`); a
    `.conll`, `.bio`, `.iob2` or `.txt` file of tagged words; a folder that holds such a file for
    each split (`train.csv`, `dev.conll`), or for each split a folder with the files seq.in, seq.out
    and label; `tfds:NAME`; or the built-in `commands`. `need` says what each sentence must have:
    "label", "tags" or both. With `several`, a cell may hold many labels, separated by ";", and
    none. `option` is what a message calls `spec`. Where nothing is trained on it (`to_train` False)
    it needs no train split, and any number of labels and of sentences with one.

    Raises:
        DataError: nothing there, nothing in it, or a row that cannot be used.
        UnknownName: neither a path nor a built-in name.
        ConfigError: `tfds:` cannot prepare the data set.
    """
    path, tally = Path(spec).expanduser(), Tally()
    if spec.startswith("tfds:"):
        sentences = _tfds(spec.removeprefix("tfds:"), tally)
    elif spec in BUILT_IN:
        from graft.recipes.data.builtin import commands

        sentences = commands.load()
    elif path.is_dir():
        sentences = _folder(path, need, columns, several, tally)
    elif path.is_file():
        sentences = _by_split(_file(path, need, columns, several, tally))
    else:
        raise nothing_there(spec, BUILT_IN, option)
    source = _checked(spec, sentences, need, several, to_train, tally)
    tally.warn(spec, sum(map(len, source.splits.values())))
    return source


def tag_names(source: Source) -> tuple[str, ...]:
    """All tags of `source`, "O" first, then sorted."""
    found = {tag for split in source.splits.values() for sentence in split for tag in sentence.tags}
    return ("O", *sorted(found - {"O"}))


def _checked(
    spec: str,
    sentences: dict[str, list[Sentence]],
    need: Sequence[str],
    several: bool,
    to_train: bool,
    tally: Tally,
) -> Source:
    splits = {split: tuple(sentences[split]) for split in SPLITS if sentences.get(split)}
    everything = [sentence for split in splits.values() for sentence in split]
    if not everything:
        raise DataError(f"'{spec}' holds no sentences")
    if "train" not in splits and to_train:
        raise DataError(
            f"'{spec}' has {' and '.join(splits)} but no train split: name one file, folder or "
            "split 'train'"
        )
    for what in need:
        lacking = next(
            (s for s in everything if not (s.label or several if what == "label" else s.tags)), None
        )
        if lacking is not None:
            raise DataError(
                f"{lacking.name} of '{spec}' has no {what}: this recipe needs {' and '.join(need)}"
            )
    if "label" in need and to_train:
        _check_labels(spec, splits, several)
    if "tags" in need and to_train:
        trained = {tag for sentence in splits["train"] for tag in sentence.tags}
        for split in SPLITS[1:]:
            for sentence in splits.get(split, ()):
                stranger = next((tag for tag in sentence.tags if tag not in trained), None)
                if stranger is not None:
                    raise DataError(
                        f"{sentence.name} of '{spec}' has the tag '{stranger}', which occurs in "
                        f"{split} only"
                        f"{twin_hint(stranger, trained)}: a model cannot learn what the training "
                        "data do not show; add "
                        "examples, or correct the tag"
                    )
    labels = sort_labels(part for s in everything for part in (s.labels if several else (s.label,)))
    return Source(spec, tuple(labels if "label" in need else ()), splits, tally.left_out)


def _check_labels(spec: str, splits, several: bool) -> None:
    def names(split):
        return [n for s in splits.get(split, ()) for n in (s.labels if several else (s.label,))]

    counts, every = Counter(names("train")), {n for split in splits for n in names(split)}
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
            split = next(split for split in SPLITS[1:] if label in names(split))
            raise DataError(
                f"the label '{label}' of '{spec}' occurs in {split} only{twin_hint(label, every)}: "
                "a model cannot learn "
                "what the training data do not show; add examples, or correct the label"
            )
        if counts[label] < 2 and not several:
            raise DataError(
                f"class '{label}' of '{spec}' has one example to train "
                f"on{twin_hint(label, every)}: add more, or remove the "
                "class"
            )


def _by_split(rows: Iterator[tuple[str, Sentence]]) -> dict[str, list[Sentence]]:
    sentences: dict[str, list[Sentence]] = {}
    for split, sentence in rows:
        sentences.setdefault(split, []).append(sentence)
    return sentences


def _folder(
    folder: Path, need: Sequence[str], columns: Columns, several: bool, tally: Tally
) -> dict[str, list[Sentence]]:
    found: dict[str, list[Sentence]] = {}
    children = [child for child in sorted(folder.iterdir()) if not is_hidden(child.name)]
    by_name = split_names([child.name.split(".")[0] for child in children])
    others = []
    for child in children:
        split = by_name[child.name.split(".")[0]]
        if split is None or (
            child.is_file() and child.suffix.lower() not in (*tables.SUFFIXES, *TAGGED)
        ):
            tally.leave(
                "folders" if child.is_dir() else child.suffix.lower() or "without an ending",
                child.name,
            )
            others.append(child)
            continue
        if split in found:
            raise DataError(
                f"'{folder}' holds the {split} split twice, '{child.name}' and another: keep one"
            )
        found[split] = list(
            _joint(child)
            if child.is_dir()
            else _of_split(child, split, need, columns, several, tally)
        )
    if not found:
        alone = next(
            (child for child in others if child.suffix.lower() in (*tables.SUFFIXES, *TAGGED)), None
        )
        there = f"; to read '{alone.name}' alone, give its path" if alone else ""
        but = f" (there are {listed(tally.left_out, examples=True)})" if others else ""
        raise DataError(
            f"'{folder}' holds no sentences{but}: expected train.csv (or .tsv, .jsonl, .conll) and "
            "the same for validation "
            f"and test, or folders of these names with seq.in, seq.out and label{there}"
        )
    return found


def _of_split(
    path: Path, split: str, need: Sequence[str], columns: Columns, several: bool, tally: Tally
) -> Iterator[Sentence]:
    """The sentences of a file that is one split of a folder.

    Raises:
        DataError: a row says that it is of another one.
    """
    for given, sentence in _file(path, need, columns, several, tally):
        if given not in (split, "train"):  # which a row without a split is too
            raise DataError(
                f"'{path}', {sentence.name}: the column 'split' says {given}, the name of the file "
                f"{split}: remove the "
                "column, or give the file alone"
            )
        yield sentence


def _file(
    path: Path, need: Sequence[str], columns: Columns, several: bool, tally: Tally
) -> Iterator[tuple[str, Sentence]]:
    suffix = path.suffix.lower()
    if suffix in tables.SUFFIXES:
        return _table(path, need, columns, several, tally)
    if suffix in TAGGED:
        return (("train", sentence) for sentence in _tagged(path))
    raise DataError(
        f"'{path}' is no data source: expected one of {', '.join((*tables.SUFFIXES, *TAGGED))}, or "
        "tfds:NAME"
        f"{another_form(path.name)}"
    )


def _table(
    path: Path, need: Sequence[str], columns: Columns, several: bool, tally: Tally
) -> Iterator[tuple[str, Sentence]]:
    asked = [columns.text, *(getattr(columns, what) for what in need)]
    for line, row in tables.rows(path, asked, tally):
        where = f"line {line}"
        text = tables.cell(path, line, row, columns.text, "text")
        tags: tuple[str, ...] = ()
        if "tags" in need:
            given = tables.cell(path, line, row, columns.tags, "tags")
            tags = tuple(tables.words(given) if isinstance(given, str) else given)
        words = tuple(tables.words(text) if isinstance(text, str) else text) if tags else ()
        if tags:
            _check_lengths(path, where, words, tags)
            _check_iob2(path, where, words, tags)
        label = ""
        if "label" in need:
            label = tables.label(path, line, row, columns.label, several=several, tally=tally)
        text = text if isinstance(text, str) else " ".join(text)
        yield (
            tables.split_of(path, line, row, tally),
            Sentence(text, label, where, words, tags, "" if several else label),
        )


def _tagged(path: Path) -> Iterator[Sentence]:
    """Sentences of a file with a word and its tag on each line (the first and the last of its
    columns).
    """
    words: list[str] = []
    tags: list[str] = []
    start = 1
    for line, text in enumerate([*tables.lines(tables.read_text(path)), ""], 1):
        cells = _columns(text) if text.strip() else []
        if cells and cells[0] != "-DOCSTART-":
            if len(cells) < 2:
                raise DataError(
                    f"'{path}', line {line}: '{text.strip()}' is one column, expected a word and "
                    "its tag"
                )
            if not cells[0]:
                raise DataError(
                    f"'{path}', line {line}: there is no word before the tag '{cells[-1]}'"
                )
            start = start if words else line
            words.append(cells[0])
            tags.append(cells[-1])
        elif words:
            _check_iob2(path, f"line {start}", words, tags, start)
            yield Sentence(" ".join(words), "", f"line {start}", tuple(words), tuple(tags))
            words, tags = [], []


def _columns(line: str) -> list[str]:
    """The columns of a line: where it has tabs they separate, and a word may hold blanks; a
    no-break space never does.
    """
    line = line.rstrip(" \t\r").lstrip(" ")
    return [cell.strip(" ") for cell in line.split("\t")] if "\t" in line else line.split(" ")


def _joint(folder: Path) -> Iterator[Sentence]:
    """Sentences of a folder with the files seq.in, seq.out and label."""
    missing = [name for name in JOINT if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"the folder '{folder}' holds no {missing[0]}: expected {', '.join(JOINT)}; texts in "
            "files of their own have to "
            "become the rows of a table"
        )
    columns = [tables.lines(tables.read_text(folder / name).rstrip("\r\n")) for name in JOINT]
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(
            f"{name} {len(column)}" for name, column in zip(JOINT, columns, strict=True)
        )
        raise DataError(f"the files of '{folder}' have different numbers of lines: {lengths}")
    for line, (text, tagged, label) in enumerate(zip(*columns, strict=True), 1):
        words, tags = tuple(tables.words(text)), tuple(tables.words(tagged))
        if not label.strip():
            raise DataError(
                f"'{folder / JOINT[2]}', line {line}: the label is empty: fill it, or remove the "
                "sentence"
            )
        _check_lengths(folder, f"line {line}", words, tags)
        _check_iob2(folder, f"line {line}", words, tags)
        yield Sentence(
            " ".join(words), label.strip(), f"{folder.name} line {line}", words, tags, label.strip()
        )


def _check_lengths(path: Path, where: str, words: Sequence[str], tags: Sequence[str]) -> None:
    if len(words) != len(tags):
        raise DataError(
            f"'{path}', {where}: {len(words)} words but {len(tags)} tags: each word needs one"
        )
    if not words:
        raise DataError(f"'{path}', {where}: the text is empty: fill it, or remove the row")


def _check_iob2(
    path: Path, where: str, words: Sequence[str], tags: Sequence[str], first_line: int | None = None
) -> None:
    """Refuse a sequence of tags that is not IOB2: "O", "B-TYPE", and "I-TYPE" behind one of the
    same type.
    """
    before = "O"
    for place, (word, tag) in enumerate(zip(words, tags, strict=True)):
        where = where if first_line is None else f"line {first_line + place}"
        if not re.fullmatch(r"O|[BI]-.+", tag):
            raise DataError(
                f"'{path}', {where}: the tag '{tag}' of '{word}' is not IOB2: expected O, B-TYPE "
                "or I-TYPE"
            )
        if tag[0] == "I" and before[2:] != tag[2:]:
            raise DataError(
                f"'{path}', {where}: '{tag}' of '{word}' stands behind '{before}': in IOB2 an "
                f"entity begins with B-{tag[2:]}"
            )
        before = tag


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
