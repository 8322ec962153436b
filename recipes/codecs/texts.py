"""Texts: token ids, once, in one flat array a split; sorted by length, so that batches in order
need little padding. No TensorFlow until they are read.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Fed, Shown, Text, check_text
from graft.recipes.codecs.examples import Positions, Reader
from graft.recipes.codecs.targets import (
    UNNAMED,
    Ragged,
    Tagged,
    Target,
    Targets,
    padded_target,
    ragged_rows,
    take_targets,
    target_reader,
)
from graft.recipes.data.records import Record
from graft.recipes.data.traces import short_digest, words_digest
from graft.zoo.errors import DataError
from graft.zoo.hashing import hash_of
from graft.zoo.text import Tokenizer
from graft.zoo.words import WordRule, choose_word_rule, cut_words

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["TextCodec", "Texts", "padded", "sorted_texts", "token_inputs"]

MOST_UNKNOWN = 0.2
"""Share of unknown tokens above which texts count as ones that cannot be read."""
MOSTLY = 0.5
"""Share of unknown tokens above which a text is one that the tokenizer cannot read."""


@dataclass(frozen=True)
class Texts:
    """The sentences of one split, as ids; see `examples.Examples`.

    Attributes:
        ids: int32, special tokens included.
        targets: what is to be learned, by task.
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
    truncated: int = 0
    unknown_share: float = 0.0

    skipped: ClassVar[tuple[str, ...]] = ()
    row_bytes: ClassVar[None] = None
    augmented: ClassVar[bool] = False
    moving: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def digest(self) -> str:
        """A hash of all ids and lengths, in their order."""
        return hash_of(self.ids.values, self.ids.starts)

    @cached_property
    def positions(self) -> Positions:
        """Their tokens."""
        return Positions(self.ids.lengths, self.ids.starts, self.max_length)

    @property
    def pads(self) -> Mapping[str, int]:
        """What fills a batch: ids, of other inputs 0."""
        return {"token_ids": self.pad_id}

    @cached_property
    def word_rule(self) -> WordRule | None:
        """How a text is cut into words like those that are tagged here; None where none are."""
        tagged = [part for part in self.targets.values() if isinstance(part, Tagged)]
        return choose_word_rule(tagged[0].words) if tagged else None

    def traces(self) -> Mapping[str, np.ndarray]:
        """By which each sentence is known again: its content, and its words."""
        contents = [
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            for text in self.sentences
        ]
        return {
            "contents": np.array(list(map(short_digest, contents)), np.uint64),
            "looks": np.array(list(map(words_digest, self.sentences)), np.uint64),
        }

    def take(self, rows: Sequence[int] | np.ndarray) -> "Texts":
        """Some of them, in this order."""
        return Texts(
            self.ids.take(rows),
            take_targets(self.targets, rows),
            tuple(self.names[i] for i in rows),
            tuple(self.sentences[i] for i in rows),
            self.inputs,
            self.pad_id,
            self.max_length,
            self.truncated,
            self.unknown_share,
        )

    def reader(self, seed: int) -> Reader:
        """What reads inputs and targets of a batch; the seed changes nothing."""
        inputs, targets = self.input_reader(), target_reader(self.targets)
        return lambda step, indices: (
            inputs(indices),
            targets(indices, self.positions.batch_length(indices)),
        )

    def input_reader(self) -> Callable[["tf.Tensor"], dict[str, "tf.Tensor"]]:
        """indices -> token_ids, padding_mask and segment_ids, int32 `(b, length)`, by name."""
        import tensorflow as tf

        ids = ragged_rows(self.ids)

        def gather(indices: tf.Tensor) -> dict[str, tf.Tensor]:
            mask = self.positions.mask(indices)
            inputs = {
                "token_ids": ids(indices, self.positions.batch_length(indices), self.pad_id),
                "padding_mask": mask,
                "segment_ids": tf.zeros_like(mask),
            }
            return {name: inputs[name] for name in self.inputs}

        return gather


def sorted_texts(texts: Texts) -> Texts:
    """The same, shortest first."""
    return texts.take(np.argsort(texts.ids.lengths, kind="stable"))


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


@dataclass(frozen=True)
class TextCodec:
    """Sentences -> `Texts` of one tokenizer.

    Attributes:
        tokenizer: text -> ids.
        inputs: which of token_ids, padding_mask and segment_ids the model takes.
        max_length: the most tokens of a sentence.
        words: the rule by which a text is cut into words to tag; None: there are none.
    """

    tokenizer: Tokenizer
    inputs: tuple[str, ...]
    max_length: int
    words: str | None = None

    modality: ClassVar[str] = "text"
    noun: ClassVar[str] = "sentence"
    input_range: ClassVar[tuple[float, float] | None] = None
    same_as: ClassVar[str] = "has the same words as"
    one_label: ClassVar[bool] = False

    @classmethod
    def described(cls, content: Mapping, tokenizer: Tokenizer) -> "TextCodec":
        """The codec that preprocessing.json describes, with its tokenizer."""
        return cls(tokenizer, tuple(content["inputs"]), content["max_length"])

    @property
    def facts(self) -> dict:
        """What run.json says of it."""
        return {"max_length": self.max_length}

    @property
    def attached(self) -> dict[str, str]:
        """The text files that belong to it, by name."""
        pieces = "".join(f"{piece}\n" for piece in self.tokenizer.vocabulary)
        return {"tokenizer.json": self.tokenizer.json, "vocab.txt": pieces}

    def facts_of(self, texts: Texts) -> dict:
        """What run.json says of a split beside its size."""
        return {"truncated": texts.truncated, "unknown_share": texts.unknown_share}

    def notes(self, parts: Mapping[str, Texts]) -> list[str]:
        """What is to be said of the splits before a training: how many sentences were cut, and how
        words were.
        """
        cut = sum(texts.truncated for texts in parts.values())
        count = sum(map(len, parts.values()))
        found = []
        if cut:
            found.append(
                f"{cut:,} of {count:,} sentences ({cut / count:.1%}) are longer than "
                f"{self.max_length} tokens and were cut: --max-length"
            )
        rule = parts["train"].word_rule
        return [*found, rule.warning] if rule is not None and rule.warning else found

    def doubts(self, texts: Texts) -> list[str]:
        """What is to be said of examples that a model is measured on: that it cannot read them."""
        if texts.unknown_share <= MOST_UNKNOWN:
            return []
        return [
            f"{texts.unknown_share:.1%} of the tokens of these texts are unknown ([UNK]) to the "
            "model's "
            "tokenizer"
        ]

    def only(self, task: Any, records: Sequence[Record], texts: Texts) -> Texts:
        """The sentences with the target of one task alone, encoded as that task has them."""
        return self.encode(records, [task])

    def describe(self, texts: Texts | None = None) -> dict:
        """How a text goes into the model, for preprocessing.json. `words` is the rule of
        `zoo/words.py` that cuts a text into words to tag, False where there are none.
        """
        rule = None if texts is None else texts.word_rule
        return {
            "modality": self.modality,
            "tokenizer": {
                "file": "tokenizer.json",
                "kind": self.tokenizer.kind,
                "pad_id": self.tokenizer.pad_id,
            },
            "max_length": self.max_length,
            "inputs": list(self.inputs),
            "words": rule.name if rule else False,
        }

    def encode(
        self, records: Sequence[Record], tasks: Sequence[Any], title: str = "encode"
    ) -> Texts:
        """The ids of the sentences and what the tasks ask of them, shortest first. Tags go to the
        first piece of each word.

        Raises:
            DataError: an answer that a task does not know.
        """
        firsts = None
        if any(task.kind.by_position for task in tasks):
            words = [record.words for record in records]
            ids, firsts, cut = self.tokenizer.encode_words(words, self.max_length)
        else:
            ids, cut = self.tokenizer.encode([record.text for record in records], self.max_length)
        texts = Texts(
            Ragged.of(ids),
            {task.name: task.targets(records, firsts) for task in tasks},
            tuple(record.name for record in records),
            tuple(record.text for record in records),
            tuple(self.inputs),
            self.tokenizer.pad_id,
            self.max_length,
            cut,
            self.tokenizer.unknown_share(ids),
        )
        return sorted_texts(texts)

    def arrays(self, texts: Texts, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What a run keeps of some sentences, by input."""
        return padded(texts, rows)

    def inputs_of(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a model is fed of what `arrays` gave, at the full length."""
        return {
            name: _widened(arrays[name], self.max_length, self._fill(name)) for name in self.inputs
        }

    def all_inputs(self, texts: Texts) -> dict[str, np.ndarray]:
        """What a model is fed of a split, at the full length."""
        return padded(texts, range(len(texts)), self.max_length)

    def target_arrays(self, texts: Texts, rows: Sequence[int]) -> dict[str, Target]:
        """The targets of some sentences as arrays, by task."""
        length = max(len(texts.ids[i]) for i in rows)
        return {name: padded_target(part, rows, length) for name, part in texts.targets.items()}

    def originals(self, texts: Texts) -> tuple[str, ...]:
        """The sentences as they came: the SavedModel takes them so."""
        return texts.sentences

    def widened(self, target: np.ndarray, by_position: bool) -> np.ndarray:
        """The targets that a run keeps, as a model answers: tags at the full length."""
        return _widened(target, self.max_length, UNNAMED) if by_position else target

    def batch(self, texts: Texts, rows: range, length: int | None = None) -> dict[str, np.ndarray]:
        """What an artifact is fed of some sentences, `length` tokens where that is fixed."""
        return padded(texts, rows, length)

    def without_padding(self, values: np.ndarray, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """The rows of an output of a batch that count: of tokens those that are no padding."""
        return values[batch["padding_mask"] > 0] if values.ndim == 3 else values

    def item(self, given: Any) -> Text:
        """What `feed` takes of a text: a string, or a list of its words.

        Raises:
            DataError: it is none, is empty or cannot be encoded.
        """
        if isinstance(given, list | tuple) and all(isinstance(word, str) for word in given):
            return Text.of_words(given)
        if not isinstance(given, str):
            raise DataError(f"a text is expected: got {type(given).__name__}")
        try:
            check_text(given)
        except DataError as error:
            raise DataError(f"the text {error}") from error
        return Text(given)

    def feed(self, items: Sequence[Text], length: int | None = None) -> Fed:
        """Texts as a batch for a model, `length` tokens where that is fixed."""
        tokenizer = self.tokenizer
        words: list[Sequence[tuple[str, int, int]]] = [()] * len(items)
        begun: Sequence[np.ndarray | None] = [None] * len(items)
        asked: Sequence = [item.text for item in items]
        if self.words:
            words = [
                cut_words(item.text, self.words) if item.words is None else item.words
                for item in items
            ]
            asked = [[word for word, _, _ in row] for row in words]
            ids, begun, cut = tokenizer.encode_words(asked, self.max_length)
        else:
            ids, cut = tokenizer.encode(asked, self.max_length)
        by_words = bool(self.words)
        longer = tokenizer.longer(asked, self.max_length, by_words) if cut else [False] * len(items)
        shown = []
        for i, item in enumerate(items):
            marks = {
                "truncated": longer[i],
                "unreadable": tokenizer.unknown_share([ids[i]]) > MOSTLY,
            }
            true = {name: True for name, value in marks.items() if value}
            shown.append(Shown(item.text, words[i], begun[i], true))
        return Fed(token_inputs(ids, self.inputs, tokenizer.pad_id, length), shown)

    def _fill(self, name: str) -> int:
        return self.tokenizer.pad_id if name == "token_ids" else 0


def _widened(values: np.ndarray, length: int, fill: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, length - values.shape[1])], constant_values=fill)
