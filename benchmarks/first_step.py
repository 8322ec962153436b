"""How long `graft train image-classification` takes from the end of its imports to the first epoch.
A part of engine.py.

Takes the recipe's options; prints {"seconds": ...}.
"""

import json
import sys
import time

import keras
import tyro

from graft.recipes import image_classification
from graft.recipes.runs import experiment  # noqa: F401  (imports are not what is measured)


def main() -> None:
    """Run the recipe and print the seconds."""
    config = tyro.cli(image_classification.Config, args=sys.argv[1:])
    import sklearn.metrics  # noqa: F401
    import tensorflow  # noqa: F401

    start, seconds = time.perf_counter(), []
    begin = keras.callbacks.CallbackList.on_epoch_begin

    def on_epoch_begin(self, *args, **kwargs):
        seconds.append(time.perf_counter() - start)
        return begin(self, *args, **kwargs)

    keras.callbacks.CallbackList.on_epoch_begin = on_epoch_begin
    image_classification.main(config)
    print(json.dumps({"seconds": seconds[0]}))


if __name__ == "__main__":
    main()
