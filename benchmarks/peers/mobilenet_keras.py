"""What the peers in Keras share: the photos, and MobileNetV2 of keras.applications at another size. Not code of Graft."""

import keras

SIZE = (160, 160)


def photos(data: str) -> dict:
    """The splits of a folder as Keras reads them, batches of 32; training photos shuffled."""
    return {
        split: keras.utils.image_dataset_from_directory(
            f"{data}/{split}", image_size=SIZE, batch_size=32, label_mode="int", shuffle=split == "train", verbose=False
        )
        for split in ("train", "validation", "test")
    }


def body(weights: str) -> keras.Model:
    """The convolutions, pixels in [-1, 1] -> `(b, 5, 5, 1280)`; `weights` is the file with its top, of 224 pixels."""
    network = keras.applications.MobileNetV2(weights=weights)
    features = keras.Model(network.input, network.get_layer("out_relu").output).get_weights()
    base = keras.applications.MobileNetV2(input_shape=(*SIZE, 3), include_top=False, weights=None)
    base.set_weights(features)
    return base
