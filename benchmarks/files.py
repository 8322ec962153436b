"""What every file of every family is worth: 13 families x {float32, float16, dynamic, int8} x
{TFLite, ONNX}.

    python benchmarks/files.py --runs RUNS --photos CLOTHING --weights FOLDER

Trains each family once (a run that exists is taken as it is): on the photos where FOLDER holds real
weights, else from random weights on the built-in digits, because quantization cannot be judged on
random weights. Then exports it, and writes results/files.csv: a row a file, with the attempts that
led to it.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import tyro

from graft.recipes.commands.export import Options, export
from graft.recipes.image_classification import Config, main
from graft.recipes.train.settings import FitSettings

PHOTOS = {
    "mobilenet_0.25": "mobilenet_v1_0.25_224/mobilenet_0.25_224.weights.h5",
    "mobilenet_v2": "mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.weights.h5",
    "mobilenet_v2_0.35": "mobilenet_v2_0.35_224_notop/mobilenet_v2_0.35_224_notop.weights.h5",
}
"""Backbone -> where its real weights lie in the folder of weights; fine-tuned on photos at 160
pixels.
"""

DIGITS = {
    "mobilenet_v3_small": 1e-3,
    "inception_v3": 1e-3,
    "xception": 1e-3,
    "resnet50_v2": 1e-3,
    "nasnet_mobile": 1e-3,
    "resnet50": 1e-3,
    "vgg16": 1e-4,
    "densenet121": 1e-3,
    "efficientnet_b0": 1e-3,
    "efficientnet_v2_b0": 1e-3,
    "convnext_tiny": 3e-4,
}
"""Backbone -> peak learning rate from random weights on the digits; without batch normalization it
must be lower.
"""


@dataclass(frozen=True)
class Settings:
    """Train and export every family."""

    runs: Path
    """Where the runs lie, or are made."""
    photos: Path
    """clothing_small, unpacked."""
    weights: Path
    """The folder of real weights."""
    out: Path = Path("benchmarks/results/files.csv")
    families: tuple[str, ...] = (*PHOTOS, *DIGITS)


def train(name: str, settings: Settings) -> Path:
    """The run of a family, trained if it is not there."""
    out = settings.runs / name
    if (out / "run.json").is_file():
        return out
    if name in PHOTOS:
        weights = str(settings.weights / PHOTOS[name])
        return main(
            Config(
                data=str(settings.photos), out=out, backbone=name, weights=weights, image_size=160
            )
        )
    from graft.zoo.backbones.table import find_backbone

    return main(
        Config(
            data="digits",
            out=out,
            backbone=name,
            weights="none",
            schedule="scratch",
            epochs=8,
            learning_rate=DIGITS[name],
            image_size=max(64, find_backbone(name).min_image_size),
            fit=FitSettings(augment=()),
        )
    )


def measured(name: str, run: Path) -> list[dict]:
    """Export the run with every precision; a row for each file that was asked for."""
    precisions = ("float16", "dynamic", "int8", "int8-full")
    content = export(
        Options(run=run, formats=("tflite", "onnx"), quantize=precisions, overwrite=True)
    )
    whole = {
        row["format"]: row["size_bytes"]
        for row in content["files"]
        if row["precision"] == "float32"
    }
    rows = []
    for row in content["files"]:
        accuracy, parity = row.get("accuracy", {}), row.get("parity", {})
        low, high = accuracy.get("drop_interval") or (None, None)
        rows.append(
            {
                "backbone": name,
                "trained_on": Path(content["training_data"]["source"]).name,
                "examples": content["measured_on"]["examples"],
                "format": row["format"],
                "requested": row["requested"],
                "became": "" if "skipped" in row else row["precision"],
                "passed": row["passed"],
                "size_bytes": row.get("size_bytes"),
                "size_ratio": f"{row['size_bytes'] / whole[row['format']]:.3f}"
                if "size_bytes" in row
                else None,
                "keras_accuracy": _rounded(accuracy.get("reference"), 4),
                "accuracy": _rounded(accuracy.get("value"), 4),
                "drop_points": _rounded(accuracy.get("drop_points"), 2),
                "drop_low": _rounded(low, 2),
                "drop_high": _rounded(high, 2),
                "agreement": _rounded(parity.get("agreement"), 4),
                "max_abs_diff": f"{parity['max_abs_diff']:.1e}" if parity else None,
                "latency_ms_one_thread": row.get("latency_ms", {})
                .get("one_thread", {})
                .get("median"),
                "peak_memory_mb": _rounded(row.get("peak_memory_bytes", 0) / 1e6, 1),
                "seconds": row.get("seconds"),
                "reason": row.get("skipped") or row.get("error") or row.get("reason"),
                "attempts": "; ".join(
                    f"{a['strategy']}: {-a['drop_points']:+.1f} points, "
                    f"{a['size_bytes'] / 1e6:.2f} MB"
                    for a in row.get("attempts", ())
                ),
            }
        )
    return rows


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def write(path: Path, rows: list[dict]) -> None:
    """The table as far as it goes, after each family."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    settings = tyro.cli(Settings)
    table: list[dict] = []
    for family in settings.families:
        table += measured(family, train(family, settings))
        write(settings.out, table)
