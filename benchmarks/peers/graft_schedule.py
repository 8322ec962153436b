"""Graft beside its peers: a schedule as the recipe runs it, with its augmentation or with none.

    python benchmarks/peers/graft_schedule.py CLOTHING WEIGHTS EPOCHS SEED SCHEDULE [plain]

Prints {"curve": [[seconds, validation accuracy]], "test"}; the clock starts before the folder is
read, the cache is empty.
"""

import json
import sys
import tempfile
import time

import keras  # noqa: F401  (peers' clocks start behind their imports too)

from graft.recipes.codecs.images import ImageCodec
from graft.recipes.data import sources
from graft.recipes.tasks import verdicts
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.labels import SingleLabelTask
from graft.recipes.train import fit, schedule
from graft.recipes.train.settings import FitSettings
from graft.zoo.backbones import build as backbones
from graft.zoo.backbones import table as backbone_table
from graft.zoo.files.store import Store
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads


def main(data: str, weights: str, epochs: str, seed: str, name: str, plain: str = "") -> None:
    """Train and print."""
    start = time.perf_counter()
    source = sources.load(data)
    head = heads.single_label(source.labels, dropout=0.2)
    tasks, codec = Tasks((SingleLabelTask(head),)), ImageCodec(160)
    pixels = {split: codec.encode(part, tasks, split) for split, part in source.splits.items()}
    settings = FitSettings(augment=() if plain else ("flip", "crop"))

    def build():
        return stack(
            backbones.build_backbone(
                backbone_table.find_backbone("mobilenet_v2"), image_size=160, weights=weights
            ),
            [head],
        )

    with tempfile.TemporaryDirectory() as folder:
        phases = schedule.resolve(name, int(epochs))
        plan = fit.TrainPlan(build, tasks, phases, [int(seed)], settings)
        model, (result,) = fit.train(plan, pixels, store=Store(folder))
        total = time.perf_counter() - start
    before = (
        total - result.seconds
    )  # planning, building and decoding, all of it before the first epoch
    curve = [[before + row["elapsed"], row["val_accuracy"]] for row in result.history]
    (outputs,) = fit.predict(model, pixels["test"])
    test = verdicts.accuracy(outputs, pixels["test"].targets[head.name])
    print(json.dumps({"curve": curve, "test": test, "version": "graft-zoo 0.1.0"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
