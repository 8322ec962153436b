"""The peer: a frozen backbone in `fit`, as Keras's guide to transfer learning does it. Not code of
Graft.

    python benchmarks/peers/keras_guide.py CLOTHING WEIGHTS

20 epochs of a head at 160 px, batches of 32, no augmentation. Prints {"seconds",
"validation_accuracy"}; the seconds are those from reading the folder to the end of `fit`.
"""

import json
import sys
import time

import keras
from mobilenet_keras import SIZE, batches, body, classes, photos


def main(data: str, weights: str) -> None:
    """Train and print."""
    keras.utils.set_random_seed(0)
    start = time.perf_counter()
    splits = batches(photos(data))
    base = body(weights)
    base.trainable = False
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(base(x, training=False))
    outputs = keras.layers.Dense(classes(data))(keras.layers.Dropout(0.2)(x))
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(splits["train"], validation_data=splits["validation"], epochs=20, verbose=0)
    seconds = time.perf_counter() - start
    print(
        json.dumps({"seconds": seconds, "validation_accuracy": history.history["val_accuracy"][-1]})
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
