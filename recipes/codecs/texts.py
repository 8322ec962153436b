"""Sentences -> token ids, once, in one flat array a split; sorted by length, so that batches in
order need little padding.

No TensorFlow here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graft.recipes.data.sentences import Sentence
from graft.recipes.data.sources import Source
from graft.recipes.feed.store import hash_of
from graft.zoo.errors import DataError
from graft.zoo.heads.heads import Head
from graft.zoo.terminal import warn
from graft.zoo.text import Tokenizer
from graft.zoo.words import WordRule, choose_word_rule

__all__ = [
    "Ragged",
    "Tagged",
    "Targets",
    "Texts",
    "encode",
    "encode_splits",
    "padded",
    "padded_targets",
    "token_inputs",
    "token_texts",
]

UNNAMED = -1
"""The target of a piece that has none: a special token, a later piece of a word, padding."""


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, one after the other: row i is `values[starts[i]:starts[i +
    1]]`.
    """

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[np.ndarray]) -> "Ragged":
        """From arrays `(length,)` of one type."""
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=starts[1:])
        return cls(np.concatenate(rows) if rows else np.zeros(0, np.int32), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.values[self.starts[i] : self.starts[i + 1]]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Of each row, `(n,)`."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class Tagged(Ragged):
    """The tags that a model learns, one for each piece, and beside them those it is judged by, one
    for each word: words that were cut off, or that have no piece, are words that it got wrong if
    they have a tag.

    Attributes:
        begun: the word that each piece begins, -1 if none.
        whole: the tag of each word.
        words: of each sentence.
    """

    begun: Ragged
    whole: Ragged
    words: tuple[tuple[str, ...], ...]


Targets = np.ndarray | Ragged | Mapping[str, "np.ndarray | Ragged"]
"""Rows of floats `(n, units)`; or int32 for each piece, -1 where it has none; or one of these for
each head by name.
"""


@dataclass(frozen=True)
class Texts:
    """The sentences of one split, as ids.

    Attributes:
        ids: int32, special tokens included.
        targets: what is to be learned.
        names: what to call each sentence.
        sentences: the text of each, or its words joined by blanks.
        inputs: which of token_ids, padding_mask and segment_ids the model takes.
        pad_id: what fills a batch.
        max_length: the most tokens that a sentence may have here; longer ones were cut.
        truncated: how many were.
        unknown_share: of their tokens, those that the tokenizer has no piece for, 0 to 1.
    """

    ids: Ragged
    targets: Targets
    names: tuple[str, ...]
    sentences: tuple[str, ...]
    inputs: tuple[str, ...]
    pad_id: int
    max_length: int
    truncated: int
    unknown_share: float = 0.0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """A hash of all ids and lengths, in their order."""
        return hash_of(self.ids.values, self.ids.starts)

    @cached_property
    def word_rule(self) -> WordRule | None:
        """How a text is cut into words like those that are tagged here; None where none are."""
        parts = self.targets.values() if isinstance(self.targets, Mapping) else [self.targets]
        words = next((part.words for part in parts if isinstance(part, Tagged)), None)
        return None if words is None else choose_word_rule(words)

    @property
    def classes(self) -> np.ndarray:
        """The index of each sentence's label, `(n,)`, where there is one."""
        return self.targets.argmax(-1)


def token_texts(
    rows: Sequence[np.ndarray],
    targets: Targets,
    names: Sequence[str],
    sentences: Sequence[str],
    *,
    inputs: Sequence[str],
    pad_id: int,
    max_length: int,
    truncated: int = 0,
    unknown_share: float = 0.0,
) -> Texts:
    """`Texts` of `rows` (ids of each sentence), shortest first; everything else is put into the
    same order.
    """
    order = np.argsort([len(row) for row in rows], kind="stable")

    def sort(values):
        if isinstance(values, Mapping):
            return {name: sort(v) for name, v in values.items()}
        if isinstance(values, Tagged):
            pieces = sort(Ragged(values.values, values.starts))
            return Tagged(
                pieces.values, pieces.starts, *map(sort, (values.begun, values.whole, values.words))
            )
        if isinstance(values, Ragged):
            return Ragged.of([values[i] for i in order])
        return values[order] if isinstance(values, np.ndarray) else tuple(values[i] for i in order)

    return Texts(
        Ragged.of([rows[i] for i in order]),
        sort(targets),
        sort(tuple(names)),
        sort(tuple(sentences)),
        tuple(inputs),
        pad_id,
        max_length,
        truncated,
        unknown_share,
    )


def padded(
    texts: Texts, indices: Sequence[int], length: int | None = None
) -> dict[str, np.ndarray]:
    """The inputs of some sentences by name, int32 `(n, length)`; by default as long as the longest
    of them.
    """
    return token_inputs([texts.ids[i] for i in indices], texts.inputs, texts.pad_id, length)


def token_inputs(
    rows: Sequence[np.ndarray], inputs: Iterable[str], pad_id: int, length: int | None = None
) -> dict[str, np.ndarray]:
    """token_ids, padding_mask and segment_ids, those that `inputs` names, int32 `(n, length)`, from
    the ids of each text.
    """
    length = length or max(map(len, rows))
    ids = np.full((len(rows), length), pad_id, np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row[:length], 1
    everything = {"token_ids": ids, "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
    return {name: everything[name] for name in inputs}


def padded_targets(
    texts: Texts, indices: Sequence[int], length: int | None = None
) -> dict[str, np.ndarray]:
    """The targets of some sentences by the name of the head ("" where there is one).

    `(n, units)`, or of tags `(n, length)`.
    """
    length = length or max(len(texts.ids[i]) for i in indices)

    def rows(targets) -> np.ndarray:
        if isinstance(targets, np.ndarray):
            return targets[list(indices)]
        found = np.full((len(indices), length), UNNAMED, np.int32)
        for row, i in zip(found, indices, strict=True):
            row[: len(targets[i])] = targets[i][:length]
        return found

    parts = texts.targets if isinstance(texts.targets, Mapping) else {"": texts.targets}
    return {name: rows(part) for name, part in parts.items()}


def encode(
    sentences: Sequence[Sentence],
    tokenizer: Tokenizer,
    heads: Sequence[Head],
    labels: Sequence[str],
    *,
    inputs: Sequence[str],
    max_length: int,
) -> Texts:
    """The ids of `sentences` and, for each of `heads`, what it is to learn: one array, or a dict
    where there are several.

    Tags go to the first piece of each word. `labels` are what an embedding is trained by; other
    heads have their own.

    Raises:
        DataError: a label or tag that the head does not have.
    """
    firsts = None
    if any(head.kind == "tags" for head in heads):
        ids, firsts, cut = tokenizer.encode_words([s.words for s in sentences], max_length)
    else:
        ids, cut = tokenizer.encode([s.text for s in sentences], max_length)
    targets = {
        head.name: _targets(head, sentences, head.labels or labels, firsts) for head in heads
    }
    return token_texts(
        ids,
        targets if len(heads) > 1 else targets[heads[0].name],
        [s.name for s in sentences],
        [s.text for s in sentences],
        inputs=inputs,
        pad_id=tokenizer.pad_id,
        max_length=max_length,
        truncated=cut,
        unknown_share=tokenizer.unknown_share(ids),
    )


def encode_splits(
    source: Source, tokenizer: Tokenizer, heads: Sequence[Head], **settings
) -> dict[str, Texts]:
    """`encode` for every split of `source`; says how many sentences were cut."""
    splits = {
        name: encode(sentences, tokenizer, heads, source.labels, **settings)
        for name, sentences in source.splits.items()
    }
    cut, count = sum(texts.truncated for texts in splits.values()), sum(map(len, splits.values()))
    if cut:
        longest = settings["max_length"]
        warn(
            f"{cut:,} of {count:,} sentences ({cut / count:.1%}) are longer than {longest} tokens "
            "and were cut: --max-length"
        )
    return splits


def _targets(
    head: Head, sentences: Sequence[Sentence], labels: Sequence[str], firsts
) -> np.ndarray | Ragged:
    index = {label: i for i, label in enumerate(labels)}

    def number(label: str, sentence: Sentence) -> int:
        if label not in index:
            raise DataError(
                f"{sentence.name}: the label '{label}' is not one of the model's {len(labels)}: "
                f"{', '.join(labels)}"
            )
        return index[label]

    if head.kind == "tags":
        whole = [
            np.array([number(tag, sentence) for tag in sentence.tags], np.int32)
            for sentence in sentences
        ]
        # -1, no word, takes what is appended.
        rows = [
            np.append(tags, np.int32(UNNAMED))[words]
            for tags, words in zip(whole, firsts, strict=True)
        ]
        pieces = Ragged.of(rows)
        words = tuple(sentence.words for sentence in sentences)
        return Tagged(pieces.values, pieces.starts, Ragged.of(firsts), Ragged.of(whole), words)
    targets = np.zeros((len(sentences), len(labels)), np.float32)
    for i, sentence in enumerate(sentences):
        named = sentence.labels if head.kind == "multi_label" else (sentence.label,)
        for label in named if sentence.label else ():  # one without a label has a row of zeros
            targets[i, number(label, sentence)] = 1
    return targets
