"""The floor under every text classifier: TF-IDF of words and pairs of words, logistic regression.

    python benchmarks/text_floor.py build/tables/sst2.csv build/tables/trec.csv [--per-class 16]

prints test accuracy, on the splits that the recipes use; with `--per-class N` for split seeds 0 to 2, each drawing other
training sentences (as `graft train text-classification --per-class N --split-seed S` does). scikit-learn's defaults but for
C, which is chosen on the validation split.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tyro.conf import Positional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.engine import sentences, splits

__all__ = ["Options", "main"]


@dataclass(frozen=True)
class Options:
    """TF-IDF and logistic regression on tables of sentences."""

    tables: Positional[tuple[Path, ...]]
    per_class: int | None = None


def main(options: Options) -> None:
    """Print a line a table."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    for table in options.tables:
        found = []
        for seed in range(3 if options.per_class else 1):
            source, _ = splits.complete(sentences.load(str(table), need=("label",)), seed)
            if options.per_class:
                source = splits.take_per_label(source, options.per_class, seed)
            x, y = (
                {n: [getattr(s, key) for s in part] for n, part in source.splits.items()} for key in ("text", "label")
            )
            fitted = [
                make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=c, max_iter=2000)).fit(
                    x["train"], y["train"]
                )
                for c in (1, 3, 10, 30, 100)
            ]
            best = max(fitted, key=lambda model: model.score(x["validation"], y["validation"]))
            found.append(best.score(x["test"], y["test"]))
        span = f" ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else ""
        print(f"{table.stem}: {np.mean(found):.3f}{span}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
