"""Data sets of TensorFlow Datasets, as pairs of an input and the name of its label."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graft.recipes.data.containers.tfrecords import TfRecords
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.zoo.contents import Packed
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
    builder = _prepared(name)
    info = builder.info
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
    for split in info.splits:
        if split not in SPLIT_NAMES:
            count = info.splits[split].num_examples
            if count:
                tally.leave(f"of the split {split}", f"{split} 0", count)
            continue
        for i, (value, row) in enumerate(_rows(builder, split, str(given))):
            label = label_name(name, info.features[labelled], row[labelled])
            if label is None:
                tally.leave("without a label", f"{split} {i}")
            else:
                pairs.setdefault(SPLIT_NAMES[split], []).append((value, label))
    return pairs


def _prepared(name: str) -> Any:
    """The builder of a data set that lies on the disk.

    Raises:
        ConfigError: it does not exist, or cannot be prepared.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
        builder.download_and_prepare()
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
    return builder


def _rows(builder: Any, split: str, given: str) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """(input, the whole row) of a split, in the order of TensorFlow Datasets. An image is the place
    of its file in a TFRecord, if it lies in one as such; else an array, in memory.
    """
    import tensorflow_datasets as tfds

    if not _is_stored_as_files(builder, given):
        for row in tfds.as_numpy(builder.as_dataset(split=split)):
            yield row[given], row
        return
    # The id of a row is the name of its file and its number in it; the image stays undecoded.
    dataset = builder.as_dataset(
        split=split,
        decoders={given: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(add_tfds_id=True),
    )
    readers: dict[str, TfRecords] = {}
    for row in tfds.as_numpy(dataset):
        file, _, number = row["tfds_id"].decode().rpartition("__")
        if file not in readers:
            readers[file] = TfRecords(Path(builder.data_path).absolute() / file, given)
        reader = readers[file]
        yield Packed(reader.path, f"record {number}", int(number), 0, reader, given), row


def _is_stored_as_files(builder: Any, given: str) -> bool:
    """Whether the input of each row lies in a TFRecord as an image file."""
    import tensorflow_datasets as tfds

    feature = builder.info.features[given]
    return (
        type(feature) is tfds.features.Image
        and feature.np_dtype in (np.uint8, np.uint16)
        and builder.info.file_format == tfds.core.FileFormat.TFRECORD
    )


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
