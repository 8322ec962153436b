"""Time to an accuracy, ours and the peers': same photos, split, size, weights, seeds and epochs, in
one run.

    python benchmarks/time_to_accuracy.py --data CLOTHING --weights mobilenet_v2_1.0_224.weights.h5
    --torch-python PYTHON

The ways are the scripts in `benchmarks/peers/`. PYTHON has torch, torchvision, fastai and h5py
(extra `peers`). Seed after seed, all ways in turn, each in a process of its own; rows go to
`benchmarks/results/time_to_accuracy.csv`, a finished one is not run again. Prints the table with
ratios.
"""

import csv
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graft.recipes.grid import jobs, rows

HERE = Path(__file__).parent
WAYS = {
    "graft, gradual_unfreeze without random changes": (
        "graft_schedule.py",
        "gradual_unfreeze",
        "plain",
    ),
    "graft, fine_tune without random changes": ("graft_schedule.py", "fine_tune", "plain"),
    "graft, fine_tune as it comes": ("graft_schedule.py", "fine_tune"),
    "Keras guide: head, then all at 1e-5": ("keras_fine_tune.py",),
    "KerasHub ImageClassifier.fit": ("keras_hub_classifier.py",),
    "PyTorch tutorial loop": ("torch_fine_tune.py",),
    "fastai vision_learner.fine_tune": ("fastai_fine_tune.py",),
    "scikit-learn on frozen features": ("frozen_features.py",),
}
BESIDE = ("graft, gradual_unfreeze without random changes", "graft, fine_tune as it comes")
OF_TORCH = ("torch_fine_tune.py", "fastai_fine_tune.py")


@dataclass(frozen=True)
class Options:
    """Measure all ways."""

    data: Path
    """clothing_small, unpacked: train, validation and test folders."""
    weights: Path
    """MobileNetV2 1.0, ImageNet, as keras.applications loads it."""
    torch_python: str | None = None
    """A Python that has torch, torchvision, fastai and h5py; without it these peers are left
    out.
    """
    epochs: int = 10
    seeds: int = 3
    reach: float = 0.85
    """The validation accuracy whose time is told."""
    out: Path = HERE / "results" / "time_to_accuracy.csv"
    """The table."""


def main(options: Options) -> None:
    """Run what is missing and print the table."""
    found = read(options.out)
    others = {row["epochs"] for row in found} - {str(options.epochs)}
    if others or (found and f"seconds_to_{options.reach:g}" not in found[0]):
        told = f"of {', '.join(sorted(others))} epochs" if others else "of another accuracy"
        sys.exit(
            f"'{options.out}' holds times {told}: give the same --epochs and --reach, or another "
            "--out"
        )
    for seed in range(options.seeds):
        for way, (script, *more) in WAYS.items():
            if any((row["way"], row["seed"]) == (way, str(seed)) for row in found):
                continue
            python = options.torch_python if script in OF_TORCH else sys.executable
            if python is not None:
                found.append(measured(options, way, script, more, python, seed))
                write(options.out, found)
    show(found)


def measured(
    options: Options, way: str, script: str, more: list[str], python: str, seed: int
) -> dict:
    """The row of one run."""
    given = [str(options.data), str(options.weights), str(options.epochs), str(seed), *more]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        outcome = jobs.run(jobs.Job(way, (python, str(HERE / "peers" / script), *given), log))
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    row = {"way": way, "seed": seed, "epochs": options.epochs, "date": time.strftime("%Y-%m-%d")}
    row["machine"] = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}"
    )
    if outcome.code:
        print(f"{way}, seed {seed}: {outcome.cause}", *said[-5:], sep="\n  ", file=sys.stderr)
        return row | {"cause": outcome.cause}
    result = json.loads(next(line for line in reversed(said) if line.startswith('{"curve"')))
    points = [tuple(point) for point in result["curve"]]
    final = points[-1][1]
    row |= {
        f"seconds_to_{options.reach:g}": reached(points, options.reach),
        "seconds_to_95_percent": reached(points, 0.95 * final),
        "seconds": points[-1][0],
        "validation": final,
        "best_validation": rows.best_until(points, np.inf),
        "test": result["test"],
        "peak_memory_mb": outcome.peak_memory_bytes / 1e6,
        "version": result["version"],
        "curve": " ".join(f"{s:.1f}:{a:.4f}" for s, a in points),
        "cause": "",
    }
    print(
        f"{way}, seed {seed}: {row['seconds']:.0f} s, validation {final:.3f}, test "
        f"{result['test']:.3f}",
        flush=True,
    )
    return row


def reached(points, accuracy: float) -> float | None:
    """Seconds until an accuracy was reached first."""
    return next((seconds for seconds, value in points if value >= accuracy), None)


def read(path: Path) -> list[dict]:
    """The rows so far that did not fail."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if not row["cause"]]


def write(path: Path, found: list[dict]) -> None:
    """All rows."""
    columns = list(dict.fromkeys(key for row in found for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


def show(found: list[dict]) -> None:
    """A Markdown table: means and ranges over the seeds, and factors over two of our ways: the
    quickest one, and the one that, like most peers, changes photos at random.

    A factor is of one seed, whose ways ran one after the other: machines that are shared are not as
    quick in every hour. Who did not reach an accuracy in its epochs took longer than all of them;
    the table says how long they were.
    """
    found = [row for row in found if not row["cause"]]
    columns = [
        key
        for key in found[0]
        if key.startswith("seconds") or key in ("validation", "test", "peak_memory_mb")
    ]
    print("| way |", " | ".join(columns), "|\n|---|" + "---|" * len(columns))
    for way in WAYS:
        own = [row for row in found if row["way"] == way]
        print(
            f"| {way} |",
            " | ".join(_cell(own, column, found) if own else "not run" for column in columns),
            "|",
        )
    print("\nBoth factors are over ours of the same seed:", " and ".join(BESIDE))


def _cell(own: list[dict], column: str, found: list[dict]) -> str:
    values = _values(own, column)
    missed = int(np.isnan(values).sum())
    digits = 3 if missed < len(values) and np.nanmax(values) <= 1 else 0
    parts = [f"{missed} of {len(values)} not within their epochs"] if missed else []
    if missed < len(values):
        parts += [
            f"{np.nanmean(values):.{digits}f} ({np.nanmin(values):.{digits}f} to "
            f"{np.nanmax(values):.{digits}f})"
        ]
    if column.startswith("seconds"):
        at_least = np.where(np.isnan(values), _values(own, "seconds"), values)
        for way in BESIDE:
            ours = {row["seed"]: row for row in found if row["way"] == way}
            factors = at_least / _values([ours.get(row["seed"], {}) for row in own], column)
            parts += [
                f"{'more than ' if missed else ''}x{factors.min():.1f} to x{factors.max():.1f}"
            ]
    return "; ".join(parts)


def _values(rows: list[dict], column: str) -> np.ndarray:
    """A number for each of `rows`, nan where there is none."""
    return np.array(
        [float(row[column]) if row.get(column) not in (None, "") else np.nan for row in rows]
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
