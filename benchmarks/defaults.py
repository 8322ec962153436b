r"""What each schedule should do by itself: random changes, kept versions and epochs, by validation.

    python benchmarks/defaults.py --shared DATA --work FOLDER

DATA holds the archives of clothing_small, cifar10_subset and emoji_image_text and the weights of
MobileNetV2; `digits` is built in. Every setting is trained five times on at most `--per-class`
images a class of each set; what is written is validation accuracy alone, of the epoch that is kept,
and the seconds of decoding, pass and training. Test images are not opened.
"""

import csv
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tables import add_row

if TYPE_CHECKING:
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.train.fit import Trained

HERE = Path(__file__).parent
SETS = ("clothing_small", "cifar10_subset", "digits", "emoji_image_text")
SCHEDULES = ("feature_extraction", "fine_tune", "gradual_unfreeze", "probe_then_tune", "full")
VALIDATION = 500
"""At most so many validation images, the same for all settings."""
FLIP_CROP = ("flip", "crop")


@dataclass(frozen=True)
class Setting:
    """What a schedule might do by itself.

    Attributes:
        views: of cached images; 0: new changes in every epoch, nothing cached.
        epochs: None: the schedule's own.
        fit: how an image that is no square becomes one.
    """

    schedule: str
    augment: tuple[str, ...] = ()
    views: int = 8
    epochs: int | None = None
    fit: str = "stretch"


SETTINGS = (
    Setting("feature_extraction"),
    Setting("feature_extraction", FLIP_CROP, 4),
    Setting("feature_extraction", FLIP_CROP),
    Setting("feature_extraction", fit="crop"),
    Setting("fine_tune"),
    Setting("fine_tune", ("crop",), 4),
    Setting("fine_tune", FLIP_CROP, 4),
    Setting("fine_tune", FLIP_CROP),
    Setting("fine_tune", fit="crop"),
    Setting("gradual_unfreeze"),
    Setting("gradual_unfreeze", FLIP_CROP),
    Setting("probe_then_tune"),
    Setting("probe_then_tune", FLIP_CROP),
    Setting("full"),
    Setting("full", FLIP_CROP),
)
SQUARE = ("cifar10_subset", "digits", "emoji_image_text")
"""Sets of squares, where how an image becomes one changes nothing."""


@dataclass(frozen=True)
class Options:
    """Measure what each schedule should do by itself."""

    shared: Path
    """The folder with the archives and weights."""
    backbone: str = "mobilenet_v2_0.35"
    """mobilenet_v2_0.35 or mobilenet_v2."""
    schedules: tuple[str, ...] = SCHEDULES
    """Which ones."""
    sets: tuple[str, ...] = SETS
    """On which."""
    per_class: int = 60
    """Training images of each class."""
    image_size: int = 96
    """In pixels."""
    seeds: int = 5
    """Trainings of each setting."""
    work: Path | None = None
    """Where archives are unpacked. Default: a temporary folder."""
    out: Path = HERE / "results" / "defaults.csv"
    """The table to add rows to."""


def place_of(name: str, options: Options, work: Path) -> str:
    """What `graft train --data` takes for a set; unpacked where it is an archive."""
    if name == "digits":
        return name
    folder = work / name
    if not folder.exists():
        (archive,) = (options.shared / name).glob("*.zip")
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        if name == "emoji_image_text":
            _write_groups(folder)
    return str(folder / "groups.csv" if name == "emoji_image_text" else folder)


def _write_groups(folder: Path) -> None:
    """A table of the drawings of one style with their group; groups of a few are left out."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    with (folder / "groups.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for row in rows:
            if sum(r["group"] == row["group"] for r in rows) >= 30:
                writer.writerow([f"twemoji/{row['hexcode']}.png", row["group"]])


def weights_of(options: Options) -> str:
    """The file of pretrained weights."""
    number = "0.35_224_notop" if options.backbone.endswith("0.35") else "1.0_224"
    return str(options.shared / f"mobilenet_v2_{number}" / f"mobilenet_v2_{number}.weights.h5")


def rows_of(name: str, options: Options, work: Path) -> Iterator[dict]:
    """A row for each setting on one set."""
    from graft.recipes.codecs.images import ImageCodec
    from graft.recipes.data import sources, splits
    from graft.recipes.tasks.group import Tasks
    from graft.recipes.tasks.labels import SingleLabelTask
    from graft.zoo.heads import heads

    source, _ = splits.complete(sources.load(place_of(name, options, work)), 0)
    source = splits.take(source, options.per_class, None, 0)
    tasks = Tasks((SingleLabelTask(heads.single_label(source.labels, dropout=0.2)),))
    decoded: dict[str, tuple[Mapping, float]] = {}
    for setting in SETTINGS:
        if setting.schedule not in options.schedules:
            continue
        if setting.fit != "stretch" and name in SQUARE:
            continue
        if setting.fit not in decoded:
            codec = ImageCodec(options.image_size, fit=setting.fit)
            start = time.perf_counter()
            examples = {
                split: codec.encode(source.splits[split], tasks, split)
                for split in ("train", "validation")
            }
            seconds = time.perf_counter() - start
            part = slice(0, None, max(1, -(-len(examples["validation"]) // VALIDATION)))
            examples["validation"] = examples["validation"].stretch(part)
            decoded[setting.fit] = examples, seconds
        examples, seconds = decoded[setting.fit]
        yield _trained(setting, name, tasks, examples, options, seconds)


def _trained(
    setting: Setting,
    name: str,
    tasks: "Tasks",
    examples: Mapping,
    options: Options,
    decoding: float,
) -> dict:
    import keras

    from graft.recipes.train import fit, schedule
    from graft.recipes.train.settings import FitSettings
    from graft.zoo.backbones import build, table
    from graft.zoo.files.store import Store
    from graft.zoo.graph.stack import stack

    row = table.find_backbone(options.backbone)
    (task,) = tasks

    def built() -> keras.Model:
        backbone = build.build_backbone(
            row, image_size=options.image_size, weights=weights_of(options)
        )
        return stack(backbone, [task.head])

    phases = schedule.resolve(setting.schedule, setting.epochs)
    settings = FitSettings(augment=setting.augment, views=setting.views)
    keras.utils.clear_session(free_memory=True)
    with tempfile.TemporaryDirectory() as folder:
        plan = fit.TrainPlan(built, tasks, phases, range(options.seeds), settings)
        _, results = fit.train(plan, examples, store=Store(folder))
    # Each seed is charged for the pass, whoever of them computed it.
    seconds = [decoding + result.seconds + result.charged for result in results]
    accuracy = [_validation_accuracy(result) for result in results]
    return {
        "set": name,
        "schedule": setting.schedule,
        "augment": " ".join(setting.augment) or "none",
        "views": setting.views if setting.augment else 1,
        "epochs": sum(phase.epochs for phase in phases),
        "fit": setting.fit,
        "accuracy": statistics.mean(accuracy),
        "least": min(accuracy),
        "most": max(accuracy),
        "seconds": statistics.median(seconds),
        "seeds": options.seeds,
        "train": len(examples["train"]),
        "validation": len(examples["validation"]),
    }


def _validation_accuracy(result: "Trained") -> float:
    """Of the epoch whose weights are kept."""
    return result.history[result.kept["row"]]["val_accuracy"]


def summary(rows: Sequence[Mapping]) -> list[dict]:
    """By setting: the mean over the sets of accuracy, and of seconds over those of the quickest."""
    keys = ("schedule", "augment", "views", "epochs", "fit")
    found = {}
    for row in rows:
        found.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    quickest = {}
    for row in rows:
        key = (row["set"], row["schedule"])
        quickest[key] = min(quickest.get(key, float("inf")), float(row["seconds"]))
    return [
        dict(zip(keys, key, strict=True))
        | {
            "accuracy": statistics.mean(float(row["accuracy"]) for row in part),
            "times": statistics.mean(
                float(row["seconds"]) / quickest[row["set"], row["schedule"]] for row in part
            ),
            "sets": len(part),
        }
        for key, part in found.items()
    ]


def main(options: Options) -> None:
    """Measure, add the rows to the table, print the means."""
    added = []
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        for name in options.sets:
            for row in rows_of(name, options, work):
                row = add_row(options.out, row | {"backbone": options.backbone}, digits=4)
                added.append(row)
                print({k: row[k] for k in list(row)[:10]}, flush=True)
    for row in sorted(summary(added), key=lambda row: (row["schedule"], -row["accuracy"])):
        print({k: f"{v:.3f}" if isinstance(v, float) else v for k, v in row.items()})


if __name__ == "__main__":
    main(tyro.cli(Options))
