"""What RandAugment costs a batch: Keras's layer, and ours, which draws for each image.

    python benchmarks/augmentation_cost.py [--size 96] [--batch-size 32] [--batches 20]

The two alternate batch by batch in one process, so that what else runs on the machine slows both.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))


@dataclass(frozen=True)
class Options:
    """Compare the time of a batch."""

    size: int = 96
    """Height and width in pixels."""
    batch_size: int = 32
    batches: int = 20
    """Of each layer, after the first two."""


def main(options: Options) -> None:
    """Print the median seconds of a batch of either layer, and their ratio."""
    import keras
    import tensorflow as tf

    from graft.recipes.codecs.rand_augment import RandAugment

    shape = (options.batch_size, options.size, options.size, 3)
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, shape), tf.float32)
    alone = tf.data.Options()
    # Or one computes ahead while the other is timed.
    alone.experimental_optimization.inject_prefetch = False
    iterators = {}
    for kind in (keras.layers.RandAugment, RandAugment):
        layer = kind((0, 255), num_ops=2, factor=0.4, seed=0)
        steps = tf.data.Dataset.range(options.batches + 2)
        batches = steps.map(lambda _, layer=layer: layer(images, training=True))
        iterators[kind.__module__.split(".")[0]] = iter(batches.with_options(alone))
    seconds = {name: [] for name in iterators}
    for _ in range(options.batches + 2):
        for name, iterator in iterators.items():
            start = time.perf_counter()
            next(iterator)
            seconds[name].append(time.perf_counter() - start)
    keras_own, ours = (float(np.median(values[2:])) for values in seconds.values())
    print(f"{options.batch_size} images of {options.size} px, milliseconds a batch:")
    print(f"Keras {1e3 * keras_own:.0f}, ours {1e3 * ours:.0f}, ratio {ours / keras_own:.2f}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
