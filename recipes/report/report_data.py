"""What a report says of the data: splits, where they came from, samples, lengths of sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graft.recipes.report import wording
from graft.recipes.report.drawing import figures

__all__ = ["MOST_LABELS", "sentences", "splits_and_samples"]

Tree = Mapping[str, Any]

MOST_LABELS = 120
"""Beyond this many labels the page shows the ones that matter most (it says so); all figures are in
run.json.
"""

MOST_SAMPLES = 120
SAMPLE_SIDE = 96
"""Pixels; with those of mistakes this keeps the page below two megabytes."""


def sentences(facts: Tree, shown: Tree | None) -> Tree | None:
    """What a run for text shows of its sentences."""
    from markupsafe import Markup

    if shown is None:
        return None
    lengths = [np.array(counts) for counts in shown["lengths"].values()]
    total = np.zeros(max(map(len, lengths)), int)
    for counts in lengths:
        total[: len(counts)] += counts
    reached = np.cumsum(total) / total.sum()
    splits = facts["data"]["splits"]
    return {
        **shown,
        "samples": dict(list(shown["samples"].items())[:MOST_LABELS]),
        "lengths": Markup(
            figures.histogram("lengths", shown["lengths"], "tokens", "share of the sentences")
        ),
        "median": int(np.searchsorted(reached, 0.5)),
        "most": int(np.searchsorted(reached, 0.95)),
        "truncated": sum(split["truncated"] for split in splits.values()),
        "counts": {name: split["per_label"] for name, split in splits.items()},
    }


def splits_and_samples(facts: Tree, labels: Sequence[str], samples: Tree | None) -> Tree:
    """The splits with their counts and origins, the labels that one of them lacks, and a card a
    label with images of it.
    """
    data = facts["data"]
    splits = [
        {
            "name": name,
            "examples": split["examples"],
            "counts": [split["per_label"].get(label, 0) for label in labels],
            "origin": _origin(name, facts),
        }
        for name, split in data["splits"].items()
    ]
    lacking = {
        split["name"]: [label for label, n in zip(labels, split["counts"], strict=True) if not n]
        for split in splits
    }
    shown = labels[:MOST_LABELS]
    each = max(1, min(4, MOST_SAMPLES // max(1, len(shown))))
    cards = [
        {
            "label": label,
            "counts": [(split["name"], split["counts"][index]) for split in splits],
            "images": [
                figures.thumbnail(image, SAMPLE_SIDE)
                for image in (
                    samples["images"][samples["labels"] == index][:each] if samples else ()
                )
            ],
        }
        for index, label in enumerate(shown)
    ]
    return {"splits": splits, "lacking": {k: v for k, v in lacking.items() if v}, "cards": cards}


def _origin(name: str, facts: Tree) -> str:
    """Where a split comes from: a training split from which others were taken is not the one that
    was given.
    """
    data, config = facts["data"], facts["config"]
    made, seed = data["made_splits"], data["split_seed"]
    if name in made:
        return f"taken from the training data, split seed {seed}"
    if name != "train":
        return "given"
    origin = "given"
    if made:
        others = " and ".join(split for split in ("validation", "test") if split in made)
        origin = f"what is left of the data after {others} were taken from it, split seed {seed}"
        origin = origin.replace("were", "was") if len(made) == 1 else origin
    drawn = ""
    if config.get("per_class") is not None:
        drawn = f"{config['per_class']} of each label"
    elif config.get("fraction") not in (None, 1):
        drawn = f"{wording.percent(config['fraction'], 0)} of each label"
    return (
        f"{origin}; of that {drawn}, drawn by the same seed"
        if drawn and made
        else (f"{origin}; of that {drawn}, drawn by split seed {seed}" if drawn else origin)
    )
