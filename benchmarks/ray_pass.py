"""The pass through frozen blocks on a Ray cluster of two nodes, one core each, against one process
on one core, in one run; and what one core decodes.

    python benchmarks/ray_pass.py [--images N] [--repeats N]

The images are JPEG files of smooth noise, which take about as long to decode as photos do; the
backbone has random weights. Each part is a process of its own, pinned to its cores, with one thread
an operation; they take turns, so that other load on the machine meets all of them. Writes
results/ray_pass.csv.
"""

import contextlib
import csv
import datetime
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

SIDES = (640, 480)
"""Of a JPEG file, in pixels."""
FILES = 256
"""Different files: the decoder sees each of them once, the pass each as often as it needs."""
VARIABLES = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Settings:
    """Time the pass here and on two nodes."""

    images: int = 2048
    repeats: int = 3
    backbone: str = "mobilenet_v2"
    image_size: int = 160
    out: Path = Path("benchmarks/results/ray_pass.csv")
    part: str = ""
    """decode, one or two: run this part in the folder `work` and print JSON; empty: all of them."""
    work: Path = Path()


def make_files(folder: Path) -> None:
    """Write the JPEG files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(FILES):
        coarse = rng.integers(0, 256, (SIDES[1] // 8, SIDES[0] // 8, 3), np.uint8)
        smooth = Image.fromarray(coarse).resize(SIDES, Image.Resampling.BICUBIC)
        smooth.save(folder / f"{number:04d}.jpg", quality=90)


def decode(settings: Settings) -> dict:
    """Images a second of one core, of which each is decoded and resized."""
    from graft.zoo.vision import decode_image

    files = sorted(settings.work.glob("*.jpg"))
    decode_image(files[0], settings.image_size)
    start = time.perf_counter()
    for file in files:
        decode_image(file, settings.image_size)
    return {"images_s": len(files) / (time.perf_counter() - start)}


def run_pass(settings: Settings) -> dict:
    """Images a second of the pass over pixels that are decoded already.

    `seconds` is all of it, with the start of the nodes' processes. `images_s` counts from the first
    answer (of one process: after a pass over another split has traced the graph), and
    `images_processor_s` the seconds that processors worked on it, which other load on the machine
    hardly changes.
    """
    from graft.recipes.codecs.decoded import DecodedImages
    from graft.recipes.codecs.images import Images
    from graft.recipes.data.folders.known_files import KnownFiles
    from graft.recipes.data.records import Example
    from graft.recipes.feed.cache import CacheSettings, PrefixCache
    from graft.zoo.backbones.build import build_backbone
    from graft.zoo.backbones.table import find_backbone
    from graft.zoo.files.store import Store
    from graft.zoo.graph.blocks import find_blocks
    from graft.zoo.graph.cuts import narrowest_cut
    from graft.zoo.graph.stack import backbone_of, stack
    from graft.zoo.heads import heads
    from graft.zoo.quiet import load_tensorflow

    load_tensorflow()
    import keras

    store = Store(settings.work / "store")
    decoded = DecodedImages(store, settings.image_size, KnownFiles(store.folder, trusted=True))
    files = sorted(settings.work.glob("*.jpg"))
    found = decoded.find([Example(file, "", file.name) for file in files], "decode")
    pixels = found.pixels.take(np.arange(settings.images) % len(files))
    warm = Images(pixels.take(np.arange(64)), {}, tuple(map(str, range(64))))
    images = Images(pixels, {}, tuple(map(str, range(settings.images))))

    keras.utils.set_random_seed(0)
    backbone = build_backbone(
        find_backbone(settings.backbone), image_size=settings.image_size, weights="none"
    )
    model = stack(backbone, [heads.single_label(["a", "b"])])
    cut = narrowest_cut(model, find_blocks(backbone_of(model))[-1].cut)
    with _cluster(settings) as (address, answers):
        caching = CacheSettings(ray=address)
        if address is None:
            PrefixCache(store, model, {"validation": warm}, (), caching).fill([cut])
        cache = PrefixCache(store, model, {"train": images}, (), caching)
        start, busy = time.perf_counter(), time.process_time()
        cache.fill([cut])
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    folder, _ = cache.entry(cut, "train", 0)
    digest = hashlib.sha256((folder / "0.bin").read_bytes()).hexdigest()
    shutil.rmtree(folder)  # the next part computes it again
    rate = settings.images / seconds
    if address is not None:
        (first, _, before), *_, (last, _, _) = answers
        rate = (settings.images - before) / (last - first)
        busy = sum(own for _, own, _ in answers)
    return {
        "images_s": rate,
        "images_processor_s": settings.images / busy,
        "seconds": seconds,
        "digest": digest,
    }


@contextlib.contextmanager
def _cluster(settings: Settings) -> Iterator[tuple[str | None, list]]:
    """A cluster of two nodes where the part needs one; and of each answer when it came, the
    processor's seconds, and how many images it was about.
    """
    if settings.part == "one":
        yield None, []
        return
    from ray.cluster_utils import Cluster

    from graft.recipes.feed import cluster
    from graft.zoo.files.store import PARTS

    compute, answers = cluster.Cluster.compute, []

    def watched(self, *given):
        for stretch, answer in compute(self, *given):
            (entry,) = settings.work.glob(f"store/{PARTS}*/{stretch.name}/entry.json")
            busy = json.loads(entry.read_text(encoding="utf-8"))["facts"]["processor_seconds"]
            answers.append((time.perf_counter(), busy, len(stretch)))
            yield stretch, answer

    cluster.Cluster.compute = watched
    head = {"num_cpus": 1, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes.add_node(num_cpus=1)
        yield nodes.address, answers
    finally:
        nodes.shutdown()


def run_part(settings: Settings, part: str, cores: set[int], folder: Path) -> dict:
    """What a part prints, in a process of its own that has these cores and one thread."""
    command = [sys.executable, __file__, "--part", part, "--work", str(folder)]
    for name in ("images", "backbone", "image_size"):
        command += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **dict.fromkeys(VARIABLES, "1")},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return json.loads(ended.stdout.splitlines()[-1])


def measured(settings: Settings, folder: Path) -> list[dict]:
    """Every repetition of every part."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    run_part(settings, "decode", {first}, folder)  # warms the disk cache
    rows = []
    for repeat in range(settings.repeats):
        own = (first, second)[repeat % 2]  # other load may sit on one of them
        parts = {"decode": {own}, "one": {own}, "two": {first, second}}
        for part, cores in parts.items():
            rows.append({"part": part, "repeat": repeat, **run_part(settings, part, cores, folder)})
            print(rows[-1], file=sys.stderr, flush=True)
    digests = {row["digest"] for row in rows if "digest" in row}
    if len(digests) > 1:
        raise SystemExit("the nodes and one process wrote different bytes")
    return rows


def main() -> None:
    """Measure, and write the table."""
    settings = tyro.cli(Settings)
    if settings.part:
        found = decode(settings) if settings.part == "decode" else run_pass(settings)
        print(json.dumps(found))
        return
    from graft.recipes.runs.run_facts import environment

    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name))
        rows = measured(settings, Path(name))
    facts = environment()
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end"

    def middle(part: str, figure: str) -> float:
        return statistics.median(row[figure] for row in rows if row["part"] == part)

    figures = {
        "decoded images a second, one core": middle("decode", "images_s"),
        "images a second of the pass, one process on one core": middle("one", "images_s"),
        "images a second of the pass, two nodes of one core": middle("two", "images_s"),
        "two nodes over one process": middle("two", "images_s") / middle("one", "images_s"),
        "images a second of a processor, one process": middle("one", "images_processor_s"),
        "images a second of a processor, two nodes": middle("two", "images_processor_s"),
        "seconds until the nodes gave all, start included": middle("two", "seconds"),
    }
    more = {
        "images": settings.images,
        "repeats": settings.repeats,
        "backbone": f"{settings.backbone} at {settings.image_size}",
        "note": f"bytes are the same; {load}",
        "date": datetime.date.today().isoformat(),
        "machine": facts["machine"],
        "versions": ", ".join(
            f"{package} {facts['versions'][package]}" for package in ("tensorflow", "keras")
        ),
    }
    settings.out.parent.mkdir(parents=True, exist_ok=True)
    with settings.out.open("w", newline="", encoding="utf-8") as file:
        table = [{"figure": key, "value": f"{v:.4g}", **more} for key, v in figures.items()]
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    print(settings.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
