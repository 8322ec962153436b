"""What the peers in Keras share: the photos, and MobileNetV2 of keras.applications at another size.
Not code of Graft.
"""

import os

import keras

SIZE = (160, 160)


def photos(data: str) -> dict:
    """The splits of a folder as Keras reads them, training photos in random order; single photos,
    decoded when asked for.
    """
    return {
        split: keras.utils.image_dataset_from_directory(
            f"{data}/{split}",
            image_size=SIZE,
            batch_size=None,
            label_mode="int",
            shuffle=split == "train",
            verbose=False,
        )
        for split in ("train", "validation", "test")
    }


def classes(data: str) -> int:
    """How many there are."""
    return len(next(os.walk(f"{data}/train"))[1])


def batches(splits: dict) -> dict:
    """Photos decoded once and kept in memory, for training shuffled anew in each epoch; batches of
    32, the next ones made while the present one is used.
    """
    kept = {split: dataset.cache() for split, dataset in splits.items()}
    kept["train"] = kept["train"].shuffle(len(kept["train"]), reshuffle_each_iteration=True)
    return {split: dataset.batch(32).prefetch(-1) for split, dataset in kept.items()}


def body(weights: str) -> keras.Model:
    """The convolutions, pixels in [-1, 1] -> `(b, 5, 5, 1280)`; `weights` is the file with its top,
    of 224 pixels.
    """
    network = keras.applications.MobileNetV2(weights=weights)
    features = keras.Model(network.input, network.get_layer("out_relu").output).get_weights()
    base = keras.applications.MobileNetV2(input_shape=(*SIZE, 3), include_top=False, weights=None)
    base.set_weights(features)
    return base
