"""A backbone before and after `graft train self-supervised`, with ten labels a class.

    python benchmarks/self_supervised.py digits --work build/pile
    GRAFT_DATA=... python benchmarks/self_supervised.py clothing --work build/pile

`digits`: the bundled backbone, pretrained on print, learns from 898 handwritten digits without
    labels (scikit-learn's,
half of them) at 64 px. `clothing`: MobileNetV2-0.35 with ImageNet weights, from the 3,068 training
photos of clothing_small at 96 px. Then ten training pictures of each class get their labels back
(the same ones for all seeds), and the head, or the head and the top half, are trained on them from
either backbone; measured on the test split, of which nothing was seen. The table goes to
`benchmarks/results/self_supervised.csv`; a pair that is there with all seeds is not measured again.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import adaptation, adaptation_data
from graft.recipes.report.run_file import read_run
from graft.recipes.train.settings import FitSettings

RESULTS = Path(__file__).parent / "results" / "self_supervised.csv"
PER_CLASS = 10
EPOCHS = {"feature_extraction": 60, "fine_tune": 40}
"""Of ten pictures of each of ten classes, that is four steps an epoch."""


@dataclass(frozen=True)
class Options:
    """Measure a backbone before and after it has learned from pictures without labels."""

    pair: Positional[Literal["digits", "clothing"]]
    """What to measure."""
    work: Path
    """Where pictures and runs go."""
    seeds: int = 3
    out: Path = RESULTS
    """The table."""


def main(options: Options) -> None:
    """Measure what is missing and print what is there."""
    options.work.mkdir(parents=True, exist_ok=True)
    known = adaptation.read(options.out)
    rows = [row for row in known if row["pair"] == options.pair]
    if len({row["seed"] for row in rows}) < options.seeds:
        rows = [row for seed in range(options.seeds) for row in measured(options, seed)]
        adaptation.write(options.out, [row for row in known if row["pair"] != options.pair] + rows)
    print(
        "| backbone | schedule | test accuracy | nearest neighbours share the label "
        "|\n|---|---|---|---|"
    )
    for backbone, schedule in dict.fromkeys((row["backbone"], row["schedule"]) for row in rows):
        own = [row for row in rows if (row["backbone"], row["schedule"]) == (backbone, schedule)]
        cells = (
            adaptation.span([float(row[key]) for row in own]) for key in ("accuracy", "neighbours")
        )
        print(f"| {backbone} | {schedule} | {' | '.join(cells)} |")


def measured(options: Options, seed: int) -> list[dict]:
    """The rows of a seed: either backbone, either schedule."""
    from graft.recipes import image_classification, self_supervised

    if options.pair == "digits":
        source, weights, size, augment = (
            adaptation_data.digits_table(options.work),
            "bundled",
            64,
            ("crop", "zoom"),
        )
    else:
        source, size, augment = str(adaptation_data.clothing(options.work)), 96, None
        weights = str(
            adaptation_data.data(
                "mobilenet_v2_0.35_224_notop", "mobilenet_v2_0.35_224_notop.weights.h5"
            )
        )
    pile = FitSettings(batch_size=64, augment=augment or ("flip", "zoom", "color", "grayscale"))
    common = {"data": source, "image_size": size, "seed": seed, "resume": True}
    plain = {"backbone": "mobilenet_v2_0.35", "weights": weights}
    learned = self_supervised.main(
        self_supervised.Config(
            **common,
            **plain,
            labels=True,
            fit=pile,
            out=options.work / f"{options.pair}-pile-{seed}",
        )
    )
    facts = read_run(learned)
    rows = []
    for name, backbone in (
        ("before", plain),
        ("after", {"backbone": str(learned / "backbone.keras")}),
    ):
        for schedule, epochs in EPOCHS.items():
            out = image_classification.main(
                image_classification.Config(
                    **common,
                    **backbone,
                    schedule=schedule,
                    epochs=epochs,
                    per_class=PER_CLASS,
                    out=options.work / f"{options.pair}-{name}-{schedule}-{seed}",
                    fit=FitSettings(augment=()),
                )
            )
            reached = read_run(out)["metrics"]["test"]["accuracy"]
            rows.append(
                {
                    "pair": options.pair,
                    "backbone": name,
                    "schedule": schedule,
                    "seed": seed,
                    "accuracy": reached,
                    "neighbours": facts["probe"][name],
                    "date": time.strftime("%Y-%m-%d"),
                    **adaptation.circumstances(),
                }
            )
    return rows


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
