"""Two tasks on the same pictures: the digit and the speaker of a recording, from its spectrogram.

    GRAFT_DATA=... python benchmarks/spoken_digits.py --work build/spoken

Recordings of the Free Spoken Digit Dataset (3,000, six speakers) become pictures of 64 mel bands by
64 moments; the official test part is recordings 0 to 4 of each digit and speaker, 5 to 9 are
validation, the others training. Trained by `graft train multitask --compare-single` with each of
the three weightings; the table goes to `benchmarks/results/spoken_digits.csv`.
"""

import csv
import io
import os
import platform
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from graft.recipes.report.run_file import read_run

RESULTS = Path(__file__).parent / "results" / "spoken_digits.csv"
RATE, SIDE, SECONDS = 8000, 64, 1.0
TASKS = ("digit", "speaker")


@dataclass(frozen=True)
class Options:
    """Measure all weightings."""

    work: Path
    """Where pictures and runs go."""
    backbone: str = "mobilenet_v2_0.35"
    weights: str = "bundled"
    epochs: int = 6
    seeds: int = 3
    out: Path = RESULTS
    """The table."""


def main(options: Options) -> None:
    """Measure what is missing and print the table."""
    from graft.recipes import multitask
    from graft.recipes.train.settings import FitSettings

    table = pictures(options.work)
    rows = []
    for weighting in ("fixed", "uncertainty", "gradnorm"):
        out = multitask.main(
            multitask.Config(
                data=str(table),
                tasks=TASKS,
                out=options.work / weighting,
                weighting=weighting,
                epochs=options.epochs,
                compare_single=weighting == "fixed",
                backbone=options.backbone,
                weights=options.weights,
                image_size=SIDE,
                schedule="probe_then_tune",
                learning_rate=1e-3,
                seeds=options.seeds,
                fit=FitSettings(augment=()),
                resume=True,
            )
        )
        rows += measured(read_run(out), weighting)
    write(options.out, rows)
    print("| trained | digit | speaker |\n|---|---|---|")
    for name in dict.fromkeys(row["trained"] for row in rows):
        cells = []
        for task in TASKS:
            values = [
                row["accuracy"] for row in rows if (row["trained"], row["task"]) == (name, task)
            ]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        print(f"| {name} | {' | '.join(cells)} |")


def measured(facts: dict, weighting: str) -> list[dict]:
    """A row for each task and seed, of the model for both and of the ones by themselves."""
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}"
    )
    common = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine,
        "keras": facts["versions"]["keras"],
    }
    rows = [
        {
            "trained": f"together, {weighting}",
            "task": task,
            "seed": seed,
            "accuracy": by_seed["tasks"][task]["accuracy"],
            **common,
        }
        for seed, by_seed in enumerate(facts["test_by_seed"])
        for task in TASKS
    ]
    for shared in facts["sharing"]:
        rows += [
            {"trained": "alone", "task": shared["task"], "seed": seed, "accuracy": value, **common}
            for seed, value in enumerate(shared["alone"])
        ]
    return rows


def pictures(work: Path) -> Path:
    """The table of all recordings; their spectrograms beside it."""
    import keras
    from PIL import Image
    from scipy.io import wavfile

    table = work / "spoken.csv"
    if table.exists():
        return table
    root = os.environ.get("GRAFT_DATA")
    if root is None:
        sys.exit(
            "GRAFT_DATA must name the folder that holds fsdd/fsdd_recordings.tar.xz: see "
            "CONTRIBUTING.md"
        )
    (work / "pictures").mkdir(parents=True, exist_ok=True)
    hop = int(RATE * SECONDS) // SIDE
    mel = keras.layers.MelSpectrogram(
        fft_length=512,
        sequence_stride=hop,
        sampling_rate=RATE,
        num_mel_bins=SIDE,
        min_freq=50.0,
        max_freq=RATE / 2,
    )
    lines = [("path", *TASKS, "split")]
    with tarfile.open(Path(root, "fsdd", "fsdd_recordings.tar.xz")) as archive:
        for member in archive:
            if not member.name.endswith(".wav"):
                continue
            digit, speaker, number = Path(member.name).stem.split("_")
            _, samples = wavfile.read(io.BytesIO(archive.extractfile(member).read()))
            wave = np.zeros(int(RATE * SECONDS), np.float32)
            samples = np.float32(samples[: len(wave)]) / 32768
            wave[: len(samples)] = samples / max(1e-6, np.abs(samples).max())
            decibels = np.asarray(mel(wave[None]))[0][:, :SIDE]
            grey = np.uint8(
                255 * (np.clip(decibels, decibels.max() - 80, None) - decibels.max() + 80) / 80
            )
            name = f"pictures/{Path(member.name).stem}.png"
            Image.fromarray(grey[::-1]).save(work / name)
            split = "test" if int(number) < 5 else "validation" if int(number) < 10 else "train"
            lines.append((name, digit, speaker, split))
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return table


def write(path: Path, rows: list[dict]) -> None:
    """All rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
