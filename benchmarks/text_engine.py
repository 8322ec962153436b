"""What the prefix cache makes of training a head on sentences: twenty epochs over one bare pass, in
one run.

    python benchmarks/text_engine.py build/tables/sst2.csv ENCODER

ENCODER is a name or a folder. Prints the seconds of one forward pass over training and validation
sentences (bucketed by length), of the whole `feature_extraction` of 20 epochs on an empty cache,
its own first pass and all, and their ratio.
"""

import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))

from graft.recipes.codecs.text_codec import TextCodec
from graft.recipes.data import sentences, splits
from graft.recipes.tasks.group import Tasks
from graft.recipes.tasks.labels import SingleLabelTask
from graft.recipes.train import fit, schedule
from graft.recipes.train.settings import FitSettings
from graft.zoo.backbones import encoder_table, encoders
from graft.zoo.files.store import Store
from graft.zoo.graph.stack import stack
from graft.zoo.heads import heads

__all__ = ["main"]


def main(table: str, name: str) -> None:
    """Print the figures."""
    row = encoders.find_encoder(name)
    source, _ = splits.complete(sentences.load(table, need=("label",)), 0)
    head = heads.single_label(source.labels)
    tasks = Tasks((SingleLabelTask(head),))
    codec = TextCodec(encoders.load_tokenizer(row), encoder_table.ENCODER_INPUTS, 128)
    encoded = {name: codec.encode(part, tasks) for name, part in source.splits.items()}
    used = {split: encoded[split] for split in ("train", "validation")}
    phases = schedule.TEXT_SCHEDULES["feature_extraction"]
    build = lambda: stack(encoders.build_encoder(row), [head])  # noqa: E731
    plan = fit.TrainPlan(build, tasks, phases, [0], FitSettings())

    def one_pass(model) -> float:
        start = time.perf_counter()
        for part in used.values():
            fit.predict(model, part)
        return time.perf_counter() - start

    model = build()
    fit.predict(model, encoded["test"])  # warms the processor's kernels up
    ratios = []
    for _ in range(3):
        before = one_pass(model)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            fit.train(plan, encoded, store=Store(Path(folder)))
            trained = time.perf_counter() - start
        after = one_pass(model)
        ratios.append(2 * trained / (before + after))
        print(
            f"one pass {before:.1f} and {after:.1f} s; {phases[0].epochs} epochs {trained:.1f} s; "
            f"ratio {ratios[-1]:.2f}"
        )
    print(f"median {sorted(ratios)[1]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
