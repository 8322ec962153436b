"""The peer: fastai's vision_learner(...).fine_tune. Not code of Graft.

    python benchmarks/peers/fastai_fine_tune.py CLOTHING WEIGHTS EPOCHS SEED

Its own rates, freezing, augmentation (aug_transforms), batch size and processes that decode. Prints
{"curve": [[seconds, validation accuracy]], "test"}; the clock starts before the folder is read.
"""

import json
import sys
import time

import fastai
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    set_seed,
    vision_learner,
)
from mobilenet_torch import body
from torch import nn


def main(data: str, weights: str, epochs: str, seed: str) -> None:
    """Train and print."""
    set_seed(int(seed), reproducible=True)
    start = time.perf_counter()
    loaders = ImageDataLoaders.from_folder(
        data,
        train="train",
        valid="validation",
        item_tfms=Resize(160),
        batch_tfms=[*aug_transforms(), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
    )

    def architecture(weights_=None, pretrained=True, **_):
        return nn.Sequential(
            body(weights), nn.AdaptiveAvgPool2d(1)
        )  # vision_learner cuts at the pooling

    learner = vision_learner(loaders, architecture, metrics=accuracy)
    curve = []

    class Note(Callback):
        order = 60  # behind the recorder

        def after_epoch(self):
            curve.append([time.perf_counter() - start, float(self.learn.recorder.values[-1][-1])])

    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(int(epochs) - 1, cbs=Note())
        test = learner.dls.test_dl(get_image_files(f"{data}/test"), with_labels=True)
        right = learner.validate(dl=test)[-1]
    print(
        json.dumps(
            {"curve": curve, "test": float(right), "version": f"fastai {fastai.__version__}"}
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
