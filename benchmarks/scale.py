r"""What many photos cost: decoding once, the second run, memory, answers; ratios, both sides in one
run.

    python benchmarks/scale.py --data CLOTHING --weights mobilenet_v2_0.35_..._notop.weights.h5

CLOTHING is clothing_small, unpacked. The other photos are made here: `photo` draws something like
what a camera writes (detail at all sizes, a little noise, 4:2:0 at quality 90). Each figure runs in
processes of its own and adds its rows to `benchmarks/results/scale.csv`. Times of a shared machine
mean little; ratios of one run mean more.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.tables import add_row

HERE = Path(__file__).parent
FIGURES = ("decode", "second", "order", "memory", "predict")
SIZE = 160
BASES = 64
"""Different photos of which the others are copies with a comment of their own: another content, as
long to decode.
"""
TINY_MEMORY = "2MB"
"""A quarter of what the features of the training photos of clothing_small take."""
REPEATS = 3
OCTAVES = 7
SMALL = (192, 144)
"""Of the photos that are trained on: all are different."""


@dataclass(frozen=True)
class Options:
    """Measure what many photos cost."""

    data: Path
    """clothing_small, unpacked: train, validation and test folders."""
    weights: Path
    """MobileNetV2 0.35 without its top."""
    figures: tuple[str, ...] = FIGURES
    """Which ones."""
    images: int = 3000
    """Photos of 1024 x 768 that are decoded, or asked about."""
    artifact: Path | None = None
    """The .tflite file that is asked, with a float32 input of 160 x 160. Default: the int8 file of
    a short training.
    """
    trained: tuple[int, int] = (20_000, 60_000)
    """Photos of two trainings whose memory is compared."""
    memory: str = "1GB"
    """What these may hold at once."""
    work: Path | None = None
    """Where photos and runs go. Default: a temporary folder."""
    out: Path = HERE / "results" / "scale.csv"
    """The table to add rows to."""


def photo(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Something like a photo, uint8 `(height, width, 3)`: half as much contrast at half the size of
    detail, and noise of a sensor.
    """
    from PIL import Image

    width, height = size
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(OCTAVES):
        cells = 2 ** (octave + 1)
        coarse = rng.integers(0, 256, (cells, cells, 3), np.uint8)
        drawn = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        total += (np.asarray(drawn, np.float32) - 127.5) * 0.6**octave
    total += rng.normal(0, 3, total.shape).astype(np.float32)
    return np.uint8(np.clip(total * 0.8 + 127.5, 0, 255))


def write_photos(folder: Path, count: int) -> None:
    """`count` JPEGs of 1024 x 768 in two classes, each with a comment of its own."""
    from PIL import Image

    rng, bases = np.random.default_rng(0), []
    for _ in range(BASES):
        path = folder / "base.jpg"
        Image.fromarray(photo(rng, (1024, 768))).save(path, quality=90)
        bases.append(path.read_bytes())
        path.unlink()
    for name in "ab":
        (folder / name).mkdir()
    for number in range(count):
        text = f"{number:08d}".encode()
        content = bases[number % BASES]
        comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
        (folder / "ab"[number % 2] / f"{number:06d}.jpg").write_bytes(
            content[:2] + comment + content[2:]
        )


def write_small(folder: Path, count: int) -> None:
    """`count` different small JPEGs in ten classes; the class shows in the colour."""
    from PIL import Image

    for name in range(10):
        (folder / str(name)).mkdir(parents=True)

    def one(number: int) -> None:
        pixels = photo(np.random.default_rng(number), SMALL)
        label = number % 10
        pixels[: 20 + 10 * label, :, label % 3] = 20 * label
        Image.fromarray(pixels).save(folder / str(label) / f"{number:06d}.jpg", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(count)))


def decode(options: Options, work: Path) -> Iterator[dict]:
    """Decoding once into the store, over Pillow's own draft and resize in as many threads; and
    finding it all again.
    """
    from graft.recipes.codecs.decoded import DecodedImages
    from graft.recipes.data import sources
    from graft.recipes.data.folders.known_files import KnownFiles
    from graft.zoo.files.store import Store

    folder = work / "photos"
    folder.mkdir()
    write_photos(folder, options.images)

    def ours(place: Path) -> float:
        source = sources.load(str(folder))
        start = time.perf_counter()
        images = DecodedImages(Store(place), SIZE, KnownFiles(place))
        images.find([r for part in source.splits.values() for r in part], "decode")
        return time.perf_counter() - start

    files = sorted(folder.rglob("*.jpg"))
    times = [(ours(work / f"store{i}"), _timed(lambda: _bare(files))) for i in range(REPEATS)]
    again = ours(work / "store0")
    mine, bare = (statistics.median(side) for side in zip(*times, strict=True))
    size = sum(file.stat().st_size for file in files) / len(files)
    yield {
        "figure": f"decode {len(files):,} JPEGs of 1024 x 768 at {SIZE} px, over Pillow's loop",
        "ratio": mine / bare,
        "numerator_s": mine,
        "denominator_s": bare,
        "target": "<= 1.15",
        "note": f"median of {REPEATS}; {size / 1000:.0f} kB a file; found again in {again:.2f} s",
    }


def _timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _bare(files: list[Path]) -> None:
    from PIL import Image

    def one(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            image.draft("RGB", (2 * SIZE, 2 * SIZE))
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            return np.asarray(small)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(one, files):
            pass


def second(options: Options, work: Path) -> Iterator[dict]:
    """Seconds from the end of the imports to the first step, in a second run with another head and
    seed, without random changes.
    """
    script = [sys.executable, str(HERE / "first_step.py"), "--data", str(options.data)]
    script += ["--backbone", "mobilenet_v2_0.35", "--weights", str(options.weights)]
    script += ["--image-size", str(SIZE), "--schedule", "feature_extraction", "--augment"]
    seconds = []
    for i in range(1 + REPEATS):
        more = ["--out", str(work / f"run{i}"), "--seed", str(i), "--dropout", str(i / 10)]
        done = subprocess.run([*script, *more], capture_output=True, text=True, check=True)
        seconds.append(json.loads(done.stdout.splitlines()[-1])["seconds"])
    later = ", ".join(f"{s:.1f}" for s in seconds[1:])
    yield {
        "figure": "second run, other head and seed: seconds from imports to the first epoch",
        "ratio": statistics.median(seconds[1:]),
        "numerator_s": statistics.median(seconds[1:]),
        "denominator_s": seconds[0],
        "target": "<= 2 s (3,068 photos)",
        "note": f"first run {seconds[0]:.1f} s; later ones {later} s",
    }


def order(options: Options, work: Path) -> Iterator[dict]:
    """Test accuracy where features are too many for memory and are shuffled within a window, over
    that of a full shuffle.
    """
    accuracy = {}
    for most in (TINY_MEMORY, options.memory):
        out = work / f"order-{most}"
        command = [sys.executable, "-m", "graft", "train", "image-classification"]
        command += ["--data", str(options.data), "--out", str(out), "--schedule"]
        command += ["feature_extraction", "--augment", "--epochs", "10", "--seeds", "3"]
        command += ["--backbone", "mobilenet_v2_0.35", "--weights", str(options.weights)]
        command += ["--image-size", "96", "--memory", most]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        run = json.loads((out / "run.json").read_text())
        accuracy[most] = run["test_accuracy_by_seed"]
    few, all_ = (statistics.mean(values) for values in accuracy.values())
    ranges = "; ".join(
        f"--memory {most}: {min(values):.3f} to {max(values):.3f}"
        for most, values in accuracy.items()
    )
    yield {
        "figure": "test accuracy, shuffled within a window over a full shuffle, 10 frozen epochs",
        "ratio": few / all_,
        "numerator_s": few,
        "denominator_s": all_,
        "target": "the same over 3 seeds",
        "note": f"columns are accuracies of 372 photos, seeds 0 to 2; {ranges}",
    }


def memory(options: Options, work: Path) -> Iterator[dict]:
    """Peak anonymous memory of the training of a head, uncached and cached, on few and on many
    photos.
    """
    peaks: dict[str, list[float]] = {"off": [], "auto": []}
    for count in options.trained:
        folder = work / f"small{count}"
        write_small(folder, count)
        for cache, found in peaks.items():
            out = work / f"run-{count}-{cache}"
            command = [sys.executable, "-m", "graft", "train", "image-classification"]
            command += ["--data", str(folder), "--out", str(out), "--schedule"]
            command += ["feature_extraction", "--augment", "--epochs", "1"]
            command += ["--backbone", "mobilenet_v2_0.35", "--weights", str(options.weights)]
            command += ["--image-size", str(SIZE), "--cache", cache, "--memory", options.memory]
            found.append(_peak(command))
    for cache, (few, many) in peaks.items():
        yield {
            "figure": f"anonymous memory of head training, cache {cache}, MB: many over few photos",
            "ratio": many / few,
            "numerator_s": many,
            "denominator_s": few,
            "target": "<= 1900 MB, equal within 10 %",
            "note": f"columns are MB; {options.trained} photos, --memory {options.memory}",
        }


def predict(options: Options, work: Path) -> Iterator[dict]:
    """`graft predict FILE FOLDER` over a loop that does nothing but decode and ask, each a process
    of its own from its start to its end.
    """
    folder = work / "asked"
    folder.mkdir()
    write_photos(folder, options.images)
    file = options.artifact or _int8_file(options, work)
    ours = [sys.executable, "-m", "graft", "predict", str(file), str(folder)]
    bare = [sys.executable, str(HERE / "bare_predict.py"), str(file), str(folder), str(SIZE)]
    costs = [(_cost(ours, work, options), _cost(bare, work, options)) for _ in range(REPEATS)]
    (mine, busy), (loop, busy_loop) = (np.median(side, 0) for side in zip(*costs, strict=True))
    yield {
        "figure": f"graft predict on {options.images:,} JPEGs of 1024 x 768, over a bare loop",
        "ratio": float(mine / loop),
        "numerator_s": float(mine),
        "denominator_s": float(loop),
        "target": "<= 1.2",
        "note": (
            f"median of {REPEATS}; {file.name}; seconds of processors {busy:.1f} and "
            f"{busy_loop:.1f}, ratio {busy / busy_loop:.2f}"
        ),
    }


def _int8_file(options: Options, work: Path) -> Path:
    """The int8 .tflite file of a short training on the given photos."""
    run, out = work / "asked-run", work / "asked-export"
    train = ["train", "image-classification", "--data", str(options.data), "--out", str(run)]
    train += ["--backbone", "mobilenet_v2_0.35", "--weights", str(options.weights), "--epochs", "1"]
    train += ["--image-size", str(SIZE), "--schedule", "feature_extraction", "--augment"]
    export = ["export", str(run), "--formats", "tflite", "--quantize", "int8", "--out", str(out)]
    for command in (train, export):
        # Export ends with 1 where the photos do not suffice to judge a file, which it keeps.
        subprocess.run([sys.executable, "-m", "graft", *command], stdout=subprocess.DEVNULL)
    files = sorted(out.glob("model.int8*.tflite"))
    if not files:
        raise SystemExit("no int8 file was made: give one as --artifact")
    return files[0]


def _cost(command: list[str], work: Path, options: Options) -> tuple[float, float]:
    """Seconds by the clock and by the processors of a process that answers all photos."""
    answers, before, start = work / "answers.tsv", os.times(), time.perf_counter()
    with answers.open("w") as file:
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - start, os.times()
    if len(answers.read_text().splitlines()) != options.images:
        raise SystemExit(f"{' '.join(command)} did not answer all {options.images} photos")
    busy = after.children_user + after.children_system
    return seconds, busy - before.children_user - before.children_system


def _peak(command: list[str]) -> float:
    """The most anonymous memory that a process held, in MB."""
    process, most = subprocess.Popen(command, stderr=subprocess.DEVNULL), 0

    def watch() -> None:
        nonlocal most
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines() if status.exists() else ():
                if line.startswith("RssAnon"):
                    most = max(most, int(line.split()[1]))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    watcher.join()
    return most / 1000


def main(options: Options) -> None:
    """Measure the figures and add their rows to the table."""
    for name in options.figures:
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            for row in globals()[name](options, Path(work)):
                print(json.dumps(add_row(options.out, row)))


if __name__ == "__main__":
    main(tyro.cli(Options))
