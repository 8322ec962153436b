"""Sentences as words with a tag each: files of one word a line, and folders of parallel files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from graft.recipes.data.records import Sentence
from graft.recipes.data.tables.text_files import error_at, read_text, split_lines, split_words
from graft.zoo.errors import DataError

__all__ = ["TAGGED", "check_tags", "parallel_sentences", "tagged_sentences"]

TAGGED = (".conll", ".bio", ".iob2", ".txt")
"""Files of one word a line with its tag behind it, sentences separated by empty lines."""
PARALLEL = ("seq.in", "seq.out", "label")
"""Files of a folder for intents and slots: words, tags and label of each sentence, a line each."""


def tagged_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a file with a word and its tag on each line (the first and the last of its
    columns).

    Raises:
        DataError: a line without a word or without a tag, or tags that are not IOB2.
    """
    words: list[str] = []
    tags: list[str] = []
    start = 1
    for line, text in enumerate([*split_lines(read_text(path)), ""], 1):
        cells = _columns(text) if text.strip() else []
        if cells and cells[0] != "-DOCSTART-":
            if len(cells) < 2:
                why = f"'{text.strip()}' is one column, expected a word and its tag"
                raise error_at(path, line, why)
            if not cells[0]:
                raise error_at(path, line, f"there is no word before the tag '{cells[-1]}'")
            start = start if words else line
            words.append(cells[0])
            tags.append(cells[-1])
        elif words:
            _check_iob2(path, words, tags, [*range(start, start + len(words))])
            yield Sentence(" ".join(words), "", f"line {start}", tuple(words), tuple(tags))
            words, tags = [], []


def _columns(line: str) -> list[str]:
    """The columns of a line: where it has tabs they separate, and a word may hold blanks; a
    no-break space never does.
    """
    line = line.rstrip(" \t\r").lstrip(" ")
    return [cell.strip(" ") for cell in line.split("\t")] if "\t" in line else line.split(" ")


def parallel_sentences(folder: Path) -> Iterator[Sentence]:
    """The sentences of a folder with the files seq.in, seq.out and label.

    Raises:
        DataError: a file is missing, or they do not fit each other line by line.
    """
    missing = [name for name in PARALLEL if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"the folder '{folder}' holds no {missing[0]}: expected {', '.join(PARALLEL)}; texts "
            "in files of their own have to become the rows of a table"
        )
    columns = [split_lines(read_text(folder / name).rstrip("\r\n")) for name in PARALLEL]
    counts = [len(column) for column in columns]
    if len(set(counts)) > 1:
        named = (f"{name} {count}" for name, count in zip(PARALLEL, counts, strict=True))
        raise DataError(
            f"the files of '{folder}' have different numbers of lines: {', '.join(named)}"
        )
    for line, (text, tagged, label) in enumerate(zip(*columns, strict=True), 1):
        words, tags = tuple(split_words(text)), tuple(split_words(tagged))
        label = label.strip()
        if not label:
            why = "the label is empty: fill it, or remove the sentence"
            raise error_at(folder / PARALLEL[2], line, why)
        check_tags(folder, line, words, tags)
        yield Sentence(" ".join(words), label, f"{folder.name} line {line}", words, tags, label)


def check_tags(path: Path, line: int | str, words: Sequence[str], tags: Sequence[str]) -> None:
    """Refuse a sentence whose tags do not fit its words, or are not IOB2.

    Raises:
        DataError: names `path` and `line`, where it stands.
    """
    if len(words) != len(tags):
        raise error_at(path, line, f"{len(words)} words but {len(tags)} tags: each word needs one")
    if not words:
        raise error_at(path, line, "the text is empty: fill it, or remove the row")
    _check_iob2(path, words, tags, [line] * len(words))


def _check_iob2(
    path: Path, words: Sequence[str], tags: Sequence[str], lines: Sequence[int | str]
) -> None:
    """Refuse a sequence of tags that is not IOB2: "O", "B-TYPE", and "I-TYPE" behind one of the
    same type.
    """
    for before, tag, word, line in zip(["O", *tags], tags, words, lines, strict=False):
        if not re.fullmatch(r"O|[BI]-.+", tag):
            why = f"the tag '{tag}' of '{word}' is not IOB2: expected O, B-TYPE or I-TYPE"
            raise error_at(path, line, why)
        if tag[0] == "I" and before[2:] != tag[2:]:
            why = f"'{tag}' of '{word}' stands behind '{before}': in IOB2 an entity begins with "
            raise error_at(path, line, f"{why}B-{tag[2:]}")
