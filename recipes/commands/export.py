"""`graft export RUN`: SavedModel, TFLite and ONNX, each reopened from disk and compared with Keras."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tyro.conf import Positional

__all__ = ["Options", "command", "export"]

Format = Literal["savedmodel", "tflite", "onnx"]


@dataclass(frozen=True)
class Options:
    """Write a run as files that other runtimes open, and verify each of them on the run's validation pictures."""

    run: Positional[Path]
    """The run directory."""
    formats: tuple[Format, ...] = ("savedmodel", "tflite", "onnx")
    out: Path | None = None
    """The folder to make. Default: RUN/export."""
    overwrite: bool = False
    """Replace the folder if it exists."""
    json: bool = False
    """Print the manifest as JSON."""


def command(arguments: Sequence[str]) -> int:
    """Export, print a line a file; 1 if a file could not be written or did not pass its check."""
    import tyro

    options = tyro.cli(Options, args=arguments, prog="graft export")
    manifest = export(options)
    if options.json:
        print(json.dumps(manifest, indent=2, ensure_ascii=False))
    return 0 if all(row["passed"] for row in manifest["files"]) else 1


def export(options: Options) -> dict:
    """Write the files and a fresh report; returns the manifest. A line a file goes to stdout (stderr with `json`)."""
    from export.export import export_model
    from export.sessions import load_keras
    from recipes.engine import report, run

    content = run.read(options.run)
    model = load_keras(options.run / "model.keras")
    with np.load(options.run / "examples.npz") as examples:
        pictures = examples["parity_images"]
    folder = options.out or options.run / "export"
    stream = sys.stderr if options.json else sys.stdout
    manifest = export_model(
        model,
        folder,
        labels=content["data"]["labels"],
        kind="single_label",
        preprocessing=content["data"]["decode"] | {"image_size": content["data"]["image_size"]},
        examples=pictures,
        formats=options.formats,
        overwrite=options.overwrite,
        training_data={key: content["data"][key] for key in ("source", "fingerprint", "made_splits", "split_seed")},
        report=lambda row: print(_line(row), file=stream, flush=True),
    )
    if folder == options.run / "export":
        report.write(options.run)
    return manifest


def _line(row: Mapping) -> str:
    if "error" in row:
        return f"{row['format']:<11} FAIL  {row['error']}"
    parity = row["parity"]
    return (
        f"{row['format']:<11} {'pass' if row['passed'] else 'FAIL'}  {row['size_bytes'] / 1e6:7.2f} MB  "
        f"{row['seconds']:5.1f} s  max difference {parity['max_abs_diff']:.1e}  "
        f"top-1 agreement {100 * parity['agreement']:.1f} % of {parity['examples']}  {row['path']}"
    )
