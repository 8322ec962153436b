"""Data sets of the Hugging Face Hub, by the package `datasets`: the Arrow files that it keeps."""

from pathlib import Path
from typing import Any

from graft.recipes.data.containers.parts import Part
from graft.recipes.data.reading import Tally
from graft.recipes.data.records import SPLIT_NAMES
from graft.zoo.errors import ConfigError

__all__ = ["HUB", "hub_parts"]

HUB = "hf:"


def hub_parts(spec: str, tally: Tally) -> list[Part]:
    """The files of `hf:NAME` or `hf:NAME/CONFIG`, by split.

    NAME is that of a data set of the Hub, with its namespace if it has one, or a folder that
    `datasets` reads.

    Raises:
        ConfigError: the package is absent, there is no such data set, or it cannot be fetched.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(
            f"'{spec}' is read by a package that is not installed: pip install 'graft-zoo[hf]'"
        ) from error
    loaded = _load(spec, datasets)
    parts: list[Part] = []
    for split, dataset in loaded.items():
        if split not in SPLIT_NAMES:
            if len(dataset):
                tally.leave(f"of the split {split}", f"{split} 0", len(dataset))
            continue
        files = [Path(file["filename"]) for file in dataset.cache_files]
        parts += [Part(file, SPLIT_NAMES[split], True) for file in files]
    return parts


def _load(spec: str, datasets: Any) -> Any:
    """The splits of a data set, memory-mapped."""
    errors: list[Exception] = []
    for name, config in _readings(spec.removeprefix(HUB)):
        try:
            return datasets.load_dataset(name, config)
        # It passes on whatever its downloader, its reader or its builder raises.
        except Exception as error:
            errors.append(error)
    first = errors[0]
    raise ConfigError(
        f"'{spec}' cannot be had ({type(first).__name__}: {first}): check its name; without a "
        "network, fetch it elsewhere and copy ~/.cache/huggingface, or give its Parquet files"
    ) from first


def _readings(name: str) -> list[tuple[str, str | None]]:
    """(name, configuration) in the order in which they are tried: `a/b` may be either."""
    if Path(name).expanduser().is_dir():
        return [(str(Path(name).expanduser()), None)]
    parts = name.split("/")
    if len(parts) == 2:
        return [(name, None), (parts[0], parts[1])]
    if len(parts) == 3:
        return [("/".join(parts[:2]), parts[2])]
    return [(name, None)]
