"""The peer: Keras's guide to transfer learning, all of it: a head on a frozen backbone, then
everything at 1e-5. Not code of Graft.

    python benchmarks/peers/keras_fine_tune.py CLOTHING WEIGHTS EPOCHS SEED

The guide's augmentation, rates and order, its batches of 64, made once and kept as there; its two
stages get 2 of 3 and 1 of 3 epochs. Prints {"curve": [[seconds, validation accuracy]], "test"}; the
clock starts before the folder is read.
"""

import json
import sys
import time

import keras
from mobilenet_keras import SIZE, body, classes, photos


def main(data: str, weights: str, epochs: str, seed: str) -> None:
    """Train and print."""
    keras.utils.set_random_seed(int(seed))
    start = time.perf_counter()
    splits = photos(data)
    augment = keras.Sequential(
        [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]
    )
    splits["train"] = splits["train"].map(lambda x, y: (augment(x, training=True), y))
    splits = {name: dataset.batch(64).prefetch(-1).cache() for name, dataset in splits.items()}
    base = body(weights)
    base.trainable = False
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    model = keras.Model(inputs, keras.layers.Dense(classes(data))(keras.layers.Dropout(0.2)(x)))
    curve = []

    def note(epoch, logs):
        curve.append([time.perf_counter() - start, float(logs["val_accuracy"])])

    tuned = max(1, int(epochs) // 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for rate, count in ((1e-3, int(epochs) - tuned), (1e-5, tuned)):
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=note)]
        model.fit(
            splits["train"],
            validation_data=splits["validation"],
            epochs=count,
            callbacks=callbacks,
            verbose=0,
        )
        base.trainable = True
    test = model.evaluate(splits["test"], verbose=0, return_dict=True)["accuracy"]
    print(json.dumps({"curve": curve, "test": test, "version": f"keras {keras.__version__}"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
