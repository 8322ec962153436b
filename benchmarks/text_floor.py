"""The floor under every text classifier: TF-IDF of words and pairs of words, logistic regression.

    python benchmarks/text_floor.py build/tables/sst2.csv build/tables/trec.csv [--per-class 16]

prints test accuracy, on the splits that the recipes use; with `--per-class N` for split seeds 0 to 2, each drawing other
training sentences (as `graft train text-classification --per-class N --split-seed S` does). scikit-learn's defaults but for
C, which is chosen on the validation split.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tyro.conf import Positional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.engine import sentences, splits
from recipes.engine.sentences import Sentence
from recipes.engine.sources import Source

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
            found.append(accuracy(fitted(source), source.splits["test"]))
        span = f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
        print(f"{table.stem}: {np.mean(found):.3f}{span}")


def fitted(source: Source):
    """The scikit-learn pipeline, trained on the train split of `source`."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels = ([getattr(s, key) for s in source.splits["train"]] for key in ("text", "label"))
    models = [
        make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=c, max_iter=2000)).fit(texts, labels)
        for c in (1, 3, 10, 30, 100)
    ]
    return max(models, key=lambda model: accuracy(model, source.splits["validation"]))


def accuracy(model, part: Sequence[Sentence]) -> float:
    """Of `model` on the sentences of `part`."""
    return model.score([s.text for s in part], [s.label for s in part])


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
