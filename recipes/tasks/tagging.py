"""A tag for each word of a text: the task of tagging. What counts are whole entities."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graft.recipes.codecs.asked import Shown
from graft.recipes.codecs.targets import UNNAMED, Ragged, Tagged, Target
from graft.recipes.data.records import Record
from graft.recipes.tasks.task import Task
from graft.zoo.errors import DataError
from graft.zoo.heads import heads, spans
from graft.zoo.heads.kind import Kind, Scorer
from graft.zoo.heads.scores import Score
from graft.zoo.heads.tags import TAGS, entity_f1

__all__ = ["TaggingTask"]


@dataclass(frozen=True)
class TaggingTask(Task):
    """Tags of words; the first piece of a word speaks for it.

    Watched is the entity F1: on 288 sentences the loss of tags was lowest after 4 epochs, their
        accuracy
    rose until the 19th.
    """

    answer: str = "tags"

    kind: ClassVar[Kind] = TAGS
    meaning: ClassVar[str] = (
        "for each token a probability for each tag; the first piece of a word speaks for it"
    )
    watched: ClassVar[str] = TAGS.key
    watched_instead: ClassVar[str] = "accuracy"

    @classmethod
    def described(cls, name: str, facts: Mapping) -> "TaggingTask":
        """The task of an artifact."""
        return cls(heads.tags(facts["labels"], name=name), **cls.where(name, facts, "tags"))

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """The types of entities."""
        return tuple(sorted({tag[2:] for tag in self.labels if tag != "O"}))

    def targets(self, records: Sequence[Record], given: Any = None) -> Tagged:
        """The tags of words and of the pieces that begin them."""
        pieces: Sequence[np.ndarray] = given
        assert pieces is not None, "tags are of texts in words"
        index = {label: i for i, label in enumerate(self.labels)}
        sentences: Sequence[Any] = records
        whole = [self._numbers(record, index) for record in records]
        # -1, no word, takes what is appended.
        rows = [
            np.append(tags, np.int32(UNNAMED))[words]
            for tags, words in zip(whole, pieces, strict=True)
        ]
        learned = Ragged.of(rows)
        words = tuple(record.words for record in sentences)
        return Tagged(learned.values, learned.starts, Ragged.of(pieces), Ragged.of(whole), words)

    def _numbers(self, record: Record, index: Mapping[str, int]) -> np.ndarray:
        stranger = next((tag for tag in record.answers[self.answer] if tag not in index), None)
        if stranger is not None:
            raise DataError(
                f"{record.name}: the label '{stranger}' is not one of the model's {len(index)}: "
                f"{', '.join(index)}"
            )
        return np.array([index[tag] for tag in record.answers[self.answer]], np.int32)

    def label_counts(self, target: Target) -> dict[str, int]:
        """How many entities of each type there are."""
        counts = Counter(target.whole.values.tolist())
        found = {self.labels[number][2:]: n for number, n in counts.items() if self._begins(number)}
        return {label: found.get(label, 0) for label in self.shown_labels}

    def _begins(self, number: int) -> bool:
        return self.labels[number][0] == "B"

    def sequences(
        self, rows: np.ndarray, target: Tagged
    ) -> tuple[list[list[str]], list[list[str]]]:
        """(true, predicted) tags of all words of each sentence; `rows` `(tokens, labels)` are those
        of all sentences. Of a word that the model did not see (it was cut off, or has no piece) it
        says O.
        """
        best = rows.argmax(-1)
        truth, predicted = [], []
        for i in range(len(target)):
            truth.append([self.labels[tag] for tag in target.whole[i]])
            said = ["O"] * len(truth[-1])
            begun = target.begun[i]
            for place in np.flatnonzero(begun >= 0):
                said[begun[place]] = self.labels[best[target.starts[i] + place]]
            predicted.append(said)
        return truth, predicted

    def score(self, outputs: np.ndarray, target: Target) -> Score:
        """Entity F1; words that were cut off count as missed."""
        return entity_f1(*self.sequences(outputs, target))

    def export_scorer(self, target: Target) -> Scorer | None:
        """The same."""
        return lambda rows: self.score(rows, target)

    def _figures(self, outputs: np.ndarray, target: Target) -> dict:
        truth, predicted = self.sequences(outputs, target)
        found = spans.scores(truth, predicted) | {"f1": entity_f1(truth, predicted).value}
        # Sentences without any entity have no F1: JSON knows no NaN.
        found = {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in found.items()
        }
        per_class = found.pop("per_type")
        own = self._of_head(outputs, target.values)
        return {"examples": len(target), **own, **found, "per_class": per_class}

    def _can_watch(self, target: Target) -> bool:
        return any(self.labels[tag] != "O" for tag in np.unique(target.whole.values))

    def epoch_figures(
        self, outputs: np.ndarray, target: Target, class_weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """Loss and accuracy of tokens, F1 of entities."""
        own = self._of_head(outputs, target.values)
        known = {name: np.nan if value is None else value for name, value in own.items()}
        return {**known, self.kind.key: self.score(outputs, target).value}

    def said(self, row: np.ndarray, shown: Shown) -> dict:
        """The words, their tags and the entities."""
        assert shown.begun is not None, "a tagger is shown texts in words"
        places = np.flatnonzero(shown.begun >= 0)
        # A word that has no piece, as a joiner of emoji, has no tag.
        named = [shown.words[shown.begun[place]] for place in places]
        chosen = row[places].argmax(-1)
        tags = [self.labels[tag] for tag in chosen]
        sure = row[places, chosen]
        entities = []
        for kind, first, end in sorted(spans.spans(tags), key=lambda span: span[1]):
            begins, ends = named[first][1], named[end - 1][2]
            entities.append(
                {
                    "type": kind,
                    "text": shown.text[begins:ends],
                    "start": begins,
                    "end": ends,
                    "probability": float(sure[first:end].min()),
                }
            )
        return {"words": [word for word, _, _ in named], "tags": tags, "entities": entities}

    def cells(self, said: Mapping, top: int) -> list[str]:
        """The entities."""
        found = [
            f"{entity['type']}: {' '.join(entity['text'].split())} {entity['probability']:.3f}"
            for entity in said["entities"]
        ]
        return found or ["(nothing found)"]

    def columns(self, said: Mapping) -> dict[str, Any]:
        """The entities as JSON."""
        return {"entities": json.dumps(said["entities"], ensure_ascii=False)}
