"""What a backbone knows of pictures without labels, before and after it has learned from them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from recipes.engine import fit, pipeline
from recipes.engine.images import Images
from recipes.engine.settings import FitSettings
from zoo.stack import FEATURES

if TYPE_CHECKING:
    import keras

__all__ = ["compared", "features", "figures"]

SEED = 1
"""Of the random changes by which models are compared; those of the validation loss have another."""
LARGEST = 512
"""Validation pictures among which the other version is to be found."""


def features(model: "keras.Model", images: Images) -> np.ndarray:
    """The pooled features of all pictures, `(n, width)`."""
    import keras

    return fit.predict(keras.Model(model.input, model.get_layer(FEATURES).output), images)[0]


def figures(model: "keras.Model", images: Mapping[str, Images], settings: FitSettings) -> dict[str, float]:
    """ "pairs": how often, of two changed versions of each validation picture, the second is the nearest to the first among
    all second ones; "probe": where labels are known, how often nearest neighbours share it."""
    from sklearn.preprocessing import normalize

    from recipes.grid.transferability import knn_accuracy

    validation = images["validation"]
    count = min(len(validation), LARGEST)
    order = pipeline.Order(count, count, SEED)
    ((pixels, _),) = pipeline.paired_batches(validation, order, settings.augment)
    rows = features(model, Images(np.asarray(pixels), np.zeros((2 * count, 1), np.float32), ("",) * 2 * count, ()))
    rows = normalize(rows)
    first, second = rows[:count], rows[count:]
    found = {"pairs": float(np.mean((first @ second.T).argmax(-1) == np.arange(count)))}
    if validation.targets.any():
        everything = images["all"]
        found["probe"] = knn_accuracy(features(model, everything), everything.classes)
    return found


def compared(before: Mapping[str, float], after: Mapping[str, float], images: Mapping[str, Images]) -> dict:
    """The same as facts of a run, with a sentence."""
    pairs = {"before": before["pairs"], "after": after["pairs"], "count": min(len(images["validation"]), LARGEST)}
    said = f"The second version of a picture is found in {_change(before, after, 'pairs')}."
    probe = None
    if "probe" in after:
        probe = {"before": before["probe"], "after": after["probe"]}
        said += f" Nearest neighbours share the label in {_change(before, after, 'probe')} (one seed)."
    return {"pairs": pairs, "probe": probe, "said": said}


def _change(before: Mapping[str, float], after: Mapping[str, float], name: str) -> str:
    return f"{100 * after[name]:.1f} % of cases, {100 * before[name]:.1f} % before"
