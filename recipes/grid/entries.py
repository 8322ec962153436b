"""The backbones of a grid: what the user calls them, what they are for, what they start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graft.zoo.errors import ConfigError

__all__ = ["Entry", "absolute", "common_modality", "read_entries", "weights_of"]

OF_RUNS = ("model.keras", "backbone.keras")
"""What every run calls its models."""


@dataclass(frozen=True)
class Entry:
    """A backbone of the grid: a name of `graft zoo`, a .keras file or a folder, and where its
    weights come from (None: the backbone's own).
    """

    backbone: str
    weights: str | None = None

    @property
    def name(self) -> str:
        """What tables call it: no path of this machine; a run's model by the name of the run."""
        path = Path(self.backbone)
        if path.name in OF_RUNS and path.parent.name:
            return path.parent.name
        return path.stem if "/" in self.backbone or path.suffix == ".keras" else self.backbone


def read_entries(names: Sequence[str]) -> list[Entry]:
    """`NAME` or `NAME@WEIGHTS`, each once.

    Raises:
        ConfigError: none, or one of them twice.
        UnknownName: no backbone of this name.
    """
    if not names:
        raise ConfigError("--backbones names none: give one or more, `graft zoo` lists them")
    parts = [given.partition("@") for given in names]
    found = [Entry(absolute(name), absolute(weights) or None) for name, _, weights in parts]
    for entry in found:
        _modality(entry)
        if [other.name for other in found].count(entry.name) > 1:
            raise ConfigError(
                f"'{entry.name}' stands twice in --backbones: rows are told apart by their names"
            )
    return found


def absolute(name: str) -> str:
    """A path as every process finds it, wherever it was started; anything else as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and ("/" in name or path.suffix) else name


def _modality(entry: Entry) -> str:
    """ "image" or "text"."""
    from graft.recipes.runs.backbones import modality_of

    return modality_of(entry.backbone)


def common_modality(entries: Sequence[Entry]) -> str:
    """The modality of all of them.

    Raises:
        ConfigError: some are for images and some for texts.
    """
    kinds = {_modality(entry) for entry in entries}
    if len(kinds) > 1:
        raise ConfigError(
            "--backbones mixes some for images and some for texts: one table has one kind"
        )
    return kinds.pop()


def weights_of(entries: Sequence[Entry]) -> dict[str, str]:
    """What each backbone starts from: a word, of a file half its SHA-256, of a folder a hash of its
    files.
    """
    from graft.zoo.backbones.weights import file_sha256
    from graft.zoo.hashing import hash_of

    found = {}
    for entry in entries:
        path = Path(entry.weights or entry.backbone).expanduser()
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            found[entry.name] = hash_of(
                *((str(file.relative_to(path)), file_sha256(file)) for file in files)
            )
        else:
            found[entry.name] = file_sha256(path)[:32] if path.is_file() else entry.weights or ""
    return found
