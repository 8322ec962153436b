"""What every recipe for images takes, and what every recipe for text takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import OmitArgPrefixes, arg

from graft.recipes.codecs.image_size import ImageSizeOption
from graft.recipes.data.records import Columns
from graft.recipes.tasks.group import Tasks
from graft.recipes.train.schedule import DENSE_SCHEDULES, Phase
from graft.recipes.train.settings import FitSettings, check_numbers, check_seeds
from graft.zoo.errors import ConfigError
from graft.zoo.files import leases
from graft.zoo.fits import STRETCH, Fit, ImageShape, check_fit

__all__ = ["ImageConfig", "SceneConfig", "TextConfig"]


@dataclass(frozen=True)
class ImageConfig:
    """What every recipe for images takes."""

    data: str
    """A folder of class folders (or of splits); a table (.csv, .tsv, .jsonl, .parquet, .arrow,
    .feather); .tar files; an address of any of these; tfds:NAME, hf:NAME; or a built-in one:
    digits, glyphs.
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
    image_size: ImageSizeOption = None
    """Pixels a side, or HEIGHTxWIDTH as 160x224. Default: the backbone's."""
    image_fit: Annotated[Fit, arg(name="fit")] = STRETCH
    """How an image of other proportions is fitted: stretch changes them, crop takes the largest
    part in the centre, pad keeps all of it on grey.
    """
    fit: OmitArgPrefixes[FitSettings] = field(default_factory=FitSettings)
    seed: int = 0
    """The first (or only) seed."""
    skip_bad: bool = False
    """Leave unreadable images out and count them, instead of stopping."""
    verify_data: bool = False
    """Read every file again, instead of trusting its size and times to say that it is known."""
    path_column: str = "path"
    """The column of a table with the image's file."""
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
        check_fit(self.image_fit)
        if self.image_size is not None:
            ImageShape.of(self.image_size)
        # Not every recipe trains several times or makes splits.
        check_seeds(self.seed, getattr(self, "split_seed", 0), getattr(self, "seeds", 1))


@dataclass(frozen=True)
class SceneConfig(ImageConfig):
    """What recipes for boxes and masks take."""

    schedules: ClassVar[Mapping[str, tuple[Phase, ...]]] = DENSE_SCHEDULES
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(
            batch_size=16, weight_decay=0.02, clip_norm=10.0, augment=("flip", "crop")
        )
    )
    blocks: int | None = None
    """Blocks that the last phase trains, from the top. Default: the schedule's own."""
    layer_decay: float | None = None
    """Each block learns at this share of the rate of the one above it. Default: the schedule's
    own.
    """
    fraction: float | None = None
    """Train on this share of the training images only (drawn by --split-seed)."""
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    compare_scratch: bool = False
    """Also train from random weights for as many epochs, and write the verdict."""


@dataclass(frozen=True)
class TextConfig:
    """What every recipe for text takes."""

    data: str
    """A table (.csv, .tsv, .jsonl, .parquet, .arrow, .feather), .tar files, a .conll file of tagged
    words, a folder with one for each split, an address of any of these, tfds:NAME, hf:NAME, or the
    built-in `commands`.
    """
    out: Path
    """The run directory to make."""
    backbone: str = "graft_mini_en"
    """A name from `graft zoo`, or the folder of a KerasHub preset, of a Hugging Face model or of
    another run for texts.
    """
    weights: str | None = None
    """preset, bundled, folder (what `graft zoo` lists for the backbone) or none. Default: the
    backbone's own.
    """
    schedule: str = "fine_tune"
    """feature_extraction, fine_tune, gradual_unfreeze, probe_then_tune, full, lora, bias or
    scratch.
    """
    epochs: int | None = None
    """Epochs in total, spread over the schedule's phases. Default: the schedule's own."""
    learning_rate: float | None = None
    """Peak rate of the last phase; the other phases are scaled alike. Default: the schedule's
    own.
    """
    blocks: int | None = None
    """Blocks that the last phase trains, from the top. Default: the schedule's own."""
    layer_decay: float | None = None
    """Each block learns at this share of the rate of the one above it. Default: the schedule's
    own.
    """
    max_length: int = 128
    """Tokens; longer texts are cut, and counted."""
    dropout: float = 0.1
    """Before the head, 0 to 1."""
    fit: OmitArgPrefixes[FitSettings] = field(
        default_factory=lambda: FitSettings(weight_decay=0.01, clip_norm=1.0)
    )
    per_class: int | None = None
    """Train on so many examples of each class only (drawn by --split-seed)."""
    fraction: float | None = None
    """Train on this share of the training examples only, of each class alike (drawn by
    --split-seed).
    """
    seeds: int = 1
    """Train so many times, with consecutive seeds; the run keeps the one whose best epoch has the
    best validation figure (that by which epochs are chosen: a loss, for tags entity F1, for vectors
    recall at 1).
    """
    seed: int = 0
    """The first (or only) seed."""
    split_seed: int = 0
    """For splits that are missing in the data and have to be made."""
    compare_scratch: bool = False
    """Also train from random weights, and write the verdict."""
    scratch_epochs: int | None = None
    """Epochs for that. Default: as many as the schedule has."""
    text_column: str = "text"
    label_column: str = "label"
    tags_column: str = "tags"
    """The columns of a table."""
    overwrite: bool = False
    """Replace an existing run directory, once the new one is complete."""
    resume: bool = False
    """Go on with a run that was interrupted, after its last finished epoch."""

    @property
    def columns(self) -> Columns:
        """What the columns of a table are called."""
        return Columns(self.text_column, self.label_column, self.tags_column)

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: a value outside its range, an option that is for images, or somebody else
                is making the run.
        """
        leases.refuse_held(self.out)
        check_numbers(self)
        self.fit.check(self.epochs)
        check_seeds(self.seed, self.split_seed, self.seeds)
        if self.fit.augment:
            raise ConfigError(
                f"--augment {self.fit.augment[0]} changes images: leave it away for texts"
            )
        if self.max_length < 8:
            raise ConfigError(
                f"the longest text must be allowed at least 8 tokens, not {self.max_length}"
            )

    def check_tasks(self, tasks: Tasks) -> None:
        """Refuse options that these tasks cannot be trained with.

        Raises:
            ConfigError: names the option.
        """
        self.fit.check_tasks(tasks)
        self.fit.refuse("mixed_precision", "encoders of texts")
