"""Data sets of TensorFlow Datasets, as pairs of an input and the name of its label."""

from typing import Any

import numpy as np

from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.zoo.errors import ConfigError

__all__ = ["label_name", "load_tfds"]

INPUTS = ("image", "text", "sentence", "review", "question")
"""What data sets of TensorFlow Datasets call their input, where they do not say which it is."""


def load_tfds(name: str, tally: Tally) -> dict[str, list[tuple[Any, str]]]:
    """The pairs (input, name of the label) of a data set of TensorFlow Datasets, by split.

    Args:
        name: of the data set.
        tally: counts what has no label or is in no split of ours.

    Raises:
        ConfigError: it does not exist, cannot be prepared, or has no pairs of input and label.
    """
    import tensorflow_datasets as tfds

    try:
        loaded, info = tfds.load(name, with_info=True)
    except tfds.core.DatasetNotFoundError as error:
        raise ConfigError(
            f"TensorFlow Datasets knows no data set '{name}': see tfds.list_builders()"
        ) from error
    # It passes on whatever its downloader, its reader or its builder raises.
    except Exception as error:
        raise ConfigError(
            f"TensorFlow Datasets could not prepare '{name}' ({type(error).__name__}: {error}): "
            "without a network, prepare it elsewhere and copy its folder to ~/tensorflow_datasets "
            "(or set TFDS_DATA_DIR)"
        ) from error
    # The data sets of glue and others do not say which of their features belong together.
    given, labelled = info.supervised_keys or (
        next((key for key in INPUTS if key in info.features), None),
        "label",
    )
    if given not in info.features or labelled not in info.features:
        raise ConfigError(
            f"the data set '{name}' has no pairs of input and label: its features are "
            f"{', '.join(info.features)}"
        )
    pairs: dict[str, list[tuple[Any, str]]] = {}
    for split, dataset in loaded.items():
        if split not in SPLIT_NAMES:
            count = info.splits[split].num_examples
            if count:
                tally.leave(f"of the split {split}", f"{split} 0", count)
            continue
        for i, row in enumerate(tfds.as_numpy(dataset)):
            label = label_name(name, info.features[labelled], row[labelled])
            if label is None:
                tally.leave("without a label", f"{split} {i}")
            else:
                pairs.setdefault(SPLIT_NAMES[split], []).append((row[given], label))
    return pairs


def label_name(name: str, feature: Any, value: Any) -> str | None:
    """The name of a label of the data set `name`; None where a test split keeps it secret.

    Args:
        name: of the data set, for messages.
        feature: its `tfds` feature, which may know names of numbers.
        value: a number, bytes, or an array of one.

    Raises:
        ConfigError: it is several labels, or no label at all.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str | bytes | int | float | np.generic):
        is_array = isinstance(value, np.ndarray)
        count = f"{value.size} values" if is_array else f"a {type(value).__name__}"
        raise ConfigError(
            f"a label of the data set '{name}' is {count}, expected one name or number"
        )
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip() or None
    if hasattr(feature, "int2str"):
        return feature.int2str(int(value)) if int(value) >= 0 else None
    return str(value)
