"""Keras -> SavedModel: a folder that TensorFlow Serving and TensorFlow in any language open."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.graph import as_float32, trace
from export.manifest import Description
from zoo.files import staged_folder

if TYPE_CHECKING:
    import keras

__all__ = ["save", "write"]


def write(model: "keras.Model", target: Path, description: Description) -> None:
    """Write the folder `target`: signature `serving_default`, inputs and outputs by name, dynamic batch.

    The labels go in as the asset `labels.txt`, what happens before the graph as `preprocessing.json`.
    """
    texts = {
        "labels.txt": "".join(f"{label}\n" for label in description.labels),
        "preprocessing.json": json.dumps(description.preprocessing, ensure_ascii=False),
    }
    with staged_folder(target, overwrite=True) as folder, tempfile.TemporaryDirectory() as scratch:
        for name, text in texts.items():
            (Path(scratch) / name).write_text(text, encoding="utf-8")
        save(model, folder, assets=[Path(scratch) / name for name in texts])


def save(model: "keras.Model", folder: Path, *, batch: int | None = None, assets: Sequence[Path] = ()) -> None:
    """Save into the existing `folder`. Each variable is stored once: the module holds the bare variables, because a
    Keras model inside it would be stored a second time, and the TFLite converter would lose the weights."""
    import tensorflow as tf

    model = as_float32(model)
    module = tf.Module()
    module.variables_of_the_model = [variable.value for variable in model.variables]
    module.assets = [tf.saved_model.Asset(str(asset)) for asset in assets]
    tf.saved_model.save(module, str(folder), signatures={"serving_default": trace(model, batch)})
