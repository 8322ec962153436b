"""The peer: KerasHub's ImageClassifier and its `fit`, compiled as it compiles itself. Not code of
Graft.

    python benchmarks/peers/keras_hub_classifier.py CLOTHING WEIGHTS EPOCHS SEED

KerasHub has no preset of these weights, so the backbone is MobileNetV2 of keras.applications with
its scaling in front, which its task takes like one of its own. Prints {"curve": [[seconds,
validation accuracy]], "test"}.
"""

import json
import sys
import time

import keras
import keras_hub
from mobilenet_keras import SIZE, batches, body, classes, photos


def main(data: str, weights: str, epochs: str, seed: str) -> None:
    """Train and print."""
    keras.utils.set_random_seed(int(seed))
    start = time.perf_counter()
    splits = batches(photos(data))
    base = body(weights)
    inputs = keras.Input((*SIZE, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    backbone = keras.Model(inputs, base(scaled))
    classifier = keras_hub.models.ImageClassifier(
        backbone=backbone, num_classes=classes(data), preprocessor=None
    )
    curve = []

    def note(epoch, logs):
        figure = next(
            value
            for name, value in logs.items()
            if name.startswith("val_") and name.endswith("accuracy")
        )
        curve.append([time.perf_counter() - start, float(figure)])

    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=note)]
    classifier.fit(
        splits["train"],
        validation_data=splits["validation"],
        epochs=int(epochs),
        callbacks=callbacks,
        verbose=0,
    )
    figures = classifier.evaluate(splits["test"], verbose=0, return_dict=True)
    test = next(value for name, value in figures.items() if name.endswith("accuracy"))
    print(
        json.dumps(
            {"curve": curve, "test": float(test), "version": f"keras-hub {keras_hub.__version__}"}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
