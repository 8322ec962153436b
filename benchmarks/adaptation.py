r"""Adaptation measured: methods on pairs of domains, five seeds, for pictures with a model trained
on the target's labels beside them; and photos of which ten a class have labels.

    GRAFT_DATA=... python benchmarks/adaptation.py mnist-usps --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py usps-mnist --work build/adaptation
    python benchmarks/adaptation.py glyphs-digits --work build/adaptation
    python benchmarks/adaptation.py glyphs-digits --again adabn tent --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py amazon --encoder all-MiniLM-L6-v2/ [--tuned] \
        --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py amazon --encoder tfidf --seeds 1 \
        --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py clothing-few --seeds 3 --work build/adaptation

The pictures and tables go into the folder --work, runs too; rows are added to
`benchmarks/results/adaptation.csv`, those of a pair that is there already, with all seeds, are not
measured again. Nothing is tuned on a label of a target: one setting for MNIST and USPS, one for
print, one for the reviews.
"""

import csv
import itertools
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.adaptation_data import (
    DOMAINS,
    clothing,
    data,
    digits_net,
    digits_table,
    folder,
    reviews,
)
from graft.recipes.report.run_file import read_run
from graft.recipes.runs.run_facts import environment
from graft.recipes.train.settings import FitSettings

RESULTS = Path(__file__).parent / "results" / "adaptation.csv"
PICTURES = ("dann", "cdan", "coral", "mmd", "pseudo_label", "adabn", "tent")
"""All but fixmatch, which is for few labels and takes three times as long; clothing-few measures
it.
"""
PRINT = ("cdan", "pseudo_label", "adabn", "tent")
"""The recipe's default and tent: an epoch of the bundled backbone takes longer than one of the
small net.
"""
TEXTS = ("dann", "cdan", "coral", "mmd", "pseudo_label")
TFIDF = "tfidf"
"""Instead of an encoder."""
EPOCHS = 10
PRINT_EPOCHS, PRINT_THRESHOLD = 40, 0.7
"""Of print, of which there are only 1,400 pictures: with 40 epochs the models had more information
about the target (seed 0, pseudo_label: 2.17 nats, with 10 epochs 1.94), and with this threshold
more again (2.22), which needs none of its labels.
"""


@dataclass(frozen=True)
class Options:
    """Measure a pair, or for amazon all twelve."""

    pair: Positional[Literal["mnist-usps", "usps-mnist", "glyphs-digits", "amazon", "clothing-few"]]
    """What to measure."""
    work: Path
    """Where pictures, tables and runs go."""
    seeds: int = 5
    encoder: str = "graft_mini_en"
    """For amazon: a name from `graft zoo`, a folder, or tfidf: words are counted, with a logistic
    regression (no method).
    """
    tuned: bool = False
    """For amazon: first train the whole encoder on the labelled source (schedule full, one seed);
    then it stays as it is.
    """
    again: tuple[str, ...] = ()
    """For pairs of images: measure source_only and these methods again; the rows of the others stay
    as they are.
    """
    out: Path = RESULTS
    """The table."""


def main(options: Options) -> None:
    """Measure what is missing and print what is there."""
    options.work.mkdir(parents=True, exist_ok=True)
    pairs = [options.pair]
    if options.pair == "amazon":
        pairs = [f"{a}-{b}" for a, b in itertools.permutations(DOMAINS, 2)]
    for pair in pairs:
        known, others = of_pair(pair, options)
        if options.again:
            rows = [
                row | {"kept": 0} for row in pictures(pair, options)
            ]  # nothing was chosen among all methods
            measured_again = {row["method"] for row in rows}
            write(
                options.out,
                others + [row for row in known if row["method"] not in measured_again] + rows,
            )
        elif len({row["seed"] for row in known}) < options.seeds:
            made = {
                "amazon": words if options.encoder == TFIDF else texts,
                "clothing-few": few_labels,
            }
            rows = made.get(options.pair, pictures)(pair, options)
            write(options.out, others + rows)
    show([row for pair in pairs for row in of_pair(pair, options)[0]])


def of_pair(pair: str, options: Options) -> tuple[list[dict], list[dict]]:
    """The rows of the table that are of `pair` and the encoder, and the others."""
    rows = read(options.out)
    own = [row for row in rows if (row["pair"], row["encoder"]) == (pair, encoder_of(options))]
    return own, [row for row in rows if row not in own]


def encoder_of(options: Options) -> str:
    """What the table calls it; nothing for pictures."""
    return (
        f"{Path(options.encoder).name}{' tuned' * options.tuned}"
        if options.pair == "amazon"
        else ""
    )


def run_folder(options: Options, name: str) -> Path:
    """Where a run with so many seeds goes: one with more is another."""
    return options.work / f"{name}-{options.seeds}"


def pictures(pair: str, options: Options) -> list[dict]:
    """All methods and the model with the target's labels, on pictures of digits."""
    from graft.recipes import domain_adaptation, image_classification

    source, target = pair.split("-")
    settings, methods, threshold = {"epochs": EPOCHS, "seeds": options.seeds}, PICTURES, None
    if pair == "glyphs-digits":
        settings |= {"backbone": "mobilenet_v2_0.35", "weights": "bundled", "image_size": 64}
        settings |= {"schedule": "fine_tune", "epochs": PRINT_EPOCHS}
        methods, threshold = PRINT, PRINT_THRESHOLD
        domains = {source: source, target: digits_table(options.work)}
        fit = FitSettings(augment=("crop",))
    else:
        settings |= {"backbone": str(digits_net(options.work)), "schedule": "scratch"}
        domains = {name: str(folder(name, options.work)) for name in (source, target)}
        fit = FitSettings(batch_size=64, augment=("crop",), weight_decay=5e-4)
    methods = options.again or methods
    threshold = threshold if "pseudo_label" in methods else None
    name = "-".join([pair, *options.again])
    out = domain_adaptation.main(
        domain_adaptation.Config(
            data=domains[source],
            target=domains[target],
            out=run_folder(options, name),
            methods=methods,
            threshold=threshold,
            target_labels=True,
            fit=fit,
            resume=True,
            **settings,
        )
    )
    if options.again:
        return [described(pair, row, options) for row in measured(out)]
    oracle = image_classification.main(
        image_classification.Config(
            data=domains[target],
            out=run_folder(options, f"{pair}-oracle"),
            fit=fit,
            dropout=0.0,
            resume=True,
            **settings,
        )
    )
    facts = read_run(oracle)
    rows = [
        {
            "method": "target_supervised",
            "seed": seed,
            "accuracy": value,
            "seconds": facts["seconds"]["train"],
        }
        for seed, value in enumerate(facts["test_accuracy_by_seed"])
    ]
    return [described(pair, row, options) for row in [*measured(out), *rows]]


def texts(pair: str, options: Options) -> list[dict]:
    """All methods on reviews; the target's reviews are measured on all 2,000, none of whose labels
    was used.
    """
    from graft.recipes import text_domain_adaptation

    tables = reviews(options.work)
    source, target = pair.split("-")
    encoder = str(tuned(source, options)) if options.tuned else options.encoder
    out = text_domain_adaptation.main(
        text_domain_adaptation.Config(
            data=str(tables[source]),
            target=str(tables[target]),
            methods=TEXTS,
            backbone=encoder,
            target_labels=True,
            out=run_folder(options, f"amazon-{pair}{'-tuned' * options.tuned}"),
            epochs=EPOCHS,
            seeds=options.seeds,
            resume=True,
            fit=FitSettings(batch_size=64, weight_decay=0.01, clip_norm=1.0),
        )
    )
    return [described(pair, row, options) for row in measured(out)]


def tuned(source: str, options: Options) -> Path:
    """The run of the encoder that was trained on the reviews of `source`."""
    from graft.recipes import text_classification

    return text_classification.main(
        text_classification.Config(
            data=str(reviews(options.work)[source]),
            out=options.work / f"{source}-tuned",
            backbone=options.encoder,
            schedule="full",
            resume=True,
        )
    )


def words(pair: str, options: Options) -> list[dict]:
    """What counting words gives on the same split of the source and the same reviews of the
    target.
    """
    from benchmarks import text_floor
    from graft.recipes.data import sentences, splits

    source, target = (
        sentences.load(str(reviews(options.work)[d]), need=("label",)) for d in pair.split("-")
    )
    start = time.perf_counter()
    model = text_floor.fitted(splits.complete(source, 0)[0])
    reached = text_floor.accuracy(model, target.splits["train"], source.labels)
    row = {
        "method": "source_only",
        "seed": 0,
        "accuracy": reached,
        "seconds": time.perf_counter() - start,
    }
    return [described(pair, row, options)]


def few_labels(pair: str, options: Options) -> list[dict]:
    """Ten labelled photos a class and about 3,000 without labels; measured on the test split."""
    from graft.recipes import semi_supervised

    weights = data("mobilenet_v2_0.35_224_notop", "mobilenet_v2_0.35_224_notop.weights.h5")
    out = semi_supervised.main(
        semi_supervised.Config(
            data=str(clothing(options.work)),
            per_class=10,
            out=run_folder(options, pair),
            backbone="mobilenet_v2_0.35",
            weights=str(weights),
            image_size=96,
            seeds=options.seeds,
            resume=True,
        )
    )
    return [described(pair, row, options) for row in measured(out)]


def measured(out: Path) -> list[dict]:
    """The rows of a run, with the one that was kept marked."""
    facts = read_run(out)["adaptation"]
    chosen = facts["chosen"]
    return [
        {**row, "kept": int(row["method"] == chosen["method"] and row["seed"] == chosen["seed"])}
        for row in facts["rows"]
    ]


def described(pair: str, row: dict, options: Options) -> dict:
    """A row of the table."""
    return {
        "pair": pair,
        "method": row["method"],
        "seed": row["seed"],
        "accuracy": row["accuracy"],
        "labelled": row.get("labelled", ""),
        "information": row.get("information", ""),
        "iwv": row.get("iwv", ""),
        "kept": row.get("kept", ""),
        "seconds": round(row["seconds"], 1),
        "encoder": encoder_of(options),
        "date": time.strftime("%Y-%m-%d"),
        **circumstances(),
    }


def circumstances() -> dict:
    """Machine and versions."""
    versions = environment()["versions"]
    return {
        "machine": (
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}"
        ),
        "versions": f"keras {versions['keras']}, tensorflow {versions['tensorflow']}",
    }


# --------------------------------------------------------------------------------------------------
# The table


def read(path: Path) -> list[dict]:
    """All rows so far."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict]) -> None:
    """All rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def show(rows: list[dict]) -> None:
    """Means and ranges by pair and method; of several pairs also the mean gain over source_only
    with its interval.

    The interval is over the seeds, each with its mean over the pairs: pairs share domains and are
    no sample of anything.
    """
    for pair in dict.fromkeys(row["pair"] for row in rows):
        print(f"\n| {pair} | target accuracy | kept |\n|---|---|---|")
        for method in dict.fromkeys(row["method"] for row in rows if row["pair"] == pair):
            own = [row for row in rows if (row["pair"], row["method"]) == (pair, method)]
            kept = "x" if any(row["kept"] == "1" for row in own) else ""
            print(f"| {method} | {span([float(row['accuracy']) for row in own])} | {kept} |")
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    if len(pairs) > 1:
        reached = {
            (row["pair"], row["method"], row["seed"]): 100 * float(row["accuracy"]) for row in rows
        }
        kept = {row["pair"]: row["method"] for row in rows if row["kept"] == "1"}
        seeds = sorted({seed for _, _, seed in reached})
        print(
            "\n| method | mean over the pairs, % | gain, points | 95 % interval over the seeds | "
            "pairs that gained |"
        )
        print("|---|---|---|---|---|")
        for method in (*dict.fromkeys(row["method"] for row in rows), *(["kept"] if kept else [])):
            found, plain = (
                np.array([[reached[p, name(p), s] for s in seeds] for p in pairs])
                for name in (
                    kept.get if method == "kept" else lambda _, m=method: m,
                    lambda _: "source_only",
                )
            )
            print(
                f"| {method} | {found.mean():.1f} | "
                f"{' | | ' if method == 'source_only' else _gain(found - plain)} |"
            )


def span(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _gain(gains: np.ndarray) -> str:
    """Of `gains` `(pairs, seeds)`: mean, interval over the seeds, pairs that gained."""
    from scipy import stats

    each = gains.mean(0)
    low, high = stats.t.interval(0.95, len(each) - 1, each.mean(), stats.sem(each))
    return (
        f"{each.mean():+.2f} | {low:+.2f} to {high:+.2f} | {np.sum(gains.mean(1) > 0)} of "
        f"{len(gains)}"
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
