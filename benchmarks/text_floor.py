"""The floor under every text classifier, counted words as each run for texts states them, on tables
of sentences.

    python benchmarks/text_floor.py build/tables/sst2.csv build/tables/trec.csv [--per-class 16]

prints test accuracy, on the splits that the recipes use; with `--per-class N` for split seeds 0 to
2, each drawing other training sentences (as `graft train text-classification --per-class N
--split-seed S` does). How: recipes/tasks/tfidf.py.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tyro.conf import Positional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from graft.recipes.data import sentences, splits
from graft.recipes.data.records import Sentence, Source
from graft.recipes.tasks.tfidf import CountedWords, count_words
from graft.zoo.heads.single_label import SINGLE_LABEL

__all__ = ["Options", "accuracy", "fitted", "main"]


@dataclass(frozen=True)
class Options:
    """TF-IDF and logistic regression on tables of sentences."""

    tables: Positional[tuple[Path, ...]]
    per_class: int | None = None


def main(options: Options) -> None:
    """Print a line a table."""
    for table in options.tables:
        found = []
        for seed in range(3 if options.per_class else 1):
            source, _ = splits.complete(sentences.load(str(table), need=("label",)), seed)
            if options.per_class:
                source = splits.take_per_label(source, options.per_class, seed)
            found.append(accuracy(fitted(source), source.splits["test"], source.labels))
        span = f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
        print(f"{table.stem}: {np.mean(found):.3f}{span}")


def fitted(source: Source) -> CountedWords:
    """Counted words, trained on the train split of `source`."""
    return count_words(
        *(_numbered(source.splits[name], source.labels) for name in ("train", "validation")),
        SINGLE_LABEL,
    )


def accuracy(model: CountedWords, part: Sequence[Sentence], labels: Sequence[str]) -> float:
    """Of `model` on the sentences of `part`."""
    texts, targets = _numbered(part, labels)
    return float(np.mean(model.predict(texts).argmax(-1) == targets.argmax(-1)))


def _numbered(part: Sequence[Sentence], labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Texts and one-hot targets `(n, labels)`."""
    numbers = [list(labels).index(sentence.label) for sentence in part]
    return [sentence.text for sentence in part], np.eye(len(labels))[numbers]


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
