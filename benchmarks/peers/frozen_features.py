"""The floor: one pass through the frozen backbone, then logistic regression by scikit-learn. Not
code of Graft.

    python benchmarks/peers/frozen_features.py CLOTHING WEIGHTS EPOCHS SEED

EPOCHS is not used. Prints {"curve": [[seconds, validation accuracy]], "test"}; the clock starts
before the folder is read.
"""

import json
import sys
import time

import keras
import numpy as np
import sklearn
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(data: str, weights: str, epochs: str, seed: str) -> None:
    """Train and print."""
    start = time.perf_counter()
    network = keras.applications.MobileNetV2(weights=weights)
    features = keras.Model(network.input, network.get_layer("out_relu").output).get_weights()
    base = keras.applications.MobileNetV2(
        input_shape=(160, 160, 3), include_top=False, weights=None, pooling="avg"
    )
    base.set_weights(features)
    forward = tf.function(
        lambda pixels: base(pixels / 127.5 - 1, training=False), reduce_retracing=True
    )

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        dataset = keras.utils.image_dataset_from_directory(
            f"{data}/{split}",
            image_size=(160, 160),
            batch_size=64,
            label_mode="int",
            shuffle=False,
            verbose=False,
        )
        parts = [
            (forward(pixels).numpy(), labels.numpy()) for pixels, labels in dataset.prefetch(2)
        ]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    model = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000, random_state=int(seed))
    )
    model.fit(*read("train"))
    reached = model.score(*read("validation"))
    curve = [[time.perf_counter() - start, reached]]
    print(
        json.dumps(
            {
                "curve": curve,
                "test": model.score(*read("test")),
                "version": f"sklearn {sklearn.__version__}",
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
