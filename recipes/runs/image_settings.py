"""What every recipe for pictures takes."""

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from graft.recipes.train.settings import FitSettings, check_numbers, check_seeds
from graft.zoo.files import leases

__all__ = ["ImageConfig"]


@dataclass(frozen=True)
class ImageConfig:
    """What every recipe for pictures takes."""

    data: str
    """A folder of class folders (or of splits), a .csv/.tsv/.jsonl table, tfds:NAME, or a built-in
    one: digits, glyphs.
    """
    out: Path
    """The run directory to make."""
    backbone: str = "mobilenet_v2"
    """A name from `graft zoo`, or a .keras file: a model of your own, or of another run."""
    weights: str | None = None
    """imagenet, bundled, none, or a path to a weights file. Default: imagenet; those in a .keras
    file.
    """
    schedule: str = "fine_tune"
    """feature_extraction, fine_tune, gradual_unfreeze, probe_then_tune, full or scratch."""
    epochs: int | None = None
    """Epochs in total, spread over the schedule's phases. Default: the schedule's own."""
    learning_rate: float | None = None
    """Peak rate of the last phase; the other phases are scaled alike. Default: the schedule's
    own.
    """
    image_size: int | None = None
    """Height and width in pixels. Default: the backbone's."""
    fit: OmitArgPrefixes[FitSettings] = field(default_factory=lambda: FitSettings(augment=("flip", "crop")))
    seed: int = 0
    """The first (or only) seed."""
    skip_bad: bool = False
    """Leave unreadable pictures out and count them, instead of stopping."""
    path_column: str = "path"
    """The column of a table with the picture's file."""
    overwrite: bool = False
    """Replace an existing run directory, once the new one is complete."""
    resume: bool = False
    """Go on with a run that was interrupted, after its last finished epoch."""

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: a value outside its range, or somebody else is making the run.
        """
        leases.refuse_held(self.out)
        check_numbers(self)
        self.fit.check(self.epochs)
        # Not every recipe trains several times or makes splits.
        check_seeds(self.seed, getattr(self, "split_seed", 0), getattr(self, "seeds", 1))
