"""Adaptation measured: methods on pairs of domains, five seeds, for pictures with a model trained on the target's labels
beside them; and photos of which ten a class have labels.

    GRAFT_DATA=... python benchmarks/adaptation.py mnist-usps --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py usps-mnist --work build/adaptation
    python benchmarks/adaptation.py glyphs-digits --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py amazon --encoder all-MiniLM-L6-v2/ [--tuned] --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py amazon --encoder tfidf --seeds 1 --work build/adaptation
    GRAFT_DATA=... python benchmarks/adaptation.py clothing-few --seeds 3 --work build/adaptation

The pictures and tables go into the folder --work, runs too; rows are added to `benchmarks/results/adaptation.csv`, those of
a pair that is there already, with all seeds, are not measured again. Nothing is tuned on a label of a target: one setting
for MNIST and USPS, one for print, one for the reviews.

The net for MNIST and USPS, `digits_net`, is made here: four 3 x 3 convolutions (16, 32, 32, 64), each with
BatchNormalization and ReLU, pooling behind the first, third and fourth, a dense layer of 128; 110 thousand parameters.
"""

import csv
import itertools
import os
import platform
import re
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from recipes.engine import run
from recipes.engine.settings import FitSettings

RESULTS = Path(__file__).parent / "results" / "adaptation.csv"
PICTURES = ("dann", "cdan", "coral", "mmd", "pseudo_label", "adabn", "tent")
"""All but fixmatch, which is for few labels and takes three times as long; clothing-few measures it."""
PRINT = ("cdan", "pseudo_label", "adabn", "tent")
"""The recipe's default and tent: an epoch of the bundled backbone takes longer than one of the small net."""
TEXTS = ("dann", "cdan", "coral", "mmd", "pseudo_label")
DOMAINS = ("books", "dvd", "electronics", "kitchen")
TFIDF = "tfidf"
"""Instead of an encoder."""
EPOCHS = 10
PRINT_EPOCHS, PRINT_THRESHOLD = 40, 0.7
"""Of print, of which there are only 1,400 pictures: with 40 epochs the models had more information about the target (seed 0,
pseudo_label: 2.17 nats, with 10 epochs 1.94), and with this threshold more again (2.22), which needs none of its labels."""


@dataclass(frozen=True)
class Options:
    """Measure a pair, or for amazon all twelve."""

    pair: Positional[Literal["mnist-usps", "usps-mnist", "glyphs-digits", "amazon", "clothing-few"]]
    """What to measure."""
    work: Path
    """Where pictures, tables and runs go."""
    seeds: int = 5
    encoder: str = "graft_mini_en"
    """For amazon: a name from `graft zoo`, a folder, or tfidf: words are counted, with a logistic regression (no method)."""
    tuned: bool = False
    """For amazon: first train the whole encoder on the labelled source (schedule full, one seed); then it stays as it is."""
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
        if len({row["seed"] for row in known}) < options.seeds:
            made = {"amazon": words if options.encoder == TFIDF else texts, "clothing-few": few_labels}
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
    return f"{Path(options.encoder).name}{' tuned' * options.tuned}" if options.pair == "amazon" else ""


def run_folder(options: Options, name: str) -> Path:
    """Where a run with so many seeds goes: one with more is another."""
    return options.work / f"{name}-{options.seeds}"


def pictures(pair: str, options: Options) -> list[dict]:
    """All methods and the model with the target's labels, on pictures of digits."""
    from recipes import domain_adaptation, image_classification

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
    out = domain_adaptation.main(
        domain_adaptation.Config(
            data=domains[source], target=domains[target], out=run_folder(options, pair), methods=methods,
            threshold=threshold, target_labels=True, fit=fit, resume=True, **settings,
        )
    )  # fmt: skip
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
    facts = run.read(oracle)
    rows = [
        {"method": "target_supervised", "seed": seed, "accuracy": value, "seconds": facts["seconds"]["train"]}
        for seed, value in enumerate(facts["test_accuracy_by_seed"])
    ]
    return [described(pair, row, options) for row in [*measured(out), *rows]]


def texts(pair: str, options: Options) -> list[dict]:
    """All methods on reviews; the target's reviews are measured on all 2,000, none of whose labels was used."""
    from recipes import text_domain_adaptation

    tables = reviews(options.work)
    source, target = pair.split("-")
    encoder = str(tuned(source, options)) if options.tuned else options.encoder
    out = text_domain_adaptation.main(
        text_domain_adaptation.Config(
            data=str(tables[source]), target=str(tables[target]), methods=TEXTS, backbone=encoder, target_labels=True,
            out=run_folder(options, f"amazon-{pair}{'-tuned' * options.tuned}"), epochs=EPOCHS, seeds=options.seeds,
            resume=True, fit=FitSettings(batch_size=64, weight_decay=0.01, clip_norm=1.0),
        )
    )  # fmt: skip
    return [described(pair, row, options) for row in measured(out)]


def tuned(source: str, options: Options) -> Path:
    """The run of the encoder that was trained on the reviews of `source`."""
    from recipes import text_classification

    return text_classification.main(
        text_classification.Config(
            data=str(reviews(options.work)[source]), out=options.work / f"{source}-tuned", backbone=options.encoder,
            schedule="full", resume=True,
        )
    )  # fmt: skip


def words(pair: str, options: Options) -> list[dict]:
    """What counting words gives on the same split of the source and the same reviews of the target."""
    from benchmarks import text_floor
    from recipes.engine import sentences, splits

    source, target = (sentences.load(str(reviews(options.work)[d]), need=("label",)) for d in pair.split("-"))
    start = time.perf_counter()
    model = text_floor.fitted(splits.complete(source, 0)[0])
    reached = text_floor.accuracy(model, target.splits["train"])
    row = {"method": "source_only", "seed": 0, "accuracy": reached, "seconds": time.perf_counter() - start}
    return [described(pair, row, options)]


def few_labels(pair: str, options: Options) -> list[dict]:
    """Ten labelled photos a class and about 3,000 without labels; measured on the test split."""
    from recipes import semi_supervised

    weights = data("mobilenet_v2_0.35_224_notop", "mobilenet_v2_0.35_224_notop.weights.h5")
    out = semi_supervised.main(
        semi_supervised.Config(
            data=str(clothing(options.work)), per_class=10, out=run_folder(options, pair), backbone="mobilenet_v2_0.35",
            weights=str(weights), image_size=96, seeds=options.seeds, resume=True,
        )
    )  # fmt: skip
    return [described(pair, row, options) for row in measured(out)]


def measured(out: Path) -> list[dict]:
    """The rows of a run, with the one that was kept marked."""
    facts = run.read(out)["adaptation"]
    chosen = facts["chosen"]
    return [
        {**row, "kept": int(row["method"] == chosen["method"] and row["seed"] == chosen["seed"])}
        for row in facts["rows"]
    ]


def described(pair: str, row: dict, options: Options) -> dict:
    """A row of the table."""
    return {
        "pair": pair, "method": row["method"], "seed": row["seed"], "accuracy": row["accuracy"],
        "labelled": row.get("labelled", ""), "information": row.get("information", ""), "iwv": row.get("iwv", ""),
        "kept": row.get("kept", ""), "seconds": round(row["seconds"], 1),
        "encoder": encoder_of(options),
        "date": time.strftime("%Y-%m-%d"), **circumstances(),
    }  # fmt: skip


def circumstances() -> dict:
    """Machine and versions."""
    versions = run.environment()["versions"]
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": f"keras {versions['keras']}, tensorflow {versions['tensorflow']}",
    }


# ---------------------------------------------------------------------------------------------------------------------
# Data


def data(*parts: str) -> Path:
    """A file of GRAFT_DATA."""
    root = os.environ.get("GRAFT_DATA")
    if root is None or not Path(root, *parts).exists():
        sys.exit(f"GRAFT_DATA must name the folder that holds {Path(*parts)}: see CONTRIBUTING.md")
    return Path(root, *parts)


def folder(name: str, work: Path) -> Path:
    """Class folders of MNIST or USPS, train and test, 28 x 28."""
    from PIL import Image

    target = work / name
    if target.exists():
        return target
    if name == "mnist":
        with np.load(data("mnist_subset", "mnist_10k_10k.npz")) as file:
            parts = {split: (file[f"x_{split}"], file[f"y_{split}"]) for split in ("train", "test")}
    else:
        parts = usps()
    for split, (images, labels) in parts.items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = work / f".{name}" / split / str(label)
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i}.png")
    (work / f".{name}").rename(target)
    return target


def usps() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """16 x 16 pictures that fill their box, as MNIST has its digits: 20 x 20 in the middle of 28 x 28. Stratified 80/20."""
    from PIL import Image
    from scipy.io import loadmat
    from sklearn.model_selection import train_test_split

    file = loadmat(data("usps", "USPS.mat"))
    labels = np.int64(file["gnd"].ravel()) - 1
    images = np.zeros((len(labels), 28, 28), np.uint8)
    pixels = np.float64(file["fea"])
    pixels = np.uint8(255 * (pixels - pixels.min()) / (pixels.max() - pixels.min())).reshape(-1, 16, 16)
    for place, image in zip(images, pixels, strict=True):
        place[4:24, 4:24] = Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def clothing(work: Path) -> Path:
    """clothing_small, unpacked."""
    target = work / "clothing"
    if not target.exists():
        with zipfile.ZipFile(data("clothing_small", "clothing_small_160.zip")) as archive:
            archive.extractall(work / ".clothing")
        (work / ".clothing").rename(target)
    return target


def digits_table(work: Path) -> str:
    """scikit-learn's digits, half of them for adapting and half for measuring."""
    from PIL import Image
    from sklearn.model_selection import train_test_split

    from recipes.data import digits

    target = work / "digits.csv"
    if not target.exists():
        pairs = digits.load()
        labels = [label for _, label in pairs]
        train, _ = train_test_split(np.arange(len(pairs)), test_size=0.5, random_state=0, stratify=labels)
        (work / "digits").mkdir(exist_ok=True)
        lines = ["path,label,split\n"]
        for i, (image, label) in enumerate(pairs):
            Image.fromarray(image).save(work / "digits" / f"{i}.png")
            lines.append(f"digits/{i}.png,{label},{'train' if i in set(train) else 'test'}\n")
        target.write_text("".join(lines), encoding="utf-8")
    return str(target)


def digits_net(work: Path) -> Path:
    """The small net, in a file."""
    import keras
    from keras import layers

    target = work / "digits_net.keras"
    x = inputs = keras.Input((28, 28, 3), name="image")
    x = layers.Rescaling(1 / 255)(x)
    for filters, pool in ((16, True), (32, False), (32, True), (64, True)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x) if pool else x
    x = layers.Dense(128, use_bias=False)(layers.Flatten()(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    keras.Model(inputs, x, name="digits_net").save(target)
    return target


def reviews(work: Path) -> dict[str, Path]:
    """A table of texts and labels for each domain."""
    tables = {name: work / f"{name}.csv" for name in DOMAINS}
    if all(path.exists() for path in tables.values()):
        return tables
    with tarfile.open(data("amazon_multidomain", "sorted_data_acl_labelled.tar.xz")) as archive:
        for name, path in tables.items():
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("text", "label"))
                for label in ("negative", "positive"):
                    members = (m for m in archive.getnames() if m.endswith(f"/{label}.review"))
                    (member,) = (m for m in members if m.split("/")[-2].startswith(name))
                    content = archive.extractfile(member).read().decode("latin-1")
                    for text in re.findall(r"<review_text>(.*?)</review_text>", content, re.DOTALL):
                        writer.writerow((" ".join(text.split()), label))
    return tables


# ---------------------------------------------------------------------------------------------------------------------
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
    """Means and ranges by pair and method; of several pairs also the mean gain over source_only with its interval.

    The interval is over the seeds, each with its mean over the pairs: pairs share domains and are no sample of anything.
    """
    for pair in dict.fromkeys(row["pair"] for row in rows):
        print(f"\n| {pair} | target accuracy | kept |\n|---|---|---|")
        for method in dict.fromkeys(row["method"] for row in rows if row["pair"] == pair):
            own = [row for row in rows if (row["pair"], row["method"]) == (pair, method)]
            kept = "x" if any(row["kept"] == "1" for row in own) else ""
            print(f"| {method} | {span([float(row['accuracy']) for row in own])} | {kept} |")
    pairs = list(dict.fromkeys(row["pair"] for row in rows))
    if len(pairs) > 1:
        reached = {(row["pair"], row["method"], row["seed"]): 100 * float(row["accuracy"]) for row in rows}
        kept = {row["pair"]: row["method"] for row in rows if row["kept"] == "1"}
        seeds = sorted({seed for _, _, seed in reached})
        print("\n| method | mean over the pairs, % | gain, points | 95 % interval over the seeds | pairs that gained |")
        print("|---|---|---|---|---|")
        for method in (*dict.fromkeys(row["method"] for row in rows), *(["kept"] if kept else [])):
            found, plain = (
                np.array([[reached[p, name(p), s] for s in seeds] for p in pairs])
                for name in (kept.get if method == "kept" else lambda _, m=method: m, lambda _: "source_only")
            )
            print(f"| {method} | {found.mean():.1f} | {' | | ' if method == 'source_only' else _gain(found - plain)} |")


def span(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _gain(gains: np.ndarray) -> str:
    """Of `gains` `(pairs, seeds)`: mean, interval over the seeds, pairs that gained."""
    from scipy import stats

    each = gains.mean(0)
    low, high = stats.t.interval(0.95, len(each) - 1, each.mean(), stats.sem(each))
    return f"{each.mean():+.2f} | {low:+.2f} to {high:+.2f} | {np.sum(gains.mean(1) > 0)} of {len(gains)}"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
