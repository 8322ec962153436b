"""What the prefix cache saves: ratios, both sides measured in one run, on real photos with real
weights.

    python benchmarks/engine.py --data CLOTHING --weights mobilenet_v2_1.0_224.weights.h5

CLOTHING is clothing_small, unpacked. Each figure runs in a process of its own and adds its rows to
`benchmarks/results/engine.csv`. Times of a shared machine mean little; ratios of one run mean more.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tables import add_row
from graft.recipes.codecs.images import ImageCodec, Images
from graft.recipes.data import sources, splits
from graft.recipes.tasks import verdicts
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.labels import SingleLabelTask
from graft.recipes.train import fit, schedule
from graft.recipes.train.settings import FitSettings
from graft.zoo.backbones import build as backbones
from graft.zoo.backbones import table as backbone_table
from graft.zoo.files.store import Store
from graft.zoo.graph.stack import backbone_of, stack
from graft.zoo.heads import heads

SIZE = 160
HERE = Path(__file__).parent
FIGURES = (
    "frozen",
    "guide",
    "partial",
    "gradual",
    "gradual_plain",
    "waiting",
    "memory",
    "second",
    "torch",
)


@dataclass(frozen=True)
class Options:
    """Measure the fit loop."""

    data: Path
    """clothing_small, unpacked: train, validation and test folders."""
    weights: Path
    """MobileNetV2 1.0, ImageNet, with its top."""
    figures: tuple[str, ...] = FIGURES
    """Which ones."""
    out: Path = HERE / "results" / "engine.csv"
    """The table to add rows to."""
    torch_python: str | None = None
    """A Python that has torch and transformers, for the figure `torch`; skipped without."""
    inside: bool = False
    """Measure here, instead of in a process for each figure; prints the rows as JSON."""


class Bench:
    """The data, the model and the engine, as a recipe puts them together."""

    def __init__(self, options: Options):
        self.options = options
        self.row = backbone_table.find_backbone("mobilenet_v2")
        self.source, _ = splits.complete(sources.load(str(options.data)), 0)
        self.head = heads.single_label(self.source.labels, dropout=0.2)
        self.tasks = Tasks((SingleLabelTask(self.head),))

    def decode(self, *names: str) -> dict[str, Images]:
        """The images of some splits."""
        codec = ImageCodec(SIZE)
        return {n: codec.encode(self.source.splits[n], self.tasks, n) for n in names}

    def build(self):
        """A fresh stacked model with the pretrained backbone."""
        backbone = backbones.build_backbone(
            self.row, image_size=SIZE, weights=str(self.options.weights)
        )
        return stack(backbone, [self.head])

    def train(self, phases, pixels, settings: FitSettings, seeds=(0,), store=None):
        """(model, results) of the engine."""
        plan = fit.TrainPlan(self.build, self.tasks, phases, seeds, settings)
        return fit.train(plan, pixels, store=store)


def frozen(bench: Bench) -> Iterator[dict]:
    """20 epochs of a head, all in, over decoding and one bare forward pass of training and
    validation photos.
    """
    import keras
    import tensorflow as tf

    ours, bare = [], []
    phases = schedule.resolve("feature_extraction", 20)
    for _ in range(3):
        keras.utils.clear_session(free_memory=True)
        backbone = backbone_of(bench.build())
        start = time.perf_counter()
        pixels = bench.decode("train", "validation")
        forward = tf.function(
            lambda x, backbone=backbone: tf.reduce_mean(backbone(x, training=False), (1, 2))
        )
        for split in pixels.values():
            for i in range(0, len(split), 64):
                forward(np.float32(split.pixels[i : i + 64]))
        bare.append(time.perf_counter() - start)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            pixels = bench.decode("train", "validation")
            _, (result,) = bench.train(phases, pixels, FitSettings(), store=Store(folder))
            ours.append(time.perf_counter() - start)
    yield {
        "figure": "20 frozen epochs over one bare pass (training and validation photos)",
        "ratio": np.median(np.array(ours) / bare),
        "numerator_s": np.median(ours),
        "denominator_s": np.median(bare),
        "target": "<= 1.25",
        "note": f"3 repetitions: {ratios(ours, bare)}; validation accuracy "
        f"{result.phases[0]['best_validation_accuracy']:.3f}",
    }


def guide(bench: Bench) -> Iterator[dict]:
    """The script of the Keras transfer-learning guide against the engine, 20 epochs of a head, five
    seeds of ours; how these do on the test photos, which are not part of what is timed.
    """
    weights = [str(bench.options.weights)]
    script = [
        sys.executable,
        str(HERE / "peers" / "keras_guide.py"),
        str(bench.options.data),
        *weights,
    ]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    times, accuracies, tested = [], [], []
    test = bench.decode("test")["test"]
    for seed in range(5):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            pixels = bench.decode("train", "validation")
            phases = schedule.resolve("feature_extraction", 20)
            model, (result,) = bench.train(phases, pixels, FitSettings(), (seed,), Store(folder))
            times.append(time.perf_counter() - start)
            accuracies.append(result.phases[0]["best_validation_accuracy"])
            (outputs,) = fit.predict(model, test)
            tested.append(verdicts.accuracy(outputs, test.targets[bench.head.name]))
    yield {
        "figure": "script of the Keras guide over the engine, 20 frozen epochs",
        "ratio": theirs["seconds"] / np.median(times),
        "numerator_s": theirs["seconds"],
        "denominator_s": np.median(times),
        "target": ">= 13",
        "note": f"validation accuracy: guide {theirs['validation_accuracy']:.3f} "
        "(last epoch, seed 0), "
        f"engine {np.mean(accuracies):.3f} ({min(accuracies):.3f} to {max(accuracies):.3f}, seeds "
        f"0 to 4); on the test photos {np.mean(tested):.3f} ({min(tested):.3f} to "
        f"{max(tested):.3f})",
    }


def partial(bench: Bench) -> Iterator[dict]:
    """Seconds an epoch of MobileNetV2's last four residual blocks (13 to 16), its last convolution
    and the head.

    Those are three of our blocks: 13 and 16 add nothing to a shortcut, so they belong to 14 and to
        the top.
    """
    pixels = bench.decode("train", "validation")
    phases = (schedule.Phase("3 blocks", 3, 3, 2e-4),)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("memory", "off"):
            settings = FitSettings(cache=cache)
            _, (result,) = bench.train(phases, pixels, settings, store=Store(folder))
            # The first epoch includes tracing.
            seconds[cache] = np.median([row["seconds"] for row in result.history[1:]])
    yield {
        "figure": "last 4 residual blocks and head, an epoch, uncached over cached",
        "ratio": seconds["off"] / seconds["memory"],
        "numerator_s": seconds["off"],
        "denominator_s": seconds["memory"],
        "target": ">= 3.2",
        "note": "median of the second and third epoch, validation included",
    }


def gradual(bench: Bench, augment: tuple[str, ...] = ("flip", "crop")) -> Iterator[dict]:
    """gradual_unfreeze from end to end, three seeds, with flips and crops."""
    pixels = bench.decode("train", "validation", "test")
    phases = schedule.resolve("gradual_unfreeze")
    seconds, accuracy = {}, {}
    for cache in ("auto", "off"):
        with tempfile.TemporaryDirectory() as folder:
            settings = FitSettings(cache=cache, augment=augment)
            start = time.perf_counter()
            model, results = bench.train(phases, pixels, settings, range(3), Store(folder))
            seconds[cache] = time.perf_counter() - start
            outputs = fit.predict(model, pixels["test"], [r.weights for r in results])
            accuracy[cache] = [
                verdicts.accuracy(output, pixels["test"].targets[bench.head.name])
                for output in outputs
            ]
    text = "; ".join(
        f"{c}: {np.mean(a):.3f} ({min(a):.3f} to {max(a):.3f})" for c, a in accuracy.items()
    )
    yield {
        "figure": "gradual_unfreeze, 3 seeds, uncached over cached",
        "ratio": seconds["off"] / seconds["auto"],
        "numerator_s": seconds["off"],
        "denominator_s": seconds["auto"],
        "target": ">= 2.5",
        "note": (
            f"{'flip and crop, 8 views' if augment else 'no random changes'}; test accuracy {text}"
        ),
    }


def gradual_plain(bench: Bench) -> Iterator[dict]:
    """The same without random changes."""
    return gradual(bench, ())


def waiting(bench: Bench) -> Iterator[dict]:
    """The share of time in which full fine-tuning waits for its input."""
    pixels = bench.decode("train", "validation")
    phases = (schedule.Phase("all", "all", 1, 3e-4, batch_norm="train"),)
    _, (result,) = bench.train(phases, pixels, FitSettings(augment=("flip", "crop")))
    yield {
        "figure": "share of time waiting for input, full fine-tuning with flip and crop",
        "ratio": result.phases[0]["input_wait_share"],
        "numerator_s": "",
        "denominator_s": result.phases[0]["seconds"],
        "target": "<= 0.05",
        "note": f"one epoch, {result.phases[0]['images_per_second']:.1f} photos/s",
    }


def memory(bench: Bench) -> Iterator[dict]:
    """Anonymous resident memory with a cache of 4 GB on the disk and a budget of 512 MB."""
    pixels = bench.decode("train", "validation")
    phases = (schedule.Phase("10 blocks", 10, 1, 2e-4),)
    peaks, size = {}, 0
    with tempfile.TemporaryDirectory(dir=bench.options.out.parent) as folder:
        for cache, views in (("off", 1), ("disk", 16)):
            settings = FitSettings(cache=cache, views=views, augment=("flip",), memory="512MB")
            with peak_memory() as peak:
                bench.train(phases, pixels, settings, store=Store(folder))
            peaks[cache] = peak[0]
        size = sum(f.stat().st_size for f in Path(folder).rglob("*.bin"))
    yield {
        "figure": "anonymous resident memory, MB: cached over uncached plus budget",
        "ratio": peaks["disk"] / (peaks["off"] + 512),
        "numerator_s": peaks["disk"],
        "denominator_s": peaks["off"] + 512,
        "target": f"cached <= {peaks['off'] + 512 + 300:.0f} MB",
        "note": f"columns are MB; cache of {size / 1e9:.1f} GB",
    }


def second(bench: Bench) -> Iterator[dict]:
    """Seconds from the end of the imports to the first step, in a second run with another head and
    seed.
    """
    with tempfile.TemporaryDirectory() as folder:
        common = [
            "--data",
            str(bench.options.data),
            "--weights",
            str(bench.options.weights),
            "--image-size",
            str(SIZE),
            "--schedule",
            "feature_extraction",
        ]
        script = [sys.executable, str(HERE / "first_step.py")]
        seconds = []
        for i, extra in enumerate(
            (
                ["--seed", "0"],
                ["--seed", "5", "--dropout", "0.4"],
                ["--seed", "6", "--dropout", "0"],
            )
        ):
            out = ["--out", f"{folder}/run{i}"]
            done = subprocess.run(
                [*script, *common, *extra, *out], capture_output=True, text=True, check=True
            )
            seconds.append(json.loads(done.stdout.splitlines()[-1])["seconds"])
    yield {
        "figure": (
            "second run, other head and seed: seconds from the end of imports to the head phase"
        ),
        "ratio": seconds[1],
        "numerator_s": seconds[1],
        "denominator_s": seconds[0],
        "target": "<= 5 s",
        "note": f"first run {seconds[0]:.1f} s, a third one {seconds[2]:.1f} s",
    }


def torch(bench: Bench) -> Iterator[dict]:
    """A plain PyTorch loop on the same photos at the same size: features recomputed each epoch, and
    cached by hand.
    """
    if bench.options.torch_python is None:
        return
    script = [
        bench.options.torch_python,
        str(HERE / "peers" / "torch_loop.py"),
        str(bench.options.data),
    ]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pixels = bench.decode("train", "validation")
        bench.train(
            schedule.resolve("feature_extraction", 20), pixels, FitSettings(), store=Store(folder)
        )
        ours = time.perf_counter() - start
    for name, seconds in theirs["seconds"].items():
        yield {
            "figure": f"PyTorch {theirs['version']}, {name}, over the engine, 20 frozen epochs",
            "ratio": seconds / ours,
            "numerator_s": seconds,
            "denominator_s": ours,
            "target": "",
            "note": theirs["note"],
        }


def ratios(above, below) -> str:
    """Each ratio, for the note of a row."""
    return ", ".join(f"{a / b:.2f}" for a, b in zip(above, below, strict=True))


@contextlib.contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list whose only value is, afterwards, the peak of RssAnon in MB (Linux)."""
    peak, stop = [0.0], threading.Event()

    def watch():
        while not stop.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            peak[0] = max(
                peak[0],
                *(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")),
            )

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def main(options: Options) -> None:
    """Measure all figures and add their rows to the table."""
    if options.inside:
        bench = Bench(options)
        for name in options.figures:
            for row in globals()[name](bench):
                print(json.dumps(row, default=float))
        return
    for name in options.figures:
        command = [
            sys.executable,
            __file__,
            "--inside",
            "--figures",
            name,
            "--data",
            str(options.data),
            "--weights",
            str(options.weights),
            "--out",
            str(options.out),
        ]
        if options.torch_python:
            command += ["--torch-python", options.torch_python]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{name}: failed", file=sys.stderr)
            continue
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for row in rows:
            row = add_row(options.out, row, python=True)
            print(row["figure"], row["ratio"], row["target"], row["note"], flush=True)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
