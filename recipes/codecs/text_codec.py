"""How sentences become `Texts` of one tokenizer, and batches for a model or a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Fed, Shown, Text, check_text
from graft.recipes.codecs.targets import UNNAMED, Ragged, Target, padded_target
from graft.recipes.codecs.texts import Texts, padded, sorted_texts, token_inputs
from graft.recipes.data.records import Sentence
from graft.zoo.errors import DataError
from graft.zoo.text import Tokenizer
from graft.zoo.words import cut_words

__all__ = ["MOST_UNKNOWN", "TextCodec"]

MOST_UNKNOWN = 0.2
"""Share of unknown tokens above which texts count as ones that cannot be read."""
MOSTLY = 0.5
"""Share of unknown tokens above which a text is one that the tokenizer cannot read."""


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
            "model's tokenizer"
        ]

    def only(self, task: Any, records: Sequence[Sentence], texts: Texts) -> Texts:
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
        self, records: Sequence[Sentence], tasks: Sequence[Any], title: str = "encode"
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
