r"""Boxes and masks: accuracy on the test images against the seconds of training.

    python benchmarks/dense.py --shared DATA --work DIR

DATA holds bccd_detection, dsb2018_nuclei and mobilenet_v2_1.0_224, as archives and weights. Each
run goes through the command line and adds its row to `benchmarks/results/dense.csv`; a run that is
there already is read, not trained again. Test images choose nothing.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tables import add_row

HERE = Path(__file__).parent
WEIGHTS = "mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.weights.h5"


@dataclass(frozen=True)
class Set:
    """What is learned.

    Attributes:
        recipe: by which.
        archive: below the folder of shared data.
        size: of the images, as --image-size takes it.
        keys: of the figures in run.json.
        options: beside the defaults.
    """

    recipe: str
    archive: str
    size: str
    keys: tuple[str, ...]
    options: tuple[str, ...] = ()


SETS = {
    "bccd": Set(
        "object-detection", "bccd_detection/bccd_320.zip", "240x320", ("map50", "map50_95")
    ),
    "nuclei": Set(
        "segmentation", "dsb2018_nuclei/dsb2018_nuclei_256.zip", "256", ("dice", "mean_iou")
    ),
}


@dataclass(frozen=True)
class Options:
    """Train boxes and masks on real data."""

    shared: Path
    """The folder of shared data."""
    work: Path
    """Where archives are unpacked and runs go."""
    sets: tuple[str, ...] = tuple(SETS)
    schedules: tuple[str, ...] = ("feature_extraction", "fine_tune")
    seeds: int = 3
    compare_scratch: bool = False
    """Also from random weights, for as many epochs: its seconds are more."""
    out: Path = HERE / "results" / "dense.csv"
    """The table to add rows to."""


def unpacked(options: Options, name: str) -> Path:
    """The data of a set as a recipe reads them."""
    folder = options.work / name
    if not folder.is_dir():
        part = folder.with_name(f"{name}.part")
        with zipfile.ZipFile(options.shared / SETS[name].archive) as archive:
            archive.extractall(part)
        index = part / "index.csv"
        if index.is_file():  # its 143 validation pictures are the test set
            with index.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            with index.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                for row in rows:
                    writer.writerow(row | {"split": row["split"].replace("val", "test")})
        os.rename(part, folder)
    return folder


def trained(options: Options, name: str, schedule: str) -> Mapping:
    """The run.json of a training."""
    own = SETS[name]
    out = options.work / "runs" / f"{name}-{schedule}"
    if not (out / "run.json").is_file():
        command = [sys.executable, "-m", "graft", "train", own.recipe, "--out", str(out)]
        command += ["--data", str(unpacked(options, name)), "--image-size", own.size]
        command += ["--backbone", "mobilenet_v2", "--weights", str(options.shared / WEIGHTS)]
        command += ["--schedule", schedule, "--seeds", str(options.seeds), *own.options]
        command += ["--compare-scratch"] * options.compare_scratch
        subprocess.run(command, check=True)
    return json.loads((out / "run.json").read_text())


def row_of(name: str, schedule: str, run: Mapping) -> dict:
    """What a run says, mean (least to most) of its seeds; the seconds are those of one."""
    seeds, found = run["test_by_seed"], {"set": name, "schedule": schedule, "seeds": 0}
    found["seeds"] = len(seeds)
    for place, key in enumerate(SETS[name].keys, 1):
        values = [seed[key] for seed in seeds]
        span = f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
        found |= {f"figure_{place}": key, f"test_{place}": span}
    verdict = (run.get("verdict") or {}).get("text", "")
    return found | {"seconds": float(run["seconds"]["train"]), "verdict": verdict}


def main(options: Options) -> None:
    """Train what is missing, and add a row for each run to the table."""
    for name in options.sets:
        for schedule in options.schedules:
            row = row_of(name, schedule, trained(options, name, schedule))
            print(json.dumps(add_row(options.out, row)))


if __name__ == "__main__":
    main(tyro.cli(Options))
