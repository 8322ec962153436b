"""Our .onnx in onnxruntime against LiteRT and against Keras's own ONNX export, one thread, in one
run.

    python benchmarks/onnx_speed.py [--backbones NAME...]

All three files of a backbone (random weights, 224 pixels, ten labels; what they compute does not
depend on the weights) take turns, so that other load on the machine meets all of them. Writes
results/onnx_speed.csv: medians, ratios, nodes.
"""

import csv
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from graft.zoo.quiet import load_tensorflow, python_silence

FAMILIES = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "mobilenet_0.25",
    "mobilenet_v2_0.35",
    "inception_v3",
    "xception",
    "resnet50_v2",
    "nasnet_mobile",
    "resnet50",
    "vgg16",
    "densenet121",
    "efficientnet_v2_b0",
    "convnext_tiny",
)
LABELS = [f"label {i}" for i in range(10)]
IMAGE_SIZE = 224
WARM_UP, ROUNDS, RUNS = 10, 9, 15


@dataclass(frozen=True)
class Settings:
    """Time the files of every family."""

    backbones: tuple[str, ...] = FAMILIES
    out: Path = Path("benchmarks/results/onnx_speed.csv")


def build(name: str):
    """The stacked model of a backbone, random weights."""
    import keras

    from graft.zoo.backbones.build import build_backbone
    from graft.zoo.backbones.table import find_backbone
    from graft.zoo.graph.stack import stack
    from graft.zoo.heads import heads

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    return stack(
        build_backbone(find_backbone(name), image_size=IMAGE_SIZE, weights="none"),
        [heads.single_label(LABELS)],
    )


def runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function that runs one picture on one thread."""
    if path.suffix == ".tflite":
        from graft.export.runtimes.tflite import open_tflite

        runtime = open_tflite(path)
        return lambda pixels: runtime.run({"image": pixels})["probabilities"]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})[0]


def medians(runners: dict[str, Callable], pixels: np.ndarray) -> dict[str, float]:
    """Milliseconds for each, taking turns."""
    seconds = {name: [] for name in runners}
    for run in runners.values():
        for _ in range(WARM_UP):
            run(pixels)
    for _ in range(ROUNDS):
        for name, run in runners.items():
            for _ in range(RUNS):
                start = time.perf_counter()
                run(pixels)
                seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


def row(name: str, folder: Path) -> dict:
    """One line of the table."""
    import onnx

    from graft.export.convert.onnx import convert_to_onnx
    from graft.export.convert.tflite import convert_to_tflite

    model = build(name)
    files = {
        "onnx": folder / "ours.onnx",
        "litert": folder / "ours.tflite",
        "keras_onnx": folder / "keras.onnx",
    }
    files["onnx"].write_bytes(convert_to_onnx(model))
    files["litert"].write_bytes(convert_to_tflite(model))
    pixels = (
        np.random.default_rng(0).uniform(0, 255, (1, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    )
    runners, failed = {key: runner(files[key]) for key in ("onnx", "litert")}, ""
    try:
        with python_silence():
            model.export(files["keras_onnx"], format="onnx", verbose=False)
        runners["keras_onnx"] = runner(files["keras_onnx"])
        runners["keras_onnx"](pixels)
    except Exception as error:  # whatever the converter or the runtime says
        runners.pop("keras_onnx", None)
        failed = f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"
    timed = medians(runners, pixels)
    nodes = [node.op_type for node in onnx.load(files["onnx"]).graph.node]
    return {
        "backbone": name,
        "ours_ms": round(timed["onnx"], 2),
        "litert_ms": round(timed["litert"], 2),
        "keras_onnx_ms": round(timed["keras_onnx"], 2) if "keras_onnx" in timed else "",
        "ours_over_litert": round(timed["onnx"] / timed["litert"], 3),
        "keras_onnx_over_ours": round(timed["keras_onnx"] / timed["onnx"], 3)
        if "keras_onnx" in timed
        else "",
        "nodes": len(nodes),
        "transposes": nodes.count("Transpose"),
        "keras_onnx_failed": failed,
    }


if __name__ == "__main__":
    settings = tyro.cli(Settings)
    load_tensorflow()
    rows = []
    for backbone in settings.backbones:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(row(backbone, Path(scratch)))
        print(rows[-1], flush=True)
        with settings.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
